package tpm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// clockInfo compares what both TPMs say of resets and of how far the clock is
// to be trusted, but for its value.
func (p *pair) clockInfo(what string) {
	p.t.Helper()
	var infos [2]tpm2.TimeInfo
	for i, resp := range [][]byte{p.execute(frame(tpm2.CCReadClock, nil, nil)), p.o.execute(frame(tpm2.CCReadClock, nil, nil))} {
		if code(resp) != tpm2.RCSuccess {
			p.t.Fatalf("%s: TPM %d: %v", what, i, code(resp))
		}
		decode(p.t, resp[headerSize:], &infos[i])
		infos[i].Clock &^= 0x3FFFF // four minutes
		infos[i].Time = 0
	}
	if infos[0] != infos[1] {
		p.t.Errorf("%s: ours %+v, swtpm %+v", what, infos[0], infos[1])
	}
}

// afterShutdown are commands that succeed after a Shutdown. What they are to
// work on is made anew for each.
func afterShutdown() map[string][]byte {
	const (
		plain, orderly, counter = tpm2.Handle(0x01000001), tpm2.Handle(0x01000002), tpm2.Handle(0x01000003)
		owner, platform         = tpm2.RHOwner, tpm2.RHPlatform
		storage, signer         = tpm2.TransientFirst, tpm2.TransientFirst + 1
	)
	null, none := u16(uint16(tpm2.AlgNull)), buf16(nil)
	write := func(x tpm2.Handle) []byte {
		return frame(tpm2.CCNVWrite, []tpm2.Handle{owner, x}, password(""), buf16([]byte("data")), u16(0))
	}
	nv := func(cc tpm2.CC, x tpm2.Handle) []byte { return frame(cc, []tpm2.Handle{owner, x}, password("")) }
	empty := hmacKey(tpm2.ObjUserWithAuth, schemeOf(tpm2.AlgNull))
	attest := slices.Concat(none, u16(uint16(tpm2.AlgECDSA)), u16(uint16(tpm2.AlgSHA256)))
	list := map[string][]byte{
		"GetRandom":                frame(tpm2.CCGetRandom, nil, nil, u16(4)),
		"ReadClock":                frame(tpm2.CCReadClock, nil, nil),
		"SelfTest":                 frame(tpm2.CCSelfTest, nil, nil, []byte{1}),
		"StirRandom":               frame(tpm2.CCStirRandom, nil, nil, buf16([]byte{1})),
		"StartAuthSession":         startSessionCmd(tpm2.SEHMAC),
		"CreatePrimary":            createPrimaryCmd(owner, &empty, "data"),
		"FlushContext":             flushCmd(signer),
		"ContextSave":              frame(tpm2.CCContextSave, []tpm2.Handle{signer}, nil),
		"EvictControl":             evictCmd(owner, storage, 0x81000001),
		"Create":                   frame(tpm2.CCCreate, []tpm2.Handle{storage}, password(""), buf16(append(none, buf16([]byte("x"))...)), buf16(tpm2.Marshal(&empty)), none, u32(0)),
		"Sign":                     frame(tpm2.CCSign, []tpm2.Handle{signer}, password(""), buf16(make([]byte, 32)), append(u16(uint16(tpm2.AlgECDSA)), u16(uint16(tpm2.AlgSHA256))...), u16(uint16(tpm2.STHashCheck)), u32(uint32(tpm2.RHNull)), none),
		"Certify":                  frame(tpm2.CCCertify, []tpm2.Handle{signer, signer}, append(password(""), password("")...), attest),
		"Certify without a signer": frame(tpm2.CCCertify, []tpm2.Handle{signer, tpm2.RHNull}, append(password(""), password("")...), attest),
		"GetTime":                  frame(tpm2.CCGetTime, []tpm2.Handle{tpm2.RHEndorsement, tpm2.RHNull}, append(password(""), password("")...), attest),
		"CommandAudit":             frame(tpm2.CCGetCommandAuditDigest, []tpm2.Handle{tpm2.RHEndorsement, signer}, append(password(""), password("")...), attest),
		"PolicyCommandCode":        assert(tpm2.CCPolicyCommandCode, u32(uint32(tpm2.CCSign)))(tpm2.PolicySessionFirst),
		"PolicySecret":             frame(tpm2.CCPolicySecret, []tpm2.Handle{owner, tpm2.PolicySessionFirst}, password(""), none, none, none, u32(0)),
		"PCR_Event of none":        frame(tpm2.CCPCREvent, []tpm2.Handle{tpm2.RHNull}, password(""), buf16([]byte("x"))),
		"PCR_Allocate":             frame(tpm2.CCPCRAllocate, []tpm2.Handle{platform}, password(""), u32(0)),
		"PCR_SetAuthPolicy":        pcrPolicyCmd(nil, tpm2.AlgNull, 20),
		"PCR_SetAuthValue":         pcrValueCmd(20, "", ""),
		"HierarchyControl, same":   hierarchyControlCmd(owner, owner, 1),
		"HierarchyControl":         hierarchyControlCmd(owner, owner, 0),
		"ChangeAuth of owner":      changeAuthCmd(owner, "", ""),
		"ChangeAuth of platform":   changeAuthCmd(platform, "", ""),
		"policy of owner":          frame(tpm2.CCSetPrimaryPolicy, []tpm2.Handle{owner}, password(""), none, null),
		"policy of platform":       frame(tpm2.CCSetPrimaryPolicy, []tpm2.Handle{platform}, password(""), none, null),
		"Clear":                    frame(tpm2.CCClear, []tpm2.Handle{platform}, password("")),
		"ClearControl":             frame(tpm2.CCClearControl, []tpm2.Handle{platform}, password(""), []byte{0}),
		"ChangeEPS":                frame(tpm2.CCChangeEPS, []tpm2.Handle{platform}, password("")),
		"ChangePPS":                frame(tpm2.CCChangePPS, []tpm2.Handle{platform}, password("")),
		"LockReset":                frame(tpm2.CCDictionaryAttackLockReset, []tpm2.Handle{tpm2.RHLockout}, password("")),
		"Parameters":               frame(tpm2.CCDictionaryAttackParameters, []tpm2.Handle{tpm2.RHLockout}, password(""), u32(5), u32(6), u32(7)),
		"ClockSet":                 clockSet(1 << 30),
		"ClockRateAdjust":          frame(tpm2.CCClockRateAdjust, []tpm2.Handle{owner}, password(""), []byte{1}),
		"SetAlgorithmSet":          frame(tpm2.CCSetAlgorithmSet, []tpm2.Handle{platform}, password(""), u32(1)),
		"AuditStatus":              auditStatusCmd(tpm2.AlgNull, tpm2.CCList{tpm2.CCGetRandom}, nil),
		"define":                   defineCmd(owner, 0x01000009, plainNV, 8),
		"undefine":                 nv(tpm2.CCNVUndefineSpace, plain),
		"write":                    write(plain),
		"write, orderly":           write(orderly),
		"read":                     frame(tpm2.CCNVRead, []tpm2.Handle{owner, plain}, password(""), u16(4), u16(0)),
		"increment":                nv(tpm2.CCNVIncrement, counter),
		"read lock":                nv(tpm2.CCNVReadLock, plain),
		"read lock, orderly":       nv(tpm2.CCNVReadLock, orderly),
		"write lock":               nv(tpm2.CCNVWriteLock, plain),
		"write lock, orderly":      nv(tpm2.CCNVWriteLock, orderly),
		"global lock":              frame(tpm2.CCNVGlobalWriteLock, []tpm2.Handle{owner}, password("")),
	}
	for _, n := range []tpm2.Handle{0, 15, 16, 23} {
		list[fmt.Sprintf("PCR_Extend %d", n)] = extendCmd(n, ha(tpm2.AlgSHA1, 1))
		list[fmt.Sprintf("PCR_Event %d", n)] = frame(tpm2.CCPCREvent, []tpm2.Handle{n}, password(""), buf16([]byte("x")))
	}
	list["PCR_Reset"] = frame(tpm2.CCPCRReset, []tpm2.Handle{16}, password(""))
	return list
}

