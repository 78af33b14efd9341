package crypt

import (
	"crypto/elliptic"
	"math/big"
	"sync"

	"filippo.io/bigmod"
	"filippo.io/nistec"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Curve is an elliptic curve y² = x³ + ax + b over a prime field, whose points
// form a group of prime order.
type Curve struct {
	ID   tpm2.ECCCurve
	Bits int // of the field's prime, which are those of the order
	// P, A and B define the curve, (Gx, Gy) is its base point, N the order;
	// each with the size of a coordinate. They must not be altered.
	P, A, B, Gx, Gy, N []byte
	// Hash is the hash algorithm of the key derivation that the algorithm
	// registry recommends, null for none.
	Hash tpm2.AlgID

	field, order *bigmod.Modulus
	group        group
	// std is the standard library's curve, nil where it has none: its ECDSA is
	// used where there is.
	std elliptic.Curve
}

// group is the arithmetic of a curve's points, in constant time. A point is
// encoded as SEC 1 says (2.3.3), without compression: the point at infinity is
// one byte of 0.
type group interface {
	// multiply is the product of a point, or of the base point where that is
	// nil, and a scalar of the order's size. false is for a point that is not
	// on the curve.
	multiply(point, scalar []byte) ([]byte, bool)
	// add is the sum of two points that are on the curve.
	add(p, q []byte) []byte
}

// curves are those of the algorithm registry, in ascending order of identifier.
// The table is computed once and never changes.
var curves = sync.OnceValue(func() []*Curve {
	list := []*Curve{
		ownCurve(tpm2.CurveP192, tpm2.AlgSHA256, &p192),
		stdCurve(tpm2.CurveP224, tpm2.AlgSHA256, elliptic.P224(), nistGroup[*nistec.P224Point]{nistec.NewP224Point}),
		stdCurve(tpm2.CurveP256, tpm2.AlgSHA256, elliptic.P256(), nistGroup[*nistec.P256Point]{nistec.NewP256Point}),
		stdCurve(tpm2.CurveP384, tpm2.AlgSHA384, elliptic.P384(), nistGroup[*nistec.P384Point]{nistec.NewP384Point}),
		stdCurve(tpm2.CurveP521, tpm2.AlgSHA512, elliptic.P521(), nistGroup[*nistec.P521Point]{nistec.NewP521Point}),
		ownCurve(tpm2.CurveBNP256, tpm2.AlgNull, &bnP256),
		ownCurve(tpm2.CurveBNP638, tpm2.AlgNull, &bnP638),
		ownCurve(tpm2.CurveSM2, tpm2.AlgSM3256, &sm2P256),
	}
	return list
})

// CurveOf gives a curve by its identifier.
func CurveOf(id tpm2.ECCCurve) (*Curve, bool) {
	for _, c := range curves() {
		if c.ID == id {
			return c, true
		}
	}
	return nil, false
}

// size is the length in bytes of a coordinate and of a scalar.
func (c *Curve) size() int { return len(c.P) }

// stdCurve makes the entry of a curve of the standard library; a is -3 there.
func stdCurve(id tpm2.ECCCurve, hash tpm2.AlgID, std elliptic.Curve, g group) *Curve {
	p := std.Params()
	a := new(big.Int).Sub(p.P, big.NewInt(3))
	c := newCurve(id, hash, [6]*big.Int{p.P, a, p.B, p.Gx, p.Gy, p.N})
	c.std, c.group = std, g
	return c
}

// ownCurve makes the entry of a curve that we compute with ourselves.
func ownCurve(id tpm2.ECCCurve, hash tpm2.AlgID, hex *[6]string) *Curve {
	var numbers [6]*big.Int
	for i, s := range hex {
		n, ok := new(big.Int).SetString(s, 16)
		if !ok {
			panic("crypt: a curve's parameter is not hexadecimal")
		}
		numbers[i] = n
	}
	c := newCurve(id, hash, numbers)
	c.group = newWeierstrass(c)
	return c
}

func newCurve(id tpm2.ECCCurve, hash tpm2.AlgID, n [6]*big.Int) *Curve {
	c := &Curve{ID: id, Bits: n[0].BitLen(), Hash: hash}
	for i, to := range []*[]byte{&c.P, &c.A, &c.B, &c.Gx, &c.Gy, &c.N} {
		*to = n[i].FillBytes(make([]byte, id.CoordinateSize()))
	}
	c.field, c.order = modulus(c.P), modulus(c.N)
	return c
}

// modulus is bigmod.NewModulus for numbers that are one by construction.
func modulus(b []byte) *bigmod.Modulus {
	m, err := bigmod.NewModulus(b)
	if err != nil {
		panic("crypt: " + err.Error())
	}
	return m
}

// Parameters p, a, b, x and y of the base point, and n of the curves that
// the standard library has not. Sources: FIPS 186-3 D.1.2.1; ISO/IEC 15946-5 as
// the TCG Algorithm Registry restates it (6.4 and 6.5); GB/T 32918.5.
var (
	p192 = [6]string{
		"fffffffffffffffffffffffffffffffeffffffffffffffff",
		"fffffffffffffffffffffffffffffffefffffffffffffffc",
		"64210519e59c80e70fa7e9ab72243049feb8deecc146b9b1",
		"188da80eb03090f67cbf20eb43a18800f4ff0afd82ff1012",
		"07192b95ffc8da78631011ed6b24cdd573f977a11e794811",
		"ffffffffffffffffffffffff99def836146bc9b1b4d22831",
	}
	bnP256 = [6]string{
		"fffffffffffcf0cd46e5f25eee71a49f0cdc65fb12980a82d3292ddbaed33013",
		"0", "3", "1", "2",
		"fffffffffffcf0cd46e5f25eee71a49e0cdc65fb1299921af62d536cd10b500d",
	}
	bnP638 = [6]string{
		"23fffffdc000000d7fffffb8000001d3fffff942d000165e3fff94870000d52f" +
			"fffdd0e00008de55c00086520021e55bfffff51ffff4eb800000004c80015acd" +
			"ffffffffffffece00000000000000067",
		"0", "101",
		"23fffffdc000000d7fffffb8000001d3fffff942d000165e3fff94870000d52f" +
			"fffdd0e00008de55c00086520021e55bfffff51ffff4eb800000004c80015acd" +
			"ffffffffffffece00000000000000066",
		"10",
		"23fffffdc000000d7fffffb8000001d3fffff942d000165e3fff94870000d52f" +
			"fffdd0e00008de55600086550021e555fffff54ffff4eac000000049800154d9" +
			"ffffffffffffeda00000000000000061",
	}
	sm2P256 = [6]string{
		"fffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffff",
		"fffffffeffffffffffffffffffffffffffffffff00000000fffffffffffffffc",
		"28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93",
		"32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7",
		"bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0",
		"fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123",
	}
)

// nistPoint is a point of one of nistec's curves.
type nistPoint[T any] interface {
	SetBytes([]byte) (T, error)
	ScalarMult(T, []byte) (T, error)
	ScalarBaseMult([]byte) (T, error)
	Add(T, T) T
	Bytes() []byte
}

// nistGroup is the group of one of nistec's curves.
type nistGroup[T nistPoint[T]] struct{ fresh func() T }

func (g nistGroup[T]) multiply(point, scalar []byte) ([]byte, bool) {
	r := g.fresh()
	var err error
	if point == nil {
		r, err = r.ScalarBaseMult(scalar)
	} else {
		var p T
		if p, err = g.fresh().SetBytes(point); err == nil {
			r, err = r.ScalarMult(p, scalar)
		}
	}
	if err != nil {
		return nil, false
	}
	return r.Bytes(), true
}

func (g nistGroup[T]) add(p, q []byte) []byte {
	a, errA := g.fresh().SetBytes(p)
	b, errB := g.fresh().SetBytes(q)
	if errA != nil || errB != nil {
		panic("crypt: points to add are not on the curve")
	}
	return g.fresh().Add(a, b).Bytes()
}
