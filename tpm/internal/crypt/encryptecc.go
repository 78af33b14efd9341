package crypt

import (
	"crypto/subtle"
	"encoding/binary"
	"io"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// SelectKDF resolves the scheme of TPM2_ECC_Encrypt and ECC_Decrypt against the
// key's own key derivation: the key's wins over null. It gives TPM_RC_SCHEME where
// both are null or two differ.
func SelectKDF(key *Key, want tpm2.KDFScheme) (tpm2.KDFScheme, tpm2.RC) {
	own := tpm2.KDFScheme(key.Public.KDF)
	switch {
	case want.Alg == tpm2.AlgNull && own.Alg == tpm2.AlgNull:
		return want, tpm2.RCScheme
	case want.Alg == tpm2.AlgNull:
		want = own
	case own.Alg != tpm2.AlgNull && own != want:
		return want, tpm2.RCScheme
	}
	return want, tpm2.RCSuccess
}

// ECCEncrypt encrypts a message to an ECC key (version 1.83, Part 1, C.8; SM2's
// encryption, GB/T 32918.4, with any hash algorithm): c1 is an ephemeral point, c2
// as long as the message, c3 a digest.
//
// It gives TPM_RC_SCHEME for a key derivation other than KDF2, and
// TPM_RC_NO_RESULT where the key's point is not on its curve or the random source
// fails.
func ECCEncrypt(key *Key, scheme tpm2.KDFScheme, message []byte, random io.Reader) (c1 tpm2.ECCPoint, c2, c3 []byte, rc tpm2.RC) {
	if scheme.Alg != tpm2.AlgKDF2 {
		return c1, nil, nil, tpm2.RCScheme
	}
	c1, shared, rc := Ephemeral(key, random)
	if rc != tpm2.RCSuccess {
		return c1, nil, nil, tpm2.RCNoResult
	}
	defer wipePoint(&shared)
	return c1, kdf2XOR(scheme.Hash, &shared, message), scheme.Hash.Digest(shared.X, message, shared.Y), tpm2.RCSuccess
}

// ECCDecrypt is ECCEncrypt's inverse. It gives TPM_RC_SCHEME as ECCEncrypt does,
// TPM_RC_NO_RESULT for a c1 that is not on the key's curve, and TPM_RC_VALUE where c3
// is not the message's digest.
func ECCDecrypt(key *Key, scheme tpm2.KDFScheme, c1 tpm2.ECCPoint, c2, c3 []byte) ([]byte, tpm2.RC) {
	if scheme.Alg != tpm2.AlgKDF2 {
		return nil, tpm2.RCScheme
	}
	shared, rc := Multiply(key, c1)
	if rc != tpm2.RCSuccess {
		return nil, tpm2.RCNoResult
	}
	defer wipePoint(&shared)
	message := kdf2XOR(scheme.Hash, &shared, c2)
	if !Equal(scheme.Hash.Digest(shared.X, message, shared.Y), c3) {
		clear(message)
		return nil, tpm2.RCValue
	}
	return message, tpm2.RCSuccess
}

// kdf2XOR is data XORed with the output of KDF2 (ISO/IEC 18033-2, 6.2.3) over a
// point.
func kdf2XOR(hash tpm2.AlgID, z *tpm2.ECCPoint, data []byte) []byte {
	out := make([]byte, len(data))
	for done, counter := 0, uint32(1); done < len(data); counter++ {
		mask := hash.Digest(z.X, z.Y, binary.BigEndian.AppendUint32(nil, counter))
		done += subtle.XORBytes(out[done:], data[done:], mask)
	}
	return out
}

func wipePoint(p *tpm2.ECCPoint) { clear(p.X); clear(p.Y) }
