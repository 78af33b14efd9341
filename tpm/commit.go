package tpm

import "github.com/ashlar-cloud/ashlar/tpm2"

// Commit says what must be durable before a response may leave. Its zero
// value is settled: nothing must be.
type Commit struct {
	engine *Engine
	state  []byte
}

// commit makes the Commit of a command: pending if the permanent state has
// changed.
func (e *Engine) commit(dirty bool) Commit {
	if !dirty {
		return Commit{}
	}
	e.state.generation++
	// Encoded here, where a defect still ends in failure mode and nowhere else.
	state := e.permanent()
	e.pending = true
	return Commit{engine: e, state: state}
}

// Pending reports whether State must be made durable before the response
// leaves.
func (c *Commit) Pending() bool { return c.engine != nil }

// State is the permanent state to make durable.
func (c *Commit) State() []byte { return c.state }

// Done settles the commit: State is durable.
func (c *Commit) Done() {
	if c.engine != nil {
		c.engine.pending, c.engine.unwritten = false, false
		*c = Commit{}
	}
}

// Rollback settles the commit where State could not be made durable: the
// command is undone, and the response, appended to buf[:0], is
// TPM_RC_NV_UNAVAILABLE. A failed authorization stays counted, and until a
// Commit is durable again those under lockout protection are refused unchecked:
// a disk that is full must not win tries.
func (c *Commit) Rollback(buf []byte) []byte {
	if e := c.engine; e != nil {
		e.state = e.before
		if e.failure.counted {
			e.state.lockout.Fail(e.failure.lockoutAuth, e.state.timing.Time)
		}
		e.keepPINs(&e.call)
		e.pending, e.unwritten = false, true
		*c = Commit{}
	}
	return errorResponse(buf, tpm2.RCNVUnavailable)
}

// followShutdown sees to a Shutdown in force when a command has changed the
// state. Where the reference code ends it (g_clearOrderly), a power loss from
// here on is disorderly; else what the command has changed is saved with the
// rest. Either must be durable before the command's answer is out.
func (e *Engine) followShutdown(c *call) {
	if e.state.orderly == shutdownNone || c.cmd.readOnly || c.cmd.cc == tpm2.CCShutdown {
		return
	}
	if c.endsShutdown {
		e.state.orderly = shutdownNone
	}
	c.persist()
}
