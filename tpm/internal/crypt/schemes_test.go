package crypt

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// brokenRandom is a source of randomness that has failed.
type brokenRandom struct{}

func (brokenRandom) Read([]byte) (int, error) { return 0, errors.New("no entropy") }

func signingKeys(t *testing.T) map[string]*Key {
	null := tpm2.Scheme{Alg: tpm2.AlgNull}
	return map[string]*Key{
		"rsa2048": newTestKey(t, signing(ekRSA(t), tpm2.AlgNull, 0)),
		"p256":    newTestKey(t, signing(ekECC(t), tpm2.AlgNull, 0)),
		"p384":    newTestKey(t, signing(storage(tpm2.AlgECC, 0, tpm2.CurveP384, tpm2.AlgSHA384, 128), tpm2.AlgNull, 0)),
		"hmac":    newTestKey(t, keyedHash(attrsPrimary|tpm2.ObjSign, null)),
	}
}

func TestSignAndVerify(t *testing.T) {
	keys := signingKeys(t)
	hashes := tpm2.HashAlgs()
	for _, c := range []struct {
		key    string
		scheme tpm2.AlgID
	}{
		{"rsa2048", tpm2.AlgRSASSA}, {"rsa2048", tpm2.AlgRSAPSS},
		{"p256", tpm2.AlgECDSA}, {"p384", tpm2.AlgECDSA}, {"hmac", tpm2.AlgHMAC},
	} {
		for _, hash := range hashes {
			key := keys[c.key]
			digest := hash.Digest([]byte("message"))
			scheme, rc := SelectSignScheme(key, tpm2.SigScheme{Alg: c.scheme, Hash: hash})
			must(t, rc)
			sig, rc := SignDigest(key, scheme, digest, rand.Reader)
			if rc != tpm2.RCSuccess {
				t.Errorf("%s %v %v: %v", c.key, c.scheme, hash, rc)
				continue
			}
			checkSignature(t, key, digest, sig)
		}
	}
}

// checkSignature sends a signature through its wire form, and verifies it with
// the whole key and with the public area alone.
func checkSignature(t *testing.T, key *Key, digest []byte, sig tpm2.Signature) {
	t.Helper()
	var parsed tpm2.Signature
	if err := tpm2.Unmarshal(tpm2.Marshal(&sig), &parsed); err != nil {
		t.Fatal(err)
	}
	if rc := VerifySignature(key, digest, &parsed); rc != tpm2.RCSuccess {
		t.Errorf("%v %v: %v", sig.Alg, sig.Hash, rc)
	}
	public, rc := NewKey(&key.Public, nil, 0, 0)
	must(t, rc)
	want := tpm2.RCSuccess
	if sig.Alg == tpm2.AlgHMAC {
		want = tpm2.RCHandle
	}
	if rc := VerifySignature(public, digest, &parsed); rc != want {
		t.Errorf("%v %v with the public area: %v, want %v", sig.Alg, sig.Hash, rc, want)
	}
	other := bytes.Clone(digest)
	other[0] ^= 0x10
	if rc := VerifySignature(key, other, &parsed); rc != tpm2.RCSignature {
		t.Errorf("%v %v over another digest: %v", sig.Alg, sig.Hash, rc)
	}
	for _, b := range [][]byte{parsed.RSA, parsed.R, parsed.S, parsed.HMAC} {
		if len(b) == 0 {
			continue
		}
		b[len(b)-1] ^= 1
		if rc := VerifySignature(key, digest, &parsed); rc != tpm2.RCSignature {
			t.Errorf("%v %v altered: %v, want TPM_RC_SIGNATURE", sig.Alg, sig.Hash, rc)
		}
		b[len(b)-1] ^= 1
	}
}

