package rats

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// MaxKeyFile is the most bytes of a key that ParsePublicKey and ParsePrivateKey read.
const MaxKeyFile = 64 << 10

// GenerateKey makes an ES256 key (P-256).
func GenerateKey() (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	return k, nil
}

// MarshalPrivateKey gives the key as PKCS #8 in PEM, and its public half as
// SubjectPublicKeyInfo in PEM.
func MarshalPrivateKey(k *ecdsa.PrivateKey) (private, public []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot write the key: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot write the public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}), nil
}

var errNoECKey = errors.New("not an elliptic key on P-256 or P-384 in PEM or JWK form")

// ParsePrivateKey reads an elliptic private key in PEM (PKCS #8 or SEC 1) or as
// a JWK.
func ParsePrivateKey(b []byte) (*ecdsa.PrivateKey, error) {
	k, err := parseKey(b, func(der []byte) any {
		if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
			return k
		}
		k, _ := x509.ParseECPrivateKey(der)
		return k
	})
	if ec, ok := k.(*ecdsa.PrivateKey); ok && ec != nil && err == nil {
		return ec, nil
	}
	return nil, errNoECKey
}

// ParsePublicKey reads an elliptic public key in PEM (SubjectPublicKeyInfo) or
// as a JWK.
func ParsePublicKey(b []byte) (*ecdsa.PublicKey, error) {
	k, err := parseKey(b, func(der []byte) any {
		k, _ := x509.ParsePKIXPublicKey(der)
		return k
	})
	if ec, ok := k.(*ecdsa.PublicKey); ok && ec != nil && err == nil && ec.Curve != elliptic.P224() {
		return ec, nil
	}
	return nil, errNoECKey
}

func parseKey(b []byte, fromDER func([]byte) any) (any, error) {
	if len(b) > MaxKeyFile {
		return nil, errNoECKey
	}
	if strings.HasPrefix(strings.TrimSpace(string(b)), "{") {
		var jwk jose.JSONWebKey
		if err := jwk.UnmarshalJSON(b); err != nil {
			return nil, errNoECKey
		}
		return jwk.Key, nil
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errNoECKey
	}
	return fromDER(block.Bytes), nil
}
