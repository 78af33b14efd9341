package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/ashlar-cloud/ashlar/internal/disk"
)

// One file, or disk, that holds several states is one sector and, for each state in
// turn, room for a state file of as many sectors in a slot. The sector says which of
// them are there; that a state comes and goes is one write of it:
//
//	0    8  magic with format version
//	8    4  sectors in a slot
//	12   4  number of states
//	16   4  which are there, a bit each
//	508  4  CRC-32C of the 508 bytes before
const (
	singleMagic = "ASLfile\x01"
	singleMost  = 512 << 10 // the largest state in bytes, unless said otherwise
)

// single is the file system in such a file. Each operation opens the file anew, since
// on a network file system that is what shows another host's writes.
type single struct {
	under   disk.FS
	path    string
	mode    fs.FileMode
	names   []string // of the states, in their order in the file
	sectors int      // in a slot

	made bool // its name in its directory is durable

	mu sync.Mutex // held from reading the first sector to writing it
}

// OpenSingle opens the file at path, or the disk, as one that holds the states called
// names. A file that is not there, is empty or all zeros is made one when the first
// state is saved.
func OpenSingle(path string, opt Options, names ...string) (*Dir, error) {
	if opt.FS == nil {
		if err := maySingle(path); err != nil {
			return nil, err
		}
		opt.FS = disk.System{}
	}
	if opt.Mode == 0 {
		opt.Mode = 0o640
	}
	if opt.Room == 0 {
		opt.Room = singleMost
	}
	s := &single{under: opt.FS, path: path, mode: opt.Mode, names: names, sectors: sectorsFor(opt.Room)}
	return &Dir{path: path, opt: opt, fs: s, single: s}, nil
}

// maySingle refuses what can be no file with states.
func maySingle(path string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("state file %s cannot be made: %w", path, errors.Unwrap(err))
		}
	case err != nil:
		return fmt.Errorf("state file %s cannot be used: %w", path, errors.Unwrap(err))
	case !st.Mode().IsRegular() && st.Mode().Type() != fs.ModeDevice:
		return fmt.Errorf("%s is neither a file nor a disk", path)
	}
	return nil
}

// most is the largest state in bytes.
func (d *Dir) most() int {
	if d.Single() {
		return d.single.sectors * payload
	}
	return MaxSize
}

// room is the size of one state's part of the file in bytes, and total of all of it.
func (s *single) room() int64  { return int64(2 * s.sectors * sectorSize) }
func (s *single) total() int64 { return sectorSize + int64(len(s.names))*s.room() }

// region gives the part of an open file that is the ith state's.
func (s *single) region(f disk.File, i int) *region {
	return &region{f: f, at: sectorSize + int64(i)*s.room(), room: s.room()}
}

// find gives the number of the state that a path names.
func (s *single) find(path string) (int, error) {
	name := strings.TrimSuffix(filepath.Base(path), temporaryEnding)
	if i := slices.Index(s.names, name); i >= 0 {
		return i, nil
	}
	return 0, fs.ErrNotExist
}

// header reads the first sector of an open file: which states are there. A file that
// was not made one yet gives fs.ErrNotExist.
func (s *single) header(f disk.File) (present uint32, err error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	b := make([]byte, sectorSize)
	if size >= s.total() {
		if err := f.ReadAt(b, 0); err != nil {
			return 0, err
		}
		if bytes.Equal(b, s.encode(binary.BigEndian.Uint32(b[16:]))) {
			return binary.BigEndian.Uint32(b[16:]), nil
		}
	}
	if err := s.unused(f, size); err != nil {
		return 0, err
	}
	return 0, fs.ErrNotExist
}

// unused gives ErrDamaged for a file that holds anything but zeros and what making it
// one writes before the first sector.
func (s *single) unused(f disk.File, size int64) error {
	b := make([]byte, min(size, s.total()))
	if err := f.ReadAt(b, 0); err != nil {
		return err
	}
	zero := make([]byte, sectorSize)
	for at := 0; at < len(b); at += sectorSize {
		sec := b[at:min(at+sectorSize, len(b))]
		if bytes.Equal(sec, zero[:len(sec)]) {
			continue
		}
		if at == 0 || len(sec) < sectorSize {
			return ErrDamaged
		}
		if h := readSector(sec); !h.ok || h.seq != 0 {
			return ErrDamaged
		}
	}
	return nil
}

