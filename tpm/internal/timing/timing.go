// Package timing holds Time, Clock and the counts of resets and restarts
// (Part 1, 36).
package timing

import (
	"math"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// State is what the TPM knows of time. Its own clock is the host's, read at
// the start of each command.
type State struct {
	Clock uint64 // milliseconds powered, over the TPM's life
	// Safe: no value of Clock larger than this was ever reported.
	Safe         bool
	ResetCount   uint32 // TPM Resets since manufacture or TPM2_Clear
	RestartCount uint32 // TPM Restarts and Resumes since the last TPM Reset

	Time  uint64 // milliseconds since _TPM_Init
	last  uint64 // the host's clock at the last Update, in milliseconds
	Epoch uint32 // counts the Startups, since Time begins anew before each

	faster int32  // what ClockRateAdjust has made of the rate since _TPM_Init
	carry  uint64 // what scale has left
}

// PowerOn starts Time at zero at the host's time now.
func (s *State) PowerOn(now time.Duration) {
	s.Time, s.last = 0, uint64(now.Milliseconds())
	s.faster, s.carry = 0, 0
}

// Update takes the host's time over and gives the milliseconds since the last
// Update. A host clock that went back counts as standing still.
func (s *State) Update(now time.Duration) uint64 {
	ms := uint64(now.Milliseconds())
	if ms <= s.last {
		return 0
	}
	d := s.scale(ms - s.last)
	s.last = ms
	s.advance(d)
	return d
}

// lastTime is the largest Time, in milliseconds. No TPM lives to see it, nor the
// last Clock: there they stay.
const lastTime = 1 << 62

// advance counts d milliseconds.
func (s *State) advance(d uint64) {
	s.Time = min(s.Time+min(d, lastTime), lastTime)
	d = min(d, math.MaxUint64-s.Clock)
	if (s.Clock+d)/UpdateInterval > s.Clock/UpdateInterval {
		s.Safe = true
	}
	s.Clock += d
}

// Since is the time since the last Update, which Time and Clock have not yet
// counted.
func (s *State) Since(now time.Duration) time.Duration {
	return time.Duration(max(0, now.Milliseconds()-int64(s.last))) * time.Millisecond
}

// Resume goes on in another process, whose clock is at now: Time and Clock
// count the time suspended too. A time of day that went back meanwhile counts
// as standing still.
func (s *State) Resume(now, suspended time.Duration) {
	s.last = uint64(now.Milliseconds())
	s.advance(s.scale(uint64(max(0, suspended.Milliseconds()))))
}

// UpdateInterval is how far Clock may go back at a power loss, in milliseconds
// (TPM_PT_CLOCK_UPDATE): once it has passed a multiple of it, it is safe again.
const UpdateInterval = 4096

// Manufacture is the state of a new TPM.
func Manufacture() State { return State{Safe: true} }

// Clear sets Clock and the counts to zero (TPM2_Clear).
func (s *State) Clear() {
	s.Clock, s.Safe, s.ResetCount, s.RestartCount = 0, true, 0, 0
}

// Startup counts a TPM Reset, Restart or Resume. After a power loss without
// Shutdown the Clock may have gone back, so it is not safe.
func (s *State) Startup(reset, orderly bool) {
	s.Epoch++
	if reset {
		s.ResetCount++
		s.RestartCount = 0
	} else {
		s.RestartCount++
	}
	if !orderly {
		s.Safe = false
	}
}

// GoBack is for a state that takes the place of a newer one, whose Clock was shown:
// Clock goes on from the later of the two, and may have been shown larger still.
func (s *State) GoBack(shown uint64) {
	s.Clock, s.Safe = max(s.Clock, shown), false
}

// ClockInfo is the state as attestations carry it.
func (s *State) ClockInfo() tpm2.ClockInfo {
	return tpm2.ClockInfo{Clock: s.Clock, ResetCount: s.ResetCount, RestartCount: s.RestartCount, Safe: s.Safe}
}

// WalkPermanent visits what outlives power.
func (s *State) WalkPermanent(c *tpm2.Codec) {
	c.U64(&s.Clock)
	c.Bool(&s.Safe)
	c.U32(&s.ResetCount)
	c.U32(&s.Epoch)
}

// WalkState visits what Shutdown(STATE) saves besides.
func (s *State) WalkState(c *tpm2.Codec) { c.U32(&s.RestartCount) }

// WalkVolatile visits what a suspended instance needs besides, and Clock, which
// the permanent state that was last written may have older.
func (s *State) WalkVolatile(c *tpm2.Codec) {
	c.U64(&s.Clock)
	c.Bool(&s.Safe)
	if c.U64(&s.Time); c.Decoding() && s.Time > lastTime {
		c.Fail(tpm2.RCValue)
	}
	faster := uint32(s.faster)
	c.U32(&faster)
	c.U64(&s.carry)
	if s.faster = int32(faster); s.faster < -maxShift || s.faster > maxShift || s.carry >= nominal+maxShift {
		c.Fail(tpm2.RCValue)
	}
}
