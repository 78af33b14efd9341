package tpm

import (
	"time"

	"github.com/ashlar-cloud/ashlar/tpm/internal/timing"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// countdownCommands are those of version 1.59, Part 3, 33, on authenticated
// countdown timers.
var countdownCommands = []command{
	define(command{cc: tpm2.CCACTSetTimeout,
		handles: []handle{{"actHandle", aCountdown, authUser}},
	}, (*Engine).actSetTimeout),
}

// isCountdown reports whether a handle is that of a countdown timer.
func isCountdown(h tpm2.Handle) bool { return h >= tpm2.RHACT0 && h <= tpm2.RHACTF }

func countdownNumber(h tpm2.Handle) int { return int(h - tpm2.RHACT0) }

// countdown is the timer of a handle.
func (e *Engine) countdown(h tpm2.Handle) timing.Countdown {
	return e.state.countdowns.Get(countdownNumber(h))
}

// hasCountdowns reports whether the profile shows the timers.
func (e *Engine) hasCountdowns() bool { return e.profile.Shows(tpm2.CCACTSetTimeout) }

// countdownsFrom lists the timers from one on, where the profile shows them. A
// power cycle is the end of every signal, so none is preserved.
func (e *Engine) countdownsFrom(h tpm2.Handle) (list []tpm2.ACTData) {
	for ; h <= tpm2.RHACTF && e.hasCountdowns(); h++ {
		d := e.countdown(h)
		list = append(list, tpm2.ACTData{Handle: h, Timeout: d.Timeout(e.state.timing.Time),
			Attributes: bitIf(d.Signaled, tpm2.ACTSignaled)})
	}
	return list
}

// actSetTimeout is TPM2_ACT_SetTimeout (version 1.59, Part 3, 33). It is never
// TPM_RC_RETRY: a change is there at once.
func (e *Engine) actSetTimeout(c *call, in *uint32Param, _ *none) tpm2.RC {
	c.endsShutdown = true
	return e.state.countdowns.Set(countdownNumber(c.handles[0]), e.state.timing.Time, uint32(in.value)).P(1)
}

// Countdowns tells of the authenticated countdown timers: one that has run out
// signals it until it is set again. What the platform does about it is the
// host's to decide: it asks when a command has run, and again when next is over
// (0: no timer runs).
func (e *Engine) Countdowns() (timers []tpm2.ACTData, next time.Duration) {
	e.state.timing.Update(e.cfg.Clock.Now())
	e.state.countdowns.Update(e.state.timing.Time)
	timers = e.countdownsFrom(tpm2.RHACT0)
	for i := range timers {
		d := e.state.countdowns.Get(i)
		if left := d.Left(e.state.timing.Time); left != 0 && (next == 0 || left < next) {
			next = left
		}
	}
	return timers, next
}
