package sevlaunch

import "encoding/binary"

// VMM says who launches the machine: each begins its processors a little
// otherwise.
type VMM uint8

// The VMMs.
const (
	QEMU VMM = iota
	EC2      // Amazon's
	GCE      // Google's
)

// firstEIP is where the first processor begins: the reset vector.
const firstEIP = 0xfffffff0

// vmsa is the saved state of a processor (AMD APM volume 2, table B-4) as it
// begins at an address.
func (m *Machine) vmsa(eip uint32) []byte {
	b := make([]byte, pageSize)
	le := binary.LittleEndian
	seg := func(at int, selector, attributes uint16, limit uint32, base uint64) {
		le.PutUint16(b[at:], selector)
		le.PutUint16(b[at+2:], attributes)
		le.PutUint32(b[at+4:], limit)
		le.PutUint64(b[at+8:], base)
	}
	csFlags, ssFlags, trFlags, pat := uint16(0x9b), uint16(0x93), uint16(0x8b), uint64(0x0007040600070406)
	rdx, mxcsr, fcw := uint64(m.CPU), uint32(0x1f80), uint16(0x37f)
	if m.VMM != QEMU {
		rdx, mxcsr, fcw = 0x600, 0, 0
	}
	switch m.VMM {
	case EC2:
		ssFlags, trFlags = 0x92, 0x83
		if eip == firstEIP {
			csFlags = 0x9a
		}
	case GCE:
		pat = 0x00070106
	}
	seg(0x00, 0, 0x93, 0xffff, 0)                              // ES
	seg(0x10, 0xf000, csFlags, 0xffff, uint64(eip&0xffff0000)) // CS
	seg(0x20, 0, ssFlags, 0xffff, 0)                           // SS
	for _, at := range []int{0x30, 0x40, 0x50} {               // DS, FS, GS
		seg(at, 0, 0x93, 0xffff, 0)
	}
	seg(0x60, 0, 0, 0xffff, 0)       // GDTR
	seg(0x70, 0, 0x82, 0xffff, 0)    // LDTR
	seg(0x80, 0, 0, 0xffff, 0)       // IDTR
	seg(0x90, 0, trFlags, 0xffff, 0) // TR
	for _, r := range []struct {
		at    int
		value uint64
	}{
		{0x0d0, 0x1000},     // EFER: KVM sets SVME
		{0x148, 0x40},       // CR4: KVM sets MCE
		{0x158, 0x10},       // CR0
		{0x160, 0x400},      // DR7
		{0x168, 0xffff0ff0}, // DR6
		{0x170, 2},          // RFLAGS
		{0x178, uint64(eip & 0xffff)},
		{0x268, pat},
		{0x310, rdx},
		{0x3b0, m.features()}, // SEV_FEATURES
		{0x3e8, 1},            // XCR0
	} {
		le.PutUint64(b[r.at:], r.value)
	}
	le.PutUint32(b[0x408:], mxcsr)
	le.PutUint16(b[0x410:], fcw)
	return b
}
