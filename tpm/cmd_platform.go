package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// platformCommands are those of Part 3, 24 to 29, by which the platform renews
// a hierarchy, and sets the clock and what the TPM is.
var platformCommands = []command{
	define(command{cc: tpm2.CCChangeEPS, pp: true, attrs: tpm2.CCAttrNV | tpm2.CCAttrExtensive, handles: platformHandle}, (*Engine).changeEPS),
	define(command{cc: tpm2.CCChangePPS, pp: true, attrs: tpm2.CCAttrNV | tpm2.CCAttrExtensive, handles: platformHandle}, (*Engine).changePPS),
	define(command{cc: tpm2.CCSetAlgorithmSet, attrs: tpm2.CCAttrNV, handles: platformHandle}, (*Engine).setAlgorithmSet),
	define(command{cc: tpm2.CCPPCommands, attrs: tpm2.CCAttrNV, handles: platformHandle}, (*Engine).ppCommands),
	define(command{cc: tpm2.CCClockSet, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"auth", ownerOrPlatform, authUser}},
	}, (*Engine).clockSet),
	define(command{cc: tpm2.CCClockRateAdjust, pp: true,
		handles: []handle{{"auth", ownerOrPlatform, authUser}},
	}, (*Engine).clockRateAdjust),
}

// platformHandle is that of a command which the platform alone may authorize.
var platformHandle = []handle{{"authHandle", thePlatform, authUser}}

// changeEPS is TPM2_ChangeEPS (Part 3, 24.5): another endorsement seed, so that
// no endorsement key comes back.
func (e *Engine) changeEPS(c *call, _ *none, _ *none) tpm2.RC {
	h := &e.state.hierarchies.Endorsement
	if err := h.Renew(e.cfg.Entropy); err != nil {
		panic(err)
	}
	h.Enabled = true
	h.Auth, h.Policy, h.PolicyAlg = nil, nil, tpm2.AlgNull
	e.state.objects.FlushHierarchy(tpm2.RHEndorsement, true)
	c.endsShutdown = true
	c.persist()
	return tpm2.RCSuccess
}

// changePPS is TPM2_ChangePPS (Part 3, 24.4). The platform's authorization
// value stays, and as in libtpms so do its Indices; the PCRs lose their policy.
func (e *Engine) changePPS(c *call, _ *none, _ *none) tpm2.RC {
	h := &e.state.hierarchies.Platform
	if err := h.Renew(e.cfg.Entropy); err != nil {
		panic(err)
	}
	h.Policy, h.PolicyAlg = nil, tpm2.AlgNull
	e.state.objects.FlushHierarchy(tpm2.RHPlatform, true)
	e.state.pcrs.PolicyAlg, e.state.pcrs.Policy = tpm2.AlgNull, nil
	c.endsShutdown = true
	c.persist()
	return tpm2.RCSuccess
}

// uint32Param is a parameter of four bytes.
type uint32Param struct{ value tpm2.UINT32 }

// Walk visits the parameters.
func (p *uint32Param) Walk(c *tpm2.Codec) { c.Param(&p.value) }

// setAlgorithmSet is TPM2_SetAlgorithmSet (Part 3, 26.3). The number is kept and
// reported (TPM_PT_ALGORITHM_SET); as in libtpms, every set has all algorithms.
func (e *Engine) setAlgorithmSet(c *call, in *uint32Param, _ *none) tpm2.RC {
	e.state.algorithmSet = uint32(in.value)
	c.persist()
	return tpm2.RCSuccess
}

type ppCommandsIn struct{ setList, clearList tpm2.CCList }

// Walk visits the parameters.
func (p *ppCommandsIn) Walk(c *tpm2.Codec) {
	c.Param(&p.setList)
	c.Param(&p.clearList)
}

// ppCommands is TPM2_PP_Commands (Part 3, 26.2), which needs physical presence
// itself. Commands that cannot need it are passed over.
func (e *Engine) ppCommands(c *call, in *ppCommandsIn, _ *none) tpm2.RC {
	l := &e.state.ppCommands
	for _, cc := range in.setList {
		if d := e.profile.lookup(cc); d != nil && d.pp {
			l.set(cc, true)
		}
	}
	for _, cc := range in.clearList {
		l.set(cc, false)
	}
	c.persist()
	return tpm2.RCSuccess
}

// presenceList is the commands that need physical presence.
func (e *Engine) presenceList() commandList { return e.state.ppCommands.with(tpm2.CCPPCommands) }

// needsPresence reports whether a command that the platform authorizes needs
// physical presence.
func (e *Engine) needsPresence(cc tpm2.CC) bool {
	return cc == tpm2.CCPPCommands || e.state.ppCommands.has(cc)
}

type clockSetIn struct{ newTime tpm2.UINT64 }

// Walk visits the parameters.
func (p *clockSetIn) Walk(c *tpm2.Codec) { c.Param(&p.newTime) }

// clockSet is TPM2_ClockSet (Part 3, 29.2).
func (e *Engine) clockSet(c *call, in *clockSetIn, _ *none) tpm2.RC {
	if rc := e.state.timing.SetClock(uint64(in.newTime)); rc != tpm2.RCSuccess {
		return rc.P(1)
	}
	c.persist()
	return tpm2.RCSuccess
}

// clockAdjust is a TPM_CLOCK_ADJUST (Part 2, 6.7), a signed byte.
type clockAdjust int8

// Walk visits the byte; a step that there is not is TPM_RC_VALUE.
func (p *clockAdjust) Walk(c *tpm2.Codec) {
	v := uint8(*p)
	c.U8(&v)
	*p = clockAdjust(v)
	if *p < -3 || *p > 3 {
		c.Fail(tpm2.RCValue)
	}
}

type clockRateAdjustIn struct{ rateAdjust clockAdjust }

// Walk visits the parameters.
func (p *clockRateAdjustIn) Walk(c *tpm2.Codec) { c.Param(&p.rateAdjust) }

// clockRateAdjust is TPM2_ClockRateAdjust (Part 3, 29.3).
func (e *Engine) clockRateAdjust(_ *call, in *clockRateAdjustIn, _ *none) tpm2.RC {
	return e.state.timing.AdjustRate(int8(in.rateAdjust)).P(1)
}
