package bench

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/sevsnp"
)

// at is when the evidence is appraised.
var at = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)

func read(tb testing.TB, name string) []byte {
	tb.Helper()
	dir := os.Getenv("ASHLAR_EVIDENCE")
	if dir == "" {
		tb.Skip("ASHLAR_EVIDENCE is not set: there is no real evidence to compare with")
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// der gives the first certificates of a file in PEM or DER.
func der(b []byte) (list [][]byte) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		list = append(list, block.Bytes)
	}
	if list == nil {
		return [][]byte{b}
	}
	return list
}

// snp are reports of real machines, and what go-sev-guest 0.15 says of each: it
// does not know Turin's certificates.
var snp = []struct {
	report, vcek, chain string
	known               bool
}{
	{"go-sev-guest/attestation.bin", "go-sev-guest/vcek.testcer", "amd-roots/ask_ark_milan.pem", true},
	{"microsoft/milan_attestation_report.bin", "microsoft/milan_vcek.pem", "amd-roots/ask_ark_milan.pem", true},
	{"microsoft/genoa_attestation_report.bin", "microsoft/genoa_vcek.pem", "amd-roots/ask_ark_genoa.pem", true},
	{"microsoft/turin_attestation_report.bin", "microsoft/turin_vcek.pem", "amd-roots/ask_ark_turin_vcek.pem", false},
}

// ours and theirs prepare the same job: signature and chain of a report, offline.
func ours(tb testing.TB, i int, chains *scheme.Chains) func() bool {
	in := &scheme.Input{Time: at, Chains: chains, Files: []scheme.File{{Name: "report", Data: read(tb, "sev-snp/"+snp[i].report)},
		{Name: "vcek", Data: read(tb, "sev-snp/"+snp[i].vcek)}, {Name: "chain", Data: read(tb, "sev-snp/"+snp[i].chain)}}}
	return func() bool { return sevsnp.Appraise(in).Verdict == scheme.Valid }
}

func theirs(tb testing.TB, i int) func() error {
	report, err := abi.ReportToProto(read(tb, "sev-snp/"+snp[i].report))
	if err != nil {
		return func() error { return err }
	}
	chain := der(read(tb, "sev-snp/"+snp[i].chain))
	e := &spb.Attestation{Report: report, CertificateChain: &spb.CertificateChain{VcekCert: der(read(tb, "sev-snp/"+snp[i].vcek))[0],
		AskCert: chain[0], ArkCert: chain[1]}}
	o := &verify.Options{DisableCertFetching: true, Now: at} // and the library's own roots
	return func() error { return verify.SnpAttestation(e, o) }
}

// TestSEVSNP wants both to agree on real reports, but for those that the other does
// not know.
func TestSEVSNP(t *testing.T) {
	for i, s := range snp {
		if !ours(t, i, nil)() {
			t.Errorf("%s is refused here", s.report)
		}
		if err := theirs(t, i)(); (err == nil) != s.known {
			t.Errorf("go-sev-guest says of %s: %v", s.report, err)
		}
	}
}

// BenchmarkSEVSNP appraises a report of Milan, with and without a known chain.
func BenchmarkSEVSNP(b *testing.B) {
	for name, chains := range map[string]*scheme.Chains{"ashlar, chain new": nil, "ashlar, chain known": scheme.NewChains(16)} {
		run := ours(b, 1, chains)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if !run() {
					b.Fatal("refused")
				}
			}
		})
	}
	run := theirs(b, 1)
	b.Run("go-sev-guest", func(b *testing.B) {
		for b.Loop() {
			if err := run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
