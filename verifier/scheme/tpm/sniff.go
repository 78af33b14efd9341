package tpm

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// generated is TPM_GENERATED_VALUE, the magic that a TPMS_ATTEST begins with.
var generated = []byte{0xff, 'T', 'C', 'G'}

// Role says what a file of Evidence is.
type Role string

// The roles of single files.
const (
	RoleAuto     scheme.Role = "" // found out from the content
	RoleQuote    scheme.Role = "quote"
	RoleSig      scheme.Role = "signature"
	RoleKey      scheme.Role = "key"
	RolePCRs     scheme.Role = "PCR values"
	RoleEventLog scheme.Role = "event log"
	RoleIMA      scheme.Role = "IMA log"
)

// Add takes one file into the Evidence: a bundle or another tool's file as a
// whole, or a single part. With RoleAuto it finds out from the content, never
// from the name, what the file is; what cannot be told is an error that names it.
func (e *Evidence) Add(name string, role scheme.Role, b []byte) error {
	if role == scheme.RoleAuto {
		if whole, err := parseWhole(b); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		} else if whole != nil {
			return e.merge(name, whole)
		}
		if role = e.sniff(b); role == scheme.RoleAuto {
			return fmt.Errorf("%s is nothing that evidence consists of: it is cut, altered or something else", name)
		}
	}
	if err := e.add(role, b); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return e.check()
}

func (e *Evidence) add(role scheme.Role, b []byte) error {
	switch role {
	case RoleQuote:
		e.Quotes = append(e.Quotes, Quote{Message: b})
	case RoleSig:
		q, err := e.last()
		if err != nil {
			return err
		}
		q.Signature = b
	case RolePCRs:
		q, err := e.last()
		if err != nil {
			return err
		}
		q.rawPCRs = b
	case RoleKey:
		return e.addKey(b)
	case RoleEventLog:
		e.EventLog = unwrapBase64(b)
	case RoleIMA:
		if e.IMALog != nil && len(e.IMALog) <= len(b) {
			e.IMABefore = e.IMALog
		} else if e.IMALog != nil {
			e.IMABefore, b = b, e.IMALog
		}
		e.IMALog = b
	}
	return nil
}

func (e *Evidence) last() (*Quote, error) {
	if len(e.Quotes) == 0 {
		return nil, fmt.Errorf("it belongs to a quote, which must be named before it")
	}
	return &e.Quotes[len(e.Quotes)-1], nil
}

// addKey takes keys and certificates; appraisal decides what they are good for.
func (e *Evidence) addKey(b []byte) error {
	if certs, err := identity.ParseCertificates(b); err == nil {
		e.certs = append(e.certs, certs...)
		return nil
	}
	k, err := identity.ParseKey(b)
	if err != nil {
		return err
	}
	e.keys = append(e.keys, k)
	return nil
}

// sniff tells a single file's role by its content. A quote is told by its magic
// alone, so that a damaged one is refused as what it is.
func (e *Evidence) sniff(b []byte) scheme.Role {
	var sig tpm2.Signature
	switch {
	case bytes.HasPrefix(b, generated):
		return RoleQuote
	case tpm2.Unmarshal(b, &sig) == nil:
		return RoleSig
	case isToolsPCRs(b):
		return RolePCRs
	case new(Evidence).addKey(b) == nil:
		return RoleKey
	case looksLikeIMA(b):
		return RoleIMA
	}
	if _, err := eventlog.Parse(unwrapBase64(b)); err == nil {
		return RoleEventLog
	}
	if len(e.Quotes) > 0 && e.Quotes[len(e.Quotes)-1].Signature == nil {
		return RoleSig // what follows a quote is its signature, even if unreadable
	}
	return scheme.RoleAuto
}

// merge takes another tool's whole file in; it must be the first.
func (e *Evidence) merge(name string, whole *Evidence) error {
	if len(e.Quotes) > 0 {
		return fmt.Errorf("%s is complete evidence by itself: appraise it alone", name)
	}
	logs := *e
	*e = *whole
	if logs.EventLog != nil {
		e.EventLog = logs.EventLog
	}
	if logs.IMALog != nil {
		e.IMALog, e.IMABefore = logs.IMALog, logs.IMABefore
	}
	e.keys, e.certs = append(e.keys, logs.keys...), append(e.certs, logs.certs...)
	return e.check()
}

// unwrapBase64 decodes a log that was stored as text; anything else stays.
func unwrapBase64(b []byte) []byte {
	text := bytes.TrimSpace(b)
	if len(text) < 32 || len(text)%4 != 0 {
		return b
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(out, text)
	if err != nil {
		return b
	}
	return out[:n]
}
