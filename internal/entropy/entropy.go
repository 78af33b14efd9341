// Package entropy is the seam between the engine and randomness.
package entropy

import (
	"crypto/rand"
	"io"
	mathrand "math/rand/v2"
)

// System is the operating system's generator.
func System() io.Reader { return rand.Reader }

// Replay is a generator that gives the same bytes for the same seed, so that
// a test's history can be run again. It must never make a real key.
func Replay(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return mathrand.NewChaCha8(key)
}
