package ima_test

import (
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/ima"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestCommittedGuests finds the quoted PCR 10 in the logs of our own guests in
// testdata/guests: ima.bin and pcrs.json, {"sha256": {"10": "hex"}}.
func TestCommittedGuests(t *testing.T) {
	logs, err := filepath.Glob("testdata/guests/*/ima.bin")
	if err != nil {
		t.Fatal(err)
	}
	if len(logs) == 0 {
		t.Skip("testdata/guests holds no evidence of guests: skipped")
	}
	for _, name := range logs {
		l := parse(t, read(t, name))
		if h := l.CheckHashes(); len(h.Bad) > 0 || h.Unknown > 0 {
			t.Errorf("%s: %+v", name, h)
		}
		var pcrs map[string]map[int]string
		if err := json.Unmarshal(read(t, filepath.Dir(name), "pcrs.json"), &pcrs); err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(pcrs["sha256"][10])
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := l.FindPrefix(tpm2.AlgSHA256, map[int][]byte{10: want}); !ok {
			t.Errorf("%s: no prefix leads to PCR 10", name)
		}
		if e := l.BootAggregate(); e == nil || ima.Explain(e) == "" {
			t.Errorf("%s: no boot aggregate", name)
		}
	}
}
