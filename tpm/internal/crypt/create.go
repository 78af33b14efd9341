package crypt

import (
	"crypto/rsa"
	"errors"
	"io"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Source is where an object's secrets come from.
type Source struct {
	// Random gives an ordinary object's secrets. Not used for the others.
	Random io.Reader
	// Primary gives a primary object's, see NewPrimaryDRBG; nil for others.
	Primary *DRBG
	// Derived gives a derived object's, which is not an RSA key; nil for others.
	Derived *Derivation
	// Proofs are stirred into Primary before the seedValue is drawn: shProof
	// and ehProof for a primary object of the Endorsement hierarchy, nothing
	// for the others.
	Proofs [][]byte
	// Cancel is asked during an RSA key search; nil never cancels.
	Cancel func() bool
}

func (s *Source) reader() io.Reader {
	switch {
	case s.Primary != nil:
		return s.Primary
	case s.Derived != nil:
		return s.Derived
	}
	return s.Random
}

// CreateObject makes the secrets of a new object: key, seedValue and, in the
// public area of the result, unique. template is the checked public area, auth
// the authorization value as it shall be stored, data the caller's sensitive
// data, which ObjSensitiveDataOrigin makes it ignore.
//
// Codes, without parameter: TPM_RC_CANCELED; TPM_RC_RANGE for an RSA exponent
// and TPM_RC_VALUE for an RSA key size that is not implemented; TPM_RC_CURVE;
// TPM_RC_KEY_SIZE for symmetric key data of a wrong size, TPM_RC_KEY for a TDES
// key that is not allowed; TPM_RC_SIZE for
// keyed-hash data longer than the scheme's hash block; TPM_RC_NO_RESULT where
// the random source fails.
func CreateObject(template *tpm2.Public, auth, data []byte, src *Source) (*Key, tpm2.RC) {
	if template.Attributes.Has(tpm2.ObjSensitiveDataOrigin) {
		data = nil
	}
	k := &Key{Public: template.Clone(), Sensitive: &tpm2.Sensitive{
		Type:      template.Type,
		AuthValue: append(tpm2.Digest{}, auth...),
	}}
	var rc tpm2.RC
	switch template.Type {
	case tpm2.AlgRSA:
		rc = k.createRSA(src)
	case tpm2.AlgECC:
		rc = k.createECC(src)
	case tpm2.AlgSymCipher:
		rc = k.createCipherKey(src, data)
	case tpm2.AlgKeyedHash:
		rc = k.createKeyedHash(src, data)
	default:
		rc = tpm2.RCType
	}
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	if rc := k.createSeed(src); rc != tpm2.RCSuccess {
		return nil, rc
	}
	return k, tpm2.RCSuccess
}

func (k *Key) createRSA(src *Source) tpm2.RC {
	p := &k.Public
	if !RSAExponent(p.Exponent) {
		return tpm2.RCRange
	}
	if !RSAKeyBits(p.KeyBits) {
		return tpm2.RCValue
	}
	var err error
	if src.Primary != nil {
		k.rsa, err = DeriveRSA(src.Primary, int(p.KeyBits), p.Exponent, src.Cancel)
	} else {
		k.rsa, err = GenerateRSA(src.Random, int(p.KeyBits), p.Exponent, src.Cancel)
	}
	if errors.Is(err, ErrCanceled) {
		return tpm2.RCCanceled
	}
	if err != nil {
		return tpm2.RCNoResult
	}
	p.Unique = k.rsa.Modulus()
	k.rsaPublic = &rsa.PublicKey{N: k.rsa.key.N, E: k.rsa.key.E}
	k.Sensitive.Sensitive = append([]byte{}, k.rsa.prime...)
	return tpm2.RCSuccess
}

func (k *Key) createECC(src *Source) tpm2.RC {
	p := &k.Public
	if _, ok := CurveOf(p.Curve); !ok {
		return tpm2.RCCurve
	}
	var err error
	var private *ECCPrivate
	if src.Primary != nil || src.Derived != nil {
		private, err = DeriveECC(src.reader(), p.Curve)
	} else {
		private, err = GenerateECC(src.Random, p.Curve)
	}
	if err != nil {
		return tpm2.RCNoResult
	}
	k.setECC(private)
	k.Sensitive.Sensitive = append([]byte{}, private.d...)
	return tpm2.RCSuccess
}

// setECC makes private the key, with its public half.
func (k *Key) setECC(private *ECCPrivate) {
	k.ecc = private
	if private.sign != nil {
		k.eccPublic = &private.sign.PublicKey
	}
	k.Public.Point = tpm2.ECCPoint{X: private.x, Y: private.y}
}

// createBits takes the caller's data, which must then have size bytes, or
// draws that many.
func (k *Key) createBits(src *Source, data []byte, size int) tpm2.RC {
	if len(data) != 0 {
		if len(data) != size {
			return tpm2.RCKeySize
		}
		k.Sensitive.Sensitive = append([]byte{}, data...)
		return tpm2.RCSuccess
	}
	k.Sensitive.Sensitive = make([]byte, size)
	return read(src, k.Sensitive.Sensitive)
}

// createCipherKey is createBits for a block cipher. A TDES key that the caller
// gives is taken as it is, one that is drawn has odd parity.
func (k *Key) createCipherKey(src *Source, data []byte) tpm2.RC {
	for {
		rc := k.createBits(src, data, int(k.Public.Symmetric.KeyBits)/8)
		if rc != tpm2.RCSuccess || k.Public.Symmetric.Alg != tpm2.AlgTDES {
			return rc
		}
		switch key := k.Sensitive.Sensitive; {
		case len(data) == 0:
			setParity(key)
			if tdesKey(key) {
				return tpm2.RCSuccess
			}
		case !tdesKey(key):
			return tpm2.RCKey
		default:
			return tpm2.RCSuccess
		}
	}
}

func (k *Key) createKeyedHash(src *Source, data []byte) tpm2.RC {
	alg := k.Public.NameAlg
	if k.Public.Scheme.Alg != tpm2.AlgNull {
		alg = k.Public.Scheme.Hash
	}
	if len(data) == 0 {
		return k.createBits(src, nil, alg.DigestSize())
	}
	isKey := k.Public.Attributes&(tpm2.ObjDecrypt|tpm2.ObjSign) != 0
	if isKey && len(data) > alg.BlockSize() {
		return tpm2.RCSize
	}
	return k.createBits(src, data, len(data))
}

// createSeed draws the seedValue and what follows from it.
func (k *Key) createSeed(src *Source) tpm2.RC {
	if src.Primary != nil {
		for _, proof := range src.Proofs {
			src.Primary.AddData(proof)
		}
	}
	seed := make([]byte, k.Public.NameAlg.DigestSize())
	if rc := read(src, seed); rc != tpm2.RCSuccess {
		return rc
	}
	switch k.Public.Type {
	case tpm2.AlgKeyedHash, tpm2.AlgSymCipher:
		k.Sensitive.SeedValue = seed
		k.Public.Unique = SymmetricUnique(&k.Public, k.Sensitive)
	default:
		// An asymmetric key that is no parent protects nothing with a seed.
		if !k.Public.Attributes.Has(tpm2.ObjSign) && k.Public.Attributes.Has(tpm2.ObjRestricted) {
			k.Sensitive.SeedValue = seed
		}
	}
	return tpm2.RCSuccess
}

func read(src *Source, p []byte) tpm2.RC {
	if _, err := io.ReadFull(src.reader(), p); err != nil {
		return tpm2.RCNoResult
	}
	return tpm2.RCSuccess
}
