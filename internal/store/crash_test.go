package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"testing"
)

// sample gives the nth state of a test: all its bytes tell its number.
func sample(n int) []byte {
	sizes := []int{1000, 30000, 500, 60000, 61000, 0, 200000, 485}
	return bytes.Repeat([]byte{byte(n + 1)}, sizes[n%len(sizes)])
}

const samples = 8

// run swaps in the samples one after the other and gives the number of the
// last that was acknowledged (-1 = none), and of the last that was tried.
func run(f *File) (acked, tried int, err error) {
	acked, tried = -1, -1
	_, v, lerr := f.Load()
	if lerr != nil && !errors.Is(lerr, fs.ErrNotExist) {
		return acked, tried, lerr
	}
	for n := range samples {
		tried = n
		if v, err = f.Swap(v, sample(n)); err != nil {
			return acked, tried, err
		}
		acked = n
	}
	return acked, tried, nil
}

// kinds are the ways to keep a state, each on a simulated disk.
var kinds = map[string]func(*disk) *File{"directory": openOn, "one file": openSingleOn, "backup": openBackedOn}

// countOps gives the number of operations of a run without faults.
func countOps(t *testing.T, open func(*disk) *File) int {
	d := newDisk()
	if _, _, err := run(open(d)); err != nil {
		t.Fatal(err)
	}
	return d.ops
}

// check loads and compares with the state that must, or may, be there.
func check(t *testing.T, open func(*disk) *File, d *disk, must, may int) {
	t.Helper()
	got, _, err := open(d).Load()
	if errors.Is(err, fs.ErrNotExist) && must < 0 {
		return
	}
	if err != nil {
		t.Fatalf("acknowledged state %d is lost: %v", must, err)
	}
	if must >= 0 && bytes.Equal(got, sample(must)) {
		return
	}
	if may >= 0 && bytes.Equal(got, sample(may)) {
		return
	}
	t.Fatalf("loaded %d bytes, neither state %d nor %d", len(got), must, may)
}

// TestCrashAnywhere lets the power go, and the process be killed, at every
// operation: before it had an effect, and after it but unacknowledged.
func TestCrashAnywhere(t *testing.T) {
	for kind, open := range kinds {
		for op := range countOps(t, open) {
			for _, late := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s op%d late=%v", kind, op, late), func(t *testing.T) {
					crashAt(t, open, op, late)
				})
			}
		}
	}
}

func crashAt(t *testing.T, open func(*disk) *File, op int, late bool) {
	for seed := range int64(5) {
		d := newDisk()
		d.failAt, d.late, d.failFor = op, late, 1<<30 // nothing works after it
		acked, tried, err := run(open(d))
		if err == nil {
			t.Fatal("the fault was not reported")
		}
		check(t, open, d.crash(rand.New(rand.NewSource(seed))), acked, tried)
		check(t, open, d.kill(), acked, tried)
	}
}

// TestFaultHeals has one operation fail while the process lives on: the swap
// is refused, the old state stays, and the next try succeeds.
func TestFaultHeals(t *testing.T) {
	for kind, open := range kinds {
		for op := range countOps(t, open) {
			for _, late := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s op%d late=%v", kind, op, late), func(t *testing.T) {
					healAt(t, open, op, late)
				})
			}
		}
	}
}

func healAt(t *testing.T, open func(*disk) *File, op int, late bool) {
	d := newDisk()
	d.failAt, d.late = op, late
	f := open(d)
	acked, tried, err := run(f)
	if !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	if acked >= 0 { // a write that was undone must not come back
		check(t, open, d.kill(), acked, -1)
		for seed := range int64(5) {
			check(t, open, d.crash(rand.New(rand.NewSource(seed))), acked, -1)
		}
	}
	if _, err := f.Swap(Version(f.version), sample(tried)); err != nil {
		t.Fatalf("not healed: %v", err)
	}
	for seed := range int64(5) {
		check(t, open, d.crash(rand.New(rand.NewSource(seed))), tried, -1)
	}
}

// TestTornTwice crashes, goes on with what is found, and crashes again, many
// times: numbers of torn writes must never be taken for those of new ones.
func TestTornTwice(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	d := newDisk()
	acked := []byte(nil)
	for round := range 400 {
		f := openOn(d)
		got, v, err := f.Load()
		if err != nil && (acked != nil || !errors.Is(err, fs.ErrNotExist)) {
			t.Fatalf("round %d: %v", round, err)
		}
		if acked != nil && !bytes.Equal(got, acked) {
			t.Fatalf("round %d: acknowledged state lost", round)
		}
		for range r.Intn(4) {
			acked = bytes.Repeat([]byte{byte(r.Int())}, r.Intn(4000)+1)
			if v, err = f.Swap(v, acked); err != nil {
				t.Fatal(err)
			}
		}
		// One more that the crash interrupts; it is acknowledged by what
		// the next round finds, since either outcome is right.
		last := bytes.Repeat([]byte{byte(r.Int())}, r.Intn(4000)+1)
		d.failAt, d.late, d.failFor = d.ops+r.Intn(3), r.Intn(2) == 0, 1<<30
		_, err = f.Swap(v, last)
		d = d.crash(r)
		found, _, lerr := openOn(d).Load()
		switch {
		case lerr != nil && acked == nil:
		case lerr != nil:
			t.Fatalf("round %d: %v", round, lerr)
		case acked != nil && bytes.Equal(found, acked) && err != nil:
		case bytes.Equal(found, last):
			acked = last
		default:
			t.Fatalf("round %d: found neither state", round)
		}
	}
}

