package crypt

import (
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
)

// newTDES is TDES with two or three keys, which have 16 or 24 bytes.
func newTDES(keys []byte) cipher.Block {
	three := append(append(make([]byte, 0, 24), keys...), keys[:24-len(keys)]...)
	defer clear(three)
	block, err := des.NewTripleDESCipher(three)
	if err != nil {
		panic("crypt: " + err.Error())
	}
	return block
}

// oddParity gives each byte of a DES key odd parity, in its lowest bit.
func oddParity(k uint64) uint64 {
	k |= ones
	p := k ^ k>>4
	p ^= p >> 2
	p ^= p >> 1
	return k ^ ^p&ones
}

// setParity gives keys their parity in place.
func setParity(keys []byte) {
	for ; len(keys) >= 8; keys = keys[8:] {
		binary.BigEndian.PutUint64(keys, oddParity(binary.BigEndian.Uint64(keys)))
	}
}

// tdesKey reports whether keys may be used: none is weak, and each differs from
// the one after it.
func tdesKey(keys []byte) bool {
	var before uint64
	good := true
	for ; len(keys) >= 8; keys = keys[8:] {
		k := oddParity(binary.BigEndian.Uint64(keys))
		good = good && !weakDES(k) && k != before
		before = k
	}
	return good
}

// weakDES reports whether a key with odd parity is one of the 64 weak,
// semi-weak and possibly weak ones (SP 800-67, 3.3.2): both halves of its key
// schedule repeat every four bits, an even number of which are set. In the key
// that is bytes whose upper bits are alike and whose lower bits are.
func weakDES(k uint64) bool {
	var sum, other uint64
	for i := range 4 {
		x, y := k>>(56-8*i)&0xFF, k>>(24-8*i)&0xFF
		upper, lower := -(x >> 7), -(x >> 4 & 1)
		other |= x ^ 0x01 ^ upper&0xE1 ^ lower&0x1E
		other |= y ^ 0x01 ^ upper&0xF0 ^ lower&0x0F
		sum ^= x
	}
	return sum|other == 0
}
