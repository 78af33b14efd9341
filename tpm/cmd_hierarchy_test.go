package tpm

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

func hierarchyControlCmd(auth, enable tpm2.Handle, on byte) []byte {
	return frame(tpm2.CCHierarchyControl, []tpm2.Handle{auth}, password(""), u32(uint32(enable)), []byte{on})
}

func changeAuthCmd(h tpm2.Handle, old, auth string) []byte {
	return frame(tpm2.CCHierarchyChangeAuth, []tpm2.Handle{h}, password(old), buf16([]byte(auth)))
}

// properties reads what the commands here change.
func (p *pair) properties(when string) {
	p.t.Helper()
	p.expect(tpm2.RCSuccess, when, capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTPermanent), 13))
	p.expect(tpm2.RCSuccess, when, capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTLockoutCounter), 7))
	p.expect(tpm2.RCSuccess, when, capabilityCmd(tpm2.CapAuthPolicies, uint32(tpm2.PermanentFirst), 7))
	p.expect(tpm2.RCSuccess, when, capabilityCmd(tpm2.CapHandles, uint32(tpm2.NVIndexFirst), 7))
	p.expect(tpm2.RCSuccess, when, frame(tpm2.CCPCRRead, nil, nil, u32(0)))
}

func TestHierarchyControlAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.expect(tpm2.RCSuccess, "an owner's Index", defineCmd(tpm2.RHOwner, 0x01000001, plainNV, 8))
	p.expect(tpm2.RCSuccess, "a platform's Index", defineCmd(tpm2.RHPlatform, 0x01000002, plainNV|tpm2.NVPlatformCreate, 8))
	handles := []tpm2.Handle{tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatformNV, tpm2.RHLockout, tpm2.RHNull, tpm2.RHPlatform}
	for _, on := range []byte{0, 1, 0, 2} {
		for _, enable := range handles {
			for _, auth := range handles {
				if enable == tpm2.RHPlatform && auth == enable {
					continue // done last: nothing brings the platform back
				}
				what := fmt.Sprintf("0x%08x turns 0x%08x to %d", uint32(auth), uint32(enable), on)
				p.same(what, hierarchyControlCmd(auth, enable, on))
				p.properties(what)
				p.same("owner's Index, "+what, readNVPublicCmd(0x01000001))
				p.same("platform's Index, "+what, readNVPublicCmd(0x01000002))
			}
		}
	}
	p.same("define without phEnableNV", defineCmd(tpm2.RHPlatform, 0x01000003, plainNV|tpm2.NVPlatformCreate, 8))
	p.same("platform off", hierarchyControlCmd(tpm2.RHPlatform, tpm2.RHPlatform, 0))
	p.same("platform on", hierarchyControlCmd(tpm2.RHPlatform, tpm2.RHPlatform, 1))
	p.properties("platform off")
	for _, su := range []tpm2.SU{tpm2.SUState, tpm2.SUClear} {
		p.expect(tpm2.RCSuccess, "Shutdown", shutdownCmd(tpm2.SUState))
		p.cut()
		p.expect(tpm2.RCSuccess, "Startup", startupCmd(su))
		p.properties("started")
		p.same("platform's Index", readNVPublicCmd(0x01000002))
	}
}

func TestHierarchySecretsAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	long := bytes.Repeat([]byte{7}, 64)
	for _, h := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHLockout, tpm2.RHNull} {
		policy := func(auth string, digest []byte, alg tpm2.AlgID) []byte {
			return frame(tpm2.CCSetPrimaryPolicy, []tpm2.Handle{h}, password(auth), buf16(digest), u16(uint16(alg)))
		}
		p.same("set", changeAuthCmd(h, "", "one"))
		p.same("set with the old one", changeAuthCmd(h, "", "two"))
		p.same("trailing zeros", changeAuthCmd(h, "one\x00", "two\x00\x00"))
		p.same("64 bytes", changeAuthCmd(h, "two", string(long)))
		p.same("65 bytes", changeAuthCmd(h, string(long), string(long)+"x"))
		p.same("to none", changeAuthCmd(h, string(long), ""))
		p.same("policy", policy("", make([]byte, 48), tpm2.AlgSHA384))
		p.properties("policy")
		p.same("a policy of another size", policy("", make([]byte, 48), tpm2.AlgSHA256))
		p.same("a policy without algorithm", policy("", make([]byte, 48), tpm2.AlgNull))
		p.same("an unknown algorithm", policy("", make([]byte, 32), tpm2.AlgSM3256))
		p.same("last", changeAuthCmd(h, "", "last"))
		p.properties("last")
	}
	for _, su := range []tpm2.SU{tpm2.SUState, tpm2.SUClear} {
		p.expect(tpm2.RCSuccess, "Shutdown", shutdownCmd(tpm2.SUState))
		p.cut()
		p.expect(tpm2.RCSuccess, "Startup", startupCmd(su))
		p.properties("started")
		p.same("the platform's", changeAuthCmd(tpm2.RHPlatform, "last", "last"))
		p.same("the owner's", changeAuthCmd(tpm2.RHOwner, "last", "last"))
	}
}

func TestClearAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	clearCmd := func(auth tpm2.Handle, pw string) []byte {
		return frame(tpm2.CCClear, []tpm2.Handle{auth}, password(pw))
	}
	control := func(auth tpm2.Handle, pw string, disable byte) []byte {
		return frame(tpm2.CCClearControl, []tpm2.Handle{auth}, password(pw), []byte{disable})
	}
	fill := func() {
		p.same("owner", changeAuthCmd(tpm2.RHOwner, "", "owner"))
		p.same("lockout", changeAuthCmd(tpm2.RHLockout, "", "lock"))
		p.same("platform", changeAuthCmd(tpm2.RHPlatform, "", "plat"))
		p.same("Index", frame(tpm2.CCNVDefineSpace, []tpm2.Handle{tpm2.RHOwner}, password("owner"), buf16(nil), publicNV(0x01000001, plainNV, 8)))
		p.same("Index", frame(tpm2.CCNVDefineSpace, []tpm2.Handle{tpm2.RHPlatform}, password("plat"), buf16(nil),
			publicNV(0x01000002, plainNV|tpm2.NVPlatformCreate, 8)))
		p.same("parameters", frame(tpm2.CCDictionaryAttackParameters, []tpm2.Handle{tpm2.RHLockout}, password("lock"), u32(5), u32(6), u32(7)))
		p.same("owner off", frame(tpm2.CCHierarchyControl, []tpm2.Handle{tpm2.RHOwner}, password("owner"), u32(uint32(tpm2.RHOwner)), []byte{0}))
		p.properties("filled")
	}
	fill()
	p.same("lockoutAuth disables", control(tpm2.RHLockout, "lock", 1))
	p.properties("disabled")
	p.same("disabled", clearCmd(tpm2.RHLockout, "lock"))
	p.same("lockoutAuth can't enable", control(tpm2.RHLockout, "lock", 0))
	p.same("not the owner", control(tpm2.RHOwner, "owner", 0))
	p.same("neither yes nor no", control(tpm2.RHPlatform, "plat", 2))
	p.same("the platform enables", control(tpm2.RHPlatform, "plat", 0))
	p.same("not the owner", clearCmd(tpm2.RHOwner, "owner"))
	p.expect(tpm2.RCSuccess, "Clear", clearCmd(tpm2.RHLockout, "lock"))
	p.properties("cleared")
	p.same("the platform's Index", readNVPublicCmd(0x01000002))
	p.same("the platform's authorization stays", changeAuthCmd(tpm2.RHPlatform, "plat", ""))
	fill()
	p.expect(tpm2.RCSuccess, "Clear", clearCmd(tpm2.RHPlatform, "plat"))
	p.properties("cleared")
}

// TestClearRenewsTheOwner: the storage hierarchy's secrets are new, the
// endorsement seed stays.
func TestClearRenewsTheOwner(t *testing.T) {
	r := newRig(t, true)
	before := r.e.state.hierarchies
	r.clock.Advance(time.Hour)
	r.must(tpm2.RCSuccess, tpm2.CCClear, []tpm2.Handle{tpm2.RHPlatform}, password(""))
	after := r.e.state.hierarchies
	if bytes.Equal(before.Owner.Seed, after.Owner.Seed) || bytes.Equal(before.Owner.Proof, after.Owner.Proof) ||
		bytes.Equal(before.Endorsement.Proof, after.Endorsement.Proof) {
		t.Error("a secret outlived Clear")
	}
	if !bytes.Equal(before.Endorsement.Seed, after.Endorsement.Seed) || !bytes.Equal(before.Platform.Seed, after.Platform.Seed) {
		t.Error("Clear took a seed that it must keep")
	}
	if info := r.e.state.timing.ClockInfo(); info != (tpm2.ClockInfo{Safe: true}) {
		t.Errorf("after Clear: %+v", info)
	}
}

// TestClearKeepsAllocation: firmware that chooses banks and clears in one boot gets
// both. In libtpms Clear writes all that is permanent as it is now, and so forgets
// what PCR_Allocate has chosen for the next boot.
func TestClearKeepsAllocation(t *testing.T) {
	r := newRig(t, true)
	in := &pcrAllocateIn{allocation: tpm2.PCRSelectionList{{Hash: tpm2.AlgSHA1, PCRSelect: tpm2.PCRSelect{Size: 3}}}}
	body := r.must(tpm2.RCSuccess, tpm2.CCPCRAllocate, []tpm2.Handle{tpm2.RHPlatform}, password(""), tpm2.Marshal(&in.allocation))
	if len(body) < 5 || body[4] != 1 { // allocationSuccess
		t.Fatalf("not allocated: %x", body)
	}
	r.must(tpm2.RCSuccess, tpm2.CCClear, []tpm2.Handle{tpm2.RHPlatform}, password(""))
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(uint16(tpm2.SUClear)))
	if s := &r.e.state.pcrs; s.Allocated != s.Next || s.Allocated[0].Bits != (tpm2.PCRSelect{}).Bits {
		t.Errorf("after Clear and a power cycle the banks are %v", s.Allocated)
	}
}
