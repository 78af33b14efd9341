package crypt

import (
	"encoding/binary"
	"errors"
	"math/big"
	"math/bits"
	"sync"

	"filippo.io/bigmod"
)

// ErrCanceled reports a key search that its caller canceled; the command
// answers TPM_RC_CANCELED.
var ErrCanceled = errors.New("crypt: the key search was canceled")

const (
	// fieldBits is the number of odd candidates sieved at once.
	fieldBits  = 2048 * 8
	fieldWords = fieldBits / 64
	// fieldAlign is the product of the primes that the reference code's field
	// pattern has struck already: fields start on its multiples.
	fieldAlign = 3 * 5 * 7
	// spanLimit bounds the primes that only save exponentiations: what they
	// strike is known to be composite, but is still drawn a witness.
	spanLimit = 1 << 20
)

// sieveLimit is the largest prime with which the reference code sieves for
// primes of that many bits.
func sieveLimit(primeBits int) uint32 {
	switch {
	case primeBits <= 512:
		return 8167
	case primeBits <= 1024:
		return 38891
	}
	return 65535
}

// rounds is the number of Miller-Rabin rounds for primes of that many bits.
func rounds(primeBits int) int {
	switch {
	case primeBits < 511:
		return 8
	case primeBits < 1536:
		return 5
	}
	return 4
}

// primeGroup is a run of odd primes whose product fits a word, so that a long
// division serves all of them.
type primeGroup struct {
	product uint64
	primes  []uint32
}

// primeGroups gives the odd primes below spanLimit, in ascending groups. The
// table is computed once and never changes.
var primeGroups = sync.OnceValue(func() []primeGroup {
	composite := make([]bool, spanLimit)
	var primes []uint32
	for p := 3; p < spanLimit; p += 2 {
		if composite[p] {
			continue
		}
		primes = append(primes, uint32(p))
		for m := p * p; m < spanLimit; m += 2 * p {
			composite[m] = true
		}
	}
	var groups []primeGroup
	for len(primes) > 0 {
		g, n := primeGroup{product: 1}, 0
		for ; n < len(primes); n++ {
			hi, lo := bits.Mul64(g.product, uint64(primes[n]))
			if hi != 0 {
				break
			}
			g.product = lo
		}
		g.primes, primes = primes[:n:n], primes[n:]
		groups = append(groups, g)
	}
	return groups
})

// field is a window of odd numbers above base: bit i stands for base + 2i.
type field struct {
	base  []uint64           // little-endian words
	stand [fieldWords]uint64 // not struck by the reference code's sieve
	known [fieldWords]uint64 // known to be composite all the same
	count uint32             // bits standing
}

// findPrime draws random starts from d until one has a prime near it, exactly
// as the reference code does (revision 155 and later).
func findPrime(d *DRBG, primeBits int, e uint32, cancel func() bool) (*big.Int, error) {
	start := make([]byte, primeBits/8)
	defer clear(start)
	var f field
	for {
		d.Read(start)
		adjustCandidate(start)
		f.sieve(start, sieveLimit(primeBits))
		// The low word of the start, made large, picks the candidates.
		pick := binary.BigEndian.Uint32(start[len(start)-4:]) | 1<<31
		prime, err := f.search(d, pick, e, cancel)
		if prime != nil || err != nil {
			return prime, err
		}
	}
}

// adjustCandidate scales the top word into [√½, 1), so that the product of two
// primes has all its bits, and makes the number odd. (The constant is just
// below 1 - √½ in 16-bit fixed point.)
func adjustCandidate(b []byte) {
	const scale, floor = 0x4AFB, 0xB5050000
	top := binary.BigEndian.Uint32(b)
	top = (top>>16)*scale + ((top&0xFFFF)*scale)>>16 + floor
	binary.BigEndian.PutUint32(b, top)
	b[len(b)-1] |= 1
}

// sieve lays the field above start, moved down to an odd multiple of
// fieldAlign, and strikes multiples of small primes.
func (f *field) sieve(start []byte, limit uint32) {
	f.base = f.base[:0]
	for i := len(start); i > 0; i -= 8 {
		f.base = append(f.base, binary.BigEndian.Uint64(start[i-8:i]))
	}
	down := remainder(f.base, fieldAlign)
	if down&1 == 1 {
		down += fieldAlign
	}
	borrow := down
	for i := 0; borrow != 0; i++ {
		f.base[i], borrow = bits.Sub64(f.base[i], borrow, 0)
	}
	for i := range f.stand {
		f.stand[i] = ^uint64(0)
	}
	clear(f.known[:])
	for _, g := range primeGroups() {
		r := remainder(f.base, g.product)
		for _, p := range g.primes {
			if p <= limit {
				strike(&f.stand, p, uint32(r%uint64(p)))
			} else {
				strikeKnown(&f.known, p, uint32(r%uint64(p)))
			}
		}
	}
	f.count = 0
	for _, w := range f.stand {
		f.count += uint32(bits.OnesCount64(w))
	}
}

