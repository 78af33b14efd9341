package crypt

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"math/big"
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
	zero := make([]byte, 128)
	ecc := RestoreKey(&tpm2.Public{
		PublicParms: tpm2.PublicParms{Type: tpm2.AlgECC, Curve: tpm2.CurveP256}, NameAlg: tpm2.AlgSHA256,
	}, &tpm2.Sensitive{Type: tpm2.AlgECC, Sensitive: zero[:32]})
	rsa := RestoreKey(&tpm2.Public{
		PublicParms: tpm2.PublicParms{Type: tpm2.AlgRSA, KeyBits: 2048}, NameAlg: tpm2.AlgSHA256,
		Unique: make([]byte, 256), Attributes: tpm2.ObjDecrypt,
	}, &tpm2.Sensitive{Type: tpm2.AlgRSA, Sensitive: zero})
	scheme := func(alg tpm2.AlgID) tpm2.SigScheme { return tpm2.SigScheme{Alg: alg, Hash: tpm2.AlgSHA256} }
	uses := map[string]func() tpm2.RC{
		"ECDSA": func() tpm2.RC { _, rc := SignDigest(ecc, scheme(tpm2.AlgECDSA), zero[:32], rand.Reader); return rc },
		"verify": func() tpm2.RC {
			return VerifySignature(ecc, zero[:32], &tpm2.Signature{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256})
		},
		"ECDH":    func() tpm2.RC { _, rc := Multiply(ecc, tpm2.ECCPoint{}); return rc },
		"RSASSA":  func() tpm2.RC { _, rc := SignDigest(rsa, scheme(tpm2.AlgRSASSA), zero[:32], rand.Reader); return rc },
		"encrypt": func() tpm2.RC { _, _, rc := SecretEncrypt(rsa, LabelSecret, rand.Reader); return rc },
		"decrypt": func() tpm2.RC {
			_, rc := RSADecrypt(rsa, tpm2.RSADecryptScheme{Alg: tpm2.AlgNull}, nil, make([]byte, 256))
			return rc
		},
	}
	for name, use := range uses {
		if rc := use(); rc != tpm2.RCFailure {
			t.Errorf("%s: %v, want TPM_RC_FAILURE", name, rc)
		}
	}
}

// TestRSAOfCompositesLoads: factors that are no primes pass a load, whose
// checks are cheap, and fail every use.
func TestRSAOfCompositesLoads(t *testing.T) {
	half := func() *big.Int {
		p, err := rand.Prime(rand.Reader, 512)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var p, n *big.Int
	for n == nil || n.BitLen() != 2048 {
		shared := half()
		p = new(big.Int).Mul(shared, half())
		n = new(big.Int).Mul(p, new(big.Int).Mul(shared, half()))
	}
	pub := ekRSA(t)
	pub.Attributes, pub.Unique = tpm2.ObjDecrypt, n.Bytes()
	k, rc := NewKey(&pub, &tpm2.Sensitive{Type: tpm2.AlgRSA, Sensitive: p.Bytes()}, 2, 1)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	digest := make([]byte, 32)
	scheme := tpm2.SigScheme{Alg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA256}
	if _, rc := SignDigest(k, scheme, digest, rand.Reader); rc != tpm2.RCFailure {
		t.Errorf("signing: %v", rc)
	}
	if _, rc := RSADecrypt(k, tpm2.RSADecryptScheme{Alg: tpm2.AlgNull}, nil, make([]byte, 256)); rc != tpm2.RCFailure {
		t.Errorf("decrypting: %v", rc)
	}
}
