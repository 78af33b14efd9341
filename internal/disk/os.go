package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// System is the operating system's file system. It follows no symbolic link in the last
// place of a path that it opens for writing.
type System struct{}

// Open implements FS.
func (System) Open(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	return osFile{f}, err
}

// Create implements FS. The file has the mode whatever the umask says.
func (System) Create(path string, mode fs.FileMode) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return nil, err
	}
	// Where files have no modes, as on FAT, nobody can.
	if err := f.Chmod(mode); err != nil && !errors.Is(err, syscall.EPERM) && !errors.Is(err, errors.ErrUnsupported) {
		f.Close()
		return nil, err
	}
	return osFile{f}, nil
}

// Read implements FS.
func (System) Read(path string, most int64) ([]byte, error) {
	return ReadFile(path, most, syscall.O_NOFOLLOW)
}

// ReadFile gives what a file or a disk holds, of more than most bytes the first most+1;
// flags are those of open(2) besides. It waits at no pipe: syscall.EINVAL says that it is
// neither.
func ReadFile(path string, most int64, flags int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() && st.Mode().Type() != fs.ModeDevice {
		return nil, &fs.PathError{Op: "read", Path: path, Err: syscall.EINVAL}
	}
	return io.ReadAll(io.LimitReader(f, most+1))
}

// Rename implements FS.
func (System) Rename(from, to string) error { return os.Rename(from, to) }

// Link implements FS.
func (System) Link(from, to string) error { return os.Link(from, to) }

// Remove implements FS.
func (System) Remove(path string) error { return os.Remove(path) }

// SyncDir implements FS.
func (System) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

type osFile struct{ *os.File }

// Size implements File, for a disk as well.
func (f osFile) Size() (int64, error) {
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

// ReadAt implements File.
func (f osFile) ReadAt(b []byte, off int64) error {
	_, err := f.File.ReadAt(b, off)
	return err
}

// WriteAt implements File.
func (f osFile) WriteAt(b []byte, off int64) error {
	_, err := f.File.WriteAt(b, off)
	return err
}

// Sync implements File.
func (f osFile) Sync() error { return fdatasync(f.File) }
