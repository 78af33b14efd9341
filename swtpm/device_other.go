//go:build !linux

package swtpm

import (
	"errors"
	"os"
)

// device is a character device in the place of a data connection.
type device struct{ blocking }

func newDevice(f *os.File) (*device, error) {
	f.Close()
	return nil, errors.New("only on Linux a device can be served")
}
