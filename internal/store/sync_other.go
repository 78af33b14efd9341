//go:build unix && !linux

package store

import (
	"os"
	"syscall"
)

const setLock = syscall.F_SETLK

func fdatasync(f *os.File) error { return f.Sync() }