// TestWhatEndsAShutdown: a command after Shutdown(STATE) or not makes the power
// loss that follows disorderly where it does so in swtpm.
func TestWhatEndsAShutdown(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	storage, signer := storageKey(eccKey(0, schemeOf(tpm2.AlgNull), tpm2.CurveP256)), eccKey(signingKey, schemeOf(tpm2.AlgNull), tpm2.CurveP256)
	for what, cmd := range afterShutdown() {
		for _, x := range []struct {
			h     tpm2.Handle
			attrs tpm2.NVAttributes
		}{
			{0x01000001, plainNV | tpm2.NVReadSTClear | tpm2.NVWriteSTClear}, {0x01000002, plainNV | tpm2.NVOrderly | tpm2.NVReadSTClear | tpm2.NVWriteSTClear},
			{0x01000003, plainNV | tpm2.NVOrderly | nvKind(tpm2.NTCounter)},
		} {
			p.same("define", defineCmd(tpm2.RHOwner, x.h, x.attrs, 8))
			p.same("write", frame(tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, x.h}, password(""), buf16(make([]byte, 8)), u16(0)))
		}
		p.same("increment", frame(tpm2.CCNVIncrement, []tpm2.Handle{tpm2.RHOwner, 0x01000003}, password("")))
		p.sameCode("policy session", startSessionCmd(tpm2.SEPolicy), false)
		p.sameCode("storage", createPrimaryCmd(tpm2.RHOwner, &storage, ""), false)
		p.sameCode("signer", createPrimaryCmd(tpm2.RHOwner, &signer, ""), false)
		p.expect(tpm2.RCSuccess, what, shutdownCmd(tpm2.SUState))
		if ours, _ := p.sameCode(what, cmd, false); code(ours) != tpm2.RCSuccess {
			t.Errorf("%s: %v", what, code(ours))
		}
		p.cut()
		if resp := p.same("Startup after "+what, startupCmd(tpm2.SUState)); code(resp) != tpm2.RCSuccess {
			p.expect(tpm2.RCSuccess, what, startupCmd(tpm2.SUClear))
		}
		if what != "ClockSet" { // which swtpm forgets if it writes nothing else
			p.clockInfo(what)
		}
		p.properties(what)
		p.same(what, readNVPublicCmd(0x01000001))
		p.same(what, frame(tpm2.CCClear, []tpm2.Handle{tpm2.RHPlatform}, password("")))
		p.same(what, frame(tpm2.CCClearControl, []tpm2.Handle{tpm2.RHPlatform}, password(""), []byte{0}))
		p.cut()
		p.expect(tpm2.RCSuccess, what, startupCmd(tpm2.SUClear))
	}
}

