package tpm

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

type policyCapabilityIn struct {
	policyNVIn
	capability tpm2.Cap
	property   tpm2.UINT32
}

// Walk visits the parameters.
func (p *policyCapabilityIn) Walk(c *tpm2.Codec) {
	p.policyNVIn.Walk(c)
	c.Param(&p.capability)
	c.Param(&p.property)
}

// policyCapability is TPM2_PolicyCapability (version 1.83, Part 3, 23): a
// comparison with what GetCapability says of one property. What there is not
// differs from everything, and that is all that can be said of it.
func (e *Engine) policyCapability(c *call, in *policyCapabilityIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	if !s.Trial {
		data, rc := e.capabilityEntry(in.capability, uint32(in.property))
		switch {
		case rc != tpm2.RCSuccess:
			return rc
		case len(data) == 0:
			if in.operation != tpm2.EONeq {
				return tpm2.RCPolicy
			}
		case int(in.offset) > len(data):
			return tpm2.RCValue.P(2)
		case len(data)-int(in.offset) < len(in.operandB):
			return tpm2.RCSize.P(1)
		case !compare(in.operation, data[in.offset:][:len(in.operandB)], in.operandB):
			return tpm2.RCPolicy
		}
	}
	var of [8]byte
	binary.BigEndian.PutUint32(of[:], uint32(in.capability))
	binary.BigEndian.PutUint32(of[4:], uint32(in.property))
	extendPolicy(s, tpm2.CCPolicyCapability, in.digest(s.AuthHash, of[:]...))
	return tpm2.RCSuccess
}

// capabilityEntry is the entry of a capability's list that is of one property,
// as GetCapability would write it, or nothing. TPM_CAP_PCRS has no such entries.
func (e *Engine) capabilityEntry(capability tpm2.Cap, property uint32) ([]byte, tpm2.RC) {
	switch capability {
	case tpm2.CapAlgs:
		return entry(e.profile.algorithms(), func(p *tpm2.AlgProperty) bool { return p.Alg == tpm2.AlgID(property) }), tpm2.RCSuccess
	case tpm2.CapHandles:
		h := tpm2.Handle(property)
		list, rc := e.handlesFrom(h)
		// A session is found by its number, whatever its type.
		found := len(list) > 0 && (list[0] == h || h.IsSession() && list[0].Index() == h.Index())
		return entry([]tpm2.Handle{h}, func(*tpm2.Handle) bool { return found }), rc.P(5)
	case tpm2.CapCommands:
		if d := e.profile.lookup(tpm2.CC(property)); d != nil {
			a := d.attributes()
			return tpm2.Marshal(&a), tpm2.RCSuccess
		}
		return nil, tpm2.RCSuccess
	case tpm2.CapPPCommands:
		return entry(e.presenceList(), func(cc *tpm2.CC) bool { return uint32(*cc) == property }), tpm2.RCSuccess
	case tpm2.CapAuditCommands:
		return entry(e.state.audit.list(), func(cc *tpm2.CC) bool { return uint32(*cc) == property }), tpm2.RCSuccess
	case tpm2.CapTPMProperties:
		return entry(e.propertiesFrom(tpm2.PT(property)), func(p *tpm2.TaggedProperty) bool { return uint32(p.Property) == property }), tpm2.RCSuccess
	case tpm2.CapPCRProperties:
		return entry(pcrPropertiesFrom(tpm2.PTPCR(property)), func(p *tpm2.TaggedPCRSelect) bool { return uint32(p.Tag) == property }), tpm2.RCSuccess
	case tpm2.CapECCCurves:
		return entry(e.profile.impl.Curves, func(c *tpm2.ECCCurve) bool { return *c == tpm2.ECCCurve(property) }), tpm2.RCSuccess
	case tpm2.CapAuthPolicies:
		if tpm2.Handle(property).Type() != tpm2.HTPermanent {
			return nil, tpm2.RCValue.P(5)
		}
		return entry(e.policiesFrom(tpm2.Handle(property)), func(p *tpm2.TaggedPolicy) bool { return uint32(p.Handle) == property }), tpm2.RCSuccess
	case tpm2.CapACT:
		if !isCountdown(tpm2.Handle(property)) {
			return nil, tpm2.RCValue.P(5)
		}
		return entry(e.countdownsFrom(tpm2.Handle(property)), func(d *tpm2.ACTData) bool { return uint32(d.Handle) == property }), tpm2.RCSuccess
	}
	return nil, tpm2.RCValue.P(4)
}

// entry is the first of a list's entries that it is the one for, encoded.
func entry[T any, P walkPtr[T]](list []T, is func(*T) bool) []byte {
	for i := range list {
		if is(&list[i]) {
			return tpm2.Marshal(P(&list[i]))
		}
	}
	return nil
}
