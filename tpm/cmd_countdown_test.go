package tpm

import (
	"math"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// act2 is the timer of these tests.
const act2 = tpm2.RHACT0 + 2

// timer asks for one timer by GetCapability.
func (r *rig) timer(h tpm2.Handle) tpm2.ACTData {
	r.t.Helper()
	_, d := capability(r.t, r.execute(capabilityCmd(tpm2.CapACT, uint32(h), 1)))
	if len(d.ACTs) != 1 || d.ACTs[0].Handle != h {
		r.t.Fatalf("TPM_CAP_ACT of %#x: %+v", h, d.ACTs)
	}
	return d.ACTs[0]
}

func (r *rig) setTimer(want tpm2.RC, auth []byte, seconds uint32) {
	r.t.Helper()
	r.must(want, tpm2.CCACTSetTimeout, []tpm2.Handle{act2}, auth, u32(seconds))
}

func TestCountdownTimers(t *testing.T) {
	r := fullRig(t, true)
	r.must(tpm2.RCSuccess, tpm2.CCHierarchyChangeAuth, []tpm2.Handle{tpm2.RHPlatform}, password(""), buf16([]byte("platform")))
	// The platform's authorization value is theirs.
	r.setTimer(tpm2.RCBadAuth.S(1), password(""), 9)
	r.setTimer(tpm2.RCAuthMissing, nil, 9)
	r.setTimer(tpm2.RCValue.P(1), password("platform"), math.MaxUint32)
	r.setTimer(tpm2.RCSuccess, password("platform"), 9)
	if d := r.timer(act2); d.Timeout != 9 || d.Attributes != 0 {
		t.Errorf("%+v", d)
	}
	if _, next := r.e.Countdowns(); next != 9*time.Second {
		t.Errorf("the host is to ask in %v", next)
	}
	r.clock.Advance(9 * time.Second)
	timers, next := r.e.Countdowns()
	if len(timers) != 16 || timers[2] != (tpm2.ACTData{Handle: act2, Attributes: tpm2.ACTSignaled}) || next != 0 {
		t.Errorf("the host learns of %+v, to ask in %v", timers, next)
	}
	// A policy can be theirs too.
	s := r.startSession(tpm2.SEPolicy)
	digest := tpm2.AlgSHA256.Digest(make([]byte, 32), u32(uint32(tpm2.CCPolicyCommandCode)), u32(uint32(tpm2.CCACTSetTimeout)))
	byPolicy := append(u32(uint32(s)), 0, 0, 1, 0, 0)
	r.setTimer(tpm2.RCAuthUnavailable.S(1), byPolicy, 0)
	r.must(tpm2.RCSuccess, tpm2.CCSetPrimaryPolicy, []tpm2.Handle{act2}, password("platform"), buf16(digest), u16(uint16(tpm2.AlgSHA256)))
	r.setTimer(tpm2.RCPolicyFail.S(1), byPolicy, 0)
	r.must(tpm2.RCSuccess, tpm2.CCPolicyCommandCode, []tpm2.Handle{s}, nil, u32(uint32(tpm2.CCACTSetTimeout)))
	r.setTimer(tpm2.RCSuccess, byPolicy, 100)
	_, policies := capability(t, r.execute(capabilityCmd(tpm2.CapAuthPolicies, uint32(act2), 1)))
	if len(policies.Policies) != 1 || string(policies.Policies[0].Digest) != string(digest) {
		t.Errorf("TPM_CAP_AUTH_POLICIES: %+v", policies.Policies)
	}
	// Without the platform there is no authorization value, but the policy is.
	r.must(tpm2.RCSuccess, tpm2.CCHierarchyControl, []tpm2.Handle{tpm2.RHPlatform}, password("platform"), u32(uint32(tpm2.RHPlatform)), []byte{0})
	r.setTimer(tpm2.RCAuthUnavailable.S(1), password("platform"), 9)

	r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(uint16(tpm2.SUState)))
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(uint16(tpm2.SUState)))
	if d := r.timer(act2); d.Timeout != 100 {
		t.Errorf("after TPM Resume: %+v", d)
	}
	r.clock.Advance(30 * time.Second)
	var err error
	if r.e, err = Resume(r.cfg, r.durable, r.e.SaveVolatile()); err != nil {
		t.Fatal(err)
	}
	if d := r.timer(act2); d.Timeout != 70 {
		t.Errorf("after a suspension: %+v", d)
	}
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(uint16(tpm2.SUClear)))
	if d := r.timer(act2); d.Timeout != 0 || d.Attributes != 0 {
		t.Errorf("after TPM Reset: %+v", d)
	}
}

