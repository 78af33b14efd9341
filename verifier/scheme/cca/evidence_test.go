package cca

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/verifier/internal/oracle"
)

// TestRealEvidence appraises a token of TF-RMM.
func TestRealEvidence(t *testing.T) {
	list := oracle.Items(t, KindCCA)
	if len(list) != 1 {
		t.Errorf("%d items", len(list))
	}
	for _, it := range list {
		t.Run(it.ID, func(t *testing.T) { it.Check(t, Appraise(it.Input(t))) })
	}
}
