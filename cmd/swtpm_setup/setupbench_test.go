package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkSetup runs this swtpm_setup and Debian's in turn, as libvirt runs them for
// a new machine, with a CA that is there, and prints medians and their ratio.
func BenchmarkSetup(b *testing.B) {
	const theirs = "/usr/bin/swtpm_setup"
	if _, err := os.Stat(theirs); err != nil {
		b.Skip("swtpm_setup is missing: install swtpm-tools")
	}
	bin := b.TempDir()
	ours := filepath.Join(bin, "swtpm_setup")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", ours, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	if err := os.Symlink(ours, filepath.Join(bin, "swtpm_localca")); err != nil {
		b.Fatal(err)
	}
	var spent [2][]float64
	sides := [2][]string{
		{ours, "--config", setupConfig(b, filepath.Join(bin, "swtpm_localca"))},
		{theirs, "--tpm", "/usr/bin/swtpm socket", "--config", setupConfig(b, "/usr/bin/swtpm_localca")},
	}
	const runs = 15
	for run := range runs + 1 {
		for i, side := range sides {
			cmd := exec.Command(side[0], append(side[1:], "--tpm2", "--tpm-state", b.TempDir(), "--createek", "--create-ek-cert",
				"--create-platform-cert", "--lock-nvram", "--vmid", "guest:1")...)
			began := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v: %v\n%s", cmd, err, out)
			}
			if run > 0 { // the first makes the CA
				spent[i] = append(spent[i], time.Since(began).Seconds()*1e3)
			}
		}
	}
	for i := range spent {
		slices.Sort(spent[i])
	}
	mine, their := spent[0][runs/2], spent[1][runs/2]
	fmt.Printf("\nA TPM with two EKs, their certificates and the platform's: ours %.0f ms, swtpm %.0f ms, %.1f times faster (the aim: 8), %d runs.\n",
		mine, their, their/mine, runs)
}
