package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestSetupKilled kills swtpm_setup at moments all over its run: there is no TPM or a
// whole one; and where there was one before, that or the new one, whole.
func TestSetupKilled(t *testing.T) {
	bin := binDir(t)
	conf := setupConfig(t, filepath.Join(bin, "swtpm_localca"))
	dir := t.TempDir()
	command := func() *exec.Cmd {
		return exec.Command(filepath.Join(bin, "swtpm_setup"), "--tpm2", "--tpm-state", dir, "--config", conf,
			"--create-ek-cert", "--create-platform-cert", "--overwrite")
	}
	if out, err := command().CombinedOutput(); err != nil { // the CA is made
		t.Fatalf("%v\n%s", err, out)
	}
	began := time.Now()
	if out, err := command().CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	whole := time.Since(began)
	path := filepath.Join(dir, "tpm2-00.ashlar")
	var last []byte
	made, kept, none := 0, 0, 0
	const kills = 30
	for i := range kills {
		if i%3 == 0 { // every third time there is none before
			if err := errors.Join(os.Remove(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			last = nil
		}
		cmd := command()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Most of the kills fall into the end, where files are written; some come too
		// late, as a run takes more or less time to find primes.
		time.Sleep(whole * time.Duration(kills+4*i) / (3 * kills))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if !exists(path) {
			if last != nil {
				t.Fatal("the TPM from before is lost")
			}
			none++
			continue
		}
		d := startOurs(t, dir)
		name := d.public(t, 0x81010001).Name()
		for _, index := range []tpm2.Handle{0x01C00002, 0x01C00016, 0x01C08000} {
			if len(d.read(t, index)) < 500 {
				t.Errorf("%x is not whole", uint32(index))
			}
		}
		d.stop()
		if bytes.Equal(name, last) {
			kept++
		} else {
			made++
		}
		last = name
	}
	t.Logf("%d kills: %d new TPMs, %d kept, %d times none; a run takes %v", kills, made, kept, none, whole)
}
