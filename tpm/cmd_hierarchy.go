package tpm

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// hierarchyCommands are those of Part 3, 24, but for the creation of keys.
var hierarchyCommands = []command{
	define(command{cc: tpm2.CCHierarchyControl, pp: true, attrs: tpm2.CCAttrNV | tpm2.CCAttrExtensive,
		handles: []handle{{"authHandle", aHierarchy, authUser}},
	}, (*Engine).hierarchyControl),
	define(command{cc: tpm2.CCHierarchyChangeAuth, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"authHandle", aHierarchyAuth, authUser}},
	}, (*Engine).hierarchyChangeAuth),
	define(command{cc: tpm2.CCSetPrimaryPolicy, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"authHandle", aHierarchyPolicy, authUser}},
	}, (*Engine).setPrimaryPolicy),
	define(command{cc: tpm2.CCClear, pp: true, attrs: tpm2.CCAttrNV | tpm2.CCAttrExtensive,
		handles: []handle{{"authHandle", lockoutOrPlatform, authUser}},
	}, (*Engine).clear),
	define(command{cc: tpm2.CCClearControl, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"auth", lockoutOrPlatform, authUser}},
	}, (*Engine).clearControl),
}

type hierarchyControlIn struct {
	enable handleParam
	state  tpm2.YesNo
}

// Walk visits the parameters.
func (p *hierarchyControlIn) Walk(c *tpm2.Codec) {
	p.enable.kind = anEnable
	c.Param(&p.enable)
	c.Param(&p.state)
}

// hierarchyControl is TPM2_HierarchyControl (Part 3, 24.2). Each hierarchy's
// own authorization turns it off, and only the platform's turns it on again.
func (e *Engine) hierarchyControl(c *call, in *hierarchyControlIn, _ *none) tpm2.RC {
	auth, enable, on := c.handles[0], in.enable.Handle, bool(in.state)
	h := &e.state.hierarchies
	selected := &h.PlatformNV
	if enable != tpm2.RHPlatformNV {
		selected = &h.Get(enable).Enabled
	}
	if auth != tpm2.RHPlatform && (auth != enable || !*selected && on) {
		return tpm2.RCAuthType
	}
	if *selected == on {
		return tpm2.RCSuccess
	}
	*selected, c.endsShutdown = on, true
	if !on && enable != tpm2.RHPlatformNV {
		e.state.objects.FlushHierarchy(enable, false)
	}
	return tpm2.RCSuccess
}

type hierarchyChangeAuthIn struct{ newAuth tpm2.Digest }

// Walk visits the parameters.
func (p *hierarchyChangeAuthIn) Walk(c *tpm2.Codec) { c.Param(&p.newAuth) }

// hierarchyChangeAuth is TPM2_HierarchyChangeAuth (Part 3, 24.8).
func (e *Engine) hierarchyChangeAuth(c *call, in *hierarchyChangeAuthIn, _ *none) tpm2.RC {
	e.state.hierarchies.Get(c.handles[0]).Auth = trimAuth(in.newAuth)
	c.endsShutdown = c.handles[0] == tpm2.RHPlatform
	c.persistIf(!c.endsShutdown)
	return tpm2.RCSuccess
}

type setPrimaryPolicyIn struct {
	authPolicy tpm2.Digest
	hashAlg    tpm2.HashIDOrNull
}

// Walk visits the parameters.
func (p *setPrimaryPolicyIn) Walk(c *tpm2.Codec) {
	c.Param(&p.authPolicy)
	c.Param(&p.hashAlg)
}

// setPrimaryPolicy is TPM2_SetPrimaryPolicy (Part 3, 24.3).
func (e *Engine) setPrimaryPolicy(c *call, in *setPrimaryPolicyIn, _ *none) tpm2.RC {
	alg := tpm2.AlgID(in.hashAlg)
	if len(in.authPolicy) != alg.DigestSize() {
		return tpm2.RCSize.P(1)
	}
	if isCountdown(c.handles[0]) {
		c.endsShutdown = true
		e.state.countdowns.SetPolicy(countdownNumber(c.handles[0]), alg, in.authPolicy)
		return tpm2.RCSuccess
	}
	h := e.state.hierarchies.Get(c.handles[0])
	h.PolicyAlg, h.Policy = alg, slices.Clone(in.authPolicy)
	c.endsShutdown = c.handles[0] == tpm2.RHPlatform
	c.persistIf(!c.endsShutdown)
	return tpm2.RCSuccess
}

// clear is TPM2_Clear (Part 3, 24.6): the owner's hierarchy begins anew, and
// what the owner's and the endorsement hierarchy held is gone.
func (e *Engine) clear(c *call, _ *none, _ *none) tpm2.RC {
	s := &e.state
	if s.hierarchies.DisableClear {
		return tpm2.RCDisabled
	}
	if err := s.hierarchies.Clear(e.cfg.Entropy); err != nil {
		panic(err)
	}
	s.objects.FlushHierarchy(tpm2.RHOwner, true)
	s.objects.FlushHierarchy(tpm2.RHEndorsement, true)
	s.nv.DeleteOwners()
	s.lockout.Clear()
	s.timing.Clear()
	s.audit.counter = 0
	s.pcrs.Touch()
	s.pcrs.Auth = nil
	c.endsShutdown = true
	c.persist()
	return tpm2.RCSuccess
}

type clearControlIn struct{ disable tpm2.YesNo }

// Walk visits the parameters.
func (p *clearControlIn) Walk(c *tpm2.Codec) { c.Param(&p.disable) }

// clearControl is TPM2_ClearControl (Part 3, 24.7): lockoutAuth may disable
// TPM2_Clear and not enable it.
func (e *Engine) clearControl(c *call, in *clearControlIn, _ *none) tpm2.RC {
	if c.handles[0] == tpm2.RHLockout && !bool(in.disable) {
		return tpm2.RCAuthFail
	}
	e.state.hierarchies.DisableClear = bool(in.disable)
	c.persist()
	return tpm2.RCSuccess
}
