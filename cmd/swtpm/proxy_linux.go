package main

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// proxyDevice is the argument of the ioctl by which /dev/vtpmx makes a TPM device
// (struct vtpm_proxy_new_dev of linux/vtpm_proxy.h).
type proxyDevice struct {
	flags, number, fd, major, minor uint32
}

const (
	proxyPath     = "/dev/vtpmx"
	proxyNew      = 3<<30 | uint(unsafe.Sizeof(proxyDevice{}))<<16 | 0xa1<<8 // _IOWR(0xa1, 0, …)
	proxyFlagTPM2 = 1
)

// newProxy has the kernel make a TPM device, says which, and gives the end of it
// that a TPM serves.
func newProxy() (*os.File, error) {
	x, err := os.OpenFile(proxyPath, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("--vtpm-proxy: %w (is the module tpm_vtpm_proxy loaded?)", err)
	}
	defer x.Close()
	dev := proxyDevice{flags: proxyFlagTPM2}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, x.Fd(), uintptr(proxyNew), uintptr(unsafe.Pointer(&dev))); e != 0 {
		return nil, fmt.Errorf("--vtpm-proxy: %s makes no device: %w", proxyPath, e)
	}
	unix.CloseOnExec(int(dev.fd))
	fmt.Print(dev.String())
	return os.NewFile(uintptr(dev.fd), "vTPM proxy"), nil
}

// String is what swtpm prints of a device, for those who start it.
func (d *proxyDevice) String() string {
	return fmt.Sprintf("New TPM device: /dev/tpm%d (major/minor = %d/%d)\n", d.number, d.major, d.minor)
}
