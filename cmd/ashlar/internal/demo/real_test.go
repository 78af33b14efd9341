package demo

import (
	"bytes"
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/cmd/ashlar/internal/guest"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// program builds a static program of this module, or takes the one that the
// environment names.
func program(t *testing.T, dir, name, override string) string {
	t.Helper()
	if path := os.Getenv(override); path != "" {
		return path
	}
	out := filepath.Join(dir, name)
	build := exec.Command("go", "build", "-trimpath", "-o", out, "github.com/ashlar-cloud/ashlar/cmd/"+name)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", name, err, text)
	}
	return out
}

// realGuest prepares a demo that can boot, or skips and says what is missing.
func realGuest(t *testing.T) *demo {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine, which -short leaves out")
	}
	host, missing := guest.FindHost()
	if len(missing) > 0 {
		t.Skip("needs the Debian packages " + strings.Join(missing, ", "))
	}
	cache, err := guest.CacheDir()
	if err != nil {
		t.Skip(err)
	}
	kernel, err := guest.FetchKernel(t.Context(), cache)
	if err != nil {
		t.Skip("needs a Debian kernel: ", err)
	}
	dir := t.TempDir()
	d := &demo{
		host: host, kernel: kernel, initrd: filepath.Join(dir, "initramfs"),
		opt:  Options{Dir: dir, TPM: program(t, dir, "swtpm", "ASHLAR_SWTPM")},
		tell: &teller{out: t.Output()},
	}
	if _, err := writeInitramfs(d.initrd, host.Busybox, program(t, dir, "ashlar", "ASHLAR_ATTESTER")); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRealGuest boots a guest through OVMF with each TPM interface. Its PCRs, event log
// and IMA log must verify, and tpm2-tools must agree. ASHLAR_KEEP_GUESTS names a
// directory to which the evidence is copied.
func TestRealGuest(t *testing.T) {
	d := realGuest(t)
	for _, device := range []string{guest.CRB, guest.TIS} {
		t.Run(device, func(t *testing.T) {
			trust, err := newTrust(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			d.trust, d.opt.Dir, d.opt.Device = trust, trust.dir, device
			b := &boot{Number: 1, Name: device}
			d.tell.heading(1, 1, device)
			if err := d.bootOnce(context.Background(), scenario{cmdline: guest.Cmdline, verdict: verdictReference}, b); err != nil {
				t.Fatal(err)
			}
			if b.Verdict != verdictReference {
				t.Fatalf("verdict %s: %s", b.Verdict, strings.Join(b.Reasons, "; "))
			}
			dir := filepath.Dir(b.Quote)
			checkMeasured(t, b)
			t.Run("tpm2_checkquote", func(t *testing.T) { checkQuote(t, dir, b) })
			t.Run("tpm2_eventlog", func(t *testing.T) { checkEventLog(t, b) })
			keepGuest(t, dir, trust, device)
		})
	}
}

// checkMeasured holds the boot to what every boot must show.
func checkMeasured(t *testing.T, b *boot) {
	t.Helper()
	for pcr := range lastPCR + 1 {
		if len(b.PCRs[shownBank][pcr]) != tpm2.AlgSHA256.DigestSize() {
			t.Errorf("PCR %d is not quoted", pcr)
		}
	}
	for _, want := range []struct{ stage, what string }{
		{"kernel", ""}, {"command line", ""}, {"initrd", ""}, {"", guest.Attester}, {"", "/bin/busybox"},
	} {
		found := false
		for _, m := range b.Measured {
			found = found || (want.stage == "" || m.Stage == want.stage) && strings.Contains(m.What, want.what)
		}
		if !found {
			t.Errorf("nothing measured as %s %s: %+v", want.stage, want.what, b.Measured)
		}
	}
}

// checkQuote asks tpm2_checkquote for its opinion of the quote, and of a forged one.
func checkQuote(t *testing.T, dir string, b *boot) {
	checkquote, err := exec.LookPath("tpm2_checkquote")
	if err != nil {
		t.Skip("needs the Debian package tpm2-tools")
	}
	run := func(qualifying string) ([]byte, error) {
		return exec.Command(checkquote, "-u", filepath.Join(dir, fileAK), "-m", b.Quote,
			"-s", filepath.Join(dir, fileSig), "-g", "sha256", "-q", qualifying).CombinedOutput()
	}
	if out, err := run(b.Qualifying); err != nil {
		t.Errorf("tpm2_checkquote refuses the quote: %v\n%s", err, out)
	}
	if _, err := run(strings.Repeat("00", len(b.Qualifying)/2)); err == nil {
		t.Error("tpm2_checkquote takes the quote under another nonce: it does not check what we think")
	}
}

var replayedPCR = regexp.MustCompile(`(?m)^    ([0-9]+) *: 0x([0-9a-f]+)$`)

// checkEventLog compares tpm2_eventlog's replay with the quoted values.
func checkEventLog(t *testing.T, b *boot) {
	eventlog, err := exec.LookPath("tpm2_eventlog")
	if err != nil {
		t.Skip("needs the Debian package tpm2-tools")
	}
	out, err := exec.Command(eventlog, b.EventLog).Output()
	if err != nil {
		t.Fatalf("tpm2_eventlog: %v", err)
	}
	_, banks, _ := bytes.Cut(out, []byte("\npcrs:\n"))
	_, sha256, ok := bytes.Cut(banks, []byte("\n  sha256:\n"))
	if !ok {
		t.Fatalf("tpm2_eventlog shows no SHA-256 PCRs:\n%s", banks)
	}
	if end := bytes.Index(sha256, []byte("\n  sha")); end >= 0 {
		sha256 = sha256[:end+1]
	}
	compared := 0
	for _, m := range replayedPCR.FindAllSubmatch(sha256, -1) {
		index, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		if quoted := hex.EncodeToString(b.PCRs[tpm2.AlgSHA256][index]); quoted != string(m[2]) {
			t.Errorf("PCR %d: tpm2_eventlog replays %s, the TPM quoted %s", index, m[2], quoted)
		}
		compared++
	}
	if compared < 8 {
		t.Errorf("only %d PCRs compared:\n%s", compared, sha256)
	}
}

// keepGuest copies what a test without a machine can verify again.
func keepGuest(t *testing.T, dir string, trust *trust, name string) {
	t.Helper()
	keep := os.Getenv("ASHLAR_KEEP_GUESTS")
	if keep == "" {
		return
	}
	out := filepath.Join(keep, name)
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		filepath.Join(dir, fileBundle), filepath.Join(trust.dir, fileEK), filepath.Join(trust.dir, fileReferences),
	} {
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(out, filepath.Base(path)), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
