package object

import (
	"encoding"
)

// RestoreSequence makes a hash, HMAC or event sequence of another program's:
// states are its running hashes as the standard library keeps them, of an HMAC
// the inner one, and outer is what the outer one begins with. It reports whether
// there is such a sequence.
func RestoreSequence(s Sequence, states [][]byte, outer []byte) (*Sequence, bool) {
	if s.Kind == CMACSequence || !s.prepare() {
		return nil, false
	}
	if s.Kind == HMACSequence {
		if len(outer) != s.Alg.BlockSize() {
			return nil, false
		}
		s.states[1].Write(outer)
	}
	if len(states) == 0 || len(states) != len(s.states) && s.Kind != HMACSequence {
		return nil, false
	}
	for i, b := range states {
		if s.states[i].(encoding.BinaryUnmarshaler).UnmarshalBinary(b) != nil {
			return nil, false
		}
	}
	return &s, true
}
