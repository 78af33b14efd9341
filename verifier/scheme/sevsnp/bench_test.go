package sevsnp

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/verifier/internal/oracle"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// BenchmarkReport appraises a real report, beside the bare check of its signature.
func BenchmarkReport(b *testing.B) {
	it := oracle.Items(b, KindName)[1]
	in := it.Input(b)
	rep, err := ParseReport(in.Files[0].Data)
	if err != nil {
		b.Fatal(err)
	}
	var g given
	for _, f := range in.Endorsements {
		if err := g.add(f); err != nil {
			b.Fatal(err)
		}
	}
	e, err := parseEndorsement(g.certs[0])
	if err != nil {
		b.Fatal(err)
	}
	b.Run("signature alone", func(b *testing.B) {
		for b.Loop() {
			if !rep.verify(e.key) {
				b.Fatal("it does not hold")
			}
		}
	})
	for name, chains := range map[string]*scheme.Chains{"chain new": nil, "chain known": scheme.NewChains(4)} {
		b.Run(name, func(b *testing.B) {
			in.Chains = chains
			for b.Loop() {
				if r := Appraise(in); r.Verdict != scheme.Valid {
					b.Fatal(r.Why())
				}
			}
		})
	}
}
