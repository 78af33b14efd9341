package rats

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// MaxToken is the most bytes of a compact JWT that Verify reads.
const MaxToken = 2 << 20

// clockSkew is how far the clocks of Verifier and Relying Party may differ.
const clockSkew = time.Minute

// Signer signs Attestation Results with ES256 (RFC 7518, 3.4).
type Signer struct {
	key   *ecdsa.PrivateKey
	keyID string
}

// NewSigner takes a key on P-256.
func NewSigner(key *ecdsa.PrivateKey) (*Signer, error) {
	if key == nil || key.Curve != elliptic.P256() {
		return nil, errors.New("the signing key is not on P-256: make one with GenerateKey")
	}
	id, err := KeyID(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Signer{key: key, keyID: id}, nil
}

// Public gives the key that a Relying Party needs to check results.
func (s *Signer) Public() *ecdsa.PublicKey { return &s.key.PublicKey }

// Sign writes r as a compact JWT, "typ" "JWT", with the key's ID in the header.
func (s *Signer) Sign(r *AttestationResult) (string, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("cannot write the attestation result: %w", err)
	}
	if len(payload) > MaxClaimsSet {
		return "", fmt.Errorf("the attestation result is %d bytes long: at most %d are allowed", len(payload), MaxClaimsSet)
	}
	opts := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", s.keyID)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.key}, opts)
	if err != nil {
		return "", fmt.Errorf("cannot sign the attestation result: %w", err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("cannot sign the attestation result: %w", err)
	}
	return jws.CompactSerialize()
}

// KeyID is the RFC 7638 thumbprint (SHA-256, base64url) of a public key.
func KeyID(key crypto.PublicKey) (string, error) {
	jwk := jose.JSONWebKey{Key: key}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("no key ID for this key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// Expect is what a Relying Party demands of an Attestation Result.
type Expect struct {
	// Keys are the Verifiers trusted, on P-256 or P-384; at least one.
	Keys []*ecdsa.PublicKey
	// Issuer must be the result's, unless empty.
	Issuer string
	// Nonce must be the result's, unless nil.
	Nonce Nonce
	// Now is the time of the check; required.
	Now time.Time
	// MaxAge is the oldest that a result may be; 0 is no limit of one's own.
	MaxAge time.Duration
}

// Refusal is why an Attestation Result was not accepted.
type Refusal struct {
	Reason string // a word for machines: "signature", "expired", "nonce", "issuer", "not-yet", "malformed"
	Why    string // one sentence
}

// Error gives the sentence.
func (r *Refusal) Error() string { return r.Why }

func refuse(reason, format string, args ...any) error {
	return &Refusal{Reason: reason, Why: fmt.Sprintf(format, args...)}
}

// Verify checks a compact JWT's signature, then issuer, times and nonce, and
// gives the result inside. Errors about the token are of type *Refusal. Only
// ES256 and ES384 are accepted, never "none" or an HMAC.
func Verify(token string, e Expect) (*AttestationResult, error) {
	if len(e.Keys) == 0 || e.Now.IsZero() {
		return nil, errors.New("Verify needs the time and at least one verifier's key")
	}
	if len(token) > MaxToken {
		return nil, refuse("malformed", "the attestation result is longer than %d bytes", MaxToken)
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.ES384})
	if err != nil {
		return nil, refuse("malformed", "not a signed attestation result (a compact JWT with ES256 or ES384): %v", err)
	}
	payload, err := verifyAny(jws, e.Keys)
	if err != nil {
		return nil, err
	}
	r, err := ParseClaimsSet(payload)
	if err != nil {
		return nil, refuse("malformed", "%v", err)
	}
	return r, e.check(r)
}

func verifyAny(jws *jose.JSONWebSignature, keys []*ecdsa.PublicKey) ([]byte, error) {
	for _, k := range keys {
		if p, err := jws.Verify(k); err == nil {
			return p, nil
		}
	}
	return nil, refuse("signature", "the attestation result is not signed by a verifier that is trusted here (key ID %q): give that verifier's public key, or have the evidence appraised again",
		clip(jws.Signatures[0].Header.KeyID, 60))
}

func (e *Expect) check(r *AttestationResult) error {
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case e.Issuer != "" && r.Issuer != e.Issuer:
		return refuse("issuer", "the attestation result was issued by %q, not by %q", clip(r.Issuer, 80), e.Issuer)
	case !r.Expires.IsZero() && e.Now.After(r.Expires.Add(clockSkew)):
		return refuse("expired", "the attestation result expired at %s and it is %s: have the evidence appraised again", at(r.Expires), at(e.Now))
	case r.IssuedAt.After(e.Now.Add(clockSkew)):
		return refuse("not-yet", "the attestation result is dated %s and it is only %s: check the clocks", at(r.IssuedAt), at(e.Now))
	case e.MaxAge > 0 && e.Now.Sub(r.IssuedAt) > e.MaxAge+clockSkew:
		return refuse("expired", "the attestation result of %s is older than %s: have the evidence appraised again", at(r.IssuedAt), e.MaxAge)
	case e.Nonce != nil && !r.Nonce.Equal(e.Nonce):
		return refuse("nonce", "the attestation result answers the nonce %q, not %q: it may be a replay", r.Nonce, e.Nonce)
	}
	return nil
}

// BindKey gives the qualifying data under which an Attester quotes to bind a
// public key (SubjectPublicKeyInfo) of its own to its Evidence:
//
//	SHA-256("ashlar attester key 1" || 0x00 || u16(len(nonce)) || nonce || SHA-256(spki))
//
// The key is made where the quote is made and its private half never leaves
// that place, so what is encrypted to it can be read only by the software whose
// measurements the quote covers. Without a key the qualifying data is the nonce.
func BindKey(nonce Nonce, spki []byte) Nonce {
	if len(spki) == 0 {
		return nonce
	}
	key := sha256.Sum256(spki)
	h := sha256.New()
	h.Write([]byte("ashlar attester key 1\x00"))
	h.Write([]byte{byte(len(nonce) >> 8), byte(len(nonce))})
	h.Write(nonce)
	h.Write(key[:])
	return h.Sum(nil)
}

// ParseAttesterKey reads a key bound by BindKey: a SubjectPublicKeyInfo on
// P-256 or P-384.
func ParseAttesterKey(spki []byte) (*ecdsa.PublicKey, error) {
	k, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("the attester's key is not a SubjectPublicKeyInfo: %w", err)
	}
	ec, ok := k.(*ecdsa.PublicKey)
	if !ok || (ec.Curve != elliptic.P256() && ec.Curve != elliptic.P384()) {
		return nil, errors.New("the attester's key is not an elliptic key on P-256 or P-384")
	}
	return ec, nil
}
