package tpm

import (
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

var asPlatform = []tpm2.Handle{tpm2.RHPlatform}

// TestPlatformCommandsAgainstSwtpm renews the hierarchies: what was theirs is
// gone, and their keys differ afterwards.
func TestPlatformCommandsAgainstSwtpm(t *testing.T) {
	p := startedPair(t)
	for _, c := range []struct {
		cc        tpm2.CC
		hierarchy tpm2.Handle
	}{{tpm2.CCChangeEPS, tpm2.RHEndorsement}, {tpm2.CCChangePPS, tpm2.RHPlatform}} {
		h := []tpm2.Handle{c.hierarchy}
		create := frame(tpm2.CCCreatePrimary, h, password(""), buf16(make([]byte, 4)), buf16(eccSigning()), buf16(nil), u32(0))
		before := p.execute(create)
		p.o.execute(create)
		p.expect(tpm2.RCSuccess, "owner's", defineCmd(tpm2.RHOwner, testIndex, plainNV, 8))
		p.expect(tpm2.RCSuccess, "platform's", defineCmd(tpm2.RHPlatform, otherIndex, plainNV|tpm2.NVPlatformCreate, 8))
		p.expect(tpm2.RCSuccess, "SetPrimaryPolicy", frame(tpm2.CCSetPrimaryPolicy, h, password(""),
			buf16(make([]byte, 32)), u16(uint16(tpm2.AlgSHA256))))
		p.expect(tpm2.RCSuccess, "HierarchyChangeAuth", frame(tpm2.CCHierarchyChangeAuth, h, password(""), buf16([]byte("auth"))))
		auth := password("")
		if c.hierarchy == tpm2.RHPlatform {
			auth = password("auth")
		}
		p.expect(tpm2.RCSuccess, c.cc.String(), frame(c.cc, asPlatform, auth))
		p.expect(tpm2.RCReferenceH0, "its object", frame(tpm2.CCReadPublic, []tpm2.Handle{tpm2.TransientFirst}, nil))
		p.everyIndex("after " + c.cc.String())
		s := p.session(tpm2.SEPolicy)
		p.same("its policy", frame(tpm2.CCHierarchyChangeAuth, h, sessionAuth(s, 1), buf16(nil)))
		p.same("its authorization value", frame(tpm2.CCHierarchyChangeAuth, h, password(""), buf16(nil)))
		p.same("its authorization value", frame(tpm2.CCHierarchyChangeAuth, h, password("auth"), buf16(nil)))
		p.end(s)
		if after := p.execute(create); string(after[headerSize+8:headerSize+120]) == string(before[headerSize+8:headerSize+120]) {
			t.Errorf("%v: the same key comes back", c.cc)
		}
		p.o.execute(create)
		p.execute(flushCmd(tpm2.TransientFirst))
		p.o.execute(flushCmd(tpm2.TransientFirst))
		p.execute(nvCmd(tpm2.CCNVUndefineSpace, tpm2.RHOwner, testIndex))
		p.o.execute(nvCmd(tpm2.CCNVUndefineSpace, tpm2.RHOwner, testIndex))
		p.execute(nvCmd(tpm2.CCNVUndefineSpace, tpm2.RHPlatform, otherIndex))
		p.o.execute(nvCmd(tpm2.CCNVUndefineSpace, tpm2.RHPlatform, otherIndex))
	}
	p.expect(tpm2.RCSuccess, "SetAlgorithmSet", frame(tpm2.CCSetAlgorithmSet, asPlatform, password(""), u32(7)))
	p.cut()
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.same("the set", capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTAlgorithmSet), 1))
	for _, auth := range []string{"", "wrong"} {
		p.expect(tpm2.RCPP.S(1), "PP_Commands", frame(tpm2.CCPPCommands, asPlatform, password(auth), u32(0), u32(0)))
	}
	for step := -4; step <= 4; step++ {
		p.same("ClockRateAdjust", frame(tpm2.CCClockRateAdjust, asPlatform, password(""), []byte{byte(step)}))
	}
}

// clockSet is TPM2_ClockSet by the owner.
func clockSet(to uint64) []byte {
	return frame(tpm2.CCClockSet, []tpm2.Handle{tpm2.RHOwner}, password(""), u32(uint32(to>>32)), u32(uint32(to)))
}

// TestClockSetAgainstSwtpm sets the clock forward and tries what it refuses.
func TestClockSetAgainstSwtpm(t *testing.T) {
	p := startedPair(t)
	p.expect(tpm2.RCSuccess, "forward", clockSet(1<<40))
	p.expect(tpm2.RCValue.P(1), "back", clockSet(1<<40-1))
	p.expect(tpm2.RCValue.P(1), "too far", clockSet(0xFFFF000000000001))
	p.expect(tpm2.RCSuccess, "as far as it goes", clockSet(0xFFFF000000000000))
}

// TestClockRate makes the clock run faster and slower, over a suspension too.
func TestClockRate(t *testing.T) {
	r := newRig(t, true)
	adjust := func(step int8, times int) {
		for range times {
			r.must(tpm2.RCSuccess, tpm2.CCClockRateAdjust, asPlatform, password(""), []byte{byte(step)})
		}
	}
	passes := func(want uint64) {
		t.Helper()
		before := r.e.state.timing.Time
		for range 30000 { // in steps that a fraction of a millisecond is lost in
			r.clock.Advance(time.Millisecond)
			r.e.tick()
		}
		if got := r.e.state.timing.Time - before; got != want {
			t.Errorf("30 s are %d ms, want %d", got, want)
		}
	}
	passes(30000)
	adjust(3, 1)
	passes(30303)
	adjust(-3, 2)
	r.suspend()
	passes(29703)
	adjust(-3, 100)
	passes(25714)
}
