package eventlog

import (
	"encoding/binary"
	"fmt"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Limits of what Parse takes. A real log is 5 to 100 KiB with 25 to 200
// events; the ACPI area it lives in is at most a few MiB.
const (
	MaxLogSize    = 16 << 20 // bytes
	MaxEvents     = 1 << 16  // events, the header not counted
	MaxAlgorithms = 16       // digest algorithms in the Spec ID header
	MaxDigestSize = 128      // bytes of a digest that cannot be computed here
)

// NumPCRs is the number of PCRs of a PC Client TPM.
const NumPCRs = 24

const (
	legacyHeaderSize = 4 + 4 + 20 + 4 // TCG_PCR_EVENT up to its data
	agileHeaderSize  = 4 + 4 + 4      // TCG_PCR_EVENT2 up to its first digest
	sha1Size         = 20
	cutIndexSize     = 4   // see padding
	usualData        = 160 // bytes of data that events have on average, to allocate once
)

// Format is the log's wire format.
type Format uint8

// The two formats of a log.
const (
	Legacy      Format = iota // TCG_PCR_EVENT, SHA-1 alone
	CryptoAgile               // TCG_PCR_EVENT2 after a Spec ID header
)

// String gives "legacy-sha1" or "crypto-agile".
func (f Format) String() string {
	if f == CryptoAgile {
		return "crypto-agile"
	}
	return "legacy-sha1"
}

// Digest is one digest of an event.
type Digest struct {
	Alg   tpm2.AlgID
	Value []byte
}

// Event is one measurement (TCG_PCR_EVENT or TCG_PCR_EVENT2).
type Event struct {
	Number  int // position in the log, from 1; the Spec ID header has none
	Offset  int // of its first byte in the log
	PCR     uint32
	Type    EventType
	Digests []Digest // one a bank; a loader may leave banks out
	Data    []byte
}

// Digest gives the event's digest for a bank, nil where it has none.
func (e *Event) Digest(alg tpm2.AlgID) []byte {
	for i := range e.Digests {
		if e.Digests[i].Alg == alg {
			return e.Digests[i].Value
		}
	}
	return nil
}

// Extends tells whether the event changes a PCR: all do but EV_NO_ACTION and
// those whose index is no PCR.
func (e *Event) Extends() bool { return e.Type != NoAction && e.PCR < NumPCRs }

// AlgorithmSize is one row of the Spec ID header: a bank and its digest size
// in bytes.
type AlgorithmSize struct {
	Alg  tpm2.AlgID
	Size int
}

// SpecID is the header of a crypto-agile log (TCG_EfiSpecIdEvent; PFP,
// section 10.4.5.1).
type SpecID struct {
	PlatformClass       uint32 // 0 client, 1 server
	Major, Minor, Error uint8  // version and errata of the profile
	UintnSize           uint8  // 1: 32 bit, 2: 64 bit
	Algorithms          []AlgorithmSize
	VendorInfo          []byte
}

// Log is a parsed event log.
type Log struct {
	Format  Format
	SpecID  *SpecID // nil in a legacy log
	Events  []Event // in the order measured, without the Spec ID header
	Padding int     // bytes of 0x00 or 0xff after the last event
}

// Banks lists the log's digest algorithms in the header's order.
func (l *Log) Banks() []tpm2.AlgID {
	if l.SpecID == nil {
		return []tpm2.AlgID{tpm2.AlgSHA1}
	}
	algs := make([]tpm2.AlgID, len(l.SpecID.Algorithms))
	for i, a := range l.SpecID.Algorithms {
		algs[i] = a.Alg
	}
	return algs
}

// Outside counts the events whose index is no PCR: Windows records notes to
// itself under 0xffffffff.
func (l *Log) Outside() int {
	n := 0
	for i := range l.Events {
		if l.Events[i].PCR >= NumPCRs {
			n++
		}
	}
	return n
}

// ParseError says where a log stops making sense.
type ParseError struct {
	Event  int // number of the event, 0 for the log's header
	Offset int // of the field at fault
	Reason string
}

// Error gives one sentence.
func (e *ParseError) Error() string {
	if e.Event == 0 {
		return fmt.Sprintf("event log: header at offset 0x%x: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("event log: event %d at offset 0x%x: %s", e.Event, e.Offset, e.Reason)
}

// Parse reads a log in either format, as /sys/kernel/security/tpm0/
// binary_bios_measurements gives it or as it lies in memory, with padding.
// Slices of the result alias raw. The error is a *ParseError: a cut or altered
// structure, an unlisted digest algorithm, or a limit of this package.
func Parse(raw []byte) (*Log, error) {
	if len(raw) > MaxLogSize {
		return nil, &ParseError{Offset: MaxLogSize,
			Reason: fmt.Sprintf("the log has %d bytes, the limit is %d", len(raw), MaxLogSize)}
	}
	first, end, err := parseLegacy(raw, 0, 1)
	if len(raw) >= legacyHeaderSize && first.PCR >= NumPCRs && first.Type != NoAction {
		return nil, &ParseError{0, 0, fmt.Sprintf("this is no TCG event log: it would begin with an event in PCR %d", first.PCR)}
	}
	if err != nil {
		err.Event = 0
		return nil, err
	}
	if first.Type == NoAction && hasSignature(first.Data, sigSpecID03) {
		spec, err := parseSpecID(first.Data)
		if err != nil {
			return nil, err
		}
		l := &Log{Format: CryptoAgile, SpecID: spec}
		if err := l.parseAgile(raw, end); err != nil {
			return nil, err
		}
		return l, nil
	}
	l := &Log{Format: Legacy}
	if err := l.parseLegacy(raw); err != nil {
		return nil, err
	}
	return l, nil
}

// padding tells whether the rest of a log is filler: real machines hand out
// their whole log area. Up to four equal bytes are no filler, as they may be
// the PCR index of an event that was cut off.
func padding(rest []byte) bool {
	if len(rest) <= cutIndexSize || (rest[0] != 0 && rest[0] != 0xff) {
		return false
	}
	for _, b := range rest[1:] {
		if b != rest[0] {
			return false
		}
	}
	return true
}

func (l *Log) parseLegacy(raw []byte) error {
	l.Events = make([]Event, 0, estimate(len(raw), legacyHeaderSize+usualData))
	arena := make([]Digest, 0, cap(l.Events))
	for off := 0; off < len(raw); {
		if padding(raw[off:]) {
			l.Padding = len(raw) - off
			break
		}
		n := len(l.Events) + 1
		if n > MaxEvents {
			return tooMany(off)
		}
		e, next, err := parseLegacy(raw, off, n)
		if err != nil {
			return err
		}
		arena = append(arena, Digest{tpm2.AlgSHA1, raw[off+8 : off+8+sha1Size : off+8+sha1Size]})
		e.Digests = arena[len(arena)-1 : len(arena) : len(arena)]
		l.Events = append(l.Events, e)
		off = next
	}
	return nil
}

func parseLegacy(raw []byte, off, number int) (Event, int, *ParseError) {
	if len(raw)-off < legacyHeaderSize {
		return Event{}, 0, &ParseError{number, off, fmt.Sprintf(
			"%d bytes are left where an event needs at least %d: the log is cut short",
			len(raw)-off, legacyHeaderSize)}
	}
	e := Event{
		Number: number,
		Offset: off,
		PCR:    binary.LittleEndian.Uint32(raw[off:]),
		Type:   EventType(binary.LittleEndian.Uint32(raw[off+4:])),
	}
	data, next, err := eventData(raw, off+8+sha1Size, number)
	e.Data = data
	return e, next, err
}

// eventData reads the size and the data that end an event of either format.
func eventData(raw []byte, off, number int) ([]byte, int, *ParseError) {
	if len(raw)-off < 4 {
		return nil, 0, &ParseError{number, off, "the log is cut short in the size of the event's data"}
	}
	size := binary.LittleEndian.Uint32(raw[off:])
	off += 4
	if uint64(size) > uint64(len(raw)-off) {
		return nil, 0, &ParseError{number, off - 4, fmt.Sprintf(
			"its data should have %d bytes, %d are left: the log is cut short or its size field altered",
			size, len(raw)-off)}
	}
	end := off + int(size)
	return raw[off:end:end], end, nil
}

func tooMany(off int) *ParseError {
	return &ParseError{MaxEvents + 1, off, fmt.Sprintf("more than %d events, the limit", MaxEvents)}
}

// estimate guesses how many events a log has.
func estimate(size, each int) int { return min(size/each+8, 1024) }
