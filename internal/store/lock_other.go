//go:build unix && !linux

package store

import "syscall"

const setLock = syscall.F_SETLK
