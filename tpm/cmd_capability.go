package tpm

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// capabilityCommands are those of Part 3, 30.
var capabilityCommands = []command{
	define(command{cc: tpm2.CCGetCapability, readOnly: true}, (*Engine).getCapability),
	define(command{cc: tpm2.CCSetCapability, attrs: tpm2.CCAttrNV,
		handles: []handle{{"authHandle", aHierarchy, authUser}},
	}, (*Engine).setCapability),
}

// maxCapData is the number of bytes of a list in a TPMS_CAPABILITY_DATA
// (MAX_CAP_DATA).
const maxCapData = tpm2.MaxCapBufferSize - 8

type getCapabilityIn struct {
	capability      tpm2.Cap
	property, count tpm2.UINT32
}

// Walk visits the parameters.
func (p *getCapabilityIn) Walk(c *tpm2.Codec) {
	c.Param(&p.capability)
	c.Param(&p.property)
	c.Param(&p.count)
}

type getCapabilityOut struct {
	more tpm2.YesNo
	data tpm2.CapabilityData
}

// Walk visits the parameters.
func (p *getCapabilityOut) Walk(c *tpm2.Codec) {
	c.Param(&p.more)
	c.Param(&p.data)
}

// getCapability is TPM2_GetCapability (Part 3, 30.2).
func (e *Engine) getCapability(_ *call, in *getCapabilityIn, out *getCapabilityOut) tpm2.RC {
	d := &out.data
	d.Cap = in.capability
	property, count := uint32(in.property), uint32(in.count)
	more := &out.more
	switch in.capability {
	case tpm2.CapAlgs:
		from := func(p tpm2.AlgProperty) bool { return p.Alg >= tpm2.AlgID(property) }
		d.Algs = page(keep(e.profile.algorithms(), from), count, 8, more)
	case tpm2.CapHandles:
		list, rc := e.handlesFrom(tpm2.Handle(property))
		if rc != tpm2.RCSuccess {
			return rc.P(2)
		}
		d.Handles = page(list, count, 4, more)
	case tpm2.CapCommands:
		d.Commands = page(e.commandsFrom(tpm2.CC(property)), count, 4, more)
	case tpm2.CapPPCommands:
		d.CCs = page(e.presenceList().from(tpm2.CC(property)), count, 4, more)
	case tpm2.CapAuditCommands:
		d.CCs = page(e.state.audit.list().from(tpm2.CC(property)), count, 4, more)
	case tpm2.CapPCRs:
		if property != 0 {
			return tpm2.RCValue.P(2)
		}
		*more = count == 0
		if count != 0 {
			d.PCRs = keep(e.state.pcrs.Allocation(), func(s tpm2.PCRSelection) bool {
				return slices.Contains(e.profile.impl.Hashes, s.Hash)
			})
		}
	case tpm2.CapTPMProperties:
		d.Properties = page(e.propertiesFrom(tpm2.PT(property)), count, 8, more)
	case tpm2.CapPCRProperties:
		d.PCRProperties = page(pcrPropertiesFrom(tpm2.PTPCR(property)), count, 8, more)
	case tpm2.CapECCCurves:
		from := func(c tpm2.ECCCurve) bool { return c >= tpm2.ECCCurve(property) }
		d.Curves = page(keep(e.profile.impl.Curves, from), count, 2, more)
	case tpm2.CapAuthPolicies:
		if tpm2.Handle(property).Type() != tpm2.HTPermanent {
			return tpm2.RCValue.P(2)
		}
		d.Policies = page(e.policiesFrom(tpm2.Handle(property)), count, 72, more)
	case tpm2.CapACT:
		if !isCountdown(tpm2.Handle(property)) {
			return tpm2.RCValue.P(2)
		}
		d.ACTs = page(e.countdownsFrom(tpm2.Handle(property)), count, 12, more)
	default:
		return tpm2.RCValue.P(1)
	}
	return tpm2.RCSuccess
}

type setCapabilityIn struct{ data tpm2.MaxBuffer } // a TPM2B_SET_CAPABILITY_DATA

// Walk visits the parameters.
func (p *setCapabilityIn) Walk(c *tpm2.Codec) { c.Param(&p.data) }

// setCapability is TPM2_SetCapability (version 1.83, Part 3, 30). No capability
// can be set yet: the union that would hold one has no member.
func (e *Engine) setCapability(_ *call, in *setCapabilityIn, _ *none) tpm2.RC {
	switch {
	case len(in.data) == 0:
		return tpm2.RCSize.P(1)
	case len(in.data) < 4:
		return tpm2.RCInsufficient.P(1)
	}
	return tpm2.RCSelector.P(1)
}

