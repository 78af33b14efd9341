package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// plainNV are the attributes of an Index that everyone may use.
const plainNV = tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVNoDA

func nvKind(t tpm2.NVType) tpm2.NVAttributes { return tpm2.NVAttributes(t) << 4 }

// publicNV is a TPM2B_NV_PUBLIC without a policy.
func publicNV(index tpm2.Handle, a tpm2.NVAttributes, size uint16) []byte {
	return buf16(bytes.Join([][]byte{u32(uint32(index)), u16(uint16(tpm2.AlgSHA256)), u32(uint32(a)), u16(0), u16(size)}, nil))
}

func defineCmd(auth, index tpm2.Handle, a tpm2.NVAttributes, size uint16) []byte {
	return frame(tpm2.CCNVDefineSpace, []tpm2.Handle{auth}, password(""), buf16([]byte("secret")), publicNV(index, a, size))
}

// nvCmd is a command on an Index, authorized by the Index itself or by another
// handle.
func nvCmd(cc tpm2.CC, auth, index tpm2.Handle, params ...[]byte) []byte {
	pw := ""
	if auth == index {
		pw = "secret"
	}
	return frame(cc, []tpm2.Handle{auth, index}, password(pw), params...)
}

func writeCmd(auth, index tpm2.Handle, offset uint16, data string) []byte {
	return nvCmd(tpm2.CCNVWrite, auth, index, buf16([]byte(data)), u16(offset))
}

func readNVCmd(auth, index tpm2.Handle, size, offset uint16) []byte {
	return nvCmd(tpm2.CCNVRead, auth, index, u16(size), u16(offset))
}

func readNVPublicCmd(index tpm2.Handle) []byte {
	return frame(tpm2.CCNVReadPublic, []tpm2.Handle{index}, nil)
}

// everyIndex reads all that can be read of the Indices that there are.
func (p *pair) everyIndex(when string) {
	p.t.Helper()
	p.expect(tpm2.RCSuccess, when, capabilityCmd(tpm2.CapHandles, uint32(tpm2.NVIndexFirst), 100))
	_, d := capability(p.t, p.execute(capabilityCmd(tpm2.CapHandles, uint32(tpm2.NVIndexFirst), 100)))
	for _, h := range d.Handles {
		p.expect(tpm2.RCSuccess, fmt.Sprintf("%s: NV_ReadPublic 0x%08x", when, uint32(h)), readNVPublicCmd(h))
		p.same(fmt.Sprintf("%s: NV_Read 0x%08x", when, uint32(h)), readNVCmd(h, h, 8, 0))
	}
	p.same(when, capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTHRNVIndex), 1))
	p.same(when, capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTHRPersistentAvail), 3))
}

func TestNVDefineAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	h := tpm2.Handle(0x01000000)
	for _, size := range []uint16{0, 7, 8, 9, 32, 1024, 1025, 2048, 2049} {
		for _, kind := range []tpm2.NVType{tpm2.NTOrdinary, tpm2.NTCounter, tpm2.NTExtend, 3, 15} {
			h++
			p.same(fmt.Sprintf("kind %d of %d bytes", kind, size), defineCmd(tpm2.RHOwner, h, plainNV|nvKind(kind), size))
		}
	}
	for bit := range 32 {
		a := tpm2.NVAttributes(1) << bit
		if a == tpm2.NVPolicyDelete || a&tpm2.NVTypeMask != 0 {
			continue // what is not implemented
		}
		for _, auth := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHPlatform} {
			h++
			p.same(fmt.Sprintf("bit %d alone", bit), defineCmd(auth, h, a, 8))
			p.same(fmt.Sprintf("bit %d", bit), defineCmd(auth, h, plainNV|a, 8))
			p.same(fmt.Sprintf("bit %d, cleared", bit), defineCmd(auth, h, plainNV|a|tpm2.NVClearSTClear, 8))
			p.same(fmt.Sprintf("bit %d, platform", bit), defineCmd(auth, h+1000, plainNV|a|tpm2.NVPlatformCreate, 1025))
		}
	}
	owner := []tpm2.Handle{tpm2.RHOwner}
	for what, cmd := range map[string][]byte{
		"defined twice":       defineCmd(tpm2.RHOwner, 0x01000001, plainNV, 8),
		"by the endorsement":  defineCmd(tpm2.RHEndorsement, h+1, plainNV, 8),
		"not an index":        defineCmd(tpm2.RHOwner, 0x02000001, plainNV, 8),
		"no public area":      frame(tpm2.CCNVDefineSpace, owner, password(""), buf16(nil), buf16(nil)),
		"too long a secret":   frame(tpm2.CCNVDefineSpace, owner, password(""), buf16(bytes.Repeat([]byte{1}, 33)), publicNV(h+2, plainNV, 8)),
		"trailing zeros":      frame(tpm2.CCNVDefineSpace, owner, password(""), buf16(append([]byte("secret"), make([]byte, 50)...)), publicNV(h+3, plainNV, 8)),
		"a policy's size":     frame(tpm2.CCNVDefineSpace, owner, password(""), buf16(nil), buf16(tpm2.Marshal(&tpm2.NVPublic{Index: h + 4, NameAlg: tpm2.AlgSHA256, Attributes: plainNV, AuthPolicy: make(tpm2.Digest, 31), DataSize: 8}))),
		"a wrong password":    frame(tpm2.CCNVDefineSpace, owner, password("x"), buf16(nil), publicNV(h+5, plainNV, 8)),
		"undefine nothing":    frame(tpm2.CCNVUndefineSpace, []tpm2.Handle{tpm2.RHOwner, 0x01ABCDEF}, password("")),
		"read no public area": readNVPublicCmd(0x01ABCDEF),
	} {
		p.same(what, cmd)
	}
	p.everyIndex("defined")
	_, d := capability(t, p.execute(capabilityCmd(tpm2.CapHandles, uint32(tpm2.NVIndexFirst), 254)))
	for _, h := range d.Handles {
		p.same("undefine by the owner", frame(tpm2.CCNVUndefineSpace, []tpm2.Handle{tpm2.RHOwner, h}, password("")))
		p.same("undefine by the platform", frame(tpm2.CCNVUndefineSpace, []tpm2.Handle{tpm2.RHPlatform, h}, password("")))
	}
	p.everyIndex("undefined")
}