// encode is the first sector.
func (s *single) encode(present uint32) []byte {
	b := make([]byte, sectorSize)
	copy(b, singleMagic)
	binary.BigEndian.PutUint32(b[8:], uint32(s.sectors))
	binary.BigEndian.PutUint32(b[12:], uint32(len(s.names)))
	binary.BigEndian.PutUint32(b[16:], present)
	binary.BigEndian.PutUint32(b[sectorSize-4:], crc32.Checksum(b[:sectorSize-4], castagnoli))
	return b
}

// Open implements disk.FS.
func (s *single) Open(path string) (disk.File, error) {
	i, err := s.find(path)
	if err != nil {
		return nil, err
	}
	f, err := s.under.Open(s.path)
	if err != nil {
		return nil, err
	}
	present, err := s.header(f)
	if err == nil && present>>i&1 == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return s.region(f, i), nil
}

// Create implements disk.FS: it gives the room of a state that is not there, and
// makes the file where that is to be done.
func (s *single) Create(path string, _ fs.FileMode) (disk.File, error) {
	i, err := s.find(path)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.under.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = s.under.Create(s.path, s.mode)
	}
	if err != nil {
		return nil, err
	}
	present, err := s.header(f)
	if errors.Is(err, fs.ErrNotExist) {
		present, err = 0, s.format(f)
	}
	if err == nil {
		// Again where it is what is there: if that is not durable, it would be a file
		// after a crash that has no first sector, and something in it.
		err = s.write(f, present&^(1<<i))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return s.region(f, i), nil
}

// format makes a file one that holds no state yet. The first sector comes last.
func (s *single) format(f disk.File) error {
	slot := blank(s.sectors)
	for at := int64(sectorSize); at < s.total(); at += int64(len(slot)) {
		if err := f.WriteAt(slot, at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Rename implements disk.FS: the state that was written is there now.
func (s *single) Rename(from, to string) error {
	if from != to+temporaryEnding {
		return syscall.EINVAL
	}
	return s.mark(to, true)
}

// Remove implements disk.FS. What was not finished needs no removing.
func (s *single) Remove(path string) error {
	if strings.HasSuffix(path, temporaryEnding) {
		return fs.ErrNotExist
	}
	return s.mark(path, false)
}

// mark makes a state one that is there, or is not; both are durable then.
func (s *single) mark(path string, there bool) error {
	i, err := s.find(path)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.under.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	present, err := s.header(f)
	if err != nil {
		return err
	}
	after := present &^ (1 << i)
	if there {
		after |= 1 << i
	}
	// In any case, since what is there already may not be durable.
	err = s.write(f, after)
	if err == nil && present>>i&1 == 0 && !there {
		err = fs.ErrNotExist
	}
	return err
}

// write makes the first sector durable.
func (s *single) write(f disk.File, present uint32) error {
	if err := f.WriteAt(s.encode(present), 0); err != nil {
		return err
	}
	return f.Sync()
}

// Read implements disk.FS: there are no files beside the states.
func (s *single) Read(string, int64) ([]byte, error) { return nil, fs.ErrNotExist }

// Link implements disk.FS.
func (s *single) Link(_, _ string) error { return errors.ErrUnsupported }

// SyncDir implements disk.FS: the first sector may not be durable, nor the file's name.
func (s *single) SyncDir(string) error {
	f, err := s.under.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = errors.Join(f.Sync(), f.Close())
	if err == nil && !s.made {
		err = s.under.SyncDir(filepath.Dir(s.path))
	}
	return err
}

// Make makes the one file, empty, where it is to hold the states and is not there.
// From then on, nothing but the file itself is asked of its directory, so that
// the process may give up all rights there. For a directory it does nothing.
func (d *Dir) Make() error {
	s := d.single
	if s == nil || s.made {
		return nil
	}
	f, err := s.under.Create(s.path, s.mode)
	if err == nil {
		err = f.Close()
	}
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = s.under.SyncDir(filepath.Dir(s.path))
	}
	if err != nil {
		return fmt.Errorf("state file %s cannot be made: %w", s.path, cause(err))
	}
	s.made = true
	return nil
}

// region is the room of one state.
type region struct {
	f        disk.File
	at, room int64
}

func (r *region) Size() (int64, error) { return r.room, nil }

func (r *region) ReadAt(b []byte, off int64) error {
	if off < 0 || off+int64(len(b)) > r.room {
		return syscall.EINVAL
	}
	return r.f.ReadAt(b, r.at+off)
}

func (r *region) WriteAt(b []byte, off int64) error {
	if off < 0 || off+int64(len(b)) > r.room {
		return syscall.ENOSPC
	}
	return r.f.WriteAt(b, r.at+off)
}

func (r *region) Sync() error  { return r.f.Sync() }
func (r *region) Close() error { return r.f.Close() }
