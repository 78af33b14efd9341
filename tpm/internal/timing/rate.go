package timing

import "github.com/ashlar-cloud/ashlar/tpm2"

// The rate at which Time and Clock advance, in parts of nominal: a host's
// millisecond counts for nominal/(nominal-faster).
const (
	nominal  = 30000
	maxShift = 5000 // in both directions, about 17 %
)

// rateSteps are the steps of ClockRateAdjust from fine to coarse: 0.003 %,
// 0.1 % and 1 %.
var rateSteps = [4]int32{0, 1, 30, 300}

// AdjustRate makes Time and Clock advance faster or slower (TPM_CLOCK_ADJUST:
// -3, coarsely slower, to 3, coarsely faster). It gives TPM_RC_VALUE for another
// step.
func (s *State) AdjustRate(step int8) tpm2.RC {
	if step < -3 || step > 3 {
		return tpm2.RCValue
	}
	if step < 0 {
		s.faster -= rateSteps[-step]
	} else {
		s.faster += rateSteps[step]
	}
	s.faster = min(max(s.faster, -maxShift), maxShift)
	return tpm2.RCSuccess
}

// Rate is how many of the host's milliseconds, times 30,000, make one of the TPM.
func (s *State) Rate() uint32 { return uint32(nominal - s.faster) }

// SetRate takes a rate over that Rate gave, and reports whether it is one.
func (s *State) SetRate(rate uint32) bool {
	if rate < nominal-maxShift || rate > nominal+maxShift {
		return false
	}
	s.faster = nominal - int32(rate)
	return true
}

// scale makes milliseconds of the host those of the TPM; what is left of one is
// kept for the next time.
func (s *State) scale(ms uint64) uint64 {
	if s.faster == 0 {
		return ms
	}
	rate := uint64(nominal - s.faster)
	// Apart, so that no number of milliseconds overflows.
	part := ms%rate*nominal + s.carry
	s.carry = part % rate
	return ms/rate*nominal + part/rate
}

// MaxClock is the largest value that Clock can be set to.
const MaxClock = 0xFFFF000000000000

// SetClock sets Clock forward (TPM2_ClockSet); TPM_RC_VALUE is for a value that
// is in the past or too large.
func (s *State) SetClock(to uint64) tpm2.RC {
	if to > MaxClock || to < s.Clock {
		return tpm2.RCValue
	}
	if to/UpdateInterval > s.Clock/UpdateInterval {
		s.Safe = true
	}
	s.Clock = to
	return tpm2.RCSuccess
}
