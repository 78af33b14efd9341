package tpm

import (
	"bytes"
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// policyApprovedCommands are those of Part 3, 23, by which a policy takes over
// what was approved earlier: by a ticket, or in an NV Index.
var policyApprovedCommands = []command{
	define(policyCommand(tpm2.CCPolicyTicket), (*Engine).policyTicket),
	define(policyCommand(tpm2.CCPolicyAuthorizeNV, handle{"authHandle", nvAuth, authUser},
		handle{"nvIndex", nvIndex, authNone}), (*Engine).policyAuthorizeNV),
}

type policyTicketIn struct {
	timeout   tpm2.Timeout
	cpHashA   tpm2.Digest
	policyRef tpm2.Digest
	authName  tpm2.Name
	ticket    tpm2.AuthTicket
}

// Walk visits the parameters.
func (p *policyTicketIn) Walk(c *tpm2.Codec) {
	c.Param(&p.timeout)
	c.Param(&p.cpHashA)
	c.Param(&p.policyRef)
	c.Param(&p.authName)
	c.Param(&p.ticket)
}

// policyTicket is TPM2_PolicyTicket (Part 3, 23.5): the ticket stands for the
// PolicySigned or PolicySecret that gave it.
func (e *Engine) policyTicket(c *call, in *policyTicketIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	if s.Trial {
		return tpm2.RCAttributes.H(1)
	}
	if len(in.timeout) != 8 {
		return tpm2.RCSize.P(1)
	}
	timeout := binary.BigEndian.Uint64(in.timeout)
	onReset := timeout&expiresOnReset != 0
	timeout &^= expiresOnReset
	given := authorization{cpHashA: in.cpHashA, policyRef: in.policyRef}
	if rc := given.checkLimits(e, s, timeout, 1, 2); rc != tpm2.RCSuccess {
		return rc
	}
	want := e.authTicket(in.ticket.Tag, tpm2.Handle(in.ticket.Hierarchy), timeout, onReset,
		in.cpHashA, in.policyRef, in.authName)
	if !ticketMatches(tpm2.Ticket(want), in.ticket.Digest) {
		return tpm2.RCTicket.P(5)
	}
	cc := tpm2.CCPolicySecret
	if in.ticket.Tag == tpm2.STAuthSigned {
		cc = tpm2.CCPolicySigned
	}
	given.update(s, cc, in.authName, timeout)
	return tpm2.RCSuccess
}

// policyAuthorizeNV is TPM2_PolicyAuthorizeNV (Part 3, 23.22): the Index holds
// the approved policy as a TPMT_HA.
func (e *Engine) policyAuthorizeNV(c *call, _ *none, _ *none) tpm2.RC {
	s := e.policySession(c)
	index := c.indices[1]
	if !s.Trial {
		if rc := nvReadable(c.handles[0], index); rc != tpm2.RCSuccess {
			return rc
		}
		dec := tpm2.NewDecoderFor(index.Data, &e.profile.impl)
		var alg tpm2.AlgID
		var approved []byte
		dec.HashAlg(&alg, false)
		dec.Raw(&approved, alg.DigestSize())
		if rc := dec.RC(); rc != tpm2.RCSuccess {
			return rc
		}
		if alg != s.AuthHash {
			return tpm2.RCHash
		}
		if !bytes.Equal(approved, s.Digest) {
			return tpm2.RCValue
		}
	}
	s.Digest = make(tpm2.Digest, s.AuthHash.DigestSize())
	extendPolicy(s, tpm2.CCPolicyAuthorizeNV, index.Name)
	return tpm2.RCSuccess
}
