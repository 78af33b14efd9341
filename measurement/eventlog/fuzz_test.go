package eventlog_test

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// FuzzParse: whatever the bytes, parsing, replaying, checking and explaining
// end without a panic, and a log that parses accounts for all its bytes.
func FuzzParse(f *testing.F) {
	f.Add(boot(&builder{}).Bytes())
	f.Add(boot(newAgile(tpm2.AlgSHA256)).Bytes())
	f.Add(newAgile(tpm2.AlgSHA1, sm3).noAction([]byte("StartupLocality\x00\x03")).Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := eventlog.Parse(raw)
		if err != nil {
			return
		}
		end := len(raw) - l.Padding
		for i := range l.Events {
			e := &l.Events[i]
			if e.Offset >= end || len(e.Data) > end-e.Offset {
				t.Fatalf("event %d lies outside the log", e.Number)
			}
			if l.Explain(i) == "" {
				t.Fatalf("event %d is not explained", e.Number)
			}
			_ = l.Stage(i).String() + eventlog.BindingOf(e).String()
		}
		l.Check()
		l.Replay()
		l.SecureBoot()
		l.CommandLines()
	})
}

// FuzzData gives the parsers of event data the bytes directly.
func FuzzData(f *testing.F) {
	f.Add(uint32(eventlog.EFIVariableDriverConfig), uint32(7), variable("db", make([]byte, 60)))
	f.Add(uint32(eventlog.EFIBootServicesApplication), uint32(4), image(filePath(`\a`), pathNode(4, 1, make([]byte, 38))))
	f.Add(uint32(eventlog.EFIGPTEvent), uint32(5), append([]byte("EFI PART"), make([]byte, 300)...))
	f.Add(uint32(eventlog.EventTag), uint32(13), le(uint32(0x40010001), uint32(9), uint32(0x00050001), uint32(1), uint8(0)))
	f.Add(uint32(eventlog.EFIPlatformFirmwareBlob2), uint32(0), le(uint8(2), "Fv", uint64(1), uint64(2)))
	f.Add(uint32(eventlog.EFIHandoffTables2), uint32(1), le(uint8(1), "T", uint64(1), make([]byte, 24)))
	f.Fuzz(func(t *testing.T, kind, pcr uint32, data []byte) {
		e := &eventlog.Event{Number: 1, PCR: pcr, Type: eventlog.EventType(kind), Data: data,
			Digests: []eventlog.Digest{{Alg: tpm2.AlgSHA1, Value: make([]byte, 20)}}}
		if eventlog.Explain(e) == "" {
			t.Fatal("no explanation")
		}
		eventlog.StageOf(e)
		eventlog.BindingOf(e)
	})
}
