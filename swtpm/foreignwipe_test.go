package swtpm

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestForeignWiped: a key and what it has decrypted are gone after their use, and
// after an error what was decrypted before it.
func TestForeignWiped(t *testing.T) {
	gone := func(what string, b []byte) {
		t.Helper()
		if len(b) == 0 || !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("%s: %x is left", what, b)
		}
	}
	for name := range foreignKeys {
		_, key := foreignKey(t, name)
		dir, state := t.TempDir(), []byte("a state of a TPM")
		for _, file := range []string{foreignName, foreignVolatileName} {
			b, err := encodeForeign(state, key, bytes.NewReader(make([]byte, longKey)))
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(filepath.Join(dir, file), b, 0o600)
		}
		f, err := ReadForeign(dir, key)
		if err != nil || !bytes.Equal(f.Permanent, state) || !bytes.Equal(f.Volatile, state) {
			t.Fatalf("%s: %q, %v", name, f, err)
		}
		f.Wipe()
		gone(name+": the permanent state", f.Permanent)
		gone(name+": the volatile state", f.Volatile)
		os.WriteFile(filepath.Join(dir, foreignVolatileName), []byte("something else"), 0o600)
		if f, err = ReadForeign(dir, key); err == nil {
			t.Errorf("%s: something else was read", name)
		}
		gone(name+": the permanent state, when the other could not be read", f.Permanent)
		key.Wipe()
		gone(name+": the key", key.secret)
	}
	(*Key)(nil).Wipe() // of a state in clear
}
