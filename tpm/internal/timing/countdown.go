package timing

import (
	"math"
	"slices"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// NumCountdowns is the number of authenticated countdown timers: all that have
// a handle (TPM_RH_ACT_0 to TPM_RH_ACT_F).
const NumCountdowns = 16

// stopped is a timeout that does not count down.
const stopped = math.MaxUint32

// Countdown is an authenticated countdown timer (version 1.59, Part 1, 38).
// The platform's authorization value is its own.
type Countdown struct {
	end     uint64 // Time at which it runs out, in milliseconds; 0 while it does not run
	Stopped bool   // it holds its largest timeout, for ever
	// Signaled: it has run out, and was not set since.
	Signaled bool
	// updated: it was set since TPM2_Startup.
	updated bool
	// saved is the timeout that Shutdown(STATE) saved, in seconds.
	saved     uint32
	PolicyAlg tpm2.AlgID // AlgNull without a policy
	Policy    tpm2.Digest
}

// Timeout is how long it has to run at time now, in seconds, rounded up.
func (d Countdown) Timeout(now uint64) uint32 {
	switch {
	case d.Stopped:
		return stopped
	case d.end <= now:
		return 0
	}
	return uint32(min((d.end-now+999)/1000, stopped-1))
}

// Left is how long it has to run, 0 where it does not.
func (d Countdown) Left(now uint64) time.Duration {
	if d.end <= now {
		return 0
	}
	return time.Duration(min(d.end-now, stopped*1000)) * time.Millisecond
}

// run makes it run for some seconds from now.
func (d *Countdown) run(now uint64, seconds uint32) {
	d.end, d.Stopped = 0, seconds == stopped
	if seconds != 0 && !d.Stopped {
		d.end = now + uint64(seconds)*1000
	}
}

// Countdowns is all of the timers. A copy of it is a snapshot.
type Countdowns struct {
	// timers is nil until one is set, and never changed in place.
	timers *[NumCountdowns]Countdown
}

// idle is the timers that none has set.
func idle() *[NumCountdowns]Countdown {
	var t [NumCountdowns]Countdown
	for i := range t {
		t[i].PolicyAlg = tpm2.AlgNull
	}
	return &t
}

// Get gives the timer of number n as it is; a change of it changes nothing.
func (s *Countdowns) Get(n int) Countdown {
	if s.timers == nil {
		return Countdown{PolicyAlg: tpm2.AlgNull}
	}
	return s.timers[n]
}

// change gives timers to change.
func (s *Countdowns) change() *[NumCountdowns]Countdown {
	if s.timers == nil {
		s.timers = idle()
	} else {
		t := *s.timers
		s.timers = &t
	}
	return s.timers
}

// Update brings the timers up to date: at time now, those that have run out
// signal it.
func (s *Countdowns) Update(now uint64) {
	if s.timers == nil {
		return
	}
	for i := range s.timers {
		if d := &s.timers[i]; d.end != 0 && d.end <= now {
			d = &s.change()[i]
			d.end, d.Signaled = 0, true
		}
	}
}

// Set makes timer n run for some seconds (TPM2_ACT_SetTimeout). Zero makes it run
// out at once where it runs; the largest number stops one that has run out, and
// is TPM_RC_VALUE for another. A signal ends where the timer does not stand at
// zero.
func (s *Countdowns) Set(n int, now uint64, seconds uint32) tpm2.RC {
	old := s.Get(n)
	if seconds == stopped && !old.Signaled {
		return tpm2.RCValue
	}
	d := &s.change()[n]
	d.updated = true
	d.run(now, seconds)
	d.Signaled = seconds == 0 && (old.Signaled || old.Timeout(now) != 0)
	return tpm2.RCSuccess
}

// SetPolicy gives timer n a policy (TPM2_SetPrimaryPolicy).
func (s *Countdowns) SetPolicy(n int, alg tpm2.AlgID, policy tpm2.Digest) {
	d := &s.change()[n]
	d.PolicyAlg, d.Policy = alg, slices.Clone(policy)
}

// Shutdown keeps at time now what Startup(STATE) goes on from. A timer that was
// not set since Startup loses half of its time, so that one who saves the state
// early and never uses the TPM does not hold it up.
func (s *Countdowns) Shutdown(now uint64) {
	if s.timers == nil {
		return
	}
	timers := s.change()
	for i := range timers {
		d := &timers[i]
		d.saved = d.Timeout(now)
		if !d.updated && d.saved != stopped && d.saved > 1 {
			d.saved /= 2
		}
	}
}

// Startup goes on from what Shutdown(STATE) kept, at time now, or forgets all
// timers. A timer that has time left does not signal.
func (s *Countdowns) Startup(resume bool, now uint64) {
	if !resume {
		s.timers = nil
	}
	if s.timers == nil {
		return
	}
	timers := s.change()
	for i := range timers {
		d := &timers[i]
		d.updated = false
		d.run(now, d.saved)
		d.Signaled = d.Signaled && d.saved == 0
	}
}

// WalkState visits what Shutdown(STATE) saves.
func (s *Countdowns) WalkState(c *tpm2.Codec) {
	s.walk(c, func(d *Countdown) {
		c.U32(&d.saved)
		c.Bool(&d.Signaled)
		c.HashAlg(&d.PolicyAlg, true)
		d.Policy.Walk(c)
		if c.Decoding() {
			d.Policy = slices.Clone(d.Policy)
			if len(d.Policy) != d.PolicyAlg.DigestSize() {
				c.Fail(tpm2.RCValue)
			}
		}
	})
}

// WalkVolatile visits what a suspended instance needs besides.
func (s *Countdowns) WalkVolatile(c *tpm2.Codec) {
	s.walk(c, func(d *Countdown) {
		if c.U64(&d.end); c.Decoding() && d.end > lastTime+stopped*1000 {
			c.Fail(tpm2.RCValue)
		}
		c.Bool(&d.Stopped)
		c.Bool(&d.Signaled)
		c.Bool(&d.updated)
	})
}

// walk visits the timers, where one is set.
func (s *Countdowns) walk(c *tpm2.Codec, visit func(*Countdown)) {
	set := s.timers != nil
	c.Bool(&set)
	if !set || c.RC() != tpm2.RCSuccess {
		if c.Decoding() {
			s.timers = nil
		}
		return
	}
	timers := s.timers
	if c.Decoding() {
		timers = s.change()
	}
	for i := range timers {
		visit(&timers[i])
	}
}
