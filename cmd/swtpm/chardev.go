package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// errTwoDevices says that the options name more than one device.
var errTwoDevices = errors.New("--chardev, --fd and --vtpm-proxy exclude each other")

// openDevice opens the device of 'swtpm chardev', with the rights that the program
// is started with: /dev/vtpmx is root's.
func (o *options) openDevice() (*os.File, error) {
	switch {
	case o.chardev != "" && o.fd != "", o.vtpmProxy && o.chardev+o.fd != "":
		return nil, errTwoDevices
	case o.vtpmProxy:
		return newProxy()
	case o.chardev != "":
		f, err := os.OpenFile(o.chardev, os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("--chardev: %w", err)
		}
		return fitDevice(f, "--chardev "+o.chardev)
	case o.fd != "":
		f, err := inherited(params{option: "fd", values: map[string]string{"fd": o.fd}}, "fd")
		if err != nil {
			return nil, err
		}
		return fitDevice(f, "--fd "+o.fd)
	}
	return nil, errors.New("no way in: give --chardev, --fd or --vtpm-proxy, see 'swtpm chardev --help'")
}

// fitDevice refuses a file that nobody can be behind. The proxy's end is an
// anonymous file, which is of no type at all.
func fitDevice(f *os.File, option string) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFBLK, unix.S_IFLNK:
		f.Close()
		return nil, fmt.Errorf("%s is not a character device", option)
	}
	return f, nil
}
