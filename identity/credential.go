package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// SecretSize is the size in bytes of the secret in a challenge: any EK's
// nameAlg has a digest of at least that (Part 3, 12.6: the credential fits it).
const SecretSize = 20

// Credential is a secret that only one TPM can read, while it holds one object.
type Credential struct {
	// Blob is a TPM2B_ID_OBJECT, Secret a TPM2B_ENCRYPTED_SECRET, both with
	// their sizes: the parameters of TPM2_ActivateCredential.
	Blob   []byte `json:"blob"`
	Secret []byte `json:"encryptedSecret"`
}

// MakeCredential does in software what TPM2_MakeCredential does (Part 1, 24;
// Part 3, 12.6): it encrypts secret to an EK so that its TPM gives the secret
// only for the object with the Name. Randomness is crypto/rand's.
func MakeCredential(ek *tpm2.Public, name tpm2.Name, secret []byte) (*Credential, error) {
	if err := CheckEK(ek); err != nil {
		return nil, err
	}
	size := ek.NameAlg.DigestSize()
	if size == 0 || len(secret) == 0 || len(secret) > size {
		return nil, fmt.Errorf("a secret of %d bytes does not fit the endorsement key's name algorithm %v", len(secret), ek.NameAlg)
	}
	key, err := FromPublic(ek)
	if err != nil {
		return nil, err
	}
	seed, encrypted, err := encapsulate(key, ek.NameAlg)
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	sym := kdfa(ek.NameAlg, seed, "STORAGE", name, nil, int(ek.Symmetric.KeyBits))
	defer clear(sym)
	block, err := aes.NewCipher(sym)
	if err != nil {
		return nil, fmt.Errorf("the endorsement key names an AES key of %d bits: %w", ek.Symmetric.KeyBits, err)
	}
	identity := appendSized(nil, secret)
	cfb(block, identity)
	mac := hmac.New(ek.NameAlg.New, kdfa(ek.NameAlg, seed, "INTEGRITY", nil, nil, 8*size))
	mac.Write(identity)
	mac.Write(name)
	return &Credential{
		Blob:   appendSized(nil, append(appendSized(nil, mac.Sum(nil)), identity...)),
		Secret: appendSized(nil, encrypted),
	}, nil
}

// encapsulate makes a seed and its encryption to the key (Part 1, B.10.3 and C.6.3).
func encapsulate(key *Key, alg tpm2.AlgID) (seed, encrypted []byte, err error) {
	switch k := key.Crypto.(type) {
	case *rsa.PublicKey:
		seed = make([]byte, alg.DigestSize())
		if _, err := io.ReadFull(rand.Reader, seed); err != nil {
			return nil, nil, fmt.Errorf("cannot draw a seed: %w", err)
		}
		encrypted, err = rsa.EncryptOAEP(alg.New(), rand.Reader, k, seed, []byte("IDENTITY\x00"))
		if err != nil {
			return nil, nil, fmt.Errorf("cannot encrypt to the endorsement key: %w", err)
		}
		return seed, encrypted, nil
	case *ecdsa.PublicKey:
		return encapsulateECC(k, alg)
	}
	return nil, nil, errors.New("the endorsement key is neither RSA nor ECC")
}

func encapsulateECC(k *ecdsa.PublicKey, alg tpm2.AlgID) (seed, encrypted []byte, err error) {
	peer, err := k.ECDH()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot encrypt to the endorsement key: %w", err)
	}
	own, err := peer.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make an ephemeral key: %w", err)
	}
	z, err := own.ECDH(peer)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot agree on a seed with the endorsement key: %w", err)
	}
	defer clear(z)
	x, y := coordinates(own.PublicKey())
	peerX, _ := coordinates(peer)
	seed = kdfe(alg, z, "IDENTITY", x, peerX)
	return seed, appendSized(appendSized(nil, x), y), nil
}

// coordinates splits the uncompressed point 4 || x || y.
func coordinates(k *ecdh.PublicKey) (x, y []byte) {
	p := k.Bytes()[1:]
	return p[:len(p)/2], p[len(p)/2:]
}

func appendSized(b, content []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(content))), content...)
}

// cfb encrypts b in place with AES-CFB and a zero IV. The standard library
// calls its own CFB deprecated as it has no integrity, which the HMAC gives here.
func cfb(block cipher.Block, b []byte) {
	feedback := make([]byte, block.BlockSize())
	for len(b) > 0 {
		block.Encrypt(feedback, feedback)
		n := subtle.XORBytes(b, b, feedback)
		copy(feedback, b[:n])
		b = b[n:]
	}
}

// kdfa is KDFa, SP 800-108 in counter mode with HMAC (Part 1, 11.4.10.2). bits
// is a multiple of 8.
func kdfa(alg tpm2.AlgID, key []byte, label string, u, v []byte, bits int) []byte {
	var out []byte
	for i := uint32(1); len(out) < bits/8; i++ {
		h := hmac.New(alg.New, key)
		h.Write(binary.BigEndian.AppendUint32(nil, i))
		h.Write(append([]byte(label), 0))
		h.Write(u)
		h.Write(v)
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(bits)))
		out = h.Sum(out)
	}
	return out[:bits/8]
}

// kdfe is KDFe, SP 800-56A's concatenation KDF (Part 1, 11.4.10.3), for one
// digest, which is what a seed is.
func kdfe(alg tpm2.AlgID, z []byte, label string, u, v []byte) []byte {
	return alg.Digest([]byte{0, 0, 0, 1}, z, append([]byte(label), 0), u, v)
}

// Challenge is what a verifier keeps to itself until the secret comes back.
type Challenge struct {
	// Secret is what the credential hides, SecretSize bytes.
	Secret []byte
	// EKName and AKName are the Names it was made for.
	EKName, AKName tpm2.Name
}

// NewChallenge draws a secret and makes the credential for an EK and an AK.
func NewChallenge(ek, ak *tpm2.Public) (*Challenge, *Credential, error) {
	if err := CheckAK(ak); err != nil {
		return nil, nil, err
	}
	c := &Challenge{Secret: make([]byte, SecretSize), EKName: ek.Name(), AKName: ak.Name()}
	if _, err := io.ReadFull(rand.Reader, c.Secret); err != nil {
		return nil, nil, fmt.Errorf("cannot draw a secret: %w", err)
	}
	cred, err := MakeCredential(ek, c.AKName, c.Secret)
	if err != nil {
		return nil, nil, err
	}
	return c, cred, nil
}

// Answered says why the secret that came back for an AK does not prove that it
// lives in the EK's TPM; nil if it does. The secret is compared in constant time.
func (c *Challenge) Answered(ek, ak *tpm2.Public, secret []byte) error {
	switch {
	case string(c.EKName) != string(ek.Name()):
		return errors.New("the challenge was made for another endorsement key")
	case string(c.AKName) != string(ak.Name()):
		return errors.New("the challenge was made for another attestation key")
	case len(c.Secret) == 0 || subtle.ConstantTimeCompare(c.Secret, secret) != 1:
		return errors.New("the secret that came back is not the one that was sent: the attestation key is not in the endorsement key's TPM")
	}
	return nil
}
