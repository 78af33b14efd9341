package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm/internal/timing"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// The library specification that a TPM with the null profile follows, as libtpms
// 0.9.2 states it, and the PC Client platform: level, revision (times 100), and
// the date.
const (
	specFamily    = 0x322E3000 // "2.0"
	specLevel     = 0
	specRevision  = 164
	specDayOfYear = 75
	specYear      = 2021
)

// Specification is the level and revision (times 100) of the library
// specification that the profile says it follows, and its date: for the profiles
// of libtpms what libtpms says.
func (p *Profile) Specification() (level, revision, dayOfYear, year uint32) {
	switch {
	case p.level == levelNull:
		return specLevel, specRevision, specDayOfYear, specYear
	case p.level <= levelLast:
		return 0, 183, 25, 2024
	}
	return 0, 184, 79, 2025
}

// Bits of TPMA_PERMANENT (Part 2, 8.6), TPMA_STARTUP_CLEAR (8.7) and
// TPMA_MEMORY (8.8).
const (
	permanentOwnerAuth       = 1 << 0
	permanentEndorsementAuth = 1 << 1
	permanentLockoutAuth     = 1 << 2
	permanentDisableClear    = 1 << 8
	permanentInLockout       = 1 << 9
	permanentTPMGeneratedEPS = 1 << 10

	startupPlatform    = 1 << 0
	startupOwner       = 1 << 1
	startupEndorsement = 1 << 2
	startupPlatformNV  = 1 << 3
	startupReadOnly    = 1 << 4
	startupOrderly     = 1 << 31

	memorySharedNV     = 1 << 1
	memoryObjectCopied = 1 << 2
)

// ptGroup is how many tags a group of properties has.
const ptGroup = 0x100

// propertiesFrom lists the properties from one on, to the end of its group.
func (e *Engine) propertiesFrom(p tpm2.PT) []tpm2.TaggedProperty {
	var list []tpm2.TaggedProperty
	switch {
	case p < tpm2.PTVar:
		list = e.fixedProperties()
	case p < tpm2.PTVar+ptGroup:
		list = e.variableProperties()
	}
	for len(list) > 0 && list[0].Property < p {
		list = list[1:]
	}
	return list
}

// fixedProperties are those that a TPM keeps while it runs.
func (e *Engine) fixedProperties() []tpm2.TaggedProperty {
	commands := uint32(e.profile.enabled.count())
	level, revision, dayOfYear, year := e.profile.Specification()
	list := make([]tpm2.TaggedProperty, 0, ptGroup/4)
	list = append(list, []tpm2.TaggedProperty{
		{Property: tpm2.PTFamilyIndicator, Value: specFamily},
		{Property: tpm2.PTLevel, Value: level},
		{Property: tpm2.PTRevision, Value: revision},
		{Property: tpm2.PTDayOfYear, Value: dayOfYear},
		{Property: tpm2.PTYear, Value: year},
	}...)
	list = append(list, e.identityProperties()...)
	list = append(list, []tpm2.TaggedProperty{
		{Property: tpm2.PTInputBuffer, Value: tpm2.MaxBufferSize},
		{Property: tpm2.PTHRTransientMin, Value: object.MaxTransient},
		{Property: tpm2.PTHRPersistentMin, Value: nv.MinPersistent},
		{Property: tpm2.PTHRLoadedMin, Value: session.MaxLoaded},
		{Property: tpm2.PTActiveSessionsMax, Value: session.MaxActive},
		{Property: tpm2.PTPCRCount, Value: tpm2.PCRCount},
		{Property: tpm2.PTPCRSelectMin, Value: tpm2.PCRSelectSize},
		{Property: tpm2.PTContextGapMax, Value: session.ContextGap},
		{Property: tpm2.PTNVCountersMax, Value: 0}, // limited by the NV memory alone
		{Property: tpm2.PTNVIndexMax, Value: tpm2.MaxNVIndexSize},
		{Property: tpm2.PTMemory, Value: memorySharedNV | memoryObjectCopied},
		{Property: tpm2.PTClockUpdate, Value: timing.UpdateInterval},
		{Property: tpm2.PTContextHash, Value: uint32(tpm2.AlgSHA512)},
		{Property: tpm2.PTContextSym, Value: uint32(tpm2.AlgAES)},
		{Property: tpm2.PTContextSymSize, Value: 256},
		{Property: tpm2.PTOrderlyCount, Value: nv.MaxOrderlyCount},
		{Property: tpm2.PTMaxCommandSize, Value: e.buffer},
		{Property: tpm2.PTMaxResponseSize, Value: e.buffer},
		{Property: tpm2.PTMaxDigest, Value: tpm2.MaxDigestSize},
		{Property: tpm2.PTMaxObjectContext, Value: object.MaxContext},
		{Property: tpm2.PTMaxSessionContext, Value: session.MaxContext},
		{Property: tpm2.PTPSFamilyIndicator, Value: specFamily},
		{Property: tpm2.PTPSLevel, Value: specLevel},
		{Property: tpm2.PTPSRevision, Value: specRevision},
		{Property: tpm2.PTPSDayOfYear, Value: specDayOfYear},
		{Property: tpm2.PTPSYear, Value: specYear},
		{Property: tpm2.PTSplitMax, Value: commitmentMax},
		{Property: tpm2.PTTotalCommands, Value: commands},
		{Property: tpm2.PTLibraryCommands, Value: commands},
		{Property: tpm2.PTVendorCommands, Value: 0},
		{Property: tpm2.PTNVBufferMax, Value: tpm2.MaxBufferSize},
		{Property: tpm2.PTModes, Value: 0},
		{Property: tpm2.PTMaxCapBuffer, Value: tpm2.MaxCapBufferSize},
	}...)
	if e.profile.level < levelAshlar {
		return list
	}
	// There are no security versions of the program.
	return append(list, tpm2.TaggedProperty{Property: tpm2.PTFirmwareSVN}, tpm2.TaggedProperty{Property: tpm2.PTFirmwareMaxSVN})
}

