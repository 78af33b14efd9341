package crypt

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// camellia is the block cipher of RFC 3713 as a cipher.Block. It runs in
// constant time: its S-box is computed for eight bytes at once, not looked up,
// which takes some microseconds for a block.
type camellia struct{ encrypt, decrypt camelliaKeys }

// camelliaKeys are the subkeys of one direction.
type camelliaKeys struct {
	before, after [2]uint64
	rounds        []uint64 // 18, or 24 for keys longer than 128 bits
	layers        []uint64 // two after every sixth round but the last
}

// camelliaSigma are the constants of the key schedule.
var camelliaSigma = [6]uint64{
	0xA09E667F3BCC908B, 0xB67AE8584CAA73B2, 0xC6EF372FE94F82BE,
	0x54FF53A5F1D36F1C, 0x10E527FADE682D1D, 0xB05688C2B3E6C1FD,
}

// wide is a number of 128 bits.
type wide struct{ hi, lo uint64 }

// rotate turns w left by n bits, 0 < n < 128.
func (w wide) rotate(n uint) []uint64 {
	if n >= 64 {
		w, n = wide{w.lo, w.hi}, n-64
	}
	return []uint64{w.hi<<n | w.lo>>(64-n), w.lo<<n | w.hi>>(64-n)}
}

func (w wide) words() []uint64 { return []uint64{w.hi, w.lo} }

// newCamellia takes a key of 16, 24 or 32 bytes.
func newCamellia(key []byte) *camellia {
	word := func(i int) uint64 { return binary.BigEndian.Uint64(key[8*i:]) }
	kl := wide{word(0), word(1)}
	var kr wide
	switch len(key) {
	case 24:
		kr = wide{word(2), ^word(2)}
	case 32:
		kr = wide{word(2), word(3)}
	}
	mix := func(w wide, sigma []uint64) wide {
		w.lo ^= camelliaF(w.hi, sigma[0])
		w.hi ^= camelliaF(w.lo, sigma[1])
		return w
	}
	ka := mix(wide{kl.hi ^ kr.hi, kl.lo ^ kr.lo}, camelliaSigma[:])
	ka = mix(wide{ka.hi ^ kl.hi, ka.lo ^ kl.lo}, camelliaSigma[2:])
	c := new(camellia)
	if len(key) == 16 {
		c.encrypt = scheduleShort(kl, ka)
	} else {
		c.encrypt = scheduleLong(kl, kr, ka, mix(wide{ka.hi ^ kr.hi, ka.lo ^ kr.lo}, camelliaSigma[4:]))
	}
	c.decrypt = c.encrypt.reverse()
	return c
}

// scheduleShort is the schedule of 128-bit keys (RFC 3713, 2.2).
func scheduleShort(kl, ka wide) camelliaKeys {
	return camelliaKeys{
		before: [2]uint64(kl.words()),
		rounds: slices.Concat(ka.words(), kl.rotate(15), ka.rotate(15), kl.rotate(45), ka.rotate(45)[:1],
			kl.rotate(60)[1:], ka.rotate(60), kl.rotate(94), ka.rotate(94), kl.rotate(111)),
		layers: slices.Concat(ka.rotate(30), kl.rotate(77)),
		after:  [2]uint64(ka.rotate(111)),
	}
}

// scheduleLong is the schedule of longer keys.
func scheduleLong(kl, kr, ka, kb wide) camelliaKeys {
	return camelliaKeys{
		before: [2]uint64(kl.words()),
		rounds: slices.Concat(kb.words(), kr.rotate(15), ka.rotate(15), kb.rotate(30), kl.rotate(45), ka.rotate(45),
			kr.rotate(60), kb.rotate(60), kl.rotate(77), kr.rotate(94), ka.rotate(94), kl.rotate(111)),
		layers: slices.Concat(kr.rotate(30), kl.rotate(60), ka.rotate(77)),
		after:  [2]uint64(kb.rotate(111)),
	}
}

// reverse is the subkeys of the other direction.
func (k *camelliaKeys) reverse() camelliaKeys {
	r := camelliaKeys{before: k.after, after: k.before, rounds: slices.Clone(k.rounds), layers: slices.Clone(k.layers)}
	slices.Reverse(r.rounds)
	slices.Reverse(r.layers)
	return r
}

// BlockSize is the block length in bytes.
func (c *camellia) BlockSize() int { return 16 }

// Encrypt encrypts one block.
func (c *camellia) Encrypt(dst, src []byte) { c.encrypt.crypt(dst, src) }

