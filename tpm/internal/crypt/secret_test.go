package crypt

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

func TestSecrets(t *testing.T) {
	for name, public := range map[string]tpm2.Public{"rsa": ekRSA(t), "ecc": ekECC(t)} {
		key := newTestKey(t, public)
		for _, label := range []string{LabelSecret, LabelDuplicate, LabelIdentity} {
			seed, secret, rc := SecretEncrypt(key, label, rand.Reader)
			must(t, rc)
			got, rc := SecretDecrypt(key, label, nil, secret)
			if rc != tpm2.RCSuccess || !bytes.Equal(got, seed) || len(seed) != 32 {
				t.Errorf("%s %s: %x, %v; want %x", name, label, got, rc, seed)
			}
			if got, rc := SecretDecrypt(key, "OTHER", nil, secret); rc == tpm2.RCSuccess && bytes.Equal(got, seed) {
				t.Errorf("%s: the label %s does not matter", name, label)
			}
		}
	}
}

func TestSymmetricSecrets(t *testing.T) {
	nonce := []byte("nonceCaller, longer than a block")
	secret := tpm2.EncryptedSecret("an encrypted salt, 32 bytes long")
	hmac := newTestKey(t, keyedHash(attrsPrimary|tpm2.ObjDecrypt,
		tpm2.Scheme{Alg: tpm2.AlgXOR, Hash: tpm2.AlgSHA256, KDF: tpm2.AlgKDF1SP800108}))
	got, rc := SecretDecrypt(hmac, LabelSecret, nonce, secret)
	must(t, rc)
	XORObfuscate(tpm2.AlgSHA256, hmac.Sensitive.Sensitive, nonce, nil, got)
	if !bytes.Equal(got, secret) {
		t.Errorf("XOR: %x", got)
	}
	sym := newTestKey(t, primaryCases(t)[16].public)
	for _, n := range []int{len(nonce), 16, 3, 0} {
		got, rc = SecretDecrypt(sym, LabelSecret, nonce[:n], secret)
		must(t, rc)
		iv := make([]byte, 16)
		copy(iv, nonce[:n])
		must(t, Encrypt(tpm2.AlgAES, sym.Sensitive.Sensitive, tpm2.AlgCFB, iv, got))
		if !bytes.Equal(got, secret) {
			t.Errorf("AES with a nonce of %d bytes: %x", n, got)
		}
	}
	for _, key := range []*Key{hmac, sym} {
		if _, rc := SecretDecrypt(key, LabelSecret, nonce, make([]byte, 33)); rc != tpm2.RCValue {
			t.Errorf("%v: a secret longer than the digest: %v", key.Public.Type, rc)
		}
	}
}

func TestSecretRefusals(t *testing.T) {
	rsaKey, eccKey := newTestKey(t, ekRSA(t)), newTestKey(t, ekECC(t))
	es := newTestKey(t, signing(ekRSA(t), tpm2.AlgRSAES, 0))
	public, rc := NewKey(&eccKey.Public, nil, 0, 0)
	must(t, rc)
	off := eccKey.Public.Point
	off.Y = append(tpm2.ECCParameter{}, off.Y...)
	off.Y[0] ^= 1
	whole := tpm2.Marshal(&eccKey.Public.Point)
	for _, c := range []struct {
		name   string
		key    *Key
		secret []byte
		want   tpm2.RC
	}{
		{"RSA, short", rsaKey, make([]byte, 255), tpm2.RCSize},
		{"RSA, garbage", rsaKey, make([]byte, 256), tpm2.RCValue},
		{"RSA key for RSAES", es, make([]byte, 256), tpm2.RCScheme},
		{"ECC, empty", eccKey, nil, tpm2.RCInsufficient},
		{"ECC, cut", eccKey, whole[:len(whole)-1], tpm2.RCInsufficient},
		{"ECC, oversize", eccKey, []byte{0, 81}, tpm2.RCSize},
		{"ECC, off the curve", eccKey, tpm2.Marshal(&off), tpm2.RCECCPoint},
		{"ECC, infinity", eccKey, make([]byte, 4), tpm2.RCECCPoint},
		{"public only", public, whole, tpm2.RCKey},
	} {
		if _, rc := SecretDecrypt(c.key, LabelSecret, nil, c.secret); rc != c.want {
			t.Errorf("SecretDecrypt, %s: %v, want %v", c.name, rc, c.want)
		}
	}
	for _, c := range []struct {
		name string
		key  *Key
		want tpm2.RC
	}{
		{"signing key", newTestKey(t, signing(ekECC(t), tpm2.AlgECDSA, tpm2.AlgSHA256)), tpm2.RCAttributes},
		{"symmetric key", newTestKey(t, primaryCases(t)[16].public), tpm2.RCType},
	} {
		if _, _, rc := SecretEncrypt(c.key, LabelSecret, rand.Reader); rc != c.want {
			t.Errorf("SecretEncrypt, %s: %v, want %v", c.name, rc, c.want)
		}
	}
	if _, _, rc := SecretEncrypt(rsaKey, LabelSecret, brokenRandom{}); rc != tpm2.RCNoResult {
		t.Errorf("SecretEncrypt without entropy: %v", rc)
	}
}

