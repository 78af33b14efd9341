package tpm

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// definePolicyNV defines an Index with a policy on both.
func (p *pair) definePolicyNV(auth, index tpm2.Handle, a tpm2.NVAttributes, policy []byte) {
	p.t.Helper()
	pub := tpm2.NVPublic{Index: index, NameAlg: tpm2.AlgSHA256, Attributes: a, AuthPolicy: policy, DataSize: 8}
	p.expect(tpm2.RCSuccess, "NV_DefineSpace", frame(tpm2.CCNVDefineSpace, []tpm2.Handle{auth}, password(""),
		buf16([]byte("secret")), buf16(tpm2.Marshal(&pub))))
}

// pinData is a count and a limit.
func pinData(count, limit uint32) string {
	return string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, count), limit))
}

// TestPINAgainstSwtpm counts right and wrong uses of PIN Indices, to the limit
// and past it, in commands that succeed and that fail otherwise.
func TestPINAgainstSwtpm(t *testing.T) {
	const pass, fail = testIndex, otherIndex
	p := startedPair(t)
	rw := tpm2.NVOwnerRead | tpm2.NVOwnerWrite
	p.expect(tpm2.RCSuccess, "define", defineCmd(tpm2.RHOwner, pass, rw|nvKind(tpm2.NTPinPass)|tpm2.NVNoDA, 8))
	p.expect(tpm2.RCSuccess, "define", defineCmd(tpm2.RHOwner, fail, rw|nvKind(tpm2.NTPinFail)|tpm2.NVNoDA, 8))
	s := p.session(tpm2.SEPolicy)
	secret := func(x tpm2.Handle, pin string, more ...[]byte) []byte {
		return frame(tpm2.CCPolicySecret, []tpm2.Handle{x, s}, password(pin),
			append([][]byte{buf16(nil), buf16(nil), buf16(nil), u32(0)}, more...)...)
	}
	look := func(x tpm2.Handle) { p.same("the count", readNVCmd(tpm2.RHOwner, x, 8, 0)) }
	p.expect(tpm2.RCAuthUnavailable.S(1), "not written", secret(pass, "secret"))
	for _, x := range []tpm2.Handle{pass, fail} {
		p.expect(tpm2.RCSuccess, "write", writeCmd(tpm2.RHOwner, x, 0, pinData(0, 3)))
		for _, pin := range []string{"wrong", "secret", "wrong", "wrong", "secret", "wrong", "wrong", "wrong", "secret", "secret"} {
			p.same(pin, secret(x, pin))
			look(x)
		}
		p.expect(tpm2.RCAuthUnavailable.S(1), "at the limit", secret(x, "secret"))
		p.expect(tpm2.RCSuccess, "set back", writeCmd(tpm2.RHOwner, x, 0, pinData(1, 3)))
		p.expect(tpm2.RCSize, "a command that fails after its authorization", secret(x, "secret", []byte{0}))
		look(x)
		p.expect(tpm2.RCSuccess, "set back", writeCmd(tpm2.RHOwner, x, 4, "\x00\x00\x00\x10"))
		p.expect(tpm2.RCHandle.H(2), "bind", frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, x}, nil,
			buf16(make([]byte, 16)), buf16(nil), []byte{0}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256))))
		p.same("read by the Index", readNVCmd(x, x, 8, 0))
		p.cut()
		p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
		look(x)
		s = p.session(tpm2.SEPolicy)
	}
}

