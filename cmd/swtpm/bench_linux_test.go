package main

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// onOneProcessor keeps this goroutine, and the processes that it starts, on
// one processor. Whether the kernel wakes a program on this processor or on
// one that sleeps makes 40 microseconds, is chance, and would decide the
// comparison of all cheap commands.
func onOneProcessor(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	one := unix.CPUSet{}
	for i := range 1024 {
		if set.IsSet(i) {
			one.Zero()
			one.Set(i)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.SchedSetaffinity(0, &set); runtime.UnlockOSThread() })
}
