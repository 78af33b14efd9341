package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ashlar-cloud/ashlar/internal/disk"
)

// MaxSize is the largest state in bytes. What libtpms 0.9 can hold at most,
// 176,832 bytes of NV, fits several times.
const MaxSize = 2 << 20

// minSectors is the size of a new file's slots: 64 sectors are 30,976 bytes.
const minSectors = 64

var (
	// ErrConflict says that the state is not the one the caller last saw.
	ErrConflict = errors.New("the state file was changed by someone else")
	// ErrDamaged says that a file was cut or altered, or has a format this
	// version does not know. The file is left as it is.
	ErrDamaged = errors.New("the file was cut or altered, or has a format unknown to this version; it is left as it is: restore it from a copy, or move it away")
	// ErrTooLarge says that a state exceeds MaxSize.
	ErrTooLarge = fmt.Errorf("a state may have %d bytes at most, and %d in one file with others", MaxSize, singleMost)
)

// Version names one written state of a file. Zero stands for no file.
type Version uint64

// File is one state in a directory. Its methods may be called from several
// goroutines.
type File struct {
	dir    *Dir
	path   string
	backup *File // nil where none is kept

	mu       sync.Mutex
	f        disk.File
	loaded   bool
	restored bool   // made anew of the backup
	capacity int    // sectors in a slot
	current  int    // slot of the current state
	unsure   bool   // what was found in the file, and its name, may not be durable yet
	version  uint64 // number of the current state
	next     uint64 // number of the next write; never used twice
	buf      []byte
}

// File gives the state called name, which need not exist. A name must be
// given out once only.
func (d *Dir) File(name string) *File {
	return &File{dir: d, path: filepath.Join(d.path, name)}
}

// Path gives the file's path.
func (f *File) Path() string { return f.path }

// Load reads the state and its version. Where there is none the error is
// fs.ErrNotExist; a file that cannot be trusted gives ErrDamaged. A file that is
// lost or damaged is made anew of its backup, where one is kept.
func (f *File) Load() ([]byte, Version, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, err := f.load()
	if f.backup != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged)) {
		state, err = f.restore(err)
	}
	if err != nil {
		f.forget()
		if errors.Is(err, fs.ErrNotExist) {
			f.loaded = true
			return nil, 0, fmt.Errorf("state file %s: %w", f.path, fs.ErrNotExist)
		}
		return nil, 0, fmt.Errorf("state file %s: %w", f.path, cause(err))
	}
	f.loaded = true
	return state, Version(f.version), nil
}

