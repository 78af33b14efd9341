package crypt

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math/big"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// scalars are some on which arithmetic goes wrong, and others, of the curve's
// size.
func scalars(t testing.TB, c *Curve) [][]byte {
	n := new(big.Int).SetBytes(c.N)
	var list [][]byte
	for _, i := range []int64{0, 1, 2, 3, 15, 16, 17} {
		list = append(list, big.NewInt(i).FillBytes(make([]byte, c.size())))
		list = append(list, new(big.Int).Sub(n, big.NewInt(i)).FillBytes(make([]byte, c.size())))
	}
	half := new(big.Int).Rsh(n, 1)
	list = append(list, half.FillBytes(make([]byte, c.size())))
	for range 4 {
		k, err := rand.Int(rand.Reader, n)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k.FillBytes(make([]byte, c.size())))
	}
	return list
}

// TestOwnArithmetic computes on the curves of NIST with our formulas, and with
// nistec's.
func TestOwnArithmetic(t *testing.T) {
	for _, id := range []tpm2.ECCCurve{tpm2.CurveP224, tpm2.CurveP256, tpm2.CurveP384, tpm2.CurveP521} {
		c, _ := CurveOf(id)
		own := newWeierstrass(c)
		list := scalars(t, c)
		point, _ := c.group.multiply(nil, list[14])
		if id != tpm2.CurveP256 {
			list = list[14:17] // they are slow
		}
		for _, k := range list {
			for _, p := range [][]byte{nil, point, {0}} {
				got, ok := own.multiply(p, k)
				want, _ := c.group.multiply(p, k)
				if !ok || !bytes.Equal(got, want) {
					t.Fatalf("%v: %x times %x is %x, want %x", id, k, p, got, want)
				}
				if got, want := own.add(got, point), c.group.add(want, point); !bytes.Equal(got, want) {
					t.Fatalf("%v: %x and %x make %x, want %x", id, want, point, got, want)
				}
			}
		}
	}
}

// TestGroup checks what holds in every group of prime order.
func TestGroup(t *testing.T) {
	for _, c := range curves() {
		list := scalars(t, c)
		order := list[1]
		if p, ok := c.group.multiply(nil, order); !ok || !bytes.Equal(p, []byte{0}) {
			t.Errorf("%v: the order times the base point is %x", c.ID, p)
		}
		if c.Bits > 500 {
			list = append(list[:4:4], list[14:16]...) // they are slow
		}
		for _, a := range list {
			b := list[len(list)-1]
			pa, _ := c.group.multiply(nil, a)
			pb, _ := c.group.multiply(nil, b)
			sum := c.scalar(a).Add(c.scalar(b), c.order).Bytes(c.order)
			want, _ := c.group.multiply(nil, sum)
			if got := c.group.add(pa, pb); !bytes.Equal(got, want) {
				t.Errorf("%v: aG + bG is not (a+b)G for a = %x", c.ID, a)
			}
			ab, okA := c.group.multiply(pa, b)
			ba, okB := c.group.multiply(pb, a)
			if !okA || !okB || !bytes.Equal(ab, ba) {
				t.Errorf("%v: a(bG) is not b(aG) for a = %x", c.ID, a)
			}
		}
	}
}

// TestCurveConstants holds the parameters to what is published of them.
func TestCurveConstants(t *testing.T) {
	for id, want := range map[tpm2.ECCCurve]struct{ bits, size int }{
		tpm2.CurveP192: {192, 24}, tpm2.CurveP224: {224, 28}, tpm2.CurveP256: {256, 32}, tpm2.CurveP384: {384, 48},
		tpm2.CurveP521: {521, 66}, tpm2.CurveBNP256: {256, 32}, tpm2.CurveBNP638: {638, 80}, tpm2.CurveSM2: {256, 32},
	} {
		c, ok := CurveOf(id)
		if !ok || c.Bits != want.bits || c.size() != want.size {
			t.Errorf("%v: %v, %+v", id, ok, c)
			continue
		}
		p, n := new(big.Int).SetBytes(c.P), new(big.Int).SetBytes(c.N)
		if !p.ProbablyPrime(20) || !n.ProbablyPrime(20) || n.BitLen() != want.bits {
			t.Errorf("%v: the field and the order are not primes of %d bits", id, want.bits)
		}
	}
	if _, ok := CurveOf(6); ok {
		t.Error("there is a curve 6")
	}
}