// TestNVFillAgainstSwtpm defines until there is no room.
func TestNVFillAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	h := tpm2.Handle(0x01000000)
	for _, c := range []struct {
		a    tpm2.NVAttributes
		size uint16
	}{{plainNV | tpm2.NVOrderly, 100}, {plainNV | tpm2.NVOrderly | nvKind(tpm2.NTCounter), 8}, {plainNV, 2048}, {plainNV, 300},
		{plainNV, 1}, {plainNV | nvKind(tpm2.NTCounter), 8}} {
		for {
			h++
			if code(p.same("fill", defineCmd(tpm2.RHOwner, h, c.a, c.size))) != tpm2.RCSuccess {
				break
			}
		}
		p.same("what is left", capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTHRPersistentAvail), 3))
	}
}

func TestNVUseAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	indices := map[tpm2.Handle]tpm2.NVAttributes{
		0x01000001: plainNV,
		0x01000002: plainNV | nvKind(tpm2.NTCounter),
		0x01000003: plainNV | nvKind(tpm2.NTExtend),
		0x01000004: plainNV | tpm2.NVWriteAll,
		0x01000005: plainNV | tpm2.NVWriteSTClear | tpm2.NVReadSTClear,
		0x01000006: plainNV | tpm2.NVWriteDefine,
		0x01000007: plainNV | tpm2.NVOrderly,
		0x01000008: plainNV | tpm2.NVOrderly | nvKind(tpm2.NTCounter),
		0x01000009: plainNV | tpm2.NVClearSTClear,
		0x0100000A: tpm2.NVOwnerRead | tpm2.NVOwnerWrite,
		0x0100000B: tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVNoDA,
		0x0100000C: tpm2.NVPPRead | tpm2.NVPPWrite | tpm2.NVNoDA,
	}
	for h := tpm2.Handle(0x01000001); h <= 0x0100000C; h++ {
		size := uint16(8)
		if indices[h].Type() == tpm2.NTExtend {
			size = 32
		}
		p.expect(tpm2.RCSuccess, "define", defineCmd(tpm2.RHOwner, h, indices[h], size))
	}
	p.everyIndex("not written")
	for _, cc := range []tpm2.CC{tpm2.CCNVWriteLock, tpm2.CCNVReadLock} {
		p.same("lock at first", nvCmd(cc, 0x01000005, 0x01000005))
	}
	for range 2 {
		for h := tpm2.Handle(0x01000001); h <= 0x0100000C; h++ {
			for _, auth := range []tpm2.Handle{h, tpm2.RHOwner, tpm2.RHPlatform, 0x01000001} {
				what := fmt.Sprintf("0x%08x by 0x%08x", uint32(h), uint32(auth))
				p.same("increment "+what, nvCmd(tpm2.CCNVIncrement, auth, h))
				p.same("extend "+what, nvCmd(tpm2.CCNVExtend, auth, h, buf16([]byte("more"))))
				p.same("write "+what, writeCmd(auth, h, 3, "part"))
				p.same("write all of "+what, writeCmd(auth, h, 0, "whole it"))
				p.same("write nothing in "+what, writeCmd(auth, h, 8, ""))
				p.same("write beyond "+what, writeCmd(auth, h, 5, "part"))
				p.same("write far beyond "+what, writeCmd(auth, h, 9, ""))
				p.same("read "+what, readNVCmd(auth, h, 4, 4))
				p.same("read beyond "+what, readNVCmd(auth, h, 5, 4))
				p.same("read far beyond "+what, readNVCmd(auth, h, 0, 33))
				p.same("read too much of "+what, readNVCmd(auth, h, 1025, 0))
			}
		}
		p.everyIndex("written")
		for h := tpm2.Handle(0x01000001); h <= 0x0100000C; h++ {
			p.same("write lock", nvCmd(tpm2.CCNVWriteLock, tpm2.RHOwner, h))
			p.same("read lock", nvCmd(tpm2.CCNVReadLock, tpm2.RHOwner, h))
		}
		p.everyIndex("locked")
	}
	for _, c := range []struct {
		what     string
		down, up tpm2.SU
		disorder bool
	}{{"resume", tpm2.SUState, tpm2.SUState, false}, {"restart", tpm2.SUState, tpm2.SUClear, false},
		{"reset", tpm2.SUClear, tpm2.SUClear, false}, {"power loss", 0, tpm2.SUClear, true}} {
		if !c.disorder {
			p.expect(tpm2.RCSuccess, "Shutdown", shutdownCmd(c.down))
		}
		p.cut()
		p.expect(tpm2.RCSuccess, c.what, startupCmd(c.up))
		p.everyIndex(c.what)
		p.same("count "+c.what, nvCmd(tpm2.CCNVIncrement, 0x01000008, 0x01000008))
		p.same("write "+c.what, writeCmd(0x01000007, 0x01000007, 2, "or"))
		p.same("write "+c.what, writeCmd(0x01000009, 0x01000009, 2, "cl"))
	}
	p.same("delete a counter", frame(tpm2.CCNVUndefineSpace, []tpm2.Handle{tpm2.RHOwner, 0x01000008}, password("")))
	p.same("a new counter", defineCmd(tpm2.RHOwner, 0x01000008, indices[2]|plainNV|nvKind(tpm2.NTCounter), 8))
	p.same("counts on", nvCmd(tpm2.CCNVIncrement, 0x01000008, 0x01000008))
	p.everyIndex("counter deleted")
}

