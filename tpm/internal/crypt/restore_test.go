package crypt

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestRestoreKey uses a restored key first in every way that there is.
func TestRestoreKey(t *testing.T) {
	digest := sha256.Sum256([]byte("data"))
	for _, public := range []tpm2.Public{
		{PublicParms: tpm2.PublicParms{Type: tpm2.AlgRSA, KeyBits: 2048}},
		{PublicParms: tpm2.PublicParms{Type: tpm2.AlgECC, Curve: tpm2.CurveP256}},
	} {
		public.NameAlg = tpm2.AlgSHA256
		public.Scheme.Alg, public.KDF.Alg, public.Symmetric.Alg = tpm2.AlgNull, tpm2.AlgNull, tpm2.AlgNull
		public.Attributes = tpm2.ObjSign | tpm2.ObjDecrypt | tpm2.ObjSensitiveDataOrigin
		made := newTestKey(t, public)
		restored := func() *Key { return RestoreKey(&made.Public, made.Sensitive) }
		scheme := tpm2.SigScheme{Alg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA256}
		if public.Type == tpm2.AlgECC {
			scheme.Alg = tpm2.AlgECDSA
		}
		sig, rc := SignDigest(restored(), scheme, digest[:], rand.Reader)
		if rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		if rc := VerifySignature(RestoreKey(&made.Public, nil), digest[:], &sig); rc != tpm2.RCSuccess {
			t.Error(rc)
		}
		seed, secret, rc := SecretEncrypt(restored(), LabelIdentity, rand.Reader)
		if rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		if got, rc := SecretDecrypt(restored(), LabelIdentity, nil, secret); rc != tpm2.RCSuccess || !bytes.Equal(got, seed) {
			t.Error(rc, got)
		}
	}
}

func TestRestoreKeyDoesNotUseWhatIsNoKey(t *testing.T) {
	public := tpm2.Public{PublicParms: tpm2.PublicParms{Type: tpm2.AlgECC, Curve: tpm2.CurveP256}, NameAlg: tpm2.AlgSHA256}
	k := RestoreKey(&public, &tpm2.Sensitive{Type: tpm2.AlgECC, Sensitive: make([]byte, 32)})
	defer func() {
		if recover() == nil {
			t.Error("a scalar of zero signs")
		}
	}()
	SignDigest(k, tpm2.SigScheme{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256}, make([]byte, 32), rand.Reader)
}
