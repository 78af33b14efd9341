package crypt

import (
	"crypto/rsa"
	"io"

	"github.com/ashlar-cloud/ashlar/tpm2"

	"filippo.io/bigmod"
)

// SelectDecryptScheme resolves the scheme of RSA_Encrypt and RSA_Decrypt
// against the key's own, as SelectSignScheme does; both may be null, which
// means no padding. It gives TPM_RC_SCHEME where the two differ.
func SelectDecryptScheme(key *Key, want tpm2.RSADecryptScheme) (tpm2.RSADecryptScheme, tpm2.RC) {
	own := tpm2.RSADecryptScheme(key.Public.Scheme)
	switch {
	case own.Alg == tpm2.AlgNull:
	case want.Alg == tpm2.AlgNull:
		want = own
	case own.Alg != want.Alg || own.Hash != want.Hash:
		return want, tpm2.RCScheme
	}
	return want, tpm2.RCSuccess
}

// RSAEncrypt encrypts with an RSA public key (Part 3, 14.2; Part 1, B.4). label
// is OAEP's, with the terminating NUL it must have, or empty. It gives
// TPM_RC_VALUE where the message is too long or, without padding, not below the
// modulus, TPM_RC_SCHEME for a scheme that does not encrypt, and
// TPM_RC_NO_RESULT where the random source fails.
func RSAEncrypt(key *Key, scheme tpm2.RSADecryptScheme, label, message []byte, random io.Reader) ([]byte, tpm2.RC) {
	if !key.ready() {
		return nil, tpm2.RCFailure
	}
	size := key.rsaPublic.Size()
	var out []byte
	var err error
	switch scheme.Alg {
	case tpm2.AlgNull:
		return rawPublic(key, message)
	case tpm2.AlgRSAES:
		if len(message) > size-11 {
			return nil, tpm2.RCValue
		}
		//lint:ignore SA1019 TPM_ALG_RSAES is mandatory (PC Client profile)
		out, err = rsa.EncryptPKCS1v15(random, key.rsaPublic, message)
	case tpm2.AlgOAEP:
		if _, ok := scheme.Hash.Hash(); !ok || len(message) > size-2*scheme.Hash.DigestSize()-2 {
			return nil, tpm2.RCValue
		}
		out, err = rsa.EncryptOAEP(scheme.Hash.New(), random, key.rsaPublic, message, label)
	default:
		return nil, tpm2.RCScheme
	}
	if err != nil {
		return nil, tpm2.RCNoResult
	}
	return out, tpm2.RCSuccess
}

// RSADecrypt decrypts with an RSA private key (Part 3, 14.3). It gives
// TPM_RC_SIZE where the ciphertext has not the modulus's length, TPM_RC_VALUE
// where it is not below the modulus or its padding is wrong, without telling
// which, and TPM_RC_SCHEME for a scheme that does not decrypt.
func RSADecrypt(key *Key, scheme tpm2.RSADecryptScheme, label, ciphertext []byte) ([]byte, tpm2.RC) {
	if len(ciphertext) != len(key.Public.Unique) {
		return nil, tpm2.RCSize
	}
	if !key.ready() {
		return nil, tpm2.RCFailure
	}
	if key.Public.Type != tpm2.AlgRSA || !key.Private() {
		return nil, tpm2.RCScheme
	}
	private := key.privateRSA()
	if private == nil {
		return nil, tpm2.RCFailure
	}
	var out []byte
	var err error
	switch scheme.Alg {
	case tpm2.AlgNull:
		return private.rawPrivate(ciphertext)
	case tpm2.AlgRSAES:
		//lint:ignore SA1019 as above; the command tells its caller whether it fails
		out, err = rsa.DecryptPKCS1v15(nil, private.key, ciphertext)
	case tpm2.AlgOAEP:
		if _, ok := scheme.Hash.Hash(); !ok {
			return nil, tpm2.RCValue
		}
		out, err = rsa.DecryptOAEP(scheme.Hash.New(), nil, private.key, ciphertext, label)
	default:
		return nil, tpm2.RCScheme
	}
	if err != nil {
		return nil, tpm2.RCValue
	}
	return out, tpm2.RCSuccess
}

// rawPublic is RSAEP (RFC 8017, 5.1.1) on a number of any length whose value
// is below the modulus. An even modulus, which is none of RSA, has no values.
func rawPublic(key *Key, message []byte) ([]byte, tpm2.RC) {
	if key.Public.Unique[len(key.Public.Unique)-1]&1 == 0 {
		return nil, tpm2.RCValue
	}
	modulus, err := bigmod.NewModulus(key.Public.Unique)
	if err != nil {
		return nil, tpm2.RCValue
	}
	m, ok := fit(message, len(key.Public.Unique))
	if !ok {
		return nil, tpm2.RCValue
	}
	n, err := bigmod.NewNat().SetBytes(m, modulus)
	if err != nil {
		return nil, tpm2.RCValue
	}
	e := publicExponent(key.Public.Exponent)
	return bigmod.NewNat().ExpShortVarTime(n, uint(e), modulus).Bytes(modulus), tpm2.RCSuccess
}

// rawPrivate is RSADP (RFC 8017, 5.1.2) by the Chinese remainder theorem, in
// constant time; the standard library has no private operation without padding.
func (k *RSAPrivate) rawPrivate(ciphertext []byte) ([]byte, tpm2.RC) {
	n, errN := bigmod.NewModulus(k.key.N.Bytes())
	p, errP := bigmod.NewModulus(k.key.Primes[0].Bytes())
	q, errQ := bigmod.NewModulus(k.key.Primes[1].Bytes())
	if errN != nil || errP != nil || errQ != nil {
		return nil, tpm2.RCFailure
	}
	c, err := bigmod.NewNat().SetBytes(ciphertext, n)
	if err != nil {
		return nil, tpm2.RCValue
	}
	pre := &k.key.Precomputed
	// The primes of a key from outside may differ in length.
	mp := bigmod.NewNat().Exp(bigmod.NewNat().Mod(c, p), pre.Dp.FillBytes(make([]byte, p.Size())), p)
	mq := bigmod.NewNat().Exp(bigmod.NewNat().Mod(c, q), pre.Dq.FillBytes(make([]byte, q.Size())), q)
	// m = mq + q·((mp - mq)·qInv mod p)
	h := mp.Sub(bigmod.NewNat().Mod(mq, p), p)
	qInv, err := bigmod.NewNat().SetBytes(pre.Qinv.FillBytes(make([]byte, p.Size())), p)
	if err != nil {
		return nil, tpm2.RCFailure
	}
	h.Mul(qInv, p).ExpandFor(n)
	wideQ, err := bigmod.NewNat().SetBytes(k.key.Primes[1].Bytes(), n)
	if err != nil {
		return nil, tpm2.RCFailure
	}
	m := h.Mul(wideQ, n).Add(mq.ExpandFor(n), n)
	return m.Bytes(n), tpm2.RCSuccess
}
