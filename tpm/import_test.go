package tpm

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// blob is a state of the oracle, taken as QEMU does: permanent or volatile.
func (o *oracle) blob(kind byte) []byte {
	o.t.Helper()
	o.tell(0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, kind, 0, 0, 0, 0)
	head := make([]byte, 12)
	if _, err := io.ReadFull(o.control, head); err != nil {
		o.t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[8:]))
	if _, err := io.ReadFull(o.control, b); err != nil {
		o.t.Fatal(err)
	}
	// A header of 10 bytes, and two that tell the kind of what is in them.
	return b[10+2*6:]
}

const permanentBlob, volatileBlob = 1, 2

// newForeign is a rig whose commands an oracle runs.
func newForeign(t *testing.T) *rig {
	return &rig{t: t, clock: new(clock.Manual), other: newOracle(t)}
}

// takeOver makes a rig of ours go on from where the oracle of another one is.
func (r *rig) takeOver() *rig {
	r.t.Helper()
	mine := &rig{t: r.t, clock: new(clock.Manual)}
	mine.cfg = Config{Clock: mine.clock, Entropy: entropy.Replay(3)}
	if err := mine.goOnFrom(r.other); err != nil {
		r.t.Fatal(err)
	}
	return mine
}

// goOnFrom makes the rig go on from where an oracle is.
func (r *rig) goOnFrom(o *oracle) error {
	permanent, err := ImportLibtpms(r.cfg, o.blob(permanentBlob))
	if err != nil {
		return err
	}
	volatile, err := ImportLibtpmsVolatile(r.cfg, permanent, o.blob(volatileBlob))
	if err != nil {
		return err
	}
	e, err := Resume(r.cfg, permanent, volatile)
	if err == nil {
		r.e, r.durable = e, permanent
	}
	return err
}

// agree runs commands on both; the answers must be the same, byte for byte.
func (r *rig) agree(mine *rig, what string, cmds ...[]byte) {
	r.t.Helper()
	for _, cmd := range cmds {
		want, got := r.execute(cmd), mine.execute(cmd)
		if !bytes.Equal(got, want) {
			r.t.Errorf("%s, %v: the answers differ:\n ours  %v %x\n swtpm %v %x", what, commandCode(cmd), code(got), got, code(want), want)
		}
	}
}

// inventory reads all that can be read of a TPM with the golden contents, but
// for what moves by itself.
func inventory() (list [][]byte) {
	add := func(cmds ...[]byte) { list = append(list, cmds...) }
	for _, c := range []tpm2.Cap{tpm2.CapPPCommands, tpm2.CapAuditCommands, tpm2.CapPCRs} {
		add(capabilityCmd(c, 0, 254))
	}
	for _, h := range []uint32{0x00000000, 0x01000000, 0x02000000, 0x03000000, 0x40000000, 0x80000000, 0x81000000} {
		add(capabilityCmd(tpm2.CapHandles, h, 254))
	}
	for _, p := range []tpm2.PT{tpm2.PTFirmwareVersion1, tpm2.PTFirmwareVersion2} {
		add(capabilityCmd(tpm2.CapTPMProperties, uint32(p), 1))
	}
	add(capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTVar), 2), capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTLockoutCounter), 4))
	for n := range byte(24) {
		bit := [3]byte{}
		bit[n/8] = 1 << (n % 8)
		for _, alg := range tpm2.HashAlgs() {
			add(frame(tpm2.CCPCRRead, nil, nil, u32(1), u16(uint16(alg)), []byte{3}, bit[:]))
		}
	}
	for i := range tpm2.Handle(3) {
		add(readPublicCmd(tpm2.TransientFirst+i), frame(tpm2.CCPolicyGetDigest, []tpm2.Handle{tpm2.PolicySessionFirst + i}, nil))
	}
	// libtpms takes a free slot to read a persistent object.
	for i := range tpm2.Handle(3) {
		add(flushCmd(tpm2.TransientFirst + i))
	}
	for i := range tpm2.Handle(0x20) {
		add(readPublicCmd(goldenKey+i), readPublicCmd(tpm2.PlatformPersistent+i))
		x := goldenIndex + i
		add(frame(tpm2.CCNVReadPublic, []tpm2.Handle{x}, nil))
		for _, size := range []uint16{20, 16, 8, 5, 1} {
			add(frame(tpm2.CCNVRead, []tpm2.Handle{tpm2.RHOwner, x}, password(""), u16(size), u16(0)),
				frame(tpm2.CCNVRead, []tpm2.Handle{tpm2.RHPlatform, x}, password(""), u16(size), u16(0)))
		}
	}
	return list
}

