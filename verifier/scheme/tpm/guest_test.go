package tpm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

func guestFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "guest", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOwnGuest appraises four boots of this project's own guest, on its own TPM,
// against the reference values that were taken then.
func TestOwnGuest(t *testing.T) {
	reference, err := ParseBundle(guestFile(t, "1-reference.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		boot   string
		status rats.Tier
		reason scheme.Reason
		text   string
	}{
		{"1-reference", rats.TierAffirming, "", ""},
		{"2-unchanged", rats.TierAffirming, "", ""},
		{"3-command-line", rats.TierContraindicated, scheme.ReasonEvent, "mitigations=off"},
		{"4-unlisted-program", rats.TierContraindicated, scheme.ReasonFile, "/run/unlisted"},
	} {
		t.Run(c.boot, func(t *testing.T) {
			ev, err := ParseBundle(guestFile(t, c.boot+".json"))
			if err != nil {
				t.Fatal(err)
			}
			refs, err := ParseReferences(guestFile(t, "reference-values.json"))
			if err != nil {
				t.Fatal(err)
			}
			req := Request{Evidence: ev, Key: reference.AK, References: refs, Nonce: ev.Nonce, HasNonce: true, Time: time.Now()}
			r := Appraise(req)
			why := r.Why()
			if r.Status != c.status || r.Reason != c.reason {
				t.Fatalf("%s for %q: %v", r.Status, r.Reason, why)
			}
			if c.text == "" {
				if len(why) != 0 || len(r.Measurements) < 20 || r.AttesterKey == nil {
					t.Errorf("affirmed with %d reasons, %d measurements, key %x", len(why), len(r.Measurements), r.AttesterKey)
				}
			} else if len(why) != 1 || !strings.Contains(why[0], c.text) {
				t.Errorf("the reasons do not name %q alone: %q", c.text, why)
			}
			for _, v := range r.PCRs {
				if len(v) != numPCRs {
					t.Errorf("%d PCRs were confirmed", len(v))
				}
			}
			req.Nonce = reference.Nonce
			if c.boot != "1-reference" {
				wantRefused(t, Appraise(req), scheme.ReasonNonce, "replay")
			}
		})
	}
}

// TestOwnGuestCut cuts a bundle at every 97th byte; none of it may be affirmed,
// and each must be refused with a reason.
func TestOwnGuestCut(t *testing.T) {
	whole := guestFile(t, "2-unchanged.json")
	for n := 0; n < len(strings.TrimSpace(string(whole))); n += 97 {
		in := &scheme.Input{Files: []scheme.File{{Name: "bundle", Data: whole[:n]}}, Time: time.Now()}
		r, err := appraiseAs(KindQuote, in)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != scheme.Invalid || len(r.Why()) != 1 {
			t.Errorf("cut to %d bytes: %s %q", n, r.Verdict, r.Why())
		}
	}
}

// TestOwnGuestLogs appraises the guest's logs by themselves against the values
// that its quote recorded.
func TestOwnGuestLogs(t *testing.T) {
	bundle := guestFile(t, "2-unchanged.json")
	ev, err := ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	for kind, log := range map[string][]byte{KindEventLog: ev.EventLog, KindIMA: ev.IMALog} {
		in := &scheme.Input{Files: []scheme.File{{Name: "log", Data: log}}, Endorsements: []scheme.File{{Name: "bundle", Data: bundle}}}
		r, err := appraiseAs(kind, in)
		if err != nil || r.Verdict != scheme.Valid {
			t.Fatalf("%s: %v %v", kind, err, r.Why())
		}
		for _, n := range []int{1, len(log) / 3, len(log) - 1} {
			in.Files[0].Data = log[:n]
			if r, err := appraiseAs(kind, in); err != nil || r.Verdict != scheme.Invalid || len(r.Why()) == 0 {
				t.Errorf("%s cut to %d bytes: %v %s", kind, n, err, r.Verdict)
			}
		}
	}
}

func appraiseAs(name string, in *scheme.Input) (*scheme.Result, error) {
	for _, k := range Kinds() {
		if k.Name == name {
			return k.Appraise(in)
		}
	}
	return nil, fmt.Errorf("there is no kind %s", name)
}
