package sevsnp

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// Limits of Evidence.
const (
	maxFile     = 1 << 20 // bytes
	maxCerts    = 32
	maxEntries  = 32 // of a certificate table
	tableEntry  = 24 // bytes: GUID, offset, length
	responseHdr = 32 // bytes before the report in the kernel's answer (MSG_REPORT_RSP)
)

// given is what files hold: a report, or two (see agent.go), certificates and
// revocation lists.
type given struct {
	chains    *scheme.Chains
	raw       [][]byte // of reports
	certs     []*x509.Certificate
	crls      []*x509.RevocationList
	container string // what the first report came in, if not as it is
}

// add reads one file, whose form follows from its content.
func (g *given) add(f scheme.File) error {
	err := g.read(f.Data, true)
	if err == nil && len(g.certs)+len(g.crls) > maxCerts {
		err = fmt.Errorf("more than %d certificates are given", maxCerts)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	return nil
}

// read finds out the form: text around it is unwrapped once.
func (g *given) read(b []byte, text bool) error {
	trimmed := bytes.TrimSpace(b)
	switch {
	case len(b) > maxFile:
		return fmt.Errorf("it has %d bytes: at most %d are read", len(b), maxFile)
	case len(b) == ReportSize || len(b) > ReportSize && binary.LittleEndian.Uint32(b) >= 1 && binary.LittleEndian.Uint32(b) < 32:
		return g.extended(b)
	case len(b) >= responseHdr+ReportSize && binary.LittleEndian.Uint32(b[4:]) == ReportSize && zero(b[:4]) && zero(b[8:responseHdr]):
		return g.extended(b[responseHdr:])
	case isTable(b):
		return g.table(b)
	case bytes.HasPrefix(trimmed, []byte("{")):
		return g.json(trimmed)
	case bytes.Contains(b, []byte("-----BEGIN")):
		return g.pem(b)
	case len(b) > 2 && b[0] == 0x30 && b[1] >= 0x81:
		return g.der(b)
	case len(b) > 2 && b[0] == 0x0a:
		return g.protobuf(b)
	}
	if inner := decodeText(trimmed); text && inner != nil {
		return g.read(inner, false)
	}
	return errors.New("it is neither an SEV-SNP report, nor certificates, nor evidence of a form that is known: it is cut, altered or something else")
}

// decodeText gives what is written in hexadecimal or base64, nil if it is not.
func decodeText(b []byte) []byte {
	b = bytes.Join(bytes.Fields(b), nil)
	if d, err := hex.DecodeString(string(b)); err == nil && len(d) > 0 {
		return d
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
		if d, err := e.DecodeString(string(b)); err == nil && len(d) > 0 {
			return d
		}
	}
	return nil
}

func (g *given) setReport(b []byte, container string) error {
	switch len(g.raw) {
	case 0:
		g.container = container
	case 2:
		return errors.New("it is a third report: give that of the guest, and at most that of its migration agent")
	}
	g.raw = append(g.raw, b)
	return nil
}

// extended reads a report, alone or with a certificate table behind it.
func (g *given) extended(b []byte) error {
	if err := g.setReport(b[:ReportSize], ""); err != nil {
		return err
	}
	if rest := b[ReportSize:]; !zero(rest) {
		return g.table(rest)
	}
	return nil
}

// guid is one of those in certificate tables (AMD 56421, section 4.1.8.1), in the
// byte order that they are written in.
type guid [16]byte

// The GUIDs that say what an entry is. Which certificate it is follows from the
// certificate.
var tableGUIDs = map[guid]bool{
	{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}: false, // VCEK
	{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}: false, // VLEK
	{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}: false, // ASK, ASVK
	{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}: false, // ARK
	{0x92, 0xf8, 0x1b, 0xc3, 0x58, 0x11, 0x4d, 0x3d, 0x97, 0xff, 0xd1, 0x9f, 0x88, 0xdc, 0x67, 0xea}: true,  // CRL
}

func isTable(b []byte) bool {
	if len(b) < 2*tableEntry {
		return false
	}
	_, ok := tableGUIDs[guid(b[:16])]
	return ok
}

// table reads a certificate table: entries up to one of zeros, then what they
// point at. What no entry points at must be zero; an entry of a GUID that is not
// known is passed over.
func (g *given) table(b []byte) error {
	used := make([]bool, len(b))
	for n := 0; ; n++ {
		at := n * tableEntry
		if at+tableEntry > len(b) || n > maxEntries {
			return errors.New("the certificate table behind the report does not end, or has too many entries")
		}
		e := b[at : at+tableEntry]
		mark(used[at : at+tableEntry])
		if zero(e) {
			break
		}
		offset, length := uint64(binary.LittleEndian.Uint32(e[16:])), uint64(binary.LittleEndian.Uint32(e[20:]))
		if offset+length > uint64(len(b)) || offset < uint64(at+tableEntry) {
			return fmt.Errorf("entry %d of the certificate table points beyond it", n+1)
		}
		mark(used[offset : offset+length])
		isCRL, known := tableGUIDs[guid(e[:16])]
		if !known {
			continue
		}
		content := b[offset : offset+length]
		read := g.der
		if bytes.Contains(content, []byte("-----BEGIN")) {
			read = g.pem
		}
		before := len(g.crls)
		if err := read(content); err != nil {
			return fmt.Errorf("entry %d of the certificate table: %w", n+1, err)
		}
		if isCRL != (len(g.crls) > before) {
			return fmt.Errorf("entry %d of the certificate table is not what its GUID says", n+1)
		}
	}
	for i, x := range b {
		if x != 0 && !used[i] {
			return errors.New("there are bytes in the certificate table that no entry points at")
		}
	}
	return nil
}

func mark(b []bool) {
	for i := range b {
		b[i] = true
	}
}

// der reads one certificate or revocation list.
func (g *given) der(b []byte) error {
	c, err := g.chains.Parse(b)
	if err == nil {
		g.certs = append(g.certs, c)
		return nil
	}
	l, other := x509.ParseRevocationList(b)
	if other != nil {
		return fmt.Errorf("it is no certificate: %w", err)
	}
	g.crls = append(g.crls, l)
	return nil
}

// pem reads certificates and revocation lists, and nothing else after them.
func (g *given) pem(b []byte) error {
	for n := 0; ; n++ {
		block, rest := pem.Decode(b)
		if block == nil {
			if n == 0 || !zero(bytes.TrimSpace(rest)) {
				return errors.New("it is not PEM to its end")
			}
			return nil
		}
		if n > maxCerts {
			return errors.New("it has too many certificates")
		}
		if err := g.der(block.Bytes); err != nil {
			return err
		}
		b = rest
	}
}

// hostCertificates are what Azure's host hands its guests (THIM), and confidential
// containers in UVM_HOST_AMD_CERTIFICATE.
type hostCertificates struct {
	VCEK  string `json:"vcekCert"`
	Chain string `json:"certificateChain"`
}

// json reads Trustee's evidence, or Azure's certificates.
func (g *given) json(b []byte) error {
	var probe struct {
		Report json.RawMessage `json:"attestation_report"`
		hostCertificates
	}
	if err := json.Unmarshal(b, &probe); err != nil {
		return fmt.Errorf("it cannot be read as JSON: %w", err)
	}
	switch {
	case probe.Report != nil:
		return g.trustee(b)
	case probe.VCEK != "":
		return g.pem([]byte(probe.VCEK + "\n" + probe.Chain))
	}
	return errors.New("it is JSON without an attestation_report or a vcekCert")
}
