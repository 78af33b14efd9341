package tpm

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// Request is what an appraisal works with.
type Request struct {
	Evidence *Evidence
	// Key is the Attestation Key that the caller demands; nil for any.
	Key *identity.Key
	// Keys are endorsed: AKs, or EKs, that are known to be good.
	Keys []*identity.Key
	// Certificates are endorsed CAs that EK and AK certificates may lead to,
	// and intermediates on the way.
	Certificates []*x509.Certificate
	// Challenge is the one that the Evidence's activation secret answers.
	Challenge *identity.Challenge
	// References are compared with the logs; nil for none.
	References *References
	// Nonce is the one that the Evidence must be made under, if HasNonce.
	Nonce    rats.Nonce
	HasNonce bool
	// Time is when the appraisal takes place, for certificates.
	Time time.Time
}

// appraisal is one run of Appraise.
type appraisal struct {
	Request
	*scheme.Result
	ev       *Evidence
	ak       *identity.Key
	endorsed bool // the AK is known good, or certified
	// statedOnly says that the AK's public area is the Evidence's alone.
	statedOnly bool
	attests    []tpm2.Attest
	order      [][]register // of each quote
	log        *eventlog.Log
	banks      []eventlog.Bank
	ima        *imaView
	imaUsed    int // IMA entries that the quote covers, -1 if unknown
	tries      int // of solveDigest
	missing    []scheme.Measurement
}

// Appraise examines Evidence. It always gives a result: Evidence that cannot be
// decoded is invalid.
func Appraise(req Request) *scheme.Result {
	a := &appraisal{Request: req, Result: scheme.NewResult(), ev: req.Evidence, imaUsed: -1}
	if len(a.ev.Quotes) == 0 {
		return scheme.Malformed("quote", errors.New("there is no quote in the evidence"))
	}
	if !a.decode() {
		a.finish()
		return a.Result
	}
	a.chooseKey()
	a.readLogs()
	a.checkQuotes()
	a.checkIdentity()
	a.checkEventLog()
	a.checkIMA()
	a.measure()
	a.compare()
	a.finish()
	return a.Result
}

// decode reads the quotes strictly; it tells whether all are quotes.
func (a *appraisal) decode() bool {
	for i := range a.ev.Quotes {
		q := &a.ev.Quotes[i]
		attest, err := parseQuote(q.Message)
		if err != nil {
			a.Break(scheme.ReasonMalformed, a.name(i, "quote"), err)
			return false
		}
		order := selected(attest.Quote.Select)
		if q.rawPCRs != nil {
			p, err := parseToolsPCRs(q.rawPCRs)
			if err != nil {
				p, err = parseRawPCRs(q.rawPCRs, order)
			}
			if err != nil {
				a.Break(scheme.ReasonMalformed, a.name(i, "PCR values"), err)
				return false
			}
			q.PCRs = p
		}
		a.attests, a.order = append(a.attests, *attest), append(a.order, order)
	}
	a.quoteFacts()
	return true
}

// parseQuote decodes a TPMS_ATTEST to its last byte and wants a quote.
func parseQuote(b []byte) (*tpm2.Attest, error) {
	var at tpm2.Attest
	if err := tpm2.Unmarshal(b, &at); err != nil {
		rc, _ := err.(tpm2.RC)
		switch rc.Base() {
		case tpm2.RCInsufficient:
			return nil, fmt.Errorf("the quote is cut short: its %d bytes are less than its structure says", len(b))
		case tpm2.RCSize:
			return nil, errors.New("the quote is altered: a length in it is wrong, or bytes follow its end")
		}
		return nil, fmt.Errorf("the quote is not what a TPM signs: %w", err)
	}
	if at.Type != tpm2.STAttestQuote {
		return nil, fmt.Errorf("the signed structure is an attestation of type 0x%04x, not a quote", uint16(at.Type))
	}
	return &at, nil
}

// name labels a claim with its quote's number where there are several.
func (a *appraisal) name(i int, what string) string {
	if len(a.ev.Quotes) == 1 {
		return what
	}
	return fmt.Sprintf("%s of quote %d", what, i+1)
}

