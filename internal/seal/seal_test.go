package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	kindA Kind = 1
	kindB Kind = 2
)

var state = []byte("what a TPM has to remember")

func rawKey() *Key    { return NewKey(bytes.Repeat([]byte{7}, 32), false) }
func phraseKey() *Key { return NewKey([]byte("a passphrase"), true) }

func seal(t testing.TB, k *Key, kind Kind) []byte {
	t.Helper()
	b, err := k.Seal(rand.Reader, kind, state)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	for _, k := range []*Key{rawKey(), phraseKey()} {
		for _, s := range [][]byte{nil, state, bytes.Repeat(state, 3000)} {
			b, err := k.Seal(rand.Reader, kindA, s)
			if err != nil {
				t.Fatal(err)
			}
			if kind, ok := Sealed(b); !ok || kind != kindA || len(b) != len(s)+Overhead {
				t.Errorf("%d bytes are %d when sealed, of kind %d (%v)", len(s), len(b), kind, ok)
			}
			if len(s) > 0 && bytes.Contains(b, s) {
				t.Error("the state is in it in clear")
			}
			if got, err := k.Open(kindA, b); err != nil || !bytes.Equal(got, s) {
				t.Errorf("opened: %q, %v", got, err)
			}
			other := NewKey(bytes.Clone(k.secret), k.passphrase)
			if got, err := other.Open(kindA, b); err != nil || !bytes.Equal(got, s) {
				t.Errorf("opened by another program: %q, %v", got, err)
			}
			if !k.Same(other) || k.Same(rawKey()) == k.passphrase {
				t.Error("Same is wrong")
			}
			if _, err := k.Open(kindB, b); !errors.Is(err, ErrDamaged) {
				t.Errorf("opened as another kind: %v", err)
			}
		}
	}
	if _, err := rawKey().Seal(rand.Reader, kindA, make([]byte, MaxState+1)); err == nil {
		t.Error("a state that is too long was sealed")
	}
	if _, err := rawKey().Seal(bytes.NewReader(make([]byte, 40)), kindA, state); err == nil {
		t.Error("sealed without randomness")
	}
}

// TestSecondOpinion opens a state by what the package's comment says, with HMAC and
// AES alone.
func TestSecondOpinion(t *testing.T) {
	mac := func(key []byte, parts ...string) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			h.Write([]byte(p))
		}
		return h.Sum(nil)
	}
	b := seal(t, rawKey(), kindB)
	salt, check, nonce := b[24:56], b[56:88], b[88:120]
	root := mac(salt, string(bytes.Repeat([]byte{7}, 32)))
	if !bytes.Equal(mac(root, "ashlar seal 1 check", "\x01"), check) {
		t.Error("the check is another one")
	}
	block, _ := aes.NewCipher(mac(mac(nonce, string(root)), "ashlar seal 1 state", "\x01"))
	gcm, _ := cipher.NewGCM(block)
	if got, err := gcm.Open(nil, make([]byte, 12), b[120:], b[:120]); err != nil || !bytes.Equal(got, state) {
		t.Errorf("opened: %q, %v", got, err)
	}
}

// TestEveryCutAndFlipIsRefused alters and cuts a sealed state at every byte.
func TestEveryCutAndFlipIsRefused(t *testing.T) {
	for name, k := range map[string]*Key{"key": rawKey(), "passphrase": phraseKey()} {
		good := seal(t, k, kindA)
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 0x10
			if k.passphrase && i >= 16 && i < 56 && i%8 != 1 {
				continue // each costs a derivation: some suffice
			}
			if _, err := k.Open(kindA, bad); err == nil {
				t.Errorf("%s: a flip in byte %d is accepted", name, i)
			}
			if _, err := k.Open(kindA, good[:i]); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: the first %d bytes: %v", name, i, err)
			}
		}
		if _, err := k.Open(kindA, append(bytes.Clone(good), 0)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: a byte too many: %v", name, err)
		}
		if got, err := k.Open(kindA, good); err != nil || !bytes.Equal(got, state) {
			t.Errorf("%s: afterwards: %v", name, err)
		}
	}
}

func TestWrongKey(t *testing.T) {
	raw, phrase := seal(t, rawKey(), kindA), seal(t, phraseKey(), kindA)
	for _, c := range []struct {
		key  *Key
		b    []byte
		says string
	}{
		{NewKey(make([]byte, 32), false), raw, "the key is another one"},
		{NewKey(bytes.Repeat([]byte{7}, 16), false), raw, "the key is another one"},
		{NewKey([]byte("a passphrase\n"), true), phrase, "the key is another one"},
		{phraseKey(), raw, "under a key (file=, fd=), and a passphrase (pwdfile=, pwdfd=) was given"},
		{rawKey(), phrase, "under a passphrase (pwdfile=, pwdfd=), and a key (file=, fd=) was given"},
	} {
		if _, err := c.key.Open(kindA, c.b); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, not %q", err, c.says)
		}
		if c.key.root != nil {
			t.Error("a root that did not fit is kept")
		}
	}
}