// TestPowerHistories compares the counts of resets, the clock's safe flag, the
// lockout and the orderly counter over random power cycles.
func TestPowerHistories(t *testing.T) {
	p := newPair(t)
	h := rand.New(rand.NewPCG(1, 0))
	const counter, protected = tpm2.Handle(0x01000003), tpm2.Handle(0x01000004)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.same("counter", defineCmd(tpm2.RHOwner, counter, plainNV|tpm2.NVOrderly|nvKind(tpm2.NTCounter), 8))
	p.same("protected", defineCmd(tpm2.RHOwner, protected, plainNV&^tpm2.NVNoDA, 8))
	p.same("parameters", frame(tpm2.CCDictionaryAttackParameters, []tpm2.Handle{tpm2.RHLockout}, password(""), u32(10), u32(1000), u32(0)))
	p.same("to read", frame(tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, protected}, password(""), buf16(make([]byte, 8)), u16(0)))
	read := func(auth string) []byte {
		return frame(tpm2.CCNVRead, []tpm2.Handle{protected, protected}, password(auth), u16(1), u16(0))
	}
	commands := [][]byte{
		frame(tpm2.CCNVIncrement, []tpm2.Handle{tpm2.RHOwner, counter}, password("")), read("secret"), read("wrong"),
		shutdownCmd(tpm2.SUState), shutdownCmd(tpm2.SUClear), shutdownCmd(tpm2.SUState), extendCmd(7, ha(tpm2.AlgSHA256, 7)),
		frame(tpm2.CCPCRRead, nil, nil, u32(0)), frame(tpm2.CCDictionaryAttackLockReset, []tpm2.Handle{tpm2.RHLockout}, password("")),
		changeAuthCmd(tpm2.RHLockout, "wrong", "x"), frame(tpm2.CCClockRateAdjust, []tpm2.Handle{tpm2.RHOwner}, password(""), []byte{0}),
	}
	to := uint64(1 << 20)
	for i := range 200 {
		for range h.IntN(6) {
			cmd := commands[h.IntN(len(commands))]
			p.same(fmt.Sprintf("cycle %d, %v", i, commandCode(cmd)), cmd)
		}
		if h.IntN(10) == 0 {
			to += 1 << 20
			p.same("ClockSet", clockSet(to))
			p.same("a write, without which swtpm forgets the clock", changeAuthCmd(tpm2.RHOwner, "", ""))
		}
		p.cut()
		what := fmt.Sprintf("cycle %d", i)
		up := tpm2.SUClear
		if p.e.state.orderly == shutdownState && h.IntN(2) == 0 {
			up = tpm2.SUState
		}
		p.expect(tpm2.RCSuccess, what, startupCmd(up))
		p.clockInfo(what)
		p.properties(what)
		p.same(what, frame(tpm2.CCNVRead, []tpm2.Handle{tpm2.RHOwner, counter}, password(""), u16(8), u16(0)))
	}
}

// TestStartupStateWinsNoTry: a Startup(STATE) that fails does not make the TPM
// forget that the power was cut after a try, as it makes swtpm.
func TestStartupStateWinsNoTry(t *testing.T) {
	r := newRig(t, true)
	r.execute(defineCmd(tpm2.RHOwner, protected, tpm2.NVAuthRead|tpm2.NVAuthWrite, 8))
	r.execute(tryCmd("secret"))
	r.power(r.durable)
	r.must(tpm2.RCValue.P(1), tpm2.CCStartup, nil, nil, u16(1))
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	if n := r.e.state.lockout.FailedTries; n != 1 {
		t.Errorf("%d failures, want 1", n)
	}
}
