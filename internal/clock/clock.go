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
	// Wall is the time of day, by which two processes know how far apart they
	// are. It may be wrong, and go back.
	Wall() time.Time
}

// System is the machine's monotonic clock.
type System struct{ start time.Time }

// NewSystem starts a System at zero.
func NewSystem() *System { return &System{start: time.Now()} }

// Now is the time since NewSystem.
func (s *System) Now() time.Duration { return time.Since(s.start) }

// Wall is the machine's time of day.
func (s *System) Wall() time.Time { return time.Now() }

// Manual is a clock that moves only when told: for tests and simulations.
type Manual struct {
	mu  sync.Mutex
	now time.Duration // guarded by mu
}

// manualEpoch is when a Manual starts, by its Wall.
var manualEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Wall is a fixed day and the sum of all advances.
func (m *Manual) Wall() time.Time { return manualEpoch.Add(m.Now()) }

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