// TestNothingTwice: no nonce, so no key of AES, comes twice, also after a file was put
// back; a salt is kept, and is another one for another key.
func TestNothingTwice(t *testing.T) {
	k := rawKey()
	first := seal(t, k, kindA)
	seen := map[string]bool{}
	for range 1000 {
		if _, err := k.Open(kindA, first); err != nil { // a snapshot comes back
			t.Fatal(err)
		}
		b := seal(t, k, kindA)
		if !bytes.Equal(b[24:56], first[24:56]) {
			t.Fatal("the salt has changed")
		}
		nonce := string(b[88:120])
		if seen[nonce] {
			t.Fatal("a nonce came twice")
		}
		seen[nonce] = true
	}
	if b := seal(t, rawKey(), kindA); bytes.Equal(b[24:56], first[24:56]) {
		t.Error("two programs drew one salt")
	}
}

// TestBounded: what a hostile header asks for is refused at once, and the most that
// it may ask for is bearable.
func TestBounded(t *testing.T) {
	k := phraseKey()
	good := seal(t, k, kindA)
	with := func(lanes byte, passes, memory uint32) []byte {
		return headed(good, derivation{byArgon2id, lanes, passes, memory})
	}
	for _, b := range [][]byte{with(1, 1<<31, 19456), with(1, 2, 1<<31), with(255, 2, 19456), with(0, 2, 19456),
		with(1, 0, 19456), with(1, 2, 7), with(4, 2, 31), with(1, 5, 64<<10), with(1, 1<<16, 8),
		headed(good, derivation{byHKDF, 1, 0, 0}), headed(good, derivation{3, 1, 2, 19456}), headed(good, derivation{})} {
		start := time.Now()
		if _, err := k.Open(kindA, b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%x: %v", b[14:24], err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("%x: refused after %v", b[14:24], d)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := k.Open(kindA, with(4, 4, 64<<10)); !errors.Is(err, ErrKey) {
		t.Errorf("the most that there may be: %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 65<<20 {
		t.Errorf("it took %d bytes", n)
	}
}

// TestPrepareIsNoDowngrade: a state that somebody has put there, with a derivation that
// costs nothing to guess by, is not what the next one is sealed by.
func TestPrepareIsNoDowngrade(t *testing.T) {
	k := phraseKey()
	k.Prepare(nil, headed(seal(t, phraseKey(), kindA), derivation{byArgon2id, 1, 1, 8}))
	if h, err := parse(seal(t, k, kindA)); err != nil || h.how != k.usual() {
		t.Errorf("sealed by %+v, %v", h.how, err)
	}
}

// headed is a sealed state with another derivation in its header.
func headed(b []byte, how derivation) []byte {
	b = bytes.Clone(b)
	b[14], b[15] = how.function, how.lanes
	binary.BigEndian.PutUint32(b[16:], how.passes)
	binary.BigEndian.PutUint32(b[20:], how.memory)
	return b
}

func TestWiped(t *testing.T) {
	k := rawKey()
	seal(t, k, kindA)
	secret, r := k.secret, k.root
	k.Wipe()
	if !bytes.Equal(secret, make([]byte, 32)) || r.key != [32]byte{} || k.root != nil {
		t.Error("a secret is left")
	}
}

// The states in testdata are kept for ever, a folder for each form that was released.
var goldenUpdate = flag.Bool("golden.update", false, "write the golden states of this version anew, before its first release only")

// goldens are the keys of the golden states.
var goldens = map[string]*Key{
	"key-128":    NewKey([]byte("0123456789abcdef"), false),
	"key-256":    NewKey([]byte("0123456789abcdef0123456789ABCDEF"), false),
	"passphrase": NewKey([]byte("a passphrase"), true),
}

// damages are what makes a golden state one that is refused, and the words for it.
var damages = map[string]struct {
	of   string
	harm func([]byte) []byte
	says string
}{
	"altered":        {"key-256", func(b []byte) []byte { b[130] ^= 1; return b }, "it was cut or altered"},
	"altered-salt":   {"key-256", func(b []byte) []byte { b[40] ^= 1; return b }, "the key is another one, or the file was altered"},
	"cut":            {"key-256", func(b []byte) []byte { return b[:len(b)-1] }, "it was cut or altered"},
	"headless":       {"key-256", func(b []byte) []byte { return b[:100] }, "it does not begin as an encrypted state"},
	"newer":          {"key-256", func(b []byte) []byte { b[9], b[11] = 3, 2; return b }, "it is of version 3 and needs a reader of 2, this one is 1"},
	"other-kind":     {"key-256", func(b []byte) []byte { b[13] = 9; return b }, "it was cut or altered"},
	"greedy":         {"passphrase", func(b []byte) []byte { b[20] = 0x80; return b }, "derived in no way that there is (function 2, 1 lanes, 2 passes, 2147503104 KiB)"},
	"never-ending":   {"passphrase", func(b []byte) []byte { b[16] = 0x80; return b }, "derived in no way that there is (function 2, 1 lanes, 2147483650 passes, 19456 KiB)"},
	"other-function": {"passphrase", func(b []byte) []byte { b[14] = 3; return b }, "derived in no way that there is (function 3"},
}

func TestGolden(t *testing.T) {
	const dir = "testdata/v1"
	if *goldenUpdate {
		os.MkdirAll(dir, 0o755)
		for name, k := range goldens {
			os.WriteFile(filepath.Join(dir, name), seal(t, k, kindA), 0o644)
		}
		for name, d := range damages {
			b, _ := os.ReadFile(filepath.Join(dir, d.of))
			os.WriteFile(filepath.Join(dir, "damaged-"+name), d.harm(b), 0o644)
		}
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, k := range goldens {
		if got, err := k.Open(kindA, read(name)); err != nil || !bytes.Equal(got, state) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, d := range damages {
		if _, err := goldens[d.of].Open(kindA, read("damaged-"+name)); err == nil || !strings.Contains(err.Error(), d.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen: no panic, and nothing opens that was not sealed.
func FuzzOpen(f *testing.F) {
	k := rawKey()
	good, err := k.Seal(bytes.NewReader(make([]byte, saltSize+nonceSize)), kindA, state) // the same in each worker
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	files, _ := filepath.Glob("testdata/v1/*")
	for _, name := range files {
		b, _ := os.ReadFile(name)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parse(b)
		if err == nil && (h.how.memory > maxMemory || !bytes.Equal(h.encode()[12:], b[12:headerSize])) {
			t.Errorf("%x was read as %+v", b[:headerSize], h)
		}
		if _, err := k.Open(kindA, b); err == nil && !bytes.Equal(b, good) {
			t.Errorf("%x opens", b)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	k, s := rawKey(), make([]byte, 20<<10)
	for b.Loop() {
		if _, err := k.Seal(rand.Reader, kindA, s); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPassphrase(b *testing.B) {
	for b.Loop() {
		seal(b, phraseKey(), kindA)
	}
}

// TestPrepare derives ahead: what follows uses that root, and what cannot be prepared
// is left to it.
func TestPrepare(t *testing.T) {
	b := seal(t, phraseKey(), kindA)
	k := phraseKey()
	k.Prepare(nil, b)
	ahead := k.root
	if got, err := k.Open(kindA, b); err != nil || !bytes.Equal(got, state) || ahead == nil || k.root != ahead {
		t.Errorf("opened: %q, %v; root %p, ahead %p", got, err, k.root, ahead)
	}
	if k.Prepare(nil, seal(t, phraseKey(), kindA)); k.root != ahead {
		t.Error("the root of another state takes the place of the one in use")
	}
	k = phraseKey()
	k.Prepare(rand.Reader, nil)
	if ahead = k.root; ahead == nil {
		t.Fatal("there is no root to seal by")
	}
	if got, err := phraseKey().Open(kindA, seal(t, k, kindA)); err != nil || !bytes.Equal(got, state) || k.root != ahead {
		t.Errorf("sealed: %q, %v", got, err)
	}
	if got, err := k.Open(kindA, b); err != nil || !bytes.Equal(got, state) {
		t.Errorf("of another salt than the one ahead: %q, %v", got, err)
	}
	for name, c := range map[string]struct {
		key    *Key
		random io.Reader
		state  []byte
	}{
		"a key that takes no time":  {rawKey(), rand.Reader, nil},
		"a state under a key":       {phraseKey(), nil, seal(t, rawKey(), kindA)},
		"a state that is not ours":  {phraseKey(), nil, []byte("something")},
		"a state that is greedy":    {phraseKey(), nil, headed(b, derivation{byArgon2id, 1, 1 << 30, usualMemory})},
		"no randomness for a state": {phraseKey(), bytes.NewReader(nil), nil},
	} {
		if c.key.Prepare(c.random, c.state); c.key.root != nil {
			t.Errorf("%s: there is a root", name)
		}
	}
}
