package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestSetupExitCodes runs command lines that go wrong, and some that do not, by
// swtpm_setup and by ours: the exit code is the same, and where it is 1 there is one
// line that says why, and no TPM.
func TestSetupExitCodes(t *testing.T) {
	theirs := debian(t, "swtpm_setup")
	bin := binDir(t)
	conf := setupConfig(t, filepath.Join(bin, "swtpm_localca"))
	write(t, conf+".bare", "active_pcr_banks = sha256\n")
	write(t, conf+".false", "create_certs_tool = /bin/false\n")
	write(t, conf+".true", "create_certs_tool = /bin/true\n")
	write(t, conf+".none", "create_certs_tool = /no/such/tool\n")
	if err := os.Symlink("/nowhere", conf+".link"); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		options string // DIR and CONF stand for paths
		code    int
	}{
		{"--tpm2 --tpm-state DIR --config CONF", 0},
		{"--tpm2 --tpmstate dir://DIR --config CONF", 0},
		{"--tpm2 --tpm-sta DIR --conf CONF --createe", 0},
		{"--tpm2 --tpm-state DIR --config CONF --ownerpass x --srk-well-known", 0},
		{"--tpm2 --tpm-state DIR --config CONF --pcr-banks ,", 0},
		{"--tpm2 --tpm-state DIR --config CONF.true", 0},
		{"--tpm2 --tpm-state DIR --config CONF --reconfigure --pcr-banks sha384", 0},
		{"--tpm2 --config CONF", 1},
		{"--tpm2 --tpm-state DIR/no --config CONF", 1},
		{"--tpm2 --tpm-state DIR --config CONF.no", 1},
		{"--tpm2 --tpm-state DIR --config CONF --nonsense", 1},
		{"--tpm2 --tpm-state DIR --config CONF --create", 1},
		{"--tpm2 --tpm-state DIR --config CONF --rsa-keysize 1024", 1},
		{"--tpm2 --tpm-state DIR --config CONF --rsa-keysize 4096", 1},
		{"--tpm2 --tpm-state DIR --config CONF --take-ownership", 1},
		{"--tpm2 --tpm-state DIR --config CONF --pcr-banks md5", 1},
		{"--tpm2 --tpm-state DIR --config CONF --reconfigure --createek", 1},
		{"--tpm2 --tpm-state DIR --config CONF --createek --write-ek-cert-files DIR/no", 1},
		{"--tpm2 --tpm-state DIR --config CONF --logfile CONF.link", 1},
		{"--tpm2 --tpm-state DIR --config CONF --runas no-such-user", 1},
		{"--tpm2 --tpm-state DIR --config CONF.bare --create-ek-cert", 1},
		{"--tpm2 --tpm-state DIR --config CONF.true --create-ek-cert", 1},
		{"--tpm2 --tpm-state DIR --config CONF.false --create-platform-cert", 1},
		{"--tpm2 --tpm-state DIR --config CONF.none --create-ek-cert", 1},
		{"--create-config-files overwrite,skip-if-exist", 1},
		{"--tpm2 --tpm-state", 1},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			run := func(dir string) []string {
				return strings.Fields(strings.NewReplacer("DIR", dir, "CONF", conf).Replace(c.options))
			}
			dir, other := t.TempDir(), t.TempDir()
			out, errs, code := call("swtpm_setup", run(dir)...)
			cmd := exec.Command(theirs, append([]string{"--tpm", "/usr/bin/swtpm socket"}, run(other)...)...)
			_ = cmd.Run()
			if want := cmd.ProcessState.ExitCode(); code != want || code != c.code {
				t.Errorf("%s: exit code %d, Debian's %d\n%s%s", c.options, code, want, out, errs)
			}
			if _, err := os.Stat(filepath.Join(dir, "tpm2-00.ashlar")); (err == nil) != (code == 0) && !strings.Contains(c.options, "files overwrite") {
				t.Errorf("%s: there is a TPM: %v", c.options, err == nil)
			}
			if lines := strings.Count(errs, "\n"); lines != code {
				t.Errorf("%s: %d lines of errors: %s", c.options, lines, errs)
			}
		})
	}
}

