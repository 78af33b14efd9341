package psa

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/verifier/internal/oracle"
)

// TestRealEvidence appraises tokens of TF-M.
func TestRealEvidence(t *testing.T) {
	list := oracle.Items(t, KindPSA)
	if len(list) != 4 {
		t.Errorf("%d items", len(list))
	}
	for _, it := range list {
		t.Run(it.ID, func(t *testing.T) { it.Check(t, Appraise(it.Input(t))) })
	}
}
