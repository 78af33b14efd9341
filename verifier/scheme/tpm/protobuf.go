package tpm

import (
	"encoding/binary"
	"errors"
)

// field is one field of a protobuf message: a varint or bytes, the two wire
// types that go-tpm-tools' attestation uses.
type field struct {
	number uint64
	value  uint64
	bytes  []byte
}

const maxFields = 4096 // fields of one message

var errProtobuf = errors.New("the protobuf is malformed: it is cut, altered or something else")

// fields splits a message; groups and unknown wire types are refused.
func fields(b []byte) ([]field, error) {
	var list []field
	for len(b) > 0 {
		if len(list) == maxFields {
			return nil, errProtobuf
		}
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29 {
			return nil, errProtobuf
		}
		b = b[n:]
		f := field{number: tag >> 3}
		switch v, n := binary.Uvarint(b); {
		case tag&7 == 0 && n > 0:
			f.value, b = v, b[n:]
		case tag&7 == 2 && n > 0 && v <= uint64(len(b)-n):
			f.bytes, b = b[n:n+int(v)], b[n+int(v):]
		case tag&7 == 1 && len(b) >= 8:
			f.value, b = binary.LittleEndian.Uint64(b), b[8:]
		case tag&7 == 5 && len(b) >= 4:
			f.value, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		default:
			return nil, errProtobuf
		}
		list = append(list, f)
	}
	return list, nil
}
