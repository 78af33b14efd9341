package store

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand"
	"path/filepath"
)

var errDisk = errors.New("simulated fault")

// disk is a filesystem in memory that knows what would survive a crash. Each
// operation may fail, either without effect or after it took effect.
type disk struct {
	names   map[string]*inode // what is seen
	durable map[string]*inode // what survives
	ops     int               // operations so far
	failAt  int               // operation that fails, -1 = none
	failFor int               // how many operations fail from there on
	late    bool              // it takes effect and then fails
	full    bool              // no new blocks
	noLinks bool              // it has no hard links
}

type inode struct {
	data    []byte       // what is seen
	durable []byte       // what survives for sure
	dirty   map[int]bool // sectors of data that may survive
}

func newDisk() *disk {
	return &disk{names: map[string]*inode{}, durable: map[string]*inode{}, failAt: -1, failFor: 1}
}

// step counts one operation and does it, or not, as the fault says.
func (d *disk) step(do func()) error {
	op := d.ops
	d.ops++
	fail := d.failAt >= 0 && op >= d.failAt && op < d.failAt+d.failFor
	if !fail || d.late {
		do()
	}
	if fail {
		return errDisk
	}
	return nil
}

func (d *disk) open(path string) (file, error) {
	n := d.names[path]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return &handle{d, n}, nil
}

func (d *disk) create(path string, _ fs.FileMode) (file, error) {
	if d.names[path] != nil {
		return nil, fs.ErrExist
	}
	n := &inode{dirty: map[int]bool{}}
	if err := d.step(func() { d.names[path] = n }); err != nil {
		return nil, err
	}
	return &handle{d, n}, nil
}

func (d *disk) rename(from, to string) error {
	if d.names[from] == nil {
		return fs.ErrNotExist
	}
	return d.step(func() { d.names[to] = d.names[from]; delete(d.names, from) })
}

func (d *disk) link(from, to string) error {
	switch {
	case d.noLinks:
		return errors.ErrUnsupported
	case d.names[from] == nil:
		return fs.ErrNotExist
	case d.names[to] != nil:
		return fs.ErrExist
	}
	return d.step(func() { d.names[to] = d.names[from] })
}

func (d *disk) remove(path string) error {
	if d.names[path] == nil {
		return fs.ErrNotExist
	}
	return d.step(func() { delete(d.names, path) })
}

func (d *disk) syncDir(string) error {
	return d.step(d.settleNames)
}

func (d *disk) settleNames() {
	d.durable = map[string]*inode{}
	for k, v := range d.names {
		d.durable[k] = v
	}
}

type handle struct {
	d *disk
	n *inode
}

func (h *handle) size() (int64, error) { return int64(len(h.n.data)), nil }

func (h *handle) readAt(b []byte, off int64) error {
	if int(off)+len(b) > len(h.n.data) {
		return errDisk
	}
	copy(b, h.n.data[off:])
	return nil
}

func (h *handle) writeAt(b []byte, off int64) error {
	if end := int(off) + len(b); end > len(h.n.data) {
		if h.d.full {
			return errDisk
		}
	}
	return h.d.step(func() {
		if end := int(off) + len(b); end > len(h.n.data) {
			h.n.data = append(h.n.data, make([]byte, end-len(h.n.data))...)
		}
		copy(h.n.data[off:], b)
		for s := int(off) / sectorSize; s*sectorSize < int(off)+len(b); s++ {
			h.n.dirty[s] = true
		}
	})
}

func (h *handle) sync() error {
	return h.d.step(func() {
		h.n.durable = bytes.Clone(h.n.data)
		h.n.dirty = map[int]bool{}
	})
}

func (h *handle) close() error { return nil }

// crash gives the disk as it may look after the power went: of what was not
// synced, each sector and each name survives or not, by chance.
func (d *disk) crash(r *rand.Rand) *disk {
	after := newDisk()
	source := d.durable
	if r.Intn(2) == 0 {
		source = d.names
	}
	for name, n := range source {
		data := bytes.Clone(n.durable)
		if len(data) < len(n.data) && r.Intn(2) == 0 {
			data = append(data, make([]byte, len(n.data)-len(data))...)
		}
		for s := range n.dirty {
			if end := (s + 1) * sectorSize; end <= len(data) && r.Intn(2) == 0 {
				copy(data[s*sectorSize:end], n.data[s*sectorSize:end])
			}
		}
		after.names[name] = &inode{data: data, durable: bytes.Clone(data), dirty: map[int]bool{}}
	}
	after.settleNames()
	return after
}

// kill gives the disk as a process sees it that starts after this one was
// killed: nothing written is lost.
func (d *disk) kill() *disk {
	d.ops, d.failAt = 0, -1
	return d
}

func openOn(d *disk) *File {
	dir := &Dir{path: "/state", opt: Options{NoLock: true, Mode: 0o600}, fs: d}
	return dir.File("tpm")
}

func openSingleOn(d *disk) *File { return singleOn(d).File("tpm") }

// singleOn is one file for states of the samples' sizes.
func singleOn(d *disk, more ...string) *Dir {
	s := &single{under: d, path: "/state", mode: 0o600, names: append([]string{"tpm"}, more...), sectors: 420}
	return &Dir{path: "/state", opt: Options{NoLock: true, Mode: 0o600}, fs: s, single: s}
}

func openBackedOn(d *disk) *File {
	dir := &Dir{path: "/state", opt: Options{NoLock: true, Mode: 0o600, Backup: true}, fs: d}
	return dir.BackedFile("tpm")
}

var statePath = filepath.Join("/state", "tpm")
