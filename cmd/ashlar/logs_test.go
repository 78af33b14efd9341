package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// runVerb runs a verb and gives its output, its reasons and its exit code.
func runVerb(cmd *cobra.Command, args ...string) (out, reason string, code int) {
	var b bytes.Buffer
	cmd.SetOut(&b)
	cmd.SetErr(&b)
	cmd.SilenceErrors = true
	cmd.SetArgs(args)
	err := cmd.Execute()
	if err != nil {
		reason = err.Error()
	}
	return b.String(), reason, exitCode(err)
}

func save(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// legacyLog has one event in PCR 0 and one in PCR 5.
func legacyLog() []byte {
	var b bytes.Buffer
	for _, e := range []struct {
		pcr, kind uint32
		data      string
	}{{0, 8, "fw 1.0"}, {5, 0x80000007, "Exit Boot Services Invocation"}} {
		for _, v := range []any{e.pcr, e.kind, tpm2.AlgSHA1.Digest([]byte(e.data)), uint32(len(e.data)), []byte(e.data)} {
			if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
				panic(err)
			}
		}
	}
	return b.Bytes()
}

func extended(alg tpm2.AlgID, data string) string {
	return hex.EncodeToString(alg.Digest(make([]byte, alg.DigestSize()), alg.Digest([]byte(data))))
}