// TestSetupRefuses is what only ours refuses, or refuses otherwise.
func TestSetupRefuses(t *testing.T) {
	conf := setupConfig(t, "swtpm_localca")
	for options, want := range map[string]string{
		"":                                                               "no TPM 1.2",
		"--createek --take-ownership":                                    "no TPM 1.2",
		"--tpm2 --tpm-state file:///no/where":                            "cannot be made",
		"--tpm2 --ek1keyalgo rsa2047 --createek":                         "rsa2047",
		"--tpm2 --iakkeyalgo secp256r1":                                  "--create-ek-cert",
		"--tpm2 --createek --ek2keyalgo rsa4096":                         "4096",
		"--tpm2 --profile {} --profile-name x":                           "only one",
		"--tpm2 --profile-name no/such":                                  "unacceptable",
		"--tpm2 --profile-name local:x":                                  "local:x",
		"--tpm2 --profile {\"Name\":\"no\"}":                             "no",
		"--tpm2 --profile-file-fd x":                                     "descriptor",
		"--tpm2 --reconfigure --profile-name null":                       "profile",
		"--tpm2 --profile-name null --profile-remove-disabled sometimes": "sometimes",
	} {
		dir := t.TempDir()
		args := strings.Fields(options)
		if !slices.Contains(args, "--tpm-state") {
			args = append(args, "--tpm-state", dir)
		}
		_, errs, code := call("swtpm_setup", append(args, "--config", conf)...)
		if code != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d: %s", options, code, errs)
		}
		if list, _ := filepath.Glob(filepath.Join(dir, "*")); len(list) > 0 {
			t.Errorf("%s: it left %v", options, list)
		}
	}
}

// TestSetupOverwrites: a TPM that is there is kept, refused or replaced, as is one
// of swtpm, or one that is damaged; a failure keeps it.
func TestSetupOverwrites(t *testing.T) {
	conf := setupConfig(t, "swtpm_localca")
	bad := write(t, conf+".bad", "create_certs_tool = /bin/false\n")
	dir := t.TempDir()
	path := filepath.Join(dir, "tpm2-00.ashlar")
	read := func() []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	with := func(conf string, more ...string) (string, string, int) {
		return call("swtpm_setup", append([]string{"--tpm2", "--tpm-state", dir, "--config", conf, "--createek"}, more...)...)
	}
	if _, errs, code := with(conf, "--not-overwrite"); code != 0 {
		t.Fatal(errs)
	}
	first := read()
	if out, errs, code := with(conf, "--not-overwrite"); code != 0 || errs != "" || !strings.Contains(out, "Not overwriting existing state file.") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if _, errs, code := with(conf); code != 1 || !strings.Contains(errs, "existing TPM state 'permall'") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if _, errs, code := with(bad, "--overwrite", "--create-ek-cert"); code != 1 || !strings.Contains(errs, "false failed") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if !bytes.Equal(read(), first) {
		t.Error("the TPM was changed")
	}
	name := func() []byte {
		d := startOurs(t, dir)
		defer d.stop()
		return d.public(t, 0x81010001).Name()
	}
	key := name()
	for _, damaged := range []string{"", "cut"} {
		if damaged != "" {
			write(t, path, damaged)
		}
		if damaged != "" {
			if _, errs, code := with(conf); code != 1 || !strings.Contains(errs, "cut or altered") {
				t.Errorf("exit code %d: %s", code, errs)
			}
			if _, errs, code := with(conf, "--not-overwrite"); code != 0 || string(read()) != damaged {
				t.Errorf("exit code %d: %s", code, errs)
			}
		}
		if _, errs, code := with(conf, "--overwrite"); code != 0 {
			t.Fatal(errs)
		}
		if next := name(); bytes.Equal(next, key) {
			t.Error("the TPM was not replaced")
		}
	}
}

