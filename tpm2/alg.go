package tpm2

import (
	"crypto"
	_ "crypto/sha1"   // register SHA-1
	_ "crypto/sha256" // register SHA-256
	_ "crypto/sha512" // register SHA-384 and SHA-512
	"fmt"
	"hash"
)

// AlgID is a TPM_ALG_ID (Part 2, 6.3).
type AlgID uint16

// Algorithm identifiers (Part 2, Table 9; TCG Algorithm Registry).
const (
	AlgError        AlgID = 0x0000
	AlgRSA          AlgID = 0x0001
	AlgTDES         AlgID = 0x0003
	AlgSHA1         AlgID = 0x0004
	AlgHMAC         AlgID = 0x0005
	AlgAES          AlgID = 0x0006
	AlgMGF1         AlgID = 0x0007
	AlgKeyedHash    AlgID = 0x0008
	AlgXOR          AlgID = 0x000A
	AlgSHA256       AlgID = 0x000B
	AlgSHA384       AlgID = 0x000C
	AlgSHA512       AlgID = 0x000D
	AlgNull         AlgID = 0x0010
	AlgSM3256       AlgID = 0x0012
	AlgSM4          AlgID = 0x0013
	AlgRSASSA       AlgID = 0x0014
	AlgRSAES        AlgID = 0x0015
	AlgRSAPSS       AlgID = 0x0016
	AlgOAEP         AlgID = 0x0017
	AlgECDSA        AlgID = 0x0018
	AlgECDH         AlgID = 0x0019
	AlgECDAA        AlgID = 0x001A
	AlgSM2          AlgID = 0x001B
	AlgECSchnorr    AlgID = 0x001C
	AlgECMQV        AlgID = 0x001D
	AlgKDF1SP80056A AlgID = 0x0020
	AlgKDF2         AlgID = 0x0021
	AlgKDF1SP800108 AlgID = 0x0022
	AlgECC          AlgID = 0x0023
	AlgSymCipher    AlgID = 0x0025
	AlgCamellia     AlgID = 0x0026
	AlgSHA3256      AlgID = 0x0027
	AlgSHA3384      AlgID = 0x0028
	AlgSHA3512      AlgID = 0x0029
	AlgCMAC         AlgID = 0x003F
	AlgCTR          AlgID = 0x0040
	AlgOFB          AlgID = 0x0041
	AlgCBC          AlgID = 0x0042
	AlgCFB          AlgID = 0x0043
	AlgECB          AlgID = 0x0044
	AlgMLKEM        AlgID = 0x00A0
	AlgMLDSA        AlgID = 0x00A1
	AlgHashMLDSA    AlgID = 0x00A2
)

// MaxDigestSize is the length in bytes of the largest digest (SHA-512).
const MaxDigestSize = 64

var algNames = map[AlgID]string{
	AlgRSA: "rsa", AlgTDES: "tdes", AlgSHA1: "sha1", AlgHMAC: "hmac", AlgAES: "aes",
	AlgMGF1: "mgf1", AlgKeyedHash: "keyedhash", AlgXOR: "xor", AlgSHA256: "sha256",
	AlgSHA384: "sha384", AlgSHA512: "sha512", AlgNull: "null", AlgSM3256: "sm3_256",
	AlgSM4: "sm4", AlgRSASSA: "rsassa", AlgRSAES: "rsaes", AlgRSAPSS: "rsapss",
	AlgOAEP: "oaep", AlgECDSA: "ecdsa", AlgECDH: "ecdh", AlgECDAA: "ecdaa", AlgSM2: "sm2",
	AlgECSchnorr: "ecschnorr", AlgECMQV: "ecmqv", AlgKDF1SP80056A: "kdf1_sp800_56a",
	AlgKDF2: "kdf2", AlgKDF1SP800108: "kdf1_sp800_108", AlgECC: "ecc",
	AlgSymCipher: "symcipher", AlgCamellia: "camellia", AlgSHA3256: "sha3_256",
	AlgSHA3384: "sha3_384", AlgSHA3512: "sha3_512", AlgCMAC: "cmac", AlgCTR: "ctr",
	AlgOFB: "ofb", AlgCBC: "cbc", AlgCFB: "cfb", AlgECB: "ecb",
}

