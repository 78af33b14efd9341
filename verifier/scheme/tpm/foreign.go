package tpm

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// parseWhole reads a file that holds all of the Evidence: a bundle, or what
// another attester wrote. It gives nil for a file that is a single part.
func parseWhole(b []byte) (*Evidence, error) {
	if len(b) > MaxBundle {
		return nil, fmt.Errorf("it is longer than %d bytes", MaxBundle)
	}
	text := bytes.TrimSpace(b)
	if len(text) == 0 {
		return nil, errors.New("it is empty")
	}
	if text[0] != '{' {
		return parseGoTPMTools(b), nil
	}
	var probe struct {
		Format string          `json:"format"`
		Type   string          `json:"type"`
		Static json.RawMessage `json:"Static"`
		AK     []byte          `json:"ak_tpm2b_public_b64"`
	}
	if err := json.Unmarshal(text, &probe); err != nil {
		return nil, fmt.Errorf("it is JSON that is cut or altered: %w", err)
	}
	switch {
	case probe.Format == BundleFormat:
		return ParseBundle(text)
	case probe.Type == "evidence/1":
		return parseImmune(text)
	case probe.AK != nil:
		return parseKeylime(text)
	case probe.Static != nil:
		return parseGoAttestation(text)
	}
	return nil, fmt.Errorf("it is JSON of no kind that is known here (%q is what `ashlar evidence collect` writes)", BundleFormat)
}

// parseImmune reads the evidence of immune Guard's agent. There is no AK in it.
func parseImmune(b []byte) (*Evidence, error) {
	var in struct {
		Quote     []byte                       `json:"quote"`
		Signature []byte                       `json:"signature"`
		Algorithm string                       `json:"algorithm"`
		PCRs      map[int][]byte               `json:"-"`
		All       map[string]map[string][]byte `json:"-"`
		// Maps are decoded only where they are small.
		RawPCRs json.RawMessage `json:"pcrs"`
		RawAll  json.RawMessage `json:"allpcrs"`
	}
	err := json.Unmarshal(b, &in)
	if len(in.RawPCRs)+len(in.RawAll) > eventlog.MaxPCRsJSON {
		return nil, fmt.Errorf("the evidence of immune Guard has more than %d bytes of PCR values", eventlog.MaxPCRsJSON)
	}
	if err == nil && len(in.RawPCRs) > 0 {
		err = json.Unmarshal(in.RawPCRs, &in.PCRs)
	}
	if err == nil && len(in.RawAll) > 0 {
		err = json.Unmarshal(in.RawAll, &in.All)
	}
	if err != nil {
		return nil, fmt.Errorf("the evidence of immune Guard cannot be read: %w", err)
	}
	p := eventlog.PCRs{}
	put := func(alg string, i int, v []byte) error {
		n, err := strconv.ParseUint(alg, 10, 16)
		if err != nil {
			return fmt.Errorf("there is no PCR bank %q", short(alg))
		}
		return p.Set(tpm2.AlgID(n), i, v)
	}
	for i, v := range in.PCRs {
		if err := put(in.Algorithm, i, v); err != nil {
			return nil, err
		}
	}
	for alg, bank := range in.All {
		for index, v := range bank {
			i, err := strconv.Atoi(index)
			if err != nil {
				return nil, fmt.Errorf("there is no PCR %q", short(index))
			}
			if err := put(alg, i, v); err != nil {
				return nil, err
			}
		}
	}
	return &Evidence{Quotes: []Quote{{Message: in.Quote, Signature: in.Signature, PCRs: p}}}, nil
}

