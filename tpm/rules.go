package tpm

import (
	"bytes"
	"errors"
	"io"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// The rules of the profile, where they bite: what libtpms refuses with its
// attributes, by the same codes.

// signDigest signs with a key, nil for none, where the profile lets it.
func (e *Engine) signDigest(c *call, key *crypt.Key, scheme tpm2.SigScheme, digest []byte) (tpm2.Signature, tpm2.RC) {
	if key != nil && scheme.Alg != tpm2.AlgNull {
		e.require(setOf(scheme.Alg))
		hmac := key.Public.Type == tpm2.AlgKeyedHash
		switch {
		case scheme.Hash == tpm2.AlgSHA1 && e.profile.has(hashRule(hmac, noSHA1Signing, noSHA1HMACCreation)):
			return tpm2.Signature{}, tpm2.RCHash
		case hmac && e.profile.tooShort(key):
			return tpm2.Signature{}, tpm2.RCKeySize
		}
		if scheme.Alg == tpm2.AlgECDAA {
			return e.signSplit(c, key, scheme, digest)
		}
	}
	return crypt.SignDigest(key, scheme, digest, e.cfg.Entropy)
}

// verifyDigest checks a signature where the profile lets it.
func (e *Engine) verifyDigest(key *crypt.Key, digest []byte, sig *tpm2.Signature) tpm2.RC {
	e.require(setOf(sig.Alg))
	rc := crypt.VerifySignature(key, digest, sig)
	hmac := key.Public.Type == tpm2.AlgKeyedHash
	switch {
	case rc != tpm2.RCSuccess && rc != tpm2.RCSignature, sig.Alg == tpm2.AlgNull:
		return rc
	case hmac && e.profile.tooShort(key):
		return tpm2.RCKeySize
	case sig.Hash == tpm2.AlgSHA1 && e.profile.has(hashRule(hmac, noSHA1Verification, noSHA1HMACVerification)):
		return tpm2.RCHash
	}
	return rc
}

// hashRule is the rule for signatures or that for HMACs.
func hashRule(hmac bool, signature, mac rule) rule {
	if hmac {
		return mac
	}
	return signature
}

// tooShort reports whether the key of an HMAC is shorter than the profile asks.
func (p *Profile) tooShort(key *crypt.Key) bool { return len(key.Sensitive.Sensitive)*8 < p.minHMAC }

// mayDecryptWith refuses RSA without a padding where the profile does.
func (e *Engine) mayDecryptWith(scheme tpm2.RSADecryptScheme) tpm2.RC {
	if scheme.Alg == tpm2.AlgNull && e.profile.has(noUnpaddedEncryption) {
		return tpm2.RCScheme
	}
	return tpm2.RCSuccess
}

// mayMAC refuses HMACs with SHA-1 where the profile does.
func (e *Engine) mayMAC(alg tpm2.AlgID) tpm2.RC {
	if alg == tpm2.AlgSHA1 && e.profile.has(noSHA1HMACCreation) {
		return tpm2.RCHash
	}
	return tpm2.RCSuccess
}

// derivingCommands use ECC keys that are derived from a seed each time.
var derivingCommands = ccSetOf(tpm2.CCCommit, tpm2.CCECEphemeral, tpm2.CCZGen2Phase)

// mayRun refuses commands that the profile's rules have no use for.
func (e *Engine) mayRun(cc tpm2.CC) tpm2.RC {
	if e.profile.rules != 0 && derivingCommands.has(cc) {
		return e.mayDeriveECC()
	}
	return tpm2.RCSuccess
}

// mayDeriveECC refuses ECC keys that are not drawn at random where the profile
// does.
func (e *Engine) mayDeriveECC() tpm2.RC {
	if e.profile.has(noECCKeyDerivation) {
		return tpm2.RCType
	}
	return tpm2.RCSuccess
}

// checkNewKey makes a new RSA key or ECC signing key prove itself where the
// profile asks: it signs and verifies, and RSA encrypts and decrypts. One that
// does not is a defect of the TPM: failure mode.
func (e *Engine) checkNewKey(key *crypt.Key) {
	rsa := key.Public.Type == tpm2.AlgRSA
	if !e.profile.has(pairwiseTest) || !rsa && key.Public.Type != tpm2.AlgECC {
		return
	}
	digest := e.random(tpm2.AlgSHA256.DigestSize())
	if rsa && !e.decryptsItsOwn(key, digest) {
		panic("a new key does not decrypt what it encrypted")
	}
	if !rsa && !key.Public.Attributes.Has(tpm2.ObjSign) {
		return
	}
	scheme := tpm2.SigScheme{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256}
	if rsa {
		scheme.Alg = tpm2.AlgRSASSA
	}
	sig, rc := crypt.SignDigest(key, scheme, digest, e.cfg.Entropy)
	if rc != tpm2.RCSuccess || crypt.VerifySignature(key, digest, &sig) != tpm2.RCSuccess {
		panic("a new key does not verify what it signed")
	}
}

func (e *Engine) decryptsItsOwn(key *crypt.Key, data []byte) bool {
	scheme := tpm2.RSADecryptScheme{Alg: tpm2.AlgOAEP, Hash: tpm2.AlgSHA256}
	secret, rc := crypt.RSAEncrypt(key, scheme, nil, data, e.cfg.Entropy)
	if rc != tpm2.RCSuccess {
		return false
	}
	got, rc := crypt.RSADecrypt(key, scheme, nil, secret)
	return rc == tpm2.RCSuccess && bytes.Equal(got, data)
}

// continuous is a random source that fails when it gives the same block twice
// in a row (the continuous test of FIPS 140-2, 4.9.2).
type continuous struct {
	source io.Reader
	last   [continuousBlock]byte
	some   bool // last is one
}

// continuousBlock is the length in bytes of the blocks compared.
const continuousBlock = 16

var errStuck = errors.New("the random generator gave the same block twice")

// Read fills p by whole blocks; what of the last one is not asked for is
// dropped.
func (r *continuous) Read(p []byte) (n int, err error) {
	for n < len(p) {
		var b [continuousBlock]byte
		if _, err := io.ReadFull(r.source, b[:]); err != nil {
			return n, err
		}
		if r.some && b == r.last {
			return n, errStuck
		}
		r.last, r.some = b, true
		n += copy(p[n:], b[:])
	}
	return n, nil
}
