package store

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/disk"
)

// sample gives the nth state of a test: all its bytes tell its number.
func sample(n int) []byte {
	sizes := []int{1000, 2600, 500, 4800, 2000, 0, 9000, 485}
	return bytes.Repeat([]byte{byte(n + 1)}, sizes[n%len(sizes)])
}

const samples = 8

// deep has crashes follow crashes in all tests of them, which takes minutes.
var deep = flag.Bool("crash.deep", false, "after each crash, crash again at each operation that follows, however it ended")

// kept is a way to keep a state, on a simulated disk.
type kept struct {
	name  string
	open  func(*disk.Simulated) *File
	stale bool // whatever was on the disk may be in a new file
}

// A file that is to hold the states is written in its place, so that what was on the
// disk before would be taken for its owner's: it is left alone.
var ways = []kept{{"directory", openOn, true}, {"one file", openSingleOn, false}, {"backup", openBackedOn, true}}

func (k *kept) disk() *disk.Simulated {
	d := disk.NewSimulated()
	d.Stale = k.stale
	return d
}

const statePath = "/state/tpm"

func dirOn(d *disk.Simulated, opt Options) *Dir {
	opt.NoLock, opt.Mode, opt.FS = true, 0o600, d
	dir, err := OpenDir("/state", opt)
	if err != nil {
		panic(err)
	}
	dir.least = 6
	return dir
}

func openOn(d *disk.Simulated) *File       { return dirOn(d, Options{}).File("tpm") }
func openBackedOn(d *disk.Simulated) *File { return dirOn(d, Options{Backup: true}).BackedFile("tpm") }
func openSingleOn(d *disk.Simulated) *File { return singleOn(d).File("tpm") }

// singleOn is one file for states of the samples' sizes.
func singleOn(d *disk.Simulated, more ...string) *Dir { return roomOn(d, 20*payload, more...) }

func roomOn(d *disk.Simulated, room int, more ...string) *Dir {
	dir, err := OpenSingle("/state/file", Options{NoLock: true, Mode: 0o600, Room: room, FS: d}, append([]string{"tpm"}, more...)...)
	if err != nil {
		panic(err)
	}
	return dir
}

// state is what a file holds; nil for no file.
type state []byte

func (s state) String() string {
	if s == nil {
		return "no file"
	}
	return fmt.Sprintf("%d bytes %x", len(s), []byte(s[:min(1, len(s))]))
}

func (s state) in(list []state) bool {
	for _, x := range list {
		if (s == nil) == (x == nil) && bytes.Equal(s, x) {
			return true
		}
	}
	return false
}

// found is what a file holds for who opens it now.
func found(f *File) (state, Version, error) {
	b, v, err := f.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, v, nil
	}
	if b == nil {
		b = []byte{}
	}
	return b, v, err
}

// history works on a file while it is watched.
type history struct {
	t    *testing.T
	way  kept
	d    *disk.Simulated
	f    *File
	may  []state // what may be there when the power goes now
	last state   // what was acknowledged last

	either bool // whether what failed may be there all the same
	crash  bool // whether each operation is crashed after
	again  bool // and each that follows such a crash
	lying  bool // whether the first sync then is none
	points int
	orders int
	wrong  func(format string, args ...any) // t.Fatalf, or what notes that a mutation was seen
}

func newHistory(t *testing.T, way kept) *history {
	h := &history{t: t, way: way, d: way.disk(), may: []state{nil}, crash: true, wrong: t.Fatalf}
	h.d.Watch = h.watch
	h.f = way.open(h.d)
	if _, _, err := found(h.f); err != nil {
		t.Fatal(err)
	}
	return h
}

// do runs what makes the file hold next. After an error what was there is there, or
// next where either may be.
func (h *history) do(next state, either bool, f func(old Version) error) error {
	h.may = []state{h.last, next}
	if !h.f.loaded { // Renew and Remove may fail half-way: Load tells how far they came
		if _, _, err := found(h.f); err != nil {
			h.t.Fatal(err)
		}
	}
	err := f(Version(h.f.version))
	switch {
	case err == nil:
		h.last, h.may = next, []state{next}
	case !either && !h.either && h.last != nil:
		h.may = []state{h.last}
	}
	return err
}

func (h *history) swap(next state) error {
	return h.do(next, false, func(old Version) error { _, err := h.f.Swap(old, next); return err })
}

func (h *history) renew(next state) error {
	return h.do(next, true, func(old Version) error { _, err := h.f.Renew(old, next); return err })
}

func (h *history) remove() error {
	return h.do(nil, true, func(Version) error { return h.f.Remove() })
}

// steps are the workload: a file comes, changes, grows, is renewed, goes and comes
// again.
func (h *history) steps() (list []func() error) {
	for n := range samples {
		list = append(list, func() error { return h.swap(sample(n)) })
	}
	return append(list,
		func() error { return h.renew(sample(2)) },
		h.remove,
		func() error { return h.swap(sample(1)) },
		func() error { return h.swap(sample(0)) })
}

