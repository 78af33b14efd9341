package crypt

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"io"
	"math"
	"math/big"

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
	curve *Curve
	sign  *ecdsa.PrivateKey // nil on a curve that the standard library has not
	x, y  []byte
	d     []byte
}

// Curve is the key's curve.
func (k *ECCPrivate) Curve() tpm2.ECCCurve { return k.curve.ID }

// Point is the public point; each coordinate has the curve's size.
func (k *ECCPrivate) Point() (x, y []byte) { return k.x, k.y }

// Scalar is the TPM's sensitive value, with the curve's size. The caller must
// not alter it.
func (k *ECCPrivate) Scalar() []byte { return k.d }

// NewECCPrivate makes the key of a scalar; leading zeros may be absent or in
// excess. It gives TPM_RC_CURVE for a curve that the algorithm registry does not
// name, and TPM_RC_KEY_SIZE where the scalar is not within 1 … order-1.
func NewECCPrivate(curve tpm2.ECCCurve, scalar []byte) (*ECCPrivate, error) {
	c, ok := CurveOf(curve)
	if !ok {
		return nil, tpm2.RCCurve
	}
	d, ok := fit(scalar, c.size())
	if !ok || !c.isScalar(d) {
		return nil, tpm2.RCKeySize
	}
	if c.std == nil {
		public, ok := c.group.multiply(nil, d)
		if !ok {
			return nil, tpm2.RCKeySize
		}
		return newECCPrivate(c, d, public), nil
	}
	key, err := ecdsa.ParseRawPrivateKey(c.std, d)
	if err != nil {
		return nil, tpm2.RCKeySize
	}
	return newStdPrivate(c, key, d)
}

// newStdPrivate takes over a key of the standard library.
func newStdPrivate(c *Curve, key *ecdsa.PrivateKey, d []byte) (*ECCPrivate, error) {
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, tpm2.RCECCPoint
	}
	k := newECCPrivate(c, d, public)
	k.sign = key
	return k, nil
}

// newECCPrivate takes a scalar and its point, encoded.
func newECCPrivate(c *Curve, d, public []byte) *ECCPrivate {
	p := c.point(public)
	return &ECCPrivate{curve: c, d: d, x: p.X, y: p.Y}
}

// GenerateECC makes an ordinary ECC key. It gives TPM_RC_CURVE for a curve that
// the algorithm registry does not name, and the random source's error; on its
// own curves the standard library takes its own randomness since Go 1.26,
// whatever random is.
func GenerateECC(random io.Reader, curve tpm2.ECCCurve) (*ECCPrivate, error) {
	c, ok := CurveOf(curve)
	if !ok {
		return nil, tpm2.RCCurve
	}
	if c.std == nil {
		return DeriveECC(random, curve)
	}
	key, err := ecdsa.GenerateKey(c.std, random)
	if err != nil {
		return nil, err
	}
	d, err := key.Bytes()
	if err != nil {
		return nil, err
	}
	return newStdPrivate(c, key, d)
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