// TestSetupInUse: a TPM that runs is not replaced under its guest.
func TestSetupInUse(t *testing.T) {
	conf := setupConfig(t, "swtpm_localca")
	dir := t.TempDir()
	args := []string{"--tpm2", "--tpm-state", dir, "--config", conf}
	mustCall(t, "swtpm_setup", args...)
	holder := exec.Command("/usr/bin/swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "not-need-init", "--server", "type=unixio,path="+dir+"/d", "--ctrl", "type=unixio,path="+dir+"/c")
	if err := holder.Start(); errors.Is(err, os.ErrNotExist) {
		t.Skip("swtpm is missing: install it")
	} else if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	for end := time.Now().Add(20 * time.Second); !exists(filepath.Join(dir, "tpm2-00.permall")); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) { // it has the lock when the file is there
			t.Fatal("swtpm does not start")
		}
	}
	for _, how := range []string{"--overwrite", "--reconfigure"} {
		if _, errs, code := call("swtpm_setup", append(args, how)...); code != 1 || !strings.Contains(errs, "in use") {
			t.Errorf("%s: exit code %d: %s", how, code, errs)
		}
	}
	if _, errs, code := call("swtpm_setup", append(args, "--not-overwrite")...); code != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// TestReconfigure changes the banks of a TPM and nothing else, and a TPM outlives
// banks that it does not have.
func TestReconfigure(t *testing.T) {
	conf := setupConfig(t, "swtpm_localca")
	dir := t.TempDir()
	args := []string{"--tpm2", "--tpm-state", dir, "--config", conf}
	mustCall(t, "swtpm_setup", append(args, "--createek")...)
	banks := func() (active []string) {
		d := startOurs(t, dir)
		defer d.stop()
		data, err := d.capability(tpm2.CapPCRs, 0, 16)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range data.PCRs {
			if s.Has(0) {
				active = append(active, s.Hash.String())
			}
		}
		return append(active, string(d.public(t, 0x81010001).Name()))
	}
	before := banks()
	name := before[1]
	for _, c := range []struct {
		banks string
		code  int
		want  []string
	}{
		{"sha1,sha384", 0, []string{"sha1", "sha384", name}},
		{"-", 0, []string{"sha1", "sha384", name}},
		{"md5", 1, []string{"sha1", "sha384", name}},
		{"", 0, []string{"sha256", name}},
	} {
		if _, errs, code := call("swtpm_setup", append(args, "--reconfigure", "--pcr-banks", c.banks)...); code != c.code {
			t.Errorf("%s: exit code %d: %s", c.banks, code, errs)
		}
		if got := banks(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.banks, got)
		}
	}
}

// TestSetupOneFile makes a TPM in one file, keeps it and replaces it.
func TestSetupOneFile(t *testing.T) {
	conf := setupConfig(t, "none")
	file := filepath.Join(t.TempDir(), "tpm")
	args := []string{"--tpm2", "--tpm-state", "file://" + file, "--config", conf, "--createek"}
	name := func() string {
		d := startOurs(t, file)
		defer d.stop()
		return string(d.public(t, 0x81010016).Name())
	}
	mustCall(t, "swtpm_setup", args...)
	first := name()
	mustCall(t, "swtpm_setup", append(args, "--not-overwrite")...)
	if _, errs, code := call("swtpm_setup", args...); code != 1 || !strings.Contains(errs, "existing TPM state") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	mustCall(t, "swtpm_setup", "--tpm2", "--tpm-state", "file://"+file, "--config", conf, "--reconfigure", "--pcr-banks", "sha1")
	if name() != first {
		t.Error("the TPM was replaced")
	}
	mustCall(t, "swtpm_setup", append(args, "--overwrite")...)
	if name() == first {
		t.Error("the TPM was not replaced")
	}
}