// powerLost ends what runs at a crash after a crash.
type powerLost struct{}

// watch crashes after an operation in all ways, and has each found.
func (h *history) watch(op disk.Op) {
	if !h.crash {
		return
	}
	h.points++
	h.orders += disk.EachChoice(func(c *disk.Choices) { h.recover(c, op) })
}

// recover opens the file after one way to crash, or after a kill, and goes on with it;
// where that is crashed too, it opens it once more.
func (h *history) recover(c *disk.Choices, op disk.Op) {
	var d *disk.Simulated
	killed := h.again && c.Choose(2) == 1
	if killed {
		d = h.d.Kill()
	} else {
		d = h.d.Crash(c)
	}
	got, _, err := found(h.way.open(d))
	if err != nil || !got.in(h.may) {
		h.wrong("%s, crash after operation %d, %s of %s: found %v, want one of %v: %v", h.way.name, h.d.Ops(), op.Kind, op.Path, got, h.may, err)
		return
	}
	if !h.again {
		return
	}
	next, crashed := state(bytes.Repeat([]byte{0xEE}, 600)), false
	func() {
		defer func() {
			if r := recover(); r != nil && r != (powerLost{}) {
				panic(r)
			}
		}()
		d.Watch = func(disk.Op) {
			if c.Choose(2) == 1 {
				crashed = true
				panic(powerLost{})
			}
		}
		if h.lying {
			d.Fault = func(_ int, op disk.Op) disk.Fault {
				if op.Kind == disk.KindSync {
					d.Fault = nil
					return disk.Lie
				}
				return disk.None
			}
		}
		f := h.way.open(d)
		_, v, err := found(f)
		if err == nil {
			_, err = f.Swap(v, next)
		}
		if err != nil {
			h.wrong("%s, after a crash after operation %d, %s of %s: %v", h.way.name, h.d.Ops(), op.Kind, op.Path, err)
		}
	}()
	may := []state{next}
	if crashed {
		may = append(may, got)
		if killed { // what was found was not durable
			may = append(may, h.may...)
		}
	}
	d.Watch = nil
	if twice, _, err := found(h.way.open(d.Crash(c))); err != nil || !twice.in(may) {
		h.wrong("%s, crash after operation %d, %s of %s, and again: found %v, want one of %v: %v", h.way.name, h.d.Ops(), op.Kind, op.Path, twice, may, err)
	}
}

// TestCrashAnywhere lets the power go after every operation of a workload, with every
// order of its effects; and after most of them, or after a kill there, once more while
// the file is opened and written again.
func TestCrashAnywhere(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			h := newHistory(t, way)
			for i, step := range h.steps() {
				// The others' orders are many, and are no different: a file that grows, and
				// one for all states when it is made.
				h.again = (i > 0 || way.stale) && (*deep || i < 3 || i == 4 || i > 8)
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d points, %d orders", h.points, h.orders)
			if h.points < 40 || h.orders < 3000 {
				t.Error("this has shown little")
			}
		})
	}
}

// TestFaultAnywhere has each operation fail in each way, the process live on, and the
// power go after each operation that follows. What failed was not done, and does not
// come back; the next try succeeds.
func TestFaultAnywhere(t *testing.T) {
	for i, way := range ways {
		faults := []disk.Fault{disk.Done, disk.Dropped, disk.Refused, disk.Half, disk.Reset}
		if i > 0 && !*deep {
			faults = faults[:2]
		}
		for _, fault := range faults {
			t.Run(fmt.Sprintf("%s/%d", way.name, fault), func(t *testing.T) {
				points, orders, faults := 0, 0, 0
				for n := 0; ; n++ {
					h := newHistory(t, way)
					if !h.fault(n, 1, fault) {
						break
					}
					points, orders, faults = points+h.points, orders+h.orders, faults+1
				}
				t.Logf("%d faults, %d points, %d orders", faults, points, orders)
			})
		}
	}
}

// fault runs the workload with a fault in so many operations from the nth on, and
// crashes from there until the step after next is done. It reports whether there was
// such an operation.
func (h *history) fault(n, many int, fault disk.Fault) bool {
	h.crash = false
	h.d.Fault = func(i int, _ disk.Op) disk.Fault {
		if i < n || i >= n+many {
			return disk.None
		}
		h.crash = true
		return fault
	}
	left := 2
	for i, step := range h.steps() {
		err := step()
		if err != nil && !errors.Is(err, disk.ErrFault) {
			h.t.Fatalf("operation %d, step %d: %v", n, i, err)
		}
		for try := 0; err != nil; try++ {
			if try > many {
				h.t.Fatalf("operation %d, step %d: not healed: %v", n, i, err)
			}
			err = step()
		}
		if h.crash {
			if left--; left == 0 {
				return true
			}
		}
	}
	return h.crash
}

