package demo

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// sampleBoots are two boots, the second with a changed command line, a program more
// and one event less.
func sampleBoots() []*boot {
	pcrs := func(nine byte) eventlog.PCRs {
		return eventlog.PCRs{tpm2.AlgSHA256: {0: bytes.Repeat([]byte{0xa0}, 32), 9: bytes.Repeat([]byte{nine}, 32)}}
	}
	first := &boot{
		Name: "reference", Title: "the machine", Verdict: verdictReference, PCRs: pcrs(0xc1),
		Measured: []scheme.Measurement{
			measurement(1, 0, "firmware", "firmware <volume>", "11", scheme.Listed),
			measurement(2, 4, "hand-over", "separator", "22", scheme.Listed),
			measurement(3, 9, "command line", `kernel command line "quiet"`, "33", scheme.Listed),
			measurement(1, 10, "programs", "/bin/busybox", "44", scheme.Listed),
		},
		EventLog: "a/eventlog.bin", IMA: "a/ima.bin", Quote: "a/quote.msg",
	}
	second := &boot{
		Name: "command-line", Title: "the forged one", Verdict: verdictContraindicated,
		Reasons: []string{"PCR 9, kernel command line: not as expected"}, PCRs: pcrs(0xc2),
		Measured: []scheme.Measurement{
			measurement(1, 0, "firmware", "firmware <volume>", "11", scheme.Listed),
			measurement(0, 4, "hand-over", "separator", "22", scheme.Missing),
			measurement(2, 9, "command line", `kernel command line "debug"`, "55", scheme.Changed),
			measurement(1, 10, "programs", "/bin/busybox", "44", scheme.Listed),
			measurement(2, 10, "programs", "/run/unlisted", "66", scheme.Unlisted),
		},
	}
	return []*boot{first, second}
}

func measurement(number, pcr int, stage, what, digest string, listing scheme.Listing) scheme.Measurement {
	return scheme.Measurement{
		Number: number, PCR: pcr, Stage: stage, What: what, Digest: "sha256:" + strings.Repeat(digest, 32), Listing: listing,
	}
}

func TestPageSaysWhatDiffers(t *testing.T) {
	p := newPage("kernel", "made", sampleBoots())
	var differing []string
	for _, r := range p.Diffs {
		differing = append(differing, r.PCR+" "+r.What)
	}
	want := []string{"4 separator", `9 kernel command line "quiet"`, "10 /run/unlisted"}
	if strings.Join(differing, "; ") != strings.Join(want, "; ") {
		t.Errorf("differences: %q; want %q", differing, want)
	}
	if got := p.Diffs[1].Cells[1].Other; got != `kernel command line "debug"` {
		t.Errorf("the forged command line is shown as %q", got)
	}
	for _, s := range p.Stages {
		if same := s.Cells[1].Same; same != (s.Name == "firmware") {
			t.Errorf("stage %s as in the first boot: %v", s.Name, same)
		}
	}
	if len(p.PCRs) != lastPCR+1 || !p.PCRs[0].Cells[1].Same || p.PCRs[9].Cells[1].Same {
		t.Errorf("PCR rows: %+v", p.PCRs)
	}
}

func TestStagesAreInBootOrder(t *testing.T) {
	b := &boot{Measured: []scheme.Measurement{
		{Stage: "program or file"}, {Stage: "initrd"}, {Stage: "kernel"}, {Stage: "firmware"}, {Stage: "kernel"},
	}}
	if got := strings.Join(stagesOf([]*boot{b}), ", "); got != "firmware, kernel, initrd, program or file" {
		t.Errorf("stages: %s", got)
	}
}

func TestMeasuredTwiceIsTwoRows(t *testing.T) {
	b := &boot{Measured: []scheme.Measurement{
		measurement(1, 4, "kernel", "separator", "01", scheme.Listed), measurement(2, 4, "kernel", "separator", "02", scheme.Listed),
	}}
	rows, _ := measurementRows("kernel", []*boot{b})
	if len(rows) != 2 || rows[0].Cells[0].Short() != "010101010101" || rows[1].Cells[0].Short() != "020202020202" {
		t.Errorf("rows: %+v", rows)
	}
}

func TestHTMLIsSelfContained(t *testing.T) {
	path := filepath.Join(t.TempDir(), "demo.html")
	if err := writeHTML(path, "linux-image", "made now", sampleBoots()); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, outside := range []string{"http:", "https:", "src=", "href=", "@import", "url("} {
		if bytes.Contains(page, []byte(outside)) {
			t.Errorf("the page refers outside itself: %s", outside)
		}
	}
	for _, want := range []string{"prefers-color-scheme: dark", "firmware &lt;volume&gt;", "contraindicated", "a/quote.msg", "not as expected"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestJSON(t *testing.T) {
	boots := sampleBoots()
	text, err := resultJSON(boots)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Boots []map[string]any `json:"boots"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"name", "verdict", "reasons", "pcrs", "eventlog", "ima", "quote", "secretReleased"} {
		if got.Boots[0][key] == nil {
			t.Errorf("boots[0] lacks %q: %s", key, text)
		}
	}
	if got := got.Boots[0]["signature"]; got != "a/quote.sig" {
		t.Errorf("the signature of a/quote.msg is said to be %v", got)
	}
	if reasons := got.Boots[1]["reasons"].([]any); len(reasons) != 1 || reasons[0] != boots[1].Reasons[0] {
		t.Errorf("reasons: %v", reasons)
	}
}

func TestScenarioCheck(t *testing.T) {
	forged := story[2]
	good := boot{Verdict: verdictContraindicated, Reasons: []string{"event 22, the kernel command line, is not listed"}}
	if err := forged.check(&good); err != nil {
		t.Errorf("a refusal that names the event: %v", err)
	}
	for name, alter := range map[string]func(b *boot){
		"affirmed":      func(b *boot) { b.Verdict = verdictAffirming },
		"other reason":  func(b *boot) { b.Reasons = []string{"the nonce is old"} },
		"secret leaked": func(b *boot) { b.SecretReleased = true },
	} {
		b := good
		alter(&b)
		if err := forged.check(&b); err == nil {
			t.Errorf("%s: the demo would have ended well", name)
		}
	}
	if err := story[1].check(&boot{Verdict: verdictAffirming}); err == nil {
		t.Error("an affirmed boot without its secret would have ended well")
	}
}

func TestFreshDirKeepsWhatIsNotTheDemos(t *testing.T) {
	dir := t.TempDir()
	work := filepath.Join(dir, "work")
	if err := os.WriteFile(work, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := freshDir(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory with other people's work: %v", err)
	}
	if _, err := os.Stat(work); err != nil {
		t.Error("the work is gone")
	}
	own := filepath.Join(t.TempDir(), "demo-out")
	for range 2 {
		if _, err := freshDir(own); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(own, "old"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := freshDir(own); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(own, "old")); err == nil {
		t.Error("an earlier run's files were left")
	}
}

func TestAgrees(t *testing.T) {
	for in, want := range map[string]bool{"y\n": true, "YES\n": true, "n\n": false, "\n": false, "": false, "yellow\n": false} {
		if got := agrees(strings.NewReader(in)); got != want {
			t.Errorf("answer %q counts as %v", in, got)
		}
	}
}

func TestTableMarksEveryMeasurement(t *testing.T) {
	var out bytes.Buffer
	(&teller{out: &out, since: time.Now()}).table(sampleBoots()[1])
	for _, want := range []string{`≠ kernel command line "debug"`, "✗ /run/unlisted", "✓ /bin/busybox", "– separator", "programs "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}