// TestHostilePoints are points that are none: off the curve, at infinity, with
// coordinates of p or more.
func TestHostilePoints(t *testing.T) {
	for _, c := range curves() {
		private, err := GenerateECC(rand.Reader, c.ID)
		if err != nil {
			t.Fatal(err)
		}
		x, y := private.Point()
		p := new(big.Int).SetBytes(c.P)
		more := func(b []byte) []byte { return new(big.Int).Add(new(big.Int).SetBytes(b), p).Bytes() }
		flipped := append([]byte(nil), y...)
		flipped[len(flipped)-1] ^= 1
		zero := make([]byte, c.size())
		for _, h := range []struct {
			name string
			x, y []byte
			want tpm2.RC
		}{
			{"good", x, y, tpm2.RCSuccess},
			{"with zeros in excess", append([]byte{0}, x...), append([]byte{0, 0}, y...), tpm2.RCSuccess},
			{"the other y", x, new(big.Int).Sub(p, new(big.Int).SetBytes(y)).Bytes(), tpm2.RCSuccess},
			{"off the curve", x, flipped, tpm2.RCECCPoint},
			{"empty", nil, nil, tpm2.RCECCPoint},
			{"zeros", zero, zero, tpm2.RCECCPoint},
			{"p", c.P, c.P, tpm2.RCECCPoint},
			{"x above p", more(x), y, tpm2.RCSuccess},
			{"y above p", x, more(y), tpm2.RCSuccess},
			{"x above p, off the curve", more(x), flipped, tpm2.RCECCPoint},
			{"of the longest", bytes.Repeat([]byte{0xFF}, 80), bytes.Repeat([]byte{0xFF}, 80), tpm2.RCECCPoint},
		} {
			point := tpm2.ECCPoint{X: h.x, Y: h.y}
			if _, rc := c.multiply(&point, private.d); rc != h.want {
				t.Errorf("%v, %s: %v, want %v", c.ID, h.name, rc, h.want)
			}
			if got := c.OnCurve(&point); got != (h.want == tpm2.RCSuccess) {
				t.Errorf("%v, %s: on the curve: %v", c.ID, h.name, got)
			}
		}
	}
}

// FuzzPoint multiplies any point by any scalar on every curve, and holds our
// formulas to nistec's on its own.
func FuzzPoint(f *testing.F) {
	for i, c := range curves() {
		f.Add(uint8(i), c.Gx, c.Gy, c.N)
		f.Add(uint8(i), c.P, []byte{}, []byte{1})
	}
	f.Fuzz(func(t *testing.T, which uint8, x, y, scalar []byte) {
		c := curves()[int(which)%len(curves())]
		x, y = x[:min(len(x), 80)], y[:min(len(y), 80)]
		k := c.scalar(scalar[:min(len(scalar), 80)]).Bytes(c.order)
		got, rc := c.multiply(&tpm2.ECCPoint{X: x, Y: y}, k)
		if rc != tpm2.RCSuccess {
			return
		}
		if !c.OnCurve(&got) {
			t.Errorf("%v: the product %x is not on the curve", c.ID, got)
		}
		raw, _ := c.encode(&tpm2.ECCPoint{X: x, Y: y})
		if own, ok := newWeierstrass(c).multiply(raw, k); !ok || !bytes.Equal(own[1:], append(got.X, got.Y...)) {
			t.Errorf("%v: ours is %x, nistec's %x", c.ID, own, got)
		}
	})
}

func BenchmarkMultiply(b *testing.B) {
	for _, c := range curves() {
		k := make([]byte, c.size())
		rand.Read(k)
		k = c.scalar(k).Bytes(c.order)
		b.Run(fmt.Sprint(c.ID), func(b *testing.B) {
			for b.Loop() {
				c.group.multiply(append(append([]byte{4}, c.Gx...), c.Gy...), k)
			}
		})
	}
}