// TestFaultTwice has several operations in a row fail, the withdrawal of what failed
// among them: either of the two states may be there then, and never a mixture, and the
// next good write counts.
func TestFaultTwice(t *testing.T) {
	some, faults := ways[:1], []disk.Fault{disk.Done, disk.Dropped}
	if *deep {
		some, faults = ways, []disk.Fault{disk.Done, disk.Dropped, disk.Refused, disk.Half, disk.Reset}
	}
	orders := 0
	for _, way := range some {
		for _, fault := range faults {
			for n := 0; ; n++ {
				many := 2 + n%2
				h := newHistory(t, way)
				h.either = true
				h.wrong = func(format string, args ...any) {
					t.Fatalf("%d faults %d from operation %d: "+format, append([]any{many, fault, n}, args...)...)
				}
				if !h.fault(n, many, fault) {
					break
				}
				orders += h.orders
			}
		}
	}
	t.Logf("%d orders", orders)
}

// TestLyingDisk: the test of crashes sees each kind of sync that is left out.
func TestLyingDisk(t *testing.T) {
	for _, c := range []struct {
		what string
		lie  func(op disk.Op, after disk.Op) bool // before the crash; nil: at the first sync after it
	}{
		{"a slot is not synced", func(op, after disk.Op) bool { return op.Kind == disk.KindSync && op.Path == statePath }},
		{"a new file is not synced", func(op, after disk.Op) bool {
			return op.Kind == disk.KindSync && op.Path == statePath+temporaryEnding
		}},
		{"a new name is not synced", func(op, after disk.Op) bool {
			return op.Kind == disk.KindSyncDir && after.Kind == disk.KindRename
		}},
		{"a removal is not synced", func(op, after disk.Op) bool {
			return op.Kind == disk.KindSyncDir && after.Kind == disk.KindRemove
		}},
		{"what a killed process has written is not synced", nil},
	} {
		h := newHistory(t, ways[0])
		seen := 0
		h.wrong = func(string, ...any) { seen++ }
		var before disk.Op
		h.d.Fault = func(_ int, op disk.Op) disk.Fault {
			after := before
			before = op
			if c.lie != nil && c.lie(op, after) {
				return disk.Lie
			}
			return disk.None
		}
		h.again, h.lying = c.lie == nil, c.lie == nil
		for i, step := range h.steps() {
			h.crash = i < 3 || !h.lying && (i < 5 || i > 8)
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		if seen == 0 {
			t.Errorf("%s: not seen in %d orders", c.what, h.orders)
		}
		t.Logf("%s: wrong in %d of %d orders", c.what, seen, h.orders)
	}
}

func TestFullDisk(t *testing.T) {
	d := disk.NewSimulated()
	f := openOn(d)
	if _, _, err := found(f); err != nil {
		t.Fatal(err)
	}
	v, err := f.Swap(0, sample(0))
	if err != nil {
		t.Fatal(err)
	}
	d.Full = true
	if v, err = f.Swap(v, sample(2)); err != nil {
		t.Fatalf("a state that fits needs no new blocks: %v", err)
	}
	if _, err = f.Swap(v, sample(6)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("growing on a full disk: %v", err)
	}
	if got := load(t, openOn(d.Kill())); !bytes.Equal(got, sample(2)) || len(d.Names()) != 1 {
		t.Errorf("%d bytes, and the files %v", len(got), d.Names())
	}
	d.Full = false
	if _, err = f.Swap(v, sample(6)); err != nil {
		t.Fatalf("not healed: %v", err)
	}
	if got := load(t, openOn(d.Kill())); !bytes.Equal(got, sample(6)) {
		t.Errorf("%d bytes", len(got))
	}
}

func TestLeftoverRemoved(t *testing.T) {
	d := disk.NewSimulated()
	d.Put(statePath+".tmp", []byte("half"))
	f := openOn(d)
	if got, _, err := found(f); got != nil || err != nil {
		t.Fatal(err)
	}
	if len(d.Names()) != 0 {
		t.Error("what a crash left is still there")
	}
	if _, err := f.Swap(0, sample(0)); err != nil {
		t.Fatal(err)
	}
}

// TestRenewLeavesNothing of an earlier state in any file.
func TestRenewLeavesNothing(t *testing.T) {
	for _, way := range ways {
		h := newHistory(t, way)
		h.crash = false
		if err := errors.Join(h.swap(sample(1)), h.swap(sample(0)), h.renew(sample(2))); err != nil {
			t.Fatal(err)
		}
		for _, name := range h.d.Names() {
			if b := h.d.Get(name); bytes.Contains(b, sample(0)[:400]) || bytes.Contains(b, sample(1)[:400]) {
				t.Errorf("%s: an earlier state is left in %s", way.name, name)
			}
		}
		if _, err := h.f.Renew(7, nil); !errors.Is(err, ErrConflict) {
			t.Errorf("of another version: %v", err)
		}
	}
}
