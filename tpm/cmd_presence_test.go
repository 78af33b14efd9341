package tpm

import (
	"slices"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestPhysicalPresence: the platform's authorization for a command in the list
// needs physical presence, the owner's does not.
func TestPhysicalPresence(t *testing.T) {
	r := newRig(t, true)
	expect := func(what string, want tpm2.RC, cmd []byte) {
		t.Helper()
		if rc := code(r.execute(cmd)); rc != want {
			t.Errorf("%s: %v, want %v", what, rc, want)
		}
	}
	set := func(in, out []tpm2.CC) {
		t.Helper()
		r.presence = true
		r.must(tpm2.RCSuccess, tpm2.CCPPCommands, []tpm2.Handle{tpm2.RHPlatform}, password(""),
			tpm2.Marshal((*tpm2.CCList)(&in)), tpm2.Marshal((*tpm2.CCList)(&out)))
		r.presence = false
	}
	list := func(want ...tpm2.CC) {
		t.Helper()
		_, d := capability(t, r.execute(capabilityCmd(tpm2.CapPPCommands, 0, 100)))
		if !slices.Equal(d.CCs, want) {
			t.Errorf("the list is %v, want %v", d.CCs, want)
		}
	}
	byPlatform := frame(tpm2.CCClearControl, []tpm2.Handle{tpm2.RHPlatform}, password(""), []byte{0})
	byOwner := hierarchyControlCmd(tpm2.RHOwner, tpm2.RHOwner, 1)
	expect("PP_Commands", tpm2.RCPP.S(1), frame(tpm2.CCPPCommands, []tpm2.Handle{tpm2.RHPlatform}, password(""), u32(0), u32(0)))
	expect("not in the list", tpm2.RCSuccess, byPlatform)
	// NV_Write, Quote and what there is not cannot be in it.
	set([]tpm2.CC{tpm2.CCHierarchyControl, tpm2.CCClearControl, tpm2.CCNVWrite, tpm2.CCQuote, 0x999, tpm2.CCPPCommands}, nil)
	list(tpm2.CCHierarchyControl, tpm2.CCClearControl, tpm2.CCPPCommands)
	expect("in the list", tpm2.RCPP.S(1), byPlatform)
	expect("by another", tpm2.RCSuccess, byOwner)
	expect("by a wrong value", tpm2.RCPP.S(1), frame(tpm2.CCClearControl, []tpm2.Handle{tpm2.RHPlatform}, password("wrong"), []byte{0}))
	r.presence = true
	expect("shown", tpm2.RCSuccess, byPlatform)
	r.presence = false
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	expect("after a power cut", tpm2.RCPP.S(1), byPlatform)
	set(nil, []tpm2.CC{tpm2.CCClearControl, tpm2.CCPPCommands})
	list(tpm2.CCHierarchyControl, tpm2.CCPPCommands)
	expect("out of the list", tpm2.RCSuccess, byPlatform)
}

// TestEveryPPCommand: all commands that may need physical presence are refused
// without.
func TestEveryPPCommand(t *testing.T) {
	r := fullRig(t, true)
	for i := range registry.list {
		if d := &registry.list[i]; d.pp {
			r.e.state.ppCommands.set(d.cc, true)
			handles := []tpm2.Handle{tpm2.RHPlatform}
			for i := 1; i < len(d.handles); i++ {
				handles = append(handles, anyHandle(d.handles[i].kind))
			}
			if d.cc == tpm2.CCEvictControl || d.cc == tpm2.CCNVUndefineSpace || d.cc == tpm2.CCNVUndefineSpaceSpecial {
				continue // these need an object or an Index that is there
			}
			if rc := code(r.execute(frame(d.cc, handles, password("")))); rc != tpm2.RCPP.S(1) {
				t.Errorf("%v: %v", d.cc, rc)
			}
		}
	}
}

// TestPolicyPhysicalPresence: the policy holds while presence is shown.
func TestPolicyPhysicalPresence(t *testing.T) {
	r := newRig(t, true)
	digest := tpm2.AlgSHA256.Digest(make([]byte, 32), u32(uint32(tpm2.CCPolicyPhysicalPresence)))
	r.must(tpm2.RCSuccess, tpm2.CCSetPrimaryPolicy, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16(digest), u16(uint16(tpm2.AlgSHA256)))
	s := r.startSession(tpm2.SEPolicy)
	for _, presence := range []bool{false, true} {
		r.must(tpm2.RCSuccess, tpm2.CCPolicyRestart, []tpm2.Handle{s}, nil)
		r.must(tpm2.RCSuccess, tpm2.CCPolicyPhysicalPresence, []tpm2.Handle{s}, nil)
		want := tpm2.RCPP.S(1)
		if presence {
			want = tpm2.RCSuccess
		}
		r.presence = presence
		if rc := code(r.execute(frame(tpm2.CCClockRateAdjust, []tpm2.Handle{tpm2.RHOwner}, policy(s), []byte{0}))); rc != want {
			t.Errorf("presence %v: %v, want %v", presence, rc, want)
		}
	}
}
