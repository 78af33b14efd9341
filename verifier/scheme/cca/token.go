package cca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha256" // the algorithms that a token may name
	_ "crypto/sha512"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/ashlar-cloud/ashlar/verifier/internal/cose"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/psa"
)

// Keys of the collection, and its tag.
const (
	tagCollection = 399
	keyPlatform   = 44234
	keyRealm      = 44241
)

// ProfileRealm is the profile of realm claims; older ones state none.
const ProfileRealm = "tag:arm.com,2023:realm#1.0.0"

// Token is a CCA attestation token.
type Token struct {
	Platform, Realm *cose.Message
	PlatformClaims  *psa.Claims
	RealmClaims     *RealmClaims
}

// RealmClaims are what the Realm's manager says (A7.2.4).
type RealmClaims struct {
	Profile         string   `cbor:"265,keyasint,omitempty"`
	Challenge       []byte   `cbor:"10,keyasint"`    // 64 bytes
	Personalization []byte   `cbor:"44235,keyasint"` // 64 bytes, chosen by the Realm's host
	Initial         []byte   `cbor:"44238,keyasint"` // RIM: 32, 48 or 64 bytes
	Extensible      [][]byte `cbor:"44239,keyasint"` // REM 0 to 3, of the same size
	Hash            string   `cbor:"44236,keyasint"` // of the measurements: "sha-256"
	PublicKey       []byte   `cbor:"44237,keyasint"` // RAK: a point of P-384, or a COSE_Key
	PublicKeyHash   string   `cbor:"44240,keyasint"` // which digest of it the platform signs
}

// ParseToken decodes a token strictly.
func ParseToken(b []byte) (*Token, error) {
	if len(b) > psa.MaxToken {
		return nil, fmt.Errorf("it is %d bytes long: at most %d are read", len(b), psa.MaxToken)
	}
	var tagged cbor.RawTag
	if err := cose.Unmarshal(b, &tagged); err != nil {
		return nil, fmt.Errorf("it is no CCA token: %w", err)
	}
	if tagged.Number != tagCollection {
		return nil, fmt.Errorf("it is no CCA token: its tag is %d, and %d is expected", tagged.Number, tagCollection)
	}
	var parts map[int64][]byte
	if err := cose.Unmarshal(tagged.Content, &parts); err != nil {
		return nil, fmt.Errorf("the CCA token is no collection of two tokens: %w", err)
	}
	if keys := slices.Sorted(maps.Keys(parts)); !slices.Equal(keys, []int64{keyPlatform, keyRealm}) {
		return nil, fmt.Errorf("the CCA token has the parts %v: %d (platform) and %d (realm) are expected", keys, keyPlatform, keyRealm)
	}
	t := &Token{}
	var err error
	if t.Platform, err = cose.Parse(parts[keyPlatform]); err != nil {
		return nil, fmt.Errorf("platform token: %w", err)
	}
	if t.Realm, err = cose.Parse(parts[keyRealm]); err != nil {
		return nil, fmt.Errorf("realm token: %w", err)
	}
	if t.PlatformClaims, err = psa.ParseClaims(t.Platform.Payload); err != nil {
		return nil, fmt.Errorf("platform token: %w", err)
	}
	if t.PlatformClaims.HashAlgorithm == "" {
		return nil, fmt.Errorf("platform token: its profile %q is none of CCA", t.PlatformClaims.Profile)
	}
	t.RealmClaims = &RealmClaims{}
	if err := cose.Unmarshal(t.Realm.Payload, t.RealmClaims); err != nil {
		return nil, fmt.Errorf("the realm token's claims are malformed: %w", err)
	}
	return t, t.RealmClaims.check()
}

func (c *RealmClaims) check() error {
	if c.Profile != "" && c.Profile != ProfileRealm {
		return fmt.Errorf("the realm token's profile %.80q is not one that is known here", c.Profile)
	}
	if len(c.Challenge) != 64 || len(c.Personalization) != 64 {
		return fmt.Errorf("the realm token's challenge and personalization value have %d and %d bytes: 64 are expected", len(c.Challenge), len(c.Personalization))
	}
	s := len(c.Initial)
	if s != 32 && s != 48 && s != 64 {
		return fmt.Errorf("the realm token's initial measurement has %d bytes: 32, 48 or 64 are allowed", s)
	}
	if len(c.Extensible) != 4 {
		return fmt.Errorf("the realm token has %d extensible measurements: 4 are expected", len(c.Extensible))
	}
	for i, m := range c.Extensible {
		if len(m) != s {
			return fmt.Errorf("the realm token's extensible measurement %d has %d bytes, and the initial one %d", i, len(m), s)
		}
	}
	if len(c.Hash) > 64 {
		return errors.New("the realm token's hash algorithm is no name")
	}
	return nil
}

// Key gives the Realm Attestation Key.
func (c *RealmClaims) Key() (*ecdsa.PublicKey, error) {
	if len(c.PublicKey) == 97 && c.PublicKey[0] == 4 {
		k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), c.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("the realm's key is no point of P-384: %w", err)
		}
		return k, nil
	}
	public, err := cose.Key(c.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("the realm's key is neither a point of P-384 nor a COSE_Key: %w", err)
	}
	if ec, ok := public.(*ecdsa.PublicKey); ok {
		return ec, nil
	}
	return nil, errors.New("the realm's key is not one of an elliptic curve")
}

// bound tells whether the platform's challenge is the digest of the realm's key,
// which is what makes the two tokens one.
func (t *Token) bound() error {
	alg := map[string]crypto.Hash{"sha-256": crypto.SHA256, "sha-384": crypto.SHA384, "sha-512": crypto.SHA512}[t.RealmClaims.PublicKeyHash]
	if alg == 0 {
		return fmt.Errorf("the realm token names the hash algorithm %.40q for its key: sha-256, sha-384 and sha-512 are known", t.RealmClaims.PublicKeyHash)
	}
	h := alg.New()
	h.Write(t.RealmClaims.PublicKey)
	if !bytes.Equal(h.Sum(nil), t.PlatformClaims.Nonce) {
		return errors.New("the platform's token is about another realm manager's key: the two tokens do not belong together")
	}
	return nil
}
