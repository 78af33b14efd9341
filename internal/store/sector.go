package store

import (
	"encoding/binary"
	"hash/crc32"
)

// A sector is 512 bytes, what a disk writes wholly or not at all:
//
//	0    8  number of the write (0 = formatted, never written)
//	8    4  index of the sector in its slot
//	12   4  length of the state in bytes (sector 0), else 0
//	16   4  sectors in a slot (sector 0), else 0
//	20   4  magic with format version (sector 0), else 0
//	24 484  bytes of the state, zeros behind its end
//	508  4  CRC-32C of the 508 bytes before
const (
	sectorSize = 512
	headSize   = 24
	payload    = sectorSize - headSize - 4
	magicV1    = 0x41534C01 // "ASL", 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sectorsFor gives the number of sectors that hold n bytes, at least one.
func sectorsFor(n int) int { return max(1, (n+payload-1)/payload) }

// sector is the decoded head of one sector.
type sector struct {
	seq    uint64
	index  uint32
	length uint32
	slots  uint32
	magic  uint32
	ok     bool // the CRC is right
}

func readSector(b []byte) sector {
	return sector{
		seq:    binary.BigEndian.Uint64(b),
		index:  binary.BigEndian.Uint32(b[8:]),
		length: binary.BigEndian.Uint32(b[12:]),
		slots:  binary.BigEndian.Uint32(b[16:]),
		magic:  binary.BigEndian.Uint32(b[20:]),
		ok:     binary.BigEndian.Uint32(b[sectorSize-4:]) == crc32.Checksum(b[:sectorSize-4], castagnoli),
	}
}

func sealSector(b []byte, seq uint64, index int) {
	binary.BigEndian.PutUint64(b, seq)
	binary.BigEndian.PutUint32(b[8:], uint32(index))
	binary.BigEndian.PutUint32(b[sectorSize-4:], crc32.Checksum(b[:sectorSize-4], castagnoli))
}

// encode frames state into the sectors it needs, appended to buf[:0].
func encode(buf []byte, seq uint64, capacity int, state []byte) []byte {
	n := sectorsFor(len(state))
	if cap(buf) < n*sectorSize {
		buf = make([]byte, n*sectorSize)
	}
	buf = buf[:n*sectorSize]
	total := len(state)
	for i := range n {
		s := buf[i*sectorSize : (i+1)*sectorSize]
		clear(s[8:headSize])
		if i == 0 {
			binary.BigEndian.PutUint32(s[12:], uint32(total))
			binary.BigEndian.PutUint32(s[16:], uint32(capacity))
			binary.BigEndian.PutUint32(s[20:], magicV1)
		}
		k := copy(s[headSize:headSize+payload], state)
		state = state[k:]
		clear(s[headSize+k : headSize+payload])
		sealSector(s, seq, i)
	}
	return buf
}

// blank is a slot that holds nothing.
func blank(capacity int) []byte {
	b := make([]byte, capacity*sectorSize)
	format(b, capacity)
	return b
}

// format makes a slot that holds nothing of zeros.
func format(b []byte, capacity int) {
	for i := range capacity {
		s := b[i*sectorSize : (i+1)*sectorSize]
		if i == 0 {
			binary.BigEndian.PutUint32(s[16:], uint32(capacity))
			binary.BigEndian.PutUint32(s[20:], magicV1)
		}
		sealSector(s, 0, i)
	}
}

// slot is what decoding found in one slot.
type slot struct {
	seq    uint64 // of the state it holds; 0 = none, or torn
	newest uint64 // highest number on any of its sectors
	length int    // of the state in bytes
	b      []byte // all of it
}

// state is what the slot holds, a copy.
func (s *slot) state() []byte {
	b := make([]byte, 0, sectorsFor(s.length)*payload)
	for i := range sectorsFor(s.length) {
		b = append(b, s.b[i*sectorSize+headSize:i*sectorSize+headSize+payload]...)
	}
	return b[:s.length:s.length]
}

// decode reads one slot. ok is false where a sector's CRC, index or head is
// wrong, which no crash explains.
func decode(b []byte, capacity int) (s slot, ok bool) {
	var head sector
	whole := true
	for i := range capacity {
		h := readSector(b[i*sectorSize : (i+1)*sectorSize])
		if !h.ok || h.index != uint32(i) {
			return slot{}, false
		}
		if i == 0 {
			head = h
			if h.magic != magicV1 || h.slots != uint32(capacity) ||
				h.length > uint32(capacity*payload) {
				return slot{}, false
			}
		}
		s.newest = max(s.newest, h.seq)
		if i < sectorsFor(int(head.length)) && h.seq != head.seq {
			whole = false
		}
	}
	if !whole || head.seq == 0 {
		return s, true
	}
	s.seq, s.length, s.b = head.seq, int(head.length), b
	return s, true
}
