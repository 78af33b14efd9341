package sev

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

const (
	maxFile     = 64 << 10 // bytes
	measureSize = digestSize + nonceSize
)

// given is what files hold.
type given struct {
	measure  []byte // measurement and nonce
	report   []byte
	certs    []*Certificate
	firmware [3]*uint8 // major, minor, build
	policy   *uint32
}

// add reads one file, whose form follows from its content.
func (g *given) add(f scheme.File) error {
	if err := g.read(f.Data, true); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	return nil
}

func (g *given) read(b []byte, text bool) error {
	trimmed := bytes.TrimSpace(b)
	switch {
	case len(b) > maxFile:
		return fmt.Errorf("it has %d bytes: at most %d are read", len(b), maxFile)
	case len(b) >= caKeyAt && binary.LittleEndian.Uint32(b) == 1 && len(b) != reportSize:
		list, err := ParseCertificates(b)
		if g.certs = append(g.certs, list...); err == nil && len(g.certs) > maxCertificates {
			err = fmt.Errorf("there are more than %d certificates", maxCertificates)
		}
		return err
	case bytes.HasPrefix(trimmed, []byte("{")):
		return g.json(trimmed)
	case bytes.Contains(b, []byte("sev-measurement")):
		return g.virsh(string(b))
	}
	if text {
		if inner := decodeText(trimmed); len(inner) == measureSize || len(inner) == reportSize {
			return g.read(inner, false)
		}
	}
	switch len(b) {
	case measureSize:
		return once(&g.measure, b)
	case reportSize:
		return once(&g.report, b)
	}
	return errors.New("it is neither a launch measurement, nor an attestation report, nor certificates of SEV: it is cut, altered or something else")
}

// once sets what may be given once.
func once(into *[]byte, b []byte) error {
	if *into != nil && !bytes.Equal(*into, b) {
		return errors.New("it is a second measurement or report: give one")
	}
	*into = b
	return nil
}

// decodeText gives what is written in hexadecimal or base64, nil if it is not.
func decodeText(b []byte) []byte {
	if d, err := hex.DecodeString(string(b)); err == nil {
		return d
	}
	if d, err := base64.StdEncoding.DecodeString(string(b)); err == nil {
		return d
	}
	return nil
}

// answer is one of QEMU's: to query-sev, query-sev-launch-measure or
// query-sev-attestation-report.
type answer struct {
	Data   string  `json:"data"`
	Major  *uint8  `json:"api-major"`
	Minor  *uint8  `json:"api-minor"`
	Build  *uint8  `json:"build-id"`
	Policy *uint32 `json:"policy"`
}

func (g *given) json(b []byte) error {
	var w struct {
		Return *answer `json:"return"`
		answer
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("it cannot be read as an answer of QEMU's: %w", err)
	}
	a := &w.answer
	if w.Return != nil {
		a = w.Return
	}
	if a.Data == "" && a.Policy == nil {
		return errors.New("it is JSON without data or policy")
	}
	if a.Data != "" {
		if err := g.read([]byte(a.Data), true); err != nil {
			return err
		}
	}
	return g.state([3]*uint8{a.Major, a.Minor, a.Build}, a.Policy)
}

// state takes what the host says of firmware and policy, which the measurement
// proves or not.
func (g *given) state(fw [3]*uint8, p *uint32) error {
	for i, v := range fw {
		if v != nil && g.firmware[i] != nil && *v != *g.firmware[i] {
			return errors.New("the files differ in the version of the firmware")
		}
		if v != nil {
			g.firmware[i] = v
		}
	}
	if p != nil && g.policy != nil && *p != *g.policy {
		return errors.New("the files differ in the policy")
	}
	if p != nil {
		g.policy = p
	}
	return nil
}

// virsh reads what "virsh domlaunchsecinfo" prints.
func (g *given) virsh(text string) error {
	var fw [3]*uint8
	var policy *uint32
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		n, err := strconv.ParseUint(value, 0, 32)
		small := func(i int) {
			if v := uint8(n); err == nil && n < 256 {
				fw[i] = &v
			}
		}
		switch name {
		case "sev-measurement":
			if err := g.read([]byte(value), true); err != nil {
				return err
			}
		case "sev-api-major":
			small(0)
		case "sev-api-minor":
			small(1)
		case "sev-build-id":
			small(2)
		case "sev-policy":
			if v := uint32(n); err == nil {
				policy = &v
			}
		}
	}
	return g.state(fw, policy)
}
