package tpm

import (
	"bytes"
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// span is one field of encoded parameters.
type span struct{ at, end int }

// fieldsOf finds the fields of a command's parameters by how far the decoder
// comes when they are cut.
func fieldsOf(d *command, b []byte) (list []span) {
	in := d.newParams()
	last := 0
	for n := 1; n <= len(b); n++ {
		c := tpm2.NewDecoderFor(b[:n], &nullProfile.impl)
		in.Walk(&c)
		if at := n - c.Remaining(); at > last {
			list = append(list, span{last, at})
			last = at
		}
	}
	if last < len(b) {
		list = append(list, span{last, len(b)})
	}
	return list
}

// mutate changes a command's parameters in one field, most of the time to a
// value at its type's boundaries, and keeps the sizes around it right.
func (g *gen) mutate(d *command, b []byte) []byte {
	list := fieldsOf(d, b)
	if len(list) == 0 {
		return append(b, g.bytes(1+g.IntN(4))...)
	}
	i := g.IntN(len(list))
	f := list[i]
	if f.end-f.at == 2 && i+1 < len(list) && int(binary.BigEndian.Uint16(b[f.at:])) == list[i+1].end-list[i+1].at && g.IntN(2) == 0 {
		return g.resize(b, f.at, list[i+1])
	}
	out := bytes.Clone(b)
	field := out[f.at:f.end]
	switch len(field) {
	case 1:
		field[0] = pickOf(g, byte(0), 1, 2, 3, 4, 5, 31, 32, 0x7F, 0x80, 0xFF, field[0]^1<<g.IntN(8), field[0]+1)
	case 2:
		v := binary.BigEndian.Uint16(field)
		binary.BigEndian.PutUint16(field, pickOf(g, 0, 1, v+1, v-1, 0x7FFF, 0x8000, 0xFFFF, v^1<<g.IntN(16),
			uint16(g.IntN(0x48)), uint16(pickOf(g, knownAlgs...)), uint16(pickOf(g, knownAlgs...)), uint16(0x8021+g.IntN(6)), 128, 192, 256, 1024, 2048))
	case 4:
		v := binary.BigEndian.Uint32(field)
		binary.BigEndian.PutUint32(field, pickOf(g, 0, 1, v+1, v-1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, v^1<<g.IntN(32), v^1<<g.IntN(32),
			v^1<<g.IntN(32), uint32(pickOf(g, knownHandles...)), uint32(pickOf(g, knownHandles...))))
	case 8:
		v := binary.BigEndian.Uint64(field)
		binary.BigEndian.PutUint64(field, pickOf(g, 0, 1, v+1, v-1, 1<<63, 1<<63-1, 1<<64-1, v^1<<g.IntN(64)))
	default:
		switch at := g.IntN(len(field)); g.IntN(4) {
		case 0:
			clear(field)
		case 1:
			field[0] = pickOf(g, byte(0), 0xFF, field[0]^0x80)
		default:
			field[at] ^= 1 << g.IntN(8)
		}
	}
	return out
}

// maxParameters is how long parameters become, in bytes: swtpm reads a command of
// more than 4,096 in two parts, and answers twice.
const maxParameters = 3000

// resize changes the length of a sized buffer whose size is at byte at.
func (g *gen) resize(b []byte, at int, content span) []byte {
	n := content.end - content.at
	size := pickOf(g, 0, n-1, n+1, 1, 16, 20, 32, 33, 48, 64, 65, 66, 67, n*2, 128, 129)
	size = max(0, size)
	data := bytes.Clone(b[content.at:content.end])
	for len(data) < size {
		data = append(data, byte(g.IntN(256)))
	}
	out := append(bytes.Clone(b[:content.at]), data[:size]...)
	out = append(out, b[content.end:]...)
	if len(out) > maxParameters {
		return b
	}
	binary.BigEndian.PutUint16(out[at:], uint16(size))
	for o := 0; o+2 <= at; o++ { // the structures that hold it
		v := int(binary.BigEndian.Uint16(b[o:]))
		if end := o + 2 + v; v > 4 && end >= content.end && end <= len(b) {
			binary.BigEndian.PutUint16(out[o:], uint16(v+size-n))
			break
		}
	}
	return out
}

// spoilage is a change of a whole command.
func (g *gen) spoilage() spoil {
	kind := pickOf(g, flipBits, flipBits, flipBits, setByte, setByte, cutOff, cutOff, appended, appended, tagged, wrongSize, otherCommand)
	s := spoil{kind: kind, at: g.IntN(1 << 16), with: byte(1 << g.IntN(8))}
	if g.IntN(2) == 0 {
		s.at = g.IntN(40)
	}
	switch kind {
	case tagged:
		s.with = pickOf(g, byte(0), 1, 2, 3, 0xC4)
	case otherCommand:
		if s.with = byte(g.IntN(256)); registry.lookup(tpm2.CC(0x100)|tpm2.CC(s.with)) != nil {
			s.with = 0xF0 // one that there is not
		}
	case setByte:
		s.with = byte(g.IntN(256))
	}
	return s
}
