package crypt

import (
	"io"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// encode is the point as group takes it; false where it is not on the curve,
// which the point at infinity never is. Coordinates count modulo p and may have
// any length, as in OpenSSL.
func (c *Curve) encode(p *tpm2.ECCPoint) ([]byte, bool) {
	x, y := reduced(p.X, c.field), reduced(p.Y, c.field)
	if !c.satisfies(x, y) {
		return nil, false
	}
	return append(append([]byte{4}, x.Bytes(c.field)...), y.Bytes(c.field)...), true
}

// uncompressed is a point in the encoding of SEC 1, whether or not it is one;
// false where a coordinate is too long.
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

// OnCurve reports whether a point is on the curve.
func (c *Curve) OnCurve(p *tpm2.ECCPoint) bool {
	_, ok := c.encode(p)
	return ok
}

// multiply multiplies a point, or the base point where that is nil, by a scalar
// of the curve's size, in constant time. It gives TPM_RC_ECC_POINT for a point
// that is not on the curve, and TPM_RC_NO_RESULT where the product is the point
// at infinity.
func (c *Curve) multiply(point *tpm2.ECCPoint, scalar []byte) (product tpm2.ECCPoint, rc tpm2.RC) {
	var raw []byte
	ok := true
	if point != nil {
		raw, ok = uncompressed(c.size(), point)
	}
	var out []byte
	if ok {
		out, ok = c.group.multiply(raw, scalar)
	}
	if !ok { // not as it should be: with what it is modulo p
		if raw, ok = c.encode(point); !ok {
			return product, tpm2.RCECCPoint
		}
		out, _ = c.group.multiply(raw, scalar)
	}
	if len(out) == 1 {
		return product, tpm2.RCNoResult
	}
	return c.point(out), tpm2.RCSuccess
}

// Multiply is the product of an ECC private key and a point: what TPM2_ECDH_ZGen
// gives (Part 3, 14.5). It gives TPM_RC_ECC_POINT for a point that is not on the
// curve, and TPM_RC_KEY for a key that is no ECC private key.
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
// TPM_RC_NO_RESULT for a random source that fails.
func Ephemeral(key *Key, random io.Reader) (public, shared tpm2.ECCPoint, rc tpm2.RC) {
	c, ok := CurveOf(key.Public.Curve)
	if !ok {
		return public, shared, tpm2.RCNoResult
	}
	d, public, rc := c.drawPoint(random)
	if rc != tpm2.RCSuccess {
		return public, shared, rc
	}
	defer clear(d)
	shared, rc = c.multiply(&key.Public.Point, d)
	return public, shared, rc
}
