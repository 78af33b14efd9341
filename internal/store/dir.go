package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/disk"
)

// ErrLocked says that another process holds the directory.
var ErrLocked = errors.New("the state directory is in use by another process")

// Options say how a directory is used.
type Options struct {
	// Mode is that of the files made in it; 0 = 0640.
	Mode fs.FileMode
	// NoLock leaves out the lock against other processes.
	NoLock bool
	// Backup keeps a second file of those that BackedFile gives.
	Backup bool
	// Room is the largest state in bytes that one file has room for, of each of them;
	// 0 = 512 KiB. A file that was made with another is refused.
	Room int
	// FS is what the files are on; nil = the system's. The lock is not its affair.
	FS disk.FS
}

// Dir is a directory with states in it, or one file that holds them. Its lock is
// that of swtpm, a POSIX record lock on the directory's file ".lock", or on the one
// file, so that neither works on the other's.
// Its methods may be called from several goroutines.
type Dir struct {
	path   string
	opt    Options
	fs     disk.FS
	single *single // where it is one file, else nil
	least  int     // sectors in a new file's slots, unless more are needed

	mu   sync.Mutex
	lock *os.File // nil while not locked
}

// OpenDir opens the directory at path, which must exist. It does not lock it.
func OpenDir(path string, opt Options) (*Dir, error) {
	if opt.FS == nil {
		st, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("state directory %s cannot be used: %w", path, errors.Unwrap(err))
		}
		if !st.IsDir() {
			return nil, fmt.Errorf("state directory %s is not a directory", path)
		}
		opt.FS = disk.System{}
	}
	if opt.Mode == 0 {
		opt.Mode = 0o640
	}
	return &Dir{path: path, opt: opt, fs: opt.FS, least: minSectors}, nil
}

// Path gives the path of the directory, or of the one file, as it was opened.
func (d *Dir) Path() string { return d.path }

// Single reports whether it is one file that holds the states.
func (d *Dir) Single() bool { return d.single != nil }

// Read gives what a file in the directory holds, of more than most bytes the first
// most+1; fs.ErrNotExist where there is none, as in one file that holds the states.
func (d *Dir) Read(name string, most int64) ([]byte, error) {
	return d.fs.Read(filepath.Join(d.path, name), most)
}

// Erase removes files of the directory, those that are there, for good. One file that holds the
// states has no others.
func (d *Dir) Erase(names ...string) (err error) {
	if d.Single() {
		return nil
	}
	for _, name := range names {
		if e := d.fs.Remove(filepath.Join(d.path, name)); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, d.fs.SyncDir(d.path))
}

// lockPause is the time between two tries to lock, as in swtpm.
const lockPause = 10 * time.Millisecond

// Lock takes the lock, trying again up to retries times, 10 ms apart. It does
// nothing where the lock is held already, or not wanted.
func (d *Dir) Lock(retries int) error {
	for try := 0; ; try++ {
		err := d.tryLock()
		if err == nil || !errors.Is(err, ErrLocked) || try >= retries {
			return err
		}
		time.Sleep(lockPause)
	}
}

func (d *Dir) tryLock() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opt.NoLock || d.lock != nil {
		return nil
	}
	path, mode := filepath.Join(d.path, lockName), fs.FileMode(0o660)
	if d.Single() {
		path, mode = d.path, d.opt.Mode
	}
	f, err := lockFile(path, os.O_RDWR|os.O_CREATE, mode, syscall.F_WRLCK)
	if err != nil {
		return err
	}
	d.lock = f
	return nil
}

// lockName is the file of a directory that is locked.
const lockName = ".lock"

// lockFile opens a file and takes a lock on it.
func lockFile(path string, flags int, mode fs.FileMode, kind int16) (*os.File, error) {
	f, err := os.OpenFile(path, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, mode)
	if err != nil {
		return nil, fmt.Errorf("lock file %s cannot be opened: %w", path, errors.Unwrap(err))
	}
	l := syscall.Flock_t{Type: kind, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), setLock, &l); err != nil {
		f.Close()
		if err == syscall.EAGAIN || err == syscall.EACCES {
			return nil, fmt.Errorf("%w: %s", ErrLocked, strings.TrimSuffix(path, "/"+lockName))
		}
		return nil, fmt.Errorf("lock file %s cannot be locked: %w", path, err)
	}
	return f, nil
}

// LockToRead keeps others from locking the directory at path until unlock is
// called, and gives ErrLocked where one has. Other readers may do the same. It
// writes nothing, so that the directory may be another user's or on a file system
// that is mounted to be read; where there is no lock file, there is nothing to take.
func LockToRead(path string) (unlock func() error, err error) {
	f, err := lockFile(filepath.Join(path, lockName), os.O_RDONLY, 0, syscall.F_RDLCK)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

// Holder tells whether another process holds the lock on the directory at path, and its
// number, 0 where that cannot be told. Nothing is taken, so that it keeps nobody from
// starting.
func Holder(path string) (pid int, held bool, err error) {
	path = filepath.Join(path, lockName)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("lock file %s cannot be opened: %w", path, errors.Unwrap(err))
	}
	defer f.Close()
	l := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &l); err != nil {
		return 0, false, fmt.Errorf("lock file %s cannot be asked: %w", path, err)
	}
	return max(0, int(l.Pid)), l.Type != syscall.F_UNLCK, nil
}

// Locked reports whether the lock is held (always, where it is not wanted).
func (d *Dir) Locked() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opt.NoLock || d.lock != nil
}

// Unlock gives the lock up. Files of the directory must be loaded again after
// the next Lock, since others may have written them meanwhile.
func (d *Dir) Unlock() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lock == nil {
		return nil
	}
	err := d.lock.Close()
	d.lock = nil
	return err
}

// Discard removes the directory, whose lock is held, where there is nothing in it
// but the lock file; it gives the lock up then. One file that holds the states stays.
func (d *Dir) Discard() error {
	if d.Single() {
		return nil
	}
	list, err := os.ReadDir(d.path)
	if err != nil || len(list) != 1 || !d.Locked() {
		return err
	}
	// Whoever waits for the lock opens the file anew each time.
	return errors.Join(os.Remove(filepath.Join(d.path, lockName)), os.Remove(d.path), d.Unlock())
}