func (f *File) load() ([]byte, error) {
	f.forget()
	// What a crash left of an unfinished creation was never acknowledged.
	if f.dir.Locked() {
		if err := f.dir.fs.Remove(f.temporary()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	h, err := f.dir.fs.Open(f.path)
	if err != nil {
		return nil, err
	}
	f.f, f.unsure = h, true
	size, err := h.Size()
	if err != nil {
		return nil, err
	}
	if size%(2*sectorSize) != 0 || size == 0 || size > 2*sectorSize*int64(sectorsFor(MaxSize)) {
		return nil, ErrDamaged
	}
	b := make([]byte, size)
	if err := h.ReadAt(b, 0); err != nil {
		return nil, err
	}
	f.capacity = int(size) / sectorSize / 2
	return f.choose(b)
}

// choose finds the newest whole slot.
func (f *File) choose(b []byte) ([]byte, error) {
	var s [2]slot
	for i := range s {
		var ok bool
		half := f.capacity * sectorSize
		if s[i], ok = decode(b[i*half:(i+1)*half], f.capacity); !ok {
			return nil, ErrDamaged
		}
		f.next = max(f.next, s[i].newest+1)
	}
	if s[1].seq > s[0].seq {
		f.current = 1
	}
	c := s[f.current]
	if c.seq == 0 {
		return nil, ErrDamaged // a crash tears one slot, never both
	}
	f.version = c.seq
	return c.state(), nil
}

// Swap replaces the state of version old (0 = there is none) by state, and
// returns when it is durable. After an error the state of version old is
// still the current one, on the disk too as far as that can be had, and Swap
// may be tried again; a full disk heals by itself.
func (f *File) Swap(old Version, state []byte) (Version, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.expect(old, state); err != nil {
		return 0, err
	}
	// The backup first: whatever happens then, the file itself is one to go on from.
	if f.backup != nil {
		if err := f.backup.put(state); err != nil {
			return 0, err
		}
	}
	if err := f.write(state, false); err != nil {
		return 0, fmt.Errorf("state file %s cannot be written: %w", f.path, cause(err))
	}
	return Version(f.version), nil
}

// Renew is Swap that leaves nothing of earlier states in the file: it writes the whole
// of one slot and then of the other. After an error either state may be the current
// one, which Load tells.
func (f *File) Renew(old Version, state []byte) (Version, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.expect(old, state); err != nil {
		return 0, err
	}
	if f.backup != nil {
		if err := f.backup.put(state); err != nil {
			return 0, err
		}
		if _, err := f.backup.Renew(Version(f.backup.version), state); err != nil {
			return 0, err
		}
	}
	for range 2 {
		if err := f.write(state, true); err != nil {
			f.loaded = false
			return 0, fmt.Errorf("state file %s cannot be written: %w", f.path, cause(err))
		}
	}
	return Version(f.version), nil
}

// expect refuses a state to follow another one than the caller last saw.
func (f *File) expect(old Version, state []byte) error {
	switch {
	case !f.loaded || uint64(old) != f.version:
		return fmt.Errorf("state file %s: %w", f.path, ErrConflict)
	case len(state) > f.dir.most():
		return fmt.Errorf("state file %s: %w", f.path, ErrTooLarge)
	}
	return nil
}

func (f *File) write(state []byte, whole bool) error {
	if f.f == nil {
		return f.create(state)
	}
	if err := f.unchanged(); err != nil {
		return err
	}
	if sectorsFor(len(state)) > f.capacity {
		if err := f.grow(len(state)); err != nil {
			return err
		}
	}
	return f.overwrite(state, whole)
}

// unchanged opens the file anew, which on a network file system is what shows another
// host's writes, and gives ErrConflict where somebody else has written or replaced it: a
// lock can be lost, by who removes its file or is cut off from the server for too long.
func (f *File) unchanged() error {
	h, err := f.dir.fs.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrConflict
	}
	if err != nil {
		return err
	}
	half := int64(f.capacity) * sectorSize
	size, err := h.Size()
	if err == nil && size != 2*half {
		err = ErrConflict
	}
	for i := 0; i < 2 && err == nil; i++ {
		b := make([]byte, sectorSize)
		if err = h.ReadAt(b, int64(i)*half); err != nil {
			break
		}
		switch s := readSector(b); {
		case i == f.current && (!s.ok || s.seq != f.version), i != f.current && s.ok && s.seq >= f.next:
			err = ErrConflict
		}
	}
	if err != nil {
		h.Close()
		return err
	}
	f.f.Close()
	f.f = h
	return nil
}

// overwrite puts state into the slot that is not current; whole leaves nothing behind
// it that was there.
func (f *File) overwrite(state []byte, whole bool) error {
	if f.unsure {
		if err := f.settle(); err != nil {
			return err
		}
	}
	seq, target := f.next, 1-f.current
	f.next++ // even if this write fails: parts of it may be on the disk
	f.buf = encode(f.buf, seq, f.capacity, state)
	if whole {
		f.buf = append(f.buf, blank(f.capacity)[len(f.buf):]...)
	}
	off := int64(target) * int64(f.capacity) * sectorSize
	err := f.f.WriteAt(f.buf, off)
	if err == nil {
		err = f.f.Sync()
	}
	if err != nil {
		f.withdraw(off)
		return err
	}
	f.current, f.version = target, seq
	return nil
}

// withdraw makes a write that failed void, so that it does not come back
// after a crash although its command was undone. A disk that fails here too
// may keep it; the next good write takes its place.
func (f *File) withdraw(off int64) {
	if f.f.WriteAt(blank(f.capacity)[:sectorSize], off) == nil {
		_ = f.f.Sync()
	}
}

// create makes the file with its first state.
func (f *File) create(state []byte) error {
	capacity := max(f.dir.least, sectorsFor(len(state)))
	if f.dir.Single() {
		capacity = f.dir.single.sectors
	}
	if err := f.rebuild(capacity, 1, state); err != nil {
		return err
	}
	if err := f.dir.fs.SyncDir(f.dir.path); err != nil {
		f.f.Close()
		f.f = nil
		_ = f.dir.fs.Remove(f.path)
		return err
	}
	f.version, f.unsure = 1, false
	return nil
}

// grow puts a file with the same state and room for n bytes and more in the
// place of the file.
func (f *File) grow(n int) error {
	half := f.capacity * sectorSize
	b := make([]byte, half)
	if err := f.f.ReadAt(b, int64(f.current*half)); err != nil {
		return err
	}
	s, ok := decode(b, f.capacity)
	if !ok || s.seq != f.version {
		return ErrDamaged
	}
	return f.rebuild(min(sectorsFor(n)*3/2, sectorsFor(MaxSize)), s.seq, s.state())
}

// rebuild writes a file of the given capacity with state in slot 0, and gives
// it the name of the file.
func (f *File) rebuild(capacity int, seq uint64, state []byte) error {
	tmp, fsys := f.temporary(), f.dir.fs
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	h, err := fsys.Create(tmp, f.dir.opt.Mode)
	if err != nil {
		return err
	}
	half := capacity * sectorSize
	b := make([]byte, 2*half)
	format(b[:half], capacity)
	format(b[half:], capacity)
	encode(b[:0:half], seq, capacity, state)
	err = h.WriteAt(b, 0)
	if err == nil {
		err = h.Sync()
	}
	if err == nil {
		// NFS may have done it, and have lost the answer.
		if err = fsys.Rename(tmp, f.path); err != nil && !f.dir.Single() && f.took(capacity) {
			err = nil
		}
	}
	if err != nil {
		h.Close()
		_ = fsys.Remove(tmp)
		return err
	}
	if f.f != nil {
		f.f.Close()
	}
	f.f, f.capacity, f.current, f.unsure = h, capacity, 0, true
	f.next = max(f.next, seq+1)
	return nil
}

// took reports whether the file has so many sectors in a slot, which those that it takes
// the place of have not.
func (f *File) took(capacity int) bool {
	h, err := f.dir.fs.Open(f.path)
	if err != nil {
		return false
	}
	defer h.Close()
	size, err := h.Size()
	return err == nil && size == 2*int64(capacity)*sectorSize
}

// settle makes durable what was found: whoever wrote it may have been killed before
// that, or have been told that it cannot be, and then the system counts it as written
// all the same. Until that is done nothing may be written, since after a crash neither
// slot might hold a state, or the old file be back, or one beside it that belonged to
// the old state.
func (f *File) settle() error {
	half := f.capacity * sectorSize
	b, at := make([]byte, half), int64(f.current*half)
	err := f.f.ReadAt(b, at)
	if err == nil {
		err = f.f.WriteAt(b, at)
	}
	if err == nil {
		err = f.f.Sync()
	}
	if err == nil {
		err = f.dir.fs.SyncDir(f.dir.path)
	}
	f.unsure = err != nil
	return err
}

// Remove deletes the state. It is no error where there is none.
func (f *File) Remove() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget()
	if f.backup != nil {
		if err := f.backup.Remove(); err != nil {
			return err
		}
	}
	err := f.dir.fs.Remove(f.path)
	if err == nil || errors.Is(err, fs.ErrNotExist) { // whoever removed it may not have come to this
		err = f.dir.fs.SyncDir(f.dir.path)
	}
	if err != nil {
		return fmt.Errorf("state file %s cannot be removed: %w", f.path, cause(err))
	}
	f.loaded = true
	return nil
}

// Close lets the file go. Load opens it again.
func (f *File) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget()
	if f.backup != nil {
		f.backup.Close()
	}
}

// forget drops all that is known of the file.
func (f *File) forget() {
	if f.f != nil {
		f.f.Close()
	}
	f.f, f.loaded, f.unsure, f.capacity, f.current, f.version, f.next = nil, false, false, 0, 0, 0, 0
}

// temporaryEnding is that of a file that takes the place of another when it is whole.
const temporaryEnding = ".tmp"

func (f *File) temporary() string { return f.path + temporaryEnding }

// cause leaves out the operation and paths that the os package adds: the
// message names the file already.
func cause(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}
