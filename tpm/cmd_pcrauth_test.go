package tpm

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func pcrValueCmd(n tpm2.Handle, old, auth string) []byte {
	return frame(tpm2.CCPCRSetAuthValue, []tpm2.Handle{n}, password(old), buf16([]byte(auth)))
}

func pcrPolicyCmd(policy []byte, alg tpm2.AlgID, n tpm2.Handle) []byte {
	return frame(tpm2.CCPCRSetAuthPolicy, []tpm2.Handle{tpm2.RHPlatform}, password(""), buf16(policy), u16(uint16(alg)), u32(uint32(n)))
}

func resetCmd(n tpm2.Handle, auth []byte) []byte {
	return frame(tpm2.CCPCRReset, []tpm2.Handle{n}, auth)
}

// tryPCRs changes every PCR with an authorization value, at a locality that may
// change those of the group.
func (p *pair) tryPCRs(when string, auths ...string) {
	p.t.Helper()
	p.setLocality(2)
	for n := tpm2.Handle(0); n < tpm2.PCRCount; n++ {
		for _, auth := range auths {
			what := fmt.Sprintf("%s: PCR %d by %q", when, n, auth)
			p.same(what, frame(tpm2.CCPCRExtend, []tpm2.Handle{n}, password(auth), u32(1), ha(tpm2.AlgSHA1, 1)))
			p.same(what, frame(tpm2.CCPCREvent, []tpm2.Handle{n}, password(auth), buf16([]byte("event"))))
			p.same(what, resetCmd(n, password(auth)))
			p.same(what, frame(tpm2.CCPCRExtend, []tpm2.Handle{n}, policy(tpm2.PolicySessionFirst), u32(0)))
		}
	}
	p.setLocality(0)
	p.everyPCR(when)
}

// TestPCRAuthorizationAgainstSwtpm sets the value and the policy that the PCRs
// of the dynamic OS change by.
func TestPCRAuthorizationAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	session := func() {
		p.same("policy session", flushCmd(tpm2.PolicySessionFirst))
		p.sameCode("policy session", startSessionCmd(tpm2.SEPolicy), false)
	}
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.same("properties", capabilityCmd(tpm2.CapPCRProperties, 0, 100))
	session()
	p.tryPCRs("new", "", "wrong")
	for n := tpm2.Handle(0); n <= tpm2.PCRCount; n++ {
		p.same(fmt.Sprintf("value of PCR %d", n), pcrValueCmd(n, "", "value\x00"))
		p.same(fmt.Sprintf("back to none, PCR %d", n), pcrValueCmd(n, "value\x00\x00", ""))
	}
	p.expect(tpm2.RCSuccess, "64 bytes", pcrValueCmd(20, "", string(bytes.Repeat([]byte{7}, 64))))
	p.expect(tpm2.RCSuccess, "64 bytes", pcrValueCmd(21, string(bytes.Repeat([]byte{7}, 64)), "value"))
	p.expect(tpm2.RCSize.P(1), "65 bytes", pcrValueCmd(22, "value", string(make([]byte, 65))))
	p.same("no PCR", pcrValueCmd(tpm2.RHNull, "value", ""))
	p.tryPCRs("a value", "", "value")

	zero := make([]byte, 32)
	digest := tpm2.AlgSHA256.Digest(zero, u32(uint32(tpm2.CCPolicyCommandCode)), u32(uint32(tpm2.CCPCRReset)))
	for n := tpm2.Handle(0); n <= tpm2.PCRCount; n++ {
		p.same(fmt.Sprintf("policy of PCR %d", n), pcrPolicyCmd(digest, tpm2.AlgSHA256, n))
		p.same(fmt.Sprintf("policy of PCR %d, none", n), pcrPolicyCmd(nil, tpm2.AlgNull, n))
	}
	p.same("a policy of another size", pcrPolicyCmd(digest, tpm2.AlgSHA384, 20))
	p.same("a size and no algorithm", pcrPolicyCmd(digest, tpm2.AlgNull, 20))
	p.same("another size and another PCR", pcrPolicyCmd(digest[1:], tpm2.AlgSHA256, 1))
	p.same("no such algorithm", pcrPolicyCmd(digest, tpm2.AlgSM3256, 20))
	p.same("not the platform", frame(tpm2.CCPCRSetAuthPolicy, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16(nil), u16(0x10), u32(20)))
	p.expect(tpm2.RCSuccess, "a policy", pcrPolicyCmd(digest, tpm2.AlgSHA256, 22))
	p.tryPCRs("a policy", "", "value")
	byPolicy := func(when string) {
		t.Helper()
		p.setLocality(2)
		session()
		p.same(when, assert(tpm2.CCPolicyCommandCode, u32(uint32(tpm2.CCPCRReset)))(tpm2.PolicySessionFirst))
		p.sameCode(when+", reset by the policy", resetCmd(20, policy(tpm2.PolicySessionFirst)), false)
		p.same(when, assert(tpm2.CCPolicyCommandCode, u32(uint32(tpm2.CCPCRReset)))(tpm2.PolicySessionFirst))
		p.sameCode(when+", extended by the policy", frame(tpm2.CCPCRExtend, []tpm2.Handle{20}, policy(tpm2.PolicySessionFirst), u32(0)), false)
		p.setLocality(0)
	}
	byPolicy("set")
	p.expect(tpm2.RCSuccess, "Shutdown", shutdownCmd(tpm2.SUState))
	for _, su := range []tpm2.SU{tpm2.SUState, tpm2.SUClear} {
		p.expect(tpm2.RCSuccess, "Shutdown", shutdownCmd(tpm2.SUState))
		p.cut()
		p.expect(tpm2.RCSuccess, "Startup", startupCmd(su))
		byPolicy(fmt.Sprintf("Startup %v", su))
		p.expect(tpm2.RCSuccess, "no policy", pcrPolicyCmd(nil, tpm2.AlgNull, 22))
		p.tryPCRs(fmt.Sprintf("Startup %v", su), "", "value")
		p.expect(tpm2.RCSuccess, "a policy", pcrPolicyCmd(digest, tpm2.AlgSHA256, 22))
	}
	p.expect(tpm2.RCSuccess, "no policy", pcrPolicyCmd(nil, tpm2.AlgNull, 22))
	p.expect(tpm2.RCSuccess, "a value", pcrValueCmd(21, "", "value"))
	p.expect(tpm2.RCSuccess, "a policy", pcrPolicyCmd(digest, tpm2.AlgSHA256, 22))
	p.expect(tpm2.RCSuccess, "Clear", frame(tpm2.CCClear, []tpm2.Handle{tpm2.RHPlatform}, password("")))
	byPolicy("Clear keeps the policy")
	p.expect(tpm2.RCSuccess, "no policy", pcrPolicyCmd(nil, tpm2.AlgNull, 22))
	p.tryPCRs("Clear takes the value", "", "value")
}

