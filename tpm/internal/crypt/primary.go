package crypt

import (
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// DefaultExponent is the RSA public exponent that a template's 0 stands for.
const DefaultExponent = 65537

// minPrimeDistance is the bit length below which the difference of two RSA
// primes is too small: the second is drawn again.
const minPrimeDistance = 100

// DeriveRSA derives the RSA key of a primary object from its generator. bits
// is one of RSAKeyBits, exponent an odd prime of at least 65537, or 0 for that. cancel
// is asked before every primality test and may be nil; where it says true the
// search ends with ErrCanceled.
func DeriveRSA(d *DRBG, bits int, exponent uint32, cancel func() bool) (*RSAPrivate, error) {
	if err := checkRSA(bits, exponent); err != nil {
		return nil, err
	}
	e := publicExponent(exponent)
	search := newPrimeSearch(d, bits/2, e, cancel)
	defer search.wipe()
	q, err := search.next()
	if err != nil {
		return nil, err
	}
	for {
		p, err := search.next()
		if err != nil {
			return nil, err
		}
		// The reference code takes the index of the top bit for a count.
		if new(big.Int).Sub(p, q).BitLen()-1 < minPrimeDistance {
			continue
		}
		return newRSAPrivate(p, q, e)
	}
}

// publicExponent resolves a template's exponent.
func publicExponent(exponent uint32) uint32 {
	if exponent == 0 {
		return DefaultExponent
	}
	return exponent
}

// errRSAPair reports primes and an exponent that make no usable key.
var errRSAPair = errors.New("crypt: the two primes and the exponent make no RSA key")

// ErrRSAParameters reports a key size or exponent that is not implemented.
var ErrRSAParameters = errors.New("crypt: RSA keys have 1024, 2048, 3072 or 4096 bits and a prime exponent of 65537 or more")

func checkRSA(bits int, exponent uint32) error {
	if !RSAKeyBits(uint16(bits)) || !RSAExponent(exponent) {
		return fmt.Errorf("%w, not %d bits and exponent %d", ErrRSAParameters, bits, exponent)
	}
	return nil
}

// RSAKeyBits tells whether RSA keys of that size are implemented.
func RSAKeyBits(bits uint16) bool { return bits >= 1024 && bits <= 4096 && bits%1024 == 0 }

// RSAExponent tells whether a key may be generated with a template's public
// exponent: 0 (for 65537), or a prime from 65537 to 2³¹-1.
func RSAExponent(exponent uint32) bool {
	if exponent == 0 || exponent == DefaultExponent {
		return true
	}
	if exponent < DefaultExponent || exponent > 1<<31-1 {
		return false
	}
	return big.NewInt(int64(exponent)).ProbablyPrime(0) // exact below 2⁶⁴
}

// DeriveECC derives the ECC key of a primary or derived object from its
// generator. It gives TPM_RC_CURVE for a curve that the algorithm registry does
// not name, and the generator's error.
func DeriveECC(from io.Reader, curve tpm2.ECCCurve) (*ECCPrivate, error) {
	c, ok := CurveOf(curve)
	if !ok {
		return nil, tpm2.RCCurve
	}
	scalar, err := c.drawScalar(from)
	if err != nil {
		return nil, err
	}
	defer clear(scalar)
	return NewECCPrivate(curve, scalar)
}