// page is the part of a list that one answer holds: at most count entries, and
// at most what fits where an entry takes size bytes of memory in the reference
// code. more is set where something is left.
func page[T any](list []T, count uint32, size int, more *tpm2.YesNo) []T {
	n := min(count, uint32(maxCapData/size))
	if uint32(len(list)) <= n {
		return list
	}
	*more = true
	return list[:n]
}

// keep is the entries of a list that ok is true for.
func keep[T any](list []T, ok func(T) bool) (kept []T) {
	for _, v := range list {
		if ok(v) {
			kept = append(kept, v)
		}
	}
	return kept
}

// permanentHandles are those that there are, besides the timers.
var permanentHandles = [...]tpm2.Handle{tpm2.RHOwner, tpm2.RHNull, tpm2.RSPW, tpm2.RHLockout,
	tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHPlatformNV}

// handlesFrom lists the handles of h's type, from h on.
func (e *Engine) handlesFrom(h tpm2.Handle) ([]tpm2.Handle, tpm2.RC) {
	from := func(x tpm2.Handle) bool { return x >= h }
	// A session is found by its number, whatever its type.
	fromNumber := func(x tpm2.Handle) bool { return x.Index() >= h.Index() }
	var list []tpm2.Handle
	switch h.Type() {
	case tpm2.HTPCR:
		for n := tpm2.PCRFirst; n < tpm2.PCRCount; n++ {
			list = append(list, n)
		}
	case tpm2.HTNVIndex:
		for _, x := range e.state.nv.All() {
			list = append(list, x.Public.Index)
		}
	case tpm2.HTHMACSession:
		return keep(e.state.sessions.Handles(true), fromNumber), tpm2.RCSuccess
	case tpm2.HTPolicySession:
		return keep(e.state.sessions.Handles(false), fromNumber), tpm2.RCSuccess
	case tpm2.HTPermanent:
		for _, d := range e.countdownsFrom(tpm2.RHACT0) {
			list = append(list, d.Handle)
		}
		list = append(permanentHandles[:len(permanentHandles):len(permanentHandles)], list...)
	case tpm2.HTTransient:
		for i, o := range e.state.objects.Slots {
			if o != nil {
				list = append(list, tpm2.TransientFirst+tpm2.Handle(i))
			}
		}
	case tpm2.HTPersistent:
		for i := range e.state.objects.Persistent {
			list = append(list, e.state.objects.Persistent[i].Handle)
		}
	default:
		return nil, tpm2.RCHandle
	}
	return keep(list, from), tpm2.RCSuccess
}

// commandsFrom lists the commands from a code on.
func (e *Engine) commandsFrom(cc tpm2.CC) (list []tpm2.CCAttributes) {
	for _, d := range e.profile.shown() {
		if d.cc >= cc {
			list = append(list, d.attributes())
		}
	}
	return list
}

// pcrPropertiesFrom lists the properties of PCRs from one on.
func pcrPropertiesFrom(p tpm2.PTPCR) (list []tpm2.TaggedPCRSelect) {
	for ; p <= pcr.LastProperty; p++ {
		if sel, ok := pcr.Property(p); ok {
			list = append(list, tpm2.TaggedPCRSelect{Tag: p, PCRSelect: sel})
		}
	}
	return list
}

// policiesFrom lists the policies of the permanent handles that have one or
// could, from h on.
func (e *Engine) policiesFrom(h tpm2.Handle) (list []tpm2.TaggedPolicy) {
	for _, x := range permanentHandles {
		hier := e.state.hierarchies.Get(x)
		if x < h || hier == nil || x == tpm2.RHNull {
			continue
		}
		list = append(list, tpm2.TaggedPolicy{Handle: x, Hash: hier.PolicyAlg, Digest: hier.Policy})
	}
	for _, d := range e.countdownsFrom(max(h, tpm2.RHACT0)) {
		alg, policy := e.entityPolicy(d.Handle)
		list = append(list, tpm2.TaggedPolicy{Handle: d.Handle, Hash: alg, Digest: policy})
	}
	return list
}

