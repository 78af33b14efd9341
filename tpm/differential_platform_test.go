package tpm

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// pcrList is a selection of PCRs.
func (g *gen) pcrList() (list tpm2.PCRSelectionList) {
	for range pickOf(g, 0, 1, 1, 1, 2, 4) {
		s := tpm2.PCRSelection{Hash: pickOf(g, hashes...)}
		s.Size = 3
		for range g.IntN(5) {
			s.Set(g.IntN(24))
		}
		if g.IntN(12) == 0 {
			s.Bits = [4]byte{0xFF, 0xFF, 0xFF}
		}
		list = append(list, s)
	}
	return list
}

// pcr is a PCR to change: one that a policy counts on is not among them.
func (g *gen) pcr() tpm2.Handle {
	n := tpm2.Handle(pickOf(g, 0, 7, 10, 16, 16, 20, 21, 22, 23, 23, 17, 18))
	if g.IntN(12) == 0 {
		return tpm2.RHNull
	}
	return n
}

// platformMakers are those of Part 3, 22, and 24 to 29.
func platformMakers() map[tpm2.CC]maker {
	m := map[tpm2.CC]maker{
		tpm2.CCPCRExtend: func(g *gen) *step {
			in := &pcrExtendIn{}
			for range pickOf(g, 1, 1, 2, 4, 0) {
				alg := pickOf(g, hashes...)
				in.digests = append(in.digests, tpm2.HA{Hash: alg, Digest: g.bytes(alg.DigestSize())})
			}
			return g.cmd(tpm2.CCPCRExtend, []tpm2.Handle{g.pcr()}, in)
		},
		tpm2.CCPCREvent: func(g *gen) *step {
			return g.cmd(tpm2.CCPCREvent, []tpm2.Handle{g.pcr()}, &pcrEventIn{g.data(1024)})
		},
		tpm2.CCPCRRead:     func(g *gen) *step { return g.cmd(tpm2.CCPCRRead, nil, &pcrReadIn{g.pcrList()}) },
		tpm2.CCPCRAllocate: (*gen).pcrAllocate,
		tpm2.CCPCRReset: func(g *gen) *step {
			return g.cmd(tpm2.CCPCRReset, []tpm2.Handle{tpm2.Handle(pickOf(g, 16, 16, 23, 23, 20, 21, 22, 17, 0))})
		},
		tpm2.CCPCRSetAuthPolicy: func(g *gen) *step {
			in := &pcrSetAuthPolicyIn{pcrNum: handleParam{aPCR, tpm2.Handle(pickOf(g, 20, 21, 22, 22, 19))}}
			in.authPolicy, in.hashAlg = g.hierarchyPolicy()
			return g.cmd(tpm2.CCPCRSetAuthPolicy, []tpm2.Handle{tpm2.RHPlatform}, in)
		},
		tpm2.CCPCRSetAuthValue: func(g *gen) *step {
			return g.cmd(tpm2.CCPCRSetAuthValue, []tpm2.Handle{tpm2.Handle(pickOf(g, 20, 21, 22, 22, 19))}, &pcrSetAuthValueIn{g.auth(tpm2.AlgSHA256)})
		},
		tpm2.CCHierarchyControl: (*gen).hierarchyControl,
		tpm2.CCSetPrimaryPolicy: func(g *gen) *step {
			in := &setPrimaryPolicyIn{}
			in.authPolicy, in.hashAlg = g.hierarchyPolicy()
			return g.cmd(tpm2.CCSetPrimaryPolicy, []tpm2.Handle{g.hierarchyAuth()}, in)
		},
		tpm2.CCHierarchyChangeAuth: func(g *gen) *step {
			return g.cmd(tpm2.CCHierarchyChangeAuth, []tpm2.Handle{g.hierarchyAuth()}, &hierarchyChangeAuthIn{g.auth(tpm2.AlgSHA512)})
		},
		tpm2.CCClear: func(g *gen) *step {
			return g.cmd(tpm2.CCClear, []tpm2.Handle{pickOf(g, tpm2.RHLockout, tpm2.RHPlatform)})
		},
		tpm2.CCClearControl: func(g *gen) *step {
			who := pickOf(g, tpm2.RHLockout, tpm2.RHPlatform, tpm2.RHPlatform)
			return g.cmd(tpm2.CCClearControl, []tpm2.Handle{who}, &clearControlIn{tpm2.YesNo(g.IntN(3) == 0)})
		},
		tpm2.CCDictionaryAttackLockReset: func(g *gen) *step {
			return g.cmd(tpm2.CCDictionaryAttackLockReset, []tpm2.Handle{tpm2.RHLockout})
		},
		tpm2.CCDictionaryAttackParameters: func(g *gen) *step {
			in := &dictionaryAttackParametersIn{tpm2.UINT32(pickOf(g, 1, 3, 5, 32, 100)), tpm2.UINT32(pickOf(g, 1000, 7200, 100_000)),
				tpm2.UINT32(pickOf(g, 1000, 0, 86400))}
			return g.cmd(tpm2.CCDictionaryAttackParameters, []tpm2.Handle{tpm2.RHLockout}, in)
		},
		tpm2.CCSetAlgorithmSet: func(g *gen) *step {
			return g.cmd(tpm2.CCSetAlgorithmSet, []tpm2.Handle{tpm2.RHPlatform}, &uint32Param{tpm2.UINT32(g.Uint32())})
		},
		tpm2.CCClockSet: func(g *gen) *step {
			now := g.w.e.state.timing.Clock
			in := &clockSetIn{tpm2.UINT64(pickOf(g, now+100_000, now+4096*uint64(g.IntN(1000)+20), now+1_000_000, 0, 0xFFFF000000000001))}
			return g.cmd(tpm2.CCClockSet, []tpm2.Handle{pickOf(g, tpm2.RHOwner, tpm2.RHPlatform)}, in)
		},
		tpm2.CCClockRateAdjust: func(g *gen) *step {
			return g.cmd(tpm2.CCClockRateAdjust, []tpm2.Handle{pickOf(g, tpm2.RHOwner, tpm2.RHPlatform)}, &clockRateAdjustIn{clockAdjust(g.IntN(7) - 3)})
		},
		tpm2.CCSetCommandCodeAuditStatus: (*gen).auditStatus,
		tpm2.CCPPCommands: func(g *gen) *step {
			in := &ppCommandsIn{tpm2.CCList{pickOf(g, g.deck...)}, tpm2.CCList{pickOf(g, g.deck...), pickOf(g, g.deck...)}}
			return g.cmd(tpm2.CCPPCommands, []tpm2.Handle{tpm2.RHPlatform}, in)
		},
	}
	for _, cc := range []tpm2.CC{tpm2.CCChangeEPS, tpm2.CCChangePPS} {
		m[cc] = func(g *gen) *step { return g.cmd(cc, []tpm2.Handle{tpm2.RHPlatform}) }
	}
	return m
}

