package crypt

import (
	"bytes"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestCMAC holds it to the vectors of RFC 4493, 4, and to one of SP 800-38B with
// a 256-bit key, with the data in pieces of every size.
func TestCMAC(t *testing.T) {
	long := unhex(t, katAESPlain+"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for _, c := range []struct {
		key, want string
		size      int
	}{
		{katAESKey, "bb1d6929e95937287fa37d129b756746", 0},
		{katAESKey, "070a16b46b4d4144f79bdd9dd04a287c", 16},
		{katAESKey, "dfa66747de9ae63030ca32611497c827", 40},
		{katAESKey, "51f0bebf7e3b9d92fc49741779363cfe", 64},
		{"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "e1992190549f6ed5696a2c056c315410", 64},
	} {
		for piece := 1; piece <= 64; piece++ {
			m, rc := NewCMAC(tpm2.AlgAES, unhex(t, c.key))
			must(t, rc)
			for data := long[:c.size]; len(data) > 0; {
				n := min(piece, len(data))
				before := m
				m.Update(data[:n])
				before.Update(long) // a copy that runs on by itself
				data = data[n:]
			}
			if got := m.Sum(); !bytes.Equal(got, unhex(t, c.want)) {
				t.Fatalf("%d bytes in pieces of %d: %x, want %s", c.size, piece, got, c.want)
			}
		}
	}
	if _, rc := NewCMAC(tpm2.AlgAES, make([]byte, 20)); rc != tpm2.RCSymmetric {
		t.Errorf("a key of 20 bytes: %v", rc)
	}
}
