// Package oracle is for tests: it reads evidence of real machines and what is
// known of it, a line of JSON each, from the folder that ASHLAR_EVIDENCE names.
package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// Item is one piece of evidence with the verdict, the class of its reason, and
// facts that are true of it.
type Item struct {
	ID, Kind            string
	Files, Endorsements []string
	Nonce, At           *string
	Expect              scheme.Verdict
	Reason              *string
	Facts               map[string]any
}

// Dir gives the folder; without one the test is skipped, with a message.
func Dir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("ASHLAR_EVIDENCE")
	if dir == "" {
		t.Skip("ASHLAR_EVIDENCE is not set: there is no real evidence to appraise")
	}
	return dir
}

// Items gives the items of some kinds.
func Items(t testing.TB, kinds ...string) []Item {
	t.Helper()
	all, err := os.ReadFile(filepath.Join(Dir(t), "expected.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var list []Item
	for line := range bytes.Lines(all) {
		var kind struct{ Kind string }
		if err := json.Unmarshal(line, &kind); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(kinds, kind.Kind) {
			continue
		}
		var it Item
		if err := json.Unmarshal(line, &it); err != nil {
			t.Fatal(err)
		}
		list = append(list, it)
	}
	if len(list) == 0 {
		t.Fatalf("there is no evidence of the kinds %v", kinds)
	}
	return list
}

// Read gives files by their names below the folder.
func Read(t testing.TB, names ...string) []scheme.File {
	t.Helper()
	var list []scheme.File
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(Dir(t), n))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, scheme.File{Name: filepath.Base(n), Data: b})
	}
	return list
}

// Input gives an item as the input of its appraisal.
func (it *Item) Input(t testing.TB) *scheme.Input {
	t.Helper()
	in := &scheme.Input{Files: Read(t, it.Files...), Endorsements: Read(t, it.Endorsements...), Time: time.Now()}
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
	return in
}

// Check compares the outcome of an appraisal with what is known: the verdict, the
// class of the reason, each fact, and that what does not hold says why.
func (it *Item) Check(t testing.TB, res *scheme.Result) {
	t.Helper()
	if res.Verdict != it.Expect {
		t.Errorf("verdict %s (%s), want %s: %v", res.Verdict, res.Reason, it.Expect, res.Why())
	}
	want := ""
	if it.Reason != nil && *it.Reason != "made-for-tests" { // that is about its origin
		want = *it.Reason
	}
	if string(res.Reason) != want && (want != "" || res.Verdict == scheme.Valid) {
		t.Errorf("reason %q, want %q", res.Reason, want)
	}
	if held := res.Verdict == scheme.Valid && res.Reason == ""; held != (len(res.Why()) == 0) {
		t.Errorf("verdict %s (%s) with %d reasons", res.Verdict, res.Reason, len(res.Why()))
	}
	it.checkFacts(t, res.Facts)
}

func (it *Item) checkFacts(t testing.TB, got scheme.Facts) {
	t.Helper()
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var plain map[string]any
	if err := json.Unmarshal(b, &plain); err != nil {
		t.Fatal(err)
	}
	for name, w := range it.Facts {
		if g, ok := plain[name]; !ok || !reflect.DeepEqual(g, w) {
			t.Errorf("fact %s is %.400s, want %.400s", name, fmt.Sprint(g), fmt.Sprint(w))
		}
	}
}
