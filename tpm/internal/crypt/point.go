package crypt

import (
	"io"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// encode is the point as group takes it. It gives TPM_RC_ECC_POINT for one that
// is not on the curve, and TPM_RC_NO_RESULT for one that is on it modulo p only:
// the reference code takes such a point in, and then cannot compute with it.
// Coordinates may lack leading zeros or have some in excess.
func (c *Curve) encode(p *tpm2.ECCPoint) ([]byte, tpm2.RC) {
	x, y := reduced(p.X, c.field), reduced(p.Y, c.field)
	if !c.satisfies(x, y) {
		return nil, tpm2.RCECCPoint
	}
	out := append(append([]byte{4}, x.Bytes(c.field)...), y.Bytes(c.field)...)
	given, ok := uncompressed(c.size(), p)
	if !ok || string(given) != string(out) {
		return nil, tpm2.RCNoResult
	}
	return out, tpm2.RCSuccess
}

// uncompressed is the point in the encoding of SEC 1, whether or not it is on
// the curve.
func uncompressed(size int, p *tpm2.ECCPoint) ([]byte, bool) {
	x, okX := fit(p.X, size)
	y, okY := fit(p.Y, size)
	return append(append([]byte{4}, x...), y...), okX && okY
}

// point is a point that is not the one at infinity.
func (c *Curve) point(encoded []byte) tpm2.ECCPoint {
	size := c.size()
	return tpm2.ECCPoint{X: encoded[1 : 1+size], Y: encoded[1+size:]}
}

// OnCurve reports whether a point is on the curve, modulo p (the reference
// code's CryptEccIsPointOnCurve).
func (c *Curve) OnCurve(p *tpm2.ECCPoint) bool {
	_, rc := c.encode(p)
	return rc != tpm2.RCECCPoint
}

// multiply multiplies a point, or the base point where that is nil, by a scalar
// of the curve's size, in constant time. Codes are encode's, and TPM_RC_NO_RESULT
// where the product is the point at infinity.
func (c *Curve) multiply(point *tpm2.ECCPoint, scalar []byte) (product tpm2.ECCPoint, rc tpm2.RC) {
	var raw []byte
	if point != nil {
		var ok bool
		if raw, ok = uncompressed(c.size(), point); !ok {
			_, rc = c.encode(point)
			return product, rc
		}
	}
	out, ok := c.group.multiply(raw, scalar)
	switch {
	case !ok:
		_, rc = c.encode(point)
		return product, rc
	case len(out) == 1:
		return product, tpm2.RCNoResult
	}
	return c.point(out), tpm2.RCSuccess
}

// Multiply is the product of an ECC private key and a point: what TPM2_ECDH_ZGen
// gives (Part 3, 14.5). It gives TPM_RC_ECC_POINT for a point that is not on the
// curve, TPM_RC_NO_RESULT for one that has a coordinate of p or more, and
// TPM_RC_KEY for a key that is no ECC private key.
func Multiply(key *Key, point tpm2.ECCPoint) (tpm2.ECCPoint, tpm2.RC) {
	if !key.ready() {
		return tpm2.ECCPoint{}, tpm2.RCFailure
	}
	if key.ecc == nil {
		return tpm2.ECCPoint{}, tpm2.RCKey
	}
	return key.ecc.curve.multiply(&point, key.ecc.d)
}

// Ephemeral makes a fresh key on the curve of an ECC key, and gives its public
// point and the secret that it shares with that key (TPM2_ECDH_KeyGen; Part 3,
// 14.4). TPM_RC_ECC_POINT is for a key whose point is not on its curve,
// TPM_RC_NO_RESULT for one with a coordinate of p or more and for a random source
// that fails.
func Ephemeral(key *Key, random io.Reader) (public, shared tpm2.ECCPoint, rc tpm2.RC) {
	p := &key.Public
	own, err := GenerateECC(random, p.Curve)
	if err != nil {
		return public, shared, tpm2.RCNoResult
	}
	defer clear(own.d)
	public = tpm2.ECCPoint{X: own.x, Y: own.y}
	shared, rc = own.curve.multiply(&p.Point, own.d)
	return public, shared, rc
}
