package tpm

import "github.com/ashlar-cloud/ashlar/tpm2"

// readOnlyCommands are those of version 1.84, Part 3, 24, on Read-Only mode.
var readOnlyCommands = []command{
	define(command{cc: tpm2.CCReadOnlyControl, pp: true, attrs: tpm2.CCAttrNV, handles: platformHandle}, (*Engine).readOnlyControl),
}

// refusedReadOnly are the commands that Read-Only mode refuses whatever their
// parameters: what changes the permanent state, and creates keys. Some others
// refuse for themselves: see mayChange and policySecret.
var refusedReadOnly = ccSetOf(
	tpm2.CCNVUndefineSpaceSpecial, tpm2.CCEvictControl, tpm2.CCHierarchyControl, tpm2.CCNVUndefineSpace,
	tpm2.CCChangeEPS, tpm2.CCChangePPS, tpm2.CCClear, tpm2.CCClearControl, tpm2.CCClockSet, tpm2.CCClockRateAdjust,
	tpm2.CCHierarchyChangeAuth, tpm2.CCNVDefineSpace, tpm2.CCNVDefineSpace2, tpm2.CCPCRAllocate,
	tpm2.CCPCRSetAuthPolicy, tpm2.CCPCRSetAuthValue, tpm2.CCPPCommands, tpm2.CCSetPrimaryPolicy,
	tpm2.CCCreatePrimary, tpm2.CCCreate, tpm2.CCCreateLoaded, tpm2.CCNVGlobalWriteLock, tpm2.CCNVIncrement,
	tpm2.CCDictionaryAttackParameters, tpm2.CCNVChangeAuth, tpm2.CCObjectChangeAuth, tpm2.CCSetAlgorithmSet,
	tpm2.CCSetCommandCodeAuditStatus, tpm2.CCSetCapability)

type readOnlyControlIn struct{ state tpm2.YesNo }

// Walk visits the parameters.
func (p *readOnlyControlIn) Walk(c *tpm2.Codec) { c.Param(&p.state) }

// readOnlyControl is TPM2_ReadOnlyControl (version 1.84, Part 3, 24). The mode
// lasts until the next TPM Restart or Reset.
func (e *Engine) readOnlyControl(c *call, in *readOnlyControlIn, _ *none) tpm2.RC {
	c.endsShutdown = e.state.readOnly != bool(in.state)
	e.state.readOnly = bool(in.state)
	return tpm2.RCSuccess
}
