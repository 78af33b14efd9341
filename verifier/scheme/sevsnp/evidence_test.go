package sevsnp

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/verifier/internal/oracle"
)

// TestRealEvidence appraises every report of a real machine that is known, and
// wants the verdict, the class of the reason, and each fact that is stated.
func TestRealEvidence(t *testing.T) {
	list := oracle.Items(t, KindName)
	if len(list) != 6 {
		t.Errorf("%d items", len(list))
	}
	kind := Kinds()[0]
	for _, it := range list {
		t.Run(it.ID, func(t *testing.T) {
			res, err := kind.Appraise(it.Input(t))
			if err != nil {
				t.Fatal(err)
			}
			it.Check(t, res)
		})
	}
}