// String gives the algorithm's name as tpm2-tools writes it, or its number.
func (a AlgID) String() string {
	if n, ok := algNames[a]; ok {
		return n
	}
	return fmt.Sprintf("0x%04x", uint16(a))
}

// ParseAlg is String's inverse for named algorithms.
func ParseAlg(name string) (AlgID, bool) {
	for a, n := range algNames {
		if n == name {
			return a, true
		}
	}
	return AlgError, false
}

// HashAlgs lists the hash algorithms implemented, in ascending order of
// identifier: what TPMI_ALG_HASH accepts and what a PCR bank may use.
func HashAlgs() [4]AlgID {
	return [4]AlgID{AlgSHA1, AlgSHA256, AlgSHA384, AlgSHA512}
}

// Hash gives the Go hash of an implemented hash algorithm, and false for
// every other algorithm.
func (a AlgID) Hash() (crypto.Hash, bool) {
	switch a {
	case AlgSHA1:
		return crypto.SHA1, true
	case AlgSHA256:
		return crypto.SHA256, true
	case AlgSHA384:
		return crypto.SHA384, true
	case AlgSHA512:
		return crypto.SHA512, true
	}
	return 0, false
}

// DigestSize is the length in bytes of the algorithm's digest, 0 where it is
// not an implemented hash algorithm.
func (a AlgID) DigestSize() int {
	switch a {
	case AlgSHA1:
		return 20
	case AlgSHA256:
		return 32
	case AlgSHA384:
		return 48
	case AlgSHA512:
		return 64
	}
	return 0
}

// BlockSize is the block length in bytes of an implemented hash algorithm, 0
// for every other algorithm.
func (a AlgID) BlockSize() int {
	switch a {
	case AlgSHA1, AlgSHA256:
		return 64
	case AlgSHA384, AlgSHA512:
		return 128
	}
	return 0
}

// New starts a hash. It must be called on an implemented hash algorithm only.
func (a AlgID) New() hash.Hash {
	h, ok := a.Hash()
	if !ok {
		panic("tpm2: " + a.String() + " is not a hash algorithm")
	}
	return h.New()
}

// Digest hashes the concatenation of parts with an implemented hash algorithm.
func (a AlgID) Digest(parts ...[]byte) []byte {
	h := a.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// ECCCurve is a TPM_ECC_CURVE (Part 2, 6.4).
type ECCCurve uint16

// Curve identifiers (TCG Algorithm Registry).
const (
	CurveNone   ECCCurve = 0x0000
	CurveP192   ECCCurve = 0x0001
	CurveP224   ECCCurve = 0x0002
	CurveP256   ECCCurve = 0x0003
	CurveP384   ECCCurve = 0x0004
	CurveP521   ECCCurve = 0x0005
	CurveBNP256 ECCCurve = 0x0010
	CurveBNP638 ECCCurve = 0x0011
	CurveSM2    ECCCurve = 0x0020
)

// CoordinateSize is the length in bytes of a coordinate on a curve, 0 for one
// that the algorithm registry does not name.
func (c ECCCurve) CoordinateSize() int {
	switch c {
	case CurveP192:
		return 24
	case CurveP224:
		return 28
	case CurveP256, CurveBNP256, CurveSM2:
		return 32
	case CurveP384:
		return 48
	case CurveP521:
		return 66
	case CurveBNP638:
		return 80
	}
	return 0
}

// String gives the curve's usual name.
func (c ECCCurve) String() string {
	switch c {
	case CurveP192:
		return "P-192"
	case CurveP224:
		return "P-224"
	case CurveP256:
		return "P-256"
	case CurveP384:
		return "P-384"
	case CurveP521:
		return "P-521"
	case CurveBNP256:
		return "BN-P256"
	case CurveBNP638:
		return "BN-P638"
	case CurveSM2:
		return "SM2-P256"
	}
	return fmt.Sprintf("0x%04x", uint16(c))
}
