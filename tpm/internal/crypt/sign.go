package crypt

import (
	"crypto"
	"crypto/rsa"
	"io"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// SelectSignScheme resolves the scheme of a signing command against the key's
// own (Part 3, 20.2): a key's scheme wins over null, two that differ do not
// agree. ECDAA must be named, since the caller says with it which commitment is
// meant. It gives TPM_RC_SCHEME where nothing usable results, and for keys of a
// type that cannot sign.
func SelectSignScheme(key *Key, want tpm2.SigScheme) (tpm2.SigScheme, tpm2.RC) {
	if key.Public.Type == tpm2.AlgSymCipher {
		return want, tpm2.RCScheme
	}
	own := tpm2.SigScheme(key.Public.Scheme)
	switch {
	case own.Alg == tpm2.AlgNull:
	case want.Alg == tpm2.AlgNull && own.Alg != tpm2.AlgECDAA:
		want = own
	case own.Alg != want.Alg || own.Hash != want.Hash:
		return want, tpm2.RCScheme
	}
	if _, ok := want.Hash.Hash(); !ok || !signs(key.Public.Type, want.Alg) {
		return want, tpm2.RCScheme
	}
	return want, tpm2.RCSuccess
}

// signs tells whether keys of a type sign with a scheme.
func signs(keyType, scheme tpm2.AlgID) bool {
	return scheme == tpm2.AlgHMAC && keyType == tpm2.AlgKeyedHash || IsSignScheme(keyType, scheme)
}

// IsSignScheme tells whether asymmetric keys of a type sign with a scheme.
func IsSignScheme(keyType, scheme tpm2.AlgID) bool {
	switch scheme {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		return keyType == tpm2.AlgRSA
	case tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgECSchnorr, tpm2.AlgSM2:
		return keyType == tpm2.AlgECC
	}
	return false
}

// SignDigest signs a digest (Part 1, B.5, B.6, C.4 and 11.4.3). scheme is one
// that SelectSignScheme gave, but for ECDAA, see SignECDAA; the null scheme or a
// nil key give the null signature. RSAPSS salts have the digest's length.
//
// It gives TPM_RC_SCHEME for a scheme the key has not and for ECDAA, TPM_RC_VALUE where the
// digest has not the length of an RSA scheme's hash, and TPM_RC_NO_RESULT where
// the random source fails.
func SignDigest(key *Key, scheme tpm2.SigScheme, digest []byte, random io.Reader) (tpm2.Signature, tpm2.RC) {
	if key == nil || scheme.Alg == tpm2.AlgNull {
		return tpm2.Signature{Alg: tpm2.AlgNull}, tpm2.RCSuccess
	}
	if !key.ready() {
		return tpm2.Signature{}, tpm2.RCFailure
	}
	sig := tpm2.Signature{Alg: scheme.Alg, Hash: scheme.Hash}
	hash, ok := scheme.Hash.Hash()
	if !ok || !signs(key.Public.Type, scheme.Alg) || !key.Private() {
		return sig, tpm2.RCScheme
	}
	switch scheme.Alg {
	case tpm2.AlgHMAC:
		sig.HMAC = HMAC(scheme.Hash, key.Sensitive.Sensitive, digest)
		return sig, tpm2.RCSuccess
	case tpm2.AlgECDSA, tpm2.AlgECSchnorr, tpm2.AlgSM2, tpm2.AlgECDAA:
		return signECC(key, sig, digest, random)
	}
	if len(digest) != hash.Size() {
		return sig, tpm2.RCValue
	}
	private := key.privateRSA()
	if private == nil {
		return sig, tpm2.RCFailure
	}
	var err error
	if scheme.Alg == tpm2.AlgRSASSA {
		sig.RSA, err = rsa.SignPKCS1v15(nil, private.key, hash, digest)
	} else {
		opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		sig.RSA, err = rsa.SignPSS(random, private.key, hash, digest, opts)
	}
	if err != nil {
		return sig, tpm2.RCNoResult
	}
	return sig, tpm2.RCSuccess
}

// VerifySignature checks a signature over a digest. RSAPSS salts may have any
// length. It gives TPM_RC_SIGNATURE where the signature is not good,
// TPM_RC_SCHEME where the key cannot have made one of that scheme and for ECDAA,
// TPM_RC_FAILURE for ECDSA by a key whose point is none, and TPM_RC_HANDLE for an
// HMAC where only the key's public area is loaded.
func VerifySignature(key *Key, digest []byte, sig *tpm2.Signature) tpm2.RC {
	if sig.Alg == tpm2.AlgNull {
		return tpm2.RCSignature
	}
	if !key.ready() {
		return tpm2.RCFailure
	}
	if key.Public.Type == tpm2.AlgKeyedHash && !key.Private() {
		return tpm2.RCHandle
	}
	hash, ok := sig.Hash.Hash()
	if !ok || !signs(key.Public.Type, sig.Alg) {
		return tpm2.RCScheme
	}
	switch sig.Alg {
	case tpm2.AlgHMAC:
		own := key.Public.Scheme
		if own.Alg != tpm2.AlgNull && (own.Alg != sig.Alg || own.Hash != sig.Hash) {
			return tpm2.RCSignature
		}
		return good(Equal(HMAC(sig.Hash, key.Sensitive.Sensitive, digest), sig.HMAC))
	case tpm2.AlgECDSA, tpm2.AlgECSchnorr, tpm2.AlgSM2, tpm2.AlgECDAA:
		return verifyECC(key, digest, sig)
	}
	return good(verifyRSA(key, hash, digest, sig))
}

func verifyRSA(key *Key, hash crypto.Hash, digest []byte, sig *tpm2.Signature) bool {
	if len(digest) != hash.Size() || len(sig.RSA) != len(key.Public.Unique) {
		return false
	}
	if sig.Alg == tpm2.AlgRSASSA {
		return rsa.VerifyPKCS1v15(key.rsaPublic, hash, digest, sig.RSA) == nil
	}
	opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}
	return rsa.VerifyPSS(key.rsaPublic, hash, digest, sig.RSA, opts) == nil
}

func good(ok bool) tpm2.RC {
	if ok {
		return tpm2.RCSuccess
	}
	return tpm2.RCSignature
}
