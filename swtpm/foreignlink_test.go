package swtpm

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestForeignFollowsNoLink: whoever may write in a TPM's directory cannot have another
// user take over a TPM from where only that user may read, or wait for ever.
func TestForeignFollowsNoLink(t *testing.T) {
	plain, err := encodeForeign([]byte("a state"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), foreignName)
	if err := os.WriteFile(other, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := ReadForeign(other, nil); err != nil || string(f.Permanent) != "a state" {
		t.Fatalf("%q, %v", f.Permanent, err)
	}
	for name, how := range map[string]func(path string) error{
		foreignName: func(path string) error { return os.Symlink(other, path) },
		"a pipe":    func(path string) error { return syscall.Mkfifo(path, 0o600) },
		foreignVolatileName: func(path string) error {
			return errors.Join(os.WriteFile(path, plain, 0o600), os.Symlink(other, filepath.Join(filepath.Dir(path), foreignVolatileName)))
		},
	} {
		dir := t.TempDir()
		if err := how(filepath.Join(dir, foreignName)); err != nil {
			t.Fatal(err)
		}
		if f, err := ReadForeign(dir, nil); !errors.Is(err, errForeign) {
			t.Errorf("%s: %q, %v", name, f.Permanent, err)
		}
	}
}
