package sevlaunch

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
)

// Mode says which protection the machine is launched under.
type Mode uint8

// The modes.
const (
	SEV Mode = iota
	SEVES
	SNP
)

// MaxVCPUs bounds the processors of a machine.
const MaxVCPUs = 4096

// DefaultFeatures is SEV_FEATURES of an SEV-SNP guest: SNP alone.
const DefaultFeatures = 1

// Machine is what is launched.
type Machine struct {
	Mode     Mode
	Firmware *Firmware
	// Kernel is a direct boot whose hashes are measured; nil for none.
	Kernel *Kernel
	// VCPUs counts the processors, 1 to MaxVCPUs; it does not matter under SEV.
	VCPUs int
	// CPU is the processor as CPUID 1 tells it in EAX (CPUSignature), which QEMU puts
	// into the VMSAs.
	CPU uint32
	VMM VMM
	// Features is SEV_FEATURES, which matters under SNP alone; 0 for
	// DefaultFeatures.
	Features uint64
}

func (m *Machine) features() uint64 {
	switch {
	case m.Mode != SNP:
		return 0
	case m.Features == 0:
		return DefaultFeatures
	}
	return m.Features
}

// CPUSignature is what CPUID 1 gives in EAX for a family, model and stepping (AMD
// 25481).
func CPUSignature(family, model, stepping uint8) uint32 {
	low, high := uint32(family), uint32(0)
	if family > 0xf {
		low, high = 0xf, uint32(family)-0xf
	}
	return high<<20 | uint32(model>>4)<<16 | low<<8 | uint32(model&0xf)<<4 | uint32(stepping&0xf)
}

// cpus are the models of QEMU (its builtin_x86_defs).
var cpus = map[string]uint32{
	"EPYC": 0x00800f12, "EPYC-Rome": 0x00830f10, "EPYC-Milan": 0x00a00f11, "EPYC-Genoa": 0x00a10f10, "EPYC-Turin": 0x00b00f00,
}

// CPUModels lists the names that CPUModel knows.
func CPUModels() []string {
	return []string{"EPYC", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin"}
}

// CPUModel gives the signature of a model of QEMU by its name, without version.
func CPUModel(name string) (uint32, bool) {
	c, ok := cpus[name]
	return c, ok
}

// Digest computes the launch digest: 32 bytes under SEV and SEV-ES, 48 under SNP,
// where it is the report's measurement.
func (m *Machine) Digest() ([]byte, error) {
	switch {
	case m.Firmware == nil:
		return nil, errors.New("there is no firmware to launch")
	case m.Mode > SNP || m.VMM > GCE:
		return nil, errors.New("the mode or the VMM is none that is known")
	case m.Mode != SEV && (m.VCPUs < 1 || m.VCPUs > MaxVCPUs):
		return nil, fmt.Errorf("%d processors: 1 to %d are possible", m.VCPUs, MaxVCPUs)
	case m.Mode != SEV && m.VCPUs > 1 && !m.Firmware.hasReset:
		return nil, errors.New("the firmware does not say where its other processors begin (SEV-ES reset block): it does not support SEV-ES")
	}
	if m.Mode == SNP {
		return m.snp()
	}
	h := sha256.New()
	h.Write(m.Firmware.image)
	if m.Kernel != nil {
		if m.Firmware.hashesAt == 0 {
			return nil, errors.New("the firmware has no place for the kernel's hashes: it measures no kernel (AmdSev builds of OVMF do)")
		}
		h.Write(m.Kernel.table())
	}
	if m.Mode == SEVES {
		m.vmsas(func(page []byte) { h.Write(page) })
	}
	return h.Sum(nil), nil
}

// vmsas calls f for the VMSA of each processor.
func (m *Machine) vmsas(f func(page []byte)) {
	f(m.vmsa(firstEIP))
	if m.VCPUs < 2 {
		return
	}
	other := m.vmsa(m.Firmware.resetEIP)
	for range m.VCPUs - 1 {
		f(other)
	}
}

// Types of pages in PAGE_INFO (AMD 56860, table 67).
const (
	pageNormal     = 1
	pageVMSA       = 2
	pageZero       = 3
	pageUnmeasured = 4
	pageSecrets    = 5
	pageCPUID      = 6
)

// vmsaAddress is where the firmware has VMSAs: the last page, by the address bits
// that it keeps.
const vmsaAddress = 0xfffffffff000

// context is the guest context's launch digest.
type context [sha512.Size384]byte

// add chains one page.
func (c *context) add(kind byte, address uint64, content [sha512.Size384]byte) {
	const size = 0x70
	info := append(append(make([]byte, 0, size), c[:]...), content[:]...)
	info = binary.LittleEndian.AppendUint16(info, size)
	info = append(info, kind, 0, 0, 0, 0, 0) // no initial migration image, no permissions of VMPL 1 to 3
	*c = sha512.Sum384(binary.LittleEndian.AppendUint64(info, address))
}

// pages chains pages without content.
func (c *context) pages(kind byte, s section) {
	for at := uint32(0); at < s.size; at += pageSize {
		c.add(kind, uint64(s.address)+uint64(at), [sha512.Size384]byte{})
	}
}

func (m *Machine) snp() ([]byte, error) {
	var c context
	f := m.Firmware
	for at := 0; at < len(f.image); at += pageSize {
		c.add(pageNormal, f.address()+uint64(at), sha512.Sum384(f.image[at:at+pageSize]))
	}
	hashes := false
	for _, s := range f.sections {
		hashes = hashes || s.kind == sectionKernelHashes
		if s.kind == sectionCPUID && m.VMM == EC2 {
			continue // adds it last
		}
		if err := m.section(&c, s); err != nil {
			return nil, err
		}
	}
	if m.Kernel != nil && !hashes {
		return nil, errors.New("the firmware has no place for the kernel's hashes: it measures no kernel (AmdSev builds of OVMF do)")
	}
	for _, s := range f.sections {
		if s.kind == sectionCPUID && m.VMM == EC2 {
			c.add(pageCPUID, uint64(s.address), [sha512.Size384]byte{})
		}
	}
	m.vmsas(func(page []byte) { c.add(pageVMSA, vmsaAddress, sha512.Sum384(page)) })
	return c[:], nil
}

// section chains what a section asks for.
func (m *Machine) section(c *context, s section) error {
	switch s.kind {
	case sectionMemory:
		kind := byte(pageZero)
		if m.VMM == GCE {
			kind = pageUnmeasured
		}
		c.pages(kind, s)
	case sectionCallingArea:
		c.pages(pageZero, s)
	case sectionSecrets:
		c.add(pageSecrets, uint64(s.address), [sha512.Size384]byte{})
	case sectionCPUID:
		c.add(pageCPUID, uint64(s.address), [sha512.Size384]byte{})
	case sectionKernelHashes:
		if m.Kernel == nil {
			c.pages(pageZero, s)
			return nil
		}
		page, err := m.Kernel.page(m.Firmware.hashesAt % pageSize)
		if err != nil {
			return err
		}
		if s.size != pageSize {
			return errors.New("the firmware's place for the kernel's hashes is not one page")
		}
		c.add(pageNormal, uint64(s.address), sha512.Sum384(page))
	default:
		return fmt.Errorf("the firmware's SEV metadata ask for something that is not known here (type 0x%x)", uint32(s.kind))
	}
	return nil
}
