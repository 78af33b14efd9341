package crypt

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// cipherCases are the block ciphers with each length of key in bytes.
var cipherCases = []struct {
	alg     tpm2.AlgID
	keySize int
}{
	{tpm2.AlgAES, 16}, {tpm2.AlgAES, 24}, {tpm2.AlgAES, 32}, {tpm2.AlgTDES, 16}, {tpm2.AlgTDES, 24},
	{tpm2.AlgCamellia, 16}, {tpm2.AlgCamellia, 24}, {tpm2.AlgCamellia, 32},
}

// TestModesInPieces cuts data at block boundaries: the IV that a call leaves
// must carry on to the next, whatever the mode.
func TestModesInPieces(t *testing.T) {
	modes := []tpm2.AlgID{tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB}
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(cipherCases).Draw(t, "cipher")
		mode := rapid.SampledFrom(modes).Draw(t, "mode")
		n := CipherBlockSize(c.alg)
		key := rapid.SliceOfN(rapid.Byte(), c.keySize, c.keySize).Draw(t, "key")
		iv := rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "iv")
		blocks := rapid.IntRange(0, 9).Draw(t, "blocks")
		cut := n * rapid.IntRange(0, blocks).Draw(t, "cut")
		tail := 0
		if mode != tpm2.AlgCBC && mode != tpm2.AlgECB {
			tail = rapid.IntRange(0, n-1).Draw(t, "tail")
		}
		plain := rapid.SliceOfN(rapid.Byte(), n*blocks+tail, n*blocks+tail).Draw(t, "data")

		whole, wholeIV := bytes.Clone(plain), bytes.Clone(iv)
		must(t, Encrypt(c.alg, key, mode, wholeIV, whole))
		pieces, piecesIV := bytes.Clone(plain), bytes.Clone(iv)
		must(t, Encrypt(c.alg, key, mode, piecesIV, pieces[:cut]))
		must(t, Encrypt(c.alg, key, mode, piecesIV, pieces[cut:]))
		if !bytes.Equal(whole, pieces) || !bytes.Equal(wholeIV, piecesIV) {
			t.Errorf("%v: in pieces %x, IV %x; at once %x, IV %x", mode, pieces, piecesIV, whole, wholeIV)
		}
		backIV := bytes.Clone(iv)
		must(t, Decrypt(c.alg, key, mode, backIV, pieces[:cut]))
		must(t, Decrypt(c.alg, key, mode, backIV, pieces[cut:]))
		if !bytes.Equal(pieces, plain) || !bytes.Equal(backIV, wholeIV) {
			t.Errorf("%v: decrypted to %x, IV %x; want %x, IV %x", mode, pieces, backIV, plain, wholeIV)
		}
	})
}

func must(t interface{ Fatal(...any) }, rc tpm2.RC) {
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
}

func TestCounterCarries(t *testing.T) {
	iv := bytes.Repeat([]byte{0xFF}, 16)
	must(t, Encrypt(tpm2.AlgAES, make([]byte, 16), tpm2.AlgCTR, iv, make([]byte, 33)))
	want := make([]byte, 16)
	want[15] = 2
	if !bytes.Equal(iv, want) {
		t.Errorf("after three blocks the counter is %x, want %x", iv, want)
	}
}

func TestSymmetricRefusals(t *testing.T) {
	key, iv := make([]byte, 16), make([]byte, 16)
	for _, c := range []struct {
		name string
		rc   tpm2.RC
		want tpm2.RC
	}{
		{"SM4", Encrypt(tpm2.AlgSM4, key, tpm2.AlgCFB, iv, nil), tpm2.RCSymmetric},
		{"20-byte key", Encrypt(tpm2.AlgAES, make([]byte, 20), tpm2.AlgCFB, iv, nil), tpm2.RCSymmetric},
		{"TDES of four keys", Encrypt(tpm2.AlgTDES, make([]byte, 32), tpm2.AlgCFB, iv[:8], nil), tpm2.RCSymmetric},
		{"TDES of one key", Encrypt(tpm2.AlgTDES, make([]byte, 8), tpm2.AlgCFB, iv[:8], nil), tpm2.RCSymmetric},
		{"CBC of half a block", Encrypt(tpm2.AlgTDES, key, tpm2.AlgCBC, iv[:8], make([]byte, 12)), tpm2.RCSize},
		{"an IV of AES's size", Encrypt(tpm2.AlgTDES, key, tpm2.AlgCBC, iv, make([]byte, 16)), tpm2.RCSize},
		{"no key", Encrypt(tpm2.AlgAES, nil, tpm2.AlgCFB, iv, nil), tpm2.RCSymmetric},
		{"long key", Encrypt(tpm2.AlgAES, make([]byte, 8208), tpm2.AlgCFB, iv, nil), tpm2.RCSymmetric},
		{"CMAC", Encrypt(tpm2.AlgAES, key, tpm2.AlgCMAC, iv, nil), tpm2.RCMode},
		{"CBC of 15 bytes", Encrypt(tpm2.AlgAES, key, tpm2.AlgCBC, iv, make([]byte, 15)), tpm2.RCSize},
		{"ECB of 17 bytes", Decrypt(tpm2.AlgAES, key, tpm2.AlgECB, nil, make([]byte, 17)), tpm2.RCSize},
		{"short IV", Decrypt(tpm2.AlgAES, key, tpm2.AlgCTR, iv[:15], nil), tpm2.RCSize},
	} {
		if c.rc != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.rc, c.want)
		}
	}
}
