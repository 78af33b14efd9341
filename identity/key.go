package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// MaxPublic is the most bytes of a key file that ParseKey reads.
const MaxPublic = 64 << 10

// minRSABits is the smallest RSA key that counts as an AK: what is shorter can
// be factored, and TPMs exist that make it.
const minRSABits = 2048

// Key is a public key as evidence or a person gives it.
type Key struct {
	// Crypto is *rsa.PublicKey or *ecdsa.PublicKey.
	Crypto crypto.PublicKey
	// Public is the TPM's public area; nil where the key came without one, in
	// PEM or a certificate: its attributes and Name are then unknown.
	Public *tpm2.Public
}

// Equal tells whether two keys are the same; if both have a public area, those
// must be the same too.
func (k *Key) Equal(o *Key) bool {
	type equaler interface{ Equal(crypto.PublicKey) bool }
	if e, ok := k.Crypto.(equaler); !ok || !e.Equal(o.Crypto) {
		return false
	}
	return k.Public == nil || o.Public == nil ||
		string(tpm2.Marshal(k.Public)) == string(tpm2.Marshal(o.Public))
}

// ParsePublic decodes a TPM2B_PUBLIC, or a bare TPMT_PUBLIC, to its last byte.
func ParsePublic(b []byte) (*tpm2.Public, error) {
	if len(b) > MaxPublic {
		return nil, fmt.Errorf("a TPM public area of %d bytes: at most %d are read", len(b), MaxPublic)
	}
	var sized tpm2.SizedPublic
	if err := tpm2.Unmarshal(b, &sized); err == nil {
		return &sized.Public, nil
	}
	var bare tpm2.Public
	if err := tpm2.Unmarshal(b, &bare); err != nil {
		return nil, errors.New("not a TPM public area (TPM2B_PUBLIC or TPMT_PUBLIC): it is cut, altered or something else")
	}
	return &bare, nil
}

// ParseKey reads a public key in any of the forms that tools write: PEM
// (SubjectPublicKeyInfo, PKCS #1, certificate), DER of those, TPM2B_PUBLIC or
// TPMT_PUBLIC.
func ParseKey(b []byte) (*Key, error) {
	if len(b) > MaxPublic {
		return nil, fmt.Errorf("a key of %d bytes: at most %d are read", len(b), MaxPublic)
	}
	der := b
	if block, _ := pem.Decode(b); block != nil {
		der = block.Bytes
	}
	if pub, err := ParsePublic(der); err == nil {
		return FromPublic(pub)
	}
	var k any
	if pkix, err := x509.ParsePKIXPublicKey(der); err == nil {
		k = pkix
	} else if pkcs1, err := x509.ParsePKCS1PublicKey(der); err == nil {
		k = pkcs1
	} else if cert, err := x509.ParseCertificate(der); err == nil {
		k = cert.PublicKey
	}
	switch k := k.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return &Key{Crypto: k}, nil
	}
	return nil, errors.New("not an RSA or elliptic public key: PEM, DER, TPM2B_PUBLIC and TPMT_PUBLIC are read")
}

// FromPublic gives the key of a public area. An elliptic point must lie on its
// curve (P-256, P-384 or P-521), an RSA modulus have the size stated.
func FromPublic(p *tpm2.Public) (*Key, error) {
	switch p.Type {
	case tpm2.AlgRSA:
		return fromRSA(p)
	case tpm2.AlgECC:
		return fromECC(p)
	}
	return nil, fmt.Errorf("the public area is of type %v: an RSA or ECC key is expected", p.Type)
}

func fromRSA(p *tpm2.Public) (*Key, error) {
	e := p.Exponent
	if e == 0 {
		e = 65537
	}
	n := new(big.Int).SetBytes(p.Unique)
	if n.BitLen() != int(p.KeyBits) || e < 3 || e%2 == 0 || e > 1<<31-1 {
		return nil, fmt.Errorf("the RSA modulus has %d bits where the public area says %d, or the exponent %d is unusable", n.BitLen(), p.KeyBits, e)
	}
	return &Key{Crypto: &rsa.PublicKey{N: n, E: int(e)}, Public: p}, nil
}

func curve(c tpm2.ECCCurve) elliptic.Curve {
	switch c {
	case tpm2.CurveP256:
		return elliptic.P256()
	case tpm2.CurveP384:
		return elliptic.P384()
	case tpm2.CurveP521:
		return elliptic.P521()
	}
	return nil
}

func fromECC(p *tpm2.Public) (*Key, error) {
	c := curve(p.Curve)
	if c == nil {
		return nil, fmt.Errorf("the key is on curve %v: P-256, P-384 and P-521 are supported", p.Curve)
	}
	size := (c.Params().BitSize + 7) / 8
	if len(p.Point.X) > size || len(p.Point.Y) > size {
		return nil, errors.New("the key's coordinates are longer than its curve's")
	}
	point := make([]byte, 1+2*size)
	point[0] = 4
	copy(point[1+size-len(p.Point.X):], p.Point.X)
	copy(point[1+2*size-len(p.Point.Y):], p.Point.Y)
	k, err := ecdsa.ParseUncompressedPublicKey(c, point)
	if err != nil {
		return nil, errors.New("the key's point does not lie on its curve")
	}
	return &Key{Crypto: k, Public: p}, nil
}

// CheckAK says which attribute keeps a key from being an AK, nil if none does
// (Part 1, 31.2): restricted keeps it from signing what only looks like an
// attestation, the others keep its private half inside one TPM.
func CheckAK(p *tpm2.Public) error {
	for _, a := range []struct {
		bit  tpm2.ObjectAttributes
		name string
	}{
		{tpm2.ObjRestricted, "restricted"}, {tpm2.ObjSign, "sign"}, {tpm2.ObjFixedTPM, "fixedTPM"},
		{tpm2.ObjFixedParent, "fixedParent"}, {tpm2.ObjSensitiveDataOrigin, "sensitiveDataOrigin"},
	} {
		if !p.Attributes.Has(a.bit) {
			return fmt.Errorf("the attestation key does not have the attribute %s: it could sign statements that no TPM made", a.name)
		}
	}
	if p.Type == tpm2.AlgRSA && p.KeyBits < minRSABits {
		return fmt.Errorf("the attestation key is an RSA key of %d bits: at least %d are needed", p.KeyBits, minRSABits)
	}
	if p.NameAlg == tpm2.AlgSHA1 || p.NameAlg.DigestSize() == 0 {
		return fmt.Errorf("the attestation key's name algorithm is %v: its Name does not tell it from another key", p.NameAlg)
	}
	if p.Attributes.Has(tpm2.ObjDecrypt) {
		return errors.New("the attestation key has the attribute decrypt: it is not a signing key")
	}
	return nil
}

// CheckEK says what keeps a key from being an EK that a credential can be made
// for (EK Credential Profile, B.3), nil if nothing does.
func CheckEK(p *tpm2.Public) error {
	const want = tpm2.ObjRestricted | tpm2.ObjDecrypt | tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	if !p.Attributes.Has(want) || p.Attributes.Has(tpm2.ObjSign) {
		return errors.New("the endorsement key is not a restricted decryption key that is fixed to its TPM")
	}
	if p.Symmetric.Alg != tpm2.AlgAES || p.Symmetric.Mode != tpm2.AlgCFB {
		return errors.New("the endorsement key does not protect its children with AES in CFB mode")
	}
	return nil
}
