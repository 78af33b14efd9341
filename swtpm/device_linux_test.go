package swtpm

import (
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDeviceDropsLateAnswers: the kernel's vTPM proxy refuses the answer to a command
// that it has given up (EIO), and goes on. A terminal without its other end refuses
// likewise, and there the next read says that nobody is left.
func TestDeviceDropsLateAnswers(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo-terminals: %v", err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	end, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo-terminals: %v", err)
	}
	d, err := newDevice(end)
	if err != nil {
		t.Fatal(err)
	}
	defer d.release()
	master.Close()
	if _, err := unix.Write(d.fd, []byte{0}); err != unix.EIO {
		t.Fatalf("the kernel takes what is written to nobody: %v", err)
	}
	if n, err := d.Write([]byte("an answer")); n != 9 || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
	if _, err := d.Read(make([]byte, 10)); err != io.EOF {
		t.Errorf("Read: %v", err)
	}
}
