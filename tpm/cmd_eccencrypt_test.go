package tpm

import (
	"bytes"
	"slices"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

func kdfScheme(alg, hash tpm2.AlgID) []byte {
	s := tpm2.KDFScheme{Alg: alg, Hash: hash}
	return tpm2.Marshal(&s)
}

// TestECCEncrypt encrypts and decrypts on every curve, with every hash algorithm,
// messages of any length.
func TestECCEncrypt(t *testing.T) {
	r := newRigOf(t, builtinProfile("default-v1"), true)
	for i, curve := range nullProfile.impl.Curves {
		key := []tpm2.Handle{r.addKey(eccKey(usable|tpm2.ObjDecrypt, tpm2.Scheme{Alg: tpm2.AlgNull}, curve), tpm2.RHOwner)}
		hash := tpm2.HashAlgs()[i%4]
		scheme := kdfScheme(tpm2.AlgKDF2, hash)
		for _, size := range []int{0, 1, hash.DigestSize(), 1024} {
			message := bytes.Repeat([]byte{7}, size)
			body := r.must(tpm2.RCSuccess, tpm2.CCECCEncrypt, key, nil, buf16(message), scheme)
			out := new(eccCipherText)
			decode(t, body, out)
			if size > 16 && bytes.Contains(out.c2, message[:16]) || len(out.c2) != size || len(out.c3) != hash.DigestSize() {
				t.Errorf("%v: %+v", curve, out)
			}
			got := new(eccDecryptOut)
			decode(t, params(t, r.must(tpm2.RCSuccess, tpm2.CCECCDecrypt, key, password(""), body, scheme)), got)
			if !bytes.Equal(got.plainText, message) {
				t.Errorf("%v: decrypted %x", curve, got.plainText)
			}
			for at := range body {
				if at > 1 && (at == 10 || at > len(body)-20) {
					bad := bytes.Clone(body)
					bad[at] ^= 1
					if rc := code(r.execute(frame(tpm2.CCECCDecrypt, key, password(""), bad, scheme))); rc == tpm2.RCSuccess {
						t.Errorf("%v: with byte %d altered it decrypts", curve, at)
					}
				}
			}
		}
		r.execute(flushCmd(key[0]))
	}
}

// TestECCEncryptRefusals are the codes of both commands.
func TestECCEncryptRefusals(t *testing.T) {
	r := newRigOf(t, builtinProfile("ashlar-v1"), true)
	null, kdf2 := u16(uint16(tpm2.AlgNull)), kdfScheme(tpm2.AlgKDF2, tpm2.AlgSHA256)
	decrypt := []tpm2.Handle{r.addKey(eccKey(usable|tpm2.ObjDecrypt, tpm2.Scheme{Alg: tpm2.AlgNull}, tpm2.CurveP256), tpm2.RHOwner)}
	sign := []tpm2.Handle{r.addKey(eccKey(signingKey, tpm2.Scheme{Alg: tpm2.AlgNull}, tpm2.CurveP256), tpm2.RHOwner)}
	hmac := []tpm2.Handle{r.addKey(hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), tpm2.RHOwner)}
	text := slices.Concat(pointBytes(tpm2.ECCPoint{X: []byte{1}, Y: []byte{1}}), buf16([]byte("c2")), buf16(make([]byte, 32)))
	for _, c := range []struct {
		want   tpm2.RC
		cc     tpm2.CC
		key    []tpm2.Handle
		params []byte
	}{
		{tpm2.RCKey.H(1), tpm2.CCECCEncrypt, hmac, append(buf16(nil), kdf2...)},
		{tpm2.RCScheme.P(2), tpm2.CCECCEncrypt, decrypt, append(buf16(nil), null...)},
		{tpm2.RCScheme, tpm2.CCECCEncrypt, decrypt, append(buf16(nil), kdfScheme(tpm2.AlgMGF1, tpm2.AlgSHA256)...)},
		{tpm2.RCKDF.P(2), tpm2.CCECCEncrypt, decrypt, append(buf16(nil), u16(uint16(tpm2.AlgECDH))...)},
		{tpm2.RCSuccess, tpm2.CCECCEncrypt, sign, append(buf16(nil), kdf2...)},
		{tpm2.RCKey.H(1), tpm2.CCECCDecrypt, hmac, append(text, kdf2...)},
		{tpm2.RCAttributes.H(1), tpm2.CCECCDecrypt, sign, append(text, kdf2...)},
		{tpm2.RCScheme.P(4), tpm2.CCECCDecrypt, decrypt, append(text, null...)},
		{tpm2.RCScheme, tpm2.CCECCDecrypt, decrypt, append(text, kdfScheme(tpm2.AlgKDF1SP80056A, tpm2.AlgSHA256)...)},
		{tpm2.RCNoResult, tpm2.CCECCDecrypt, decrypt, append(text, kdf2...)},
	} {
		var auth []byte
		if c.cc == tpm2.CCECCDecrypt {
			auth = password("")
		}
		if got := code(r.execute(frame(c.cc, c.key, auth, slices.Clone(c.params)))); got != c.want {
			t.Errorf("%v: %v, want %v", c.cc, got, c.want)
		}
	}
}
