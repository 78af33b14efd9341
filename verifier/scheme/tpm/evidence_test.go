package tpm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
)

// item is one line of the evidence's list of expectations.
type item struct {
	ID, Kind            string
	Files, Endorsements []string
	Nonce, At           *string
	Expect              Verdict
	Reason              *string
	Facts               map[string]any
}

func items(t *testing.T) (string, []item) {
	t.Helper()
	dir := os.Getenv("ASHLAR_EVIDENCE")
	if dir == "" {
		t.Skip("ASHLAR_EVIDENCE is not set: there is no real evidence to appraise")
	}
	all, err := os.ReadFile(filepath.Join(dir, "expected.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var list []item
	for _, line := range strings.Split(strings.TrimSpace(string(all)), "\n") {
		var it item
		if err := json.Unmarshal([]byte(line), &it); err != nil {
			var kind struct{ Kind string }
			if json.Unmarshal([]byte(line), &kind) == nil && (kind.Kind == "tpm-quote" || kind.Kind == "ima" || kind.Kind == "eventlog") {
				t.Fatal(err)
			}
			continue
		}
		list = append(list, it)
	}
	return dir, list
}

func read(t *testing.T, dir string, names []string) []File {
	t.Helper()
	var list []File
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, File{Name: filepath.Base(n), Data: b})
	}
	return list
}

func input(t *testing.T, dir string, it item) *Input {
	t.Helper()
	in := &Input{Files: read(t, dir, it.Files), Endorsements: read(t, dir, it.Endorsements), Time: time.Now()}
	if it.Nonce != nil {
		n, err := rats.ParseNonce(*it.Nonce)
		if err != nil {
			t.Fatal(err)
		}
		in.Nonce, in.HasNonce = n, true
	}
	if it.At != nil {
		at, err := time.Parse(time.RFC3339, *it.At)
		if err != nil {
			t.Fatal(err)
		}
		in.Time = at
	}
	if _, stated := it.Facts["ima_entries_before"]; stated {
		// The log as read before the quote lies beside the one after it.
		last := it.Files[len(it.Files)-1]
		in.Files = append(in.Files, read(t, dir, []string{strings.Replace(last, "ima_after", "ima_before", 1)})...)
		in.Files[len(in.Files)-1].Role = RoleIMA
	}
	return in
}

// TestRealEvidence appraises every item of the kinds that this package knows and
// wants the verdict, the class of the reason, and each fact that is stated.
func TestRealEvidence(t *testing.T) {
	dir, list := items(t)
	count := map[string]int{}
	for _, it := range list {
		switch Kind(it.Kind) {
		case KindQuote, KindEventLog, KindIMA:
		default:
			continue
		}
		count[it.Kind]++
		t.Run(it.ID, func(t *testing.T) {
			res, err := input(t, dir, it).Appraise(Kind(it.Kind))
			if err != nil {
				t.Fatal(err)
			}
			if res.Verdict != it.Expect {
				t.Errorf("verdict %s (%s), want %s: %v", res.Verdict, res.Reason, it.Expect, res.Why())
			}
			// "made-for-tests" is about the item's origin, not the verdict.
			if it.Reason != nil && *it.Reason != "made-for-tests" && string(res.Reason) != *it.Reason {
				t.Errorf("reason %q, want %q", res.Reason, *it.Reason)
			}
			if (res.Verdict == Valid) != (len(res.Why()) == 0) {
				t.Errorf("verdict %s with %d reasons", res.Verdict, len(res.Why()))
			}
			compareFacts(t, res.Facts, it.Facts)
		})
	}
	if count["tpm-quote"] != 19 || count["eventlog"] != 35 || count["ima"] != 14 {
		t.Errorf("items found: %v", count)
	}
}

func compareFacts(t *testing.T, got Facts, want map[string]any) {
	t.Helper()
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var plain map[string]any
	if err := json.Unmarshal(b, &plain); err != nil {
		t.Fatal(err)
	}
	for name, w := range want {
		if g, ok := plain[name]; !ok || !reflect.DeepEqual(g, w) {
			t.Errorf("fact %s is %s, want %s", name, clip(g), clip(w))
		}
	}
}

func clip(v any) string {
	s := fmt.Sprint(v)
	if len(s) > 400 {
		s = s[:400] + "…"
	}
	return s
}
