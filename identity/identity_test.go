package identity

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

const ekAttributes = tpm2.ObjRestricted | tpm2.ObjDecrypt | tpm2.ObjFixedTPM |
	tpm2.ObjFixedParent | tpm2.ObjSensitiveDataOrigin | tpm2.ObjAdminWithPolicy
const goodAK = tpm2.ObjRestricted | tpm2.ObjSign | tpm2.ObjFixedTPM |
	tpm2.ObjFixedParent | tpm2.ObjSensitiveDataOrigin | tpm2.ObjUserWithAuth

func eccPublic(k *ecdsa.PublicKey, attr tpm2.ObjectAttributes) *tpm2.Public {
	x, y := coordinates(must(k.ECDH()))
	return &tpm2.Public{
		PublicParms: tpm2.PublicParms{Type: tpm2.AlgECC, Curve: tpm2.CurveP256,
			Symmetric: tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB},
			Scheme:    tpm2.Scheme{Alg: tpm2.AlgNull}, KDF: tpm2.Scheme{Alg: tpm2.AlgNull}},
		NameAlg: tpm2.AlgSHA256, Attributes: attr,
		Point: tpm2.ECCPoint{X: x, Y: y},
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// open is the TPM's half of activation, on another library's KDFs.
func open(t *testing.T, c *Credential, name, seed []byte) ([]byte, bool) {
	t.Helper()
	blob := c.Blob[2:]
	n := int(binary.BigEndian.Uint16(blob))
	mac, enc := blob[2:2+n], append([]byte(nil), blob[2+n:]...)
	h := hmac.New(sha256.New, gotpm.KDFa(crypto.SHA256, seed, "INTEGRITY", nil, nil, 256))
	h.Write(enc)
	h.Write(name)
	if !hmac.Equal(mac, h.Sum(nil)) {
		return nil, false
	}
	block := must(aes.NewCipher(gotpm.KDFa(crypto.SHA256, seed, "STORAGE", name, nil, 128)))
	//lint:ignore SA1019 CFB is what the TPM uses
	cipher.NewCFBDecrypter(block, make([]byte, 16)).XORKeyStream(enc, enc)
	return enc[2:], int(binary.BigEndian.Uint16(enc)) == len(enc)-2
}

func TestMakeCredentialECC(t *testing.T) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ek, name := eccPublic(&k.PublicKey, ekAttributes), tpm2.Name("\x00\x0bthe name of an attestation key!")
	secret := []byte("a secret of 20 bytes")
	c, err := MakeCredential(ek, name, secret)
	if err != nil {
		t.Fatal(err)
	}
	var p tpm2.ECCPoint
	if err := tpm2.Unmarshal(c.Secret[2:], &p); err != nil {
		t.Fatal(err)
	}
	eph := must(ecdh.P256().NewPublicKey(append(append([]byte{4}, p.X...), p.Y...)))
	z := must(must(k.ECDH()).ECDH(eph))
	seed := gotpm.KDFe(crypto.SHA256, z, "IDENTITY", p.X, ek.Point.X, 256)
	if got, ok := open(t, c, name, seed); !ok || !bytes.Equal(got, secret) {
		t.Errorf("the secret came out as %x", got)
	}
	if _, ok := open(t, c, []byte("another name"), seed); ok {
		t.Error("the credential opens for another Name")
	}
}

func TestMakeCredentialRSA(t *testing.T) {
	k := must(rsa.GenerateKey(rand.Reader, 2048))
	ek := &tpm2.Public{
		PublicParms: tpm2.PublicParms{Type: tpm2.AlgRSA, KeyBits: 2048,
			Symmetric: tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB},
			Scheme:    tpm2.Scheme{Alg: tpm2.AlgNull}},
		NameAlg: tpm2.AlgSHA256, Attributes: ekAttributes, Unique: k.N.Bytes(),
	}
	name, secret := tpm2.Name("name"), []byte("s")
	c, err := MakeCredential(ek, name, secret)
	if err != nil {
		t.Fatal(err)
	}
	seed := must(rsa.DecryptOAEP(sha256.New(), nil, k, c.Secret[2:], []byte("IDENTITY\x00")))
	if got, ok := open(t, c, name, seed); !ok || !bytes.Equal(got, secret) {
		t.Errorf("the secret came out as %x", got)
	}
	if _, err := MakeCredential(ek, name, make([]byte, 33)); err == nil {
		t.Error("a secret longer than the name algorithm's digest was taken")
	}
}

