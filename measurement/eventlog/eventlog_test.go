package eventlog_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func parse(t *testing.T, raw []byte) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestParseFormats(t *testing.T) {
	legacy := parse(t, boot(&builder{}).Bytes())
	if legacy.Format != eventlog.Legacy || legacy.SpecID != nil || len(legacy.Events) != 17 {
		t.Errorf("legacy: %v, %d events", legacy.Format, len(legacy.Events))
	}
	agile := parse(t, boot(newAgile(tpm2.AlgSHA1, sm3, tpm2.AlgSHA384)).Bytes())
	if agile.Format != eventlog.CryptoAgile || len(agile.Events) != 17 {
		t.Errorf("agile: %v, %d events", agile.Format, len(agile.Events))
	}
	if got := agile.Events[0].Digest(sm3); !bytes.Equal(got, bytes.Repeat([]byte{0x5a}, 32)) {
		t.Errorf("the SM3 digest is not carried along: %x", got)
	}
	banks := agile.Replay()
	if len(banks) != 2 || banks[0].Alg != tpm2.AlgSHA1 || banks[1].Alg != tpm2.AlgSHA384 {
		t.Fatalf("banks that can be replayed: %v", banks)
	}
	a, _ := banks[0].PCR(4)
	b, _ := legacy.Replay()[0].PCR(4)
	if !bytes.Equal(a, b) {
		t.Errorf("the SHA-1 bank differs between formats: %x, %x", a, b)
	}
}

// TestReplayOrder checks PCR values against a plain calculation.
func TestReplayOrder(t *testing.T) {
	b := newAgile(tpm2.AlgSHA256)
	b.of(0, eventlog.SCRTMVersion, []byte("one")).of(0, eventlog.PostCode, []byte("two")).noAction([]byte("not extended"))
	b.of(17, eventlog.Action, []byte("dynamic launch"))
	bank := parse(t, b.Bytes()).Replay()[0]
	h := tpm2.AlgSHA256.Digest
	want := h(h(make([]byte, 32), h([]byte("one"))), h([]byte("two")))
	if got, ok := bank.PCR(0); !ok || !bytes.Equal(got, want) {
		t.Errorf("PCR 0 is %x, want %x", got, want)
	}
	want = h(bytes.Repeat([]byte{0xff}, 32), h([]byte("dynamic launch")))
	if got, ok := bank.PCR(17); !ok || !bytes.Equal(got, want) {
		t.Errorf("PCR 17 is %x, want %x", got, want)
	}
	if got, ok := bank.PCR(1); ok || !bytes.Equal(got, make([]byte, 32)) {
		t.Errorf("PCR 1 is %x, extended %v", got, ok)
	}
	if got, _ := bank.PCR(22); !bytes.Equal(got, bytes.Repeat([]byte{0xff}, 32)) {
		t.Errorf("PCR 22 starts as %x", got)
	}
	if list := bank.Extended(); len(list) != 2 || list[0] != 0 || list[1] != 17 {
		t.Errorf("extended: %v", list)
	}
	if v, ok := bank.PCR(24); v != nil || ok {
		t.Error("PCR 24 exists")
	}
}

func TestStartupLocality(t *testing.T) {
	h := tpm2.AlgSHA256.Digest
	start := make([]byte, 32)
	start[31] = 3
	b := newAgile(tpm2.AlgSHA256).of(0, eventlog.PostCode, []byte("x")).noAction([]byte("StartupLocality\x00\x03"))
	l := parse(t, b.Bytes())
	if loc, ok := l.StartupLocality(); !ok || loc != 3 {
		t.Errorf("locality %d, %v", loc, ok)
	}
	want := h(start, h([]byte("x")))
	for n := 1; n <= 2; n++ { // the locality holds although it is logged later
		if got, _ := l.ReplayPrefix(n)[0].PCR(0); !bytes.Equal(got, want) {
			t.Errorf("PCR 0 after %d events is %x, want %x", n, got, want)
		}
	}
	l = parse(t, newAgile(tpm2.AlgSHA256).of(0, eventlog.EFIHCRTMEvent, []byte("HCRTM")).Bytes())
	start[31] = 4
	if got, _ := l.Replay()[0].PCR(0); !bytes.Equal(got, h(start, h([]byte("HCRTM")))) {
		t.Error("an H-CRTM without a StartupLocality event does not start PCR 0 at 4")
	}
	if _, ok := l.StartupLocality(); ok {
		t.Error("a locality is reported that the log does not state")
	}
}

func TestPadding(t *testing.T) {
	whole := boot(newAgile(tpm2.AlgSHA256)).Bytes()
	for _, fill := range []byte{0x00, 0xff} {
		for _, n := range []int{5, 12, 40, 60000} {
			l := parse(t, append(bytes.Clone(whole), bytes.Repeat([]byte{fill}, n)...))
			if l.Padding != n || len(l.Events) != 17 {
				t.Errorf("%d bytes of %02x: padding %d, %d events", n, fill, l.Padding, len(l.Events))
			}
		}
		cut := append(bytes.Clone(whole), bytes.Repeat([]byte{fill}, 4)...)
		if _, err := eventlog.Parse(cut); err == nil {
			t.Errorf("4 bytes of %02x pass, they may be the start of a cut event", fill)
		}
	}
	mixed := append(append(bytes.Clone(whole), make([]byte, 64)...), 1)
	if _, err := eventlog.Parse(mixed); err == nil {
		t.Error("padding with something after it passes")
	}
}

