package disk

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"syscall"
)

// SectorSize is what a disk writes wholly or not at all, in bytes.
const SectorSize = 512

// Kind is a kind of operation that reaches the disk.
type Kind string

// The kinds.
const (
	KindCreate  Kind = "create"
	KindWrite   Kind = "write"
	KindSync    Kind = "sync"
	KindRename  Kind = "rename"
	KindLink    Kind = "link"
	KindRemove  Kind = "remove"
	KindSyncDir Kind = "syncdir"
)

// Op is one operation on a Simulated.
type Op struct {
	Kind Kind
	Path string // of the file now; the new one of a rename or link
}

// Fault is what becomes of an operation.
type Fault int

// The faults. All but Lie are an error to who asked for the operation.
const (
	None    Fault = iota
	Refused       // nothing is done
	Done          // it is done all the same
	Half          // a write does the first half of its sectors; else as Refused
	Dropped       // a sync gives up what is not written yet, and shows it as if it were; else as Refused
	Reset         // a sync gives up what is not written yet, and shows what was there before; else as Refused
	Lie           // it is said to be done, and is not: a sync that is no sync
)

// ErrFault is the error of an operation that has a fault, unless another is given.
var ErrFault = errors.New("simulated fault")

// Simulated is a file system in memory that knows what a crash may leave of it: of each
// sector, of each file's size and of each name, what was synced last or anything that
// came since, each by itself. A rename takes the old name away only where it gave the
// new one. It is for one goroutine.
type Simulated struct {
	names   map[string]*inode // what is seen
	sure    map[string]*inode // what was synced
	changes []change          // of names since, in their order

	// Fault says what becomes of the nth operation, from 0; nil for no faults.
	Fault func(n int, op Op) Fault
	// Err is the error of an operation that has a fault; nil for ErrFault.
	Err error
	// Watch is called after each operation that had an effect, and after a fault.
	Watch func(op Op)
	// Full: there is no room for new blocks.
	Full bool
	// NoLinks: there are no hard links.
	NoLinks bool
	// Stale: a file may have grown, after a crash, by sectors that another file had.
	Stale bool

	ops     int
	choices *Choices // of the crash that this is after
}

// change is that of a name. One that needs another, by its number among the changes,
// plus 1, is not durable before that.
type change struct {
	path  string
	to    *inode // nil: the name is gone
	needs int
}

// sector is what one holds; nil where nothing was ever written.
type sector []byte

// dirty are the contents of a sector since it was synced, the newest last.
type dirty struct {
	list  []sector
	stuck bool // a sync gave it up: the next does not write it
}

// inode is a file.
type inode struct {
	seen, sure     []sector
	size, sureSize int
	sizes          []int // since it was synced
	dirty          map[int]dirty
	stale          bool   // as of Simulated
	before         *inode // what it was before a crash, until it is decided what is left
	left           *variants
}

// NewSimulated is an empty file system.
func NewSimulated() *Simulated {
	return &Simulated{names: map[string]*inode{}, sure: map[string]*inode{}}
}

// Put makes a durable file.
func (d *Simulated) Put(path string, b []byte) {
	n := &inode{dirty: map[int]dirty{}}
	n.write(b, 0, len(b))
	n.settle(false)
	d.names[path], d.sure[path] = n, n
}

// Get gives what a file holds, nil where there is none.
func (d *Simulated) Get(path string) []byte {
	n := d.names[path]
	if n == nil {
		return nil
	}
	b := make([]byte, d.decided(n).size)
	n.read(b, 0)
	return b
}

// Names are the names of all files, in order.
func (d *Simulated) Names() []string { return slices.Sorted(maps.Keys(d.names)) }

// Ops is how many operations there were.
func (d *Simulated) Ops() int { return d.ops }

// step does one operation, or what its fault makes of it: all of it, or what part does
// for a fault of its kind.
func (d *Simulated) step(op Op, all func(), part func(Fault)) error {
	fault := None
	if d.Fault != nil {
		fault = d.Fault(d.ops, op)
	}
	d.ops++
	switch {
	case fault == None || fault == Done:
		all()
	case part != nil && fault != Lie:
		part(fault)
	}
	if d.Watch != nil {
		d.Watch(op)
	}
	if fault == None || fault == Lie {
		return nil
	}
	err := d.Err
	if err == nil {
		err = ErrFault
	}
	return &fs.PathError{Op: string(op.Kind), Path: op.Path, Err: err}
}

// set changes a name.
func (d *Simulated) set(path string, to *inode, needs int) {
	if to == nil {
		delete(d.names, path)
	} else {
		d.names[path] = to
	}
	d.changes = append(d.changes, change{path, to, needs})
}

// Open implements FS.
func (d *Simulated) Open(path string) (File, error) {
	n := d.names[path]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return &handle{d, d.decided(n), path}, nil
}

// Create implements FS.
func (d *Simulated) Create(path string, _ fs.FileMode) (File, error) {
	if d.names[path] != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	n := &inode{dirty: map[int]dirty{}, stale: d.Stale}
	if err := d.step(Op{KindCreate, path}, func() { d.set(path, n, 0) }, nil); err != nil {
		return nil, err
	}
	return &handle{d, n, path}, nil
}

// Read implements FS.
func (d *Simulated) Read(path string, most int64) ([]byte, error) {
	b := d.Get(path)
	if b == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return b[:min(len(b), int(most)+1)], nil
}

// Rename implements FS.
func (d *Simulated) Rename(from, to string) error {
	n := d.names[from]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	return d.step(Op{KindRename, to}, func() {
		d.set(to, n, 0)
		d.set(from, nil, len(d.changes))
	}, nil)
}

