package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// TestPredictSEV computes the digest of an image of one zero page, and refuses what
// cannot be launched.
func TestPredictSEV(t *testing.T) {
	fw := save(t, "fw", make([]byte, 4096))
	values := filepath.Join(t.TempDir(), "good.json")
	out, why, code := runVerb(newPredictCmd(), "sev", "--mode", "sev", "--firmware", fw, "--refvalues", values)
	const digest = "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7" // SHA-256 of 4,096 zeros
	if code != 0 || strings.TrimSpace(out) != digest {
		t.Fatalf("ends with %d: %s %s", code, out, why)
	}
	b, err := os.ReadFile(values)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := scheme.ParseValues(b, "sev"); err != nil || v.OneOf["launch_digest"][0] != digest {
		t.Errorf("%v: %s", err, b)
	}
	if out, why, code = runVerb(newPredictCmd(), "sev", "--firmware", fw, "--cpu", "EPYC-Milan", "--json"); code != 0 || !strings.Contains(out, `"kind": "sev-snp"`) {
		t.Errorf("ends with %d: %s %s", code, out, why)
	}
	for want, c := range map[string]struct {
		code int
		args []string
	}{
		"no place for the kernel": {1, []string{"--firmware", fw, "--cpu", "EPYC-Milan", "--kernel", fw, "--initrd", fw}},
		"SEV-ES reset block":      {1, []string{"--firmware", fw, "--cpu", "EPYC-Milan", "--vcpus", "2"}},
		"whole pages":             {1, []string{"--firmware", save(t, "odd", []byte("x")), "--vmm", "ec2"}},
		"--firmware is missing":   {2, []string{"--vmm", "gce"}},
		"none of snp":             {2, []string{"--mode", "tdx"}},
		"none of qemu":            {2, []string{"--vmm", "xen"}},
		"--cpu \"\" is none":      {2, []string{"--firmware", fw}},
		"go with --kernel":        {2, []string{"--firmware", fw, "--vmm", "gce", "--cmdline", "x"}},
	} {
		if _, why, code := runVerb(newPredictCmd(), append([]string{"sev"}, c.args...)...); code != c.code || !strings.Contains(why, want) {
			t.Errorf("%q: ends with %d: %s", want, code, why)
		}
	}
}
