package store

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// filesystem is the seam through which every byte passes to the disk. Its
// second implementation is the simulated disk of the tests, which fails,
// loses and tears writes.
type filesystem interface {
	open(path string) (file, error) // for reading and writing, must exist
	create(path string, mode fs.FileMode) (file, error)
	rename(from, to string) error
	link(from, to string) error // fs.ErrExist where there is something at to
	remove(path string) error
	syncDir(path string) error
}

// file is an open file of a filesystem.
type file interface {
	size() (int64, error)
	readAt(b []byte, off int64) error  // all of b
	writeAt(b []byte, off int64) error // all of b
	sync() error                       // data and, where it changed, the size
	close() error
}

type osFS struct{}

func (osFS) open(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	return osFile{f}, err
}

func (osFS) create(path string, mode fs.FileMode) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return nil, err
	}
	// Whatever the umask says; where files have no modes, as on FAT, nobody can.
	if err := f.Chmod(mode); err != nil && !errors.Is(err, syscall.EPERM) && !errors.Is(err, errors.ErrUnsupported) {
		f.Close()
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) rename(from, to string) error { return os.Rename(from, to) }
func (osFS) link(from, to string) error   { return os.Link(from, to) }
func (osFS) remove(path string) error     { return os.Remove(path) }

func (osFS) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

type osFile struct{ *os.File }

func (f osFile) size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	switch t := st.Mode().Type(); t {
	case 0:
		return st.Size(), nil
	case fs.ModeDevice: // a disk
		return f.Seek(0, io.SeekEnd)
	}
	return 0, syscall.EINVAL
}

func (f osFile) readAt(b []byte, off int64) error {
	_, err := f.ReadAt(b, off)
	return err
}

func (f osFile) writeAt(b []byte, off int64) error {
	_, err := f.WriteAt(b, off)
	return err
}

func (f osFile) sync() error  { return fdatasync(f.File) }
func (f osFile) close() error { return f.Close() }
