package tpm

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestReadOnlyMode turns the mode on: what is refused, what of NV still changes,
// and what ends it.
func TestReadOnlyMode(t *testing.T) {
	r := fullRig(t, true)
	define := func(x tpm2.Handle, a tpm2.NVAttributes) {
		r.must(tpm2.RCSuccess, tpm2.CCNVDefineSpace, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16(nil),
			publicNV(x, a|ownerRW, 8))
	}
	const stays, goes, bits, pin = testIndex, otherIndex, otherIndex + 1, otherIndex + 2
	define(stays, tpm2.NVOrderly|tpm2.NVWriteSTClear|tpm2.NVReadSTClear)
	define(goes, tpm2.NVOrderly|tpm2.NVClearSTClear|tpm2.NVWriteSTClear|tpm2.NVReadSTClear)
	define(bits, nvKind(tpm2.NTBits))
	define(pin, nvKind(tpm2.NTPinPass)|tpm2.NVAuthRead|tpm2.NVNoDA)
	r.must(tpm2.RCSuccess, tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, pin}, password(""), buf16([]byte{0, 0, 0, 0, 0, 0, 0, 9}), u16(0))
	attributes := func() uint32 {
		_, d := capability(t, r.execute(capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTStartupClear), 1)))
		return d.Properties[0].Value
	}
	set := func(on byte) {
		t.Helper()
		r.must(tpm2.RCSuccess, tpm2.CCReadOnlyControl, []tpm2.Handle{tpm2.RHPlatform}, password(""), []byte{on})
		if got := attributes()&(1<<4) != 0; got != (on == 1) {
			t.Fatalf("readOnly is %v", got)
		}
	}
	if attributes()&(1<<4) != 0 {
		t.Fatal("a new TPM is read-only")
	}
	set(1)
	for _, cc := range []tpm2.CC{tpm2.CCClear, tpm2.CCCreate, tpm2.CCNVDefineSpace2, tpm2.CCSetCapability, tpm2.CCNVIncrement} {
		// Before anything else of the command is looked at.
		if rc := code(r.execute(frame(cc, nil, nil))); rc != tpm2.RCReadOnly {
			t.Errorf("%v: %v", cc, rc)
		}
	}
	write := func(want tpm2.RC, x tpm2.Handle) {
		t.Helper()
		r.must(want, tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, x}, password(""), buf16(make([]byte, 8)), u16(0))
	}
	write(tpm2.RCReadOnly, stays)
	write(tpm2.RCSuccess, goes)
	r.must(tpm2.RCReadOnly, tpm2.CCNVSetBits, []tpm2.Handle{tpm2.RHOwner, bits}, password(""), make([]byte, 8))
	r.must(tpm2.RCReadOnly, tpm2.CCNVExtend, []tpm2.Handle{tpm2.RHOwner, stays}, password(""), buf16(nil))
	r.must(tpm2.RCReadOnly, tpm2.CCNVWriteLock, []tpm2.Handle{tpm2.RHOwner, stays}, password(""))
	r.must(tpm2.RCReadOnly, tpm2.CCNVReadLock, []tpm2.Handle{tpm2.RHOwner, stays}, password(""))
	r.must(tpm2.RCSuccess, tpm2.CCNVReadLock, []tpm2.Handle{tpm2.RHOwner, goes}, password(""))
	s := r.startSession(tpm2.SEPolicy)
	empty := [][]byte{buf16(nil), buf16(nil), buf16(nil), u32(0)}
	r.must(tpm2.RCReadOnly, tpm2.CCPolicySecret, []tpm2.Handle{pin, s}, password(""), empty...)
	r.must(tpm2.RCSuccess, tpm2.CCPolicySecret, []tpm2.Handle{tpm2.RHOwner, s}, password(""), empty...)
	r.must(tpm2.RCSuccess, tpm2.CCPCRExtend, []tpm2.Handle{10}, password(""), u32(1), u16(uint16(tpm2.AlgSHA256)), make([]byte, 32))
	set(0)
	write(tpm2.RCSuccess, stays)

	set(1)
	r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(uint16(tpm2.SUState)))
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(uint16(tpm2.SUState)))
	if attributes()&(1<<4) == 0 {
		t.Error("TPM Resume ended the mode")
	}
	r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(uint16(tpm2.SUState)))
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(uint16(tpm2.SUClear)))
	if attributes()&(1<<4) != 0 {
		t.Error("TPM Restart did not end the mode")
	}
	r.must(tpm2.RCBadAuth.S(1), tpm2.CCReadOnlyControl, []tpm2.Handle{tpm2.RHPlatform}, password("wrong"), []byte{1})
	r.must(tpm2.RCValue.H(1), tpm2.CCReadOnlyControl, []tpm2.Handle{tpm2.RHOwner}, password(""), []byte{1})
}

// TestReadOnlyControlEndsShutdown: to change the mode ends a Shutdown, as in the
// reference code, and to leave it as it is does not.
func TestReadOnlyControlEndsShutdown(t *testing.T) {
	for on, want := range []tpm2.RC{tpm2.RCSuccess, tpm2.RCValue.P(1)} {
		r := fullRig(t, true)
		r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(uint16(tpm2.SUState)))
		r.must(tpm2.RCSuccess, tpm2.CCReadOnlyControl, []tpm2.Handle{tpm2.RHPlatform}, password(""), []byte{byte(on)})
		r.power(r.durable)
		r.must(want, tpm2.CCStartup, nil, nil, u16(uint16(tpm2.SUState)))
	}
}

