package tpm

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// benchMachine is a machine with 24 PCRs quoted in SHA-256 and a log of some 100
// events: a real one with Secure Boot where ASHLAR_EVIDENCE is set.
func benchMachine(b *testing.B, signer string) *soft {
	m := newSoft(&testing.T{}, signer, bankSHA256)
	raw, err := os.ReadFile(filepath.Join(os.Getenv("ASHLAR_EVIDENCE"), "tcg-eventlog/gel_ubuntu-2104-no-secure-boot.bin"))
	if err != nil {
		for i := range 105 {
			m.event(i%10, fmt.Sprintf("event %d of a boot that measures this and that", i))
		}
		return m
	}
	l, err := eventlog.Parse(raw)
	if err != nil {
		b.Fatal(err)
	}
	bank := l.Replay(bankSHA256)[0]
	for i := range numPCRs {
		v, _ := bank.PCR(i)
		m.pcrs[bankSHA256][i] = v
	}
	m.events = raw
	b.Logf("%d events, %d bytes", len(l.Events), len(raw))
	return m
}

// BenchmarkQuote appraises a quote with its event log, by itself and against
// reference values, beside what the bare signature costs.
func BenchmarkQuote(b *testing.B) {
	for _, signer := range []string{"rsassa", "p256"} {
		m := benchMachine(b, signer)
		e := m.evidence()
		refs, err := MakeReferences([]*Evidence{e}, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		req := Request{Evidence: e, Keys: []*identity.Key{e.AK}, Nonce: nonce, HasNonce: true, Time: time.Now()}
		b.Run(signer+"/signature", func(b *testing.B) {
			s, err := parseSignature(e.Quotes[0].Signature, e.AK)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := s.verify(e.AK, e.Quotes[0].Message); err != nil {
					b.Fatal(err)
				}
			}
		})
		for name, r := range map[string]*References{"log": nil, "log+references": refs} {
			req.References = r
			b.Run(signer+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if res := Appraise(req); res.Verdict != scheme.Valid {
						b.Fatal(res.Why())
					}
				}
			})
		}
	}
}

// BenchmarkHostileLog appraises a log as large as may be, of one event type or
// another: the time for a refusal is bounded.
func BenchmarkHostileLog(b *testing.B) {
	for name, fill := range map[string]func(m *soft){
		"65536 events": func(m *soft) {
			for i := range 1 << 16 {
				m.event(i%24, "x")
			}
		},
		"one of 16 MB": func(m *soft) { m.event(7, string(make([]byte, 15<<20))) },
	} {
		b.Run(name, func(b *testing.B) {
			m := newSoft(&testing.T{}, "p256", bankSHA256, tpm2.AlgSHA1, tpm2.AlgSHA384, tpm2.AlgSHA512)
			fill(m)
			e := m.evidence()
			refs := references(&testing.T{}, booted(&testing.T{}, "p256", bankSHA256))
			b.ReportAllocs()
			for b.Loop() {
				if res := m.appraise(e, refs); res.Verdict != scheme.Invalid {
					b.Fatal(res.Verdict)
				}
			}
		})
	}
}