func (g *gen) hierarchyAuth() tpm2.Handle {
	return pickOf(g, tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHLockout)
}

// hierarchyPolicy is a policy with its algorithm, none often.
func (g *gen) hierarchyPolicy() (tpm2.Digest, tpm2.HashIDOrNull) {
	if g.IntN(2) == 0 {
		return nil, tpm2.HashIDOrNull(tpm2.AlgNull)
	}
	alg := pickOf(g, hashes...)
	return g.broad[alg], tpm2.HashIDOrNull(alg)
}

// hierarchyControl disables a hierarchy for a few commands.
func (g *gen) hierarchyControl() *step {
	control := func(enable tpm2.Handle, on bool) *step {
		who := tpm2.RHPlatform
		if !on && enable != tpm2.RHPlatform && enable != tpm2.RHPlatformNV && g.IntN(3) == 0 {
			who = enable
		}
		return g.cmd(tpm2.CCHierarchyControl, []tpm2.Handle{who}, &hierarchyControlIn{handleParam{anEnable, enable}, tpm2.YesNo(on)})
	}
	enable := pickOf(g, tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatformNV, tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatformNV, tpm2.RHPlatform)
	if enable == tpm2.RHPlatform && g.often(10) {
		enable = tpm2.RHOwner
	}
	if g.IntN(3) == 0 {
		return control(enable, true)
	}
	list := []later{}
	for range g.IntN(8) {
		list = append(list, func() *step {
			if g.IntN(4) == 0 {
				return g.contextLoad()
			}
			return g.makers[pickOf(g, g.deck...)](g)
		})
	}
	g.then(append(list, func() *step { return control(enable, true) })...)
	return control(enable, false)
}

