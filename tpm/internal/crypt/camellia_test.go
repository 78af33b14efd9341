package crypt

import (
	"bytes"
	"testing"
)

// TestCamellia holds it to the vectors of RFC 3713, appendix A.
func TestCamellia(t *testing.T) {
	plain := unhex(t, "0123456789abcdeffedcba9876543210")
	for key, want := range map[string]string{
		"0123456789abcdeffedcba9876543210":                                 "67673138549669730857065648eabe43",
		"0123456789abcdeffedcba98765432100011223344556677":                 "b4993401b3e996f84ee5cee7d79b09b9",
		"0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff": "9acc237dff16d76c20ef7c919e3a7509",
	} {
		c := newCamellia(unhex(t, key))
		got := make([]byte, 16)
		c.Encrypt(got, plain)
		if !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("key %s: %x, want %s", key, got, want)
		}
		c.Decrypt(got, got)
		if !bytes.Equal(got, plain) {
			t.Errorf("key %s: decrypted to %x", key, got)
		}
	}
}
