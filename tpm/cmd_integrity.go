package tpm

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// integrityCommands are those of Part 3, 22: the PCRs.
var integrityCommands = []command{
	define(command{cc: tpm2.CCPCRExtend, attrs: tpm2.CCAttrNV,
		handles: []handle{{"pcrHandle", aPCROrNull, authUser}},
	}, (*Engine).pcrExtend),
	define(command{cc: tpm2.CCPCREvent, attrs: tpm2.CCAttrNV,
		handles: []handle{{"pcrHandle", aPCROrNull, authUser}},
	}, (*Engine).pcrEvent),
	define(command{cc: tpm2.CCPCRRead, readOnly: true}, (*Engine).pcrRead),
	define(command{cc: tpm2.CCPCRAllocate, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"authHandle", thePlatform, authUser}},
	}, (*Engine).pcrAllocate),
	define(command{cc: tpm2.CCPCRSetAuthPolicy, pp: true, attrs: tpm2.CCAttrNV, readOnly: true,
		handles: []handle{{"authHandle", thePlatform, authUser}},
	}, (*Engine).pcrSetAuthPolicy),
	define(command{cc: tpm2.CCPCRSetAuthValue,
		handles: []handle{{"pcrHandle", aPCR, authUser}},
	}, (*Engine).pcrSetAuthValue),
	define(command{cc: tpm2.CCPCRReset, attrs: tpm2.CCAttrNV,
		handles: []handle{{"pcrHandle", aPCR, authUser}},
	}, (*Engine).pcrReset),
}

type pcrExtendIn struct{ digests tpm2.DigestValues }

// Walk visits the parameters.
func (p *pcrExtendIn) Walk(c *tpm2.Codec) { c.Param(&p.digests) }

// pcrExtend is TPM2_PCR_Extend (Part 3, 22.2).
func (e *Engine) pcrExtend(c *call, in *pcrExtendIn, _ *none) tpm2.RC {
	h := c.handles[0]
	if h == tpm2.RHNull {
		return tpm2.RCSuccess
	}
	if !pcr.ExtendAllowed(h.Index(), c.req.Locality) {
		return tpm2.RCLocality
	}
	c.endsShutdown = pcr.Saved(h.Index())
	for _, d := range in.digests {
		e.state.pcrs.Extend(h.Index(), d.Hash, d.Digest)
	}
	return tpm2.RCSuccess
}

type pcrEventIn struct{ eventData tpm2.MaxBuffer }

// Walk visits the parameters.
func (p *pcrEventIn) Walk(c *tpm2.Codec) { c.Param(&p.eventData) }

type pcrEventOut struct{ digests tpm2.DigestValues }

// Walk visits the parameters.
func (p *pcrEventOut) Walk(c *tpm2.Codec) { c.Param(&p.digests) }

// pcrEvent is TPM2_PCR_Event (Part 3, 22.3).
func (e *Engine) pcrEvent(c *call, in *pcrEventIn, out *pcrEventOut) tpm2.RC {
	h := c.handles[0]
	if h != tpm2.RHNull && !pcr.ExtendAllowed(h.Index(), c.req.Locality) {
		return tpm2.RCLocality
	}
	c.endsShutdown = h != tpm2.RHNull && pcr.Saved(h.Index())
	for _, alg := range tpm2.HashAlgs() {
		d := alg.Digest(in.eventData)
		out.digests = append(out.digests, tpm2.HA{Hash: alg, Digest: d})
		if h != tpm2.RHNull {
			e.state.pcrs.Extend(h.Index(), alg, d)
		}
	}
	return tpm2.RCSuccess
}

type pcrReadIn struct{ selection tpm2.PCRSelectionList }

// Walk visits the parameters.
func (p *pcrReadIn) Walk(c *tpm2.Codec) { c.Param(&p.selection) }

type pcrReadOut struct {
	counter   tpm2.UINT32
	selection tpm2.PCRSelectionList
	values    tpm2.DigestList
}