// pcrAllocate is followed by a power cycle sometimes, for the banks then change,
// and the episode goes on with them all.
func (g *gen) pcrAllocate() *step {
	all := func() *pcrAllocateIn {
		in := &pcrAllocateIn{}
		for _, alg := range hashes {
			in.allocation = append(in.allocation, tpm2.PCRSelection{Hash: alg, PCRSelect: tpm2.PCRSelect{Size: 3, Bits: [4]byte{0xFF, 0xFF, 0xFF}}})
		}
		return in
	}
	in := all()
	switch g.IntN(6) {
	case 0:
		in.allocation = in.allocation[:1+g.IntN(3)]
	case 1:
		in.allocation = g.pcrList()
	case 3:
		for i := range in.allocation { // no PCR of a D-RTM, or none at all
			in.allocation[i].Bits = pickOf(g, [4]byte{0xFE, 0xFF, 0xFF}, [4]byte{0xFF, 0xFF, 0xFD}, [4]byte{})
		}
	case 2:
		in.allocation[g.IntN(4)].Bits = [4]byte{}
	}
	platform := []tpm2.Handle{tpm2.RHPlatform}
	if g.IntN(8) == 0 {
		g.then(slices.Concat(g.restart(), []later{func() *step { return g.cmd(tpm2.CCPCRRead, nil, &pcrReadIn{all().allocation}) },
			func() *step { return g.cmd(tpm2.CCPCRAllocate, platform, all()) }}, g.restart())...)
	} else {
		g.then(func() *step { return g.cmd(tpm2.CCPCRAllocate, platform, all()) })
	}
	return g.cmd(tpm2.CCPCRAllocate, platform, in)
}

// restart is a power cycle with an orderly Shutdown or none.
func (g *gen) restart() (list []later) {
	kind := pickOf(g, tpm2.SUClear, tpm2.SUState)
	start := pickOf(g, tpm2.SUClear, kind, kind)
	if g.IntN(4) != 0 {
		list = append(list, func() *step { return g.raw(tpm2.CCShutdown, nil, u16(uint16(kind))) })
		if g.IntN(4) == 0 { // something comes between
			list = append(list, func() *step { return g.makers[pickOf(g, g.deck...)](g) })
		}
	}
	list = append(list, func() *step { return &step{event: event{kind: powerCut}} })
	switch g.IntN(5) {
	case 0:
		list = append(list, func() *step { return &step{event: event{hashMeasure, g.data(200)}} })
	case 1:
		list = append(list, func() *step { return g.anywhere(g.cmd(tpm2.CCReadClock, nil)) })
	}
	startup := func(su tpm2.SU) later {
		return func() *step {
			if g.w.e.state.started {
				return nil
			}
			s := g.raw(tpm2.CCStartup, nil, u16(uint16(su)))
			s.locality = uint8(pickOf(g, 0, 0, 0, 0, 3))
			if g.IntN(20) == 0 {
				s.locality = pickOf(g, uint8(1), 4)
			}
			return s
		}
	}
	return append(list, startup(start), startup(tpm2.SUClear), startup(tpm2.SUClear), startup(tpm2.SUClear))
}

// anywhere gives a step another locality.
func (g *gen) anywhere(s *step) *step {
	s.locality = pickOf(g, uint8(0), 1, 2, 3, 4)
	return s
}

// happening is something that the platform does.
func (g *gen) happening() *step {
	switch g.IntN(6) {
	case 0:
		switch g.IntN(60) {
		case 0:
			g.then(append([]later{func() *step { return &step{event: event{kind: pause}} }}, g.expiries()...)...)
		case 1, 2:
			g.then(g.manySessions()...)
		case 3, 4:
			g.then(g.fullMemory()...)
		default:
			g.then(g.restart()...)
		}
		return nil
	case 1:
		return &step{event: event{kind: pickOf(g, hashMeasure, hashMeasure, hashAborted), data: g.data(300)}}
	case 2:
		return &step{event: event{kind: resetEstablished}}
	}
	g.home = pickOf(g, uint8(0), 0, 0, 1, 2, 3, 4)
	return nil
}

