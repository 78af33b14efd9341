package main

import (
	"crypto/rand"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// TestDebianSetup: Debian's swtpm_setup makes a TPM by our swtpm where that is first on
// PATH, with its certificates, in clear and encrypted, and changes its PCR banks.
func TestDebianSetup(t *testing.T) {
	const setup = "/usr/bin/swtpm_setup"
	if _, err := os.Stat(setup); err != nil {
		t.Skip("swtpm_setup is missing: install swtpm-tools")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, join(dir, "swtpm")); err != nil {
		t.Fatal(err)
	}
	conf := join(dir, "config")
	env := append(os.Environ(), runVariable+"=1", "PATH="+dir+":"+os.Getenv("PATH"), "XDG_CONFIG_HOME="+conf)
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(setup, args...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	run("--create-config-files", "root")
	secret := join(dir, "secret")
	if err := os.WriteFile(secret, []byte("a secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, encrypted := range []bool{false, true} {
		state := t.TempDir()
		args := []string{"--tpm2", "--tpm-state", state}
		var key *swtpm.Key
		if encrypted {
			args = append(args, "--pwdfile", secret, "--cipher", "aes-256-cbc")
			if key, err = swtpm.ReadKey("pwdfile=" + secret + ",mode=aes-256-cbc"); err != nil {
				t.Fatal(err)
			}
		}
		run(append(args, "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite")...)
		run(append(args, "--create-ek-cert", "--not-overwrite")...)
		run(append(args, "--reconfigure", "--pcr-banks", "sha384")...)
		if list, _ := filepath.Glob(join(state, "*.permall")); len(list) > 0 {
			t.Errorf("it was not our swtpm: %v", list)
		}
		d, err := store.OpenDir(state, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		h := swtpm.NewHost(swtpm.Config{Dir: d, Key: key, Engine: tpm.Config{Clock: clock.NewSystem(), Entropy: rand.Reader}})
		defer h.Close()
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		h.Startup(false)
		for _, handle := range []uint32{0x81010001, 0x81010016} {
			cmd := binary.BigEndian.AppendUint32([]byte{0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x73}, handle)
			if rsp := h.Execute(0, cmd, nil); binary.BigEndian.Uint32(rsp[6:]) != 0 {
				t.Errorf("no key %x: %x", handle, rsp)
			}
		}
		for _, index := range []uint32{0x01C00002, 0x01C00016, 0x01C08000} {
			cmd := binary.BigEndian.AppendUint32([]byte{0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x69}, index)
			if rsp := h.Execute(0, cmd, nil); binary.BigEndian.Uint32(rsp[6:]) != 0 || binary.BigEndian.Uint32(rsp[18:]) != 0x62072801 {
				t.Errorf("Index %x: %x", index, rsp)
			}
		}
	}
}
