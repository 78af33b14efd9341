package tpm

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

func daParametersCmd(auth string, tries, recovery, lockout uint32) []byte {
	return frame(tpm2.CCDictionaryAttackParameters, []tpm2.Handle{tpm2.RHLockout}, password(auth), u32(tries), u32(recovery), u32(lockout))
}

func daResetCmd(auth string) []byte {
	return frame(tpm2.CCDictionaryAttackLockReset, []tpm2.Handle{tpm2.RHLockout}, password(auth))
}

// protected is an Index under lockout protection; its secret is "secret".
const protected = tpm2.Handle(0x01000001)

func tryCmd(pw string) []byte {
	return frame(tpm2.CCNVRead, []tpm2.Handle{protected, protected}, password(pw), u16(0), u16(0))
}

func TestLockoutAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.expect(tpm2.RCSuccess, "define", defineCmd(tpm2.RHOwner, protected, tpm2.NVAuthRead|tpm2.NVAuthWrite, 8))
	p.expect(tpm2.RCNVUninitialized, "right", tryCmd("secret"))
	for range 5 {
		p.same("wrong", tryCmd("guess"))
		p.properties("wrong")
	}
	p.expect(tpm2.RCLockout, "right, in lockout", tryCmd("secret"))
	p.expect(tpm2.RCSuccess, "unprotected, in lockout", changeAuthCmd(tpm2.RHOwner, "", ""))
	p.expect(tpm2.RCSuccess, "reset", daResetCmd(""))
	p.properties("reset")
	p.expect(tpm2.RCNVUninitialized, "right", tryCmd("secret"))
	p.same("parameters", daParametersCmd("", 1, 100000, 100000))
	p.properties("parameters")
	p.same("wrong", tryCmd("guess"))
	p.expect(tpm2.RCLockout, "right, in lockout", tryCmd("secret"))
	p.same("parameters", daParametersCmd("", 10, 100000, 100000))
	// Power loss counts as a failure where a try was made, and only then.
	for _, try := range []bool{true, false} {
		p.cut()
		p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
		p.properties("power loss")
		if try {
			p.same("right", tryCmd("secret"))
		}
	}
	// A try after Shutdown makes the power cycle disorderly.
	p.same("Shutdown", shutdownCmd(tpm2.SUClear))
	p.same("wrong", tryCmd("guess"))
	p.cut()
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.properties("a try after Shutdown")
	p.same("right", tryCmd("secret"))
	p.same("Shutdown", shutdownCmd(tpm2.SUState))
	p.cut()
	p.expect(tpm2.RCSuccess, "resume", startupCmd(tpm2.SUState))
	p.properties("a try before Shutdown")
	// lockoutAuth itself.
	p.same("lockoutAuth", changeAuthCmd(tpm2.RHLockout, "", "lock"))
	p.same("wrong lockoutAuth", daResetCmd("guess"))
	p.expect(tpm2.RCLockout, "right lockoutAuth", daResetCmd("lock"))
	p.properties("lockoutAuth failed")
	p.cut()
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.expect(tpm2.RCLockout, "right lockoutAuth after a power loss", daResetCmd("lock"))
	p.same("not the platform", frame(tpm2.CCDictionaryAttackLockReset, []tpm2.Handle{tpm2.RHPlatform}, password("")))
}

// TestLockoutHeals lets time pass, over an orderly power cycle too.
func TestLockoutHeals(t *testing.T) {
	r := newRig(t, true)
	r.execute(defineCmd(tpm2.RHOwner, protected, tpm2.NVAuthRead|tpm2.NVAuthWrite, 8))
	try := func(pw string, want tpm2.RC) {
		t.Helper()
		if rc := code(r.execute(tryCmd(pw))); rc != want {
			t.Fatalf("%v, want %v", rc, want)
		}
	}
	for range 3 {
		try("guess", tpm2.RCAuthFail.S(1))
	}
	try("secret", tpm2.RCLockout)
	r.clock.Advance(600 * time.Second)
	r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(0))
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	r.clock.Advance(399 * time.Second)
	try("secret", tpm2.RCLockout)
	r.clock.Advance(2 * time.Second)
	try("secret", tpm2.RCNVUninitialized)
	try("guess", tpm2.RCAuthFail.S(1))
	try("secret", tpm2.RCLockout)
}

func TestReadClock(t *testing.T) {
	r := newRig(t, true)
	read := func() (now, clock uint64, resets, restarts uint32, safe byte) {
		t.Helper()
		b := r.must(tpm2.RCSuccess, tpm2.CCReadClock, nil, nil)
		if len(b) != 25 {
			t.Fatalf("%x", b)
		}
		return binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]),
			binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:]), b[24]
	}
	r.clock.Advance(1500 * time.Millisecond)
	if now, clock, resets, restarts, safe := read(); now != 1500 || clock != 1500 || resets != 1 || restarts != 0 || safe != 1 {
		t.Errorf("time %d, clock %d, %d resets, %d restarts, safe %d", now, clock, resets, restarts, safe)
	}
	r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(1))
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(1))
	r.clock.Advance(time.Second)
	if now, clock, resets, restarts, safe := read(); now != 1000 || clock != 2500 || resets != 1 || restarts != 1 || safe != 1 {
		t.Errorf("time %d, clock %d, %d resets, %d restarts, safe %d", now, clock, resets, restarts, safe)
	}
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	if now, clock, resets, restarts, safe := read(); now != 0 || clock != 1500 || resets != 2 || restarts != 0 || safe != 0 {
		t.Errorf("time %d, clock %d, %d resets, %d restarts, safe %d", now, clock, resets, restarts, safe)
	}
}

func TestReadClockAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	compare := func(when string) {
		t.Helper()
		cmd := frame(tpm2.CCReadClock, nil, nil)
		got, want := p.execute(cmd), p.o.execute(cmd)
		if code(got) != code(want) || len(got) != len(want) || string(got[26:]) != string(want[26:]) {
			t.Errorf("%s: %x, swtpm %x", when, got, want)
		}
	}
	for _, c := range []struct {
		what     string
		down, up tpm2.SU
	}{{"new", 9, 0}, {"resume", 1, 1}, {"restart", 1, 0}, {"reset", 0, 0}, {"power loss", 9, 0}, {"restart, unsafe", 1, 0}} {
		if c.down != 9 {
			p.expect(tpm2.RCSuccess, "Shutdown", shutdownCmd(c.down))
		}
		p.cut()
		p.expect(tpm2.RCSuccess, c.what, startupCmd(c.up))
		compare(c.what)
	}
}
