package crypt

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"io"
	"math"
	"math/big"
	"sync"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// RSAPrivate is an RSA private key ready for use: its CRT values are computed.
type RSAPrivate struct {
	key   *rsa.PrivateKey
	prime []byte
}

// Modulus is the public modulus, as many bytes as the key size says.
func (k *RSAPrivate) Modulus() []byte { return k.key.N.Bytes() }

// Prime is the TPM's sensitive value: one prime of half the key size (Part 2,
// TPM2B_PRIVATE_KEY_RSA). The caller must not alter it.
func (k *RSAPrivate) Prime() []byte { return k.prime }

// Public is the key's public half.
func (k *RSAPrivate) Public() *rsa.PublicKey { return &k.key.PublicKey }

// GenerateRSA makes an ordinary RSA key: the search that derives primary keys,
// over a generator seeded from random, because it can be canceled and takes
// half the time of the standard library's. Parameters and errors are
// DeriveRSA's, besides random's.
func GenerateRSA(random io.Reader, bits int, exponent uint32, cancel func() bool) (*RSAPrivate, error) {
	var entropy [drbgSeedSize]byte
	defer clear(entropy[:])
	if _, err := io.ReadFull(random, entropy[:]); err != nil {
		return nil, err
	}
	d := new(DRBG)
	defer d.Wipe()
	d.Reseed(entropy)
	return DeriveRSA(d, bits, exponent, cancel)
}

// LoadRSA rebuilds a private key from its modulus and one prime. It gives
// TPM_RC_BINDING where the prime does not divide the modulus or the two make no
// usable key, and TPM_RC_KEY_SIZE where the prime is not half the modulus.
func LoadRSA(modulus, prime []byte, exponent uint32) (*RSAPrivate, tpm2.RC) {
	p, q, rc := factorRSA(modulus, prime, exponent)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	key, err := newRSAPrivate(p, q, publicExponent(exponent))
	if err != nil {
		return nil, tpm2.RCBinding
	}
	return key, tpm2.RCSuccess
}

// factorRSA gives both primes, checked as far as that is cheap: what passes
// makes a key unless a "prime" is composite. The codes are LoadRSA's.
func factorRSA(modulus, prime []byte, exponent uint32) (p, q *big.Int, rc tpm2.RC) {
	if 2*len(prime) != len(modulus) || len(prime) == 0 || prime[0] < 0x80 {
		return nil, nil, tpm2.RCKeySize
	}
	p = new(big.Int).SetBytes(prime)
	q, rest := new(big.Int).QuoRem(new(big.Int).SetBytes(modulus), p, new(big.Int))
	e := publicExponent(exponent)
	if rest.Sign() != 0 || e > math.MaxInt32 || p.Cmp(q) == 0 || !suits(e, p) || !suits(e, q) {
		return nil, nil, tpm2.RCBinding
	}
	return p, q, tpm2.RCSuccess
}

// suits reports whether a prime is odd and e has an inverse modulo it less one.
func suits(e uint32, prime *big.Int) bool {
	bigE := new(big.Int).SetUint64(uint64(e))
	rest := new(big.Int).Sub(prime, big.NewInt(1))
	rest.Mod(rest, bigE)
	return prime.Bit(0) == 1 && rest.ModInverse(rest, bigE) != nil
}

// newRSAPrivate makes a key of two primes; p becomes the sensitive value.
// math/big's time depends on the primes here, once for each load; what a caller
// can repeat at will, the private operation, is constant in time.
func newRSAPrivate(p, q *big.Int, e uint32) (*RSAPrivate, error) {
	one := big.NewInt(1)
	pMinus1 := new(big.Int).Sub(p, one)
	qMinus1 := new(big.Int).Sub(q, one)
	d, okD := inverseOfWord(e, new(big.Int).Mul(pMinus1, qMinus1))
	dP, okP := inverseOfWord(e, pMinus1)
	dQ, okQ := inverseOfWord(e, qMinus1)
	qInv := new(big.Int).ModInverse(q, p)
	if !okD || !okP || !okQ || qInv == nil {
		return nil, errRSAPair
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(e)},
		D:         d,
		Primes:    []*big.Int{p, q},
	}
	key.Precomputed.Dp, key.Precomputed.Dq, key.Precomputed.Qinv = dP, dQ, qInv
	key.Precompute()
	if key.Validate() != nil {
		return nil, errRSAPair
	}
	return &RSAPrivate{key: key, prime: p.FillBytes(make([]byte, (p.BitLen()+7)/8))}, nil
}

// inverseOfWord is e⁻¹ mod m for an e that is small: (1 + k·m) / e, where k is
// -m⁻¹ mod e.
func inverseOfWord(e uint32, m *big.Int) (*big.Int, bool) {
	bigE := new(big.Int).SetUint64(uint64(e))
	k := new(big.Int).Mod(m, bigE)
	if k.ModInverse(k, bigE) == nil {
		return nil, false
	}
	k.Sub(bigE, k).Mul(k, m)
	k.Add(k, big.NewInt(1))
	return k.Quo(k, bigE), true
}

