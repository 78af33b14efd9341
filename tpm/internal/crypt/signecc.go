package crypt

import (
	"bytes"
	"crypto/ecdsa"
	"io"
	"math/big"

	"filippo.io/bigmod"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// The signature schemes of elliptic curves (Part 1, C.4), as the reference code
// computes them.

// signTries bounds how often a signature is begun anew: that a second time is
// needed is less likely than a fault of the machine, but for a private key of
// order-1 and SM2, which never gives one.
const signTries = 10

// signECC signs with any scheme but ECDAA, which is TPM_RC_SCHEME.
// TPM_RC_NO_RESULT is for a random source that fails, and for a key that gives
// no signature.
func signECC(key *Key, sig tpm2.Signature, digest []byte, random io.Reader) (tpm2.Signature, tpm2.RC) {
	c := key.ecc.curve
	if sig.Alg == tpm2.AlgECDSA && key.ecc.sign != nil {
		r, s, err := ecdsa.Sign(random, key.ecc.sign, digest)
		if err != nil {
			return sig, tpm2.RCNoResult
		}
		sig.R, sig.S = r.FillBytes(make([]byte, c.size())), s.FillBytes(make([]byte, c.size()))
		return sig, tpm2.RCSuccess
	}
	if sig.Alg == tpm2.AlgECDAA {
		return sig, tpm2.RCScheme
	}
	d := c.scalar(key.ecc.d)
	defer wipe(d)
	for range signTries {
		nonce, point, rc := c.drawPoint(random)
		if rc != tpm2.RCSuccess {
			return sig, rc
		}
		k := c.scalar(nonce)
		clear(nonce)
		var r, s *bigmod.Nat
		switch sig.Alg {
		case tpm2.AlgECSchnorr:
			if r = c.challenge(sig.Hash, point.X, digest); r != nil {
				s = c.schnorr(k, r, d)
			}
		case tpm2.AlgSM2:
			r, s = c.signSM2(k, d, point.X, digest)
		default:
			r, s = c.signECDSA(k, d, point.X, digest)
		}
		wipe(k)
		if r != nil && r.IsZero() == 0 && s.IsZero() == 0 {
			sig.R, sig.S = r.Bytes(c.order), s.Bytes(c.order)
			return sig, tpm2.RCSuccess
		}
	}
	return sig, tpm2.RCNoResult
}

// SignECDAA signs by the commitment whose secret is r, a number of the curve's
// size. Codes are SignDigest's.
func SignECDAA(key *Key, hash tpm2.AlgID, r, digest []byte, random io.Reader) (tpm2.Signature, tpm2.RC) {
	sig := tpm2.Signature{Alg: tpm2.AlgECDAA, Hash: hash}
	if !key.ready() {
		return sig, tpm2.RCFailure
	}
	if _, ok := hash.Hash(); !ok || key.ecc == nil {
		return sig, tpm2.RCScheme
	}
	c := key.ecc.curve
	d, commitment := c.scalar(key.ecc.d), c.scalar(r)
	defer wipe(d, commitment)
	for range signTries {
		nonce, err := c.drawScalar(random)
		if err != nil {
			return sig, tpm2.RCNoResult
		}
		nonce = bytes.TrimLeft(nonce, "\x00")
		t := c.scalar(hash.Digest(nonce, digest))
		if s := c.schnorr(commitment, t, d); t.IsZero() == 0 && s.IsZero() == 0 {
			sig.R, sig.S = nonce, s.Bytes(c.order)
			return sig, tpm2.RCSuccess
		}
	}
	return sig, tpm2.RCNoResult
}

// schnorr is k + r·d.
func (c *Curve) schnorr(k, r, d *bigmod.Nat) *bigmod.Nat { return c.product(r, d).Add(k, c.order) }

// challenge is the r of an ECSchnorr signature: the hash of the point's x and of
// the digest, cut to the order's length. nil is for one that is not below the
// order.
func (c *Curve) challenge(hash tpm2.AlgID, x, digest []byte) *bigmod.Nat {
	h := hash.Digest(x, digest)
	n, err := bigmod.NewNat().SetBytes(h[:min(len(h), c.size())], c.order)
	if err != nil {
		return nil
	}
	return n
}

// signSM2 is steps A5 and A6 of GB/T 32918.2, 6.1: r = e + x, s = (k - r·d)/(1+d).
// It gives zeros where the standard begins anew.
func (c *Curve) signSM2(k, d *bigmod.Nat, x, digest []byte) (r, s *bigmod.Nat) {
	r = c.scalar(digest).Add(c.scalar(x), c.order)
	one := c.scalar([]byte{1})
	sum := c.product(one, r).Add(k, c.order)
	if sum.IsZero() == 1 {
		return sum, sum
	}
	rd := c.product(r, d)
	s = c.product(one, k).Sub(rd, c.order)
	divisor := c.inverse(one.Add(d, c.order))
	defer wipe(sum, rd, one, divisor)
	return r, s.Mul(divisor, c.order)
}

// signECDSA is the end of FIPS 186-5, 6.4.1: r = x, s = (e + r·d)/k.
func (c *Curve) signECDSA(k, d *bigmod.Nat, x, digest []byte) (r, s *bigmod.Nat) {
	r = c.scalar(x)
	s = c.schnorr(c.leftmost(digest), r, d)
	divisor := c.inverse(k)
	defer wipe(divisor)
	return r, s.Mul(divisor, c.order)
}

// leftmost is the number that ECDSA makes of a digest: of its first bits, as
// many as the order has.
func (c *Curve) leftmost(digest []byte) *bigmod.Nat {
	digest = digest[:min(len(digest), c.size())]
	n := new(big.Int).SetBytes(digest)
	if excess := 8*len(digest) - c.Bits; excess > 0 {
		n.Rsh(n, uint(excess))
	}
	return c.scalar(n.Bytes())
}

// verifyECC checks a signature of any scheme but ECDAA, which nobody can.
func verifyECC(key *Key, digest []byte, sig *tpm2.Signature) tpm2.RC {
	c, ok := CurveOf(key.Public.Curve)
	if !ok || sig.Alg == tpm2.AlgECDAA {
		return tpm2.RCScheme
	}
	r, okR := c.component(sig.R)
	s, okS := c.component(sig.S)
	if !okR || !okS {
		return tpm2.RCSignature
	}
	point, ok := c.encode(&key.Public.Point)
	switch {
	case !ok && sig.Alg == tpm2.AlgECDSA:
		return tpm2.RCFailure
	case !ok:
		return tpm2.RCSignature // the reference code computes with [s]G
	case sig.Alg == tpm2.AlgECSchnorr:
		return good(c.verifySchnorr(point, r, s, sig.Hash, digest))
	case sig.Alg == tpm2.AlgSM2:
		return good(c.verifySM2(point, r, s, digest))
	case key.eccPublic != nil:
		return good(ecdsa.Verify(key.eccPublic, digest, new(big.Int).SetBytes(sig.R), new(big.Int).SetBytes(sig.S)))
	}
	return good(c.verifyECDSA(point, r, s, digest))
}

// component is r or s of a signature: from 1 to order-1, in any length.
func (c *Curve) component(b []byte) (*bigmod.Nat, bool) {
	b, ok := fit(b, c.size())
	if !ok || !c.isScalar(b) {
		return nil, false
	}
	return c.scalar(b), true
}

// combine is the x coordinate of [u]G + [v]Q, nil for the point at infinity.
func (c *Curve) combine(q []byte, u, v *bigmod.Nat) []byte {
	a, _ := c.group.multiply(nil, u.Bytes(c.order))
	b, ok := c.group.multiply(q, v.Bytes(c.order))
	if !ok {
		return nil
	}
	sum := c.group.add(a, b)
	if len(sum) == 1 {
		return nil
	}
	return c.point(sum).X
}

func (c *Curve) verifySchnorr(q []byte, r, s *bigmod.Nat, hash tpm2.AlgID, digest []byte) bool {
	minusR := c.product(r, c.scalar(minusOne(c.N)))
	x := c.combine(q, s, minusR)
	if x == nil {
		return false
	}
	want := c.challenge(hash, x, digest)
	return want != nil && want.Equal(r) == 1
}

// verifySM2 is GB/T 32918.2, 7.1. Unlike the reference code it refuses r + s = n,
// as the standard says.
func (c *Curve) verifySM2(q []byte, r, s *bigmod.Nat, digest []byte) bool {
	t := c.product(c.scalar([]byte{1}), r).Add(s, c.order)
	if t.IsZero() == 1 {
		return false
	}
	x := c.combine(q, s, t)
	return x != nil && c.scalar(digest).Add(c.scalar(x), c.order).Equal(r) == 1
}

// verifyECDSA is FIPS 186-5, 6.4.2.
func (c *Curve) verifyECDSA(q []byte, r, s *bigmod.Nat, digest []byte) bool {
	w := c.inverse(s)
	x := c.combine(q, c.product(c.leftmost(digest), w), c.product(r, w))
	return x != nil && c.scalar(x).Equal(r) == 1
}
