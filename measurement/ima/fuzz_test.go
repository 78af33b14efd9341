package ima_test

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/ima"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// FuzzParse: whatever the bytes, parsing, replaying and explaining end without
// a panic, and entries lie within the log.
func FuzzParse(f *testing.F) {
	b := sample(newLog())
	f.Add(b.bin.Bytes())
	f.Add(b.text.Bytes())
	f.Add([]byte("10 0123456789012345678901234567890123456789 ima 0123456789012345678901234567890123456789 /a\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := ima.Parse(raw)
		if err != nil {
			return
		}
		for i := range l.Entries {
			e := &l.Entries[i]
			if e.Offset >= len(raw) || e.Number != i+1 || e.PCR > 23 {
				t.Fatalf("entry %+v", e)
			}
			if ima.Explain(e) == "" {
				t.Fatal("no explanation")
			}
			_, _ = ima.CheckBootAggregate(e, func(tpm2.AlgID, int) []byte { return nil })
		}
		l.CheckHashes()
		if _, ok := l.FindPrefix(tpm2.AlgSHA256, map[int][]byte{10: make([]byte, 32)}); !ok {
			t.Fatal("the state before the first entry is not found")
		}
		var p ima.Policy
		p.Learn(l)
		for _, d := range p.Check(l, len(l.Entries)) {
			if d.Kind == ima.Unlisted || d.Kind == ima.Changed {
				t.Fatalf("a log breaks the policy learnt from it: %+v", d)
			}
		}
	})
}

// FuzzParsePolicy: a policy that is read is written so that it reads alike.
func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(`{"digests":{"/a":["sha256:00ff","11"]},"excludes":["/tmp/.*"]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ima.ParsePolicy(raw)
		if err != nil {
			return
		}
		out, err := p.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if q, err := ima.ParsePolicy(out); err != nil || q.Len() != p.Len() {
			t.Fatalf("%s: %v", out, err)
		}
	})
}
