package rats

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Profiles of EAR ("eat_profile").
const (
	ProfileDeployed = "tag:github.com,2023:veraison/ear"
	ProfileTrustee  = "tag:github.com,2024:confidential-containers/Trustee"
	ProfileDraft03  = "tag:ietf.org,2026:rats/ear#03"
)

// Limits of a claims set; more is refused.
const (
	MaxClaimsSet  = 1 << 20 // bytes of JSON
	MaxSubmods    = 64
	MaxClaims     = 8192 // entries of one "ashlar.claims"
	MaxExtensions = 64   // unknown claims at one level
)

// Extensions are claims that this package does not know, kept as they came.
type Extensions map[string]json.RawMessage

const keyAttestation = "ear.veraison.key-attestation"

type akpub struct {
	AKPub string `json:"akpub,omitempty"`
}

// MarshalJSON writes the claims set in the deployed dialect.
func (r *AttestationResult) MarshalJSON() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	profile := r.Profile
	if profile == "" {
		profile = ProfileDeployed
	}
	m := map[string]any{
		"eat_profile":     profile,
		"iat":             r.IssuedAt.Unix(),
		"ear.verifier-id": r.Verifier,
		"submods":         r.Submods,
	}
	for k, v := range r.Extensions {
		if _, taken := m[k]; !taken {
			m[k] = v
		}
	}
	if !r.Expires.IsZero() {
		m["exp"] = r.Expires.Unix()
	}
	setText(m, "iss", r.Issuer)
	setText(m, "jti", r.ID)
	if len(r.Nonce) >= 6 {
		m["eat_nonce"] = base64.RawURLEncoding.EncodeToString(r.Nonce)
	}
	if len(r.RawEvidence) > 0 {
		m["ear.raw-evidence"] = base64.RawURLEncoding.EncodeToString(r.RawEvidence)
	}
	return json.Marshal(m)
}

func setText(m map[string]any, key, text string) {
	if text != "" {
		m[key] = text
	}
}

func (r *AttestationResult) check() error {
	if len(r.Submods) == 0 || len(r.Submods) > MaxSubmods {
		return fmt.Errorf("an attestation result needs 1 to %d submodules: this one has %d", MaxSubmods, len(r.Submods))
	}
	switch r.Profile {
	case "", ProfileDeployed, ProfileTrustee:
		return nil
	}
	return fmt.Errorf("profile %q is not one that can be written", clip(r.Profile, 80))
}

// MarshalJSON writes the appraisal in the deployed dialect.
func (a Appraisal) MarshalJSON() ([]byte, error) {
	if len(a.Claims) > MaxClaims {
		return nil, fmt.Errorf("an appraisal carries at most %d claims: this one has %d", MaxClaims, len(a.Claims))
	}
	m := map[string]any{"ear.status": a.Status}
	for k, v := range a.Extensions {
		if _, taken := m[k]; !taken {
			m[k] = v
		}
	}
	if len(a.Vector) > 0 {
		m["ear.trustworthiness-vector"] = a.Vector
	}
	if len(a.PolicyIDs) > 0 {
		// The deployed dialect has room for one.
		m["ear.appraisal-policy-id"] = strings.Join(a.PolicyIDs, " ")
	}
	if len(a.Claims) > 0 {
		m["ashlar.claims"] = a.Claims
	}
	if len(a.AttesterKey) > 0 {
		m[keyAttestation] = akpub{base64.RawURLEncoding.EncodeToString(a.AttesterKey)}
	}
	return json.Marshal(m)
}

// claims takes claims out of a JSON object one by one; what is left over are
// extensions. The first error sticks.
type claims struct {
	m   map[string]json.RawMessage
	err error
}

func openObject(b []byte, what string) claims {
	var c claims
	if err := json.Unmarshal(b, &c.m); err != nil || c.m == nil {
		c.err = fmt.Errorf("%s is not a JSON object", what)
	}
	return c
}

// take decodes the first of names that is present, and tells whether one was.
func (c *claims) take(into any, names ...string) bool {
	found := false
	for _, n := range names {
		raw, ok := c.m[n]
		if !ok {
			continue
		}
		delete(c.m, n)
		if found {
			c.fail(fmt.Errorf("claim %q stands there twice, in both dialects", n))
			continue
		}
		found = true
		if err := json.Unmarshal(raw, into); err != nil {
			c.fail(fmt.Errorf("claim %q cannot be read: %w", n, err))
		}
	}
	return found
}

func (c *claims) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *claims) rest() Extensions {
	if len(c.m) > MaxExtensions {
		c.fail(fmt.Errorf("there are %d unknown claims: at most %d are allowed", len(c.m), MaxExtensions))
	}
	if len(c.m) == 0 {
		return nil
	}
	return c.m
}