// TestPINIsCountedWhereItCannotBeWritten: a disk that is full wins no tries.
func TestPINIsCountedWhereItCannotBeWritten(t *testing.T) {
	r := newRig(t, true)
	const x = testIndex
	r.execute(defineCmd(tpm2.RHOwner, x, tpm2.NVOwnerRead|tpm2.NVOwnerWrite|tpm2.NVNoDA|nvKind(tpm2.NTPinFail), 8))
	r.execute(writeCmd(tpm2.RHOwner, x, 0, pinData(0, 5)))
	try := func(pin string) []byte {
		return frame(tpm2.CCNVRead, []tpm2.Handle{x, x}, password(pin), u16(8), u16(0))
	}
	full := func(cmd []byte) tpm2.RC {
		resp, commit := r.e.Execute(Request{}, cmd, nil)
		if commit.Pending() {
			resp = commit.Rollback(resp)
		}
		return code(resp)
	}
	for _, pin := range []string{"wrong", "guess", "secret"} {
		if rc := full(try(pin)); rc != tpm2.RCNVUnavailable {
			t.Fatalf("%s: %v", pin, rc)
		}
	}
	r.execute(try("secret")) // finds that there is room again
	got := r.must(tpm2.RCSuccess, tpm2.CCNVRead, []tpm2.Handle{tpm2.RHOwner, x}, password(""), u16(8), u16(0))
	if !bytes.Contains(got, []byte(pinData(1, 5))) {
		t.Errorf("the wrong try is not counted: %x", got)
	}
	r.must(tpm2.RCSuccess, tpm2.CCNVRead, []tpm2.Handle{x, x}, password("secret"), u16(8), u16(0))
}

// TestNVByPolicyAgainstSwtpm changes an Index's authorization value and deletes
// one that only its policy can delete.
func TestNVByPolicyAgainstSwtpm(t *testing.T) {
	p := startedPair(t)
	const rw = tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVNoDA
	changeAuth := assert(tpm2.CCPolicyCommandCode, u32(uint32(tpm2.CCNVChangeAuth)))
	s, digest := p.policy(tpm2.SEPolicy, changeAuth)
	p.definePolicyNV(tpm2.RHOwner, testIndex, rw, digest)
	p.expect(tpm2.RCAuthType.S(1), "by password", frame(tpm2.CCNVChangeAuth, []tpm2.Handle{testIndex}, password("secret"), buf16(nil)))
	change := func(auth string) []byte {
		return frame(tpm2.CCNVChangeAuth, []tpm2.Handle{testIndex}, sessionAuth(s, 1), buf16([]byte(auth)))
	}
	p.both(tpm2.RCSuccess, "NV_ChangeAuth", change("changed\x00\x00"))
	p.same("NV_Write", frame(tpm2.CCNVWrite, []tpm2.Handle{testIndex, testIndex}, password("changed"), buf16([]byte("12345678")), u16(0)))
	p.same("the old one", writeCmd(testIndex, testIndex, 0, "12345678"))
	p.expect(tpm2.RCSuccess, "again", changeAuth(s))
	p.expect(tpm2.RCSize.P(1), "too long", change("012345678901234567890123456789012"))
	p.end(s)

	remove := assert(tpm2.CCPolicyCommandCode, u32(uint32(tpm2.CCNVUndefineSpaceSpecial)))
	s, digest = p.policy(tpm2.SEPolicy, remove)
	special := func(x tpm2.Handle) []byte {
		return frame(tpm2.CCNVUndefineSpaceSpecial, []tpm2.Handle{x, tpm2.RHPlatform}, append(sessionAuth(s, 1), password("")...))
	}
	p.expect(tpm2.RCAttributes.P(2), "by the owner", defineCmd(tpm2.RHOwner, otherIndex, rw|tpm2.NVPolicyDelete, 8))
	p.definePolicyNV(tpm2.RHPlatform, otherIndex, rw|tpm2.NVPolicyDelete|tpm2.NVPlatformCreate, digest)
	p.definePolicyNV(tpm2.RHPlatform, 0x01500003, rw|tpm2.NVPlatformCreate, digest)
	p.expect(tpm2.RCAttributes.H(2), "NV_UndefineSpace", nvCmd(tpm2.CCNVUndefineSpace, tpm2.RHPlatform, otherIndex))
	p.expect(tpm2.RCAttributes.H(1), "an ordinary one", special(0x01500003))
	p.both(tpm2.RCSuccess, "NV_UndefineSpaceSpecial", special(otherIndex))
	p.expect(tpm2.RCHandle.H(1), "gone", readNVPublicCmd(otherIndex))
}

