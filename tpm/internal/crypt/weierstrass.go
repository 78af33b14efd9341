package crypt

import (
	"math/bits"

	"filippo.io/bigmod"
)

// weierstrass is the group of any curve of prime order, by formulas that hold
// for all points alike (Renes, Costello and Batina, "Complete addition formulas
// for prime order elliptic curves", 2016, algorithm 1) over bigmod's arithmetic:
// its time depends on the curve alone.
type weierstrass struct {
	curve *Curve
	a     *bigmod.Nat // nil for 0
	b3    *bigmod.Nat // 3b
	base  *projective
}

// projective is a point (X:Y:Z); the one at infinity is (0:1:0).
type projective struct{ x, y, z *bigmod.Nat }

func newWeierstrass(c *Curve) *weierstrass {
	w := &weierstrass{curve: c, a: c.element(c.A), b3: c.element(c.B)}
	if w.a.IsZero() == 1 {
		w.a = nil
	}
	w.b3.Add(w.b3, c.field).Add(c.element(c.B), c.field)
	base, ok := w.decode(append(append([]byte{4}, c.Gx...), c.Gy...))
	if !ok {
		panic("crypt: a curve's base point is not on it")
	}
	w.base = base
	return w
}

// element is a number below p.
func (c *Curve) element(b []byte) *bigmod.Nat {
	n, err := bigmod.NewNat().SetBytes(b, c.field)
	if err != nil {
		panic("crypt: a curve's parameter is too large")
	}
	return n
}

func (w *weierstrass) infinity() *projective {
	zero := make([]byte, w.curve.size())
	one := append(make([]byte, w.curve.size()-1), 1)
	return &projective{w.curve.element(zero), w.curve.element(one), w.curve.element(zero)}
}

// decode reads an encoded point; false is for one that is not on the curve.
func (w *weierstrass) decode(point []byte) (*projective, bool) {
	size := w.curve.size()
	if len(point) == 1 && point[0] == 0 {
		return w.infinity(), true
	}
	if len(point) != 1+2*size || point[0] != 4 {
		return nil, false
	}
	x, errX := bigmod.NewNat().SetBytes(point[1:1+size], w.curve.field)
	y, errY := bigmod.NewNat().SetBytes(point[1+size:], w.curve.field)
	if errX != nil || errY != nil || !w.curve.satisfies(x, y) {
		return nil, false
	}
	one := append(make([]byte, size-1), 1)
	return &projective{x, y, w.curve.element(one)}, true
}

// satisfies reports whether y² = x³ + ax + b.
func (c *Curve) satisfies(x, y *bigmod.Nat) bool {
	left, right := c.field.Nat(), c.field.Nat()
	copyNat(left, y)
	left.Mul(y, c.field)
	copyNat(right, x)
	right.Mul(x, c.field).Add(c.element(c.A), c.field).Mul(x, c.field).Add(c.element(c.B), c.field)
	return left.Equal(right) == 1
}

// copyNat is to = from, for numbers of one length.
func copyNat(to, from *bigmod.Nat) { copy(to.Bits(), from.Bits()) }

// encode is decode's inverse.
func (w *weierstrass) encode(p *projective) []byte {
	m := w.curve.field
	if p.z.IsZero() == 1 {
		return []byte{0}
	}
	inverse := bigmod.NewNat().Exp(p.z, minusTwo(w.curve.P), m)
	p.x.Mul(inverse, m)
	p.y.Mul(inverse, m)
	return append(append([]byte{4}, p.x.Bytes(m)...), p.y.Bytes(m)...)
}

// minusTwo is the exponent that inverts modulo a prime.
func minusTwo(prime []byte) []byte {
	e := append([]byte(nil), prime...)
	borrow := byte(2)
	for i := len(e) - 1; borrow != 0; i-- {
		next := byte(0)
		if e[i] < borrow {
			next = 1
		}
		e[i] -= borrow
		borrow = next
	}
	return e
}

func (w *weierstrass) add(p, q []byte) []byte {
	a, okA := w.decode(p)
	b, okB := w.decode(q)
	if !okA || !okB {
		panic("crypt: points to add are not on the curve")
	}
	w.addTo(a, b, w.newScratch())
	return w.encode(a)
}

// window is how many bits of the scalar are taken at a time.
const window = 4