// variableProperties are those that commands change.
func (e *Engine) variableProperties() []tpm2.TaggedProperty {
	s := &e.state
	persistent := len(s.objects.Persistent)
	loaded, active := s.sessions.Counts()
	freeSlots := 0
	for _, o := range s.objects.Slots {
		if o == nil {
			freeSlots++
		}
	}
	return []tpm2.TaggedProperty{
		{Property: tpm2.PTPermanent, Value: e.permanentAttributes()},
		{Property: tpm2.PTStartupClear, Value: e.startupAttributes()},
		{Property: tpm2.PTHRNVIndex, Value: uint32(len(s.nv.All()))},
		{Property: tpm2.PTHRLoaded, Value: uint32(loaded)},
		{Property: tpm2.PTHRLoadedAvail, Value: uint32(session.MaxLoaded - loaded)},
		{Property: tpm2.PTHRActive, Value: uint32(active)},
		{Property: tpm2.PTHRActiveAvail, Value: uint32(session.MaxActive - active)},
		{Property: tpm2.PTHRTransientAvail, Value: uint32(freeSlots)},
		{Property: tpm2.PTHRPersistent, Value: uint32(persistent)},
		{Property: tpm2.PTHRPersistentAvail, Value: uint32(s.nv.ObjectsAvailable(persistent))},
		{Property: tpm2.PTNVCounters, Value: uint32(s.nv.Counters())},
		{Property: tpm2.PTNVCountersAvail, Value: uint32(s.nv.CountersAvailable(persistent))},
		{Property: tpm2.PTAlgorithmSet, Value: s.algorithmSet},
		{Property: tpm2.PTLoadedCurves, Value: uint32(len(e.profile.impl.Curves))},
		{Property: tpm2.PTLockoutCounter, Value: s.lockout.FailedTries},
		{Property: tpm2.PTMaxAuthFail, Value: s.lockout.MaxTries},
		{Property: tpm2.PTLockoutInterval, Value: s.lockout.RecoveryTime},
		{Property: tpm2.PTLockoutRecovery, Value: s.lockout.LockoutRecovery},
		{Property: tpm2.PTNVWriteRecovery, Value: 0},
		{Property: tpm2.PTAuditCounter0, Value: uint32(s.audit.counter >> 32)},
		{Property: tpm2.PTAuditCounter1, Value: uint32(s.audit.counter)},
	}
}

// bitIf is the bit where it is on.
func bitIf(on bool, bit uint32) uint32 {
	if on {
		return bit
	}
	return 0
}

// permanentAttributes is TPMA_PERMANENT.
func (e *Engine) permanentAttributes() uint32 {
	h := &e.state.hierarchies
	return bitIf(len(h.Owner.Auth) != 0, permanentOwnerAuth) |
		bitIf(len(h.Endorsement.Auth) != 0, permanentEndorsementAuth) |
		bitIf(len(h.Lockout.Auth) != 0, permanentLockoutAuth) |
		bitIf(h.DisableClear, permanentDisableClear) |
		bitIf(e.state.lockout.Locked(), permanentInLockout) |
		permanentTPMGeneratedEPS
}

// startupAttributes is TPMA_STARTUP_CLEAR.
func (e *Engine) startupAttributes() uint32 {
	h := &e.state.hierarchies
	return bitIf(h.Platform.Enabled, startupPlatform) |
		bitIf(h.Owner.Enabled, startupOwner) |
		bitIf(h.Endorsement.Enabled, startupEndorsement) |
		bitIf(h.PlatformNV, startupPlatformNV) |
		bitIf(e.state.readOnly, startupReadOnly) |
		bitIf(e.state.wasOrderly, startupOrderly)
}