// auditStatus audits commands that have nothing of a TPM's own in their answers.
func (g *gen) auditStatus() *step {
	in := &setCommandCodeAuditStatusIn{auditAlg: tpm2.HashIDOrNull(tpm2.AlgNull)}
	if g.IntN(4) == 0 {
		in.auditAlg = tpm2.HashIDOrNull(pickOf(g, hashes...))
		return g.cmd(tpm2.CCSetCommandCodeAuditStatus, []tpm2.Handle{pickOf(g, tpm2.RHOwner, tpm2.RHPlatform)}, in)
	}
	for range g.IntN(4) {
		if cc := pickOf(g, g.deck...); ownParts[cc] == nil && cc != tpm2.CCContextLoad {
			in.setList = append(in.setList, cc)
		}
	}
	for range g.IntN(3) {
		in.clearList = append(in.clearList, pickOf(g, g.deck...))
	}
	return g.cmd(tpm2.CCSetCommandCodeAuditStatus, []tpm2.Handle{pickOf(g, tpm2.RHOwner, tpm2.RHPlatform)}, in)
}

// otherMakers are the rest: starting, testing, random numbers, capabilities.
func otherMakers() map[tpm2.CC]maker {
	return map[tpm2.CC]maker{
		tpm2.CCStartup: func(g *gen) *step { g.then(g.restart()...); return nil },
		tpm2.CCShutdown: func(g *gen) *step {
			return g.raw(tpm2.CCShutdown, nil, u16(uint16(pickOf(g, tpm2.SUClear, tpm2.SUState))))
		},
		tpm2.CCSelfTest: func(g *gen) *step { return g.cmd(tpm2.CCSelfTest, nil, &selfTestIn{tpm2.YesNo(g.IntN(10) == 0)}) },
		tpm2.CCIncrementalSelfTest: func(g *gen) *step {
			in := &incrementalSelfTestIn{}
			for range g.IntN(4) {
				in.toTest = append(in.toTest, pickOf(g, tpm2.AlgSHA256, tpm2.AlgHMAC, tpm2.AlgAES, tpm2.AlgSHA1))
			}
			return g.cmd(tpm2.CCIncrementalSelfTest, nil, in)
		},
		tpm2.CCGetTestResult: func(g *gen) *step { return g.cmd(tpm2.CCGetTestResult, nil) },
		tpm2.CCGetRandom: func(g *gen) *step {
			return g.cmd(tpm2.CCGetRandom, nil, &getRandomIn{tpm2.UINT16(pickOf(g, 0, 1, 32, 48, 64, 65, 1000))})
		},
		tpm2.CCStirRandom:       func(g *gen) *step { return g.cmd(tpm2.CCStirRandom, nil, &stirRandomIn{g.data(128)}) },
		tpm2.CCReadClock:        func(g *gen) *step { return g.cmd(tpm2.CCReadClock, nil) },
		tpm2.CCStartAuthSession: (*gen).makeSession,
		tpm2.CCTestParms: func(g *gen) *step {
			p := g.template(nil)
			return g.cmd(tpm2.CCTestParms, nil, &testParmsIn{p.PublicParms})
		},
		tpm2.CCGetCapability: (*gen).getCapability,
	}
}

func (g *gen) getCapability() *step {
	in := &getCapabilityIn{capability: tpm2.Cap(g.IntN(11)), count: tpm2.UINT32(pickOf(g, 0, 1, 2, 5, 32, 254, 1000, 0xFFFFFFFF))}
	switch in.capability {
	case tpm2.CapHandles:
		in.property = tpm2.UINT32(pickOf(g, knownHandles...))
	case tpm2.CapTPMProperties:
		in.property = tpm2.UINT32(pickOf(g, 0x100, 0x200, 0x100+g.IntN(0x40), 0x200+g.IntN(0x20), 0, 0x300))
	case tpm2.CapCommands, tpm2.CapPPCommands, tpm2.CapAuditCommands:
		in.property = tpm2.UINT32(pickOf(g, g.deck...))
	case tpm2.CapAuthPolicies:
		in.property = tpm2.UINT32(pickOf(g, tpm2.RHOwner, tpm2.RHLockout, tpm2.RHPlatform, 0x40000000, 0x4000000F))
	case tpm2.CapPCRs:
		in.property = tpm2.UINT32(pickOf(g, 0, 0, 0, 1))
	default:
		in.property = tpm2.UINT32(g.IntN(0x50))
	}
	return g.cmd(tpm2.CCGetCapability, nil, in)
}