// TestOrderlyNVDoesNotWrite: orderly data waits for Shutdown, but for a
// counter's first and every 256th step.
func TestOrderlyNVDoesNotWrite(t *testing.T) {
	r := newRig(t, true)
	const data, counter = tpm2.Handle(0x01000001), tpm2.Handle(0x01000002)
	r.execute(defineCmd(tpm2.RHOwner, data, plainNV|tpm2.NVOrderly, 8))
	r.execute(defineCmd(tpm2.RHOwner, counter, plainNV|tpm2.NVOrderly|nvKind(tpm2.NTCounter), 8))
	_, commit := r.e.Execute(Request{}, writeCmd(data, data, 0, "12345678"), nil)
	if commit.Pending() {
		t.Error("a write of orderly data is to be durable")
	}
	writes := 0
	for range 600 {
		resp, commit := r.e.Execute(Request{}, nvCmd(tpm2.CCNVIncrement, counter, counter), nil)
		if code(resp) != tpm2.RCSuccess {
			t.Fatal(code(resp))
		}
		if commit.Pending() {
			r.durable = commit.State()
			commit.Done()
			writes++
		}
	}
	if writes != 3 {
		t.Errorf("600 steps made %d writes", writes)
	}
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	resp := r.execute(readNVCmd(counter, counter, 8, 0))
	if n := binary.BigEndian.Uint64(resp[headerSize+6:]); n != 767 {
		t.Errorf("after a power loss at 600 the counter is %d", n)
	}
}

// TestOrderlyNVIsSuspended: what changed in RAM since the last write of the
// permanent state is in the volatile one.
func TestOrderlyNVIsSuspended(t *testing.T) {
	r := newRig(t, true)
	const data = tpm2.Handle(0x01000001)
	r.execute(defineCmd(tpm2.RHOwner, data, plainNV|tpm2.NVOrderly|tpm2.NVReadSTClear, 8))
	r.execute(writeCmd(data, data, 0, "12345678"))
	r.clock.Advance(time.Minute)
	want := r.execute(readNVCmd(data, data, 8, 0))
	volatile := r.e.SaveVolatile()
	e, err := Resume(r.cfg, r.durable, volatile)
	if err != nil {
		t.Fatal(err)
	}
	r.e = e
	if got := r.execute(readNVCmd(data, data, 8, 0)); !bytes.Equal(got, want) || code(got) != tpm2.RCSuccess {
		t.Errorf("%x, before %x", got, want)
	}
	if clock := r.e.state.timing.Clock; clock != 60000 {
		t.Errorf("the clock went back to %d", clock)
	}
	r.execute(frame(tpm2.CCNVUndefineSpace, []tpm2.Handle{tpm2.RHOwner, data}, password("")))
	if _, err := Resume(r.cfg, r.durable, volatile); err == nil {
		t.Error("a volatile state resumes without the Index it has data of")
	}
}
