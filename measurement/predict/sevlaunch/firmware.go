package sevlaunch

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxFirmware bounds a firmware image, in bytes.
const MaxFirmware = 64 << 20

const (
	pageSize    = 4096
	fourGB      = 1 << 32
	entryHeader = 18 // bytes: size, GUID
	tableEnd    = 32 // bytes between the table's end and the image's
	maxSections = 64
)

// guid is a GUID as images have it: its first three fields little endian.
type guid [16]byte

// GUIDs of OVMF's table, which lies below the reset vector.
var (
	footerGUID   = guid{0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d}
	hashesGUID   = guid{0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54}
	resetGUID    = guid{0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e}
	metadataGUID = guid{0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc}
)

// sectionType says what a section of the SEV metadata asks for.
type sectionType uint32

// The types (OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm).
const (
	sectionMemory       sectionType = 1
	sectionSecrets      sectionType = 2
	sectionCPUID        sectionType = 3
	sectionCallingArea  sectionType = 4
	sectionKernelHashes sectionType = 0x10
)

type section struct {
	address, size uint32
	kind          sectionType
}

// Firmware is an image of OVMF, as it lies below four gigabytes.
type Firmware struct {
	image    []byte
	hashesAt uint32 // guest-physical address of the table of hashes, 0 for none
	resetEIP uint32 // where other processors than the first begin
	hasReset bool
	sections []section
}

// ParseFirmware reads an image: whole pages, with or without OVMF's table at its
// end. The image is kept, not copied.
func ParseFirmware(b []byte) (*Firmware, error) {
	if len(b) == 0 || len(b) > MaxFirmware || len(b)%pageSize != 0 {
		return nil, fmt.Errorf("the firmware has %d bytes: whole pages of %d, up to %d bytes, are expected", len(b), pageSize, MaxFirmware)
	}
	f := &Firmware{image: b}
	return f, f.table()
}

// table reads OVMF's table from its end: entries of data, then size and GUID.
func (f *Firmware) table() error {
	le := binary.LittleEndian
	end := len(f.image) - tableEnd
	if guid(f.image[end-16:end]) != footerGUID {
		return nil // not OVMF, or one without a table
	}
	size := int(le.Uint16(f.image[end-entryHeader:]))
	if size < entryHeader || size > end {
		return errors.New("the firmware's table is damaged: its size is impossible")
	}
	rest := f.image[end-size : end-entryHeader]
	for len(rest) >= entryHeader {
		id, n := guid(rest[len(rest)-16:]), int(le.Uint16(rest[len(rest)-entryHeader:]))
		if n < entryHeader || n > len(rest) {
			return errors.New("the firmware's table is damaged: the size of an entry is impossible")
		}
		data := rest[len(rest)-n : len(rest)-entryHeader]
		rest = rest[:len(rest)-n]
		if err := f.entry(id, data); err != nil {
			return err
		}
	}
	return nil
}

func (f *Firmware) entry(id guid, data []byte) error {
	if id != hashesGUID && id != resetGUID && id != metadataGUID {
		return nil
	}
	if len(data) < 4 {
		return errors.New("the firmware's table is damaged: an entry is too short")
	}
	switch v := binary.LittleEndian.Uint32(data); id {
	case hashesGUID:
		f.hashesAt = v
	case resetGUID:
		f.resetEIP, f.hasReset = v, true
	case metadataGUID:
		return f.metadata(v)
	}
	return nil
}

// metadata reads the SEV metadata, which begin some bytes before the image's end.
func (f *Firmware) metadata(fromEnd uint32) error {
	const header, item = 16, 12
	le := binary.LittleEndian
	if uint64(fromEnd) > uint64(len(f.image)) || fromEnd < header {
		return errors.New("the firmware's SEV metadata lie outside it")
	}
	b := f.image[len(f.image)-int(fromEnd):]
	size, version, n := le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])
	if string(b[:4]) != "ASEV" || version != 1 {
		return errors.New("the firmware's SEV metadata are not of version 1")
	}
	if n > maxSections || uint64(size) > uint64(len(b)) || uint64(size) < header+item*uint64(n) {
		return errors.New("the firmware's SEV metadata are damaged")
	}
	for i := range int(n) {
		d := b[header+item*i:]
		s := section{le.Uint32(d), le.Uint32(d[4:]), sectionType(le.Uint32(d[8:]))}
		if s.address%pageSize != 0 || s.size%pageSize != 0 || s.size == 0 || s.size > MaxFirmware {
			return fmt.Errorf("section %d of the firmware's SEV metadata is not of whole pages", i+1)
		}
		f.sections = append(f.sections, s)
	}
	return nil
}

// address is where the image begins in the guest.
func (f *Firmware) address() uint64 { return fourGB - uint64(len(f.image)) }
