package tpm

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

func capabilityCmd(c tpm2.Cap, property, count uint32) []byte {
	return frame(tpm2.CCGetCapability, nil, nil, u32(uint32(c)), u32(property), u32(count))
}

// capability asks one TPM and decodes the answer.
func capability(t *testing.T, resp []byte) (bool, *tpm2.CapabilityData) {
	t.Helper()
	if code(resp) != tpm2.RCSuccess {
		t.Fatal(code(resp))
	}
	d := tpm2.NewDecoder(resp[headerSize:])
	var out getCapabilityOut
	d.Bool((*bool)(&out.more))
	out.data.Walk(&d)
	if d.RC() != tpm2.RCSuccess || d.Remaining() != 0 {
		t.Fatalf("%v, %d bytes left in %x", d.RC(), d.Remaining(), resp)
	}
	return bool(out.more), &out.data
}

func TestCapabilitiesAgainstSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCInitialize, "before Startup", capabilityCmd(tpm2.CapPCRs, 0, 1))
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	session := frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(make([]byte, 16)),
		buf16(nil), []byte{1}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
	for range 2 {
		p.execute(session)
		p.o.execute(session)
	}
	p.expect(tpm2.RCSuccess, "define", defineCmd(tpm2.RHOwner, 0x01800001, plainNV, 10))
	p.expect(tpm2.RCSuccess, "define", defineCmd(tpm2.RHOwner, 0x01400001, plainNV, 10))
	p.expect(tpm2.RCSuccess, "set a policy", frame(tpm2.CCSetPrimaryPolicy, []tpm2.Handle{tpm2.RHOwner}, password(""),
		buf16(make([]byte, 32)), u16(uint16(tpm2.AlgSHA256))))
	for _, c := range []struct{ cap, property, count uint32 }{
		{0, 0xFFFF, 10}, {0, 0, 0}, {0, 0, 100}, {0, 0, 7}, {0, 0x26, 3}, {0, 0x2A, 1},
		{1, 0, 100}, {1, 0, 5}, {1, 20, 100}, {1, 24, 100},
		{1, 0x01000000, 100}, {1, 0x01400002, 100}, {1, 0x01000000, 1}, {1, 0x01FFFFFF, 1},
		{1, 0x02000000, 100}, {1, 0x02000001, 100}, {1, 0x02000000, 1}, {1, 0x02FFFFFF, 1},
		{1, 0x03000000, 100},
		{1, 0x40000000, 100}, {1, 0x40000000, 3}, {1, 0x40000008, 2}, {1, 0x4000000E, 2},
		{1, 0x80000000, 100}, {1, 0x81000000, 100}, {1, 0x90000000, 100}, {1, 0x04000000, 100},
		{2, 0x7FFFFFFF, 100},
		{5, 0, 100}, {5, 0, 0}, {5, 1, 1},
		{6, 0, 1}, {6, 0x100, 1}, {6, 0x104, 8}, {6, 0x10D, 8}, {6, 0x115, 1}, {6, 0x117, 9}, {6, 0x120, 8},
		{6, 0x12B, 10}, {6, 0x1FF, 1}, {6, 0x200, 13}, {6, 0x20E, 100}, {6, 0x215, 1}, {6, 0x300, 100}, {6, 0xFFFFFFFF, 1},
		{7, 0, 1}, {7, 0, 12}, {7, 2, 9}, {7, 0xB, 1}, {7, 0x12, 1}, {7, 0x15, 1},
		{8, 3, 1}, {8, 0xFFFF, 1},
		{9, 0x40000000, 100}, {9, 0x40000002, 1}, {9, 0x4000000D, 1}, {9, 0, 1},
		{10, 0, 1}, {10, 0x40000110, 1}, {10, 0x40000120, 1},
		{11, 0, 1}, {0x100, 0, 1}, {0x101, 0, 1},
	} {
		p.same(fmt.Sprintf("capability 0x%x, property 0x%x, count %d", c.cap, c.property, c.count),
			capabilityCmd(tpm2.Cap(c.cap), c.property, c.count))
	}
}

// TestCapabilitiesAreThoseOfSwtpm compares lists where this engine has less:
// what it lists must be listed the same by swtpm.
func TestCapabilitiesAreThoseOfSwtpm(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	for _, c := range []tpm2.Cap{tpm2.CapAlgs, tpm2.CapCommands, tpm2.CapECCCurves} {
		cmd := capabilityCmd(c, 0, 1000)
		more, got := capability(t, p.execute(cmd))
		_, want := capability(t, p.o.execute(cmd))
		have := make(map[any]bool)
		for _, v := range want.Algs {
			have[v] = true
		}
		for _, v := range want.Commands {
			have[v] = true
		}
		for _, v := range want.Curves {
			have[v] = true
		}
		if more || len(got.Algs)+len(got.Commands)+len(got.Curves) == 0 {
			t.Errorf("capability %d: %d entries, more %v", c, len(got.Algs)+len(got.Commands)+len(got.Curves), more)
		}
		for _, v := range got.Algs {
			if !have[v] {
				t.Errorf("algorithm %v with 0x%x: swtpm has it otherwise", v.Alg, v.Properties)
			}
		}
		for _, v := range got.Commands {
			if !have[v] {
				t.Errorf("command %v with attributes 0x%08x: swtpm has it otherwise", tpm2.CC(v&0xFFFF), uint32(v))
			}
		}
		for _, v := range got.Curves {
			if !have[v] {
				t.Errorf("curve %v: swtpm has none", v)
			}
		}
	}
}

// TestCapabilityPages asks for lists one entry at a time: all of them come,
// once each, in order.
func TestCapabilityPages(t *testing.T) {
	r := newRig(t, true)
	for _, c := range []tpm2.Cap{tpm2.CapAlgs, tpm2.CapCommands, tpm2.CapTPMProperties, tpm2.CapPCRProperties} {
		start := uint32(0)
		if c == tpm2.CapTPMProperties {
			start = uint32(tpm2.PTFixed)
		}
		whole := r.execute(capabilityCmd(c, start, 1000))
		var joined []byte
		n := uint32(0)
		for more, property := true, start; more; n++ {
			var d *tpm2.CapabilityData
			resp := r.execute(capabilityCmd(c, property, 1))
			more, d = capability(t, resp)
			joined = append(joined, resp[headerSize+9:]...)
			switch c {
			case tpm2.CapAlgs:
				property = uint32(d.Algs[0].Alg) + 1
			case tpm2.CapCommands:
				property = uint32(d.Commands[0]&0xFFFF) + 1
			case tpm2.CapTPMProperties:
				property = uint32(d.Properties[0].Property) + 1
			case tpm2.CapPCRProperties:
				property = uint32(d.PCRProperties[0].Tag) + 1
			}
		}
		if want := append([]byte{0}, append(u32(uint32(c)), u32(n)...)...); !bytes.Equal(whole[headerSize:], append(want, joined...)) {
			t.Errorf("capability %d differs when read in pages:\n%x\n%x", c, whole[headerSize:], joined)
		}
	}
}