// b64 takes a claim of bytes in base64url (RFC 7515, 2), with or without padding.
func (c *claims) b64(names ...string) []byte {
	var s string
	if !c.take(&s, names...) {
		return nil
	}
	b, err := decodeB64(s)
	if err != nil {
		c.fail(fmt.Errorf("claim %q is not base64url", names[0]))
	}
	return b
}

func decodeB64(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}

// ParseClaimsSet reads an EAR's claims set (not its signature) in either
// dialect. Only a result that Verify gave is authentic.
func ParseClaimsSet(b []byte) (*AttestationResult, error) {
	if len(b) > MaxClaimsSet {
		return nil, fmt.Errorf("the claims set is %d bytes long: at most %d are allowed", len(b), MaxClaimsSet)
	}
	var r AttestationResult
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("not an EAR claims set: %w", err)
	}
	return &r, nil
}

// UnmarshalJSON reads a claims set in either dialect.
func (r *AttestationResult) UnmarshalJSON(b []byte) error {
	c := openObject(b, "the claims set")
	*r = AttestationResult{}
	if !c.take(&r.Profile, "eat_profile") {
		c.fail(errors.New(`claim "eat_profile" is missing`))
	}
	switch r.Profile {
	case ProfileDeployed, ProfileTrustee, ProfileDraft03:
	default:
		c.fail(fmt.Errorf("profile %q is not one of EAR", clip(r.Profile, 80)))
	}
	r.IssuedAt = c.time("iat", true)
	r.Expires = c.time("exp", false)
	c.take(&r.Issuer, "iss")
	c.take(&r.ID, "jti")
	if !c.take(&r.Verifier, "ear.verifier-id", "ear_verifier_id") {
		c.fail(errors.New("the verifier's identity is missing"))
	}
	r.Nonce = c.nonce()
	r.RawEvidence = c.b64("ear.raw-evidence", "ear_raw_evidence")
	var total Tier
	c.take(&total, "ear_status") // the whole's status, draft -03: derived anew by Status
	c.take(&r.Submods, "submods")
	if n := len(r.Submods); n == 0 || n > MaxSubmods {
		c.fail(fmt.Errorf("there are %d submodules: 1 to %d are expected", n, MaxSubmods))
	}
	r.Extensions = c.rest()
	return c.err
}

func (c *claims) nonce() Nonce {
	raw, ok := c.m["eat_nonce"]
	if !ok {
		return nil
	}
	delete(c.m, "eat_nonce")
	var s string
	if json.Unmarshal(raw, &s) != nil {
		var list []string
		if json.Unmarshal(raw, &list) != nil || len(list) != 1 {
			c.fail(errors.New(`claim "eat_nonce" is neither a text nor a list of one`))
			return nil
		}
		s = list[0]
	}
	n, err := decodeB64(s)
	if err != nil {
		n = []byte(s) // some Attesters choose the text itself
	}
	if len(n) > 88 {
		c.fail(errors.New(`claim "eat_nonce" is longer than 88 bytes`))
		return nil
	}
	return n
}

// time takes a NumericDate (RFC 7519, 2), whole seconds or a fraction.
func (c *claims) time(name string, required bool) time.Time {
	var n json.Number
	if !c.take(&n, name) {
		if required {
			c.fail(fmt.Errorf("claim %q is missing", name))
		}
		return time.Time{}
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > 1<<40 {
		c.fail(fmt.Errorf("claim %q is not a date", name))
		return time.Time{}
	}
	return time.Unix(int64(f), 0).UTC()
}

// UnmarshalJSON reads an appraisal in either dialect.
func (a *Appraisal) UnmarshalJSON(b []byte) error {
	c := openObject(b, "a submodule")
	*a = Appraisal{}
	if !c.take(&a.Status, "ear.status", "ear_status") {
		c.fail(errors.New("a submodule has no status"))
	}
	c.take(&a.Vector, "ear.trustworthiness-vector", "ear_trustworthiness_vector")
	var one string
	if c.take(&one, "ear.appraisal-policy-id") {
		a.PolicyIDs = strings.Fields(one)
	}
	c.take(&a.PolicyIDs, "ear_appraisal_policy_ids")
	c.take(&a.Claims, "ashlar.claims")
	if len(a.Claims) > MaxClaims {
		c.fail(fmt.Errorf("a submodule carries %d claims: at most %d are allowed", len(a.Claims), MaxClaims))
	}
	var key akpub
	if c.take(&key, keyAttestation) && key.AKPub != "" {
		var err error
		if a.AttesterKey, err = decodeB64(key.AKPub); err != nil {
			c.fail(errors.New("the attested key is not base64url"))
		}
	}
	a.Extensions = c.rest()
	return c.err
}
