package nitro

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/verifier/internal/oracle"
)

// TestRealEvidence appraises documents of real enclaves.
func TestRealEvidence(t *testing.T) {
	list := oracle.Items(t, KindNitro)
	if len(list) != 6 {
		t.Errorf("%d items", len(list))
	}
	for _, it := range list {
		t.Run(it.ID, func(t *testing.T) { it.Check(t, Appraise(it.Input(t))) })
	}
}
