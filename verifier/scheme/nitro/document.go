package nitro

import (
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/ashlar-cloud/ashlar/verifier/internal/cose"
)

// Limits of a document (attestation_process.md, 3.2): sizes in bytes.
const (
	MaxDocument    = 32 << 10
	maxPCRs        = 32
	maxCertificate = 1024
	maxBundle      = 16
	maxPublicKey   = 1024
	maxUserData    = 512
	maxNonce       = 512
	maxModuleID    = 256
)

// Document is the payload of an attestation document.
type Document struct {
	ModuleID    string            // of the Nitro Security Module that made it
	Digest      string            // "SHA384", that of the PCRs
	Timestamp   time.Time         // when it was made
	PCRs        map[uint64][]byte // 32, 48 or 64 bytes each
	Certificate []byte            // of the key that signs, X.509 in DER
	Bundle      [][]byte          // its issuers, the root first
	// What the enclave handed in; nil where it did not.
	PublicKey, UserData, Nonce []byte
	// Unknown are names of entries that this package does not know.
	Unknown []string
}

// ParseDocument decodes the payload of an attestation document strictly.
func ParseDocument(b []byte) (*Document, error) {
	var raw map[string]cbor.RawMessage
	if err := cose.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("the attestation document is no CBOR map: %w", err)
	}
	var d Document
	var stamp uint64
	fields := map[string]any{
		"module_id": &d.ModuleID, "digest": &d.Digest, "timestamp": &stamp, "pcrs": &d.PCRs, "certificate": &d.Certificate,
		"cabundle": &d.Bundle, "public_key": &d.PublicKey, "user_data": &d.UserData, "nonce": &d.Nonce,
	}
	for name, value := range raw {
		into, known := fields[name]
		if !known {
			d.Unknown = append(d.Unknown, name)
			continue
		}
		if err := cose.Unmarshal(value, into); err != nil {
			return nil, fmt.Errorf("the attestation document's %s is malformed: %w", name, err)
		}
	}
	for _, name := range []string{"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"} {
		if _, there := raw[name]; !there {
			return nil, fmt.Errorf("the attestation document has no %s", name)
		}
	}
	if stamp == 0 || stamp > 1<<47 {
		return nil, errors.New("the attestation document's timestamp is no time in milliseconds")
	}
	d.Timestamp = time.UnixMilli(int64(stamp)).UTC()
	return &d, d.check()
}

func (d *Document) check() error {
	for name, v := range map[string]struct{ size, least, most int }{
		"module_id":   {len(d.ModuleID), 1, maxModuleID},
		"pcrs":        {len(d.PCRs), 1, maxPCRs},
		"certificate": {len(d.Certificate), 1, maxCertificate},
		"cabundle":    {len(d.Bundle), 1, maxBundle},
		"public_key":  {len(d.PublicKey), 0, maxPublicKey},
		"user_data":   {len(d.UserData), 0, maxUserData},
		"nonce":       {len(d.Nonce), 0, maxNonce},
	} {
		if v.size < v.least || v.size > v.most {
			return fmt.Errorf("the attestation document's %s has the size %d: %d to %d are allowed", name, v.size, v.least, v.most)
		}
	}
	if d.Digest != "SHA384" {
		return fmt.Errorf("the attestation document's digest is %.40q: SHA384 is the one that is defined", d.Digest)
	}
	for i, v := range d.PCRs {
		if i >= maxPCRs || len(v) != 32 && len(v) != 48 && len(v) != 64 {
			return fmt.Errorf("the attestation document has a PCR %d of %d bytes", i, len(v))
		}
	}
	for _, c := range d.Bundle {
		if len(c) < 1 || len(c) > maxCertificate {
			return fmt.Errorf("the attestation document's cabundle has a certificate of %d bytes", len(c))
		}
	}
	return nil
}
