package crypt

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestModesInPieces cuts data at block boundaries: the IV that a call leaves
// must carry on to the next, whatever the mode.
func TestModesInPieces(t *testing.T) {
	modes := []tpm2.AlgID{tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB}
	rapid.Check(t, func(t *rapid.T) {
		mode := rapid.SampledFrom(modes).Draw(t, "mode")
		keySize := rapid.SampledFrom([]int{16, 32}).Draw(t, "key size")
		key := rapid.SliceOfN(rapid.Byte(), keySize, keySize).Draw(t, "key")
		iv := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "iv")
		blocks := rapid.IntRange(0, 9).Draw(t, "blocks")
		cut := 16 * rapid.IntRange(0, blocks).Draw(t, "cut")
		tail := 0
		if mode != tpm2.AlgCBC && mode != tpm2.AlgECB {
			tail = rapid.IntRange(0, 15).Draw(t, "tail")
		}
		plain := rapid.SliceOfN(rapid.Byte(), 16*blocks+tail, 16*blocks+tail).Draw(t, "data")

		whole, wholeIV := bytes.Clone(plain), bytes.Clone(iv)
		must(t, Encrypt(tpm2.AlgAES, key, mode, wholeIV, whole))
		pieces, piecesIV := bytes.Clone(plain), bytes.Clone(iv)
		must(t, Encrypt(tpm2.AlgAES, key, mode, piecesIV, pieces[:cut]))
		must(t, Encrypt(tpm2.AlgAES, key, mode, piecesIV, pieces[cut:]))
		if !bytes.Equal(whole, pieces) || !bytes.Equal(wholeIV, piecesIV) {
			t.Errorf("%v: in pieces %x, IV %x; at once %x, IV %x", mode, pieces, piecesIV, whole, wholeIV)
		}
		backIV := bytes.Clone(iv)
		must(t, Decrypt(tpm2.AlgAES, key, mode, backIV, pieces[:cut]))
		must(t, Decrypt(tpm2.AlgAES, key, mode, backIV, pieces[cut:]))
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
		{"24-byte key", Encrypt(tpm2.AlgAES, make([]byte, 24), tpm2.AlgCFB, iv, nil), tpm2.RCSymmetric},
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

// TestModesAsLibtpms compares ciphertext and the IV that is left.
func TestModesAsLibtpms(t *testing.T) {
	o := startOracle(t)
	iv := unhex(t, katAESCounter)
	for _, bits := range []uint16{128, 256} {
		public := primaryCases(t)[17].public
		public.Symmetric = tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: bits, Mode: tpm2.AlgNull}
		template := tpm2.Marshal(&public)
		handle, _ := o.createPrimary(rhOwner, template, nil)
		key := derive(t, o.SPS, nil, template, nil)
		for _, mode := range []tpm2.AlgID{tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB} {
			for _, n := range []int{16, 48, 5, 37} {
				if n%16 != 0 && (mode == tpm2.AlgCBC || mode == tpm2.AlgECB) {
					continue
				}
				data, ourIV := bytes.Repeat([]byte{0x5A}, n), bytes.Clone(iv)
				params := append(append2B(nil, data), 0, byte(mode>>8), byte(mode))
				if mode == tpm2.AlgECB {
					ourIV = nil
				}
				r := response(o.run(ccEncryptDecrypt2, []uint32{handle}, 1, append2B(params, ourIV))[4:])
				must(t, Encrypt(tpm2.AlgAES, key.Sensitive.Sensitive, mode, ourIV, data))
				if got := r.next2B(); !bytes.Equal(data, got) {
					t.Errorf("AES-%d %v of %d bytes: %x, swtpm %x", bits, mode, n, data, got)
				}
				if got := r.next2B(); !bytes.Equal(ourIV, got) {
					t.Errorf("AES-%d %v of %d bytes leaves the IV %x, swtpm %x", bits, mode, n, ourIV, got)
				}
			}
		}
		o.flush(handle)
	}
}
