package crypt

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

const (
	// fieldBits is the number of odd candidates sieved at once.
	fieldBits  = 2048 * 8
	fieldWords = fieldBits / 64
	// fieldAlign is the product of the primes that the reference code's field
	// pattern has struck already: fields start on its multiples.
	fieldAlign = 3 * 5 * 7
	// stopEvery is how many groups of primes are between two questions whether to
	// stop: about a millisecond.
	stopEvery = 512
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

// lanes is the number of long divisions that run side by side: a processor begins the
// next one before it is done with the last.
const lanes = 4

// primeGroup is runs of odd primes, each with a product that fits a word, so
// that one long division serves a run.
type primeGroup struct {
	products [lanes]uint64
	primes   [lanes][maxRun]uint32
	count    [lanes]int
}

// maxRun is the length of the longest run, 3 · 5 · … · 53.
const maxRun = 15

// primeGaps gives half of what lies between each odd prime below spanLimit and
// the one before it, the first being 1: a fifth of the memory that the primes
// take. The table is computed once and never changes.
var primeGaps = sync.OnceValue(func() []byte {
	composite := make([]uint64, spanLimit/2/64) // bit i stands for 2i + 1
	gaps := make([]byte, 0, spanLimit/12)
	last := 1
	for p := 3; p < spanLimit; p += 2 {
		if composite[p/2/64]>>(p/2%64)&1 == 1 {
			continue
		}
		gaps = append(gaps, byte((p-last)/2))
		last = p
		for m := p * p; m < spanLimit; m += 2 * p {
			composite[m/2/64] |= 1 << (m / 2 % 64)
		}
	}
	return gaps
})

// primeGroups walks the groups of all primes.
type primeGroups struct {
	gaps []byte // of the primes that are still to come
	last uint32 // the prime before them
}

// next fills the group with the next primes; false means that there are none.
func (w *primeGroups) next(g *primeGroup) bool {
	if len(w.gaps) == 0 {
		return false
	}
	for lane := range lanes {
		product, n := uint64(1), 0
		for len(w.gaps) > 0 {
			p := w.last + 2*uint32(w.gaps[0])
			hi, lo := bits.Mul64(product, uint64(p))
			if hi != 0 {
				break
			}
			g.primes[lane][n] = p
			product, n = lo, n+1
			w.gaps, w.last = w.gaps[1:], p
		}
		g.products[lane], g.count[lane] = product, n
	}
	return true
}

// field is a window of odd numbers above base: bit i stands for base + 2i.
type field struct {
	base  []uint64 // little-endian words
	known bitmap   // composite, though the reference code's sieve lets it stand
	remaining
}

type bitmap [fieldWords]uint64

// remaining is what a search has yet to try.
type remaining struct {
	stand bitmap
	count uint32 // bits standing
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

// adjustOriginal is adjustCandidate before revision 155, which scaled but the
// topmost 16 bits, and lost the 32 bits that follow.
func adjustOriginal(b []byte) {
	const scale, floor = 0x4AFB, 0xB505
	top := uint32(binary.BigEndian.Uint16(b))*scale>>16 + floor
	binary.BigEndian.PutUint16(b, uint16(top))
	clear(b[2:6])
	b[len(b)-1] |= 1
}

// sieve lays the field above start, moved down to an odd multiple of
// fieldAlign, and strikes multiples of small primes. Where stop says true, the
// field is of no use.
func (f *field) sieve(start []byte, limit uint32, workers int, stop func() bool) {
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
	f.strikeAll(limit, workers, stop)
	f.count = 0
	for _, w := range f.stand {
		f.count += uint32(bits.OnesCount64(w))
	}
}

// strikeAll strikes the multiples of all primes: those up to limit for good, the
// others as known to be composite. Each worker has its share of the primes.
func (f *field) strikeAll(limit uint32, workers int, stop func() bool) {
	struck, known := make([]bitmap, workers), make([]bitmap, workers)
	runAll(workers, func(worker int) {
		var g primeGroup
		w := primeGroups{gaps: primeGaps(), last: 1}
		for i := 0; w.next(&g); i++ {
			if i%stopEvery == worker && stop() {
				return
			}
			if i%workers == worker {
				g.strike(f.base, limit, &struck[worker], &known[worker])
			}
		}
	})
	for i := range f.stand {
		f.stand[i], f.known[i] = ^uint64(0), 0
		for worker := range workers {
			f.stand[i] &^= struck[worker][i]
			f.known[i] |= known[worker][i]
		}
	}
}

// strike marks the multiples of the group's primes in a field above base.
func (g *primeGroup) strike(base []uint64, limit uint32, struck, known *bitmap) {
	rest := remainders(base, &g.products)
	for lane := range g.primes {
		for _, p := range g.primes[lane][:g.count[lane]] {
			set := known
			if p <= limit {
				set = struck
			}
			for i := firstMultiple(p, uint32(rest[lane]%uint64(p))); i < fieldBits; i += p {
				set[i/64] |= 1 << (i % 64)
			}
		}
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

// remainders is x modulo a multiple of m, for several m at once.
func remainders(x []uint64, m *[lanes]uint64) (r [lanes]uint64) {
	d0, d1, d2, d3 := newDivisor(m[0]), newDivisor(m[1]), newDivisor(m[2]), newDivisor(m[3])
	var r0, r1, r2, r3 uint64
	for i := len(x) - 1; i >= 0; i-- {
		r0 = d0.step(r0, x[i])
		r1 = d1.step(r1, x[i])
		r2 = d2.step(r2, x[i])
		r3 = d3.step(r3, x[i])
	}
	return [lanes]uint64{r0, r1, r2, r3}
}

// divisor is a number whose top bit is set, and its reciprocal: a division costs two
// multiplications then (Möller and Granlund, Improved division by invariant integers).
type divisor struct{ d, v uint64 }

// newDivisor is m times a power of 2.
func newDivisor(m uint64) divisor {
	d := m << bits.LeadingZeros64(m)
	v, _ := bits.Div64(^d, ^uint64(0), d)
	return divisor{d, v}
}

// step is (2⁶⁴r + x) mod d, for r below d.
func (d divisor) step(r, x uint64) uint64 {
	q1, q0 := bits.Mul64(d.v, r)
	q0, carry := bits.Add64(q0, x, 0)
	q1, _ = bits.Add64(q1, r+1, carry)
	r = x - q1*d.d
	_, borrow := bits.Sub64(q0, r, 0)
	r += d.d & -borrow
	if r >= d.d {
		r -= d.d
	}
	return r
}

// remainder is x mod m.
func remainder(x []uint64, m uint64) (r uint64) {
	for i := len(x) - 1; i >= 0; i-- {
		_, r = bits.Div64(r, x[i], m)
	}
	return r
}

// nth is the index of the standing bit that has n standing bits below it.
func (f *remaining) nth(n uint32) uint32 {
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

// number is the candidate that bit i stands for, big-endian; words is scratch.
func (f *field) number(i uint32, words []uint64) []byte {
	carry := 2 * uint64(i)
	for j, w := range f.base {
		words[j], carry = bits.Add64(w, carry, 0)
	}
	out := make([]byte, 8*len(words))
	for j, w := range words {
		binary.BigEndian.PutUint64(out[len(out)-8*(j+1):], w)
	}
	return out
}
