package crypt

import (
	"io"

	"filippo.io/bigmod"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Arithmetic modulo the order of a curve, in constant time.

// wipe overwrites numbers.
func wipe(list ...*bigmod.Nat) {
	for _, n := range list {
		clear(n.Bits())
	}
}

// isScalar reports whether a number of the curve's size is within 1 … order-1.
func (c *Curve) isScalar(b []byte) bool {
	n := bigmod.NewNat()
	defer wipe(n)
	_, err := n.SetBytes(b, c.order)
	return err == nil && n.IsZero() == 0
}

// scalar is a number modulo the order.
func (c *Curve) scalar(b []byte) *bigmod.Nat { return reduced(b, c.order) }

// reduced is a number of any length modulo m.
func reduced(b []byte, m *bigmod.Modulus) *bigmod.Nat {
	room := modulus(append([]byte{1}, make([]byte, max(len(b), 1))...))
	n, err := bigmod.NewNat().SetBytes(b, room)
	if err != nil {
		panic("crypt: " + err.Error())
	}
	defer wipe(n)
	return bigmod.NewNat().Mod(n, m)
}

// drawScalar draws a number from 1 to order-1. 64 extra bits make the bias of
// the reduction negligible (FIPS 186-4, B.4.1).
func (c *Curve) drawScalar(random io.Reader) ([]byte, error) {
	wide := make([]byte, c.size()+8)
	defer clear(wide)
	if _, err := io.ReadFull(random, wide); err != nil {
		return nil, err
	}
	m := modulus(minusOne(c.N))
	n := reduced(wide, m)
	defer wipe(n)
	scalar := n.Bytes(m)
	addCounter(scalar, 1)
	return scalar, nil
}

// drawPoint draws a number, which is the caller's to wipe, and multiplies the base
// point by it.
func (c *Curve) drawPoint(random io.Reader) ([]byte, tpm2.ECCPoint, tpm2.RC) {
	k, err := c.drawScalar(random)
	if err != nil {
		return nil, tpm2.ECCPoint{}, tpm2.RCNoResult
	}
	p, rc := c.multiply(nil, k)
	return k, p, rc
}

// inverse is 1/n modulo the order, 0 for 0.
func (c *Curve) inverse(n *bigmod.Nat) *bigmod.Nat {
	return bigmod.NewNat().Exp(n, minusTwo(c.N), c.order)
}

// minusOne is an odd number less one.
func minusOne(n []byte) []byte {
	less := append([]byte(nil), n...)
	less[len(less)-1]--
	return less
}

// product is a·b modulo the order.
func (c *Curve) product(a, b *bigmod.Nat) *bigmod.Nat {
	p := c.order.Nat()
	copyNat(p, a)
	return p.Mul(b, c.order)
}
