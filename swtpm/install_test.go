package swtpm

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// TestInstall puts a TPM where there is none, and in the place of all that can be
// there: ours with a running state, a damaged one, a running state alone, swtpm's.
func TestInstall(t *testing.T) {
	state, err := tpm.Manufacture(testEngine(), tpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	old := func(t *testing.T, dir string) {
		h, _ := newTestHost(t, dir, nil)
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		h.Startup(false)
		if r := h.StoreVolatile(); r != OK {
			t.Fatal(r)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write := func(t *testing.T, path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, before := range map[string]func(*testing.T, string){
		"nothing": func(*testing.T, string) {},
		"ours":    old,
		"damaged": func(t *testing.T, dir string) {
			old(t, dir)
			write(t, filepath.Join(dir, permanentName), "cut")
		},
		"lone": func(t *testing.T, dir string) {
			old(t, dir)
			os.Remove(filepath.Join(dir, permanentName))
		},
		"a backup": func(t *testing.T, dir string) {
			old(t, dir)
			write(t, filepath.Join(dir, permanentName+".bak"), "z")
			write(t, filepath.Join(dir, permanentName+".damaged"), "z")
		},
		"swtpm's": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, foreignName), "x")
			write(t, filepath.Join(dir, foreignVolatileName), "y")
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			before(t, dir)
			held := testDir(t, dir)
			path, err := Install(held, nil, testEngine(), state)
			if err != nil || path != filepath.Join(dir, permanentName) {
				t.Fatal(path, err)
			}
			s := newStates(held, nil, testEngine())
			defer s.close()
			if b, err := s.load(); err != nil || !bytes.Equal(b, state) {
				t.Errorf("the new TPM is not there: %v", err)
			}
			for _, name := range []string{volatileName, foreignName, foreignVolatileName, permanentName + ".bak", permanentName + ".damaged"} {
				if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is left: %v", name, err)
				}
			}
		})
	}
}

// TestInstallFails: where the new state cannot be kept, the TPM from before is there.
func TestInstallFails(t *testing.T) {
	dir := t.TempDir()
	held := testDir(t, dir)
	if _, err := Manufacture(held, nil, testEngine(), tpm.Options{}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(dir, permanentName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Install(held, nil, testEngine(), make([]byte, store.MaxSize+1)); !errors.Is(err, store.ErrTooLarge) {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, permanentName)); err != nil || !bytes.Equal(b, before) {
		t.Errorf("the TPM from before is not as it was: %v", err)
	}
}