// TestReadOnlyModeRefuses holds the list of what is refused to the reference
// code's, by number.
func TestReadOnlyModeRefuses(t *testing.T) {
	const want = "0x11f-0x122,0x124-0x12e,0x130-0x132,0x134,0x13a-0x13b,0x13f-0x140,0x150,0x153,0x183,0x191,0x19d,0x19f"
	if got := refusedReadOnly.String(); got != want {
		t.Errorf("refused are %s, want %s", got, want)
	}
}

// TestNewCommandsAttributes holds TPMA_CC to the reference code's.
func TestNewCommandsAttributes(t *testing.T) {
	for _, want := range []tpm2.CCAttributes{0x02000198, 0x0200019B, 0x0200019C, 0x0240019D, 0x0200019E, 0x0240019F, 0x024001A0} {
		cc := tpm2.CC(want & 0xFFFF)
		if got := registry.lookup(cc).attributes(); got != want {
			t.Errorf("%v has attributes %#x, want %#x", cc, got, want)
		}
	}
}

// TestSetCapability: no capability can be set.
func TestSetCapability(t *testing.T) {
	r := fullRig(t, true)
	owner := []tpm2.Handle{tpm2.RHOwner}
	r.must(tpm2.RCSize.P(1), tpm2.CCSetCapability, owner, password(""), buf16(nil))
	r.must(tpm2.RCInsufficient.P(1), tpm2.CCSetCapability, owner, password(""), buf16([]byte{0, 0, 0}))
	for c := range tpm2.Cap(13) {
		r.must(tpm2.RCSelector.P(1), tpm2.CCSetCapability, owner, password(""), buf16(u32(uint32(c))))
	}
	r.must(tpm2.RCValue.H(1), tpm2.CCSetCapability, []tpm2.Handle{tpm2.RHLockout}, password(""), buf16(u32(0)))
}

// TestNVPublic2 defines an Index by the one command and reads it by both.
func TestNVPublic2(t *testing.T) {
	r := fullRig(t, true)
	owner := []tpm2.Handle{tpm2.RHOwner}
	pub := publicNV(testIndex, ownerRW, 8)[2:]
	r.must(tpm2.RCSuccess, tpm2.CCNVDefineSpace2, owner, password(""), buf16([]byte("auth")), buf16(append([]byte{1}, pub...)))
	old := r.must(tpm2.RCSuccess, tpm2.CCNVReadPublic, []tpm2.Handle{testIndex}, nil)
	got := r.must(tpm2.RCSuccess, tpm2.CCNVReadPublic2, []tpm2.Handle{testIndex}, nil)
	name := old[2+len(pub):]
	if want := append(buf16(append([]byte{1}, pub...)), name...); string(got) != string(want) {
		t.Errorf("NV_ReadPublic2 gives %x, want %x", got, want)
	}
	r.must(tpm2.RCNVDefined, tpm2.CCNVDefineSpace2, owner, password(""), buf16(nil), buf16(append([]byte{1}, pub...)))
	other := publicNV(otherIndex, ownerRW, 8)[2:]
	for _, c := range []struct {
		public []byte
		want   tpm2.RC
	}{
		{nil, tpm2.RCSize},
		{[]byte{1}, tpm2.RCInsufficient},
		{append([]byte{2}, other...), tpm2.RCSelector},
		{append([]byte{0x12}, other...), tpm2.RCHandle},
		{append([]byte{0x11, 0x11, 0, 0, 1, 0, 11, 0, 0, 0, 1}, other[6:]...), tpm2.RCHandle},
		{append([]byte{0x11, 0x11, 0, 0, 1, 0, 11, 0, 0, 0, 8}, other[6:]...), tpm2.RCReservedBits},
		{append([]byte{1}, publicNV(otherIndex, ownerRW|tpm2.NVWritten, 8)[2:]...), tpm2.RCAttributes},
		{append(append([]byte{1}, other...), 0), tpm2.RCSize},
	} {
		r.must(c.want.P(2), tpm2.CCNVDefineSpace2, owner, password(""), buf16(nil), buf16(c.public))
	}
	r.must(tpm2.RCValue.H(1), tpm2.CCNVReadPublic2, []tpm2.Handle{0x11000001}, nil)
	r.must(tpm2.RCHandle.H(1), tpm2.CCNVReadPublic2, []tpm2.Handle{otherIndex}, nil)
}

// TestNewCommandsAreNotShown: what libtpms 0.9 lacks answers as it does, and
// what nobody has.
func TestNewCommandsAreNotShown(t *testing.T) {
	null, full := newRig(t, true), fullRig(t, true)
	for cc := firstCC; cc < 0x1B0; cc++ {
		shown := full.e.profile.lookup(cc) != nil
		if got := code(full.execute(frame(cc, nil, nil))); (got == tpm2.RCCommandCode) == shown {
			t.Errorf("%v in ashlar-v1: %v", cc, got)
		}
		if shown && notSupported[cc] != "" {
			t.Errorf("%v is said to be not supported", cc)
		}
		if got := code(null.execute(frame(cc, nil, nil))); cc >= tpm2.CCACTSetTimeout && got != tpm2.RCCommandCode {
			t.Errorf("%v in null: %v", cc, got)
		}
	}
}
