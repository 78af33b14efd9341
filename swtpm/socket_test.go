package swtpm

import (
	"os"
	"syscall"
	"testing"
)

// socketPair makes two connected stream sockets.
func socketPair(t testing.TB) (a, b *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
}

func unixRights(f ...*os.File) []byte {
	var fds []int
	for _, f := range f {
		fds = append(fds, int(f.Fd()))
	}
	return syscall.UnixRights(fds...)
}

// openFDs counts the open descriptors of this process.
func openFDs(t testing.TB) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc")
	}
	return len(e)
}
