package seal

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"golang.org/x/crypto/argon2"
)

// Key seals and opens states. Its methods may be called from several goroutines.
type Key struct {
	secret     []byte
	passphrase bool

	mu   sync.Mutex
	root *root // of the state that was opened last or sealed first
}

// NewKey makes a Key of a key with full entropy, or of a passphrase, which it takes over.
func NewKey(secret []byte, passphrase bool) *Key {
	return &Key{secret: secret, passphrase: passphrase}
}

// Wipe overwrites the key, which must not be used afterwards.
func (k *Key) Wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.secret)
	if k.root != nil {
		k.root.wipe()
		k.root = nil
	}
}

// Same reports whether two keys open the same states.
func (k *Key) Same(o *Key) bool {
	return k.passphrase == o.passphrase && subtle.ConstantTimeCompare(k.secret, o.secret) == 1
}

// Functions that derive the root.
const (
	byHKDF     = 1
	byArgon2id = 2
)

// derivation says how a root is made.
type derivation struct {
	function byte
	lanes    byte
	passes   uint32
	memory   uint32 // in KiB
}

// What a passphrase of ours is derived by: OWASP's choice for Argon2id, 40 ms of one
// processor and 19 MiB, which are given back at once. Two lanes change nothing of that
// for who guesses, and take half the time where there are two processors.
const (
	usualLanes  = 2
	usualPasses = 2
	usualMemory = 19 << 10
)

// Limits on reading: a hostile file costs no more than 64 MiB and half a second.
const (
	maxLanes  = 4
	maxMemory = 64 << 10
	maxWork   = 256 << 10 // passes times memory in KiB
)

func (k *Key) usual() derivation {
	if !k.passphrase {
		return derivation{function: byHKDF}
	}
	return derivation{byArgon2id, usualLanes, usualPasses, usualMemory}
}

func (d derivation) bounded() error {
	switch {
	case d == derivation{function: byHKDF}:
		return nil
	case d.function == byArgon2id && d.lanes >= 1 && d.lanes <= maxLanes && d.passes >= 1 &&
		d.memory >= 8*uint32(d.lanes) && d.memory <= maxMemory && uint64(d.passes)*uint64(d.memory) <= maxWork:
		return nil
	}
	return fmt.Errorf("%w: its key is derived in no way that there is (function %d, %d lanes, %d passes, %d KiB)",
		ErrDamaged, d.function, d.lanes, d.passes, d.memory)
}

// root is what a key and a salt give.
type root struct {
	how   derivation
	salt  [saltSize]byte
	key   [sha256.Size]byte
	check [checkSize]byte
}

func (r *root) wipe() { clear(r.key[:]) }

// derive makes a root by a derivation that is bounded.
func (k *Key) derive(how derivation, salt [saltSize]byte) *root {
	r := &root{how: how, salt: salt}
	var key []byte
	if how.function == byArgon2id {
		key = argon2.IDKey(k.secret, salt[:], how.passes, how.memory, how.lanes, sha256.Size)
		// Megabytes that would stay for minutes: a TPM that waits has few.
		debug.FreeOSMemory()
	} else {
		var err error
		if key, err = hkdf.Extract(sha256.New, k.secret, salt[:]); err != nil {
			panic("seal: " + err.Error()) // SHA-256 is approved
		}
	}
	copy(r.key[:], key)
	clear(key)
	check, err := hkdf.Expand(sha256.New, r.key[:], "ashlar seal 1 check", checkSize)
	if err != nil {
		panic("seal: " + err.Error()) // it is shorter than what there is
	}
	copy(r.check[:], check)
	return r
}

// Prepare derives a root ahead, where that takes time: the one that opens a sealed
// state, or with nil for a state one to seal by. It is for who knows the state before it
// is asked for; Open and Seal wait for it. Where it has nothing to do or cannot do it,
// it does nothing: Open and Seal say why.
func (k *Key) Prepare(random io.Reader, state []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	how, h := k.usual(), header{}
	if how.function != byArgon2id || k.root != nil {
		return
	}
	var err error
	if state == nil {
		_, err = io.ReadFull(random, h.salt[:])
	} else {
		h, err = parse(state)
		how = h.how
	}
	if err != nil || how.function != byArgon2id {
		return
	}
	// Who can write the state must not choose what others are sealed by.
	r := k.derive(how, h.salt)
	if state != nil && subtle.ConstantTimeCompare(r.check[:], h.check[:]) != 1 {
		r.wipe()
		return
	}
	k.root = r
}

// expand gives the key of AES for a nonce.
func (r *root) expand(nonce []byte) []byte {
	key, err := hkdf.Key(sha256.New, r.key[:], nonce, "ashlar seal 1 state", 32)
	if err != nil {
		panic("seal: " + err.Error()) // it is shorter than what there is
	}
	return key
}