func TestPSSSalts(t *testing.T) {
	key := newTestKey(t, signing(ekRSA(t), tpm2.AlgRSAPSS, tpm2.AlgSHA256))
	digest := tpm2.AlgSHA256.Digest([]byte("message"))
	sig, rc := SignDigest(key, tpm2.SigScheme(key.Public.Scheme), digest, rand.Reader)
	must(t, rc)
	opts := &rsa.PSSOptions{SaltLength: 32}
	if err := rsa.VerifyPSS(key.rsaPublic, crypto.SHA256, digest, sig.RSA, opts); err != nil {
		t.Errorf("a salt of the digest's length: %v", err)
	}
	// libtpms 0.9 uses the longest salt that fits.
	for _, salt := range []int{20, 222} {
		made, err := rsa.SignPSS(rand.Reader, key.rsa.key, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		foreign := tpm2.Signature{Alg: tpm2.AlgRSAPSS, Hash: tpm2.AlgSHA256, RSA: made}
		if rc := VerifySignature(key, digest, &foreign); rc != tpm2.RCSuccess {
			t.Errorf("a salt of %d bytes: %v", salt, rc)
		}
	}
}

func TestSelectSignScheme(t *testing.T) {
	rsaKey := &Key{Public: signing(ekRSA(t), tpm2.AlgRSASSA, tpm2.AlgSHA256)}
	free := &Key{Public: signing(ekRSA(t), tpm2.AlgNull, 0)}
	sym := &Key{Public: primaryCases(t)[17].public}
	null := tpm2.SigScheme{Alg: tpm2.AlgNull}
	ssa := tpm2.SigScheme{Alg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA256}
	pss := tpm2.SigScheme{Alg: tpm2.AlgRSAPSS, Hash: tpm2.AlgSHA256}
	for _, c := range []struct {
		name string
		key  *Key
		want tpm2.SigScheme
		got  tpm2.SigScheme
		rc   tpm2.RC
	}{
		{"the key's own", rsaKey, null, ssa, tpm2.RCSuccess},
		{"the same", rsaKey, ssa, ssa, tpm2.RCSuccess},
		{"another", rsaKey, pss, pss, tpm2.RCScheme},
		{"another hash", rsaKey, tpm2.SigScheme{Alg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA1}, null, tpm2.RCScheme},
		{"free key", free, pss, pss, tpm2.RCSuccess},
		{"none at all", free, null, null, tpm2.RCScheme},
		{"of another type", free, tpm2.SigScheme{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256}, null, tpm2.RCScheme},
		{"no hash", free, tpm2.SigScheme{Alg: tpm2.AlgRSASSA, Hash: tpm2.AlgNull}, null, tpm2.RCScheme},
		{"not supported", free, tpm2.SigScheme{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256}, null, tpm2.RCScheme},
		{"symmetric key", sym, null, null, tpm2.RCScheme},
	} {
		got, rc := SelectSignScheme(c.key, c.want)
		if rc != c.rc || rc == tpm2.RCSuccess && got != c.got {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, got, rc, c.got, c.rc)
		}
	}
}

func TestSignRefusals(t *testing.T) {
	keys := signingKeys(t)
	digest := make([]byte, 32)
	sha256 := func(alg tpm2.AlgID) tpm2.SigScheme { return tpm2.SigScheme{Alg: alg, Hash: tpm2.AlgSHA256} }
	for _, c := range []struct {
		name   string
		key    *Key
		scheme tpm2.SigScheme
		digest []byte
		random io.Reader
		want   tpm2.RC
	}{
		{"no key", nil, sha256(tpm2.AlgRSASSA), digest, nil, tpm2.RCSuccess},
		{"null scheme", keys["p256"], tpm2.SigScheme{Alg: tpm2.AlgNull}, digest, nil, tpm2.RCSuccess},
		{"ECDSA with RSA", keys["rsa2048"], sha256(tpm2.AlgECDSA), digest, rand.Reader, tpm2.RCScheme},
		{"SM3", keys["rsa2048"], tpm2.SigScheme{Alg: tpm2.AlgRSASSA, Hash: tpm2.AlgSM3256}, digest, rand.Reader, tpm2.RCScheme},
		{"short digest", keys["rsa2048"], sha256(tpm2.AlgRSASSA), digest[1:], rand.Reader, tpm2.RCValue},
		{"public only", &Key{Public: keys["rsa2048"].Public}, sha256(tpm2.AlgRSASSA), digest, rand.Reader, tpm2.RCScheme},
		{"no entropy", keys["rsa2048"], sha256(tpm2.AlgRSAPSS), digest, brokenRandom{}, tpm2.RCNoResult},
	} {
		sig, rc := SignDigest(c.key, c.scheme, c.digest, c.random)
		if rc != c.want {
			t.Errorf("%s: %v, want %v", c.name, rc, c.want)
		}
		if rc == tpm2.RCSuccess && sig.Alg != tpm2.AlgNull {
			t.Errorf("%s: signed with %v", c.name, sig.Alg)
		}
	}
	null := tpm2.Signature{Alg: tpm2.AlgNull}
	if rc := VerifySignature(keys["p256"], digest, &null); rc != tpm2.RCSignature {
		t.Errorf("the null signature: %v", rc)
	}
	ecdaa := tpm2.Signature{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256}
	if rc := VerifySignature(keys["p256"], digest, &ecdaa); rc != tpm2.RCScheme {
		t.Errorf("an ECDAA signature: %v", rc)
	}
}

