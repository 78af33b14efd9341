package crypt

import (
	"crypto/elliptic"
	"io"

	"filippo.io/nistec"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// nistPoint is a point of one of nistec's curves.
type nistPoint[T any] interface {
	SetBytes([]byte) (T, error)
	ScalarMult(T, []byte) (T, error)
	Bytes() []byte
}

// scalarMult multiplies an uncompressed point; false is for one that is not on
// the curve.
func scalarMult[T nistPoint[T]](fresh func() T, point, scalar []byte) ([]byte, bool) {
	p, err := fresh().SetBytes(point)
	if err != nil {
		return nil, false
	}
	r, err := fresh().ScalarMult(p, scalar)
	if err != nil {
		return nil, false
	}
	return r.Bytes(), true
}

// multiplyPoint multiplies a point by a scalar of the curve's size, in constant
// time. It gives TPM_RC_ECC_POINT for a point that is not on the curve, and
// TPM_RC_NO_RESULT where the product is the point at infinity.
func multiplyPoint(curve tpm2.ECCCurve, scalar []byte, point tpm2.ECCPoint) (tpm2.ECCPoint, tpm2.RC) {
	raw, ok := uncompressed(curve, point.X, point.Y)
	if !ok {
		return tpm2.ECCPoint{}, tpm2.RCECCPoint
	}
	var out []byte
	switch curve {
	case tpm2.CurveP256:
		out, ok = scalarMult(nistec.NewP256Point, raw, scalar)
	case tpm2.CurveP384:
		out, ok = scalarMult(nistec.NewP384Point, raw, scalar)
	default:
		return tpm2.ECCPoint{}, tpm2.RCCurve
	}
	if !ok {
		return tpm2.ECCPoint{}, tpm2.RCECCPoint
	}
	if len(out) != len(raw) {
		return tpm2.ECCPoint{}, tpm2.RCNoResult
	}
	size := len(raw) / 2
	return tpm2.ECCPoint{X: out[1 : 1+size], Y: out[1+size:]}, tpm2.RCSuccess
}

// Multiply is the product of an ECC private key and a point: what TPM2_ECDH_ZGen
// gives (Part 3, 14.5). Codes are multiplyPoint's, and TPM_RC_KEY for a key that
// is no ECC private key.
func Multiply(key *Key, point tpm2.ECCPoint) (tpm2.ECCPoint, tpm2.RC) {
	if !key.ready() {
		return tpm2.ECCPoint{}, tpm2.RCFailure
	}
	if key.ecc == nil {
		return tpm2.ECCPoint{}, tpm2.RCKey
	}
	return multiplyPoint(key.ecc.curve, key.ecc.d, point)
}

// Ephemeral makes a fresh key on the curve of an ECC key, and gives its public
// point and the secret that it shares with that key (TPM2_ECDH_KeyGen; Part 3,
// 14.4). TPM_RC_ECC_POINT is for a key whose point is not on its curve,
// TPM_RC_NO_RESULT for a random source that fails.
func Ephemeral(key *Key, random io.Reader) (public, shared tpm2.ECCPoint, rc tpm2.RC) {
	p := &key.Public
	own, err := GenerateECC(random, p.Curve)
	if err != nil {
		return public, shared, tpm2.RCNoResult
	}
	defer clear(own.d)
	public = tpm2.ECCPoint{X: own.x, Y: own.y}
	shared, rc = multiplyPoint(p.Curve, own.d, p.Point)
	return public, shared, rc
}

// CurveParameters gives an elliptic curve's parameters and its size in bits
// (TPM2_ECC_Parameters).
func CurveParameters(curve tpm2.ECCCurve) (*elliptic.CurveParams, bool) {
	c, ok := goCurve(curve)
	if !ok {
		return nil, false
	}
	return c.Params(), true
}
