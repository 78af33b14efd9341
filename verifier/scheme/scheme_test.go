package scheme

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/rats"
)

// TestMisuse wants what a kind has no use for refused, not left out in silence.
func TestMisuse(t *testing.T) {
	called := 0
	k := New(Kind{Name: "some", Takes: TakesNonce, One: true}, func(*Input) *Result {
		called++
		return NewResult()
	}, nil)
	file := File{Name: "f"}
	for want, in := range map[string]*Input{
		"name at least one":          {},
		"takes one file, not 2":      {Files: []File{file, file}},
		"no use for a key":           {Files: []File{file}, Key: &file},
		"no use for reference value": {Files: []File{file}, References: &file},
	} {
		if _, err := k.Appraise(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v instead of %q", err, want)
		}
	}
	if called != 0 {
		t.Error("misuse was appraised")
	}
	if _, err := k.Appraise(&Input{Files: []File{file}, HasNonce: true}); err != nil || called != 1 {
		t.Errorf("%v, called %d times", err, called)
	}
	if k.CheckOwn(&Input{}) != nil {
		t.Error("a kind that checks nothing found something")
	}
}

// TestStatus derives the status from what was recorded.
func TestStatus(t *testing.T) {
	affirm := func(r *Result) {
		r.Claim(rats.Hardware, rats.HardwareGenuine)
		r.Claim(rats.Executables, rats.ExecutablesApproved)
	}
	for name, c := range map[string]struct {
		record  func(*Result)
		verdict Verdict
		reason  Reason
		status  rats.Tier
	}{
		"nothing":        {func(*Result) {}, Valid, "", rats.TierNone},
		"part":           {func(r *Result) { r.Claim(rats.Hardware, rats.HardwareGenuine) }, Valid, "", rats.TierNone},
		"all":            {affirm, Valid, "", rats.TierAffirming},
		"left, a detail": {func(r *Result) { affirm(r); r.Leave("", "x", "not looked at") }, Valid, "", rats.TierAffirming},
		"left":           {func(r *Result) { affirm(r); r.Leave(ReasonNoKey, "x", "no key") }, Partial, ReasonNoKey, rats.TierNone},
		"debug": {func(r *Result) {
			affirm(r)
			r.Warn(ReasonDebug, rats.Configuration, rats.ConfigUnsupported, rats.Claim{Name: "debug", Why: "its host can read it"})
		}, Valid, ReasonDebug, rats.TierContraindicated},
		"fails": {func(r *Result) {
			affirm(r)
			r.Leave(ReasonNoKey, "x", "no key")
			r.Fail(ReasonNonce, rats.InstanceIdentity, rats.CryptoFailed, rats.Claim{Why: "old"})
			r.Fail(ReasonSignature, rats.InstanceIdentity, rats.InstanceKnown, rats.Claim{Why: "bad"})
		}, Invalid, ReasonNonce, rats.TierContraindicated},
	} {
		r := NewResult()
		r.AttesterKey = []byte{1}
		c.record(r)
		r.Finish(rats.Hardware, rats.Executables)
		if r.Verdict != c.verdict || r.Reason != c.reason || r.Status != c.status {
			t.Errorf("%s: %s (%s), %s", name, r.Verdict, r.Reason, r.Status)
		}
		if (r.AttesterKey == nil) != (r.Verdict == Invalid) {
			t.Errorf("%s: the attester's key is %v", name, r.AttesterKey)
		}
		if r.Status != rats.TierAffirming && len(r.NotAffirmed()) == 0 {
			t.Errorf("%s: not affirmed, without a reason", name)
		}
	}
	if r := Malformed("x", errors.New("it is cut")); r.Verdict != Invalid || r.Reason != ReasonMalformed || r.Why()[0] != "it is cut" {
		t.Errorf("malformed: %+v", r)
	}
}

const goodValues = `{"format":"ashlar-claim-values","version":1,"kind":"some","created":"2026-11-27T00:00:00Z",
	"oneOf":{"measurement":["aa","bb"],"debug":["false"],"pcrs.0":["ee"]},"atLeast":{"svn":3}}`

// TestValues compares facts with good values, and with each one that is not.
func TestValues(t *testing.T) {
	of := func(fact string) rats.Category {
		if fact == "measurement" {
			return rats.Executables
		}
		return rats.Configuration
	}
	v, err := ParseValues([]byte(goodValues), "some")
	if err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]Facts{
		"":                           {"measurement": "bb", "debug": false, "svn": 3},
		"measurement is cc":          {"measurement": "cc", "debug": false, "svn": 3},
		"pcrs.0 is ff":               {"measurement": "bb", "debug": false, "svn": 3, "pcrs": map[string]string{"0": "ff"}},
		"name \"pcrs.0\"":            {"measurement": "bb", "debug": false, "svn": 3, "pcrs": map[string]string{"1": "ee"}},
		"debug is true":              {"measurement": "aa", "debug": true, "svn": uint8(200)},
		"svn is 2":                   {"measurement": "aa", "debug": false, "svn": 2},
		"svn is -1":                  {"measurement": "aa", "debug": false, "svn": -1},
		"proves nothing of that":     {"measurement": "aa", "debug": false},
		"which is not a single valu": {"measurement": []string{"aa"}, "debug": false, "svn": 3},
	} {
		r := NewResult()
		r.Facts = f
		if _, there := f["pcrs"]; !there {
			f["pcrs"] = map[string]string{"0": "ee"}
		}
		r.Compare(v, of)
		r.Finish(rats.Executables, rats.Configuration)
		why := strings.Join(r.Why(), " ")
		switch {
		case want == "" && r.Status != rats.TierAffirming:
			t.Errorf("good values: %s, %s", r.Status, why)
		case want != "" && (r.Status != rats.TierContraindicated || r.Reason != ReasonReference || !strings.Contains(why, want)):
			t.Errorf("%q: %s (%s), %s", want, r.Status, r.Reason, why)
		}
		if len(r.PolicyIDs) != 1 || r.PolicyIDs[0] != v.ID() {
			t.Errorf("policies %v", r.PolicyIDs)
		}
	}
}

// TestBadValues wants a file that would let everything pass, or that is for
// something else, refused.
func TestBadValues(t *testing.T) {
	for old, replaced := range map[string]string{
		`"some"`: `"other"`, `:1,`: `:2,`, `ashlar-claim`: `ashlar`, `["false"]`: `[]`, `"oneOf"`: `"all"`, `:3}}`: `:-3}}`, `3}}`: `3}}x`,
	} {
		bad := strings.Replace(goodValues, old, replaced, 1)
		if bad == goodValues {
			t.Fatalf("%s is not there", old)
		}
		if _, err := ParseValues([]byte(bad), "some"); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
	if _, err := ParseValues([]byte(`{"format":"ashlar-claim-values","version":1,"kind":"some","created":"2026-11-27T00:00:00Z"}`), "some"); err == nil {
		t.Error("values that name nothing were read")
	}
	if _, err := ParseValues(make([]byte, MaxValues+1), "some"); err == nil {
		t.Error("a file that is too long was read")
	}
}

// FuzzParseValues wants what is read to be written and read again alike.
func FuzzParseValues(f *testing.F) {
	f.Add([]byte(goodValues))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseValues(b, "some")
		if err != nil {
			return
		}
		again, err := json.Marshal(v)
		if err != nil {
			return // a year that JSON cannot write
		}
		if _, err := ParseValues(again, "some"); err != nil && len(again) <= MaxValues {
			t.Errorf("%s: %v", again, err)
		}
	})
}
