package crypt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"filippo.io/bigmod"
)

// ErrCanceled reports a key search that its caller canceled; the command
// answers TPM_RC_CANCELED.
var ErrCanceled = errors.New("crypt: the key search was canceled")

const (
	// maxWorkers bounds the candidates of one search that are tested side by
	// side.
	maxWorkers = 4
	// batchSize is how many candidates are drawn ahead.
	batchSize = 8
)

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

// primeSearch finds RSA primes exactly as the reference code does, several
// candidates at a time: which are tried, and with which witnesses, is settled as
// long as none of them is prime.
type primeSearch struct {
	random  *DRBG
	bits    int
	e       uint32
	workers int
	cancel  func() bool // asked before every round, by several workers; may be nil

	field     field
	pick      uint32 // chooses among what stands
	baseModE  uint64
	candidate []uint64
}

func newPrimeSearch(d *DRBG, bits int, e uint32, cancel func() bool) *primeSearch {
	return &primeSearch{
		random: d, bits: bits, e: e, cancel: cancel,
		workers:   min(runtime.GOMAXPROCS(0), maxWorkers),
		candidate: make([]uint64, bits/64),
	}
}

// wipe destroys what would narrow the primes down.
func (s *primeSearch) wipe() {
	clear(s.field.base)
	clear(s.candidate)
}

// next draws random starts until one has a prime near it.
func (s *primeSearch) next() (*big.Int, error) {
	start := make([]byte, s.bits/8)
	defer clear(start)
	for {
		s.random.Read(start)
		if s.random.original {
			slices.Reverse(start) // it was an integer in the memory of a PC
			adjustOriginal(start)
		} else {
			adjustCandidate(start)
		}
		s.field.sieve(start, sieveLimit(s.bits), s.workers, s.canceled)
		s.pick = binary.BigEndian.Uint32(start[len(start)-4:]) | 1<<31
		s.baseModE = remainder(s.field.base, uint64(s.e))
		prime, err := s.searchField()
		if prime != nil || err != nil {
			return prime, err
		}
	}
}

// trial is a candidate, its first witness, and the search's state at that
// point.
type trial struct {
	w, b  []byte // big-endian
	after DRBG
	rest  remaining
}

// searchField tries what stands in the field. It gives nil where there is no
// prime.
func (s *primeSearch) searchField() (*big.Int, error) {
	for {
		if s.canceled() {
			return nil, ErrCanceled
		}
		batch := make([]trial, 0, batchSize)
		for len(batch) < batchSize && s.nextTrial(&batch) {
		}
		if len(batch) == 0 {
			return nil, nil
		}
		i := s.first(len(batch), func(i int) bool { return millerRabin(batch[i].w, batch[i].b) })
		if i == len(batch) {
			continue
		}
		// All that was drawn after this trial was drawn in vain.
		t := &batch[i]
		*s.random, s.field.remaining = t.after, t.rest
		prime := s.moreRounds(t.w)
		if s.canceled() { // it may not have been through all of them
			return nil, ErrCanceled
		}
		if prime {
			return new(big.Int).SetBytes(t.w), nil
		}
	}
}

// nextTrial adds the next candidate to the batch; false means that none stands.
// One known to have a small factor draws its witness, which keeps the generator
// in step, but is not tried: that it would pass is less likely than a fault of
// the machine.
func (s *primeSearch) nextTrial(batch *[]trial) bool {
	f := &s.field
	for ; f.count > 0; f.count-- {
		i := f.nth(s.pick % f.count)
		f.stand[i/64] &^= 1 << (i % 64)
		// 0 would make e divide the prime; 1 would leave e no inverse.
		if (s.baseModE+2*uint64(i))%uint64(s.e) <= 1 {
			continue
		}
		w := f.number(i, s.candidate)
		b := s.witness(w)
		if f.known[i/64]>>(i%64)&1 == 1 {
			continue
		}
		f.count--
		*batch = append(*batch, trial{w: w, b: b, after: *s.random, rest: f.remaining})
		return true
	}
	return false
}

// witness draws b with 1 < b < w - 1.
func (s *primeSearch) witness(w []byte) []byte {
	b := make([]byte, len(w))
	for {
		s.random.Read(b)
		// w is odd: w - 1 differs in the last bit alone.
		if string(b) < string(w) && !(b[len(b)-1] == w[len(w)-1]-1 && samePrefix(b, w)) && !atMostOne(b) {
			return b
		}
	}
}

func samePrefix(a, b []byte) bool { return string(a[:len(a)-1]) == string(b[:len(b)-1]) }

func atMostOne(b []byte) bool {
	for _, x := range b[:len(b)-1] {
		if x != 0 {
			return false
		}
	}
	return b[len(b)-1] <= 1
}

// moreRounds puts a candidate that passed one round through the others.
func (s *primeSearch) moreRounds(w []byte) bool {
	more := make([]trial, rounds(s.bits)-1)
	for i := range more {
		more[i] = trial{b: s.witness(w), after: *s.random}
	}
	i := s.first(len(more), func(i int) bool { return !millerRabin(w, more[i].b) })
	if i == len(more) {
		return true
	}
	*s.random = more[i].after
	return false
}

func (s *primeSearch) canceled() bool { return s.cancel != nil && s.cancel() }

// first is the least i below n for which is holds, n if there is none or the
// search is canceled. The workers ask in ascending order and no further than
// they must.
func (s *primeSearch) first(n int, is func(i int) bool) int {
	var next, found atomic.Int64
	found.Store(int64(n))
	runAll(s.workers, func(int) {
		for i := next.Add(1) - 1; i < found.Load(); i = next.Add(1) - 1 {
			if s.canceled() {
				return
			}
			if !is(int(i)) {
				continue
			}
			for old := found.Load(); i < old && !found.CompareAndSwap(old, i); old = found.Load() {
			}
		}
	})
	return int(found.Load())
}

// runAll runs f(0) … f(n-1) side by side. A panic of one of them becomes the
// caller's, who has what it takes to confine it.
func runAll(n int, f func(int)) {
	var group sync.WaitGroup
	var panicked atomic.Value
	for i := range n {
		group.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					panicked.CompareAndSwap(nil, fmt.Sprintf("%v\n%s", r, debug.Stack()))
				}
			}()
			f(i)
		})
	}
	group.Wait()
	if r := panicked.Load(); r != nil {
		panic(r)
	}
}

// millerRabin is one round of the Miller-Rabin test of an odd w with witness b
// (FIPS 186-5, B.3.1).
func millerRabin(w, b []byte) bool {
	modulus, err := bigmod.NewModulus(w)
	if err != nil {
		return false
	}
	// w - 1 = 2^a m with m odd
	m := new(big.Int).SetBytes(w)
	m.SetBit(m, 0, 0)
	a := m.TrailingZeroBits()
	m.Rsh(m, a)
	base, err := bigmod.NewNat().SetBytes(b, modulus)
	if err != nil {
		return false
	}
	z := bigmod.NewNat().Exp(base, m.Bytes(), modulus)
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
