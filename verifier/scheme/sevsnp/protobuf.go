package sevsnp

import (
	"encoding/binary"
	"errors"
)

var errProtobuf = errors.New("it is no Attestation of go-sev-guest: it is cut, altered or something else")

// field is one field of a protobuf message: a number or bytes.
type field struct {
	number, value uint64
	bytes         []byte
}

// next splits the first field off a message.
func next(b []byte) (f field, rest []byte, err error) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 {
		return f, nil, errProtobuf
	}
	b = b[n:]
	f.number = tag >> 3
	v, n := binary.Uvarint(b)
	switch {
	case tag&7 == 0 && n > 0:
		f.value = v
		return f, b[n:], nil
	case tag&7 == 2 && n > 0 && v <= uint64(len(b)-n):
		f.bytes = b[n : n+int(v)]
		return f, b[n+int(v):], nil
	}
	return f, nil, errProtobuf
}

// protobuf reads an Attestation of go-sev-guest: the report's fields, and the
// certificates.
func (g *given) protobuf(b []byte) error {
	var report []byte
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		b = rest
		switch f.number {
		case 1:
			if report, err = protoReport(f.bytes); err != nil {
				return err
			}
		case 2:
			if err := g.protoChain(f.bytes); err != nil {
				return err
			}
		}
	}
	if report == nil {
		return errProtobuf
	}
	return g.setReport(report, "protobuf of go-sev-guest; binary report rebuilt field by field")
}

func (g *given) protoChain(b []byte) error {
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		b = rest
		switch f.number { // vcek, ask, ark, vlek
		case 1, 2, 3, 6:
			if len(f.bytes) == 0 {
				continue
			}
			if err := g.read(f.bytes, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// protoPlace says where a field of the message Report has its place in a report,
// and in how many bytes. From version 3 on CPUID's are apart.
type protoPlace struct{ at, size int }

var protoPlaces = map[uint64]protoPlace{
	1: {0, 4}, 2: {4, 4}, 3: {8, 8}, 4: {0x10, 16}, 5: {0x20, 16}, 6: {0x30, 4}, 7: {0x34, 4}, 8: {0x38, 8}, 9: {0x40, 8},
	10: {0x48, 4}, 11: {0x50, 64}, 12: {0x90, 48}, 13: {0xc0, 32}, 14: {0xe0, 48}, 15: {0x110, 48}, 16: {0x140, 32},
	17: {0x160, 32}, 18: {0x180, 8}, 19: {0x1a0, 64}, 20: {0x1e0, 8}, 21: {0x1e8, 1}, 22: {0x1e9, 1}, 23: {0x1ea, 1},
	24: {0x1ec, 1}, 25: {0x1ed, 1}, 26: {0x1ee, 1}, 27: {0x1f0, 8}, 28: {signedSize, ReportSize - signedSize},
	30: {0x1f8, 8}, 31: {0x200, 8},
}

// protoFMS is the field that has family, model and stepping as CPUID gives them.
const protoFMS = 29

// protoReport builds the binary report of its fields.
func protoReport(b []byte) ([]byte, error) {
	r := make([]byte, ReportSize)
	var fms uint64
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return nil, err
		}
		b = rest
		p, ok := protoPlaces[f.number]
		switch {
		case f.number == protoFMS:
			fms = f.value
		case !ok:
			return nil, errProtobuf
		case f.bytes != nil && len(f.bytes) == p.size:
			copy(r[p.at:], f.bytes)
		case f.bytes == nil && p.size <= 8:
			var le [8]byte
			binary.LittleEndian.PutUint64(le[:], f.value)
			if !zero(le[p.size:]) {
				return nil, errProtobuf
			}
			copy(r[p.at:p.at+p.size], le[:])
		default:
			return nil, errProtobuf
		}
	}
	if binary.LittleEndian.Uint32(r) >= 3 {
		// CPUID's family and model are sums of a base and an extension.
		r[0x188] = uint8(fms>>8&0xf + fms>>20&0xff)
		r[0x189] = uint8(fms>>4&0xf | fms>>12&0xf0)
		r[0x18a] = uint8(fms & 0xf)
	}
	return r, nil
}
