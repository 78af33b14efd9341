package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/store"
)

// ashlar runs a command, and gives its exit code and what it complains of.
func ashlar(t *testing.T, args ...string) (code int, complaint string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, nil, &out, &errs)
	return code, errs.String()
}

// ofSwtpm is a directory with the state of a new TPM in swtpm's form.
func ofSwtpm(t *testing.T) (dir, file string) {
	t.Helper()
	here, dir := t.TempDir(), t.TempDir()
	file = filepath.Join(dir, "tpm2-00.permall")
	for _, args := range [][]string{{"tpm", "manufacture", here}, {"tpm", "export", here, file}} {
		if code, complaint := ashlar(t, args...); code != 0 {
			t.Fatalf("%v: %d: %s", args, code, complaint)
		}
	}
	return dir, file
}

// mustRefuse holds a command to its exit code 1 and to what it says, and to writing
// no state into a directory.
func mustRefuse(t *testing.T, dir, says string, args ...string) {
	t.Helper()
	code, complaint := ashlar(t, args...)
	if code != 1 || !strings.Contains(complaint, says) {
		t.Errorf("%v: %d: %s", args, code, complaint)
	}
	if _, err := os.Stat(filepath.Join(dir, "tpm2-00.ashlar")); err == nil {
		t.Errorf("%v: a state was written", args)
	}
}

// TestImportOfRunning: a TPM that runs is not taken over, whether its directory is
// named or its file.
func TestImportOfRunning(t *testing.T) {
	dir, file := ofSwtpm(t)
	running, err := store.OpenDir(dir, store.Options{})
	if err == nil {
		err = running.Lock(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{dir, file} {
		there := t.TempDir()
		mustRefuse(t, there, "in use by another process", "tpm", "import", source, there)
	}
	running.Unlock()
	if code, complaint := ashlar(t, "tpm", "import", file, t.TempDir()); code != 0 {
		t.Errorf("when it has stopped: %d: %s", code, complaint)
	}
}

// TestImportOverAnother: a TPM of swtpm's is not hidden by another one, but is
// taken over in place.
func TestImportOverAnother(t *testing.T) {
	dir, file := ofSwtpm(t)
	other, _ := ofSwtpm(t)
	mustRefuse(t, other, "the state of another TPM of swtpm", "tpm", "import", dir, other)
	mustRefuse(t, other, "the state of another TPM of swtpm", "tpm", "import", file, other)
	if code, complaint := ashlar(t, "tpm", "import", dir, dir); code != 0 {
		t.Errorf("in place: %d: %s", code, complaint)
	}
}

// TestImportOfPlain: who gives a key expects a state that only its owner can have
// written; one in clear is not that.
func TestImportOfPlain(t *testing.T) {
	dir, _ := ofSwtpm(t)
	there := t.TempDir()
	key := filepath.Join(t.TempDir(), "key")
	os.WriteFile(key, []byte("secret"), 0o600)
	mustRefuse(t, there, "not encrypted, and a key was given", "tpm", "import", dir, there, "--key", "pwdfile="+key)
}
