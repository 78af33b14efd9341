package crypt

import (
	"math/big"

	"filippo.io/bigmod"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TwoPhase agrees on secrets with another party, by a static and an ephemeral key
// on each side (TPM2_ZGen_2Phase; Part 1, C.6 to C.8). key is the TPM's static
// key, ephemeral the secret of its commitment; static and passing are the other
// party's static and ephemeral point. ECDH gives two points, ECMQV and SM2 one.
//
// It gives TPM_RC_SCHEME for another scheme, TPM_RC_KEY for a key that is no ECC
// private key, and Curve.multiply's codes.
func TwoPhase(key *Key, scheme tpm2.AlgID, ephemeral []byte, static, passing tpm2.ECCPoint) (z1, z2 tpm2.ECCPoint, rc tpm2.RC) {
	if !key.ready() {
		return z1, z2, tpm2.RCFailure
	}
	if key.ecc == nil {
		return z1, z2, tpm2.RCKey
	}
	c, d := key.ecc.curve, key.ecc.d
	own, rc := c.multiply(nil, ephemeral)
	if rc != tpm2.RCSuccess {
		return z1, z2, rc
	}
	switch scheme {
	case tpm2.AlgECDH:
		if z1, rc = c.multiply(&static, d); rc == tpm2.RCSuccess {
			z2, rc = c.multiply(&passing, ephemeral)
		}
	case tpm2.AlgECMQV: // SP 800-56A, 5.7.2.3
		z1, rc = c.exchange(c.mqvValue(own.X), ephemeral, d, c.mqvValue(passing.X), &passing, &static)
	case tpm2.AlgSM2: // GB/T 32918.3, 6.1
		z1, rc = c.exchange(c.sm2Value(own.X), d, ephemeral, c.sm2Value(passing.X), &static, &passing)
	default:
		rc = tpm2.RCScheme
	}
	return z1, z2, rc
}

// exchange is [k + a·d](P + [b]Q).
func (c *Curve) exchange(a *bigmod.Nat, k, d []byte, b *bigmod.Nat, p, q *tpm2.ECCPoint) (z tpm2.ECCPoint, rc tpm2.RC) {
	addend, ok := c.encode(p)
	if !ok {
		return z, tpm2.RCECCPoint
	}
	product, rc := c.multiply(q, b.Bytes(c.order))
	if rc != tpm2.RCSuccess {
		return z, rc
	}
	factor, _ := c.encode(&product)
	sum := c.group.add(addend, factor)
	if len(sum) == 1 {
		return z, tpm2.RCNoResult
	}
	point := c.point(sum)
	kn, dn := c.scalar(k), c.scalar(d)
	n := c.schnorr(kn, a, dn)
	scalar := n.Bytes(c.order)
	defer clear(scalar)
	wipe(kn, dn, n)
	return c.multiply(&point, scalar)
}

// mqvValue is the associate value of a point by its x (SP 800-56A, 5.7.2.2): the
// lower half of its bits, with a bit above them. It is public.
func (c *Curve) mqvValue(x []byte) *bigmod.Nat {
	f := (c.Bits + 1) / 2
	return c.associate(x, f, f)
}

// sm2Value is the like in SM2's exchange, as the reference code of libtpms 0.9
// has it on a machine of 64 bits: the standard takes 127 bits on a curve of 256,
// and sets the next; the reference code is off by one, masks with a shift of the
// wrong way round and sets a bit of an int. Both sides of an exchange must agree,
// and libtpms is the other one.
func (c *Curve) sm2Value(x []byte) *bigmod.Nat {
	w := (c.Bits-1)/2 - 1
	words := (w + 63) / 64
	return c.associate(x, 64*words-w%64, 64*(w/64)+w%64%32)
}

// associate is x modulo 2^mask, with a bit set.
func (c *Curve) associate(x []byte, mask, bit int) *bigmod.Nat {
	one := big.NewInt(1)
	n := new(big.Int).Lsh(one, uint(mask))
	n.And(n.Sub(n, one), new(big.Int).SetBytes(x))
	return c.scalar(n.SetBit(n, bit, 1).Bytes())
}
