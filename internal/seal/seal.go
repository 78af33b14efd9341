// Package seal encrypts saved states under a key that somebody keeps elsewhere: a
// key of 128 or 256 bits, or a passphrase.
//
// All integers are big-endian:
//
//	magic "ASHLARSE" | u16 version | u16 minimum version | u16 kind
//	u8 derivation | u8 lanes | u32 passes | u32 memory in KiB
//	salt [32] | check [32] | nonce [32]
//	AES-256-GCM of the state: as long as it, and 16 bytes of tag
//
// The root is made of the salt and of a key by HKDF-Extract (derivation 1, lanes,
// passes and memory are 0), or of a passphrase by Argon2id (derivation 2); HKDF and
// its parts are those of RFC 5869 with SHA-256, Argon2id is that of RFC 9106. The
// check is HKDF-Expand of the root for "ashlar seal 1 check": it tells a wrong key
// from an altered state, and commits to the root, as GCM alone would not. The key of
// AES is HKDF of the root, with the nonce as its salt, for "ashlar seal 1 state".
// All that comes before the ciphertext is its associated data.
//
// Nothing counts nonces, so that a copy of a file, a snapshot or a crash cannot make
// one come twice: each sealing draws 256 random bits, which give it a key of AES of
// its own, used for this one message (GCM's own nonce is zero). After 2^64 of them
// under one root the odds of two alike are 2^-129.
//
// The salt is random, and is kept as long as the root serves: a program derives a
// root once, from the first state that it opens or makes, and seals by it all it has.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	magic = "ASHLARSE"
	// Version is the form that this program writes, and the newest that it reads.
	Version = 1
	// MaxState is the largest state in bytes that is sealed.
	MaxState = 2 << 20
	// SaltSize is what Prepare draws at most, in bytes.
	SaltSize = 32
	// Overhead is how much longer a sealed state is, in bytes.
	Overhead = headerSize + tagSize

	saltSize   = SaltSize
	checkSize  = 32
	nonceSize  = 32
	saltAt     = len(magic) + 2 + 2 + 2 + 1 + 1 + 4 + 4
	headerSize = saltAt + saltSize + checkSize + nonceSize
	tagSize    = 16
)

var (
	// ErrDamaged says that bytes were cut or altered, or are no sealed state.
	ErrDamaged = errors.New("it was cut or altered")
	// ErrVersion says that a newer program sealed the state.
	ErrVersion = errors.New("it was encrypted by a newer version")
	// ErrKey says that the key is not the one that the state was sealed under; an
	// altered header looks the same.
	ErrKey = errors.New("the key is another one, or the file was altered")
)

// Kind says what is sealed. What was sealed as one kind does not open as another.
type Kind uint16

// header is what comes before the ciphertext.
type header struct {
	kind  Kind
	how   derivation
	salt  [saltSize]byte
	check [checkSize]byte
	nonce [nonceSize]byte
}

// Sealed reports whether bytes begin as a sealed state does, and its kind.
func Sealed(b []byte) (Kind, bool) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return 0, false
	}
	return Kind(binary.BigEndian.Uint16(b[len(magic)+4:])), true
}

func (h *header) encode() []byte {
	b := append(make([]byte, 0, headerSize), magic...)
	b = binary.BigEndian.AppendUint16(b, Version)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(h.kind))
	b = append(b, h.how.function, h.how.lanes)
	b = binary.BigEndian.AppendUint32(b, h.how.passes)
	b = binary.BigEndian.AppendUint32(b, h.how.memory)
	b = append(b, h.salt[:]...)
	b = append(b, h.check[:]...)
	return append(b, h.nonce[:]...)
}

// parse reads a header, whose derivation is within the limits then.
func parse(b []byte) (h header, err error) {
	if len(b) > MaxState+Overhead {
		return h, fmt.Errorf("%w: %d bytes are more than it can have", ErrDamaged, len(b))
	}
	kind, ok := Sealed(b)
	if !ok || len(b) < Overhead {
		return h, fmt.Errorf("%w: it does not begin as an encrypted state", ErrDamaged)
	}
	p := b[len(magic):]
	if version, least := binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]); least > Version || least == 0 || version < least {
		return h, fmt.Errorf("%w: it is of version %d and needs a reader of %d, this one is %d", ErrVersion, version, least, Version)
	}
	h.kind = kind
	h.how = derivation{p[6], p[7], binary.BigEndian.Uint32(p[8:]), binary.BigEndian.Uint32(p[12:])}
	p = b[saltAt:]
	p = p[copy(h.salt[:], p):]
	p = p[copy(h.check[:], p):]
	copy(h.nonce[:], p)
	return h, h.how.bounded()
}

// Seal encrypts a state of up to MaxState bytes. The error is random's, or that the
// state is too long.
func (k *Key) Seal(random io.Reader, kind Kind, state []byte) ([]byte, error) {
	if len(state) > MaxState {
		return nil, fmt.Errorf("a state may have %d bytes at most", MaxState)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.root == nil {
		var salt [saltSize]byte
		if _, err := io.ReadFull(random, salt[:]); err != nil {
			return nil, err
		}
		k.root = k.derive(k.usual(), salt)
	}
	h := header{kind: kind, how: k.root.how, salt: k.root.salt, check: k.root.check}
	if _, err := io.ReadFull(random, h.nonce[:]); err != nil {
		return nil, err
	}
	head := h.encode()
	b := append(make([]byte, 0, len(state)+Overhead), head...)
	return k.root.aead(h.nonce[:]).Seal(b, make([]byte, gcmNonce), state, head), nil
}

// Open gives the state that was sealed as a kind. The error says ErrDamaged,
// ErrVersion or ErrKey, or that the state is sealed under a key of the other form.
func (k *Key) Open(kind Kind, b []byte) ([]byte, error) {
	h, err := parse(b)
	if err != nil {
		return nil, err
	}
	if passphrase := h.how.function == byArgon2id; passphrase != k.passphrase {
		return nil, fmt.Errorf("it is encrypted under %s, and %s was given", form(passphrase), form(k.passphrase))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.root
	if r == nil || r.how != h.how || r.salt != h.salt {
		r = k.derive(h.how, h.salt)
	}
	if subtle.ConstantTimeCompare(r.check[:], h.check[:]) != 1 {
		if r != k.root {
			r.wipe()
		}
		return nil, ErrKey
	}
	if k.root != nil && r != k.root {
		k.root.wipe()
	}
	k.root = r
	state, err := r.aead(h.nonce[:]).Open(nil, make([]byte, gcmNonce), b[headerSize:], b[:headerSize])
	if err != nil {
		return nil, ErrDamaged
	}
	if h.kind != kind {
		clear(state)
		return nil, fmt.Errorf("%w: it is a state of kind %d in the place of one of kind %d", ErrDamaged, h.kind, kind)
	}
	return state, nil
}

func form(passphrase bool) string {
	if passphrase {
		return "a passphrase (pwdfile=, pwdfd=)"
	}
	return "a key (file=, fd=)"
}

// gcmNonce is the size in bytes of GCM's own nonce, which is zero: see the package.
const gcmNonce = 12

// aead is the cipher of the one message that has a nonce.
func (r *root) aead(nonce []byte) cipher.AEAD {
	key := r.expand(nonce)
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("seal: " + err.Error()) // the key has 256 bits
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("seal: " + err.Error()) // AES has blocks of 128 bits
	}
	return gcm
}
