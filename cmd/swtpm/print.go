package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func printVersion() {
	fmt.Printf("TPM emulator version %s, Ashlar; it speaks swtpm's protocol\n", swtpm.Version)
}

// features are the verbs of swtpm(8) for what this program can do.
func features() []string {
	f := []string{
		"tpm-2.0",
		"cmdarg-seccomp",
		"tpm-send-command-header",
		"flags-opt-startup",
		"flags-opt-disable-auto-shutdown",
		"ctrl-opt-terminate",
		"cmdarg-key-fd",
		"cmdarg-pwd-fd",
		"cmdarg-print-states",
		"cmdarg-migration",
		"cmdarg-profile",
		"cmdarg-print-profiles",
		"profile-opt-remove-disabled",
		"cmdarg-print-info",
		"nvram-backend-dir",
		"nvram-backend-file",
		"tpmstate-opt-lock",
		"tpmstate-dir-backend-opt-backup",
		"tpmstate-dir-backend-opt-fsync",
		"cmdarg-chroot",
		"cmdarg-pcap",
		"systemd-notify",
	}
	for _, bits := range nullProfile().KeySizes(tpm2.AlgRSA) {
		f = append(f, fmt.Sprintf("rsa-keysize-%d", bits))
	}
	return f
}

// printCapabilities writes what libvirt and swtpm_setup look for, in swtpm's
// own format.
func printCapabilities() {
	var names []string
	for _, p := range tpm.Profiles() {
		names = append(names, p.Name())
	}
	algs, commands := nullProfile().Algorithms(), nullProfile().Commands()
	fmt.Printf("{ \"type\": \"swtpm\", \"features\": [ %s ], \"profiles\": { \"names\": [ %s ], "+
		"\"algorithms\": { \"canbedisabled\": \"%s\", \"implemented\": \"%s\" }, "+
		"\"commands\": { \"canbedisabled\": \"%s\", \"implemented\": \"%s\" } }, \"version\": \"%s\" }\n",
		quoted(features()), quoted(names), algs.CanBeDisabled, algs.Implemented,
		commands.CanBeDisabled, commands.Implemented, swtpm.Version)
}

// quoted is a list of strings as the items of a JSON array.
func quoted(list []string) string { return "\"" + strings.Join(list, "\", \"") + "\"" }

// nullProfile is what a TPM shows that is made without --profile.
func nullProfile() *tpm.Profile {
	p, err := tpm.RestoreProfile(nil)
	if err != nil {
		panic(err) // there is nothing to read
	}
	return p
}

// printProfiles lists the profiles that can be chosen by name.
func printProfiles() { fmt.Printf("%s\n", swtpm.Info(swtpm.InfoProfiles, nullProfile())) }

// infoProfile is the profile that --print-info is about: of the TPM that there
// is, or that the other options would make.
func infoProfile(o *options) (*tpm.Profile, error) {
	if o.profile != "" {
		return openProfile(o.profile)
	}
	if o.tpmstate == "" {
		return nullProfile(), nil
	}
	key, migration, err := readKeys(o)
	if err != nil {
		return nil, err
	}
	defer wipe(key, migration)
	dir, err := openState(o.tpmstate)
	if err != nil {
		return nil, err
	}
	return swtpm.Profile(dir, key)
}

// printStates lists the saved states.
func printStates(o *options) error {
	if o.tpmstate == "" {
		return fmt.Errorf("--print-states needs --tpmstate")
	}
	dir, err := openState(o.tpmstate)
	if err != nil {
		return err
	}
	states, err := swtpm.States(dir)
	if err != nil {
		return err
	}
	b, err := json.Marshal(states)
	if err != nil {
		return err
	}
	fmt.Printf("{ \"type\": \"swtpm\", \"states\": %s }\n", b)
	return nil
}

func printInfo(o *options) error {
	flags, err := o.infoFlags()
	if err != nil {
		return err
	}
	p, err := infoProfile(o)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", swtpm.Info(flags, p))
	return nil
}
