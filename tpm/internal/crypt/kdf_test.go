package crypt

import (
	"bytes"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"
	"pgregory.net/rapid"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestKDFsAsGoTPM compares with an implementation that others wrote.
func TestKDFsAsGoTPM(t *testing.T) {
	hashes := tpm2.HashAlgs()
	rapid.Check(t, func(t *rapid.T) {
		alg := rapid.SampledFrom(hashes[:]).Draw(t, "hash")
		key := rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "key")
		label := rapid.StringMatching(`[A-Z]{1,9}`).Draw(t, "label")
		u := rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "u")
		v := rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "v")
		bits := 8 * rapid.IntRange(1, 300).Draw(t, "bytes")
		hash, _ := alg.Hash()

		want := gotpm.KDFa(hash, key, label, u, v, bits)
		if got := KDFa(alg, key, label, u, v, bits); !bytes.Equal(got, want) {
			t.Errorf("KDFa = %x, want %x", got, want)
		}
		want = gotpm.KDFe(hash, key, label, u, v, bits)
		if got := KDFe(alg, key, label, u, v, bits); !bytes.Equal(got, want) {
			t.Errorf("KDFe = %x, want %x", got, want)
		}
	})
}

func TestKDFMasksSpareBits(t *testing.T) {
	for bits := 1; bits <= 17; bits++ {
		for name, out := range map[string][]byte{
			"KDFa": KDFa(tpm2.AlgSHA1, []byte("k"), "L", nil, nil, bits),
			"KDFe": KDFe(tpm2.AlgSHA1, []byte("k"), "L", nil, nil, bits),
		} {
			if len(out) != (bits+7)/8 {
				t.Errorf("%s of %d bits gives %d bytes", name, bits, len(out))
			}
			if spare := bits % 8; spare != 0 && out[0]>>spare != 0 {
				t.Errorf("%s of %d bits has bits above: %x", name, bits, out)
			}
		}
	}
}

func TestXORObfuscateIsItsInverse(t *testing.T) {
	for _, n := range []int{0, 1, 31, 32, 33, 500} {
		data := bytes.Repeat([]byte{0xA5}, n)
		work := bytes.Clone(data)
		XORObfuscate(tpm2.AlgSHA256, []byte("key"), []byte("u"), []byte("v"), work)
		if n > 8 && bytes.Equal(work, data) {
			t.Errorf("%d bytes are not obfuscated", n)
		}
		XORObfuscate(tpm2.AlgSHA256, []byte("key"), []byte("u"), []byte("v"), work)
		if !bytes.Equal(work, data) {
			t.Errorf("%d bytes do not come back", n)
		}
	}
}

func TestParameterEncryption(t *testing.T) {
	key, caller, tpm := []byte("key"), []byte("nonce of the caller"), []byte("nonce of the TPM")
	for _, c := range cipherCases {
		sym := tpm2.SymDef{Alg: c.alg, KeyBits: uint16(8 * c.keySize), Mode: tpm2.AlgCFB}
		plain := []byte("a parameter that is no whole number of blocks")
		data := bytes.Clone(plain)
		if rc := EncryptParameter(tpm2.AlgSHA256, key, caller, tpm, sym, data); rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		// Part 1, 21.3, spelled out: the KDF gives key ‖ IV.
		both := KDFa(tpm2.AlgSHA256, key, "CFB", caller, tpm, 8*(c.keySize+CipherBlockSize(c.alg)))
		want := bytes.Clone(plain)
		if rc := Encrypt(c.alg, both[:c.keySize], tpm2.AlgCFB, both[c.keySize:], want); rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		if !bytes.Equal(data, want) {
			t.Errorf("%v: %x, want %x", sym, data, want)
		}
		if rc := DecryptParameter(tpm2.AlgSHA256, key, caller, tpm, sym, data); rc != tpm2.RCSuccess || !bytes.Equal(data, plain) {
			t.Errorf("%v: decrypted to %q, %v", sym, data, rc)
		}
	}
	sm4 := tpm2.SymDef{Alg: tpm2.AlgSM4, KeyBits: 128, Mode: tpm2.AlgCFB}
	if rc := EncryptParameter(tpm2.AlgSHA256, key, caller, tpm, sm4, nil); rc != tpm2.RCSymmetric {
		t.Errorf("SM4: %v, want TPM_RC_SYMMETRIC", rc)
	}
}
