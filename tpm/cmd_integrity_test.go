package tpm

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// selection is a TPMS_PCR_SELECTION of the PCRs in a bitmap.
func selection(alg tpm2.AlgID, bits uint32) []byte {
	return append(u16(uint16(alg)), 3, byte(bits), byte(bits>>8), byte(bits>>16))
}

func readCmd(alg tpm2.AlgID, bits uint32) []byte {
	return frame(tpm2.CCPCRRead, nil, nil, u32(1), selection(alg, bits))
}

func extendCmd(h tpm2.Handle, digests ...[]byte) []byte {
	return frame(tpm2.CCPCRExtend, []tpm2.Handle{h}, password(""), u32(uint32(len(digests))), bytes.Join(digests, nil))
}

// ha is a TPMT_HA whose digest repeats a byte.
func ha(alg tpm2.AlgID, b byte) []byte {
	return append(u16(uint16(alg)), bytes.Repeat([]byte{b}, alg.DigestSize())...)
}

// everyPCR reads all PCRs of all banks on both.
func (p *pair) everyPCR(when string) {
	p.t.Helper()
	for _, alg := range tpm2.HashAlgs() {
		for _, bits := range []uint32{0xFF, 0xFF00, 0xFF0000} {
			p.expect(tpm2.RCSuccess, fmt.Sprintf("%s: PCR_Read %v %06x", when, alg, bits), readCmd(alg, bits))
		}
	}
}

func TestPCRsAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCInitialize, "before Startup", readCmd(tpm2.AlgSHA1, 1))
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.everyPCR("after Startup")
	for _, locality := range []uint8{0, 1, 2, 3, 4} {
		p.setLocality(locality)
		for n := tpm2.Handle(0); n < tpm2.PCRCount; n++ {
			what := fmt.Sprintf("PCR %d at locality %d", n, locality)
			p.same("extend "+what, extendCmd(n, ha(tpm2.AlgSHA1, byte(n)), ha(tpm2.AlgSHA512, locality)))
			p.same("event "+what, frame(tpm2.CCPCREvent, []tpm2.Handle{n}, password(""), buf16([]byte("event"))))
		}
		p.everyPCR("extended")
		for n := tpm2.Handle(16); n < tpm2.PCRCount; n++ {
			p.same(fmt.Sprintf("reset PCR %d at locality %d", n, locality),
				frame(tpm2.CCPCRReset, []tpm2.Handle{n}, password("")))
		}
		p.everyPCR("reset")
	}
	p.setLocality(0)
	p.same("nothing selected", frame(tpm2.CCPCRRead, nil, nil, u32(0)))
	p.same("two banks", frame(tpm2.CCPCRRead, nil, nil, u32(3), selection(tpm2.AlgSHA256, 0x0F0F00),
		selection(tpm2.AlgSHA1, 0xFF), selection(tpm2.AlgSHA512, 3)))
	for what, cmd := range map[string][]byte{
		"an unknown bank":    frame(tpm2.CCPCRRead, nil, nil, u32(1), selection(tpm2.AlgSM3256, 1)),
		"five selections":    frame(tpm2.CCPCRRead, nil, nil, u32(5), bytes.Repeat(selection(tpm2.AlgSHA1, 1), 5)),
		"a short bitmap":     frame(tpm2.CCPCRRead, nil, nil, u32(1), u16(4), []byte{2, 0, 0}),
		"a long bitmap":      frame(tpm2.CCPCRRead, nil, nil, u32(1), u16(4), []byte{4, 0, 0, 0, 0}),
		"trailing bytes":     frame(tpm2.CCPCRRead, nil, nil, u32(0), []byte{1}),
		"no authorization":   frame(tpm2.CCPCRExtend, []tpm2.Handle{1}, nil, u32(0)),
		"a wrong password":   frame(tpm2.CCPCRExtend, []tpm2.Handle{1}, password("x"), u32(0)),
		"PCR 24":             extendCmd(24, ha(tpm2.AlgSHA1, 1)),
		"the null PCR":       extendCmd(tpm2.RHNull, ha(tpm2.AlgSHA1, 1)),
		"an unknown digest":  extendCmd(1, append(u16(0x12), make([]byte, 32)...)),
		"a short digest":     extendCmd(1, append(u16(4), make([]byte, 19)...)),
		"an event, null PCR": frame(tpm2.CCPCREvent, []tpm2.Handle{tpm2.RHNull}, password(""), buf16([]byte("event"))),
		"too large an event": frame(tpm2.CCPCREvent, []tpm2.Handle{1}, password(""), buf16(make([]byte, 1025))),
		"reset null":         frame(tpm2.CCPCRReset, []tpm2.Handle{tpm2.RHNull}, password("")),
	} {
		p.same(what, cmd)
	}
	p.everyPCR("at the end")
}

func TestPCRsOverPowerCyclesAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.setLocality(3)
	p.expect(tpm2.RCSuccess, "Startup at locality 3", startupCmd(tpm2.SUClear))
	p.everyPCR("Startup at locality 3")
	p.same("extend", extendCmd(3, ha(tpm2.AlgSHA256, 3), ha(tpm2.AlgSHA384, 4)))
	p.same("extend 16", extendCmd(16, ha(tpm2.AlgSHA256, 3)))
	p.expect(tpm2.RCSuccess, "Shutdown(STATE)", shutdownCmd(tpm2.SUState))
	p.cut()
	p.setLocality(0)
	p.expect(tpm2.RCLocality, "resume at another locality", startupCmd(tpm2.SUState))
	p.setLocality(3)
	p.expect(tpm2.RCSuccess, "resume", startupCmd(tpm2.SUState))
	p.everyPCR("resumed")
	// The power goes without a Shutdown: nothing is left to resume.
	p.same("extend", extendCmd(3, ha(tpm2.AlgSHA256, 3)))
	p.cut()
	p.expect(tpm2.RCValue.P(1), "resume after a power loss", startupCmd(tpm2.SUState))
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.everyPCR("after a power loss")
	p.same("extend", extendCmd(3, ha(tpm2.AlgSHA256, 3)))
	p.expect(tpm2.RCSuccess, "Shutdown(STATE)", shutdownCmd(tpm2.SUState))
	p.cut()
	p.expect(tpm2.RCSuccess, "restart", startupCmd(tpm2.SUClear))
	p.everyPCR("restarted")
	// A change after Shutdown(STATE) revokes it.
	p.expect(tpm2.RCSuccess, "Shutdown(STATE)", shutdownCmd(tpm2.SUState))
	p.same("extend", extendCmd(3, ha(tpm2.AlgSHA256, 3)))
	p.cut()
	p.expect(tpm2.RCValue.P(1), "resume after a revoked Shutdown", startupCmd(tpm2.SUState))
}

func TestPCRAllocateAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	allocate := func(sel ...[]byte) []byte {
		return frame(tpm2.CCPCRAllocate, []tpm2.Handle{tpm2.RHPlatform}, password(""), u32(uint32(len(sel))), bytes.Join(sel, nil))
	}
	p.expect(tpm2.RCSuccess, "allocate", allocate(selection(tpm2.AlgSHA1, 0)))
	p.expect(tpm2.RCType.P(1), "Shutdown(STATE) after an allocation", shutdownCmd(tpm2.SUState))
	p.everyPCR("before the reset")
	p.expect(tpm2.RCSuccess, "Shutdown(CLEAR)", shutdownCmd(tpm2.SUClear))
	p.cut()
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.everyPCR("after the reset")
	p.same("extend", extendCmd(1, ha(tpm2.AlgSHA1, 1), ha(tpm2.AlgSHA256, 1)))
	p.everyPCR("extended")
	p.expect(tpm2.RCPCR, "without PCR 17", allocate(selection(tpm2.AlgSHA256, 0xFF), selection(tpm2.AlgSHA384, 0xFF),
		selection(tpm2.AlgSHA512, 0xFF)))
	p.same("an unknown bank", allocate(selection(tpm2.AlgSM3256, 0xFFFFFF)))
	p.same("not the platform", frame(tpm2.CCPCRAllocate, []tpm2.Handle{tpm2.RHOwner}, password(""), u32(0)))
}

// TestExtendDoesNotWrite: the write that revokes a Shutdown is Startup's.
func TestExtendDoesNotWrite(t *testing.T) {
	r := newRig(t, true)
	resp, commit := r.e.Execute(Request{}, extendCmd(1, ha(tpm2.AlgSHA256, 1)), nil)
	if code(resp) != tpm2.RCSuccess || commit.Pending() {
		t.Errorf("%v, pending %v", code(resp), commit.Pending())
	}
}
