package scheme

import (
	"fmt"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/rats"
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

// Measurement is one entry of a log that the Evidence confirms, for people.
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

// Result is the outcome of an appraisal. The Verdict says whether the Evidence
// holds; the Status, whether it is to be trusted.
type Result struct {
	Verdict Verdict
	// Reason is the class of the first failure, of what makes a verdict partial,
	// or of what Warn said of Evidence that holds.
	Reason Reason
	// Status and Vector go into the EAR.
	Status rats.Tier
	Vector rats.Vector
	Claims []rats.Claim
	Facts  Facts
	// Measurements are in order of time: the event log's, then IMA's.
	Measurements []Measurement
	// PCRs are those values that the Evidence proves; empty where it has none.
	PCRs eventlog.PCRs
	// AttesterKey is a SubjectPublicKeyInfo that the Evidence proves to be the
	// Attester's, or empty.
	AttesterKey []byte
	// PolicyIDs name the reference values compared with.
	PolicyIDs []string
}

// NewResult gives a Result that is valid until something is recorded in it.
func NewResult() *Result {
	return &Result{Verdict: Valid, Vector: rats.Vector{}, Facts: Facts{}, PCRs: eventlog.PCRs{}}
}

// Malformed is the Result for what cannot be decoded.
func Malformed(name string, err error) *Result {
	r := NewResult()
	r.Break(ReasonMalformed, name, err)
	r.Finish()
	return r
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

// NotAffirmed says what keeps Evidence that holds from being affirmed: what
// Warn said of it, and what was not examined, as nothing was given to examine it
// with. It is empty where the status is affirming.
func (r *Result) NotAffirmed() []string {
	if r.Status == rats.TierAffirming {
		return nil
	}
	var list []string
	for _, c := range r.Claims {
		if c.Status != rats.Holds && c.Why != "" {
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

// Hold records a claim that holds, with what was found.
func (r *Result) Hold(name, found string) {
	r.Claims = append(r.Claims, rats.Claim{Name: name, Status: rats.Holds, Found: found})
}

// Fail records a failure in a category of the vector: the verdict is Invalid.
func (r *Result) Fail(reason Reason, cat rats.Category, value rats.Value, c rats.Claim) {
	c.Status = rats.Fails
	r.Claims = append(r.Claims, c)
	if r.Verdict != Invalid {
		r.Verdict, r.Reason = Invalid, reason
	}
	r.worsen(cat, value)
}

// Break records that the Evidence's cryptography fails.
func (r *Result) Break(reason Reason, name string, err error) {
	r.Fail(reason, rats.InstanceIdentity, rats.CryptoFailed, rats.Claim{Name: name, Why: fmt.Sprint(err)})
}

// Warn records what Evidence proves of itself and no production policy accepts,
// a debuggable guest for one: the verdict stays, and the status follows the value.
func (r *Result) Warn(reason Reason, cat rats.Category, value rats.Value, c rats.Claim) {
	c.Status = rats.Fails
	r.Claims = append(r.Claims, c)
	if r.Verdict == Valid && r.Reason == "" {
		r.Reason = reason
	}
	r.worsen(cat, value)
}

func (r *Result) worsen(cat rats.Category, value rats.Value) {
	if old, ok := r.Vector[cat]; !ok || rats.Worse(old.Tier(), value.Tier()) != old.Tier() || old == rats.NoClaim {
		r.Vector[cat] = value
	}
}

// Leave records something that could not be examined. With a reason it is
// essential, and the verdict cannot be better than partial.
func (r *Result) Leave(reason Reason, name, why string) {
	r.Claims = append(r.Claims, rats.Claim{Name: name, Status: rats.Unchecked, Why: why})
	if reason != "" && r.Verdict == Valid {
		r.Verdict, r.Reason = Partial, reason
	}
}

// Claim sets a category of the vector, unless it has a value.
func (r *Result) Claim(cat rats.Category, v rats.Value) {
	if _, there := r.Vector[cat]; !there {
		r.Vector[cat] = v
	}
}

// Finish derives the status: contraindicated if anything fails; that of the
// vector's worst value where one warns; affirming only if the Evidence is valid
// and each needed category affirms; none otherwise.
func (r *Result) Finish(needed ...rats.Category) {
	worst := r.Vector.Tier()
	switch {
	case r.Verdict == Invalid:
		r.Status, r.AttesterKey = rats.TierContraindicated, nil
	case worst == rats.TierContraindicated || worst == rats.TierWarning:
		r.Status = worst
	case r.Verdict == Valid && len(needed) > 0 && r.affirms(needed):
		r.Status = rats.TierAffirming
	default:
		r.Status = rats.TierNone
	}
}

func (r *Result) affirms(needed []rats.Category) bool {
	for _, cat := range needed {
		if r.Vector[cat].Tier() != rats.TierAffirming {
			return false
		}
	}
	return true
}
