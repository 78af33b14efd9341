package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestSetupForLibvirt runs the command lines of libvirt 9.0, with a secret and without:
// a new TPM, the same at the next start, other PCR banks, an incoming migration.
func TestSetupForLibvirt(t *testing.T) {
	bin := binDir(t)
	conf := t.TempDir()
	ca := setupConfig(t, filepath.Join(bin, "swtpm_localca"))
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(conf, "swtpm_setup.conf"), string(text)) // libvirt names none
	secret := write(t, filepath.Join(conf, "secret"), "a secret of libvirt's")
	for _, encrypted := range []bool{false, true} {
		dir, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
		option := ""
		if encrypted {
			option = "pwdfile=" + secret + ",mode=aes-256-cbc"
		}
		run := func(args ...string) {
			t.Helper()
			all := []string{"--tpm2"}
			if encrypted {
				all = append(all, "--pwdfile-fd", "3", "--cipher", "aes-256-cbc")
			}
			all = append(all, "--tpm-state", dir, "--vmid", "guest:6f2a1e0c-0c5b-4a3e-9f43-3f8f6f6d8f2a", "--logfile", log)
			cmd := exec.Command(filepath.Join(bin, "swtpm_setup"), append(all, args...)...)
			cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+conf)
			if encrypted {
				f, err := os.Open(secret)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				cmd.ExtraFiles = []*os.File{f}
			}
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				text, _ := os.ReadFile(log)
				t.Fatalf("%q: %v\n%s%s", args, err, out, text)
			}
		}
		create := []string{"--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite"}
		run(create...)
		d := startSealed(t, dir, option)
		before := d.portrait(t)
		name := d.public(t, 0x81010016).Name()
		for index, attributes := range map[tpm2.Handle]tpm2.NVAttributes{0x01C00002: 0x62072801, 0x01C00016: 0x62072801, 0x01C08000: 0x62072801} {
			if a := d.nvPublic(t, index).Attributes; a != attributes {
				t.Errorf("%x: %x", uint32(index), uint32(a))
			}
		}
		d.stop()
		run(create...)
		run("--pcr-banks", "sha1,sha256", "--reconfigure")
		d = startSealed(t, dir, option)
		after := d.portrait(t)
		if !bytes.Equal(d.public(t, 0x81010016).Name(), name) || after == before || !strings.Contains(after, "pcrs: 00000004000403ffffff000b03ffffff000c03000000000d03000000") {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		d.stop()
		run("--overwrite")
		d = startSealed(t, dir, option)
		if keys := d.handles(t, tpm2.PersistentFirst); len(keys) != 0 {
			t.Errorf("an incoming TPM has keys: %x", keys)
		}
		d.stop()
		if b, err := os.ReadFile(log); err != nil || strings.Count(string(b), "Successfully authored TPM state.\n") != 3 ||
			strings.Contains(string(b), "a secret") {
			t.Errorf("the log: %v\n%s", err, b)
		}
	}
}

// TestSetupKeys: each way to give a key encrypts the state, which swtpm's options then
// open; another key does not, and changes nothing.
func TestSetupKeys(t *testing.T) {
	conf := setupConfig(t, "none")
	files := t.TempDir()
	pass := write(t, filepath.Join(files, "pass"), "word")
	short := write(t, filepath.Join(files, "short"), "0x"+strings.Repeat("5a", 16))
	long := write(t, filepath.Join(files, "long"), strings.Repeat("5a", 32))
	dir := t.TempDir()
	path := filepath.Join(dir, "tpm2-00.ashlar")
	base := []string{"--tpm2", "--tpm-state", dir, "--config", conf}
	var plain []byte
	for _, c := range []struct{ args, open string }{
		{"", ""},
		{"--pwdfile " + pass, "pwdfile=" + pass},
		{"--keyfile " + short, "file=" + short},
		{"--keyfile " + long + " --cipher aes-256-cbc", "file=" + long + ",mode=aes-256-cbc"},
		{"", ""},
	} {
		mustCall(t, "swtpm_setup", append(append(base, "--overwrite", "--createek"), strings.Fields(c.args)...)...)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d := startSealed(t, dir, c.open)
		modulus := d.public(t, 0x81010001).Unique
		d.stop()
		if clear := holds(b, modulus); clear != (c.open == "") {
			t.Errorf("%s: in clear: %v", c.args, clear)
		}
		if plain != nil && c.open != "" && holds(b, plain) {
			t.Errorf("%s: the TPM from before is still in the file", c.args)
		}
		plain = nil
		if c.open == "" {
			plain = modulus
		}
	}
	mustCall(t, "swtpm_setup", append(base, "--overwrite", "--pwdfile", pass)...)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"--reconfigure":                                    "encrypted",
		"--reconfigure --pwdfile " + long:                  "key",
		"--overwrite --pwdfile " + pass + ".no":            "no such file",
		"--overwrite --keyfile " + pass:                    "hexadecimal",
		"--overwrite --keyfile " + long:                    "bytes",
		"--overwrite --cipher aes-512":                     "--cipher aes-512",
		"--overwrite --pwdfile " + pass + " --cipher none": "none",
		"--overwrite --pwdfile-fd x":                       "--pwdfile-fd",
	} {
		if _, errs, code := call("swtpm_setup", append(base, strings.Fields(args)...)...); code != 1 || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit code %d: %s", args, code, errs)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the TPM was changed: %v", err)
	}
}

// holds looks for a part of a number in a file that is written in sectors.
func holds(file, number []byte) bool {
	for part := range slices.Chunk(number, 16) {
		if bytes.Contains(file, part) {
			return true
		}
	}
	return false
}