func TestUnwrapRefusals(t *testing.T) {
	parent := newTestKey(t, ekECC(t))
	p := ProtectionOf(parent)
	name := []byte("name")
	blob, rc := p.Wrap(name, []byte("data"), rand.Reader)
	must(t, rc)
	for i := range blob {
		cut := blob[:i]
		if _, rc := p.Unwrap(name, cut, true); rc == tpm2.RCSuccess {
			t.Errorf("cut to %d bytes it opens", i)
		}
		bad := bytes.Clone(blob)
		bad[i] ^= 1
		if _, rc := p.Unwrap(name, bad, true); rc == tpm2.RCSuccess {
			t.Errorf("with byte %d altered it opens", i)
		}
	}
	if _, rc := p.Unwrap([]byte("eman"), blob, true); rc != tpm2.RCIntegrity {
		t.Errorf("under another Name: %v", rc)
	}
	noIV, rc := p.Wrap(name, append([]byte{0, 3}, "abcd"...), nil)
	must(t, rc)
	if _, rc := p.Unwrap(name, noIV, true); rc == tpm2.RCSuccess {
		t.Error("a blob without an IV opens as one with")
	}
	if _, rc := p.Wrap(name, nil, brokenRandom{}); rc != tpm2.RCNoResult {
		t.Errorf("without entropy: %v", rc)
	}
	p.Symmetric.Alg = tpm2.AlgSM4
	if _, rc := p.Wrap(name, nil, nil); rc != tpm2.RCSymmetric {
		t.Errorf("SM4: %v", rc)
	}
}

// FuzzBlobs opens whatever comes from outside the TPM. The blob is made genuine
// to the outer wrap, so that what is inside is reached.
func FuzzBlobs(f *testing.F) {
	parent := newTestKey(f, ekECC(f))
	name := []byte("name")
	sens := tpm2.Sensitive{Type: tpm2.AlgKeyedHash, Sensitive: []byte("x")}
	f.Add(marshalSensitive(&sens, tpm2.AlgSHA256))
	f.Add([]byte{0, 1, 7})
	f.Add(tpm2.Marshal(&parent.Public.Point))
	f.Add([]byte{})
	inner := tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
	null := tpm2.SymDef{Alg: tpm2.AlgNull}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := ProtectionOf(parent)
		withIV, rc := p.Wrap(name, data, rand.Reader)
		must(t, rc)
		bare, rc := p.Wrap(name, data, nil)
		must(t, rc)
		if s, rc := PrivateToSensitive(parent, name, withIV); rc == tpm2.RCSuccess {
			if got := append2B(nil, tpm2.Marshal(s)); !bytes.Equal(got, data) {
				t.Errorf("read as %x", got)
			}
		}
		if s, rc := CredentialToSecret(parent, p.Seed, name, bare); rc == tpm2.RCSuccess && !bytes.Equal(append2B(nil, s), data) {
			t.Errorf("read the credential %x", s)
		}
		PrivateToSensitive(parent, name, data)
		CredentialToSecret(parent, p.Seed, name, data)
		DuplicateToSensitive(parent, p.Seed, name, tpm2.AlgSHA256, inner, make([]byte, 16), bare)
		DuplicateToSensitive(nil, nil, name, tpm2.AlgSHA256, null, nil, data)
		DuplicateToSensitive(nil, nil, name, tpm2.AlgSHA256, inner, make([]byte, 16), data)
		SecretDecrypt(parent, LabelSecret, nil, data)
	})
}

// TestDuplicateSizes: a duplicate in clear whose size is not that of what follows
// has the wrong size, however it differs.
func TestDuplicateSizes(t *testing.T) {
	null := tpm2.SymDef{Alg: tpm2.AlgNull}
	sens := &tpm2.Sensitive{Type: tpm2.AlgKeyedHash, SeedValue: make([]byte, 32), Sensitive: []byte("data")}
	name := []byte("a name")
	whole, rc := SensitiveToDuplicate(nil, nil, name, tpm2.AlgSHA256, null, nil, sens)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	for _, c := range []struct {
		what string
		data []byte
		want tpm2.RC
	}{
		{"whole", whole, tpm2.RCSuccess},
		{"empty", nil, tpm2.RCInsufficient},
		{"half a size", whole[:1], tpm2.RCInsufficient},
		{"a byte less", whole[:len(whole)-1], tpm2.RCSize},
		{"only its size", whole[:2], tpm2.RCSize},
		{"a byte more", append(whole[:len(whole):len(whole)], 0), tpm2.RCSize},
	} {
		if _, rc := DuplicateToSensitive(nil, nil, name, tpm2.AlgSHA256, null, nil, c.data); rc != c.want {
			t.Errorf("%s: %v, want %v", c.what, rc, c.want)
		}
	}
}