// firstMultiple is the index of the first multiple of p in a field whose base
// leaves the remainder r.
func firstMultiple(p, r uint32) uint32 {
	if r&1 == 1 {
		return (p - r) / 2
	}
	if r == 0 {
		return 0
	}
	return p - r/2
}

func strike(set *[fieldWords]uint64, p, r uint32) {
	for i := firstMultiple(p, r); i < fieldBits; i += p {
		set[i/64] &^= 1 << (i % 64)
	}
}

func strikeKnown(set *[fieldWords]uint64, p, r uint32) {
	for i := firstMultiple(p, r); i < fieldBits; i += p {
		set[i/64] |= 1 << (i % 64)
	}
}

// remainder is x mod m.
func remainder(x []uint64, m uint64) (r uint64) {
	for i := len(x) - 1; i >= 0; i-- {
		_, r = bits.Div64(r, x[i], m)
	}
	return r
}

// search tries the standing numbers in the reference code's order. It gives
// nil where the field has no prime.
func (f *field) search(d *DRBG, pick, e uint32, cancel func() bool) (*big.Int, error) {
	baseModE := remainder(f.base, uint64(e))
	candidate := make([]uint64, len(f.base))
	test := newPrimalityTest(64 * len(f.base))
	for ; f.count > 0; f.count-- {
		i := f.nth(pick % f.count)
		f.stand[i/64] &^= 1 << (i % 64)
		// 0 would make e divide the prime; 1 would leave e no inverse.
		if (baseModE+2*uint64(i))%uint64(e) <= 1 {
			continue
		}
		if cancel != nil && cancel() {
			return nil, ErrCanceled
		}
		carry := 2 * uint64(i)
		for j, w := range f.base {
			candidate[j], carry = bits.Add64(w, carry, 0)
		}
		composite := f.known[i/64]>>(i%64)&1 == 1
		if test.run(d, candidate, composite) {
			return new(big.Int).SetBytes(test.w), nil
		}
	}
	return nil, nil
}

// nth is the index of the standing bit that has n standing bits below it.
func (f *field) nth(n uint32) uint32 {
	for i, w := range f.stand {
		ones := uint32(bits.OnesCount64(w))
		if n >= ones {
			n -= ones
			continue
		}
		for ; n > 0; n-- {
			w &= w - 1
		}
		return uint32(64*i + bits.TrailingZeros64(w))
	}
	panic("crypt: the sieve's count is off")
}

// primalityTest is Miller-Rabin with witnesses from a DRBG, with its buffers.
type primalityTest struct {
	w, wMinus1, b, m []byte // big-endian, of the same length
	z                *bigmod.Nat
}

func newPrimalityTest(primeBits int) *primalityTest {
	n := primeBits / 8
	buf := make([]byte, 4*n)
	return &primalityTest{
		w: buf[:n], wMinus1: buf[n : 2*n], b: buf[2*n : 3*n], m: buf[3*n:],
		z: bigmod.NewNat(),
	}
}

// run tells whether candidate is probably prime. A candidate known to have a
// small factor draws its first witness, which keeps the generator in step, but
// is spared the exponentiation: that a random witness would pass it is less
// likely than an undetected fault of the machine.
func (t *primalityTest) run(d *DRBG, candidate []uint64, composite bool) bool {
	for i, w := range candidate {
		binary.BigEndian.PutUint64(t.w[len(t.w)-8*(i+1):], w)
	}
	copy(t.wMinus1, t.w)
	t.wMinus1[len(t.w)-1]--
	if composite {
		t.witness(d)
		return false
	}
	modulus, err := bigmod.NewModulus(t.w)
	if err != nil {
		return false
	}
	// w - 1 = 2^a m with m odd
	minus1 := new(big.Int).SetBytes(t.wMinus1)
	a := minus1.TrailingZeroBits()
	minus1.Rsh(minus1, a).FillBytes(t.m)
	for range rounds(8 * len(t.w)) {
		t.witness(d)
		if !t.round(modulus, a) {
			return false
		}
	}
	return true
}

// witness draws b with 1 < b < w - 1.
func (t *primalityTest) witness(d *DRBG) {
	for {
		d.Read(t.b)
		if string(t.b) < string(t.wMinus1) && !atMostOne(t.b) {
			return
		}
	}
}

func atMostOne(b []byte) bool {
	for _, x := range b[:len(b)-1] {
		if x != 0 {
			return false
		}
	}
	return b[len(b)-1] <= 1
}

// round is one round of Miller-Rabin.
func (t *primalityTest) round(modulus *bigmod.Modulus, a uint) bool {
	b, err := bigmod.NewNat().SetBytes(t.b, modulus)
	if err != nil {
		return false
	}
	z := t.z.Exp(b, t.m, modulus)
	if z.IsOne() == 1 || z.IsMinusOne(modulus) == 1 {
		return true
	}
	for range a - 1 {
		z.Mul(z, modulus)
		if z.IsMinusOne(modulus) == 1 {
			return true
		}
		if z.IsOne() == 1 {
			return false
		}
	}
	return false
}
