// Package verifier appraises Evidence and issues Attestation Results (RFC 9334,
// section 4). A folder scheme/<kind> knows one kind of Evidence; this package
// chooses among them and writes what they find as an EAR.
package verifier

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// Defaults of Options.
const (
	DefaultLifetime  = 5 * time.Minute
	DefaultIssuer    = "ashlar"
	developer        = "https://github.com/ashlar-cloud/ashlar"
	maxClaimsWritten = 1000 // claims in an EAR; failures come first
	maxClaimsBytes   = 512 << 10
	maxClaimText     = 1024 // bytes of one text in a claim
	minNonce         = 8    // bytes (RFC 9711, 4.1)
)

// Options are those of a Verifier.
type Options struct {
	// Issuer is the name in results, DefaultIssuer if empty.
	Issuer string
	// Lifetime is how long results are good for, DefaultLifetime if 0.
	Lifetime time.Duration
	// Build says which build of the software appraised.
	Build string
}

// Verifier appraises and signs. It is safe for concurrent use.
type Verifier struct {
	signer *rats.Signer
	Options
}

// New makes a Verifier that signs with a key of its own.
func New(signer *rats.Signer, o Options) *Verifier {
	if o.Issuer == "" {
		o.Issuer = DefaultIssuer
	}
	if o.Lifetime <= 0 {
		o.Lifetime = DefaultLifetime
	}
	if o.Build == "" {
		o.Build = "unknown"
	}
	return &Verifier{signer: signer, Options: o}
}

// Session is what the Verifier knows of the exchange that Evidence ends.
type Session struct {
	// Nonce is the one that was sent, 8 to 64 bytes; Evidence under another is
	// refused.
	Nonce rats.Nonce
	// Challenge is the one whose answer the Evidence must carry; may be nil,
	// and then only an endorsed key affirms.
	Challenge *identity.Challenge
	// Now is the time of the appraisal.
	Now time.Time
}

// Outcome is what an appraisal gives.
type Outcome struct {
	// EAR is the signed Attestation Result, a compact JWT.
	EAR    string
	Result *rats.AttestationResult
	// Appraisal has everything: each measurement, each fact.
	Appraisal *scheme.Result
}

// Appraise examines Evidence in the light of Endorsements and Reference Values.
// A refusal is an Outcome whose result is contraindicated; the error is for what
// keeps the Verifier from appraising: a type that it does not know, or
// endorsements and reference values of its own that cannot be read.
func (v *Verifier) Appraise(e rats.Evidence, ends []rats.Endorsement, refs []rats.ReferenceValue, s Session) (*Outcome, error) {
	kind := kindOf(e.Type)
	if kind == nil {
		return nil, fmt.Errorf("evidence of type %.80q is not one that is appraised here", e.Type)
	}
	if len(s.Nonce) < minNonce || len(s.Nonce) > rats.MaxNonce {
		return nil, fmt.Errorf("a nonce of %d bytes: %d to %d are needed to know the evidence fresh", len(s.Nonce), minNonce, rats.MaxNonce)
	}
	in := &scheme.Input{Files: []scheme.File{{Name: "evidence", Data: e.Data}}, Challenge: s.Challenge,
		Nonce: s.Nonce, HasNonce: true, Time: s.Now}
	for i, end := range ends {
		in.Endorsements = append(in.Endorsements, scheme.File{Name: fmt.Sprintf("endorsement %d", i+1), Data: end.Data})
	}
	switch {
	case len(refs) > 1:
		return nil, errors.New("more than one set of reference values: give one that was made of several boots")
	case len(refs) == 1:
		in.References = &scheme.File{Name: "reference values", Data: refs[0].Data}
	}
	if err := kind.CheckOwn(in); err != nil {
		return nil, err
	}
	res, err := kind.Appraise(in)
	if err != nil {
		return nil, err
	}
	return v.Issue(kind, res, s.Nonce, s.Now)
}

func kindOf(t rats.MediaType) *scheme.Kind {
	kinds := Kinds()
	for i := range kinds {
		if kinds[i].Type == t && t != "" {
			return &kinds[i]
		}
	}
	return nil
}

// Issue writes and signs the Attestation Result for an appraisal of a kind, which
// names the one submodule.
func (v *Verifier) Issue(kind *scheme.Kind, res *scheme.Result, nonce rats.Nonce, now time.Time) (*Outcome, error) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("cannot draw an ID: %w", err)
	}
	now = now.UTC().Truncate(time.Second)
	r := &rats.AttestationResult{
		Profile: rats.ProfileDeployed, Issuer: v.Issuer, ID: base64.RawURLEncoding.EncodeToString(id),
		IssuedAt: now, Expires: now.Add(v.Lifetime), Nonce: nonce,
		Verifier: rats.VerifierID{Developer: developer, Build: v.Build},
		Submods: map[string]rats.Appraisal{kind.Name: {
			Status: res.Status, Vector: res.Vector, PolicyIDs: res.PolicyIDs,
			AttesterKey: res.AttesterKey, Claims: written(res.Claims),
		}},
	}
	ear, err := v.signer.Sign(r)
	if err != nil {
		return nil, err
	}
	return &Outcome{EAR: ear, Result: r, Appraisal: res}, nil
}

// written keeps a result to a size that every relying party takes: failures
// first, then the rest in order, each text cut to a line or two. What is left out
// is counted in a last claim.
func written(all []rats.Claim) []rats.Claim {
	var list []rats.Claim
	size := 0
	for _, failures := range []bool{true, false} {
		for _, c := range all {
			if (c.Status == rats.Fails) != failures {
				continue
			}
			for _, text := range []*string{&c.Name, &c.Expected, &c.Found, &c.Why} {
				*text = cut(*text)
			}
			b, err := json.Marshal(c)
			if err != nil || len(list) >= maxClaimsWritten-1 || size+len(b) > maxClaimsBytes {
				continue
			}
			size += len(b)
			list = append(list, c)
		}
	}
	if left := len(all) - len(list); left > 0 {
		list = append(list, rats.Claim{Name: "more", Status: rats.Unchecked,
			Why: fmt.Sprintf("%d more claims were examined, which are too many or too long for this result", left)})
	}
	return list
}

func cut(s string) string {
	if len(s) > maxClaimText {
		return strings.ToValidUTF8(s[:maxClaimText], "") + "…"
	}
	return s
}
