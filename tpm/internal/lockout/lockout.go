// Package lockout is the protection against dictionary attacks (Part 1, 19.8).
package lockout

import "github.com/ashlar-cloud/ashlar/tpm2"

// Defaults of a new TPM, those of libtpms.
const (
	DefaultMaxTries = 3
	DefaultRecovery = 1000 // seconds
)

// State counts the failures. Times are in seconds, as the commands set them;
// the timers in milliseconds of Time.
type State struct {
	FailedTries     uint32
	MaxTries        uint32
	RecoveryTime    uint32 // seconds that take one failure off; 0: failures don't count
	LockoutRecovery uint32 // seconds until lockoutAuth works again; 0: until reset
	AuthEnabled     bool   // lockoutAuth may be used
	Used            bool   // a protected authorization was tried since Startup

	selfHeal uint64 // Time when the last failure was counted or taken off
	authHeal uint64 // Time when lockoutAuth was disabled
}

// Manufacture is the state of a new TPM.
func Manufacture() State {
	return State{MaxTries: DefaultMaxTries, RecoveryTime: DefaultRecovery,
		LockoutRecovery: DefaultRecovery, AuthEnabled: true}
}

// Locked reports whether protected authorizations are refused.
func (s *State) Locked() bool { return s.FailedTries >= s.MaxTries }

// Fail counts a failed authorization at time now, of lockoutAuth itself or of
// a protected entity.
func (s *State) Fail(lockoutAuth bool, now uint64) {
	if lockoutAuth {
		s.AuthEnabled = false
		s.authHeal = now
		return
	}
	if s.RecoveryTime != 0 {
		s.FailedTries++
		s.selfHeal = now
	}
}

// Heal takes off the failures that time has healed, and reports whether
// anything changed.
func (s *State) Heal(now uint64) (changed bool) {
	if s.FailedTries != 0 && s.RecoveryTime != 0 && now >= s.selfHeal {
		if n := (now - s.selfHeal) / 1000 / uint64(s.RecoveryTime); n > 0 {
			s.FailedTries -= uint32(min(n, uint64(s.FailedTries)))
			s.selfHeal += n * uint64(s.RecoveryTime) * 1000
			changed = true
		}
	}
	if !s.AuthEnabled && s.LockoutRecovery != 0 && now >= s.authHeal &&
		(now-s.authHeal)/1000 >= uint64(s.LockoutRecovery) {
		s.AuthEnabled = true
		changed = true
	}
	return changed
}

// Startup begins a power cycle. A power loss without Shutdown after a
// protected authorization was tried counts as a failure, so that cutting the
// power does not win tries. LockoutRecovery 0 re-enables lockoutAuth at a
// TPM Reset or Restart.
func (s *State) Startup(resume, orderly bool) {
	s.selfHeal, s.authHeal = 0, 0
	if !resume && s.LockoutRecovery == 0 {
		s.AuthEnabled = true
	}
	if !orderly && s.Used && s.RecoveryTime != 0 && s.FailedTries < s.MaxTries {
		s.FailedTries++
	}
	s.Used = false
}

// Reset is TPM2_DictionaryAttackLockReset.
func (s *State) Reset() { s.FailedTries = 0 }

// SetParameters is TPM2_DictionaryAttackParameters at time now: a change of
// the recovery times starts their timers anew.
func (s *State) SetParameters(maxTries, recovery, lockoutRecovery uint32, now uint64) {
	s.MaxTries, s.RecoveryTime, s.LockoutRecovery = maxTries, recovery, lockoutRecovery
	s.selfHeal, s.authHeal = now, now
}

// WalkPermanent visits what outlives power.
func (s *State) WalkPermanent(c *tpm2.Codec) {
	c.U32(&s.FailedTries)
	c.U32(&s.MaxTries)
	c.U32(&s.RecoveryTime)
	c.U32(&s.LockoutRecovery)
	c.Bool(&s.AuthEnabled)
	c.Bool(&s.Used)
}

// WalkVolatile visits what a suspended instance needs besides.
func (s *State) WalkVolatile(c *tpm2.Codec) {
	c.U64(&s.selfHeal)
	c.U64(&s.authHeal)
}