// Walk visits the parameters.
func (p *pcrReadOut) Walk(c *tpm2.Codec) {
	c.Param(&p.counter)
	c.Param(&p.selection)
	c.Param(&p.values)
}

// pcrRead is TPM2_PCR_Read (Part 3, 22.4).
func (e *Engine) pcrRead(_ *call, in *pcrReadIn, out *pcrReadOut) tpm2.RC {
	out.counter = tpm2.UINT32(e.state.pcrs.Counter)
	out.selection, out.values = e.state.pcrs.Read(in.selection)
	return tpm2.RCSuccess
}

type pcrAllocateIn struct{ allocation tpm2.PCRSelectionList }

// Walk visits the parameters.
func (p *pcrAllocateIn) Walk(c *tpm2.Codec) { c.Param(&p.allocation) }

type pcrAllocateOut struct {
	success                   tpm2.YesNo
	maxPCR, needed, available tpm2.UINT32
}

// Walk visits the parameters.
func (p *pcrAllocateOut) Walk(c *tpm2.Codec) {
	c.Param(&p.success)
	c.Param(&p.maxPCR)
	c.Param(&p.needed)
	c.Param(&p.available)
}

// pcrAllocate is TPM2_PCR_Allocate (Part 3, 22.5).
func (e *Engine) pcrAllocate(c *call, in *pcrAllocateIn, out *pcrAllocateOut) tpm2.RC {
	needed, available, rc := e.state.pcrs.Allocate(in.allocation)
	if rc != tpm2.RCSuccess {
		return rc
	}
	*out = pcrAllocateOut{true, tpm2.PCRCount, tpm2.UINT32(needed), tpm2.UINT32(available)}
	c.persist()
	return tpm2.RCSuccess
}

// pcrReset is TPM2_PCR_Reset (Part 3, 22.8).
func (e *Engine) pcrReset(c *call, _ *none, _ *none) tpm2.RC {
	n := c.handles[0].Index()
	if !pcr.ResetAllowed(n, c.req.Locality) {
		return tpm2.RCLocality
	}
	e.state.pcrs.Reset(n) // none that Shutdown saves
	return tpm2.RCSuccess
}

type pcrSetAuthPolicyIn struct {
	authPolicy tpm2.Digest
	hashAlg    tpm2.HashIDOrNull
	pcrNum     handleParam
}

// Walk visits the parameters.
func (p *pcrSetAuthPolicyIn) Walk(c *tpm2.Codec) {
	p.pcrNum.kind = aPCR
	c.Param(&p.authPolicy)
	c.Param(&p.hashAlg)
	c.Param(&p.pcrNum)
}

// pcrSetAuthPolicy is TPM2_PCR_SetAuthPolicy (Part 3, 22.6): from then on the
// PCRs of the group change by the policy alone.
func (e *Engine) pcrSetAuthPolicy(c *call, in *pcrSetAuthPolicyIn, _ *none) tpm2.RC {
	alg := tpm2.AlgID(in.hashAlg)
	if len(in.authPolicy) != alg.DigestSize() {
		return tpm2.RCSize.P(1)
	}
	if !pcr.Grouped(in.pcrNum.Index()) {
		return tpm2.RCValue.P(3)
	}
	e.state.pcrs.PolicyAlg, e.state.pcrs.Policy = alg, slices.Clone(in.authPolicy)
	c.persist()
	return tpm2.RCSuccess
}

type pcrSetAuthValueIn struct{ auth tpm2.Digest }

// Walk visits the parameters.
func (p *pcrSetAuthValueIn) Walk(c *tpm2.Codec) { c.Param(&p.auth) }

// pcrSetAuthValue is TPM2_PCR_SetAuthValue (Part 3, 22.7).
func (e *Engine) pcrSetAuthValue(c *call, in *pcrSetAuthValueIn, _ *none) tpm2.RC {
	if !pcr.Grouped(c.handles[0].Index()) {
		return tpm2.RCValue
	}
	e.state.pcrs.Auth = trimAuth(in.auth)
	c.endsShutdown = true
	return tpm2.RCSuccess
}
