package tpm

import "github.com/ashlar-cloud/ashlar/tpm2"

// startupCommands are those of Part 3, 9.
var startupCommands = []command{
	define(command{cc: tpm2.CCStartup, noSessions: true, attrs: tpm2.CCAttrNV}, (*Engine).startup),
	define(command{cc: tpm2.CCShutdown, attrs: tpm2.CCAttrNV}, (*Engine).shutdown),
}

type startupIn struct{ kind tpm2.SU }

// Walk visits the parameters.
func (p *startupIn) Walk(c *tpm2.Codec) { c.Param(&p.kind) }

// startup is TPM2_Startup (Part 3, 9.3). With the Shutdown before it, the kind
// makes a TPM Reset, Restart or Resume.
func (e *Engine) startup(c *call, in *startupIn, _ *none) tpm2.RC {
	if c.req.Locality != 0 && c.req.Locality != 3 {
		return tpm2.RCLocality
	}
	e.require(basicAlgs)
	s := &e.state
	saved := s.orderly == shutdownState
	if in.kind == tpm2.SUState && !saved {
		return tpm2.RCValue.P(1)
	}
	resume := in.kind == tpm2.SUState
	reset := !saved
	orderly := s.orderly != shutdownNone
	if rc := s.pcrs.Startup(reset, resume, c.req.Locality, s.hcrtm); rc != tpm2.RCSuccess {
		return rc
	}
	if err := s.hierarchies.Startup(reset, resume, e.cfg.Entropy); err != nil {
		panic(err)
	}
	s.objects.Startup()
	s.sessions.Startup(reset)
	s.nv.Startup(reset, resume, orderly)
	s.lockout.Startup(orderly)
	s.timing.Startup(reset, orderly)
	s.lineage.highest = max(s.lineage.highest, s.timing.ResetCount)
	s.countdowns.Startup(resume, s.timing.Time)
	switch {
	case reset:
		s.resets++
		s.clears, s.objectCount, s.foreign = 0, 0, false
		s.audit.digest = nil
		e.resetCommitments()
	case !resume:
		s.clears++
	}
	s.readOnly = s.readOnly && resume
	s.started, s.wasOrderly = true, orderly
	// From here on a power loss is disorderly. Saying so now keeps the write off
	// the path of the first PCR_Extend.
	s.orderly = shutdownNone
	c.persist()
	return tpm2.RCSuccess
}

type shutdownIn struct{ kind tpm2.SU }

// Walk visits the parameters.
func (p *shutdownIn) Walk(c *tpm2.Codec) { c.Param(&p.kind) }

// shutdown is TPM2_Shutdown (Part 3, 9.4).
func (e *Engine) shutdown(c *call, in *shutdownIn, _ *none) tpm2.RC {
	if in.kind == tpm2.SUState && e.state.pcrs.Reallocated() {
		return tpm2.RCType.P(1)
	}
	e.state.orderly = shutdownClear
	if in.kind == tpm2.SUState {
		e.state.orderly = shutdownState
	}
	e.state.lockout.Shutdown(e.state.timing.Time)
	c.auth.daUsed = false // before the Shutdown, which it does not end
	e.state.countdowns.Shutdown(e.state.timing.Time)
	c.persist()
	return tpm2.RCSuccess
}
