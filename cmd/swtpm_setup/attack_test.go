package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
)

// TestReconfigureSuspended: the TPM of a guest that was saved is left as it is, to go
// on with that guest.
func TestReconfigureSuspended(t *testing.T) {
	conf := setupConfig(t, "none")
	dir := t.TempDir()
	args := []string{"--tpm2", "--tpm-state", dir, "--config", conf}
	mustCall(t, "swtpm_setup", args...)
	held, err := store.OpenDir(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := swtpm.NewHost(swtpm.Config{Dir: held, Engine: engineConfig()})
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	h.Startup(false)
	if r := h.StoreVolatile(); r != swtpm.OK {
		t.Fatal(r)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	_, errs, code := call("swtpm_setup", append(args, "--reconfigure", "--pcr-banks", "sha1")...)
	if code != 1 || !strings.Contains(errs, "suspended") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if after := files(t, dir); after != before {
		t.Errorf("there was\n%s\nand now is\n%s", before, after)
	}
}

// files is what a directory holds, but for locks.
func files(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".lock") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.Name() + ": " + string(text) + "\n")
	}
	return b.String()
}

// TestLocalcaFollowsNoLink: who may write in the CA's directory cannot have another
// user's swtpm_localca write elsewhere.
func TestLocalcaFollowsNoLink(t *testing.T) {
	for _, names := range [][]string{{lockFile}, {"signkey.pem.new", "issuercert.pem.new", "certserial"}} {
		dir := filepath.Dir(setupConfig(t, "none"))
		target := write(t, filepath.Join(t.TempDir(), "target"), "precious")
		for _, name := range names {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		_, errs, code := call("swtpm_localca", "--type", "ek", "--tpm2", "--ek", strings.Repeat("c3", 256), "--dir", dir,
			"--configfile", filepath.Join(dir, "ca.conf"), "--optsfile", filepath.Join(dir, "ca.options"),
			"--tpm-spec-family", "2.0", "--tpm-spec-level", "0", "--tpm-spec-revision", "164",
			"--tpm-manufacturer", "id:00001014", "--tpm-model", "swtpm", "--tpm-version", "1")
		if last := names[len(names)-1]; code != 1 || !strings.Contains(errs, last) {
			t.Errorf("%s: exit code %d: %s", last, code, errs)
		}
		if b, err := os.ReadFile(target); err != nil || string(b) != "precious" {
			t.Errorf("%v: the file has %q, %v", names, b, err)
		}
	}
}

// TestReplaceFile: where the name cannot be had, nothing of the file stays.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, []byte("secret"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if list, _ := filepath.Glob(filepath.Join(dir, "*")); len(list) != 1 {
		t.Errorf("it left %v", list)
	}
}

// TestLogNeverWaits: a pipe in the place of the log file, where another user could put
// one, does not keep the tool waiting.
func TestLogNeverWaits(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(pipe, os.Stdout); err == nil {
		t.Error("a pipe without a reader was opened")
	}
}
