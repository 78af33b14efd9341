// Package lockout is the protection against dictionary attacks (Part 1, 19.8).
package lockout

import "github.com/ashlar-cloud/ashlar/tpm2"

// Defaults of a new TPM, those of libtpms.
const (
	DefaultMaxTries = 3
	DefaultRecovery = 1000 // seconds
)

// State counts the failures. Times are in seconds, as the commands set them.
type State struct {
	FailedTries     uint32
	MaxTries        uint32
	RecoveryTime    uint32 // seconds that take one failure off; 0: failures don't count
	LockoutRecovery uint32 // seconds until lockoutAuth works again; 0: until reset
	AuthEnabled     bool   // lockoutAuth may be used
	Used            bool   // a protected authorization was tried since Startup

	// The timers are in milliseconds of Time, negative where they began before
	// _TPM_Init.
	selfHeal int64 // when the last failure was counted or taken off
	authHeal int64 // when lockoutAuth was disabled
	// waited is how long the timers had run at the last Shutdown.
	waited struct{ selfHeal, authHeal uint64 }
}

// Manufacture is the state of a new TPM.
func Manufacture() State {
	return State{MaxTries: DefaultMaxTries, RecoveryTime: DefaultRecovery,
		LockoutRecovery: DefaultRecovery, AuthEnabled: true}
}

// Clear makes everything as in a new TPM (TPM2_Clear).
func (s *State) Clear() {
	used := s.Used
	*s = Manufacture()
	s.Used = used
}

// Locked reports whether protected authorizations are refused.
func (s *State) Locked() bool { return s.FailedTries >= s.MaxTries }

// Fail counts a failed authorization at time now, of lockoutAuth itself or of
// a protected entity.
func (s *State) Fail(lockoutAuth bool, now uint64) {
	if lockoutAuth {
		s.AuthEnabled = false
		s.authHeal = int64(now)
		return
	}
	if s.RecoveryTime != 0 {
		s.FailedTries++
	}
	s.selfHeal = int64(now)
}

// elapsed is the milliseconds since a timer began.
func elapsed(now uint64, timer int64) uint64 { return uint64(max(0, int64(now)-timer)) }

// Heal takes off the failures that time has healed, and reports whether
// anything changed.
func (s *State) Heal(now uint64) (changed bool) {
	switch {
	case s.FailedTries == 0:
	case s.RecoveryTime == 0: // failures no longer count
		s.FailedTries = 0
		changed = true
	default:
		if n := elapsed(now, s.selfHeal) / 1000 / uint64(s.RecoveryTime); n > 0 {
			s.FailedTries -= uint32(min(n, uint64(s.FailedTries)))
			s.selfHeal += int64(n * uint64(s.RecoveryTime) * 1000)
			changed = true
		}
	}
	if !s.AuthEnabled && s.LockoutRecovery != 0 &&
		elapsed(now, s.authHeal)/1000 >= uint64(s.LockoutRecovery) {
		s.AuthEnabled = true
		changed = true
	}
	return changed
}

// Startup begins a power cycle. After a Shutdown the timers go on from where
// they were, else anew. A power loss without Shutdown after a protected
// authorization was tried counts as a failure, so that cutting the power does
// not win tries. LockoutRecovery 0 enables lockoutAuth again.
func (s *State) Startup(orderly bool) {
	s.selfHeal, s.authHeal = 0, 0
	if orderly {
		s.selfHeal, s.authHeal = -int64(s.waited.selfHeal), -int64(s.waited.authHeal)
	}
	if s.LockoutRecovery == 0 {
		s.AuthEnabled = true
	}
	if !orderly && s.Used && s.RecoveryTime != 0 && s.FailedTries < s.MaxTries {
		s.FailedTries++
	}
	s.Used = false
}

// Shutdown is TPM2_Shutdown at time now: it keeps how long the timers have
// run. The next protected authorization that is tried makes the power cycle
// disorderly again.
func (s *State) Shutdown(now uint64) {
	s.waited.selfHeal = min(elapsed(now, s.selfHeal), maxWait)
	s.waited.authHeal = min(elapsed(now, s.authHeal), maxWait)
	s.Used = false
}

// maxWait bounds how long a saved timer can have run, in milliseconds: beyond
// it everything has healed.
const maxWait = 1 << 42

// WalkPermanent visits what outlives power.
func (s *State) WalkPermanent(c *tpm2.Codec) {
	c.U32(&s.FailedTries)
	c.U32(&s.MaxTries)
	c.U32(&s.RecoveryTime)
	c.U32(&s.LockoutRecovery)
	c.Bool(&s.AuthEnabled)
	c.Bool(&s.Used)
	c.U64(&s.waited.selfHeal)
	c.U64(&s.waited.authHeal)
	if c.Decoding() {
		s.waited.selfHeal = min(s.waited.selfHeal, maxWait)
		s.waited.authHeal = min(s.waited.authHeal, maxWait)
	}
}

// WalkVolatile visits what a suspended instance needs besides.
func (s *State) WalkVolatile(c *tpm2.Codec) {
	selfHeal, authHeal := uint64(s.selfHeal), uint64(s.authHeal)
	c.U64(&selfHeal)
	c.U64(&authHeal)
	s.selfHeal, s.authHeal = int64(selfHeal), int64(authHeal)
	for _, timer := range [...]int64{s.selfHeal, s.authHeal} {
		if c.Decoding() && timer < -maxWait {
			c.Fail(tpm2.RCValue)
		}
	}
}

// Waited gives how long the timers had run at the last Shutdown, in milliseconds.
func (s *State) Waited() (selfHeal, authHeal uint64) { return s.waited.selfHeal, s.waited.authHeal }

// SetTimers takes over timers that began at these milliseconds of Time, and had
// run until now.
func (s *State) SetTimers(selfHeal, authHeal int64, now uint64) {
	s.selfHeal, s.authHeal = selfHeal, authHeal
	s.waited.selfHeal = min(elapsed(now, selfHeal), maxWait)
	s.waited.authHeal = min(elapsed(now, authHeal), maxWait)
}
