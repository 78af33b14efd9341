package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSetupCapabilities: what libvirt 9.0 looks for in a host that makes no TPM 1.2,
// and nothing that is not so.
func TestSetupCapabilities(t *testing.T) {
	read := func(out string) (c struct {
		Type, Version      string
		Features, Profiles []string
	}) {
		if err := json.Unmarshal([]byte(out), &c); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return c
	}
	ours := read(mustCall(t, "swtpm_setup", "--print-capabilities"))
	theirs := read(mustRun(t, nil, debian(t, "swtpm_setup"), "--tpm", "/usr/bin/swtpm socket", "--print-capabilities"))
	if ours.Type != theirs.Type || !slices.Contains(ours.Features, "tpm-2.0") {
		t.Errorf("%+v", ours)
	}
	for _, f := range theirs.Features {
		lacks := strings.HasPrefix(f, "tpm-1.2") || strings.HasPrefix(f, "tpm12")
		if slices.Contains(ours.Features, f) == lacks {
			t.Errorf("%s: ours %v", f, !lacks)
		}
	}
	if !slices.Contains(ours.Profiles, "null") {
		t.Errorf("profiles %v", ours.Profiles)
	}
}

// TestSetupVersion: libvirt and scripts read a version from it.
func TestSetupVersion(t *testing.T) {
	out := mustCall(t, "swtpm_setup", "--version")
	if !regexp.MustCompile(`^TPM emulator setup tool version [0-9]+\.[0-9]+\.[0-9]+`).MatchString(out) {
		t.Error(out)
	}
	help := mustCall(t, "swtpm_setup", "--help")
	o := &setupOptions{}
	for _, opt := range o.table() {
		switch opt.name {
		case "tcsd-system-ps-file", "ownerpass", "owner-well-known", "srkpass", "srk-well-known", "take-ownership", // TPM 1.2
			"swtpm_ioctl", "tpm", "no-iak", "decryption", "idevidkeyalgo", "ek2keyalgo", "ecc", "tpmstate", "profile-file-fd":
		default:
			if !strings.Contains(help, "  --"+opt.name) && !strings.Contains(help, ", --"+opt.name) {
				t.Errorf("--help does not tell of --%s", opt.name)
			}
		}
	}
}

// TestCreateConfigFiles makes a user's configuration as swtpm_setup does, but for
// where swtpm_localca is.
func TestCreateConfigFiles(t *testing.T) {
	theirs := debian(t, "swtpm_setup")
	made := func(dir string) string {
		var all []string
		for _, name := range []string{"swtpm_setup.conf", "swtpm-localca.conf", "swtpm-localca.options"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.ReplaceAll(string(b), dir, "DIR"))
		}
		return strings.Join(all, "---\n")
	}
	dir, other := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	mustCall(t, "swtpm_setup", "--create-config-files", "root")
	mustRun(t, []string{"XDG_CONFIG_HOME=" + other}, theirs, "--create-config-files", "root")
	if got, want := made(dir), made(other); got != want {
		t.Errorf("ours:\n%s\nDebian's:\n%s", got, want)
	}
	for options, code := range map[string]int{
		"=root": 1, " overwrite,root": 0, " skip-if-exist,root": 0, "=skip-if-exist": 1, " --version": 1, "": 1,
	} {
		if os.Getuid() != 0 && options == "=skip-if-exist" {
			code = 0
		}
		args := strings.Fields("--create-config-files" + options)
		_, errs, got := call("swtpm_setup", args...)
		cmd := exec.Command(theirs, args...)
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+other)
		_ = cmd.Run()
		if want := cmd.ProcessState.ExitCode(); got != want || got != code {
			t.Errorf("%s: exit code %d, Debian's %d: %s", options, got, want, errs)
		}
	}
}

// TestPrintProfiles lists profiles by where they are, by the names that choose them.
func TestPrintProfiles(t *testing.T) {
	dir := t.TempDir()
	local := filepath.Join(dir, "profiles")
	if err := os.Mkdir(local, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(local, "mine.json"), `{"Name":"custom:mine","Description":"a < b"}`)
	write(t, filepath.Join(local, "broken.json"), `{`)
	write(t, filepath.Join(local, "nameless.json"), `{}`)
	conf := write(t, filepath.Join(dir, "conf"), "local_profiles_dir = "+local+"\n")
	var list map[string][]struct{ Name string }
	out := mustCall(t, "swtpm_setup", "--tpm2", "--print-profiles", "--config", conf)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	if len(list["local"]) != 1 || list["local"][0].Name != "mine" || len(list["builtin"]) < 4 {
		t.Error(out)
	}
	state := t.TempDir()
	mustCall(t, "swtpm_setup", "--tpm2", "--tpm-state", state, "--config", conf, "--profile-name", "mine")
	for _, more := range [][]string{
		{"--profile-name", "local:mine"}, {"--profile-name", "builtin:default-v1"}, {"--profile", `{"Name":"default-v2"}`},
		{"--profile-file", filepath.Join(local, "mine.json"), "--profile-remove-disabled", "fips-host"},
	} {
		out := mustCall(t, "swtpm_setup", append([]string{"--tpm2", "--tpm-state", state, "--config", conf, "--overwrite"}, more...)...)
		want := strings.NewReplacer("local:mine", "custom:mine", "builtin:", "", `{"Name":"`, "", `"}`, "").Replace(more[1])
		if more[0] == "--profile-file" {
			want = "custom:mine"
		}
		if !strings.Contains(out, `Active profile: {"Name":"`+want+`"`) {
			t.Errorf("%q: %s", more, out)
		}
	}
	write(t, conf, "profile = {\"Name\":\"default-v1\"}\nek1keyalgo = secp256r1\nek2keyalgo = ecc_nist_p256\n")
	out = mustCall(t, "swtpm_setup", "--tpm2", "--tpm-state", state, "--config", conf, "--overwrite", "--createek")
	if !strings.Contains(out, `{"Name":"default-v1"`) || !strings.Contains(out, "0x8101000a") || strings.Contains(out, "0x81010001") {
		t.Errorf("the configuration does not count: %s", out)
	}
}

// TestCompletion completes each name in bash and wants the options of its help text.
func TestCompletion(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("there is no bash to complete with")
	}
	for name, usage := range map[string]string{"swtpm_setup": setupUsage, "swtpm_localca": localcaUsage, "swtpm_cert": certUsage} {
		out := mustRun(t, nil, "bash", "-c", `source ../../packaging/completion/swtpm.bash
COMP_WORDS=(`+name+` --); COMP_CWORD=1; _`+name+`; printf '%s\n' "${COMPREPLY[@]}"`)
		got := strings.Fields(out)
		want := regexp.MustCompile(`--[a-z][a-z0-9-]+`).FindAllString(usage, -1)
		slices.Sort(got)
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Errorf("%s completes %v, the help has %v", name, got, want)
		}
	}
}
