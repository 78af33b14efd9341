package verifier_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

// committedBoot is one boot of a committed guest and what must be found about it.
type committedBoot struct {
	Bundle  string
	Nonce   string
	Verdict string // "reference" for the boot that the reference values are from
	Reasons []string
	PCRs    eventlog.PCRs
}

// guestStory is one guest of testdata/guests: its boots, its key, its reference values.
type guestStory struct {
	refs, ak []byte
	boots    []committedBoot
}

func guestFile(t *testing.T, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{"testdata", "guests"}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// eachGuest runs a test for both of the guests, one behind tpm-crb and one behind tpm-tis.
func eachGuest(t *testing.T, test func(t *testing.T, device string, s guestStory)) {
	for _, device := range []string{"tpm-crb", "tpm-tis"} {
		t.Run(device, func(t *testing.T) {
			s := guestStory{refs: guestFile(t, device, "reference-values.json"), ak: guestFile(t, device, "ak.pem")}
			if err := json.Unmarshal(guestFile(t, device, "expected.json"), &s.boots); err != nil {
				t.Fatal(err)
			}
			test(t, device, s)
		})
	}
}

// appraiseBoot appraises a bundle of the guest as the verifier would have at the time.
func (s guestStory) appraiseBoot(t *testing.T, b committedBoot, bundle []byte) *verifier.Outcome {
	t.Helper()
	key, err := rats.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := rats.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	nonce, err := hex.DecodeString(b.Nonce)
	if err != nil {
		t.Fatal(err)
	}
	var refs []rats.ReferenceValue
	if b.Verdict != "reference" {
		refs = []rats.ReferenceValue{{Type: rats.TypeReferenceValues, Data: s.refs}}
	}
	out, err := verifier.New(signer, verifier.Options{}).Appraise(
		rats.Evidence{Type: rats.TypeTPMEvidence, Data: bundle},
		[]rats.Endorsement{{Type: rats.TypePublicKey, Data: s.ak}}, refs,
		verifier.Session{Nonce: nonce, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCommittedGuests appraises the evidence of real boots on our own TPM: the verdict,
// the reasons and the PCR values must be those of the day.
func TestCommittedGuests(t *testing.T) {
	eachGuest(t, func(t *testing.T, device string, s guestStory) {
		for _, b := range s.boots {
			out := s.appraiseBoot(t, b, guestFile(t, device, b.Bundle))
			status := out.Result.Status().String()
			if b.Verdict == "reference" {
				if out.Appraisal.Verdict != scheme.Valid {
					t.Errorf("%s: %s: %v", b.Bundle, out.Appraisal.Verdict, out.Appraisal.Why())
				}
			} else if status != b.Verdict {
				t.Errorf("%s: %s, want %s: %v", b.Bundle, status, b.Verdict, out.Appraisal.Why())
			}
			if !slices.Equal(out.Appraisal.Why(), b.Reasons) {
				t.Errorf("%s: reasons %q, want %q", b.Bundle, out.Appraisal.Why(), b.Reasons)
			}
			for alg, bank := range b.PCRs {
				for i, want := range bank {
					if got := out.Appraisal.PCRs[alg][i]; !slices.Equal(got, want) {
						t.Errorf("%s: %v PCR %d is %x, want %x", b.Bundle, alg, i, got, want)
					}
				}
			}
		}
	})
}

// TestCommittedGuestsForged alters the evidence of the boot that was affirmed: each
// forgery must be refused with one clear sentence.
func TestCommittedGuestsForged(t *testing.T) {
	forgeries := map[string]func(*tpm.Bundle){
		"quote":          func(b *tpm.Bundle) { b.Quotes[0].Message[len(b.Quotes[0].Message)-1] ^= 1 },
		"cut quote":      func(b *tpm.Bundle) { b.Quotes[0].Message = b.Quotes[0].Message[:40] },
		"signature":      func(b *tpm.Bundle) { b.Quotes[0].Signature[len(b.Quotes[0].Signature)-1] ^= 1 },
		"event log":      func(b *tpm.Bundle) { b.EventLog = b.EventLog[:len(b.EventLog)/2] },
		"no event log":   func(b *tpm.Bundle) { b.EventLog = nil },
		"IMA log":        func(b *tpm.Bundle) { b.IMALog = b.IMALog[:len(b.IMALog)-1] },
		"attester's key": func(b *tpm.Bundle) { b.AttesterKey = nil },
	}
	eachGuest(t, func(t *testing.T, device string, s guestStory) {
		affirmed := s.boots[1]
		for name, forge := range forgeries {
			var bundle tpm.Bundle
			if err := json.Unmarshal(guestFile(t, device, affirmed.Bundle), &bundle); err != nil {
				t.Fatal(err)
			}
			forge(&bundle)
			forged, err := json.Marshal(bundle)
			if err != nil {
				t.Fatal(err)
			}
			out := s.appraiseBoot(t, affirmed, forged)
			if why := out.Appraisal.Why(); out.Result.Status() == rats.TierAffirming || len(why) == 0 || strings.Contains(why[0], "\n") {
				t.Errorf("forged %s: %v: %q", name, out.Result.Status(), why)
			}
		}
		other := s.boots[2]
		other.Verdict = affirmed.Verdict
		if out := s.appraiseBoot(t, other, guestFile(t, device, affirmed.Bundle)); out.Result.Status() == rats.TierAffirming {
			t.Error("evidence of another boot, under another nonce, was affirmed")
		}
	})
}
