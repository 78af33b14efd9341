package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// commitments are the secrets of split signatures and of key exchanges in two
// phases, between their first and their second command (Part 1, C.2.3). Each
// derives from a nonce and its number, so that a bit is all that is kept of it;
// the bits of the oldest are used again.
type commitments struct {
	nonce   [nonceSize]byte // drawn at TPM Reset
	counter uint64          // commitments made since
	pending [commitmentMax / 8]byte
}

const (
	// commitmentMax is how many commitments can be pending (TPM_PT_SPLIT_MAX).
	commitmentMax = 128
	nonceSize     = 64
)

// begin makes a commitment with the current number, of which it gives what the
// caller gets to know.
func (s *commitments) begin() uint16 {
	n := uint16(s.counter)
	s.counter++
	s.pending[n%commitmentMax/8] |= 1 << (n % 8)
	return n
}

// number gives the whole number of a commitment that is pending.
func (s *commitments) number(n uint16) (uint64, bool) {
	if s.pending[n%commitmentMax/8]>>(n%8)&1 == 0 {
		return 0, false
	}
	current := s.counter
	if n%commitmentMax >= uint16(current)%commitmentMax {
		current -= commitmentMax
	}
	if uint16(current)/commitmentMax != n/commitmentMax {
		return 0, false
	}
	return current&^0xFFFF | uint64(n), true
}

// end ends a commitment: what it was made for is done.
func (s *commitments) end(n uint16) { s.pending[n%commitmentMax/8] &^= 1 << (n % 8) }

// Walk visits the commitments.
func (s *commitments) Walk(c *tpm2.Codec) {
	for _, b := range [][]byte{s.nonce[:], s.pending[:]} {
		p := b
		c.Raw(&p, len(b))
		copy(b, p)
	}
	c.U64(&s.counter)
}

// resetCommitments forgets all commitments, at TPM Reset.
func (e *Engine) resetCommitments() {
	e.state.commitments = commitments{nonce: [nonceSize]byte(e.random(nonceSize))}
}
