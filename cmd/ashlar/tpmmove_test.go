package main

import (
	"bytes"
	"os"
	"os/exec"
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

// TestImportFromReadOnly: a source on a file system that is mounted to be read is
// taken over, and not while it runs from elsewhere.
func TestImportFromReadOnly(t *testing.T) {
	dir, _ := ofSwtpm(t)
	running, err := store.OpenDir(dir, store.Options{})
	if err == nil {
		err = running.Lock(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(t.TempDir(), "there")
	readOnly := func(command string) (string, error) {
		out, err := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
			`mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && `+command, dir, there).CombinedOutput()
		return string(out), err
	}
	if out, err := readOnly(`! touch "$0"/.lock`); err != nil {
		t.Skipf("no directory can be mounted to be read here: %v: %s", err, out)
	}
	if out, err := readOnly(`ashlar tpm import "$0" "$1"`); err == nil || !strings.Contains(out, "in use by another process") {
		t.Errorf("while it runs: %v: %s", err, out)
	}
	running.Unlock()
	if out, err := readOnly(`ashlar tpm import "$0" "$1"`); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestImportOfUnclear: where the lock cannot be asked, it is said what to do.
func TestImportOfUnclear(t *testing.T) {
	dir, _ := ofSwtpm(t)
	if err := os.Symlink("elsewhere", filepath.Join(dir, ".lock")); err != nil {
		t.Fatal(err)
	}
	there := t.TempDir()
	mustRefuse(t, there, "copy its state to another directory", "tpm", "import", dir, there)
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

// TestRefusedLeavesNothing: what a refused import has made is gone, and what was
// there is not.
func TestRefusedLeavesNothing(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	junk := append([]byte{2, 1, 0, 10, 0, 0, 0, 0, 0, 20, 0, 1, 0, 0, 0, 4}, "junk"...) // as swtpm wraps it
	if err := os.WriteFile(source, junk, 0o600); err != nil {
		t.Fatal(err)
	}
	here := t.TempDir()
	var there []string // the deepest last
	for _, name := range []string{"there", "there/above", "there/above/vm"} {
		mustRefuse(t, here, "no state of libtpms", "tpm", "import", source, filepath.Join(here, "there/above/vm"))
		for _, path := range there {
			if _, err := os.Stat(path); err != nil {
				t.Errorf("what was there is gone: %v", err)
			}
		}
		path := filepath.Join(here, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Errorf("what was made is there: %v", err)
		}
		there = append(there, path)
	}
	file := filepath.Join(here, "there/above/vm/file")
	os.WriteFile(file, nil, 0o600)
	mustRefuse(t, here, "no state of libtpms", "tpm", "import", source, filepath.Dir(file))
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
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