// algorithms are the algorithms that there may be, in ascending order, with
// what they are for.
var algorithms = [...]tpm2.AlgProperty{
	{Alg: tpm2.AlgRSA, Properties: tpm2.AlgAsymmetric | tpm2.AlgIsObject},
	{Alg: tpm2.AlgTDES, Properties: tpm2.AlgSymmetric},
	{Alg: tpm2.AlgSHA1, Properties: tpm2.AlgIsHash},
	{Alg: tpm2.AlgHMAC, Properties: tpm2.AlgIsHash | tpm2.AlgSigning},
	{Alg: tpm2.AlgAES, Properties: tpm2.AlgSymmetric},
	{Alg: tpm2.AlgMGF1, Properties: tpm2.AlgIsHash | tpm2.AlgMethod},
	{Alg: tpm2.AlgKeyedHash, Properties: tpm2.AlgIsHash | tpm2.AlgIsObject | tpm2.AlgSigning | tpm2.AlgEncrypting},
	{Alg: tpm2.AlgXOR, Properties: tpm2.AlgIsHash | tpm2.AlgSymmetric},
	{Alg: tpm2.AlgSHA256, Properties: tpm2.AlgIsHash},
	{Alg: tpm2.AlgSHA384, Properties: tpm2.AlgIsHash},
	{Alg: tpm2.AlgSHA512, Properties: tpm2.AlgIsHash},
	{Alg: tpm2.AlgRSASSA, Properties: tpm2.AlgAsymmetric | tpm2.AlgSigning},
	{Alg: tpm2.AlgRSAES, Properties: tpm2.AlgAsymmetric | tpm2.AlgEncrypting},
	{Alg: tpm2.AlgRSAPSS, Properties: tpm2.AlgAsymmetric | tpm2.AlgSigning},
	{Alg: tpm2.AlgOAEP, Properties: tpm2.AlgAsymmetric | tpm2.AlgEncrypting},
	{Alg: tpm2.AlgECDSA, Properties: tpm2.AlgAsymmetric | tpm2.AlgSigning},
	{Alg: tpm2.AlgECDH, Properties: tpm2.AlgAsymmetric | tpm2.AlgMethod},
	{Alg: tpm2.AlgECDAA, Properties: tpm2.AlgAsymmetric | tpm2.AlgSigning},
	{Alg: tpm2.AlgSM2, Properties: tpm2.AlgAsymmetric | tpm2.AlgSigning | tpm2.AlgMethod},
	{Alg: tpm2.AlgECSchnorr, Properties: tpm2.AlgAsymmetric | tpm2.AlgSigning},
	{Alg: tpm2.AlgECMQV, Properties: tpm2.AlgAsymmetric | tpm2.AlgMethod},
	{Alg: tpm2.AlgKDF1SP80056A, Properties: tpm2.AlgIsHash | tpm2.AlgMethod},
	{Alg: tpm2.AlgKDF2, Properties: tpm2.AlgIsHash | tpm2.AlgMethod},
	{Alg: tpm2.AlgKDF1SP800108, Properties: tpm2.AlgIsHash | tpm2.AlgMethod},
	{Alg: tpm2.AlgECC, Properties: tpm2.AlgAsymmetric | tpm2.AlgIsObject},
	{Alg: tpm2.AlgSymCipher, Properties: tpm2.AlgIsObject},
	{Alg: tpm2.AlgCamellia, Properties: tpm2.AlgSymmetric},
	{Alg: tpm2.AlgCMAC, Properties: tpm2.AlgSymmetric | tpm2.AlgSigning},
	{Alg: tpm2.AlgCTR, Properties: tpm2.AlgSymmetric | tpm2.AlgEncrypting},
	{Alg: tpm2.AlgOFB, Properties: tpm2.AlgSymmetric | tpm2.AlgEncrypting},
	{Alg: tpm2.AlgCBC, Properties: tpm2.AlgSymmetric | tpm2.AlgEncrypting},
	{Alg: tpm2.AlgCFB, Properties: tpm2.AlgSymmetric | tpm2.AlgEncrypting},
	{Alg: tpm2.AlgECB, Properties: tpm2.AlgSymmetric | tpm2.AlgEncrypting},
}

// algorithms is the algorithms whose kind has a list in the profile and that
// are in it, and the others.
func (p *Profile) algorithms() []tpm2.AlgProperty {
	impl := &p.impl
	return keep(algorithms[:], func(p tpm2.AlgProperty) bool {
		set := impl.Hashes
		switch p.Properties {
		case tpm2.AlgIsHash:
		case tpm2.AlgSymmetric:
			return impl.Cipher(p.Alg) != nil
		case tpm2.AlgSymmetric | tpm2.AlgEncrypting, tpm2.AlgSymmetric | tpm2.AlgSigning:
			set = impl.SymModes
		case tpm2.AlgAsymmetric | tpm2.AlgSigning, tpm2.AlgAsymmetric | tpm2.AlgEncrypting,
			tpm2.AlgAsymmetric | tpm2.AlgMethod, tpm2.AlgAsymmetric | tpm2.AlgSigning | tpm2.AlgMethod:
			return slices.Contains(impl.RSASchemes, p.Alg) || slices.Contains(impl.ECCSchemes, p.Alg)
		default:
			return true
		}
		return slices.Contains(set, p.Alg)
	})
}