// TestCountdownHandles: where the timers are shown, and where not.
func TestCountdownHandles(t *testing.T) {
	for _, c := range []struct {
		p    *Profile
		want int
		rc   tpm2.RC
	}{{nullProfile, 0, tpm2.RCValue.H(1)}, {fullProfile, 16, tpm2.RCSuccess}} {
		r := newRigOf(t, c.p, true)
		_, handles := capability(t, r.execute(capabilityCmd(tpm2.CapHandles, uint32(tpm2.RHACT0), 100)))
		_, acts := capability(t, r.execute(capabilityCmd(tpm2.CapACT, uint32(tpm2.RHACT0), 100)))
		if len(handles.Handles) != c.want || len(acts.ACTs) != c.want {
			t.Errorf("%s shows %v and %v", c.p.Name(), handles.Handles, acts.ACTs)
		}
		r.must(c.rc, tpm2.CCSetPrimaryPolicy, []tpm2.Handle{tpm2.RHACTF}, password(""), buf16(nil), u16(uint16(tpm2.AlgNull)))
		if timers, _ := r.e.Countdowns(); len(timers) != c.want {
			t.Errorf("%s tells the host of %v", c.p.Name(), timers)
		}
		if rc := code(r.execute(capabilityCmd(tpm2.CapACT, uint32(tpm2.RHACTF)+1, 1))); rc != tpm2.RCValue.P(2) {
			t.Errorf("TPM_CAP_ACT beyond the last: %v", rc)
		}
	}
	r := fullRig(t, true)
	r.must(tpm2.RCValue.H(1), tpm2.CCACTSetTimeout, []tpm2.Handle{tpm2.RHACTF + 1}, password(""), u32(1))
	r.must(tpm2.RCValue.H(1), tpm2.CCHierarchyChangeAuth, []tpm2.Handle{act2}, password(""), buf16(nil))
	s := r.startSession(tpm2.SEPolicy)
	r.must(tpm2.RCSuccess, tpm2.CCPolicyCapability, []tpm2.Handle{s}, nil, capabilityPolicy(u32(0), 4, tpm2.EOEq, tpm2.CapACT, uint32(act2))...)
	r.must(tpm2.RCValue.P(5), tpm2.CCPolicyCapability, []tpm2.Handle{s}, nil, capabilityPolicy(nil, 0, tpm2.EONeq, tpm2.CapACT, 1)...)
}

// TestCountdownsAgainstSwtpm: to libtpms 0.9 they are no handles.
func TestCountdownsAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	for h := tpm2.RHACT0 - 1; h <= tpm2.RHACTF+1; h++ {
		p.expect(tpm2.RCValue.H(1), "SetPrimaryPolicy", frame(tpm2.CCSetPrimaryPolicy, []tpm2.Handle{h}, password(""),
			buf16(nil), u16(uint16(tpm2.AlgNull))))
		p.expect(tpm2.RCCommandCode, "ACT_SetTimeout", frame(tpm2.CCACTSetTimeout, []tpm2.Handle{h}, password(""), u32(1)))
		p.same("TPM_CAP_ACT", capabilityCmd(tpm2.CapACT, uint32(h), 1))
		p.same("TPM_CAP_HANDLES", capabilityCmd(tpm2.CapHandles, uint32(h), 1))
		p.same("TPM_CAP_AUTH_POLICIES", capabilityCmd(tpm2.CapAuthPolicies, uint32(h), 1))
	}
}