// TestNVBitsAndGlobalLockAgainstSwtpm sets bits and locks all Indices that say
// so, over power cycles.
func TestNVBitsAndGlobalLockAgainstSwtpm(t *testing.T) {
	p := startedPair(t)
	for i, a := range []tpm2.NVAttributes{0, tpm2.NVGlobalLock, tpm2.NVGlobalLock | tpm2.NVOrderly, tpm2.NVOrderly, tpm2.NVClearSTClear} {
		p.expect(tpm2.RCSuccess, "define", defineCmd(tpm2.RHOwner, testIndex+tpm2.Handle(i), plainNV|nvKind(tpm2.NTBits)|a, 8))
	}
	p.expect(tpm2.RCSize.P(2), "a wrong size", defineCmd(tpm2.RHOwner, 0x01500010, plainNV|nvKind(tpm2.NTBits), 7))
	for round, bits := range []string{"\x00\x00\x00\x00\x00\x00\x00\x81", "\x80\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x00"} {
		for i := range tpm2.Handle(5) {
			p.same("NV_SetBits", nvCmd(tpm2.CCNVSetBits, testIndex+i, testIndex+i, []byte(bits)))
		}
		p.everyIndex("after the bits")
		if round > 0 {
			p.expect(tpm2.RCSuccess, "NV_GlobalWriteLock", frame(tpm2.CCNVGlobalWriteLock, []tpm2.Handle{tpm2.RHOwner}, password("")))
			p.everyIndex("after the lock")
		}
		if round == 1 {
			p.expect(tpm2.RCNVLocked, "NV_SetBits", nvCmd(tpm2.CCNVSetBits, testIndex+1, testIndex+1, []byte(bits)))
			p.cut()
			p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
			p.everyIndex("after a power cut")
		}
	}
	p.expect(tpm2.RCAttributes, "NV_Write", writeCmd(testIndex, testIndex, 0, "12345678"))
}

// TestNVCertifyAgainstSwtpm certifies by a key and by none.
func TestNVCertifyAgainstSwtpm(t *testing.T) {
	p := startedPair(t)
	p.expect(tpm2.RCSuccess, "define", defineCmd(tpm2.RHOwner, testIndex, plainNV, 2000))
	null := u16(uint16(tpm2.AlgNull))
	certify := func(auth tpm2.Handle, size, offset uint16) []byte {
		pw := ""
		if auth == testIndex {
			pw = "secret"
		}
		return frame(tpm2.CCNVCertify, []tpm2.Handle{tpm2.RHNull, auth, testIndex}, append(password(""), password(pw)...),
			buf16([]byte("nonce")), null, u16(size), u16(offset))
	}
	p.expect(tpm2.RCNVUninitialized, "not written", certify(testIndex, 4, 0))
	p.expect(tpm2.RCSuccess, "NV_Write", writeCmd(testIndex, testIndex, 0, "0123456789"))
	for _, c := range []struct{ size, offset uint16 }{{4, 2}, {0, 0}, {0, 5}, {2000, 0}, {1025, 0}, {1024, 0}, {1, 2000}, {0, 2000}, {0xFFFF, 0xFFFF}} {
		got, want := p.execute(certify(tpm2.RHOwner, c.size, c.offset)), p.o.execute(certify(tpm2.RHOwner, c.size, c.offset))
		if code(got) != code(want) || len(got) != len(want) {
			t.Errorf("%+v: %v with %d bytes, swtpm %v with %d", c, code(got), len(got), code(want), len(want))
		}
		if code(got) == tpm2.RCSuccess && !bytes.Equal(attested(t, got), attested(t, want)) {
			t.Errorf("%+v: attests %x, swtpm %x", c, attested(t, got), attested(t, want))
		}
	}
}

// attested is what of an NV attestation does not depend on the TPM.
func attested(t *testing.T, resp []byte) []byte {
	t.Helper()
	out := new(attestOut)
	if err := tpm2.Unmarshal(resp[headerSize+4:headerSize+4+int(binary.BigEndian.Uint32(resp[headerSize:]))], out); err != nil {
		t.Fatal(err)
	}
	a := new(tpm2.Attest)
	if err := tpm2.Unmarshal(out.attest, a); err != nil {
		t.Fatal(err)
	}
	a.ClockInfo, a.FirmwareVersion = tpm2.ClockInfo{}, 0
	return tpm2.Marshal(a)
}
