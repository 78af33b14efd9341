package crypt

import (
	"crypto/hmac"
	"crypto/subtle"
	"encoding/binary"
	"hash"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Labels of the key derivations of Part 1. KDFa and KDFe add the terminating
// NUL that the specification counts as part of a label.
const (
	LabelSecret    = "SECRET"    // salted sessions (Part 1, B.10.2 and C.6.2)
	LabelDuplicate = "DUPLICATE" // duplication and import (B.10.3, C.6.3)
	LabelIdentity  = "IDENTITY"  // credentials (B.10.4, C.6.4)
	LabelStorage   = "STORAGE"   // symmetric key of an outer wrap (22.4)
	LabelIntegrity = "INTEGRITY" // HMAC key of an outer wrap (22.5)
	LabelSession   = "ATH"       // session key (19.6.8)
	LabelCFB       = "CFB"       // parameter encryption (21.3)
	LabelXOR       = "XOR"       // XOR obfuscation (11.4.6.3)
	LabelContext   = "CONTEXT"   // saved contexts (30.3.1)
)

// KDFa is the counter-mode KDF of SP 800-108 with HMAC (Part 1, 11.4.10.2). It
// gives ceil(bits/8) bytes; where bits is no multiple of 8 the spare high bits
// of the first byte are zero. alg must be an implemented hash algorithm.
func KDFa(alg tpm2.AlgID, key []byte, label string, contextU, contextV []byte, bits int) []byte {
	return kdfaFrom(new(uint32), alg, key, label, contextU, contextV, bits)
}

// kdfaFrom is KDFa that counts its blocks on from counter.
func kdfaFrom(counter *uint32, alg tpm2.AlgID, key []byte, label string, contextU, contextV []byte, bits int) []byte {
	size := (bits + 7) / 8
	mac := hmac.New(alg.New, key)
	fixed := make([]byte, 0, 64)
	fixed = append(append(fixed, label...), 0)
	fixed = append(append(fixed, contextU...), contextV...)
	fixed = binary.BigEndian.AppendUint32(fixed, uint32(bits))

	out := make([]byte, 0, size+alg.DigestSize())
	var block [4]byte
	for len(out) < size {
		*counter++
		binary.BigEndian.PutUint32(block[:], *counter)
		if len(out) > 0 {
			mac.Reset() // costs as much as the HMAC itself
		}
		mac.Write(block[:])
		mac.Write(fixed)
		out = mac.Sum(out)
	}
	clear(out[size:])
	return maskBits(out[:size:size], bits)
}

// KDFe is the one-step KDF of SP 800-56A (Part 1, 11.4.10.3), for secrets from
// a Diffie-Hellman exchange: z is the x coordinate of the shared point, partyU
// and partyV the x coordinates of the two public keys. It gives ceil(bits/8)
// bytes, masked as KDFa masks. alg must be an implemented hash algorithm.
func KDFe(alg tpm2.AlgID, z []byte, label string, partyU, partyV []byte, bits int) []byte {
	size := (bits + 7) / 8
	h := alg.New()
	fixed := make([]byte, 0, 160)
	fixed = append(append(fixed, label...), 0)
	fixed = append(append(fixed, partyU...), partyV...)

	out := make([]byte, 0, size+alg.DigestSize())
	var counter [4]byte
	for i := uint32(1); len(out) < size; i++ {
		binary.BigEndian.PutUint32(counter[:], i)
		h.Reset()
		h.Write(counter[:])
		h.Write(z)
		h.Write(fixed)
		out = h.Sum(out)
	}
	clear(out[size:])
	return maskBits(out[:size:size], bits)
}

func maskBits(b []byte, bits int) []byte {
	if spare := bits % 8; spare != 0 {
		b[0] &= 1<<spare - 1
	}
	return b
}

// HMAC is the HMAC of the concatenation of parts. alg must be an implemented
// hash algorithm.
func HMAC(alg tpm2.AlgID, key []byte, parts ...[]byte) []byte {
	mac := hmac.New(alg.New, key)
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(make([]byte, 0, alg.DigestSize()))
}

// NewHMAC starts an HMAC. alg must be an implemented hash algorithm.
func NewHMAC(alg tpm2.AlgID, key []byte) hash.Hash { return hmac.New(alg.New, key) }

// Equal compares two secrets in a time that depends on their lengths alone.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// XORObfuscate XORs data in place with the mask of Part 1, 11.4.6.3. It is its
// own inverse.
func XORObfuscate(alg tpm2.AlgID, key, contextU, contextV, data []byte) {
	if len(data) == 0 {
		return
	}
	mask := KDFa(alg, key, LabelXOR, contextU, contextV, 8*len(data))
	subtle.XORBytes(data, data, mask)
	clear(mask)
}
