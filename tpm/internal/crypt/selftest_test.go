package crypt

import (
	"slices"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

func TestSelfTests(t *testing.T) {
	algs := TestableAlgs()
	if !slices.IsSorted(algs) {
		t.Errorf("TestableAlgs is not in ascending order: %v", algs)
	}
	for _, alg := range algs {
		if err := (Tests{}).Run(alg); err != nil {
			t.Error(err)
		}
		fail := Tests{Fail: func(a tpm2.AlgID) bool { return a == alg }}
		for _, other := range algs {
			if err := fail.Run(other); (err != nil) != (other == alg) {
				t.Errorf("with %v made to fail, the test of %v gives %v", alg, other, err)
			}
		}
	}
	if err := (Tests{}).Run(tpm2.AlgKeyedHash); err != nil {
		t.Errorf("an algorithm without a test: %v", err)
	}
}
