package tpm

import (
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/verifier/internal/oracle"
)

// TestRealEvidence appraises every item of the kinds that this package knows and
// wants the verdict, the class of the reason, and each fact that is stated.
func TestRealEvidence(t *testing.T) {
	want := map[string]int{KindQuote: 19, KindEventLog: 35, KindIMA: 14}
	for _, kind := range Kinds() {
		list := oracle.Items(t, kind.Name)
		if len(list) != want[kind.Name] {
			t.Errorf("%d items of kind %s", len(list), kind.Name)
		}
		for _, it := range list {
			t.Run(it.ID, func(t *testing.T) {
				in := it.Input(t)
				if _, stated := it.Facts["ima_entries_before"]; stated {
					// The log as read before the quote lies beside the one after it.
					last := it.Files[len(it.Files)-1]
					before := oracle.Read(t, strings.Replace(last, "ima_after", "ima_before", 1))[0]
					before.Role = RoleIMA
					in.Files = append(in.Files, before)
				}
				res, err := kind.Appraise(in)
				if err != nil {
					t.Fatal(err)
				}
				it.Check(t, res)
			})
		}
	}
}