func TestEventlogVerb(t *testing.T) {
	log := save(t, "log", legacyLog())
	text := save(t, "log.txt", []byte(base64.StdEncoding.EncodeToString(legacyLog())))
	good := save(t, "pcrs.yaml", []byte("  sha1:\n    0 : 0x"+strings.ToUpper(extended(tpm2.AlgSHA1, "fw 1.0"))+"\n"))
	bad := save(t, "pcrs.json", []byte(`{"sha1":{"5":"`+extended(tpm2.AlgSHA1, "something else")+`"}}`))
	cut := save(t, "cut", legacyLog()[:60])
	for _, c := range []struct {
		args              []string
		code              int
		inOut, inReason   string
		notOut, notReason string
	}{
		{args: []string{log}, inOut: "firmware version fw 1.0"},
		{args: []string{text}, inOut: "legacy-sha1 event log, banks sha1, 2 events"},
		{args: []string{log, "--pcrs", good}, inOut: "PCRs, as recorded, sha1"},
		{args: []string{log, "--digests"}, inOut: hex.EncodeToString(tpm2.AlgSHA1.Digest([]byte("fw 1.0")))},
		{args: []string{log, "--pcrs", bad}, code: 1, inReason: "does not lead to PCR 5"},
		{args: []string{cut}, code: 1, inReason: "event 2 at offset", notOut: "MEASURED"},
		{args: []string{log, "--bank", "sha256"}, code: 2, inReason: "it has sha1"},
		{args: []string{log + ".none"}, code: 2, inReason: "no such file"},
		{args: []string{log, "--pcrs", log}, code: 2},
		{args: []string{}, code: 2},
	} {
		out, reason, code := runVerb(newEventlogCmd(), c.args...)
		if code != c.code || !strings.Contains(out, c.inOut) || !strings.Contains(reason, c.inReason) ||
			c.notOut != "" && strings.Contains(out, c.notOut) {
			t.Errorf("%q: exit code %d, want %d; %q\n%s", c.args, code, c.code, reason, out)
		}
	}
	out, _, code := runVerb(newEventlogCmd(), log, "--json")
	var j struct {
		Verdict string
		Events  []struct{ Stage, What, Data string }
	}
	if err := json.Unmarshal([]byte(out), &j); err != nil || code != 0 || j.Verdict != "valid" || len(j.Events) != 2 ||
		j.Events[0].Stage != "firmware" || j.Events[0].Data != "bound" {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
}

// asciiLog has a boot aggregate and the files given, each with its content.
func asciiLog(files ...string) []byte {
	var b bytes.Buffer
	for i := 0; i < len(files); i += 2 {
		d := tpm2.AlgSHA256.Digest([]byte(files[i+1]))
		var data bytes.Buffer
		for _, f := range [][]byte{append([]byte("sha256:\x00"), d...), []byte(files[i] + "\x00")} {
			if err := binary.Write(&data, binary.LittleEndian, uint32(len(f))); err != nil {
				panic(err)
			}
			data.Write(f)
		}
		fmt.Fprintf(&b, "10 %x ima-ng sha256:%x %s\n", tpm2.AlgSHA1.Digest(data.Bytes()), d, files[i])
	}
	return b.Bytes()
}

func TestIMAVerb(t *testing.T) {
	log := save(t, "ima", asciiLog("boot_aggregate", "p", "/bin/a", "1"))
	other := save(t, "other", asciiLog("boot_aggregate", "p", "/bin/a", "1", "/bin/evil", "2"))
	forged := save(t, "forged", bytes.Replace(asciiLog("/bin/a", "1"), []byte("/bin/a"), []byte("/bin/b"), 1))
	pcrs := save(t, "pcrs", []byte(`{"sha256":{"10":"`+strings.Repeat("11", 32)+`"}}`))
	learnt, reason, code := runVerb(newIMACmd(), log, "--learn")
	if code != 0 {
		t.Fatal(reason)
	}
	policy := save(t, "policy", []byte(learnt))
	for _, c := range []struct {
		args            []string
		code            int
		inOut, inReason string
	}{
		{args: []string{log}, inOut: "file /bin/a, sha256:"},
		{args: []string{log, "--policy", policy, "--summary"}, inOut: "ascii IMA log, 2 entries (ima-ng 2)"},
		{args: []string{other, "--policy", policy}, code: 1, inReason: "/bin/evil is not in the list of allowed files"},
		{args: []string{forged}, code: 1, inReason: "/bin/b"},
		{args: []string{log, "--pcrs", pcrs}, code: 1, inReason: "PCR 10"},
		{args: []string{log, "--learn", "--json"}, code: 2, inReason: "--learn"},
		{args: []string{log, "--policy", log}, code: 2, inReason: "policy"},
	} {
		out, reason, code := runVerb(newIMACmd(), c.args...)
		if code != c.code || !strings.Contains(out, c.inOut) || !strings.Contains(reason, c.inReason) {
			t.Errorf("%q: exit code %d, want %d; %q\n%s", c.args, code, c.code, reason, out)
		}
	}
	if out, _, code := runVerb(newIMACmd(), forged, "--learn"); code != 1 || out != "" {
		t.Errorf("a policy is learnt from a forged log: %d, %s", code, out)
	}
	out, _, code := runVerb(newIMACmd(), log, "--json")
	var j struct {
		Verdict string
		Entries []struct{ Path string }
	}
	if err := json.Unmarshal([]byte(out), &j); err != nil || code != 0 || len(j.Entries) != 2 || j.Entries[1].Path != "/bin/a" {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
}

// TestOwnGuestLogs compares logs of real guests with what tpm2_pcrread printed.
func TestOwnGuestLogs(t *testing.T) {
	dir := os.Getenv("ASHLAR_EVIDENCE")
	if dir == "" {
		t.Skip("ASHLAR_EVIDENCE does not name a folder of evidence of real machines: skipped")
	}
	for _, guest := range []string{"kernel-crb", "uki-sb-crb", "ima5000-crb"} {
		at := func(name string) string { return filepath.Join(dir, "own", guest, name) }
		for _, pcrs := range []string{"pcrs.txt", "quote2_rsa.pcrs"} {
			if _, reason, code := runVerb(newEventlogCmd(), at("eventlog.bin"), "--pcrs", at(pcrs)); code != 0 {
				t.Errorf("%s, %s: %s", guest, pcrs, reason)
			}
			if _, reason, code := runVerb(newIMACmd(), at("ima_after_rsa.bin"), "--pcrs", at(pcrs), "--summary"); code != 0 {
				t.Errorf("%s, %s: %s", guest, pcrs, reason)
			}
		}
	}
}
