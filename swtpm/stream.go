package swtpm

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// stream is what the data channel needs of a connection.
type stream interface {
	io.ReadWriter
	SetReadDeadline(time.Time) error
}

// blocking is a connected socket that is read by blocking in the kernel. The
// answer to a cheap command then takes half the time that it takes through
// the runtime's poller.
type blocking struct {
	fd int

	mu   sync.Mutex
	shut bool
}

// newBlocking takes a connection over; it is closed in any case.
func newBlocking(c net.Conn) (*blocking, error) {
	defer c.Close()
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, syscall.ENOTSOCK
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &blocking{fd: -1}
	if e := raw.Control(func(fd uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if b.fd, err = syscall.Dup(int(fd)); err == nil {
			syscall.CloseOnExec(b.fd)
			err = syscall.SetNonblock(b.fd, false)
		}
	}); e != nil {
		err = e
	}
	if err != nil && b.fd >= 0 {
		syscall.Close(b.fd)
	}
	return b, err
}

// Read reads once.
func (b *blocking) Read(p []byte) (int, error) {
	for {
		n, err := syscall.Read(b.fd, p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Write writes all of p.
func (b *blocking) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := syscall.Write(b.fd, p[done:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// SetReadDeadline bounds the reads that begin from now on; the zero time lifts
// it.
func (b *blocking) SetReadDeadline(t time.Time) error {
	var tv syscall.Timeval
	if !t.IsZero() {
		tv = syscall.NsecToTimeval(int64(max(time.Until(t), time.Millisecond)))
	}
	return syscall.SetsockoptTimeval(b.fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv)
}

// Close ends reads and writes, now and later. The descriptor stays until
// release, so that no read finds another file under its number.
func (b *blocking) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut {
		return nil
	}
	b.shut = true
	return syscall.Shutdown(b.fd, syscall.SHUT_RDWR)
}

// release gives the descriptor back, when no one reads or writes any more.
func (b *blocking) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
	syscall.Close(b.fd)
}
