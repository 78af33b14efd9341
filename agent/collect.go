package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/rats"
	own "github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

// Where Linux shows what it and the firmware measured.
const (
	EventLogPath    = "/sys/kernel/security/tpm0/binary_bios_measurements"
	IMALogPath      = "/sys/kernel/security/ima/binary_runtime_measurements"
	CommandLinePath = "/proc/cmdline"
)

// Identify gives the keys of a TPM.
func Identify(t TPM) (*identity.Document, error) {
	ek, certs, err := endorsementKey(t)
	if err != nil {
		return nil, err
	}
	defer ek.flush(t)
	ak, err := primary(t, "attestation key", akTemplate())
	if err != nil {
		return nil, err
	}
	defer ak.flush(t)
	return identity.NewDocument(ek.public, ak.public, certs), nil
}

// Options say what to collect.
type Options struct {
	// Nonce is the one to quote under.
	Nonce rats.Nonce
	// Challenge is answered if not nil; its nonce must then be Nonce.
	Challenge *identity.ChallengeMessage
	// Key is bound to the quote (see rats.BindKey); may be nil.
	Key *ecdsa.PublicKey
	// Banks are those to quote, SHA-256 alone if empty, each with all 24 PCRs.
	Banks []own.AlgID
	// EventLog, IMALog and CommandLine are paths; a file that does not exist is
	// left out, and an empty path too.
	EventLog, IMALog, CommandLine string
	// Now is the time written into the bundle.
	Now time.Time
}

// ChallengeError is why a challenge is not answered: it was not made for this TPM,
// or not for its attestation key.
type ChallengeError struct{ err error }

func newChallengeError(format string, a ...any) error {
	return &ChallengeError{fmt.Errorf(format, a...)}
}

// Error gives one sentence.
func (e *ChallengeError) Error() string { return e.err.Error() }

// Unwrap gives the TPM's own answer, if there was one.
func (e *ChallengeError) Unwrap() error { return errors.Unwrap(e.err) }

// Collect gathers Evidence.
func Collect(t TPM, o Options) (*tpm.Bundle, error) {
	b := &tpm.Bundle{Format: tpm.BundleFormat, Version: tpm.BundleVersion,
		Created: o.Now.UTC().Truncate(time.Second), Nonce: o.Nonce.String()}
	if o.Key != nil {
		spki, err := x509.MarshalPKIXPublicKey(o.Key)
		if err != nil {
			return nil, fmt.Errorf("cannot write the attester's key: %w", err)
		}
		b.AttesterKey = spki
	}
	ek, certs, err := endorsementKey(t)
	if err != nil {
		return nil, err
	}
	defer ek.flush(t)
	ak, err := primary(t, "attestation key", akTemplate())
	if err != nil {
		return nil, err
	}
	defer ak.flush(t)
	b.EKPublic, b.EKCertificates, b.AKPublic = ek.public, certs, ak.public
	if c := o.Challenge; c != nil {
		if c.AKName != hex.EncodeToString(ak.name.Buffer) {
			return nil, newChallengeError("the challenge is for another attestation key: identify again, and have a new challenge made")
		}
		if b.Activation, err = activate(t, ek, ak, &c.Credential); err != nil {
			return nil, err
		}
	}
	banks := o.Banks
	if len(banks) == 0 {
		banks = []own.AlgID{own.AlgSHA256}
	}
	q, err := quote(t, ak, rats.BindKey(o.Nonce, b.AttesterKey), banks)
	if err != nil {
		return nil, err
	}
	b.Quotes = []tpm.BundleQuote{*q}
	return b, o.logs(b)
}

// logs reads what explains the PCRs, after the quote, so that nothing that the
// quote covers is missing.
func (o *Options) logs(b *tpm.Bundle) error {
	var err error
	if b.EventLog, err = readLog(o.EventLog, tpm.MaxEventLog); err != nil {
		return err
	}
	if b.IMALog, err = readLog(o.IMALog, tpm.MaxIMALog); err != nil {
		return err
	}
	line, err := readLog(o.CommandLine, 4096)
	b.CommandLine = strings.TrimRight(string(line), "\n")
	return err
}

func readLog(path string, max int64) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read a log: %w", err)
	}
	defer f.Close()
	return rats.ReadLimited(f, max, path)
}

// attempts is how often PCRs are read and quoted until the values read are those
// quoted: another process may extend a PCR in between.
const attempts = 8

// quote quotes all PCRs of the banks, with the values that were quoted. Where
// PCR 10 never stands still it is left out, and the IMA log must tell it.
func quote(t transport.TPM, ak *loaded, data []byte, banks []own.AlgID) (*tpm.BundleQuote, error) {
	var q *tpm.BundleQuote
	for range attempts {
		values, sel, err := readPCRs(t, banks)
		if err != nil {
			return nil, err
		}
		rsp, err := tpm2.Quote{
			SignHandle:     tpm2.AuthHandle{Handle: ak.handle, Name: ak.name, Auth: tpm2.PasswordAuth(nil)},
			QualifyingData: tpm2.TPM2BData{Buffer: data},
			InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			PCRSelect:      sel,
		}.Execute(t)
		if err != nil {
			return nil, fmt.Errorf("the TPM does not quote: %w", err)
		}
		q = &tpm.BundleQuote{Message: rsp.Quoted.Bytes(), Signature: tpm2.Marshal(rsp.Signature), PCRs: values}
		var at own.Attest
		if err := own.Unmarshal(q.Message, &at); err != nil {
			return nil, fmt.Errorf("the TPM's quote cannot be read: %w", err)
		}
		if bytes.Equal(at.Quote.Digest, digest(values, banks)) {
			return q, nil
		}
	}
	for _, bank := range q.PCRs {
		delete(bank, 10)
	}
	return q, nil
}

func digest(values eventlog.PCRs, banks []own.AlgID) []byte {
	h := own.AlgSHA256.New() // the AK's scheme
	for _, alg := range banks {
		for i := range 24 {
			h.Write(values[alg][i])
		}
	}
	return h.Sum(nil)
}

// readPCRs reads every PCR of the banks; a TPM gives at most 8 at a time.
func readPCRs(t transport.TPM, banks []own.AlgID) (eventlog.PCRs, tpm2.TPMLPCRSelection, error) {
	values, all := eventlog.PCRs{}, tpm2.TPMLPCRSelection{}
	for _, alg := range banks {
		values[alg] = map[int][]byte{}
		for base := 0; base < 24; base += 8 {
			mask := make([]byte, 3)
			mask[base/8] = 0xff
			rsp, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
				{Hash: tpm2.TPMAlgID(alg), PCRSelect: mask}}}}.Execute(t)
			if err != nil {
				return nil, all, fmt.Errorf("cannot read the PCRs of bank %v: %w", alg, err)
			}
			if len(rsp.PCRValues.Digests) != 8 {
				return nil, all, fmt.Errorf("the TPM has no PCR bank %v: choose others with --banks", alg)
			}
			for i, d := range rsp.PCRValues.Digests {
				values[alg][base+i] = d.Buffer
			}
		}
		all.PCRSelections = append(all.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMAlgID(alg), PCRSelect: []byte{0xff, 0xff, 0xff}})
	}
	return values, all, nil
}