func (w *weierstrass) multiply(point, scalar []byte) ([]byte, bool) {
	p := w.base
	if point != nil {
		var ok bool
		if p, ok = w.decode(point); !ok {
			return nil, false
		}
	}
	s := w.newScratch()
	var table [1 << window]*projective // of multiples of p
	table[0] = w.infinity()
	for i := 1; i < len(table); i++ {
		table[i] = w.infinity()
		table[i].set(table[i-1])
		w.addTo(table[i], p, s)
	}
	sum, next := w.infinity(), w.infinity()
	for _, b := range scalar {
		for _, digit := range [...]byte{b >> window, b & (1<<window - 1)} {
			for range window {
				w.addTo(sum, sum, s)
			}
			next.choose(&table, uint(digit))
			w.addTo(sum, next, s)
		}
	}
	return w.encode(sum), true
}

func (p *projective) set(q *projective) {
	copyNat(p.x, q.x)
	copyNat(p.y, q.y)
	copyNat(p.z, q.z)
}

// choose is p = table[i], reading all of the table.
func (p *projective) choose(table *[1 << window]*projective, i uint) {
	for _, n := range [...]*bigmod.Nat{p.x, p.y, p.z} {
		clear(n.Bits())
	}
	for k, q := range table {
		_, differ := bits.Sub(0, uint(k)^i, 0) // 1 where k is not i
		mask := differ - 1
		orMasked(p.x, q.x, mask)
		orMasked(p.y, q.y, mask)
		orMasked(p.z, q.z, mask)
	}
}

func orMasked(to, from *bigmod.Nat, mask uint) {
	t, f := to.Bits(), from.Bits()
	for i := range t {
		t[i] |= f[i] & mask
	}
}

// scratch is the memory of an addition.
type scratch struct{ t0, t1, t2, t3, t4, t5, x3, y3, z3 *bigmod.Nat }

func (w *weierstrass) newScratch() *scratch {
	n := w.curve.field.Nat
	return &scratch{n(), n(), n(), n(), n(), n(), n(), n(), n()}
}

// addTo is p = p + q; the two may be one.
func (w *weierstrass) addTo(p, q *projective, s *scratch) {
	m := w.curve.field
	mul := func(to, x, y *bigmod.Nat) { copyNat(to, x); to.Mul(y, m) }
	// cross is x₁y₂ + y₁x₂ as (x₁+y₁)(x₂+y₂) less both products.
	cross := func(to, x1, y1, x2, y2, xx, yy *bigmod.Nat) {
		copyNat(to, x1)
		copyNat(s.x3, x2)
		to.Add(y1, m).Mul(s.x3.Add(y2, m), m).Sub(xx, m).Sub(yy, m)
	}
	mul(s.t0, p.x, q.x)
	mul(s.t1, p.y, q.y)
	mul(s.t2, p.z, q.z)
	cross(s.t3, p.x, p.y, q.x, q.y, s.t0, s.t1)
	cross(s.t4, p.x, p.z, q.x, q.z, s.t0, s.t2)
	cross(s.t5, p.y, p.z, q.y, q.z, s.t1, s.t2)

	mul(s.z3, s.t2, w.b3)
	w.addTimesA(s.z3, s.t4, s.y3)
	copyNat(s.x3, s.t1)
	s.x3.Sub(s.z3, m)
	s.z3.Add(s.t1, m)
	mul(s.y3, s.x3, s.z3)

	copyNat(s.t1, s.t0)
	s.t1.Add(s.t0, m).Add(s.t0, m) // 3x₁x₂
	s.t4.Mul(w.b3, m)
	if w.a != nil {
		s.t2.Mul(w.a, m)
		s.t1.Add(s.t2, m)
		w.addTimesA(s.t4, s.t0.Sub(s.t2, m), s.t2)
	}
	mul(p.y, s.t1, s.t4)
	p.y.Add(s.y3, m)
	copyNat(p.x, s.x3)
	p.x.Mul(s.t3, m).Sub(s.t4.Mul(s.t5, m), m)
	copyNat(p.z, s.z3)
	p.z.Mul(s.t5, m).Add(s.t3.Mul(s.t1, m), m)
}

// addTimesA is to = to + a·x.
func (w *weierstrass) addTimesA(to, x, temp *bigmod.Nat) {
	if w.a == nil {
		return
	}
	copyNat(temp, x)
	to.Add(temp.Mul(w.a, w.curve.field), w.curve.field)
}