// parseKeylime reads the parts of a Keylime quote, each in base64.
func parseKeylime(b []byte) (*Evidence, error) {
	var in struct {
		AK        []byte `json:"ak_tpm2b_public_b64"`
		Message   []byte `json:"message_b64"`
		Signature []byte `json:"signature_b64"`
		PCRs      []byte `json:"keylime_pcr_blob_b64"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("the Keylime quote cannot be read: %w", err)
	}
	ak, err := identity.ParseKey(in.AK)
	if err != nil {
		return nil, fmt.Errorf("the Keylime quote's attestation key: %w", err)
	}
	return &Evidence{AK: ak, Quotes: []Quote{{Message: in.Message, Signature: in.Signature, rawPCRs: in.PCRs}}}, nil
}

type goAttestationPCR struct {
	Index     int
	Digest    []byte
	DigestAlg uint
}

// parseGoAttestation reads the JSON in which go-attestation stores a platform.
func parseGoAttestation(b []byte) (*Evidence, error) {
	var in struct {
		Static struct{ TPMVersion int }
		AK     struct{ Public []byte }
		Quote  struct{ Nonce, Quote, Signature []byte }
		Log    struct {
			PCRs limited[goAttestationPCR]
			Raw  []byte
		}
	}
	in.Log.PCRs.max = 16 * numPCRs
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("the platform of go-attestation cannot be read: %w", err)
	}
	if in.Static.TPMVersion == 1 {
		return nil, errors.New("it is evidence of a TPM 1.2: only TPM 2.0 is appraised here")
	}
	ak, err := identity.ParseKey(in.AK.Public)
	if err != nil {
		return nil, fmt.Errorf("the attestation key: %w", err)
	}
	p := eventlog.PCRs{}
	for _, r := range in.Log.PCRs.list {
		if err := p.Set(bankOf(crypto.Hash(r.DigestAlg)), r.Index, r.Digest); err != nil {
			return nil, err
		}
	}
	return &Evidence{AK: ak, Nonce: in.Quote.Nonce, EventLog: in.Log.Raw,
		Quotes: []Quote{{Message: in.Quote.Quote, Signature: in.Quote.Signature, PCRs: p}}}, nil
}

func bankOf(h crypto.Hash) tpm2.AlgID {
	for _, a := range tpm2.HashAlgs() {
		if k, ok := a.Hash(); ok && k == h {
			return a
		}
	}
	return tpm2.AlgNull
}

// The fields of go-tpm-tools' attest.Attestation, tpm.Quote and tpm.PCRs.
const (
	attestationAK, attestationQuote, attestationLog = 1, 2, 3
	attestationAKCert, attestationIntermediate      = 6, 7
	quoteMessage, quoteSignature, quotePCRs         = 1, 2, 3
	pcrsHash, pcrsMap, mapKey, mapValue             = 1, 2, 1, 2
)

// parseGoTPMTools reads a serialized attestation of go-tpm-tools, nil where b is
// something else: it counts as one only with a public area and a quote in it.
func parseGoTPMTools(b []byte) *Evidence {
	list, err := fields(b)
	if err != nil {
		return nil
	}
	e := &Evidence{}
	for _, f := range list {
		switch f.number {
		case attestationAK:
			pub, err := identity.ParsePublic(f.bytes)
			if err != nil {
				return nil
			}
			if e.AK, err = identity.FromPublic(pub); err != nil {
				return nil
			}
		case attestationQuote:
			q, err := goTPMToolsQuote(f.bytes)
			if err != nil {
				return nil
			}
			e.Quotes = append(e.Quotes, *q)
		case attestationLog:
			e.EventLog = f.bytes
		case attestationAKCert, attestationIntermediate:
			c, err := identity.ParseCertificates(f.bytes)
			if err != nil {
				return nil
			}
			if f.number == attestationAKCert {
				e.AKCertificate = c[0]
			} else {
				e.intermediates = append(e.intermediates, c...)
			}
		}
	}
	if e.AK == nil || len(e.Quotes) == 0 {
		return nil
	}
	return e
}

func goTPMToolsQuote(b []byte) (*Quote, error) {
	list, err := fields(b)
	if err != nil {
		return nil, err
	}
	q := &Quote{PCRs: eventlog.PCRs{}}
	for _, f := range list {
		switch f.number {
		case quoteMessage:
			q.Message = f.bytes
		case quoteSignature:
			q.Signature = f.bytes
		case quotePCRs:
			if err := goTPMToolsPCRs(q.PCRs, f.bytes); err != nil {
				return nil, err
			}
		}
	}
	return q, nil
}

func goTPMToolsPCRs(p eventlog.PCRs, b []byte) error {
	list, err := fields(b)
	if err != nil {
		return err
	}
	alg := tpm2.AlgNull
	for _, f := range list {
		if f.number == pcrsHash && f.value <= 0xffff {
			alg = tpm2.AlgID(f.value)
		}
	}
	for _, f := range list {
		if f.number != pcrsMap {
			continue
		}
		entry, err := fields(f.bytes)
		if err != nil {
			return err
		}
		var index uint64 // a key of 0 is left out on the wire
		var value []byte
		for _, g := range entry {
			switch g.number {
			case mapKey:
				index = g.value
			case mapValue:
				value = g.bytes
			}
		}
		if err := p.Set(alg, int(min(index, numPCRs)), value); err != nil {
			return err
		}
	}
	return nil
}
