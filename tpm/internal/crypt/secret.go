package crypt

import (
	"io"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// SecretEncrypt makes a seed and encrypts it to the owner of an asymmetric
// decryption key (Part 1, B.10 and C.6). label is one of LabelSecret,
// LabelDuplicate and LabelIdentity. The seed has the length of the key's
// nameAlg digest.
//
// It gives TPM_RC_ATTRIBUTES for a key that does not decrypt, TPM_RC_KEY for one
// without a nameAlg, which gives the seed its length, and for an ECC key whose
// point is not on its curve, TPM_RC_TYPE for a symmetric key, and
// TPM_RC_NO_RESULT where the random source fails.
func SecretEncrypt(key *Key, label string, random io.Reader) (seed []byte, secret tpm2.EncryptedSecret, rc tpm2.RC) {
	if !key.Public.Attributes.Has(tpm2.ObjDecrypt) {
		return nil, nil, tpm2.RCAttributes
	}
	if key.Public.NameAlg.DigestSize() == 0 {
		return nil, nil, tpm2.RCKey
	}
	switch key.Public.Type {
	case tpm2.AlgRSA:
		seed = make([]byte, key.Public.NameAlg.DigestSize())
		if _, err := io.ReadFull(random, seed); err != nil {
			return nil, nil, tpm2.RCNoResult
		}
		scheme := tpm2.RSADecryptScheme{Alg: tpm2.AlgOAEP, Hash: key.Public.NameAlg}
		secret, rc = RSAEncrypt(key, scheme, terminated(label), seed, random)
		return seed, secret, rc
	case tpm2.AlgECC:
		return agreeSecret(key, label, random)
	}
	return nil, nil, tpm2.RCType
}

// terminated is the label with its NUL, as OAEP takes it.
func terminated(label string) []byte { return append([]byte(label), 0) }

func agreeSecret(key *Key, label string, random io.Reader) ([]byte, tpm2.EncryptedSecret, tpm2.RC) {
	p := &key.Public
	c, ok := CurveOf(p.Curve)
	if !ok || !c.OnCurve(&p.Point) {
		return nil, nil, tpm2.RCKey
	}
	public, shared, rc := Ephemeral(key, random)
	if rc != tpm2.RCSuccess {
		return nil, nil, rc
	}
	defer clear(shared.X)
	seed := KDFe(p.NameAlg, shared.X, label, public.X, p.Point.X, 8*p.NameAlg.DigestSize())
	return seed, tpm2.Marshal(&public), tpm2.RCSuccess
}

// SecretDecrypt recovers a seed (Part 1, B.10, C.6; Part 3, 11.1.1). For
// asymmetric keys it is SecretEncrypt's inverse; a keyed-hash or symmetric key,
// which StartAuthSession alone allows, uses nonceCaller. The secret is not
// altered.
//
// It gives TPM_RC_SCHEME for an RSA key whose scheme is not OAEP; TPM_RC_SIZE
// for a secret that is not as long as the modulus; TPM_RC_VALUE for one that
// does not decrypt or is longer than the digest; TPM_RC_INSUFFICIENT and
// TPM_RC_SIZE for one that is no ECC point, TPM_RC_ECC_POINT where that is not on
// the curve; TPM_RC_KEY where only the public area is loaded, and for an ECC key
// without a nameAlg.
func SecretDecrypt(key *Key, label string, nonceCaller []byte, secret tpm2.EncryptedSecret) ([]byte, tpm2.RC) {
	if !key.Private() {
		return nil, tpm2.RCKey
	}
	switch key.Public.Type {
	case tpm2.AlgRSA:
		return oaepSecret(key, label, secret)
	case tpm2.AlgECC:
		return agreedSecret(key, label, secret)
	}
	if len(secret) > key.Public.NameAlg.DigestSize() {
		return nil, tpm2.RCValue
	}
	seed := append([]byte{}, secret...)
	if key.Public.Type == tpm2.AlgKeyedHash {
		XORObfuscate(key.Public.NameAlg, key.Sensitive.Sensitive, nonceCaller, nil, seed)
		return seed, tpm2.RCSuccess
	}
	iv := make([]byte, CipherBlockSize(key.Public.Symmetric.Alg))
	copy(iv, nonceCaller)
	rc := Decrypt(key.Public.Symmetric.Alg, key.Sensitive.Sensitive, tpm2.AlgCFB, iv, seed)
	return seed, rc
}

func oaepSecret(key *Key, label string, secret []byte) ([]byte, tpm2.RC) {
	scheme := tpm2.RSADecryptScheme(key.Public.Scheme)
	if scheme.Alg == tpm2.AlgNull {
		scheme = tpm2.RSADecryptScheme{Alg: tpm2.AlgOAEP, Hash: key.Public.NameAlg}
	}
	if scheme.Alg != tpm2.AlgOAEP || scheme.Hash.DigestSize() == 0 {
		return nil, tpm2.RCScheme
	}
	seed, rc := RSADecrypt(key, scheme, terminated(label), secret)
	if rc == tpm2.RCSuccess && len(seed) > scheme.Hash.DigestSize() {
		return nil, tpm2.RCValue
	}
	return seed, rc
}

func agreedSecret(key *Key, label string, secret []byte) ([]byte, tpm2.RC) {
	if key.Public.NameAlg.DigestSize() == 0 {
		return nil, tpm2.RCKey
	}
	var point tpm2.ECCPoint
	c := tpm2.NewDecoder(secret)
	if point.Walk(&c); c.RC() != tpm2.RCSuccess {
		return nil, c.RC()
	}
	shared, rc := Multiply(key, point)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	defer clear(shared.X)
	p := &key.Public
	return KDFe(p.NameAlg, shared.X, label, point.X, p.Point.X, 8*p.NameAlg.DigestSize()), tpm2.RCSuccess
}