// TestSessionBoundToPCR: the value is in the session's key, and a session that
// is bound to the group needs it no more.
func TestSessionBoundToPCR(t *testing.T) {
	r := newRig(t, true)
	r.locality = 2
	r.must(tpm2.RCSuccess, tpm2.CCPCRSetAuthValue, []tpm2.Handle{20}, password(""), buf16([]byte("value")))
	nonceCaller := make([]byte, 16)
	body := r.must(tpm2.RCSuccess, tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, 20}, nil, buf16(nonceCaller),
		buf16(nil), []byte{0}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
	nonceTPM := body[6:]
	key := crypt.KDFa(tpm2.AlgSHA256, []byte("value"), crypt.LabelSession, nonceTPM, nonceCaller, 256)
	use := func(n tpm2.Handle, key []byte) tpm2.RC {
		cpHash := tpm2.AlgSHA256.Digest(u32(uint32(tpm2.CCPCRReset)), u32(uint32(n)))
		mac := crypt.HMAC(tpm2.AlgSHA256, key, cpHash, nonceCaller, nonceTPM, []byte{1})
		auth := bytes.Join([][]byte{u32(uint32(tpm2.HMACSessionFirst)), buf16(nonceCaller), {1}, buf16(mac)}, nil)
		rc, body := r.run(tpm2.CCPCRReset, []tpm2.Handle{n}, auth)
		if rc == tpm2.RCSuccess {
			nonceTPM = body[6:22]
		}
		return rc
	}
	if rc := use(20, key); rc != tpm2.RCSuccess {
		t.Errorf("the PCR bound to: %v", rc)
	}
	if rc := use(21, append(key[:32:32], "value"...)); rc != tpm2.RCSuccess {
		t.Errorf("another PCR of the group, with its value: %v", rc)
	}
	if rc := use(21, key); rc != tpm2.RCBadAuth.S(1) {
		t.Errorf("another PCR of the group, without its value: %v", rc)
	}
}