func TestChallenge(t *testing.T) {
	ek := eccPublic(&must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey, ekAttributes)
	ak := eccPublic(&must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey, goodAK)
	other := eccPublic(&must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey, goodAK)
	c, cred, err := NewChallenge(ek, ak)
	if err != nil || cred == nil {
		t.Fatal(err)
	}
	if err := c.Answered(ek, ak, c.Secret); err != nil {
		t.Error(err)
	}
	wrong := append([]byte(nil), c.Secret...)
	wrong[3] ^= 1
	for name, err := range map[string]error{
		"wrong secret": c.Answered(ek, ak, wrong), "no secret": c.Answered(ek, ak, nil),
		"other AK": c.Answered(ek, other, c.Secret), "other EK": c.Answered(other, ak, c.Secret),
		"empty challenge": (&Challenge{EKName: ek.Name(), AKName: ak.Name()}).Answered(ek, ak, nil),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, bit := range []tpm2.ObjectAttributes{tpm2.ObjRestricted, tpm2.ObjSign, tpm2.ObjFixedTPM,
		tpm2.ObjFixedParent, tpm2.ObjSensitiveDataOrigin, tpm2.ObjDecrypt} {
		p := ak.Clone()
		p.Attributes ^= bit
		if _, _, err := NewChallenge(ek, &p); err == nil {
			t.Errorf("an AK with attributes %#x was taken", p.Attributes)
		}
	}
	if _, _, err := NewChallenge(ak, ak); err == nil {
		t.Error("a signing key was taken as EK")
	}
}

func TestParseKey(t *testing.T) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p := eccPublic(&k.PublicKey, goodAK)
	p.Symmetric = tpm2.SymDef{Alg: tpm2.AlgNull}
	bare := tpm2.Marshal(p)
	sized := tpm2.Marshal(&tpm2.SizedPublic{Public: *p})
	for name, b := range map[string][]byte{"TPMT_PUBLIC": bare, "TPM2B_PUBLIC": sized} {
		got, err := ParseKey(b)
		if err != nil || !k.PublicKey.Equal(got.Crypto) {
			t.Errorf("%s: %v", name, err)
		}
		for n := range b {
			if _, err := ParseKey(b[:n]); err == nil {
				t.Errorf("%s cut to %d of %d bytes was accepted", name, n, len(b))
			}
		}
		if _, err := ParseKey(append(append([]byte(nil), b...), 0)); err == nil {
			t.Errorf("%s with a trailing byte was accepted", name)
		}
	}
	off := p.Clone()
	off.Point.X[5] ^= 1
	if _, err := FromPublic(&off); err == nil {
		t.Error("a point off its curve was accepted")
	}
}

// TestEvidenceCertificates checks the EK and AK certificates of the evidence:
// paths and, of those for encryption, the EK profile.
func TestEvidenceCertificates(t *testing.T) {
	dir := os.Getenv("ASHLAR_EVIDENCE")
	if dir == "" {
		t.Skip("ASHLAR_EVIDENCE is not set: no certificates of others to check")
	}
	all := must(os.ReadFile(filepath.Join(dir, "expected.jsonl")))
	n := 0
	for _, line := range strings.Split(strings.TrimSpace(string(all)), "\n") {
		var item struct {
			ID, Kind            string
			Files, Endorsements []string
			At                  time.Time
			Facts               json.RawMessage
		}
		if json.Unmarshal([]byte(line), &item) != nil || item.Kind != "ek-cert" && item.Kind != "ek-ca" {
			continue
		}
		n++
		t.Run(item.ID, func(t *testing.T) {
			leaf := must(ParseCertificates(must(os.ReadFile(filepath.Join(dir, item.Files[0])))))[0]
			last := len(item.Endorsements) - 1
			root := must(ParseCertificates(must(os.ReadFile(filepath.Join(dir, item.Endorsements[last])))))
			inter := must(ParseCertificates(must(os.ReadFile(filepath.Join(dir, item.Endorsements[0])))))
			if err := Chain(leaf, root, inter, item.At); err != nil {
				t.Error(err)
			}
			if err := Chain(leaf, inter[:0], nil, item.At); err == nil {
				t.Error("a certificate was accepted without anything to trust")
			}
			if err := Chain(leaf, root, inter, time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
				t.Error("an expired certificate was accepted")
			}
			if strings.Contains(item.ID, "enc_cert") {
				checkProfile(t, leaf.Raw)
			}
		})
	}
	if n != 11 {
		t.Errorf("%d certificates found, want 11", n)
	}
}

