package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Attributes of the keys in these tests.
const (
	usable       = tpm2.ObjUserWithAuth | tpm2.ObjNoDA | tpm2.ObjSensitiveDataOrigin
	signingKey   = usable | tpm2.ObjSign
	attestingKey = signingKey | tpm2.ObjRestricted
)

func rsaKey(attrs tpm2.ObjectAttributes, scheme tpm2.Scheme) tpm2.Public {
	return tpm2.Public{NameAlg: tpm2.AlgSHA256, Attributes: attrs, PublicParms: tpm2.PublicParms{
		Type: tpm2.AlgRSA, KeyBits: 2048, Symmetric: tpm2.SymDef{Alg: tpm2.AlgNull}, Scheme: scheme}}
}

func eccKey(attrs tpm2.ObjectAttributes, scheme tpm2.Scheme, curve tpm2.ECCCurve) tpm2.Public {
	return tpm2.Public{NameAlg: tpm2.AlgSHA256, Attributes: attrs, PublicParms: tpm2.PublicParms{
		Type: tpm2.AlgECC, Curve: curve, Symmetric: tpm2.SymDef{Alg: tpm2.AlgNull}, Scheme: scheme,
		KDF: tpm2.Scheme{Alg: tpm2.AlgNull}}}
}

func hmacKey(attrs tpm2.ObjectAttributes, scheme tpm2.Scheme) tpm2.Public {
	return tpm2.Public{NameAlg: tpm2.AlgSHA256, Attributes: attrs, PublicParms: tpm2.PublicParms{
		Type: tpm2.AlgKeyedHash, Scheme: scheme}}
}

func aesKey(attrs tpm2.ObjectAttributes, mode tpm2.AlgID) tpm2.Public {
	return cipherKey(attrs, tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: mode})
}

func cipherKey(attrs tpm2.ObjectAttributes, def tpm2.SymDef) tpm2.Public {
	return tpm2.Public{NameAlg: tpm2.AlgSHA256, Attributes: attrs, PublicParms: tpm2.PublicParms{
		Type: tpm2.AlgSymCipher, Symmetric: def}}
}

// schemeOf is a scheme with SHA-256.
func schemeOf(alg tpm2.AlgID) tpm2.Scheme {
	if alg == tpm2.AlgNull {
		return tpm2.Scheme{Alg: alg}
	}
	return tpm2.Scheme{Alg: alg, Hash: tpm2.AlgSHA256}
}

// addKey makes a key and puts it in the TPM, loaded, in a hierarchy.
func (r *rig) addKey(template tpm2.Public, hierarchy tpm2.Handle) tpm2.Handle {
	r.t.Helper()
	key, rc := crypt.CreateObject(&template, nil, nil, &crypt.Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		r.t.Fatal(rc)
	}
	name := key.Public.Name()
	h, rc := r.e.state.objects.Add(&object.Object{Key: key, Hierarchy: hierarchy, Name: name,
		QualifiedName: append(tpm2.Name{0, 11}, tpm2.AlgSHA256.Digest(u32(uint32(hierarchy)), name)...)})
	if rc != tpm2.RCSuccess {
		r.t.Fatal(rc)
	}
	return h
}

// noAuths is an authorization area of n empty passwords.
func noAuths(n int) (area []byte) {
	for range n {
		area = append(area, password("")...)
	}
	return area
}

// decode decodes exactly what is there.
func decode(t testing.TB, b []byte, list ...tpm2.Walker) {
	t.Helper()
	c := tpm2.NewDecoder(b)
	for _, w := range list {
		w.Walk(&c)
	}
	if c.RC() != tpm2.RCSuccess || c.Remaining() != 0 {
		t.Fatalf("%x does not decode: %v, %d bytes left", b, c.RC(), c.Remaining())
	}
}

// params is the parameters of a response with sessions, whose authorization
// area is dropped.
func params(t testing.TB, b []byte) []byte {
	t.Helper()
	c := tpm2.NewDecoder(b)
	var n uint32
	c.U32(&n)
	if c.RC() != tpm2.RCSuccess || int(n) > c.Remaining() {
		t.Fatalf("%x has no parameters", b)
	}
	return c.Rest()[:n]
}

// verify checks a signature with Go's own cryptography.
func verify(pub *tpm2.Public, sig *tpm2.Signature, digest []byte) bool {
	hash, ok := sig.Hash.Hash()
	if !ok {
		return false
	}
	switch sig.Alg {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(pub.Unique), E: 65537}
		if sig.Alg == tpm2.AlgRSASSA {
			return rsa.VerifyPKCS1v15(key, hash, digest, sig.RSA) == nil
		}
		return rsa.VerifyPSS(key, hash, digest, sig.RSA, nil) == nil
	case tpm2.AlgECDSA:
		curve := map[tpm2.ECCCurve]elliptic.Curve{tpm2.CurveP256: elliptic.P256(), tpm2.CurveP384: elliptic.P384()}[pub.Curve]
		point := bytes.Join([][]byte{{4}, pub.Point.X, pub.Point.Y}, nil)
		key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		return err == nil && ecdsa.Verify(key, digest, new(big.Int).SetBytes(sig.R), new(big.Int).SetBytes(sig.S))
	}
	return false
}

func digestOf(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// hmacOf is HMAC-SHA-256.
func hmacOf(key, data []byte) []byte {
	h := hmac.New(crypto.SHA256.New, key)
	h.Write(data)
	return h.Sum(nil)
}