// ECCPrivate is an ECC private key ready for use.
type ECCPrivate struct {
	curve tpm2.ECCCurve
	sign  *ecdsa.PrivateKey
	x, y  []byte
	d     []byte
	// agree is made at first use: it costs a multiplication that a signing key
	// never needs.
	agree func() (*ecdh.PrivateKey, error)
}

// Curve is the key's curve.
func (k *ECCPrivate) Curve() tpm2.ECCCurve { return k.curve }

// Point is the public point; each coordinate has the curve's size.
func (k *ECCPrivate) Point() (x, y []byte) { return k.x, k.y }

// Scalar is the TPM's sensitive value, with the curve's size. The caller must
// not alter it.
func (k *ECCPrivate) Scalar() []byte { return k.d }

// NewECCPrivate makes the key of a scalar; leading zeros may be absent or in
// excess. It gives TPM_RC_CURVE for a curve that is not implemented, and
// TPM_RC_KEY_SIZE where the scalar is not within 1 … order-1.
func NewECCPrivate(curve tpm2.ECCCurve, scalar []byte) (*ECCPrivate, error) {
	c, ok := goCurve(curve)
	if !ok {
		return nil, tpm2.RCCurve
	}
	d, ok := fit(scalar, curve.CoordinateSize())
	if !ok {
		return nil, tpm2.RCKeySize
	}
	key, err := ecdsa.ParseRawPrivateKey(c, d)
	if err != nil {
		return nil, tpm2.RCKeySize
	}
	return newECCPrivate(curve, key, d)
}

func newECCPrivate(curve tpm2.ECCCurve, key *ecdsa.PrivateKey, d []byte) (*ECCPrivate, error) {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, tpm2.RCECCPoint
	}
	size := curve.CoordinateSize()
	return &ECCPrivate{
		curve: curve, sign: key, d: d,
		x: point[1 : 1+size], y: point[1+size:],
		agree: sync.OnceValues(key.ECDH),
	}, nil
}

// GenerateECC makes an ordinary ECC key. It gives TPM_RC_CURVE for a curve that
// is not implemented. Since Go 1.26 the standard library takes its own
// randomness, whatever random is.
func GenerateECC(random io.Reader, curve tpm2.ECCCurve) (*ECCPrivate, error) {
	c, ok := goCurve(curve)
	if !ok {
		return nil, tpm2.RCCurve
	}
	key, err := ecdsa.GenerateKey(c, random)
	if err != nil {
		return nil, err
	}
	d, err := key.Bytes()
	if err != nil {
		return nil, err
	}
	return newECCPrivate(curve, key, d)
}

// eccPoint is the point for a key agreement; false where (x, y) is not on the
// curve, which the point at infinity never is. Coordinates may lack leading
// zeros or have some in excess.
func eccPoint(curve tpm2.ECCCurve, x, y []byte) (*ecdh.PublicKey, bool) {
	c, ok := agreeCurve(curve)
	if !ok {
		return nil, false
	}
	raw, ok := uncompressed(curve, x, y)
	if !ok {
		return nil, false
	}
	key, err := c.NewPublicKey(raw)
	return key, err == nil
}

// uncompressed is the point in the encoding of SEC 1.
func uncompressed(curve tpm2.ECCCurve, x, y []byte) ([]byte, bool) {
	size := curve.CoordinateSize()
	x, okX := fit(x, size)
	y, okY := fit(y, size)
	return append(append([]byte{4}, x...), y...), okX && okY && size != 0
}

// fit gives the number b in exactly size bytes, in new memory.
func fit(b []byte, size int) ([]byte, bool) {
	for len(b) > size && b[0] == 0 {
		b = b[1:]
	}
	if len(b) > size {
		return nil, false
	}
	out := make([]byte, size)
	copy(out[size-len(b):], b)
	return out, true
}

func goCurve(curve tpm2.ECCCurve) (elliptic.Curve, bool) {
	switch curve {
	case tpm2.CurveP256:
		return elliptic.P256(), true
	case tpm2.CurveP384:
		return elliptic.P384(), true
	}
	return nil, false
}

func agreeCurve(curve tpm2.ECCCurve) (ecdh.Curve, bool) {
	switch curve {
	case tpm2.CurveP256:
		return ecdh.P256(), true
	case tpm2.CurveP384:
		return ecdh.P384(), true
	}
	return nil, false
}

// curveOrder is the order of the base point.
func curveOrder(curve tpm2.ECCCurve) ([]byte, bool) {
	c, ok := goCurve(curve)
	if !ok {
		return nil, false
	}
	return c.Params().N.Bytes(), true
}