func checkProfile(t *testing.T, der []byte) {
	t.Helper()
	c := must(ParseCertificates(der))[0]
	if err := CheckEKCertificate(c, &Key{Crypto: c.PublicKey}); err != nil {
		t.Error(err)
	}
	other := &Key{Crypto: &must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey}
	if err := CheckEKCertificate(c, other); err == nil {
		t.Error("a certificate for another key was accepted")
	}
	for _, n := range []int{0, 1, 20, len(der) / 2, len(der) - 1} {
		if _, err := ParseCertificates(der[:n]); err == nil {
			t.Errorf("a certificate cut to %d bytes was accepted", n)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	f.Add(tpm2.Marshal(eccPublic(&k.PublicKey, goodAK)))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParseKey(b); err == nil && k.Crypto == nil {
			t.Error("neither key nor error")
		}
		if list, err := ParseCertificates(b); err == nil && len(list) == 0 {
			t.Error("neither certificate nor error")
		}
	})
}

// FuzzMessages gives any bytes as the files of an activation, and goes on with
// what is taken.
func FuzzMessages(f *testing.F) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ek, ak := eccPublic(&k.PublicKey, ekAttributes), eccPublic(&k.PublicKey, goodAK)
	now := time.Now()
	doc := NewDocument(tpm2.Marshal(ek), tpm2.Marshal(ak), nil)
	f.Add(must(json.Marshal(doc)))
	msg, state, err := Issue(ek, ak, rats.Nonce("12345678"), now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(must(json.Marshal(msg)))
	f.Add(must(json.Marshal(state)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, ek, ak, err := ParseDocument(b); err == nil {
			if m, s, err := Issue(ek, ak, rats.Nonce("12345678"), now); err == nil && (len(m.Credential.Blob) == 0 || len(s.Secret) != SecretSize) {
				t.Error("a challenge without a credential")
			}
		}
		if m, n, err := ParseChallenge(b); err == nil && (len(m.Credential.Blob) == 0 || len(n) > rats.MaxNonce) {
			t.Error("a challenge that cannot be answered was taken")
		}
		if c, _, err := ParseChallengeState(b, now); err == nil && c.Answered(ek, ak, nil) == nil {
			t.Error("a challenge is answered by nothing")
		}
		if certs, err := ParseCertificates(b); err == nil {
			_ = CheckEKCertificate(certs[0], &Key{Crypto: certs[0].PublicKey}) // must not panic
			_ = Chain(certs[0], certs, certs, now)
		}
	})
}

// TestChallengeState wants a challenge to be accepted for its time, for its keys
// and whole.
func TestChallengeState(t *testing.T) {
	k, other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ek, ak := eccPublic(&k.PublicKey, ekAttributes), eccPublic(&k.PublicKey, goodAK)
	now := time.Now()
	_, s, err := Issue(ek, ak, rats.Nonce("12345678"), now)
	if err != nil {
		t.Fatal(err)
	}
	raw := must(json.Marshal(s))
	for at, good := range map[time.Duration]bool{0: true, ChallengeLifetime - time.Second: true,
		ChallengeLifetime + time.Second: false, -2 * time.Minute: false} {
		if _, _, err := ParseChallengeState(raw, now.Add(at)); (err == nil) != good {
			t.Errorf("after %s: %v", at, err)
		}
	}
	c, _, err := ParseChallengeState(raw, now)
	if err != nil {
		t.Fatal(err)
	}
	strange := eccPublic(&other.PublicKey, ekAttributes)
	if err := c.Answered(ek, ak, s.Secret); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{"another EK": c.Answered(strange, ak, s.Secret), "another AK": c.Answered(ek, strange, s.Secret),
		"no secret": c.Answered(ek, ak, nil), "half": c.Answered(ek, ak, s.Secret[:10]), "more": c.Answered(ek, ak, append(bytes.Clone(s.Secret), 0))} {
		if err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	if (&Challenge{EKName: ek.Name(), AKName: ak.Name()}).Answered(ek, ak, nil) == nil {
		t.Error("a challenge without a secret is answered by nothing")
	}
	for _, change := range []func(*ChallengeState){func(s *ChallengeState) { s.Secret = nil },
		func(s *ChallengeState) { s.Version = 2 }, func(s *ChallengeState) { s.EKName = "x" }, func(s *ChallengeState) { s.Nonce = "0" }} {
		bad := *s
		change(&bad)
		if _, _, err := ParseChallengeState(must(json.Marshal(bad)), now); err == nil {
			t.Errorf("taken: %+v", bad)
		}
	}
}
