package swtpm

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// device is a character device that stands in the place of a data connection, such
// as the end of the kernel's vTPM proxy: each read gives one command, and each
// write takes one response.
type device struct {
	f        *os.File
	fd       int
	deadline time.Time // of the reads that begin from now on

	wake int // an eventfd, readable when the device is shut

	mu   sync.Mutex
	shut bool
}

// newDevice takes a device over.
func newDevice(f *os.File) (*device, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &device{f: f, fd: int(f.Fd()), wake: wake}, nil
}

// Read reads once, when there is something to read: in the kernel's proxy a read
// cannot be called off.
func (d *device) Read(p []byte) (int, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(d.wake), Events: unix.POLLIN}}
		switch n, err := unix.Ppoll(fds, d.patience(), nil); {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, os.ErrDeadlineExceeded
		case fds[1].Revents != 0, fds[0].Revents&unix.POLLIN == 0: // shut, or nobody behind it
			return 0, io.EOF
		}
		n, err := unix.Read(d.fd, p)
		switch {
		case err == unix.EINTR, err == unix.EAGAIN:
			continue
		case err != nil:
			return 0, err
		case n <= 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// patience is the time until the deadline, nil where there is none.
func (d *device) patience() *unix.Timespec {
	if d.deadline.IsZero() {
		return nil
	}
	left := unix.NsecToTimespec(int64(max(time.Until(d.deadline), time.Millisecond)))
	return &left
}

// Write writes all of p, but for an answer that came too late: the kernel's proxy
// takes none for a command that it has given up, and gives another one next.
func (d *device) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(d.fd, p[done:])
		switch err {
		case nil:
			done += n
		case unix.EINTR:
		case unix.EIO:
			return len(p), nil // where nobody is there any more, Read finds it out
		case unix.EAGAIN:
			_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLOUT}}, nil, nil)
		default:
			return done, err
		}
	}
	return done, nil
}

// SetReadDeadline bounds the reads that begin from now on; the zero time lifts it.
func (d *device) SetReadDeadline(t time.Time) error {
	d.deadline = t
	return nil
}

// Close ends reads, now and later. The descriptor stays until release.
func (d *device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return nil
	}
	d.shut = true
	_, err := unix.Write(d.wake, []byte{0, 0, 0, 0, 0, 0, 0, 1})
	return err
}

// release gives the descriptors back, when no one reads or writes any more.
func (d *device) release() {
	d.Close()
	unix.Close(d.wake)
	d.f.Close()
}
