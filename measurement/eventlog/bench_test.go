package eventlog_test

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// benchLog is as long as the log of a cloud guest that boots through GRUB: 105
// events in three banks.
func benchLog() []byte {
	b := newAgile(tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384)
	for n := range 105 {
		b.of(uint32(n%10), eventlog.IPL, make([]byte, 200))
	}
	return b.Bytes()
}

func BenchmarkParse(b *testing.B) {
	raw := benchLog()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := eventlog.Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseReplaySHA256(b *testing.B) {
	raw := benchLog()
	b.ReportAllocs()
	for b.Loop() {
		l, err := eventlog.Parse(raw)
		if err != nil {
			b.Fatal(err)
		}
		l.Replay(tpm2.AlgSHA256)
	}
}

func BenchmarkReplayAllBanks(b *testing.B) {
	l, err := eventlog.Parse(benchLog())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l.Replay()
	}
}

func BenchmarkExplain(b *testing.B) {
	l, err := eventlog.Parse(boot(newAgile(tpm2.AlgSHA256)).Bytes())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for i := range l.Events {
			l.Explain(i)
		}
	}
}