// Decrypt decrypts one block.
func (c *camellia) Decrypt(dst, src []byte) { c.decrypt.crypt(dst, src) }

func (k *camelliaKeys) crypt(dst, src []byte) {
	a := binary.BigEndian.Uint64(src) ^ k.before[0]
	b := binary.BigEndian.Uint64(src[8:]) ^ k.before[1]
	for i := 0; i < len(k.rounds); i += 2 {
		if i > 0 && i%6 == 0 {
			a, b = camelliaFL(a, k.layers[i/3-2]), camelliaInvFL(b, k.layers[i/3-1])
		}
		b ^= camelliaF(a, k.rounds[i])
		a ^= camelliaF(b, k.rounds[i+1])
	}
	binary.BigEndian.PutUint64(dst, b^k.after[0])
	binary.BigEndian.PutUint64(dst[8:], a^k.after[1])
}

func camelliaFL(x, k uint64) uint64 {
	l, r := uint32(x>>32), uint32(x)
	r ^= bits.RotateLeft32(l&uint32(k>>32), 1)
	l ^= r | uint32(k)
	return uint64(l)<<32 | uint64(r)
}

func camelliaInvFL(x, k uint64) uint64 {
	l, r := uint32(x>>32), uint32(x)
	l ^= r | uint32(k)
	r ^= bits.RotateLeft32(l&uint32(k>>32), 1)
	return uint64(l)<<32 | uint64(r)
}

// Bytes of a word, the first being the most significant, that go through
// another S-box than the first: the second and third turn its result by a bit
// to the left and to the right, the fourth its argument to the left.
const (
	sbox2 = 0x00FF0000_FF000000
	sbox3 = 0x0000FF00_00FF0000
	sbox4 = 0x000000FF_0000FF00
)

// camelliaF is the F-function: S-boxes, then a linear mixing of the bytes.
func camelliaF(x, k uint64) uint64 {
	x ^= k
	y := camelliaSBox(x&^sbox4 | turnBytes(x, 1)&sbox4)
	y = y&^(sbox2|sbox3) | turnBytes(y, 1)&sbox2 | turnBytes(y, 7)&sbox3
	l, r := uint32(y>>32), uint32(y)
	turn := bits.RotateLeft32
	r = turn(r, 8) ^ turn(r, 16) ^ turn(r, 24)
	return uint64(l^turn(l, 16)^turn(l, 24)^r)<<32 | uint64(l^turn(l, 8)^r)
}

// ones has the lowest bit of each byte.
const ones = 0x01010101_01010101

// turnBytes turns each byte of x left by n bits, 0 < n < 8.
func turnBytes(x uint64, n uint) uint64 {
	low := uint64(ones) * (1<<n - 1)
	return x<<n&^low | x>>(8-n)&low
}

// Linear maps over the bits of a byte: what each bit, from the lowest, adds to
// the result. The S-box's inversion is in GF(2⁸) with x⁸+x⁶+x⁵+x³+1; sboxIn and
// sboxOut hold the change of basis besides the maps of the specification.
var (
	sboxIn  = [8]byte{0xB6, 0x23, 0x0F, 0xCA, 0x06, 0xDA, 0x1C, 0x48}
	sboxOut = [8]byte{0x14, 0x20, 0xB6, 0x90, 0xE1, 0x66, 0x68, 0x10}
	power2  = [8]byte{0x01, 0x04, 0x10, 0x40, 0x69, 0xCD, 0x8F, 0xEE}
	power4  = [8]byte{0x01, 0x10, 0x69, 0x8F, 0x03, 0x30, 0xBB, 0xF8}
	power16 = [8]byte{0x01, 0x03, 0x05, 0x0F, 0x11, 0x33, 0x55, 0xFF}
)

// camelliaSBox is the first S-box on each byte of x: an inversion, as the power
// of 254, between two affine maps.
func camelliaSBox(x uint64) uint64 {
	x = linear(x^ones*0xC5, &sboxIn)
	x2 := linear(x, &power2)
	x3 := times(x, x2)
	x12 := linear(x3, &power4)
	x240 := linear(times(x12, x3), &power16)
	return linear(times(times(x240, x12), x2), &sboxOut) ^ ones*0x6E
}

func linear(x uint64, columns *[8]byte) (y uint64) {
	for i, c := range columns {
		y ^= x >> i & ones * uint64(c)
	}
	return y
}

// times multiplies byte by byte in the field.
func times(a, b uint64) (p uint64) {
	for i := range 8 {
		p ^= b >> i & ones * 0xFF & a
		a = a<<1&^ones ^ a>>7&ones*0x69
	}
	return p
}
