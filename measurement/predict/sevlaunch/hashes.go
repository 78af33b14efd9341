package sevlaunch

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
)

// Kernel is a direct boot (-kernel) whose hashes the firmware has measured and
// checks (kernel-hashes=on). Its parts are given by their SHA-256.
type Kernel struct {
	Kernel, Initrd, CommandLine [sha256.Size]byte
}

// NewKernel digests a direct boot. QEMU ends the command line with a zero byte; an
// initrd that is not there is an empty one.
func NewKernel(kernel, initrd []byte, commandLine string) (*Kernel, error) {
	if strings.ContainsRune(commandLine, 0) {
		return nil, errors.New("the command line has a zero byte")
	}
	return &Kernel{sha256.Sum256(kernel), sha256.Sum256(initrd), sha256.Sum256([]byte(commandLine + "\x00"))}, nil
}

// GUIDs of the table of hashes (QEMU's target/i386/sev.c).
var (
	tableGUID   = guid{0x06, 0xd6, 0x38, 0x94, 0x22, 0x4f, 0xc9, 0x4c, 0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21}
	kernelGUID  = guid{0x37, 0x94, 0xe7, 0x4d, 0xd2, 0xab, 0x7f, 0x42, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b}
	initrdGUID  = guid{0x31, 0xf7, 0xba, 0x44, 0x2f, 0x3a, 0xd7, 0x4b, 0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d}
	cmdlineGUID = guid{0xd8, 0x2d, 0xd0, 0x97, 0x20, 0xbd, 0x94, 0x4c, 0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a}
)

// table is the table of hashes as QEMU puts it into the guest: command line,
// initrd, kernel, filled up to sixteen bytes.
func (k *Kernel) table() []byte {
	const entry = 16 + 2 + sha256.Size
	b := append([]byte(nil), tableGUID[:]...)
	b = binary.LittleEndian.AppendUint16(b, 16+2+3*entry)
	for _, e := range []struct {
		id   guid
		hash [sha256.Size]byte
	}{{cmdlineGUID, k.CommandLine}, {initrdGUID, k.Initrd}, {kernelGUID, k.Kernel}} {
		b = append(b, e.id[:]...)
		b = binary.LittleEndian.AppendUint16(b, entry)
		b = append(b, e.hash[:]...)
	}
	return append(b, make([]byte, (16-len(b)%16)%16)...)
}

// page is the page that has the table at an offset, and zeros around it.
func (k *Kernel) page(offset uint32) ([]byte, error) {
	t := k.table()
	if int(offset)+len(t) > pageSize {
		return nil, errors.New("the firmware's place for the table of hashes crosses a page")
	}
	return append(append(make([]byte, offset), t...), make([]byte, pageSize-int(offset)-len(t))...), nil
}