// fill gives the TPM something of every kind.
func (r *rig) fill() {
	r.t.Helper()
	r.all(equipment()...)
	r.goldenObjects()
	r.goldenIndices()
	r.goldenSettings()
	r.goldenSessions()
	r.goldenTransients()
}

// TestImport moves a running TPM of Debian's swtpm with something of every kind
// here: what can be read is the same, byte for byte, also after a power cycle of
// each kind that both go through, and so is what keys, sessions and counters give.
func TestImport(t *testing.T) {
	r := newForeign(t)
	r.fill()
	mine := r.takeOver()
	variable := capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTVar), 60)
	r.agree(mine, "what there is", append(inventory(), variable)...)
	p256, _ := crypt.CurveOf(tpm2.CurveP256)
	base := tpm2.ECCPoint{X: p256.Gx, Y: p256.Gy}
	exchange := zGen2Cmd(goldenKey+1+3, base, base, tpm2.AlgECDH, 0)
	r.agree(mine, "a commitment", exchange, exchange)
	use := useCmds()
	r.agree(mine, "what is used", use...)
	for _, su := range [][2]tpm2.SU{{tpm2.SUState, tpm2.SUState}, {tpm2.SUState, tpm2.SUClear}, {tpm2.SUClear, tpm2.SUClear}} {
		r.agree(mine, "shutting down", shutdownCmd(su[0]))
		// Not only ours goes on: the file alone makes the same TPM once more.
		again := &rig{t: t, clock: mine.clock, cfg: mine.cfg}
		permanent, err := ImportLibtpms(mine.cfg, r.other.blob(permanentBlob))
		if err != nil {
			t.Fatal(err)
		}
		again.power(permanent)
		mine.power(mine.durable)
		r.other.tell(0, 0, 0, 2, 0, 0, 0, 0)
		start := startupCmd(su[1])
		if rc := code(again.execute(start)); rc != tpm2.RCSuccess {
			t.Errorf("Startup of the file alone: %v", rc)
		}
		r.agree(mine, "starting up", start)
		list := inventory()
		r.agree(mine, "after a power cycle", list...)
		for _, cmd := range list {
			if got, want := again.execute(cmd), mine.execute(cmd); !bytes.Equal(got, want) {
				t.Errorf("the file alone, %v: %x, want %x", commandCode(cmd), got, want)
			}
		}
	}
}

// useCmds uses what fill has left, where the answer does not depend on chance.
func useCmds() (list [][]byte) {
	const hmac, sealed, counter, hybrid = goldenKey + 1 + 5, goldenKey + 0x10, goldenIndex + 1, goldenIndex + 0x16
	return append(list,
		frame(tpm2.CCHMAC, []tpm2.Handle{hmac}, password(""), buf16([]byte("data")), u16(uint16(tpm2.AlgNull))),
		frame(tpm2.CCUnseal, []tpm2.Handle{sealed}, password("auth")),
		frame(tpm2.CCUnseal, []tpm2.Handle{sealed}, password("wrong")),
		frame(tpm2.CCNVIncrement, []tpm2.Handle{counter, counter}, password("")),
		frame(tpm2.CCNVIncrement, []tpm2.Handle{tpm2.RHOwner, hybrid}, password("")),
		frame(tpm2.CCPolicyGetDigest, []tpm2.Handle{tpm2.PolicySessionFirst}, nil),
		assert(tpm2.CCPolicyAuthValue)(tpm2.PolicySessionFirst),
		frame(tpm2.CCPolicyGetDigest, []tpm2.Handle{tpm2.PolicySessionFirst}, nil),
		frame(tpm2.CCPCRExtend, []tpm2.Handle{10}, password(""), u32(1), u16(uint16(tpm2.AlgSHA1)), make([]byte, 20)),
		frame(tpm2.CCHierarchyChangeAuth, []tpm2.Handle{tpm2.RHLockout}, password("lockout"), buf16([]byte("other"))),
		frame(tpm2.CCClear, []tpm2.Handle{tpm2.RHLockout}, password("other")),
		capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTVar), 60))
}