// Link implements FS.
func (d *Simulated) Link(from, to string) error {
	n := d.names[from]
	switch {
	case d.NoLinks:
		return errors.ErrUnsupported
	case n == nil:
		return &fs.PathError{Op: "link", Path: from, Err: fs.ErrNotExist}
	case d.names[to] != nil:
		return &fs.PathError{Op: "link", Path: to, Err: fs.ErrExist}
	}
	return d.step(Op{KindLink, to}, func() { d.set(to, n, 0) }, nil)
}

// Remove implements FS.
func (d *Simulated) Remove(path string) error {
	if d.names[path] == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	return d.step(Op{KindRemove, path}, func() { d.set(path, nil, 0) }, nil)
}

// SyncDir implements FS.
func (d *Simulated) SyncDir(path string) error {
	return d.step(Op{KindSyncDir, path}, func() {
		inside := func(name string) bool { return filepath.Dir(name) == path }
		maps.DeleteFunc(d.sure, func(name string, _ *inode) bool { return inside(name) })
		for name, n := range d.names {
			if inside(name) {
				d.sure[name] = n
			}
		}
		var rest []change
		for _, c := range d.changes {
			if !inside(c.path) {
				c.needs = 0 // no change goes over directories
				rest = append(rest, c)
			}
		}
		d.changes = rest
	}, nil)
}

type handle struct {
	d    *Simulated
	n    *inode
	path string
}

// name is the first of the file's names, or one that it had.
func (h *handle) name() string {
	if h.d.names[h.path] == h.n {
		return h.path
	}
	for _, name := range h.d.Names() {
		if h.d.names[name] == h.n {
			h.path = name
			break
		}
	}
	return h.path
}

// Size implements File.
func (h *handle) Size() (int64, error) { return int64(h.n.size), nil }

// ReadAt implements File.
func (h *handle) ReadAt(b []byte, off int64) error {
	if off < 0 || off+int64(len(b)) > int64(h.n.size) {
		return syscall.EINVAL
	}
	h.n.read(b, int(off))
	return nil
}

// WriteAt implements File.
func (h *handle) WriteAt(b []byte, off int64) error {
	at := int(off)
	if h.d.Full && h.n.grows(at, len(b)) {
		return syscall.ENOSPC
	}
	return h.d.step(Op{KindWrite, h.name()}, func() { h.n.write(b, at, len(b)) }, func(fault Fault) {
		if fault == Half {
			h.n.write(b, at, len(b)/2/SectorSize*SectorSize)
		}
	})
}

// Sync implements File.
func (h *handle) Sync() error {
	return h.d.step(Op{KindSync, h.name()}, func() { h.n.settle(true) }, func(fault Fault) {
		if fault == Dropped || fault == Reset {
			h.n.giveUp(fault == Reset)
		}
	})
}

// Close implements File.
func (h *handle) Close() error { return nil }

// grows reports whether n bytes at an offset need blocks that the file has not.
func (n *inode) grows(at, count int) bool {
	for s := at / SectorSize; s*SectorSize < at+count; s++ {
		if s >= len(n.seen) || n.seen[s] == nil {
			return true
		}
	}
	return false
}

// read gives what is seen; what was never written is zero.
func (n *inode) read(b []byte, at int) {
	for len(b) > 0 {
		s, skip := at/SectorSize, at%SectorSize
		k := min(len(b), SectorSize-skip)
		if clear(b[:k]); s < len(n.seen) && n.seen[s] != nil {
			copy(b[:k], n.seen[s][skip:])
		}
		b, at = b[k:], at+k
	}
}

// write puts the first count bytes of b at an offset, sector by sector.
func (n *inode) write(b []byte, at, count int) {
	n.left = nil
	for b = b[:count]; len(b) > 0; {
		s, skip := at/SectorSize, at%SectorSize
		k := min(len(b), SectorSize-skip)
		for s >= len(n.seen) {
			n.seen, n.sure = append(n.seen, nil), append(n.sure, nil)
		}
		now := make(sector, SectorSize)
		copy(now, n.seen[s])
		copy(now[skip:], b[:k])
		n.seen[s] = now
		n.dirty[s] = dirty{list: append(slices.Clip(n.dirty[s].list), now)}
		b, at = b[k:], at+k
	}
	if at > n.size {
		n.size = at
		n.sizes = append(slices.Clip(n.sizes), at)
	}
}

// settle makes what is seen durable, but for what a sync that failed gave up.
func (n *inode) settle(keepStuck bool) {
	for s, x := range n.dirty {
		if !keepStuck || !x.stuck {
			n.sure[s] = n.seen[s]
			delete(n.dirty, s)
		}
	}
	n.sureSize, n.sizes, n.left = n.size, nil, nil
}

// giveUp is what a kernel does after a write to the disk has failed: what was to be
// written counts as written, or is read again.
func (n *inode) giveUp(reset bool) {
	n.left = nil
	for s, x := range n.dirty {
		if reset {
			n.seen[s] = n.sure[s]
			delete(n.dirty, s)
			continue
		}
		x.stuck = true
		n.dirty[s] = x
	}
}

// clone is the same file for another file system.
func (n *inode) clone() *inode {
	c := *n
	c.seen, c.sure, c.dirty = slices.Clone(n.seen), slices.Clone(n.sure), maps.Clone(n.dirty)
	return &c
}

// same reports whether two sectors hold the same.
func same(a, b sector) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
