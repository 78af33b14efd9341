package eventlog

import (
	"encoding/binary"
	"fmt"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Signatures that open the data of an EV_NO_ACTION event (PFP, section
// 10.4.5). Each field has 16 bytes.
const (
	sigSpecID00        = "Spec ID Event00\x00"
	sigSpecID02        = "Spec ID Event02\x00"
	sigSpecID03        = "Spec ID Event03\x00"
	sigStartupLocality = "StartupLocality\x00"
	sigBIOSIntegrity   = "SP800-155 Event\x00"
	sigBIOSIntegrity2  = "SP800-155 Event2"
	sigBIOSIntegrity3  = "SP800-155 Event3"
	sigHCRTMData       = "H-CRTM CompMeas\x00"
	sigSPDMBlob        = "SPDM Device Sec\x00"
	sigNvIndexInstance = "NvIndexInstance\x00"
	sigNvIndexDynamic  = "NvIndexDynamic\x00\x00"
	signatureSize      = 16
)

func hasSignature(data []byte, sig string) bool {
	return len(data) >= len(sig) && string(data[:len(sig)]) == sig
}

// parseSpecID reads the data of the log's header. Bytes after the vendor's
// information are tolerated, as other readers do.
func parseSpecID(data []byte) (*SpecID, error) {
	const fixed = signatureSize + 4 + 1 + 1 + 1 + 1 + 4
	fail := func(off int, format string, a ...any) (*SpecID, error) {
		return nil, &ParseError{0, legacyHeaderSize + off, "the Spec ID event " + fmt.Sprintf(format, a...)}
	}
	if len(data) < fixed {
		return fail(len(data), "has %d bytes and needs at least %d", len(data), fixed)
	}
	s := &SpecID{
		PlatformClass: binary.LittleEndian.Uint32(data[signatureSize:]),
		Minor:         data[20], Major: data[21], Error: data[22], UintnSize: data[23],
	}
	count := binary.LittleEndian.Uint32(data[24:])
	if count == 0 || count > MaxAlgorithms {
		return fail(24, "lists %d digest algorithms, 1 to %d are allowed", count, MaxAlgorithms)
	}
	off := fixed
	if len(data)-off < int(count)*4+1 {
		return fail(off, "is cut short in its list of %d digest algorithms", count)
	}
	for range count {
		a := AlgorithmSize{
			Alg:  tpm2.AlgID(binary.LittleEndian.Uint16(data[off:])),
			Size: int(binary.LittleEndian.Uint16(data[off+2:])),
		}
		if known := a.Alg.DigestSize(); known != 0 && known != a.Size || a.Size == 0 || a.Size > MaxDigestSize {
			return fail(off+2, "gives %s a digest of %d bytes", a.Alg, a.Size)
		}
		for _, b := range s.Algorithms {
			if a.Alg == b.Alg {
				return fail(off, "lists %s twice", a.Alg)
			}
		}
		s.Algorithms = append(s.Algorithms, a)
		off += 4
	}
	vendor := int(data[off])
	off++
	if vendor > len(data)-off {
		return fail(off, "should end with %d bytes of vendor information, %d are left", vendor, len(data)-off)
	}
	s.VendorInfo = data[off : off+vendor : off+vendor]
	return s, nil
}

func (l *Log) parseAgile(raw []byte, off int) error {
	each := agileHeaderSize + usualData
	for _, a := range l.SpecID.Algorithms {
		each += a.Size
	}
	l.Events = make([]Event, 0, estimate(len(raw), each))
	arena := make([]Digest, 0, cap(l.Events)*len(l.SpecID.Algorithms))
	for off < len(raw) {
		if padding(raw[off:]) {
			l.Padding = len(raw) - off
			break
		}
		n := len(l.Events) + 1
		if n > MaxEvents {
			return tooMany(off)
		}
		if len(raw)-off < agileHeaderSize {
			return &ParseError{n, off, fmt.Sprintf(
				"%d bytes are left where an event needs at least %d: the log is cut short",
				len(raw)-off, agileHeaderSize)}
		}
		start, at := len(arena), off+agileHeaderSize
		var err *ParseError
		if arena, at, err = l.digests(arena, raw, at, n); err != nil {
			return err
		}
		data, next, err := eventData(raw, at, n)
		if err != nil {
			return err
		}
		l.Events = append(l.Events, Event{
			Number:  n,
			Offset:  off,
			PCR:     binary.LittleEndian.Uint32(raw[off:]),
			Type:    EventType(binary.LittleEndian.Uint32(raw[off+4:])),
			Digests: arena[start:len(arena):len(arena)],
			Data:    data,
		})
		off = next
	}
	return nil
}

// digests reads a TPML_DIGEST_VALUES whose first digest is at off. The sizes
// come from the log's header.
func (l *Log) digests(arena []Digest, raw []byte, off, n int) ([]Digest, int, *ParseError) {
	count := binary.LittleEndian.Uint32(raw[off-4:])
	if count > uint32(len(l.SpecID.Algorithms)) {
		return nil, 0, &ParseError{n, off - 4, fmt.Sprintf(
			"it has %d digests where the header lists %d algorithms", count, len(l.SpecID.Algorithms))}
	}
	start := len(arena)
	for range count {
		if len(raw)-off < 2 {
			return nil, 0, &ParseError{n, off, "the log is cut short among the event's digests"}
		}
		alg := tpm2.AlgID(binary.LittleEndian.Uint16(raw[off:]))
		size := 0
		for _, a := range l.SpecID.Algorithms {
			if a.Alg == alg {
				size = a.Size
			}
		}
		if size == 0 {
			return nil, 0, &ParseError{n, off, fmt.Sprintf("a digest's algorithm is %s, which the header does not list", alg)}
		}
		for _, d := range arena[start:] {
			if d.Alg == alg {
				return nil, 0, &ParseError{n, off, fmt.Sprintf("it has two digests for %s", alg)}
			}
		}
		off += 2
		if len(raw)-off < size {
			return nil, 0, &ParseError{n, off, fmt.Sprintf("the log is cut short in the event's %s digest", alg)}
		}
		arena = append(arena, Digest{alg, raw[off : off+size : off+size]})
		off += size
	}
	return arena, off, nil
}

// StartupLocality gives the locality from which TPM2_Startup was sent, where
// the log states it: 0, 3, or 4 after an H-CRTM sequence. It decides the value
// PCR 0 starts from (PFP, section 10.4.5.3; TPM Part 1, section 34.3).
func (l *Log) StartupLocality() (locality uint8, stated bool) {
	for i := range l.Events {
		e := &l.Events[i]
		if e.Type == NoAction && len(e.Data) > signatureSize && hasSignature(e.Data, sigStartupLocality) {
			return e.Data[signatureSize], true
		}
	}
	return 0, false
}

// initialLocality is the last byte of PCR 0 after Startup. Older firmware with
// an H-CRTM says so only by its event.
func (l *Log) initialLocality() uint8 {
	if loc, ok := l.StartupLocality(); ok {
		return loc
	}
	for i := range l.Events {
		if l.Events[i].Type == EFIHCRTMEvent && l.Events[i].PCR == 0 {
			return 4
		}
	}
	return 0
}
