package tpm

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// ticketFor gets a ticket of PolicySecret by the owner, in a session of its own.
func (r *rig) ticketFor(seconds int32, nonce bool, ref string) (timeout, ticket []byte) {
	r.t.Helper()
	body := r.must(tpm2.RCSuccess, tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil,
		buf16(make([]byte, 16)), buf16(nil), []byte{1}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
	s := tpm2.Handle(binary.BigEndian.Uint32(body))
	var nonceTPM []byte
	if nonce {
		nonceTPM = body[6:]
	}
	out := r.must(tpm2.RCSuccess, tpm2.CCPolicySecret, []tpm2.Handle{tpm2.RHOwner, s}, password(""),
		buf16(nonceTPM), buf16(nil), buf16([]byte(ref)), u32(uint32(seconds)))
	r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(s)))
	out = out[4 : len(out)-5] // parameterSize before, the session's entry behind
	return out[2:10], out[10:]
}

// TestPolicyTicket uses a ticket in place of a PolicySecret: right, changed in
// every part, and after its time.
func TestPolicyTicket(t *testing.T) {
	r := newRig(t, true)
	owner := buf16(u32(uint32(tpm2.RHOwner)))
	secret := r.startSession(tpm2.SEPolicy)
	r.must(tpm2.RCSuccess, tpm2.CCPolicySecret, []tpm2.Handle{tpm2.RHOwner, secret}, password(""),
		buf16(nil), buf16(nil), buf16([]byte("ref")), u32(0))
	want := r.policyDigest(secret)
	r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(secret)))

	timeout, ticket := r.ticketFor(-60, true, "ref")
	use := func(rc tpm2.RC, kind tpm2.SE, timeout, ref, name, ticket []byte) {
		t.Helper()
		s := r.startSession(kind)
		r.must(rc, tpm2.CCPolicyTicket, []tpm2.Handle{s}, nil, buf16(timeout), buf16(nil), buf16(ref), name, ticket)
		if got := r.policyDigest(s); rc == tpm2.RCSuccess && got != want {
			t.Errorf("digest %s, want that of PolicySecret, %s", got, want)
		}
		r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(s)))
	}
	ref := []byte("ref")
	use(tpm2.RCSuccess, tpm2.SEPolicy, timeout, ref, owner, ticket)
	use(tpm2.RCAttributes.H(1), tpm2.SETrial, timeout, ref, owner, ticket)
	use(tpm2.RCSize.P(1), tpm2.SEPolicy, timeout[:7], ref, owner, ticket)
	use(tpm2.RCTicket.P(5), tpm2.SEPolicy, timeout, []byte("other"), owner, ticket)
	use(tpm2.RCTicket.P(5), tpm2.SEPolicy, timeout, ref, buf16(u32(uint32(tpm2.RHPlatform))), ticket)
	for _, at := range []int{0, 1, 7} {
		later := bytes.Clone(timeout)
		later[at] ^= 0x80
		use(tpm2.RCTicket.P(5), tpm2.SEPolicy, later, ref, owner, ticket)
	}
	signed := bytes.Clone(ticket)
	binary.BigEndian.PutUint16(signed, uint16(tpm2.STAuthSigned))
	use(tpm2.RCTicket.P(5), tpm2.SEPolicy, timeout, ref, owner, signed)
	signed = bytes.Clone(ticket)
	signed[len(signed)-1] ^= 1
	use(tpm2.RCTicket.P(5), tpm2.SEPolicy, timeout, ref, owner, signed)

	r.clock.Advance(61 * time.Second)
	use(tpm2.RCExpired.P(1), tpm2.SEPolicy, timeout, ref, owner, ticket)
}

// TestPolicyTicketEndsWithAReset: Time begins anew, so that the ticket would
// otherwise be good for longer.
func TestPolicyTicketEndsWithAReset(t *testing.T) {
	r := newRig(t, true)
	for _, nonce := range []bool{true, false} {
		timeout, ticket := r.ticketFor(-60, nonce, "")
		r.power(r.durable)
		r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
		s := r.startSession(tpm2.SEPolicy)
		r.must(tpm2.RCTicket.P(5), tpm2.CCPolicyTicket, []tpm2.Handle{s}, nil, buf16(timeout), buf16(nil), buf16(nil),
			buf16(u32(uint32(tpm2.RHOwner))), ticket)
	}
}

// TestPolicyRestartKeepsTime: the policy begins anew, the time that it has run
// for does not.
func TestPolicyRestartKeepsTime(t *testing.T) {
	r := newRig(t, true)
	body := r.must(tpm2.RCSuccess, tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(make([]byte, 16)),
		buf16(nil), []byte{byte(tpm2.SEPolicy)}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
	nonce, s := body[4:], tpm2.PolicySessionFirst
	r.clock.Advance(10 * time.Second)
	r.must(tpm2.RCSuccess, tpm2.CCPolicyRestart, []tpm2.Handle{s}, nil)
	secret := func(seconds uint32) tpm2.RC {
		rc, _ := r.run(tpm2.CCPolicySecret, []tpm2.Handle{tpm2.RHOwner, s}, password(""), nonce, buf16(nil), buf16(nil), u32(seconds))
		return rc
	}
	if rc := secret(5); rc != tpm2.RCExpired.P(4) {
		t.Errorf("5 s from the session's start, 10 s later: %v", rc)
	}
	if rc := secret(20); rc != tpm2.RCSuccess {
		t.Errorf("20 s from the session's start, 10 s later: %v", rc)
	}
}
