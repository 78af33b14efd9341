package tpm

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// capabilityPolicy is the parameters of PolicyCapability.
func capabilityPolicy(operand []byte, offset uint16, op tpm2.EO, c tpm2.Cap, property uint32) [][]byte {
	return [][]byte{buf16(operand), u16(offset), u16(uint16(op)), u32(uint32(c)), u32(property)}
}

// TestPolicyCapabilityDigest computes the digest by the formula of Part 3, 23.
func TestPolicyCapabilityDigest(t *testing.T) {
	operand := []byte("IBM\x00")
	want := tpm2.AlgSHA256.Digest(make([]byte, 32), []byte{0, 0, 1, 0x9B}, tpm2.AlgSHA256.Digest(operand,
		[]byte{0, 4, 0, 0}, []byte{0, 0, 0, 6}, []byte{0, 0, 1, 5}))
	for _, kind := range []tpm2.SE{tpm2.SETrial, tpm2.SEPolicy} {
		r := fullRig(t, true)
		s := r.startSession(kind)
		r.must(tpm2.RCSuccess, tpm2.CCPolicyCapability, []tpm2.Handle{s}, nil,
			capabilityPolicy(operand, 4, tpm2.EOEq, tpm2.CapTPMProperties, uint32(tpm2.PTManufacturer))...)
		if got := r.policyDigest(s); got != hex.EncodeToString(want) {
			t.Errorf("digest %s, want %x", got, want)
		}
	}
}

// TestPolicyCapabilityCompares compares with every kind of capability, with what
// there is and what there is not.
func TestPolicyCapabilityCompares(t *testing.T) {
	r := fullRig(t, true)
	s := r.startSession(tpm2.SEPolicy)
	r.must(tpm2.RCSuccess, tpm2.CCNVDefineSpace, []tpm2.Handle{tpm2.RHOwner}, password(""),
		buf16(nil), publicNV(testIndex, ownerRW, 8))
	eq, neq, ge := tpm2.EOEq, tpm2.EONeq, tpm2.EOUnsignedGE
	for _, c := range []struct {
		operand  []byte
		offset   uint16
		op       tpm2.EO
		cap      tpm2.Cap
		property uint32
		want     tpm2.RC
	}{
		{[]byte{0, 11, 0, 0, 0, 4}, 0, eq, tpm2.CapAlgs, 11, 0},
		{[]byte{0, 0, 0, 2}, 2, eq, tpm2.CapAlgs, 11, tpm2.RCPolicy},
		{nil, 0, eq, tpm2.CapAlgs, 0x12, tpm2.RCPolicy}, // SM3
		{[]byte{1, 2, 3, 4, 5, 6, 7, 8}, 99, neq, tpm2.CapAlgs, 0x12, 0},
		{[]byte{0x01, 0x50, 0, 1}, 0, eq, tpm2.CapHandles, uint32(testIndex), 0},
		{nil, 0, eq, tpm2.CapHandles, uint32(otherIndex), tpm2.RCPolicy},
		{nil, 0, neq, tpm2.CapHandles, uint32(otherIndex), 0},
		{u32(uint32(tpm2.RHOwner)), 0, eq, tpm2.CapHandles, uint32(tpm2.RHOwner), 0},
		{u32(0x02000000), 0, eq, tpm2.CapHandles, 0x02000000, 0}, // the policy session, by its number
		{u32(23), 0, eq, tpm2.CapHandles, 23, 0},
		{nil, 0, eq, tpm2.CapHandles, 24, tpm2.RCPolicy},
		{nil, 0, eq, tpm2.CapHandles, uint32(tpm2.TransientFirst), tpm2.RCPolicy},
		{nil, 0, neq, tpm2.CapHandles, 0x90000000, tpm2.RCHandle.P(5)},
		{[]byte{0x01, 0xA0}, 2, eq, tpm2.CapCommands, 0x1A0, 0},
		{nil, 0, eq, tpm2.CapCommands, 0x12F, tpm2.RCPolicy},
		{nil, 0, neq, tpm2.CapPPCommands, 0x12F, 0},
		{u32(uint32(tpm2.CCPPCommands)), 0, eq, tpm2.CapPPCommands, uint32(tpm2.CCPPCommands), 0},
		{u32(uint32(tpm2.CCSetCommandCodeAuditStatus)), 0, eq, tpm2.CapAuditCommands, uint32(tpm2.CCSetCommandCodeAuditStatus), 0},
		{nil, 0, eq, tpm2.CapAuditCommands, uint32(tpm2.CCGetRandom), tpm2.RCPolicy},
		{nil, 0, neq, tpm2.CapPCRs, 0, tpm2.RCValue.P(4)},
		{u32(23), 4, ge, tpm2.CapTPMProperties, uint32(tpm2.PTPCRCount), 0},
		{u32(25), 4, ge, tpm2.CapTPMProperties, uint32(tpm2.PTPCRCount), tpm2.RCPolicy},
		{[]byte{3, 0xFF}, 4, eq, tpm2.CapPCRProperties, 0, 0},
		{[]byte{0, 3}, 0, eq, tpm2.CapECCCurves, 3, 0},
		{nil, 0, eq, tpm2.CapECCCurves, 0x7FFF, tpm2.RCPolicy},
		{[]byte{0, 0x10}, 4, eq, tpm2.CapAuthPolicies, uint32(tpm2.RHOwner), 0},
		{nil, 0, neq, tpm2.CapAuthPolicies, 0, tpm2.RCValue.P(5)},
		{nil, 0, neq, 0x7F, 0, tpm2.RCValue.P(4)},
		{nil, 9, eq, tpm2.CapTPMProperties, uint32(tpm2.PTPCRCount), tpm2.RCValue.P(2)},
		{u32(0), 5, eq, tpm2.CapTPMProperties, uint32(tpm2.PTPCRCount), tpm2.RCSize.P(1)},
	} {
		before := r.policyDigest(s)
		rc, _ := r.run(tpm2.CCPolicyCapability, []tpm2.Handle{s}, nil, capabilityPolicy(c.operand, c.offset, c.op, c.cap, c.property)...)
		if rc != c.want {
			t.Errorf("%x at %d, operation %d, capability %d, property %#x: %v, want %v",
				c.operand, c.offset, c.op, c.cap, c.property, rc, c.want)
		}
		if changed := r.policyDigest(s) != before; changed != (rc == tpm2.RCSuccess) {
			t.Errorf("capability %d, property %#x: %v, and the digest changed: %v", c.cap, c.property, rc, changed)
		}
	}
	// A trial compares nothing.
	trial := r.startSession(tpm2.SETrial)
	r.must(tpm2.RCSuccess, tpm2.CCPolicyCapability, []tpm2.Handle{trial}, nil, capabilityPolicy(nil, 99, eq, tpm2.CapPCRs, 1)...)
}

