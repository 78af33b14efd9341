package tpm

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Limits of Evidence, in bytes unless said otherwise.
const (
	MaxBundle   = 96 << 20
	MaxEventLog = 16 << 20
	MaxIMALog   = 64 << 20
	MaxQuotes   = 16 // number of quotes in one piece of Evidence
	maxMessage  = 4096
	numPCRs     = 24
	maxEKCerts  = 16 // in a bundle
)

// Quote is one TPM2_Quote: what it answered, and the PCR values read beside it.
type Quote struct {
	Message   []byte        // TPMS_ATTEST
	Signature []byte        // TPMT_SIGNATURE, or plain: PKCS #1 or ECDSA in DER
	PCRs      eventlog.PCRs // may be missing or incomplete: then the logs must tell
	// rawPCRs is a file of PCR values whose meaning depends on the selection.
	rawPCRs []byte
}

// Evidence is what a TPM's owner sent, decoded but not believed.
type Evidence struct {
	Quotes []Quote
	// AK is the key that the Evidence says it is signed with; may be nil.
	AK             *identity.Key
	AKCertificate  *x509.Certificate
	EK             *tpm2.Public
	EKCertificates []*x509.Certificate
	// Nonce is the one that the Attester says it was asked with; a hint only.
	Nonce rats.Nonce
	// AttesterKey is a SubjectPublicKeyInfo bound by rats.BindKey; may be empty.
	AttesterKey []byte
	// ActivationSecret answers an identity.Challenge; may be empty.
	ActivationSecret []byte
	// EventLog and IMALog are as the kernel gives them; may be empty.
	EventLog, IMALog []byte
	// IMABefore is the IMA log as read before the quote; only counted.
	IMABefore []byte
	// CommandLine is the kernel's, as the Attester says: a hint, used only where
	// an event's digest proves it.
	CommandLine string
	// intermediates are certificates that came inside the Evidence, on the way
	// to a CA but never trusted; keys and certs are those that the caller named.
	intermediates []*x509.Certificate
	keys          []*identity.Key
	certs         []*x509.Certificate
}

// Bundle is the file that `ashlar evidence collect` writes: JSON, with bytes in
// base64.
type Bundle struct {
	Format  string    `json:"format"`  // BundleFormat
	Version int       `json:"version"` // BundleVersion
	Created time.Time `json:"created"`
	// Nonce in hexadecimal, as asked for.
	Nonce string `json:"nonce"`
	// AttesterKey is a SubjectPublicKeyInfo; the quotes' qualifying data is then
	// rats.BindKey(nonce, key), otherwise the nonce.
	AttesterKey []byte `json:"attesterKey,omitempty"`
	// EKPublic and AKPublic are TPM2B_PUBLIC.
	EKPublic       []byte        `json:"ekPublic,omitempty"`
	EKCertificates [][]byte      `json:"ekCertificates,omitempty"` // DER, at most 16
	AKPublic       []byte        `json:"akPublic"`
	Activation     []byte        `json:"activationSecret,omitempty"`
	Quotes         []BundleQuote `json:"quotes"` // at most MaxQuotes
	EventLog       []byte        `json:"eventLog,omitempty"`
	IMALog         []byte        `json:"imaLog,omitempty"`
	// CommandLine is /proc/cmdline, a hint that digests confirm or not.
	CommandLine string `json:"commandLine,omitempty"`
}

// BundleQuote is one quote of a Bundle.
type BundleQuote struct {
	Message   []byte        `json:"message"`   // TPMS_ATTEST
	Signature []byte        `json:"signature"` // TPMT_SIGNATURE
	PCRs      eventlog.PCRs `json:"pcrs"`
}

// What a Bundle says it is.
const (
	BundleFormat  = "ashlar-tpm-evidence"
	BundleVersion = 1
)

// ParseBundle reads a bundle and decodes what is in it.
func ParseBundle(b []byte) (*Evidence, error) {
	if len(b) > MaxBundle {
		return nil, fmt.Errorf("the bundle is longer than %d bytes", MaxBundle)
	}
	// The lists are decoded one element at a time: a file of empty elements would
	// else take many times its size.
	type plain Bundle
	in := struct {
		*plain
		EKCertificates limited[[]byte]      `json:"ekCertificates"`
		Quotes         limited[BundleQuote] `json:"quotes"`
	}{plain: &plain{}, EKCertificates: limited[[]byte]{max: maxEKCerts}, Quotes: limited[BundleQuote]{max: MaxQuotes}}
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("the evidence bundle cannot be read, it is cut or altered: %w", err)
	}
	if in.Format != BundleFormat || in.Version != BundleVersion {
		return nil, fmt.Errorf("a bundle of format %q version %d: %q version %d is read here", short(in.Format), in.Version, BundleFormat, BundleVersion)
	}
	bundle := Bundle(*in.plain)
	bundle.EKCertificates, bundle.Quotes = in.EKCertificates.list, in.Quotes.list
	return bundle.evidence()
}

func (in *Bundle) evidence() (*Evidence, error) {
	e := &Evidence{AttesterKey: in.AttesterKey, ActivationSecret: in.Activation}
	var err error
	if e.Nonce, err = rats.ParseNonce(in.Nonce); err != nil {
		return nil, err
	}
	pub, err := identity.ParsePublic(in.AKPublic)
	if err != nil {
		return nil, fmt.Errorf("the bundle's attestation key: %w", err)
	}
	if e.AK, err = identity.FromPublic(pub); err != nil {
		return nil, fmt.Errorf("the bundle's attestation key: %w", err)
	}
	if len(in.EKPublic) > 0 {
		if e.EK, err = identity.ParsePublic(in.EKPublic); err != nil {
			return nil, fmt.Errorf("the bundle's endorsement key: %w", err)
		}
	}
	for _, der := range in.EKCertificates {
		c, err := identity.ParseCertificates(der)
		if err != nil {
			return nil, fmt.Errorf("the bundle's EK certificate: %w", err)
		}
		e.EKCertificates = append(e.EKCertificates, c...)
	}
	for _, q := range in.Quotes {
		e.Quotes = append(e.Quotes, Quote{Message: q.Message, Signature: q.Signature, PCRs: q.PCRs})
	}
	e.EventLog, e.IMALog, e.CommandLine = in.EventLog, in.IMALog, in.CommandLine
	return e, e.check()
}

// check holds Evidence to its limits.
func (e *Evidence) check() error {
	if len(e.Quotes) > MaxQuotes {
		return fmt.Errorf("the evidence has %d quotes: at most %d are read", len(e.Quotes), MaxQuotes)
	}
	for _, q := range e.Quotes {
		if len(q.Message) > maxMessage || len(q.Signature) > maxMessage {
			return fmt.Errorf("a quote or its signature is longer than %d bytes", maxMessage)
		}
	}
	if len(e.EventLog) > MaxEventLog || len(e.IMALog) > MaxIMALog || len(e.IMABefore) > MaxIMALog {
		return fmt.Errorf("a log is too long: %d bytes of event log and %d of IMA log are the most that is read", MaxEventLog, MaxIMALog)
	}
	if len(e.AttesterKey) > 0 {
		if _, err := rats.ParseAttesterKey(e.AttesterKey); err != nil {
			return err
		}
	}
	if len(e.CommandLine) > maxMessage {
		return fmt.Errorf("the command line is longer than %d bytes", maxMessage)
	}
	if len(e.ActivationSecret) > tpm2.MaxDigestSize {
		return errors.New("the activation secret is longer than a digest")
	}
	return nil
}

// short keeps foreign text in messages to a line's length.
func short(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
