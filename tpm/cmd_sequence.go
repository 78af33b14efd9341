package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// sequenceCommands are those of Part 3, 17.
var sequenceCommands = []command{
	define(command{cc: tpm2.CCHMACStart, retHandle: true, readOnly: true,
		handles: []handle{{"handle", anObject, authUser}},
	}, (*Engine).hmacStart),
	define(command{cc: tpm2.CCHashSequenceStart, retHandle: true, readOnly: true}, (*Engine).hashSequenceStart),
	define(command{cc: tpm2.CCSequenceUpdate, readOnly: true,
		handles: []handle{{"sequenceHandle", anObject, authUser}},
	}, (*Engine).sequenceUpdate),
	define(command{cc: tpm2.CCSequenceComplete, attrs: tpm2.CCAttrFlushed, readOnly: true,
		handles: []handle{{"sequenceHandle", anObject, authUser}},
	}, (*Engine).sequenceComplete),
	define(command{cc: tpm2.CCEventSequenceComplete, attrs: tpm2.CCAttrNV | tpm2.CCAttrFlushed,
		handles: []handle{{"pcrHandle", aPCROrNull, authUser}, {"sequenceHandle", anObject, authUser}},
	}, (*Engine).eventSequenceComplete),
}

type hmacStartIn struct {
	auth   tpm2.Digest
	scheme macScheme
}

// Walk visits the parameters.
func (p *hmacStartIn) Walk(c *tpm2.Codec) { c.Param(&p.auth); c.Param(&p.scheme) }

// hmacStart is TPM2_HMAC_Start (Part 3, 17.2), with the checks of
// TPM2_MAC_Start (17.3), which has the same code.
func (e *Engine) hmacStart(c *call, in *hmacStartIn, _ *none) tpm2.RC {
	key := c.objects[0]
	alg, rc := selectMAC(key, in.scheme)
	if rc == tpm2.RCSuccess {
		rc = e.mayMAC(alg)
	}
	if rc != tpm2.RCSuccess {
		return rc
	}
	auth, secret := trimAuth(in.auth), key.Sensitive.Sensitive
	if alg != tpm2.AlgCMAC {
		return e.addSequence(c, object.NewHMACSequence(auth, alg, secret))
	}
	mac, rc := crypt.NewCMAC(key.Public.Symmetric.Alg, secret)
	if rc != tpm2.RCSuccess {
		return rc
	}
	return e.addSequence(c, object.NewCMACSequence(auth, mac))
}

type hashSequenceStartIn struct {
	auth tpm2.Digest
	alg  tpm2.HashIDOrNull
}

// Walk visits the parameters.
func (p *hashSequenceStartIn) Walk(c *tpm2.Codec) { c.Param(&p.auth); c.Param(&p.alg) }

// hashSequenceStart is TPM2_HashSequenceStart (Part 3, 17.4). No algorithm
// asks for an event sequence.
func (e *Engine) hashSequenceStart(c *call, in *hashSequenceStartIn, _ *none) tpm2.RC {
	auth := trimAuth(in.auth)
	if alg := tpm2.AlgID(in.alg); alg != tpm2.AlgNull {
		return e.addSequence(c, object.NewHashSequence(auth, alg))
	}
	return e.addSequence(c, object.NewEventSequence(auth))
}

// addSequence puts a sequence in a slot, whose handle is the response's.
func (e *Engine) addSequence(c *call, s *object.Sequence) (rc tpm2.RC) {
	c.handle, rc = e.state.objects.Add(object.NewSequenceObject(s))
	return rc
}

type sequenceUpdateIn struct{ buffer tpm2.MaxBuffer }

// Walk visits the parameters.
func (p *sequenceUpdateIn) Walk(c *tpm2.Codec) { c.Param(&p.buffer) }

// sequenceUpdate is TPM2_SequenceUpdate (Part 3, 17.5).
func (e *Engine) sequenceUpdate(c *call, in *sequenceUpdateIn, _ *none) tpm2.RC {
	s := c.objects[0].Sequence
	if s == nil {
		return tpm2.RCMode.H(1)
	}
	next := object.NewSequenceObject(s.Update(in.buffer, ticketIsSafe(in.buffer)))
	e.state.objects.Slots[c.handles[0].Index()] = next
	return tpm2.RCSuccess
}

type sequenceCompleteIn struct {
	buffer    tpm2.MaxBuffer
	hierarchy tpm2.Hierarchy
}

// Walk visits the parameters.
func (p *sequenceCompleteIn) Walk(c *tpm2.Codec) { c.Param(&p.buffer); c.Param(&p.hierarchy) }

// sequenceComplete is TPM2_SequenceComplete (Part 3, 17.6).
func (e *Engine) sequenceComplete(c *call, in *sequenceCompleteIn, out *digestOut) tpm2.RC {
	s := c.objects[0].Sequence
	if s == nil || s.Kind == object.EventSequence {
		return tpm2.RCMode.H(1)
	}
	s = s.Update(in.buffer, ticketIsSafe(in.buffer))
	out.digest = s.Result()
	safe := s.Safe && s.Kind == object.HashSequence
	out.validation = e.digestTicket(in.hierarchy, safe, s.Alg, out.digest)
	c.flush = c.handles[0]
	return tpm2.RCSuccess
}

type eventSequenceCompleteIn struct{ buffer tpm2.MaxBuffer }

// Walk visits the parameters.
func (p *eventSequenceCompleteIn) Walk(c *tpm2.Codec) { c.Param(&p.buffer) }

type eventSequenceCompleteOut struct{ results tpm2.DigestValues }

// Walk visits the parameters.
func (p *eventSequenceCompleteOut) Walk(c *tpm2.Codec) { c.Param(&p.results) }

// eventSequenceComplete is TPM2_EventSequenceComplete (Part 3, 17.7). The
// results have all banks implemented, whichever are allocated.
func (e *Engine) eventSequenceComplete(c *call, in *eventSequenceCompleteIn, out *eventSequenceCompleteOut) tpm2.RC {
	s := c.objects[1].Sequence
	if s == nil || s.Kind != object.EventSequence {
		return tpm2.RCMode.H(2)
	}
	h := c.handles[0]
	if h != tpm2.RHNull && !pcr.ExtendAllowed(int(h), c.req.Locality) {
		return tpm2.RCLocality
	}
	out.results = s.Update(in.buffer, false).Digests()
	if h != tpm2.RHNull {
		c.endsShutdown = pcr.Saved(h.Index())
		for _, d := range out.results {
			e.state.pcrs.Extend(int(h), d.Hash, d.Digest)
		}
	}
	c.flush = c.handles[1]
	return tpm2.RCSuccess
}
