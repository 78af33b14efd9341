package swtpm

import (
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// countdowns is what the host has seen of its TPM's countdown timers, of which
// the log tells: there is no line to a machine by which one could reset it.
type countdowns struct {
	signaled [16]bool
	// quiet is until when the log says nothing of a timer, by the engine's clock.
	quiet [16]time.Duration
	alarm *time.Timer // for the next that runs out, nil where none runs
}

// tellAgain is how long the log says nothing of a timer that it has told of: a
// guest can make one run out with every command.
const tellAgain = time.Minute

// watchCountdowns tells of timers that have run out, and waits for the next. The
// caller holds h.mu.
func (h *Host) watchCountdowns() {
	if h.engine == nil || !h.engine.Profile().Shows(tpm2.CCACTSetTimeout) {
		return
	}
	c := &h.countdowns
	if c.alarm != nil {
		c.alarm.Stop()
		c.alarm = nil
	}
	timers, next := h.engine.Countdowns()
	now := h.cfg.Engine.Clock.Now()
	for i, d := range timers {
		out := d.Attributes&tpm2.ACTSignaled != 0
		if out && !c.signaled[i] && now >= c.quiet[i] {
			h.log.Warn("a countdown timer of the TPM has run out", "timer", i)
			c.quiet[i] = now + tellAgain
		}
		c.signaled[i] = out
	}
	if next != 0 {
		engine := h.engine
		c.alarm = time.AfterFunc(next, func() {
			h.confine("the wait for a countdown timer", func() {
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.engine == engine {
					h.watchCountdowns()
				}
			})
		})
	}
}

// forgetCountdowns ends the wait: the power is off.
func (h *Host) forgetCountdowns() {
	if h.countdowns.alarm != nil {
		h.countdowns.alarm.Stop()
	}
	h.countdowns = countdowns{quiet: h.countdowns.quiet}
}
