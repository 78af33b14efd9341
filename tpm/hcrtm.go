package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// hashSequence is a running _TPM_Hash_Start sequence. Like everything behind a
// pointer in a state it is replaced, never changed.
type hashSequence struct {
	*object.Sequence
	// first: the sequence has set TPM_ESTABLISHED.
	first bool
}

// walkHashSequence visits the sequence that is running, if one is.
func walkHashSequence(c *tpm2.Codec, p **hashSequence) {
	s := hashSequence{Sequence: new(object.Sequence)}
	running := *p != nil
	if running {
		s = **p
	}
	if c.Bool(&running); running {
		c.Bool(&s.first)
		s.Sequence.Walk(c)
		if s.Kind != object.EventSequence {
			c.Fail(tpm2.RCValue)
		}
	}
	if c.Decoding() {
		*p = nil
		if running && c.RC() == tpm2.RCSuccess {
			*p = &s
		}
	}
}

// HashStart is _TPM_Hash_Start (Part 3, 22.9): what the platform's hardware
// says at locality 4 when it begins to measure the code that it is about to
// run, an H-CRTM before TPM2_Startup or a D-RTM after it. A sequence that was
// running is forgotten, and so is this one if a command comes before HashEnd. It
// needs a slot like any sequence: where none is free, the first object goes.
func (e *Engine) HashStart() {
	if e.failed {
		return
	}
	if e.state.objects.Full() {
		e.state.objects.Flush(tpm2.TransientFirst)
	}
	e.state.event = &hashSequence{object.NewEventSequence(nil), !e.state.established}
	e.state.established = true
}

// HashData is _TPM_Hash_Data (Part 3, 22.10): more of the code measured.
// Without HashStart before it, it does nothing.
func (e *Engine) HashData(data []byte) {
	if s := e.state.event; s != nil && !e.failed {
		e.state.event = &hashSequence{s.Update(data, false), s.first}
	}
}

// HashEnd is _TPM_Hash_End (Part 3, 22.11): the digest goes to PCR 0, which
// then starts from 4, or after TPM2_Startup to PCR 17, with the other PCRs of
// a D-RTM set to zero. Without HashStart before it, it does nothing.
func (e *Engine) HashEnd() (commit Commit) {
	if e.pending {
		panic("tpm: HashEnd before the last Commit was settled")
	}
	s := e.state.event
	if s == nil || e.failed {
		return Commit{}
	}
	e.state.event = nil
	e.before, e.failure = e.state, authFailure{}
	defer func() {
		if r := recover(); r != nil {
			e.state = e.before
			e.fail(nil, r)
			commit = Commit{}
		}
	}()
	if e.state.started {
		e.state.pcrs.ResetDynamic()
		e.state.timing.RestartCount++
	} else {
		e.state.hcrtm = true
	}
	for _, d := range s.Digests() {
		e.measure(d)
	}
	// RestartCount belongs to what a Shutdown in force has saved.
	return e.commit(s.first || e.state.started && e.state.orderly != shutdownNone)
}

// measure puts the sequence's digest in the PCR of one bank.
func (e *Engine) measure(d tpm2.HA) {
	if e.state.started {
		e.state.pcrs.MeasureDRTM(d.Hash, d.Digest)
	} else {
		e.state.pcrs.MeasureHCRTM(d.Hash, d.Digest)
	}
}
