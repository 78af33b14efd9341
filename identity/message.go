package identity

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// The three files of an activation, JSON with bytes in base64. The attester
// writes a Document, the verifier answers with a ChallengeMessage and keeps a
// ChallengeState, and the attester's evidence carries the secret back.
const (
	DocumentFormat       = "ashlar-tpm-identity"
	ChallengeFormat      = "ashlar-tpm-challenge"
	ChallengeStateFormat = "ashlar-tpm-challenge-state"
	messageVersion       = 1
	// MaxMessage is the most bytes of each.
	MaxMessage = 1 << 20
	// ChallengeLifetime is how long after it was made a challenge is accepted.
	ChallengeLifetime = 15 * time.Minute
)

// Document says which keys an attester has; nothing in it is proven yet.
type Document struct {
	Format         string   `json:"format"`
	Version        int      `json:"version"`
	EKPublic       []byte   `json:"ekPublic"`                 // TPM2B_PUBLIC
	EKCertificates [][]byte `json:"ekCertificates,omitempty"` // DER
	AKPublic       []byte   `json:"akPublic"`                 // TPM2B_PUBLIC
}

// NewDocument makes a Document of encoded public areas.
func NewDocument(ek, ak []byte, certs [][]byte) *Document {
	return &Document{Format: DocumentFormat, Version: messageVersion, EKPublic: ek, AKPublic: ak, EKCertificates: certs}
}

// ChallengeMessage goes to the attester: no secret in it can be read without
// its TPM.
type ChallengeMessage struct {
	Format     string     `json:"format"`
	Version    int        `json:"version"`
	Nonce      string     `json:"nonce"` // hexadecimal
	AKName     string     `json:"akName"`
	Credential Credential `json:"credential"`
}

// ChallengeState stays with the verifier; it holds the secret in clear, so its
// file must be readable to the verifier alone.
type ChallengeState struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Created time.Time `json:"created"`
	Nonce   string    `json:"nonce"`
	Secret  []byte    `json:"secret"`
	EKName  string    `json:"ekName"`
	AKName  string    `json:"akName"`
}

// decode reads one of the messages, holding it to size, format and version.
func decode(b []byte, into any, format string, got *string, version *int) error {
	if len(b) > MaxMessage {
		return fmt.Errorf("the file is longer than %d bytes", MaxMessage)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("the file is not JSON, it is cut or altered: %w", err)
	}
	if *got != format || *version != messageVersion {
		return fmt.Errorf("the file is of format %.40q version %d: %q version %d is read here", *got, *version, format, messageVersion)
	}
	return nil
}

// ParseDocument reads a Document and gives its keys.
func ParseDocument(b []byte) (doc *Document, ek, ak *tpm2.Public, err error) {
	doc = &Document{}
	if err := decode(b, doc, DocumentFormat, &doc.Format, &doc.Version); err != nil {
		return nil, nil, nil, err
	}
	if ek, err = ParsePublic(doc.EKPublic); err != nil {
		return nil, nil, nil, fmt.Errorf("the endorsement key: %w", err)
	}
	if ak, err = ParsePublic(doc.AKPublic); err != nil {
		return nil, nil, nil, fmt.Errorf("the attestation key: %w", err)
	}
	return doc, ek, ak, nil
}

// Issue makes a challenge for the keys of a Document.
func Issue(ek, ak *tpm2.Public, nonce rats.Nonce, now time.Time) (*ChallengeMessage, *ChallengeState, error) {
	c, cred, err := NewChallenge(ek, ak)
	if err != nil {
		return nil, nil, err
	}
	m := &ChallengeMessage{Format: ChallengeFormat, Version: messageVersion, Nonce: nonce.String(),
		AKName: hex.EncodeToString(c.AKName), Credential: *cred}
	s := &ChallengeState{Format: ChallengeStateFormat, Version: messageVersion, Created: now.UTC(), Nonce: nonce.String(),
		Secret: c.Secret, EKName: hex.EncodeToString(c.EKName), AKName: hex.EncodeToString(c.AKName)}
	return m, s, nil
}

// ParseChallenge reads a ChallengeMessage.
func ParseChallenge(b []byte) (*ChallengeMessage, rats.Nonce, error) {
	var m ChallengeMessage
	if err := decode(b, &m, ChallengeFormat, &m.Format, &m.Version); err != nil {
		return nil, nil, err
	}
	nonce, err := rats.ParseNonce(m.Nonce)
	if err != nil {
		return nil, nil, err
	}
	if len(m.Credential.Blob) == 0 || len(m.Credential.Secret) == 0 {
		return nil, nil, errors.New("the challenge has no credential in it")
	}
	return &m, nonce, nil
}

// ParseChallengeState reads a ChallengeState and gives the Challenge to compare
// with, unless it is older than ChallengeLifetime.
func ParseChallengeState(b []byte, now time.Time) (*Challenge, rats.Nonce, error) {
	var s ChallengeState
	if err := decode(b, &s, ChallengeStateFormat, &s.Format, &s.Version); err != nil {
		return nil, nil, err
	}
	nonce, err := rats.ParseNonce(s.Nonce)
	if err != nil {
		return nil, nil, err
	}
	ek, err1 := hex.DecodeString(s.EKName)
	ak, err2 := hex.DecodeString(s.AKName)
	if err1 != nil || err2 != nil || len(s.Secret) != SecretSize {
		return nil, nil, errors.New("the challenge's state is altered: its Names or its secret cannot be read")
	}
	if now.Sub(s.Created) > ChallengeLifetime || s.Created.Sub(now) > time.Minute {
		return nil, nil, fmt.Errorf("the challenge was made at %s and is accepted for %s: make a new one", s.Created.Format(time.RFC3339), ChallengeLifetime)
	}
	return &Challenge{Secret: s.Secret, EKName: ek, AKName: ak}, nonce, nil
}
