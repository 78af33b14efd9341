// Package softcose is for tests: it signs COSE messages as an attester would.
package softcose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/fxamacker/cbor/v2"
	gocose "github.com/veraison/go-cose"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// Key draws a key of a curve.
func Key(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Encode writes a value in CBOR.
func Encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Sign makes a COSE_Sign1 message, with its tag, of a payload.
func Sign(t testing.TB, key *ecdsa.PrivateKey, payload []byte) []byte {
	t.Helper()
	alg := gocose.AlgorithmES256
	if key.Curve == elliptic.P384() {
		alg = gocose.AlgorithmES384
	}
	signer, err := gocose.NewSigner(alg, key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := gocose.Sign1(rand.Reader, signer, gocose.Headers{Protected: gocose.ProtectedHeader{gocose.HeaderLabelAlgorithm: alg}}, payload, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Public gives the public half as a file that a person would give.
func Public(t testing.TB, key *ecdsa.PrivateKey) scheme.File {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return scheme.File{Name: "public.pem", Data: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}
