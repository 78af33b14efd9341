package crypt

import (
	"encoding/binary"
	"io"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Protection is what an outer wrap is made with (Part 1, 22): encryption under
// a key that belongs to one Name, and an HMAC over the result.
type Protection struct {
	Hash tpm2.AlgID // KDF and HMAC
	Seed []byte     // of the parent, or exchanged by SecretEncrypt
	// Symmetric is the cipher; mode is CFB whatever it says.
	Symmetric tpm2.SymDef
}

// ProtectionOf is how a loaded parent protects its children.
func ProtectionOf(parent *Key) Protection {
	return Protection{
		Hash:      parent.Public.NameAlg,
		Seed:      parent.Sensitive.SeedValue,
		Symmetric: parent.Public.Symmetric,
	}
}

// ProtectionBy is how a seed protects what goes to the holder of a key:
// duplicated objects and credentials.
func ProtectionBy(key *Key, seed []byte) Protection {
	return Protection{Hash: key.Public.NameAlg, Seed: seed, Symmetric: key.Public.Symmetric}
}

// Wrap encrypts data for the object of that Name and puts the HMAC before it.
// With a random source it draws an IV, which goes between the two; without one
// the IV is zero, as it is where the seed is used once. It gives
// TPM_RC_SYMMETRIC for a cipher that is not implemented, and TPM_RC_NO_RESULT
// where the random source fails.
func (p Protection) Wrap(name, data []byte, random io.Reader) ([]byte, tpm2.RC) {
	macSize := p.Hash.DigestSize()
	iv := make([]byte, CipherBlockSize(p.Symmetric.Alg))
	out := make([]byte, 2+macSize, 2+macSize+2+len(iv)+len(data))
	if random != nil {
		if _, err := io.ReadFull(random, iv); err != nil {
			return nil, tpm2.RCNoResult
		}
		out = append2B(out, iv)
	}
	body := len(out)
	out = append(out, data...)
	if rc := p.crypt(name, iv, out[body:], true); rc != tpm2.RCSuccess {
		return nil, rc
	}
	binary.BigEndian.PutUint16(out, uint16(macSize))
	copy(out[2:], p.mac(out[2+macSize:], name))
	return out, tpm2.RCSuccess
}

// Unwrap is Wrap's inverse, in new memory; withIV says whether there is an IV.
// It gives TPM_RC_INTEGRITY where the HMAC is wrong, TPM_RC_SIZE and
// TPM_RC_INSUFFICIENT for a blob that is cut, and TPM_RC_VALUE for an IV of
// another size than a block.
func (p Protection) Unwrap(name, blob []byte, withIV bool) ([]byte, tpm2.RC) {
	mac, rest, rc := split2B(blob, tpm2.MaxDigestSize)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	if !Equal(mac, p.mac(rest, name)) {
		return nil, tpm2.RCIntegrity
	}
	iv := make([]byte, CipherBlockSize(p.Symmetric.Alg))
	if withIV {
		var given []byte
		if given, rest, rc = split2B(rest, BlockSize); rc != tpm2.RCSuccess {
			return nil, rc
		}
		if len(given) != len(iv) {
			return nil, tpm2.RCValue
		}
		copy(iv, given)
	}
	data := append([]byte{}, rest...)
	return data, p.crypt(name, iv, data, false)
}

func (p Protection) crypt(name, iv, data []byte, encrypt bool) tpm2.RC {
	key := KDFa(p.Hash, p.Seed, LabelStorage, name, nil, int(p.Symmetric.KeyBits))
	defer clear(key)
	return symmetric(p.Symmetric.Alg, key, tpm2.AlgCFB, iv, data, encrypt)
}

func (p Protection) mac(data, name []byte) []byte {
	key := KDFa(p.Hash, p.Seed, LabelIntegrity, nil, nil, 8*p.Hash.DigestSize())
	defer clear(key)
	return HMAC(p.Hash, key, data, name)
}

func append2B(b, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

// split2B takes a TPM2B of at most limit bytes off the front.
func split2B(b []byte, limit int) (value, rest []byte, rc tpm2.RC) {
	if len(b) < 2 {
		return nil, nil, tpm2.RCInsufficient
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > limit {
		return nil, nil, tpm2.RCSize
	}
	if n > len(b)-2 {
		return nil, nil, tpm2.RCInsufficient
	}
	return b[2 : 2+n], b[2+n:], tpm2.RCSuccess
}
