//go:build linux

package confine

import "golang.org/x/sys/unix"

const (
	// processor is how the kernel names this one to a filter.
	processor = unix.AUDIT_ARCH_AARCH64
	// threadFlags are those of clone(2) with which Go's runtime makes a thread.
	threadFlags = anyThread
)
