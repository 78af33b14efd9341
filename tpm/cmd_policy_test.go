package tpm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// startSession starts a session of a type with SHA-256 and no cipher.
func (r *rig) startSession(kind tpm2.SE) tpm2.Handle {
	r.t.Helper()
	body := r.must(tpm2.RCSuccess, tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil,
		buf16(make([]byte, 16)), buf16(nil), []byte{byte(kind)}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
	return tpm2.Handle(binary.BigEndian.Uint32(body))
}

// policyDigest is a session's policy digest in hexadecimal.
func (r *rig) policyDigest(s tpm2.Handle) string {
	r.t.Helper()
	return hex.EncodeToString(r.must(tpm2.RCSuccess, tpm2.CCPolicyGetDigest, []tpm2.Handle{s}, nil)[2:])
}

func TestPolicyDigests(t *testing.T) {
	zero := make([]byte, 32)
	sha := func(parts ...[]byte) []byte { return tpm2.AlgSHA256.Digest(parts...) }
	cc := func(c tpm2.CC) []byte { return u32(uint32(c)) }
	other := bytes.Repeat([]byte{5}, 32)
	key := append(tpm2.Name{0, 11}, other...)
	for _, c := range []struct {
		name   string
		cc     tpm2.CC
		params [][]byte
		want   []byte
	}{
		{"AuthValue", tpm2.CCPolicyAuthValue, nil, sha(zero, cc(tpm2.CCPolicyAuthValue))},
		{"Password", tpm2.CCPolicyPassword, nil, sha(zero, cc(tpm2.CCPolicyAuthValue))},
		{"CommandCode", tpm2.CCPolicyCommandCode, [][]byte{cc(tpm2.CCStartup)},
			sha(zero, cc(tpm2.CCPolicyCommandCode), cc(tpm2.CCStartup))},
		{"Locality", tpm2.CCPolicyLocality, [][]byte{{3}}, sha(zero, cc(tpm2.CCPolicyLocality), []byte{3})},
		{"OR", tpm2.CCPolicyOR, [][]byte{u32(2), buf16(zero), buf16(other)}, sha(zero, cc(tpm2.CCPolicyOR), zero, other)},
		{"PCR", tpm2.CCPolicyPCR, [][]byte{buf16(other), u32(1), {0, 11, 3, 0, 4, 0}},
			sha(zero, cc(tpm2.CCPolicyPCR), []byte{0, 0, 0, 1, 0, 11, 3, 0, 4, 0}, other)},
		{"Authorize", tpm2.CCPolicyAuthorize, [][]byte{buf16(other), buf16([]byte("ref")), buf16(key),
			u16(uint16(tpm2.STVerified)), u32(uint32(tpm2.RHNull)), buf16(nil)},
			sha(sha(zero, cc(tpm2.CCPolicyAuthorize), key), []byte("ref"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			s := r.startSession(tpm2.SETrial)
			r.must(tpm2.RCSuccess, c.cc, []tpm2.Handle{s}, nil, c.params...)
			if got := r.policyDigest(s); got != hex.EncodeToString(c.want) {
				t.Fatalf("digest %s, want %x", got, c.want)
			}
		})
	}
}

func TestPolicyRefusals(t *testing.T) {
	r := newRig(t, true)
	s := []tpm2.Handle{r.startSession(tpm2.SEPolicy)}
	other := bytes.Repeat([]byte{5}, 32)
	r.must(tpm2.RCValue.P(1), tpm2.CCPolicyOR, s, nil, u32(2), buf16(other), buf16(other))
	r.must(tpm2.RCSize.P(1), tpm2.CCPolicyOR, s, nil, u32(1), buf16(other))
	r.must(tpm2.RCPolicyCC.P(1), tpm2.CCPolicyCommandCode, s, nil, u32(0x7FFF))
	r.must(tpm2.RCSuccess, tpm2.CCPolicyCommandCode, s, nil, u32(uint32(tpm2.CCShutdown)))
	r.must(tpm2.RCValue.P(1), tpm2.CCPolicyCommandCode, s, nil, u32(uint32(tpm2.CCStartup)))
	r.must(tpm2.RCRange.P(1), tpm2.CCPolicyLocality, s, nil, []byte{0})
	r.must(tpm2.RCSuccess, tpm2.CCPolicyLocality, s, nil, []byte{2})
	r.must(tpm2.RCRange.P(1), tpm2.CCPolicyLocality, s, nil, []byte{4})
	r.must(tpm2.RCRange.P(1), tpm2.CCPolicyLocality, s, nil, []byte{40})
	r.must(tpm2.RCValue.P(1), tpm2.CCPolicyPCR, s, nil, buf16(other), u32(1), []byte{0, 11, 3, 0, 4, 0})
	r.must(tpm2.RCHash.P(3), tpm2.CCPolicyAuthorize, s, nil, buf16(nil), buf16(nil), buf16([]byte{1}),
		u16(uint16(tpm2.STVerified)), u32(uint32(tpm2.RHNull)), buf16(nil))
	r.must(tpm2.RCHandle.H(1), tpm2.CCPolicySecret, []tpm2.Handle{0x01800000, s[0]}, password(""))
}

func TestPolicySecret(t *testing.T) {
	r := newRig(t, true)
	s := r.startSession(tpm2.SEPolicy)
	empty := [][]byte{buf16(nil), buf16(nil), buf16(nil)}
	endorsement := []tpm2.Handle{tpm2.RHEndorsement, s}
	r.must(tpm2.RCAuthMissing, tpm2.CCPolicySecret, endorsement, nil, append(empty, u32(0))...)
	r.must(tpm2.RCBadAuth.S(1), tpm2.CCPolicySecret, endorsement, password("wrong"), append(empty, u32(0))...)
	r.must(tpm2.RCSuccess, tpm2.CCPolicySecret, endorsement, password(""), append(empty, u32(0))...)
	// The policy of the TCG's EK templates (EK Credential Profile, B.3).
	if got := r.policyDigest(s); got != "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa" {
		t.Fatalf("digest %s", got)
	}
	out := r.must(tpm2.RCSuccess, tpm2.CCPolicySecret, endorsement, password(""), append(empty, u32(0xFFFFFFF6))...)
	if size := binary.BigEndian.Uint16(out[4:]); size != 8 || out[6] != 0x80 {
		t.Fatalf("a ticket that ends at TPM Reset has the timeout %x", out[4:14])
	}
	r.must(tpm2.RCNonce.P(1), tpm2.CCPolicySecret, endorsement, password(""),
		buf16([]byte{1}), buf16(nil), buf16(nil), u32(0))
	r.clock.Advance(5_000_000_000)
	r.must(tpm2.RCExpired.P(4), tpm2.CCPolicySecret, endorsement, password(""), append(empty, u32(2))...)
}

func TestCompareNV(t *testing.T) {
	for _, c := range []struct {
		op   tpm2.EO
		a, b []byte
		want bool
	}{
		{tpm2.EOEq, []byte{1}, []byte{1}, true},
		{tpm2.EONeq, []byte{1}, []byte{1}, false},
		{tpm2.EOSignedGT, []byte{0xFF}, []byte{1}, false},
		{tpm2.EOSignedLT, []byte{0xFE}, []byte{0xFF}, true},
		{tpm2.EOUnsignedGT, []byte{0xFF}, []byte{1}, true},
		{tpm2.EOUnsignedLE, []byte{1, 0}, []byte{1, 0}, true},
		{tpm2.EOSignedGE, []byte{0, 1}, []byte{0xFF, 1}, true},
		{tpm2.EOBitSet, []byte{0xF0}, []byte{0x30}, true},
		{tpm2.EOBitSet, []byte{0xF0}, []byte{0x31}, false},
		{tpm2.EOBitClear, []byte{0xF0}, []byte{0x0F}, true},
		{tpm2.EOBitClear, []byte{0xF0}, []byte{0x1F}, false},
	} {
		if got := compare(c.op, c.a, c.b); got != c.want {
			t.Errorf("operation %d on %x and %x: %v", c.op, c.a, c.b, got)
		}
	}
}
