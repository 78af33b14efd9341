package disk

import (
	"os"
	"syscall"
)

// fdatasync is enough: it also writes what is needed to find the data again,
// such as a changed size.
func fdatasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return err
		}
	}
}
