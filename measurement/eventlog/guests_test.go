package eventlog_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestCommittedGuests replays the logs of our own guests in testdata/guests:
// eventlog.bin and pcrs.json, {"sha256": {"0": "hex"}}.
func TestCommittedGuests(t *testing.T) {
	logs, err := filepath.Glob("testdata/guests/*/eventlog.bin")
	if err != nil {
		t.Fatal(err)
	}
	if len(logs) == 0 {
		t.Skip("testdata/guests holds no evidence of guests: skipped")
	}
	for _, name := range logs {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(name), "pcrs.json"))
		if err != nil {
			t.Fatal(err)
		}
		var pcrs map[string]map[int]string
		if err := json.Unmarshal(text, &pcrs); err != nil {
			t.Fatal(err)
		}
		l, compared := parse(t, raw), 0
		for _, f := range l.Check() {
			if f.Severity != eventlog.Note {
				t.Errorf("%s: %s", name, f.Text)
			}
		}
		for bank, values := range pcrs {
			alg, ok := tpm2.ParseAlg(bank)
			if !ok {
				t.Fatalf("%s: bank %s", name, bank)
			}
			recorded := map[int][]byte{}
			for i, v := range values {
				if recorded[i], err = hex.DecodeString(v); err != nil {
					t.Fatal(err)
				}
			}
			for _, b := range l.Replay(alg) {
				same, differ := b.Mismatches(recorded)
				if compared += len(same); len(differ) > 0 {
					t.Errorf("%s, %s: PCRs %v do not replay", name, bank, differ)
				}
			}
		}
		if compared == 0 {
			t.Errorf("%s: nothing was compared", name)
		}
	}
}
