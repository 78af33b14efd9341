package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// printSetupCapabilities writes what libvirt looks for, in swtpm_setup's words.
func printSetupCapabilities(out io.Writer) {
	features := []string{"tpm-2.0", "cmdarg-keyfile-fd", "cmdarg-pwdfile-fd", "cmdarg-write-ek-cert-files", "cmdarg-create-config-files", "cmdarg-reconfigure-pcr-banks"}
	var sizes []uint16
	var names []string
	for _, p := range tpm.Profiles() {
		names = append(names, p.Name())
		sizes = append(sizes, p.KeySizes(tpm2.AlgRSA)...)
	}
	slices.Sort(sizes)
	for _, bits := range slices.Compact(sizes) {
		if slices.Contains(identity.KeyKinds(), fmt.Sprintf("rsa%d", bits)) {
			features = append(features, fmt.Sprintf("tpm2-rsa-keysize-%d", bits))
		}
	}
	features = append(features, "cmdarg-profile", "cmdarg-profile-remove-disabled",
		"cmdarg-ek1keyalgo", "cmdarg-ek2keyalgo", "cmdarg-iakkeyalgo", "cmdarg-idevidkeyalgo")
	fmt.Fprintf(out, "{ \"type\": \"swtpm_setup\", \"features\": [ \"%s\" ], \"profiles\": [ \"%s\" ], \"version\": \"%s\" }\n",
		strings.Join(features, "\", \""), strings.Join(names, "\", \""), swtpm.Version)
}

// show tells what a TPM has: its persistent keys, its NV Indices and the PCR banks
// that are active from the next start on.
func (s *setupRun) show(d device) error {
	for _, k := range []struct {
		what  string
		first tpm2.Handle
	}{{"Key with handle", tpm2.PersistentFirst}, {"NVRAM area", tpm2.NVIndexFirst}} {
		data, err := d.capability(tpm2.CapHandles, uint32(k.first), 64)
		if err != nil {
			return err
		}
		for _, h := range data.Handles {
			s.log.printf("%s 0x%x\n", k.what, uint32(h))
		}
	}
	return nil
}
