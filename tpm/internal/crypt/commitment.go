package crypt

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// commitTries bounds the candidates for a commitment's secret: on P-521 one in
// 128 is below the order, elsewhere nearly all or one in seven.
const commitTries = 100_000

// CommitmentSecret derives the secret r of a commitment from the TPM's nonce and
// the commitment's count (CryptGenerateR): a number below the curve's order, with
// its size. name is the key's that the commitment is made with, nil for
// TPM2_EC_Ephemeral. It is false for a curve that the algorithm registry does not
// name.
func CommitmentSecret(curve tpm2.ECCCurve, nonce []byte, name tpm2.Name, count uint64) ([]byte, bool) {
	c, ok := CurveOf(curve)
	if !ok {
		return nil, false
	}
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], count)
	counter := uint32(1)
	for range commitTries {
		r := kdfaFrom(&counter, tpm2.AlgSHA512, nonce, "ECDAA Commit", name, number[:], 8*c.size())
		// The reference code also wants a bit of the upper half set.
		if c.isScalar(r) && !zeros(r[:c.size()/2+1]) {
			return r, true
		}
		clear(r)
	}
	return nil, false
}

// zeros reports whether all of b is 0.
func zeros(b []byte) bool {
	var any byte
	for _, x := range b {
		any |= x
	}
	return any == 0
}

// CommitPoint is the point P2 of TPM2_Commit (Part 3, 19.2): x is the digest of s2
// modulo p. It gives TPM_RC_HASH for a key without a nameAlg.
func CommitPoint(key *Key, s2, y2 []byte) (p tpm2.ECCPoint, rc tpm2.RC) {
	c, ok := CurveOf(key.Public.Curve)
	if !ok {
		return p, tpm2.RCCurve
	}
	if key.Public.NameAlg.DigestSize() == 0 {
		return p, tpm2.RCHash
	}
	x := reduced(key.Public.NameAlg.Digest(s2), c.field)
	return tpm2.ECCPoint{X: x.Bytes(c.field), Y: y2}, tpm2.RCSuccess
}

// Commit computes the points of TPM2_Commit: K = [d]P2 and L = [r]P2, empty
// without a P2, and E = [r]P1, which is [r]G where there is neither and empty
// where there is a P2 alone. Codes are Curve.multiply's.
func Commit(key *Key, p1, p2 *tpm2.ECCPoint, r []byte) (k, l, e tpm2.ECCPoint, rc tpm2.RC) {
	if !key.ready() {
		return k, l, e, tpm2.RCFailure
	}
	c, ok := CurveOf(key.Public.Curve)
	if !ok || p2 != nil && key.ecc == nil {
		return k, l, e, tpm2.RCKey
	}
	if p2 != nil {
		if k, rc = c.multiply(p2, key.ecc.d); rc != tpm2.RCSuccess {
			return k, l, e, rc
		}
		if l, rc = c.multiply(p2, r); rc != tpm2.RCSuccess {
			return k, l, e, rc
		}
	}
	if p1 != nil || p2 == nil {
		e, rc = c.multiply(p1, r)
	}
	return k, l, e, rc
}

// CommitPublic is the point of a commitment that TPM2_EC_Ephemeral makes: [r]G.
func CommitPublic(curve tpm2.ECCCurve, r []byte) (tpm2.ECCPoint, tpm2.RC) {
	c, ok := CurveOf(curve)
	if !ok {
		return tpm2.ECCPoint{}, tpm2.RCCurve
	}
	return c.multiply(nil, r)
}
