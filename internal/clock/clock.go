// Package clock is the seam between the engine and time.
package clock

import (
	"sync"
	"time"
)

// Clock gives the time elapsed since a fixed moment of its own. It never goes
// back, and goes on while the machine is suspended where the system allows.
type Clock interface {
	// Now is the time since that moment; the engine counts milliseconds.
	Now() time.Duration
}

// System is the machine's monotonic clock.
type System struct{ start time.Time }

// NewSystem starts a System at zero.
func NewSystem() *System { return &System{start: time.Now()} }

// Now is the time since NewSystem.
func (s *System) Now() time.Duration { return time.Since(s.start) }

// Manual is a clock that moves only when told: for tests and simulations.
type Manual struct {
	mu  sync.Mutex
	now time.Duration // guarded by mu
}

// Now is the sum of all advances.
func (m *Manual) Now() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Advance moves the clock by d.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now += d
}
