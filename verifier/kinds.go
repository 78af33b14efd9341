package verifier

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/cca"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/nitro"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/psa"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/sev"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/sevsnp"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

// Kinds lists every kind of Evidence that is appraised here.
func Kinds() []scheme.Kind {
	return slices.Concat(tpm.Kinds(), nitro.Kinds(), cca.Kinds(), psa.Kinds(), sevsnp.Kinds(), sev.Kinds())
}

// FindKind gives the kind of a name, nil if there is none.
func FindKind(name string) *scheme.Kind {
	kinds := Kinds()
	for i := range kinds {
		if kinds[i].Name == name {
			return &kinds[i]
		}
	}
	return nil
}
