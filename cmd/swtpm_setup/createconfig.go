package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// createConfigFiles makes the configuration of a user who runs swtpm_setup: how says
// overwrite, root and skip-if-exist, apart by commas or spaces.
func createConfigFiles(how string, out io.Writer) error {
	words := strings.FieldsFunc(how, func(r rune) bool { return r == ',' || r == ' ' })
	overwrite, skip := slices.Contains(words, "overwrite"), slices.Contains(words, "skip-if-exist")
	if overwrite && skip {
		return errors.New("--create-config-files: overwrite and skip-if-exist cannot both be used")
	}
	if os.Getuid() == 0 && !slices.Contains(words, "root") {
		return errors.New("--create-config-files: the files would take the place of those in /etc for root: add 'root' where that is meant")
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return err
	}
	files, state, err := userConfig(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := os.Stat(f.path); err != nil || overwrite {
			continue
		}
		if skip {
			return nil
		}
		return fmt.Errorf("file %s already exists: it is left as it is, unless 'overwrite' is given", f.path)
	}
	if err := os.MkdirAll(state, 0o775); err != nil {
		return err
	}
	for i, f := range files {
		fmt.Fprintf(out, "Writing %s.\n", f.path)
		if err := replaceFile(f.path, []byte(f.text), 0o666); err != nil {
			for _, f := range files[:i+1] {
				_ = os.Remove(f.path)
			}
			return err
		}
	}
	return nil
}

type configFile struct{ path, text string }

// userConfig is the configuration of a user who has none, below a folder, and the
// folder of the CA that it names.
func userConfig(dir string) (files []configFile, state string, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, "", err
	}
	word := func(b []byte) string { return strings.ReplaceAll(unix.ByteSliceToString(b), " ", "_") }
	state = filepath.Join(dir, "var", "lib", "swtpm-localca")
	return configFiles(dir, state, word(u.Sysname[:]), word(u.Version[:]), word(u.Sysname[:])), state, nil
}

// systemConfig is the configuration of a host that has none: that of swtpm's packages.
func systemConfig() []configFile {
	return configFiles("/etc", "/var/lib/swtpm-localca", "Fedora", "2.1", "QEMU")
}

// configFiles are the files of a configuration in a folder: where the CA is, and whose
// the platform.
func configFiles(dir, state, manufacturer, version, model string) []configFile {
	names := [3]string{"swtpm_setup.conf", "swtpm-localca.conf", "swtpm-localca.options"}
	for i, name := range names {
		names[i] = filepath.Join(dir, name)
	}
	return []configFile{
		{names[0], fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n"+
			"# Comma-separated list (no spaces) of PCR banks to activate by default\nactive_pcr_banks = sha256\n",
			localcaPath(), names[1], names[2])},
		{names[1], fmt.Sprintf("statedir = %s\nsigningkey = %s\nissuercert = %s\ncertserial = %s\n", state,
			filepath.Join(state, "signkey.pem"), filepath.Join(state, "issuercert.pem"), filepath.Join(state, "certserial"))},
		{names[2], fmt.Sprintf("--platform-manufacturer %s\n--platform-version %s\n--platform-model %s\n",
			manufacturer, version, model)},
	}
}

// localcaPath is where swtpm_localca is: beside this program, or where swtpm puts it.
func localcaPath() string {
	const usual = "/usr/bin/swtpm_localca"
	self, err := os.Executable()
	if err != nil {
		return usual
	}
	if path := filepath.Join(filepath.Dir(self), "swtpm_localca"); isSelf(path) {
		return path
	}
	return usual
}