func TestRSAEncryptDecrypt(t *testing.T) {
	key := newTestKey(t, signing(ekRSA(t), tpm2.AlgNull, 0))
	label := []byte("label\x00")
	hashes := tpm2.HashAlgs()
	schemes := []tpm2.RSADecryptScheme{{Alg: tpm2.AlgNull}, {Alg: tpm2.AlgRSAES}}
	for _, h := range hashes {
		schemes = append(schemes, tpm2.RSADecryptScheme{Alg: tpm2.AlgOAEP, Hash: h})
	}
	for _, s := range schemes {
		limit := map[tpm2.AlgID]int{
			tpm2.AlgNull: 256, tpm2.AlgRSAES: 245, tpm2.AlgOAEP: 254 - 2*s.Hash.DigestSize(),
		}[s.Alg]
		for _, n := range []int{0, 1, limit, limit + 1} {
			message := bytes.Repeat([]byte{1}, n)
			out, rc := RSAEncrypt(key, s, label, message, rand.Reader)
			if n > limit {
				if rc != tpm2.RCValue {
					t.Errorf("%v of %d bytes: %v, want TPM_RC_VALUE", s, n, rc)
				}
				continue
			}
			must(t, rc)
			back, rc := RSADecrypt(key, s, label, out)
			if s.Alg == tpm2.AlgNull {
				message = append(make([]byte, 256-n), message...)
			}
			if rc != tpm2.RCSuccess || !bytes.Equal(back, message) {
				t.Errorf("%v of %d bytes comes back as %x, %v", s, n, back, rc)
			}
		}
	}
}

func TestRSARefusals(t *testing.T) {
	key := newTestKey(t, signing(ekRSA(t), tpm2.AlgNull, 0))
	raw, oaep := tpm2.RSADecryptScheme{Alg: tpm2.AlgNull}, tpm2.RSADecryptScheme{Alg: tpm2.AlgOAEP, Hash: tpm2.AlgSHA256}
	over := bytes.Repeat([]byte{0xFF}, 256)
	good, rc := RSAEncrypt(key, oaep, []byte("a\x00"), []byte("m"), rand.Reader)
	must(t, rc)
	decrypt := func(s tpm2.RSADecryptScheme, label, c []byte) tpm2.RC {
		_, rc := RSADecrypt(key, s, label, c)
		return rc
	}
	encrypt := func(s tpm2.RSADecryptScheme, m []byte, r io.Reader) tpm2.RC {
		_, rc := RSAEncrypt(key, s, nil, m, r)
		return rc
	}
	for _, c := range []struct {
		name string
		rc   tpm2.RC
		want tpm2.RC
	}{
		{"short ciphertext", decrypt(raw, nil, good[1:]), tpm2.RCSize},
		{"long ciphertext", decrypt(raw, nil, append([]byte{0}, good...)), tpm2.RCSize},
		{"ciphertext over the modulus", decrypt(raw, nil, over), tpm2.RCValue},
		{"OAEP over the modulus", decrypt(oaep, nil, over), tpm2.RCValue},
		{"another label", decrypt(oaep, []byte("b\x00"), good), tpm2.RCValue},
		{"another padding", decrypt(tpm2.RSADecryptScheme{Alg: tpm2.AlgRSAES}, nil, good), tpm2.RCValue},
		{"signing scheme", decrypt(tpm2.RSADecryptScheme{Alg: tpm2.AlgRSASSA}, nil, good), tpm2.RCScheme},
		{"message over the modulus", encrypt(raw, over, nil), tpm2.RCValue},
		{"signing scheme", encrypt(tpm2.RSADecryptScheme{Alg: tpm2.AlgRSASSA}, nil, nil), tpm2.RCScheme},
		{"no entropy", encrypt(oaep, nil, brokenRandom{}), tpm2.RCNoResult},
	} {
		if c.rc != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.rc, c.want)
		}
	}
	leading := append(make([]byte, 40), bytes.Repeat([]byte{1}, 255)...)
	if rc := encrypt(raw, leading, nil); rc != tpm2.RCSuccess {
		t.Errorf("a number with leading zeros: %v", rc)
	}
}
