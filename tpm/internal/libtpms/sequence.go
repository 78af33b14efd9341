package libtpms

import (
	"encoding/binary"
	"errors"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Sequence is a running hash, HMAC or event sequence (HASH_OBJECT); the object's
// flags say which.
type Sequence struct {
	Type       uint16
	NameAlg    tpm2.AlgID
	Attributes uint32
	Auth       tpm2.Digest
	// Hashes are one of a hash sequence and of an HMAC, and one for every bank of
	// an event sequence, in the order of the banks. libtpms before 0.9 does not
	// save those of an event sequence.
	Hashes []Hash
	// OuterKey is an HMAC's key, filled up to a block, for its outer hash.
	OuterKey []byte
}

var (
	sequenceMark = mark{"HASH_OBJECT", 0xb874fe38, 2, 3, 0}
	hashMark     = mark{"HASH_STATE", 0x562878a2, 2, 2, 0}
	anyHashMark  = mark{"ANY_HASH_STATE", 0x349d494b, 2, 2, 0}
)

// hashCount is the number of hash algorithms of libtpms (HASH_COUNT).
const hashCount = 4

// maxBlock is the size in bytes of the largest block of a hash.
const maxBlock = 128

func (s *Sequence) walk(w *walker, flags ObjectFlags) {
	w.section(sequenceMark, 3, func(version uint16) {
		w.U16(&s.Type)
		w.U16((*uint16)(&s.NameAlg))
		w.U32(&s.Attributes)
		s.Auth.Walk(&w.Codec)
		switch {
		case flags.Has(ObjectHashSequence), flags.Has(ObjectEventSequence) && version >= 3:
			w.array(hashCount, "hashes")
			s.walkHashes(w, hashCount)
		case flags.Has(ObjectHMACSequence):
			s.walkHashes(w, 1)
			w.Buffer(&s.OuterKey, maxBlock)
		}
		w.future()
	})
}

func (s *Sequence) walkHashes(w *walker, n int) {
	if w.Decoding() {
		s.Hashes = make([]Hash, n)
	}
	for i := range s.Hashes {
		s.Hashes[i].walk(w)
	}
}

// HashType says what a hash is used for; another one is no hash.
const (
	HashTypeHash = 1
	HashTypeHMAC = 2
)

// Hash is a running hash, OpenSSL's (HASH_STATE).
type Hash struct {
	Type  uint8
	Alg   tpm2.AlgID // one that is not started may have any
	chain []byte     // the chaining value, big-endian words
	bits  [2]uint64  // the length so far in bits, low and high word
	block []byte
	used  uint32 // bytes of block
}

func (h *Hash) walk(w *walker) {
	w.section(hashMark, 2, func(uint16) {
		w.U8(&h.Type)
		w.U16((*uint16)(&h.Alg))
		w.section(anyHashMark, 2, func(uint16) {
			if f, ok := formOf(h.Alg); ok {
				h.walkState(w, f)
			}
			w.future()
		})
		w.future()
	})
}

// hashForm is how a hash is kept.
type hashForm struct {
	alg         tpm2.AlgID
	mark        mark
	words, size int // of the chaining value, and of a word in bytes
	block       int // bytes
	counted     bool
	magic       string // of Go's form
}

var hashForms = [hashCount]hashForm{
	{tpm2.AlgSHA1, mark{"a running SHA-1", 0x19d46f50, 2, 2, 0}, 5, 4, 64, false, "sha\x01"},
	{tpm2.AlgSHA256, mark{"a running SHA-256", 0x6ea059d0, 2, 2, 0}, 8, 4, 64, true, "sha\x03"},
	{tpm2.AlgSHA384, mark{"a running SHA-384", 0x14814b08, 2, 2, 0}, 8, 8, 128, true, "sha\x04"},
	{tpm2.AlgSHA512, mark{"a running SHA-512", 0x269e8ae0, 2, 2, 0}, 8, 8, 128, true, "sha\x07"},
}

func formOf(alg tpm2.AlgID) (f hashForm, ok bool) {
	for _, f := range hashForms {
		if f.alg == alg {
			return f, true
		}
	}
	return f, false
}

func (h *Hash) walkState(w *walker, f hashForm) {
	w.section(f.mark, 2, func(uint16) {
		if w.Decoding() {
			h.chain, h.block = make([]byte, f.words*f.size), make([]byte, f.block)
		}
		if f.counted {
			w.array(f.words, "words")
		}
		p := h.chain
		w.Raw(&p, len(h.chain))
		if w.Decoding() {
			copy(h.chain, p)
		}
		for i := range h.bits {
			w.word(&h.bits[i], f.size)
		}
		w.fixed(h.block, "bytes in a block")
		w.U32(&h.used)
		if f.counted {
			digest := uint32(f.alg.DigestSize())
			w.U32(&digest)
		}
		w.future()
	})
}

// word visits a word of 4 or 8 bytes.
func (w *walker) word(v *uint64, size int) {
	if size == 8 {
		w.U64(v)
		return
	}
	short := uint32(*v)
	w.U32(&short)
	*v = uint64(short)
}

// ErrHash reports a running hash that no hash algorithm can be in.
var ErrHash = errors.New("a running hash is in no state that there is")

// Binary is the hash in the form that the standard library reads
// (encoding.BinaryUnmarshaler).
func (h *Hash) Binary() ([]byte, error) {
	f, ok := formOf(h.Alg)
	if !ok || h.chain == nil {
		return nil, ErrHash
	}
	high := h.bits[1]
	if f.size == 4 {
		high = 0
		h.bits[0] |= h.bits[1] << 32
		h.bits[1] = 0
	}
	length := h.bits[0] / 8
	if high != 0 || h.bits[0]%8 != 0 || length%uint64(f.block) != uint64(h.used) {
		return nil, ErrHash
	}
	block := make([]byte, f.block)
	copy(block, h.block[:h.used])
	b := append([]byte(f.magic), h.chain...)
	return binary.BigEndian.AppendUint64(append(b, block...), length), nil
}
