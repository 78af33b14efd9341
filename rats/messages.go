package rats

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// Limits on nonces, in bytes. A TPM carries at most the size of a digest as
// qualifying data (TPM2B_DATA, Part 2, 10.4.3); EAT allows 8 to 64 (RFC 9711, 4.1).
const (
	MaxNonce = 64
	// NewNonceSize is the size of the nonces that NewNonce makes.
	NewNonceSize = 32
)

// Nonce makes Evidence fresh: the Verifier (or Relying Party) chooses it, the
// Attester signs it (RFC 9334, 10.2).
type Nonce []byte

// NewNonce draws a nonce of NewNonceSize bytes from r, crypto/rand if r is nil.
func NewNonce(r io.Reader) (Nonce, error) {
	if r == nil {
		r = rand.Reader
	}
	n := make(Nonce, NewNonceSize)
	if _, err := io.ReadFull(r, n); err != nil {
		return nil, fmt.Errorf("cannot draw a nonce: %w", err)
	}
	return n, nil
}

// ParseNonce reads a nonce in hexadecimal; the empty string is the empty nonce.
func ParseNonce(s string) (Nonce, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("nonce %q is not hexadecimal: give an even number of the digits 0-9 a-f", clip(s, 80))
	}
	if len(b) > MaxNonce {
		return nil, fmt.Errorf("nonce is %d bytes long: at most %d are allowed", len(b), MaxNonce)
	}
	return b, nil
}

// String gives the nonce in hexadecimal.
func (n Nonce) String() string { return hex.EncodeToString(n) }

// Equal tells whether two nonces are the same. A nonce is no secret.
func (n Nonce) Equal(m Nonce) bool { return bytes.Equal(n, m) }

// MediaType says how the bytes of a conceptual message are to be read
// (RFC 9334, 8; the "type" of a CMW record).
type MediaType string

// TypePSA is a PSA attestation token (RFC 9783, 8.2).
const TypePSA MediaType = "application/psa-attestation-token"

// Media types of Evidence that has none registered.
const (
	// TypeNitro is an attestation document of an AWS Nitro Enclave.
	TypeNitro MediaType = "application/vnd.aws.nitro-attestation-document+cbor"
	// TypeCCA is a CCA attestation token: a CBOR collection of two COSE messages.
	TypeCCA MediaType = "application/eat-collection; profile=http://arm.com/CCA-SSD/1.0.0"
)

// Media types of this project's own files.
const (
	// TypeTPMEvidence is a bundle as `ashlar evidence collect` writes it.
	TypeTPMEvidence MediaType = "application/vnd.ashlar.tpm-evidence+json"
	// TypeReferenceValues is a file as `ashlar refvalues make` writes it.
	TypeReferenceValues MediaType = "application/vnd.ashlar.reference-values+json"
	// TypeCertificate is one X.509 certificate in DER (RFC 2585, 4.1).
	TypeCertificate MediaType = "application/pkix-cert"
	// TypePublicKey is a SubjectPublicKeyInfo in DER.
	TypePublicKey MediaType = "application/vnd.ashlar.spki"
)

// Evidence is a set of claims that an Attester makes about itself, as conveyed
// (RFC 9334, 8.1).
type Evidence struct {
	Type MediaType
	Data []byte
}

// Endorsement is a statement by an Endorser that vouches for an Attester, such
// as the certificate of a TPM's Endorsement Key or the CA that issued it
// (RFC 9334, 8.2).
type Endorsement struct {
	Type MediaType
	Data []byte
}

// ReferenceValue is a set of values that a Reference Value Provider says are
// good, which a Verifier compares with Evidence (RFC 9334, 8.3).
type ReferenceValue struct {
	Type MediaType
	Data []byte
}

// AttestationResult is what a Verifier says about an Attester (RFC 9334, 8.4):
// the claims set of an EAR.
type AttestationResult struct {
	// Profile names the dialect; Sign fills in ProfileDeployed if empty.
	Profile string
	// Issuer is the Verifier's name ("iss"); may be empty.
	Issuer string
	// ID tells one result from another ("jti"); may be empty.
	ID string
	// IssuedAt and Expires are to the second; a zero Expires is "does not say".
	IssuedAt, Expires time.Time
	Verifier          VerifierID
	// Nonce is the one that the Evidence was made under ("eat_nonce"). One
	// shorter than 6 bytes cannot be carried (RFC 9711, 4.1) and is left out.
	Nonce Nonce
	// RawEvidence is the Evidence appraised, as is; usually left out.
	RawEvidence []byte
	// Submods has one appraisal for each Attester, by name; at least one.
	Submods map[string]Appraisal
	// Extensions are top-level claims that this package does not know.
	Extensions Extensions
}

// VerifierID says what software appraised (AR4SI, 3.3).
type VerifierID struct {
	Developer string `json:"developer"`
	Build     string `json:"build"`
}

// Appraisal is the result for one Attester or one of its parts (EAR-appraisal).
type Appraisal struct {
	Status Tier
	Vector Vector
	// PolicyIDs name the appraisal policies and reference values used.
	PolicyIDs []string
	// Claims is the "ashlar.claims" extension.
	Claims []Claim
	// AttesterKey is a public key (SubjectPublicKeyInfo) that the Evidence
	// proves to be the Attester's; carried as "ear.veraison.key-attestation".
	AttesterKey []byte
	Extensions  Extensions
}

// ClaimStatus says how one claim fared.
type ClaimStatus string

// The three ways a claim can fare. A claim that could not be examined is never
// counted as one that holds.
const (
	Holds     ClaimStatus = "holds"
	Fails     ClaimStatus = "fails"
	Unchecked ClaimStatus = "unchecked"
)

// Claim is one thing that the Verifier examined: an event, a file, a signature.
type Claim struct {
	// Name says in a few words what was claimed: "quote signature".
	Name   string      `json:"claim"`
	Status ClaimStatus `json:"status"`
	// Expected and Found are in words or hexadecimal; either may be empty.
	Expected string `json:"expected,omitempty"`
	Found    string `json:"found,omitempty"`
	// Why is one sentence for a person, given for each claim that does not hold.
	Why string `json:"why,omitempty"`
}

// Failed gives the claims with status Fails.
func (a Appraisal) Failed() []Claim {
	var failed []Claim
	for _, c := range a.Claims {
		if c.Status == Fails {
			failed = append(failed, c)
		}
	}
	return failed
}

// Status is the worst status among the submodules, which is what a Relying
// Party acts on; TierNone without any.
func (r *AttestationResult) Status() Tier {
	worst, seen := TierNone, false
	for _, s := range r.Submods {
		if !seen || s.Status.worseThan(worst) {
			worst, seen = s.Status, true
		}
	}
	return worst
}

// ReadLimited reads all of r, at most max bytes; more is an error that names what.
func ReadLimited(r io.Reader, max int64, what string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", what, err)
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("%s is longer than %d bytes, the most that is read", what, max)
	}
	return b, nil
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