func TestFullDisk(t *testing.T) {
	d := newDisk()
	f := openOn(d)
	_, _, _ = f.Load()
	v, err := f.Swap(0, sample(0))
	if err != nil {
		t.Fatal(err)
	}
	d.full = true
	if v, err = f.Swap(v, sample(2)); err != nil {
		t.Fatalf("a state that fits needs no new blocks: %v", err)
	}
	if _, err = f.Swap(v, sample(6)); !errors.Is(err, errDisk) {
		t.Fatalf("growing on a full disk: %v", err)
	}
	check(t, openOn, d.kill(), 2, -1)
	if d.names[statePath+".tmp"] != nil {
		t.Error("a temporary file is left")
	}
	d.full = false
	if _, err = f.Swap(v, sample(6)); err != nil {
		t.Fatalf("not healed: %v", err)
	}
	check(t, openOn, d.kill(), 6, -1)
}

func TestLeftoverRemoved(t *testing.T) {
	d := newDisk()
	d.names[statePath+".tmp"] = &inode{data: []byte("half"), dirty: map[int]bool{}}
	f := openOn(d)
	if _, _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if d.names[statePath+".tmp"] != nil {
		t.Error("what a crash left is still there")
	}
	if _, err := f.Swap(0, sample(0)); err != nil {
		t.Fatal(err)
	}
}

// TestRetryTorn has a write persist although it failed, its withdrawal fail,
// and the power go in the middle of the next try: the two must not mix.
func TestRetryTorn(t *testing.T) {
	fill := func(b byte) []byte { return bytes.Repeat([]byte{b}, 4000) }
	for seed := range int64(200) {
		d := newDisk()
		f := openOn(d)
		_, _, _ = f.Load()
		v, err := f.Swap(0, fill(1))
		if err != nil {
			t.Fatal(err)
		}
		d.failAt, d.failFor, d.late = d.ops+1, 2, true // the sync, then the withdrawal
		if _, err := f.Swap(v, fill(2)); err == nil {
			t.Fatal("no fault")
		}
		d.failAt, d.failFor, d.late = d.ops+1, 1<<30, false
		if _, err := f.Swap(v, fill(3)); err == nil {
			t.Fatal("no fault")
		}
		got, _, err := openOn(d.crash(rand.New(rand.NewSource(seed)))).Load()
		if err != nil || !bytes.Equal(got, fill(1)) && !bytes.Equal(got, fill(2)) && !bytes.Equal(got, fill(3)) {
			t.Fatalf("seed %d: %d bytes, %v", seed, len(got), err)
		}
	}
}

// TestRenew: nothing of an earlier state is left in any file, and a crash at any
// operation leaves the old state or the new one.
func TestRenew(t *testing.T) {
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) { testRenew(t, open) })
	}
}

func testRenew(t *testing.T, open func(*disk) *File) {
	renew := func(d *disk) error {
		f := open(d)
		_, v, err := f.Load()
		if err == nil {
			_, err = f.Renew(v, sample(2))
		}
		return err
	}
	before := func() *disk {
		d := newDisk()
		f := open(d)
		f.Load()
		v, err := f.Swap(0, sample(1))
		if err == nil {
			_, err = f.Swap(v, sample(0))
		}
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := before()
	start := d.ops
	if err := renew(d); err != nil {
		t.Fatal(err)
	}
	end := d.ops
	check(t, open, d.kill(), 2, -1)
	for _, i := range d.names {
		if bytes.Contains(i.data, sample(0)[:400]) || bytes.Contains(i.data, sample(1)[:400]) {
			t.Error("an earlier state is left in a file")
		}
	}
	for op := start; op < end; op++ {
		for _, late := range []bool{false, true} {
			d := before()
			d.failAt, d.late, d.failFor = op, late, 1<<30
			if err := renew(d); err == nil {
				t.Fatal("the fault was not reported")
			}
			for seed := range int64(20) {
				check(t, open, d.crash(rand.New(rand.NewSource(seed))), 0, 2)
			}
			check(t, open, d.kill(), 0, 2)
		}
	}
	f := open(before())
	f.Load()
	if _, err := f.Renew(7, nil); !errors.Is(err, ErrConflict) {
		t.Errorf("of another version: %v", err)
	}
}
