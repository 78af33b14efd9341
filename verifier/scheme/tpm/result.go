package tpm

import (
	"fmt"

	"github.com/ashlar-cloud/ashlar/rats"
)

// Verdict is the outcome of an appraisal in one word.
type Verdict string

// The verdicts. Only Valid means that the Evidence holds.
const (
	Valid   Verdict = "valid"   // all that was examined holds, and the essential was examined
	Invalid Verdict = "invalid" // something fails
	Partial Verdict = "partial" // nothing fails that can be judged, but something essential cannot be judged
)

// Reason is the class of what went wrong, for machines.
type Reason string

// The classes.
const (
	ReasonMalformed     Reason = "malformed"
	ReasonNoQuote       Reason = "no-quote"
	ReasonNoKey         Reason = "no-key"
	ReasonWrongKey      Reason = "wrong-key"
	ReasonKeyAttributes Reason = "key-attributes"
	ReasonSignature     Reason = "signature"
	ReasonNonce         Reason = "nonce"
	ReasonPCRDigest     Reason = "pcr-digest"
	ReasonPCRMissing    Reason = "pcr-values-missing"
	ReasonActivation    Reason = "activation"
	ReasonCertificate   Reason = "certificate"
	ReasonLog           Reason = "log-does-not-replay"
	ReasonIMA           Reason = "ima-does-not-match"
	ReasonIMAHash       Reason = "template-hash"
	ReasonAlgorithm     Reason = "unknown-algorithm"
	ReasonEvent         Reason = "event-not-in-reference"
	ReasonFile          Reason = "file-not-in-reference"
	ReasonCoverage      Reason = "not-covered"
)

// Facts are what the Evidence says, by name; their values marshal to JSON.
type Facts map[string]any

// Listing says how a measurement compares with the reference values.
type Listing string

// The listings; empty where there are no reference values.
const (
	Listed   Listing = "listed"
	Changed  Listing = "changed"  // the reference has another digest in its place
	Unlisted Listing = "unlisted" // the reference has nothing in its place
	Missing  Listing = "missing"  // the reference has it and the log does not
)

// Measurement is one entry of a log that the quote confirms, for people.
type Measurement struct {
	Log    string `json:"log"`    // "event" or "ima"
	Number int    `json:"number"` // in its log, from 1; 0 for a missing one
	PCR    int    `json:"pcr"`
	Stage  string `json:"stage"`
	What   string `json:"what"` // in words, or the file's path
	Digest string `json:"digest"`
	// Data says what the words are worth: "proved" where the digest is of them,
	// "stated" where it is of something else that the log only names, "differs"
	// where it should be of them and is not. Only the digest was compared.
	Data    string  `json:"data,omitempty"`
	Listing Listing `json:"listing,omitempty"`
}

// Result is the outcome of an appraisal.
type Result struct {
	Verdict Verdict
	Reason  Reason // of the first failure, or of a partial verdict
	// Status and Vector go into the EAR.
	Status rats.Tier
	Vector rats.Vector
	Claims []rats.Claim
	Facts  Facts
	// Measurements are in order of time: the event log's, then IMA's.
	Measurements []Measurement
	// PCRs are those values that the quotes' digests confirm.
	PCRs PCRs
	// AttesterKey is proven by the Evidence to be the Attester's, or empty.
	AttesterKey []byte
	// PolicyIDs name the reference values compared with.
	PolicyIDs []string
}

// Why gives one sentence for each claim that fails, or, of a partial result,
// for each that could not be examined.
func (r *Result) Why() []string {
	status := rats.Fails
	if r.Verdict == Partial {
		status = rats.Unchecked
	}
	var list []string
	for _, c := range r.Claims {
		if c.Status == status && c.Why != "" {
			list = append(list, c.Why)
		}
	}
	return list
}

// NotAffirmed says what keeps Evidence that holds from being affirmed: what was
// not examined, as nothing was given to examine it with. It is empty where the
// status is affirming.
func (r *Result) NotAffirmed() []string {
	if r.Status == rats.TierAffirming {
		return nil
	}
	var list []string
	for _, c := range r.Claims {
		if c.Status == rats.Unchecked {
			list = append(list, c.Why)
		}
	}
	if len(r.PolicyIDs) == 0 {
		list = append(list, "it was compared with no reference values")
	}
	return list
}

// MaxReported is the most failures of one kind that a result lists; the rest is
// counted in one claim.
const MaxReported = 100

func (r *Result) hold(name, found string) {
	r.Claims = append(r.Claims, rats.Claim{Name: name, Status: rats.Holds, Found: found})
}

// fail records a failure in a category of the vector.
func (r *Result) fail(reason Reason, cat rats.Category, value rats.Value, c rats.Claim) {
	c.Status = rats.Fails
	r.Claims = append(r.Claims, c)
	if r.Verdict != Invalid {
		r.Verdict, r.Reason = Invalid, reason
	}
	if old, ok := r.Vector[cat]; !ok || rats.Worse(old.Tier(), value.Tier()) != old.Tier() || old == rats.NoClaim {
		r.Vector[cat] = value
	}
}

// broken records that the Evidence's cryptography fails.
func (r *Result) broken(reason Reason, name string, err error) {
	r.fail(reason, rats.InstanceIdentity, rats.CryptoFailed, rats.Claim{Name: name, Why: sentence(err)})
}

// leave records something that could not be examined. With a reason it is
// essential, and the verdict cannot be better than partial.
func (r *Result) leave(reason Reason, name, why string) {
	r.Claims = append(r.Claims, rats.Claim{Name: name, Status: rats.Unchecked, Why: why})
	if reason != "" && r.Verdict == Valid {
		r.Verdict, r.Reason = Partial, reason
	}
}

func (r *Result) claim(cat rats.Category, v rats.Value) {
	if _, there := r.Vector[cat]; !there {
		r.Vector[cat] = v
	}
}

func newResult() *Result {
	return &Result{Verdict: Valid, Vector: rats.Vector{}, Facts: Facts{}, PCRs: PCRs{}}
}

// malformed is the result for Evidence that cannot be decoded.
func malformed(name string, err error) *Result {
	r := newResult()
	r.broken(ReasonMalformed, name, err)
	r.finish()
	return r
}

// finish derives the status: contraindicated if anything fails; affirming only
// if identity, configuration and executables all are; none otherwise.
func (r *Result) finish() {
	switch {
	case r.Verdict == Invalid:
		r.Status, r.AttesterKey = rats.TierContraindicated, nil
	case r.Verdict == Valid && r.Vector[rats.InstanceIdentity].Tier() == rats.TierAffirming &&
		r.Vector[rats.Configuration].Tier() == rats.TierAffirming &&
		r.Vector[rats.Executables].Tier() == rats.TierAffirming:
		r.Status = rats.TierAffirming
	default:
		r.Status = rats.TierNone
	}
}

// sentence gives an error's text.
func sentence(err error) string { return fmt.Sprint(err) }
