package object

import (
	"encoding"
	"hash"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// SequenceKind is what a sequence computes.
type SequenceKind uint8

// The kinds of sequence (Part 3, 17).
const (
	HashSequence SequenceKind = iota
	HMACSequence
	EventSequence // a digest in every bank, to be extended
	CMACSequence
)

// Sequence is a running hash, MAC or event sequence. It is never changed:
// Update gives the Sequence that comes after.
type Sequence struct {
	Kind SequenceKind
	// Auth is the authorization value.
	Auth tpm2.Digest
	// Alg is the hash algorithm of a hash or HMAC sequence, AlgNull of another.
	Alg tpm2.AlgID
	// Begun: data has come in. Safe: it does not begin like an attestation of
	// the TPM, so a ticket may be given for its digest.
	Begun, Safe bool

	// states are the running hashes: one of a hash sequence; of an HMAC the
	// inner and the outer one, so that the key itself is not kept; of an event
	// sequence one for each of tpm2.HashAlgs; none of a CMAC.
	states []hash.Cloner
	cmac   crypt.CMAC
}

// NewHashSequence starts a hash sequence with an implemented hash algorithm.
func NewHashSequence(auth tpm2.Digest, alg tpm2.AlgID) *Sequence {
	return &Sequence{Kind: HashSequence, Auth: auth, Alg: alg, states: []hash.Cloner{newState(alg)}}
}

// NewHMACSequence starts an HMAC with an implemented hash algorithm.
func NewHMACSequence(auth tpm2.Digest, alg tpm2.AlgID, key []byte) *Sequence {
	pad := make([]byte, alg.BlockSize())
	if len(key) > len(pad) {
		key = alg.Digest(key)
	}
	copy(pad, key)
	inner, outer := newState(alg), newState(alg)
	for i := range pad {
		pad[i] ^= 0x36
	}
	inner.Write(pad)
	for i := range pad {
		pad[i] ^= 0x36 ^ 0x5C
	}
	outer.Write(pad)
	clear(pad)
	return &Sequence{Kind: HMACSequence, Auth: auth, Alg: alg, states: []hash.Cloner{inner, outer}}
}

// NewCMACSequence starts a sequence with a CMAC that has begun.
func NewCMACSequence(auth tpm2.Digest, m crypt.CMAC) *Sequence {
	return &Sequence{Kind: CMACSequence, Auth: auth, Alg: tpm2.AlgNull, cmac: m}
}

// NewEventSequence starts an event sequence.
func NewEventSequence(auth tpm2.Digest) *Sequence {
	s := &Sequence{Kind: EventSequence, Auth: auth, Alg: tpm2.AlgNull}
	for _, alg := range tpm2.HashAlgs() {
		s.states = append(s.states, newState(alg))
	}
	return s
}

// NewSequenceObject puts a sequence in an object of its own: without a Name,
// in the null hierarchy.
func NewSequenceObject(s *Sequence) *Object {
	return &Object{Hierarchy: tpm2.RHNull, Sequence: s}
}

// newState starts a hash. Every hash of the standard library is a Cloner.
func newState(alg tpm2.AlgID) hash.Cloner { return alg.New().(hash.Cloner) }

func cloneState(h hash.Cloner) hash.Cloner {
	c, err := h.Clone()
	if err != nil {
		panic("object: a hash does not clone: " + err.Error())
	}
	return c
}

// AuthValue is what authorizes the sequence's use.
func (s *Sequence) AuthValue() tpm2.Digest { return s.Auth }

// Update is the sequence with data added. safe tells of data that it does not
// begin like an attestation; only of the first it matters.
func (s *Sequence) Update(data []byte, safe bool) *Sequence {
	next := *s
	if !s.Begun {
		next.Begun, next.Safe = true, safe
	}
	next.states = make([]hash.Cloner, len(s.states))
	for i := range s.states {
		next.states[i] = cloneState(s.states[i])
	}
	switch s.Kind {
	case HMACSequence:
		next.states[0].Write(data)
		return &next
	case CMACSequence:
		next.cmac.Update(data)
	}
	for _, h := range next.states {
		h.Write(data)
	}
	return &next
}

// Result is the digest of a hash sequence or the MAC.
func (s *Sequence) Result() tpm2.Digest {
	if s.Kind == CMACSequence {
		return s.cmac.Sum()
	}
	digest := s.states[0].Sum(nil)
	if s.Kind == HMACSequence {
		outer := cloneState(s.states[1])
		outer.Write(digest)
		digest = outer.Sum(digest[:0])
	}
	return digest
}

// Digests are an event sequence's, in the order of tpm2.HashAlgs.
func (s *Sequence) Digests() tpm2.DigestValues {
	var list tpm2.DigestValues
	for i, alg := range tpm2.HashAlgs() {
		list = append(list, tpm2.HA{Hash: alg, Digest: s.states[i].Sum(nil)})
	}
	return list
}

// maxHashState bounds a saved hash state in bytes: SHA-512's chaining value,
// block and length, with a mark.
const maxHashState = 256

// Walk visits the sequence: the form inside a saved context and a suspended
// instance. The decoded sequence shares no memory with the input.
func (s *Sequence) Walk(c *tpm2.Codec) {
	c.U8((*uint8)(&s.Kind))
	s.Auth.Walk(c)
	c.HashAlg(&s.Alg, true)
	c.Bool(&s.Begun)
	c.Bool(&s.Safe)
	if c.RC() != tpm2.RCSuccess {
		return
	}
	if c.Decoding() && !s.prepare() {
		c.Fail(tpm2.RCValue)
		return
	}
	for _, h := range s.states {
		walkState(c, h)
	}
	if s.Kind == CMACSequence {
		s.cmac.Walk(c)
	}
}

// prepare makes the hashes that a decoded sequence of its kind and algorithm
// has, and reports whether there are such sequences.
func (s *Sequence) prepare() bool {
	_, hashes := s.Alg.Hash()
	switch {
	case s.Kind == HashSequence && hashes:
		s.states = []hash.Cloner{newState(s.Alg)}
	case s.Kind == HMACSequence && hashes:
		s.states = []hash.Cloner{newState(s.Alg), newState(s.Alg)}
	case s.Kind == EventSequence && s.Alg == tpm2.AlgNull:
		s.states = NewEventSequence(nil).states
	case s.Kind == CMACSequence && s.Alg == tpm2.AlgNull:
	default:
		return false
	}
	s.Auth = append(tpm2.Digest(nil), s.Auth...)
	return true
}

// walkState visits a running hash in the form that the standard library keeps
// stable between releases.
func walkState(c *tpm2.Codec, h hash.Hash) {
	var b []byte
	if !c.Decoding() {
		var err error
		if b, err = h.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
			panic("object: a hash does not marshal: " + err.Error())
		}
	}
	c.Buffer(&b, maxHashState)
	if c.Decoding() && c.RC() == tpm2.RCSuccess &&
		h.(encoding.BinaryUnmarshaler).UnmarshalBinary(b) != nil {
		c.Fail(tpm2.RCValue)
	}
}
