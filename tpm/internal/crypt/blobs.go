package crypt

import (
	"encoding/binary"
	"io"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// SensitiveToPrivate wraps a child's sensitive area under its parent: the
// outPrivate of Create, Import and ObjectChangeAuth (Part 1, 22.3). name and
// nameAlg are the child's. Codes are Wrap's.
func SensitiveToPrivate(parent *Key, name []byte, nameAlg tpm2.AlgID, sens *tpm2.Sensitive, random io.Reader) (tpm2.Private, tpm2.RC) {
	data := marshalSensitive(sens, nameAlg)
	defer clear(data)
	return ProtectionOf(parent).Wrap(name, data, random)
}

// PrivateToSensitive is SensitiveToPrivate's inverse (Part 3, 12.2). Codes are
// Unwrap's, TPM_RC_INSUFFICIENT where what was wrapped does not even have a size,
// and TPM_RC_SENSITIVE where it is no sensitive area.
func PrivateToSensitive(parent *Key, name []byte, private tpm2.Private) (*tpm2.Sensitive, tpm2.RC) {
	data, rc := ProtectionOf(parent).Unwrap(name, private, true)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	if len(data) < 2 {
		return nil, tpm2.RCInsufficient
	}
	sens, rc := unmarshalSensitive(data)
	if rc != tpm2.RCSuccess {
		return nil, tpm2.RCSensitive
	}
	return sens, tpm2.RCSuccess
}

// marshalSensitive is the TPM2B_SENSITIVE. The authValue is padded with zeros
// to the digest size, so that the length of the blob does not tell its own.
func marshalSensitive(sens *tpm2.Sensitive, nameAlg tpm2.AlgID) []byte {
	s := *sens
	if pad := nameAlg.DigestSize() - len(s.AuthValue); pad > 0 {
		s.AuthValue = append(append(tpm2.Digest{}, s.AuthValue...), make([]byte, pad)...)
	}
	body := tpm2.Marshal(&s)
	defer clear(body)
	return append2B(make([]byte, 0, 2+len(body)), body)
}

func unmarshalSensitive(data []byte) (*tpm2.Sensitive, tpm2.RC) {
	if len(data) < 2 {
		return nil, tpm2.RCInsufficient
	}
	if len(data)-2 != int(binary.BigEndian.Uint16(data)) {
		return nil, tpm2.RCSize // of a part that is missing too, as in the reference code
	}
	var sens tpm2.Sensitive
	c := tpm2.NewDecoder(data[2:])
	if sens.Walk(&c); c.RC() != tpm2.RCSuccess {
		return nil, c.RC()
	}
	if c.Remaining() != 0 {
		return nil, tpm2.RCSize
	}
	return &sens, tpm2.RCSuccess
}

// SensitiveToDuplicate makes a duplication blob (Part 1, 23.3; Part 3, 13.1):
// an inner wrap under innerKey unless its cipher is null, and an outer wrap
// under newParent and seed unless the seed is empty. innerKey has the cipher's
// key size; newParent may be nil without a seed. Codes are Wrap's.
func SensitiveToDuplicate(newParent *Key, seed, name []byte, nameAlg tpm2.AlgID, inner tpm2.SymDef, innerKey []byte, sens *tpm2.Sensitive) (tpm2.Private, tpm2.RC) {
	data := marshalSensitive(sens, nameAlg)
	if inner.Alg != tpm2.AlgNull {
		digest := nameAlg.Digest(data, name)
		data = append(append2B(nil, digest), data...)
		if rc := innerCrypt(inner, innerKey, data, true); rc != tpm2.RCSuccess {
			return nil, rc
		}
	}
	if len(seed) == 0 {
		return data, tpm2.RCSuccess
	}
	return ProtectionBy(newParent, seed).Wrap(name, data, nil)
}

// DuplicateToSensitive is SensitiveToDuplicate's inverse (Part 3, 13.3). Codes
// are Unwrap's; a wrong inner digest is TPM_RC_INTEGRITY; a sensitive area that
// does not decode has its own code.
func DuplicateToSensitive(newParent *Key, seed, name []byte, nameAlg tpm2.AlgID, inner tpm2.SymDef, innerKey []byte, duplicate tpm2.Private) (*tpm2.Sensitive, tpm2.RC) {
	data := append([]byte{}, duplicate...)
	if len(seed) != 0 {
		var rc tpm2.RC
		if data, rc = ProtectionBy(newParent, seed).Unwrap(name, duplicate, false); rc != tpm2.RCSuccess {
			return nil, rc
		}
	}
	if inner.Alg != tpm2.AlgNull {
		if rc := innerCrypt(inner, innerKey, data, false); rc != tpm2.RCSuccess {
			return nil, rc
		}
		digest, rest, rc := split2B(data, tpm2.MaxDigestSize)
		if rc != tpm2.RCSuccess {
			return nil, rc
		}
		if !Equal(digest, nameAlg.Digest(rest, name)) {
			return nil, tpm2.RCIntegrity
		}
		data = rest
	}
	return unmarshalSensitive(data)
}

// innerCrypt runs the inner wrap's cipher, with an IV of zeros.
func innerCrypt(inner tpm2.SymDef, key, data []byte, encrypt bool) tpm2.RC {
	if len(key) != int(inner.KeyBits)/8 {
		return tpm2.RCSize
	}
	return symmetric(inner.Alg, key, tpm2.AlgCFB, nil, data, encrypt)
}

// SecretToCredential makes a credential blob for the object of that Name, under
// a seed shared with the holder of key (Part 1, 24.4; Part 3, 12.6). Codes are
// Wrap's.
func SecretToCredential(key *Key, seed, name, secret []byte) (tpm2.IDObject, tpm2.RC) {
	data := append2B(nil, secret)
	defer clear(data)
	return ProtectionBy(key, seed).Wrap(name, data, nil)
}

// CredentialToSecret is SecretToCredential's inverse (Part 3, 12.5). Codes are
// Unwrap's, and TPM_RC_SIZE for bytes after the secret.
func CredentialToSecret(key *Key, seed, name []byte, credential tpm2.IDObject) ([]byte, tpm2.RC) {
	data, rc := ProtectionBy(key, seed).Unwrap(name, credential, false)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	secret, rest, rc := split2B(data, tpm2.MaxDigestSize)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	if len(rest) != 0 {
		return nil, tpm2.RCSize
	}
	return secret, tpm2.RCSuccess
}
