package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

func printVersion() {
	fmt.Printf("TPM emulator version %s, Ashlar; it speaks swtpm's protocol\n", version)
}

// features are the verbs of swtpm(8) for what this program can do.
func features() []string {
	f := []string{
		"tpm-2.0",
		"tpm-send-command-header",
		"flags-opt-startup",
		"flags-opt-disable-auto-shutdown",
		"cmdarg-print-states",
		"cmdarg-migration",
		"cmdarg-print-info",
		"nvram-backend-dir",
		"tpmstate-opt-lock",
		"systemd-notify",
	}
	for _, bits := range swtpm.RSAKeySizes {
		f = append(f, fmt.Sprintf("rsa-keysize-%d", bits))
	}
	return f
}

// printCapabilities writes what libvirt and swtpm_setup look for, in swtpm's
// own format.
func printCapabilities() {
	fmt.Printf("{ \"type\": \"swtpm\", \"features\": [ \"%s\" ], \"version\": \"%s\" }\n",
		strings.Join(features(), "\", \""), version)
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
	fmt.Printf("%s\n", swtpm.Info(flags))
	return nil
}