// TestTruncation cuts logs at every byte: only a cut between two events can
// pass, and the error always says where.
func TestTruncation(t *testing.T) {
	for name, b := range map[string]*builder{
		"legacy": boot(&builder{}), "agile": boot(newAgile(tpm2.AlgSHA1, tpm2.AlgSHA256)),
	} {
		whole := b.Bytes()
		l := parse(t, whole)
		boundary := map[int]int{len(whole): len(l.Events)}
		for i := range l.Events {
			boundary[l.Events[i].Offset] = i
		}
		for n := range len(whole) {
			got, err := eventlog.Parse(whole[:n])
			if events, ok := boundary[n]; ok && n > 0 && err == nil {
				if len(got.Events) != events {
					t.Fatalf("%s cut at %d: %d events, want %d", name, n, len(got.Events), events)
				}
				continue
			}
			var pe *eventlog.ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("%s cut at %d: %v", name, n, err)
			}
			if pe.Offset > n || !strings.Contains(err.Error(), "offset 0x") {
				t.Fatalf("%s cut at %d: offset %d, %q", name, n, pe.Offset, err)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	spec := func(change func([]byte)) []byte {
		raw := bytes.Clone(newAgile(tpm2.AlgSHA1, tpm2.AlgSHA256).of(0, eventlog.PostCode, []byte("x")).Bytes())
		change(raw)
		return raw
	}
	const data = 32
	for _, c := range []struct {
		name, want string
		raw        []byte
	}{
		{"empty", "cut short", nil},
		{"text", "this is no TCG event log", []byte("root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:\n")},
		{"no algorithms", "lists 0 digest algorithms", spec(func(b []byte) { b[data+24] = 0 })},
		{"many algorithms", "lists 200 digest algorithms", spec(func(b []byte) { b[data+24] = 200 })},
		{"wrong size", "sha1 a digest of 21 bytes", spec(func(b []byte) { b[data+30] = 21 })},
		{"listed twice", "lists sha1 twice", spec(func(b []byte) { copy(b[data+32:], []byte{4, 0, 20, 0}) })},
		{"vendor info", "vendor information", spec(func(b []byte) { b[data+36] = 9 })},
		{"digest count", "it has 3 digests", spec(func(b []byte) { b[data+37+8] = 3 })},
		{"unlisted", "which the header does not list", spec(func(b []byte) { b[data+37+12] = 0x0c })},
		{"twice", "two digests for sha1", spec(func(b []byte) {
			copy(b[data+37+12+22:], []byte{4, 0})
		})},
		{"size", "event 1 at offset 0x89: its data should have", spec(func(b []byte) { b[len(b)-2] = 0x80 })},
	} {
		_, err := eventlog.Parse(c.raw)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := eventlog.Parse(make([]byte, eventlog.MaxLogSize+1)); err == nil {
		t.Error("a log above the size limit passes")
	}
	many := bytes.Repeat((&builder{}).of(1, eventlog.PostCode, nil).Bytes(), eventlog.MaxEvents+1)
	if _, err := eventlog.Parse(many); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too many events: %v", err)
	}
}

func TestMismatches(t *testing.T) {
	bank := parse(t, boot(newAgile(tpm2.AlgSHA256)).Bytes()).Replay()[0]
	good, _ := bank.PCR(4)
	bad := bytes.Clone(good)
	bad[0] ^= 1
	compared, differ := bank.Mismatches(map[int][]byte{4: good, 7: bad, 10: bad})
	if len(compared) != 2 || len(differ) != 1 || differ[0] != 7 {
		t.Errorf("compared %v, differ %v", compared, differ)
	}
}

// TestMissingDigests is a log like those Windows writes on machines with two
// banks, where the loader measures into one.
func TestMissingDigests(t *testing.T) {
	b := newAgile(tpm2.AlgSHA1, tpm2.AlgSHA256).of(0, eventlog.PostCode, []byte("both"))
	b.Write(le(uint32(12), uint32(eventlog.EventTag), uint32(1), uint16(tpm2.AlgSHA256), make([]byte, 32), uint32(0)))
	l := parse(t, b.Bytes())
	banks := l.Replay(tpm2.AlgSHA1)
	if len(banks) != 1 || banks[0].Missing() != 1 || len(banks[0].Extended()) != 1 {
		t.Errorf("banks %d, missing %d, extended %v", len(banks), banks[0].Missing(), banks[0].Extended())
	}
	findings := l.Check()
	if len(findings) != 1 || findings[0].Severity != eventlog.Note || !strings.Contains(findings[0].Text, "no sha1 digest") {
		t.Errorf("findings: %+v", findings)
	}
}
