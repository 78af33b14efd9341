package ima_test

import (
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/ima"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

const benchEntries = 5000

func benchLog() *builder {
	b := newLog()
	for n := range benchEntries {
		b.file(fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%d.so", n), fmt.Sprint(n))
	}
	return b
}

func benchParse(b *testing.B, raw []byte) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ima.Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchEntries, "ns/entry")
}

func BenchmarkParseBinary(b *testing.B) { benchParse(b, benchLog().bin.Bytes()) }
func BenchmarkParseASCII(b *testing.B)  { benchParse(b, benchLog().text.Bytes()) }

// BenchmarkFindPrefix is the verifier's work: two or three SHA-256 blocks for
// the template and two for the PCR, each entry.
func BenchmarkFindPrefix(b *testing.B) {
	l, err := ima.Parse(benchLog().bin.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	r, err := l.Replay(tpm2.AlgSHA256, ima.PerBank)
	if err != nil {
		b.Fatal(err)
	}
	want := map[int][]byte{10: r.PCR(10)}
	for b.Loop() {
		if _, ok := l.FindPrefix(tpm2.AlgSHA256, want); !ok {
			b.Fatal("not found")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchEntries, "ns/entry")
}

func BenchmarkPolicy(b *testing.B) {
	l, err := ima.Parse(benchLog().bin.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	var p ima.Policy
	p.Learn(l)
	for b.Loop() {
		if d := p.Check(l, benchEntries); len(d) != 0 {
			b.Fatal(d)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchEntries, "ns/entry")
}
