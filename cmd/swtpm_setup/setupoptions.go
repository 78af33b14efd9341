package main

import (
	"errors"
	"slices"
	"strings"
)

// setupOptions are those of swtpm_setup.
type setupOptions struct {
	state, config, logfile, vmid, runas     string
	tpm, ioctl                              string // programs that are not used
	banks                                   []string
	rsaSize, ek1, ek2, iak, idevid          string // kinds of keys
	certFiles                               string // the directory for copies of certificates
	keyfile, keyfileFD, pwdfile, pwdfileFD  string
	cipher                                  string
	profile, profileName                    string
	profileFile, profileFD                  string
	removeDisabled                          string
	configFiles                             string
	tpm2, createEK, ekCert, platformCert    bool
	spk, ecc, signing, decryption, lock     bool
	overwrite, notOverwrite, reconfigure    bool
	display, takeOwnership                  bool
	makeConfigFiles                         bool
	capabilities, profiles, version, helpMe bool
}

func (o *setupOptions) table() []option {
	help := flagOption("help", &o.helpMe)
	help.short = "h"
	files := option{name: "create-config-files", lax: true,
		text: func(s string) error { o.makeConfigFiles, o.configFiles = true, s; return nil }}
	implies := func(name string, flags ...*bool) option {
		return option{name: name, flag: func() {
			for _, f := range flags {
				*f = true
			}
		}}
	}
	banks := option{name: "pcr-banks", text: func(s string) error { o.banks = append(o.banks, strings.TrimSpace(s)); return nil }}
	list := []option{help, files, banks,
		implies("take-ownership", &o.createEK, &o.takeOwnership),
		implies("create-ek-cert", &o.createEK, &o.ekCert),
		implies("create-platform-cert", &o.createEK, &o.platformCert),
	}
	for name, into := range map[string]*string{
		"tpm-state": &o.state, "tpmstate": &o.state, "config": &o.config, "logfile": &o.logfile, "vmid": &o.vmid,
		"runas": &o.runas, "tpm": &o.tpm, "swtpm_ioctl": &o.ioctl, "rsa-keysize": &o.rsaSize,
		"ek1keyalgo": &o.ek1, "ek2keyalgo": &o.ek2, "iakkeyalgo": &o.iak, "idevidkeyalgo": &o.idevid,
		"write-ek-cert-files": &o.certFiles, "keyfile": &o.keyfile, "keyfile-fd": &o.keyfileFD,
		"pwdfile": &o.pwdfile, "pwdfile-fd": &o.pwdfileFD, "cipher": &o.cipher,
		"profile": &o.profile, "profile-name": &o.profileName, "profile-file": &o.profileFile,
		"profile-file-fd": &o.profileFD, "profile-remove-disabled": &o.removeDisabled,
		"ownerpass": new(string), "srkpass": new(string), "tcsd-system-ps-file": new(string), // of a TPM 1.2
	} {
		list = append(list, textOption(name, into))
	}
	for name, into := range map[string]*bool{
		"tpm2": &o.tpm2, "createek": &o.createEK, "create-spk": &o.spk, "ecc": &o.ecc, "allow-signing": &o.signing,
		"decryption": &o.decryption, "lock-nvram": &o.lock, "display": &o.display, "overwrite": &o.overwrite,
		"not-overwrite": &o.notOverwrite, "reconfigure": &o.reconfigure, "print-capabilities": &o.capabilities,
		"print-profiles": &o.profiles, "version": &o.version,
		"no-iak":           new(bool),                              // what is made without --iakkeyalgo
		"owner-well-known": new(bool), "srk-well-known": new(bool), // of a TPM 1.2
	} {
		list = append(list, flagOption(name, into))
	}
	slices.SortFunc(list, func(a, b option) int { return strings.Compare(a.name, b.name) })
	return list
}

// parseSetup reads swtpm_setup's command line.
func parseSetup(args []string) (*setupOptions, error) {
	o := &setupOptions{}
	_, err := getopt(args, o.table(), false)
	return o, err
}

// check refuses what does not go together, or is not there.
func (o *setupOptions) check() error {
	given := 0
	for _, p := range []string{o.profile, o.profileName, o.profileFile, o.profileFD} {
		if p != "" {
			given++
		}
	}
	switch {
	case o.state == "":
		return errors.New("where is the TPM to be? Give --tpm-state DIR")
	case o.takeOwnership:
		return errors.New("--take-ownership is for a TPM 1.2 only")
	case given > 1:
		return errors.New("only one of --profile, --profile-name, --profile-file and --profile-file-fd can be given")
	case o.reconfigure && given > 0:
		return errors.New("--reconfigure: a TPM keeps the profile that it was made with")
	case o.reconfigure && o.createEK:
		return errors.New("--reconfigure changes the PCR banks of a TPM, and makes neither keys nor certificates: leave --createek, --create-ek-cert and --create-platform-cert out")
	}
	return nil
}

// noTPM12 refuses what only a TPM 1.2 has.
func (o *setupOptions) noTPM12() error {
	if o.tpm2 {
		return nil
	}
	return errors.New("there is no TPM 1.2 in this version: add --tpm2")
}
