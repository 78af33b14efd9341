package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestSetupAsSwtpm makes TPMs by swtpm_setup and by ours, and compares all that does
// not depend on their seeds.
func TestSetupAsSwtpm(t *testing.T) {
	theirs := debian(t, "swtpm_setup")
	bin := binDir(t)
	ourConf, theirConf := setupConfig(t, filepath.Join(bin, "swtpm_localca")), setupConfig(t, debian(t, "swtpm_localca"))
	for _, options := range []string{
		"",
		"--createek",
		"--createek --create-ek-cert --create-platform-cert --lock-nvram --vmid guest:6f2a",
		"--create-platform-cert --pcr-banks sha1,nonsense --pcr-banks sha512",
		"--create-ek-cert --allow-signing --lock-nvram",
		"--createek --allow-signing --decryption --pcr-banks -",
		"--createek --decryption --create-spk --ecc",
		"--create-ek-cert --rsa-keysize 3072 --create-spk",
	} {
		t.Run(strings.ReplaceAll(options, ",", "+"), func(t *testing.T) {
			t.Parallel()
			dir, other := t.TempDir(), t.TempDir()
			args := append([]string{"--tpm2"}, strings.Fields(options)...)
			mustCall(t, "swtpm_setup", append(args, "--tpm-state", dir, "--config", ourConf)...)
			mustRun(t, nil, theirs, append(args, "--tpm", "/usr/bin/swtpm socket", "--tpm-state", other, "--config", theirConf)...)
			got, want := startOurs(t, dir).portrait(t), startTheirs(t, other).portrait(t)
			if got != want {
				t.Errorf("ours:\n%s\nDebian's:\n%s", got, want)
			}
		})
	}
}
