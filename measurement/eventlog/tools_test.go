package eventlog_test

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestToolsAgree replays a log with tpm2_eventlog too.
func TestToolsAgree(t *testing.T) {
	tool, err := exec.LookPath("tpm2_eventlog")
	if err != nil {
		t.Skip("tpm2_eventlog is not installed (package tpm2-tools): skipped")
	}
	raw := boot(newAgile(tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384)).Bytes()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, path).Output()
	if err != nil {
		t.Fatalf("tpm2_eventlog refuses the log: %v", err)
	}
	_, text, ok := strings.Cut(string(out), "\npcrs:\n")
	if !ok {
		t.Fatalf("tpm2_eventlog prints no PCRs:\n%s", out)
	}
	theirs := map[string]string{}
	bank := ""
	line := regexp.MustCompile(`^\s+(\w+)\s*:\s*(?:0x([0-9a-f]+))?$`)
	for _, l := range strings.Split(text, "\n") {
		if m := line.FindStringSubmatch(l); m != nil && m[2] == "" {
			bank = m[1]
		} else if m != nil {
			theirs[bank+" "+m[1]] = m[2]
		}
	}
	ours := map[string]string{}
	for _, b := range parse(t, raw).Replay() {
		for _, i := range b.Extended() {
			v, _ := b.PCR(i)
			ours[b.Alg.String()+" "+strconv.Itoa(i)] = hex.EncodeToString(v)
		}
	}
	if len(ours) != 24 || len(theirs) != len(ours) {
		t.Fatalf("ours %v\ntheirs %v", ours, theirs)
	}
	for pcr, want := range theirs {
		if ours[pcr] != want {
			t.Errorf("%s: %s, tpm2_eventlog has %s", pcr, ours[pcr], want)
		}
	}
}