// TestPolicyParameters authorizes the owner by a policy that fixes a command with
// its parameters, whatever it works on.
func TestPolicyParameters(t *testing.T) {
	r := fullRig(t, true)
	for _, x := range []tpm2.Handle{testIndex, otherIndex} {
		r.must(tpm2.RCSuccess, tpm2.CCNVDefineSpace, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16(nil), publicNV(x, ownerRW, 8))
		r.must(tpm2.RCSuccess, tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, x}, password(""), buf16(make([]byte, 8)), u16(0))
	}
	hash := tpm2.AlgSHA256.Digest([]byte{0, 0, 1, 0x4E}, []byte{0, 8, 0, 0}) // NV_Read of 8 bytes at 0
	digest := tpm2.AlgSHA256.Digest(make([]byte, 32), []byte{0, 0, 1, 0x9C}, hash)
	r.must(tpm2.RCSuccess, tpm2.CCSetPrimaryPolicy, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16(digest), u16(uint16(tpm2.AlgSHA256)))
	use := func(want tpm2.RC, x tpm2.Handle, size uint16) {
		t.Helper()
		s := r.startSession(tpm2.SEPolicy)
		r.must(tpm2.RCSuccess, tpm2.CCPolicyParameters, []tpm2.Handle{s}, nil, buf16(hash))
		r.must(tpm2.RCCPHash, tpm2.CCPolicyParameters, []tpm2.Handle{s}, nil, buf16(hash))
		r.must(tpm2.RCCPHash, tpm2.CCPolicyNameHash, []tpm2.Handle{s}, nil, buf16(hash))
		if got := r.policyDigest(s); got != hex.EncodeToString(digest) {
			t.Fatalf("digest %s, want %x", got, digest)
		}
		auth := append(u32(uint32(s)), 0, 0, 1, 0, 0)
		r.must(want, tpm2.CCNVRead, []tpm2.Handle{tpm2.RHOwner, x}, auth, u16(size), u16(0))
		r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(s)))
	}
	use(tpm2.RCSuccess, testIndex, 8)
	use(tpm2.RCSuccess, otherIndex, 8)
	use(tpm2.RCPolicyFail.S(1), testIndex, 7)
	s := r.startSession(tpm2.SEPolicy)
	r.must(tpm2.RCSize.P(1), tpm2.CCPolicyParameters, []tpm2.Handle{s}, nil, buf16(hash[:31]))
	r.must(tpm2.RCSuccess, tpm2.CCPolicyCpHash, []tpm2.Handle{s}, nil, buf16(hash))
	r.must(tpm2.RCCPHash, tpm2.CCPolicyParameters, []tpm2.Handle{s}, nil, buf16(hash))
	if !bytes.Equal(r.e.state.sessions.Get(s).CPHash, hash) {
		t.Error("a refused PolicyParameters changed the session")
	}
}