// chooseKey finds the AK: the one demanded, else the Evidence's own, else one of
// those given beside it, preferably one that the first quote is signed with. What
// came as a file of Evidence serves to check the signature, but only Key, Keys
// and Certificates are endorsed.
func (a *appraisal) chooseKey() {
	endorsed := withCertified(a.Keys, a.Certificates)
	beside := append(withCertified(a.ev.keys, a.ev.certs), endorsed...)
	switch {
	case a.Key != nil:
		a.ak, a.endorsed = a.Key, true
		if a.ev.AK != nil && !a.ev.AK.Equal(a.Key) {
			a.Fail(scheme.ReasonWrongKey, rats.InstanceIdentity, rats.InstanceUnknown, rats.Claim{Name: "attestation key",
				Why: "the evidence is from another attestation key than the one that was given"})
		}
	case a.ev.AK != nil:
		a.ak = a.ev.AK
	default:
		a.ak = a.pick(beside)
	}
	if a.ak == nil {
		return
	}
	own := a.ev.AK
	for _, k := range beside {
		if k.Equal(a.ak) && k.Public != nil && a.ak.Public == nil {
			own = k // tells the public area, vouched for or not
		}
	}
	for _, k := range endorsed {
		if !k.Equal(a.ak) {
			continue
		}
		a.endorsed = true
		if k.Public != nil {
			a.ak = k
		}
	}
	a.statedOnly = !a.vouched(endorsed)
	if a.ak.Public == nil && own != nil && own.Public != nil && own.Equal(a.ak) {
		a.ak = own
	}
}

// vouched tells whether the AK's public area is one that the caller gave.
func (a *appraisal) vouched(endorsed []*identity.Key) bool {
	return a.ak.Public != nil && (a.ak == a.Key || slices.Contains(endorsed, a.ak))
}

// withCertified gives the keys and those in the certificates that are no CA's.
func withCertified(keys []*identity.Key, certs []*x509.Certificate) []*identity.Key {
	list := slices.Clone(keys)
	for _, c := range certs {
		if !c.IsCA {
			list = append(list, &identity.Key{Crypto: c.PublicKey})
		}
	}
	return list
}

// pick gives the candidate that the first quote verifies with, else the first
// that could sign.
func (a *appraisal) pick(keys []*identity.Key) *identity.Key {
	var first *identity.Key
	for _, k := range keys {
		if k.Public != nil && !k.Public.Attributes.Has(tpm2.ObjSign) {
			continue
		}
		q := &a.ev.Quotes[0]
		if s, err := parseSignature(q.Signature, k); err == nil && s.verify(k, q.Message) == nil {
			return k
		}
		if first == nil {
			first = k
		}
	}
	return first
}

// readLogs parses the logs, which may be needed to know the PCR values.
func (a *appraisal) readLogs() {
	if len(a.ev.EventLog) > 0 {
		l, err := eventlog.Parse(a.ev.EventLog)
		if err != nil {
			a.Fail(scheme.ReasonMalformed, rats.Executables, rats.CryptoFailed, rats.Claim{Name: "event log", Why: err.Error()})
		} else {
			a.log, a.banks = l, l.Replay()
			a.Facts["log"] = logFacts(l, a.banks)
		}
	}
	if len(a.ev.IMALog) > 0 {
		v, err := parseIMA(a.ev.IMALog)
		if err != nil {
			a.Fail(scheme.ReasonMalformed, rats.Executables, rats.CryptoFailed, rats.Claim{Name: "IMA log", Why: err.Error()})
			return
		}
		a.ima = v
		a.Facts["ima_entries_after"] = v.len()
	}
	if len(a.ev.IMABefore) > 0 {
		if v, err := parseIMA(a.ev.IMABefore); err == nil {
			a.Facts["ima_entries_before"] = v.len()
		}
	}
}

// finish wants the key known, the boot approved and the programs, too.
func (a *appraisal) finish() {
	a.Finish(rats.InstanceIdentity, rats.Configuration, rats.Executables)
}
