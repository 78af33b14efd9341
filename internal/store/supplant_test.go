package store

import (
	"bytes"
	"errors"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
)

// Names of what is in the directory of another program, and of this one.
const (
	theirs  = "theirs"
	running = "theirs-running"
	ours    = "ours"
	copied  = "ours.bak"
)

// supplanting is a disk with all four, durable.
func supplanting(links bool) (*disk, *Dir) {
	d := linking(links)
	for _, name := range []string{theirs, running, ours, copied} {
		d.names["/state/"+name] = &inode{data: []byte("old " + name), durable: []byte("old " + name), dirty: map[int]bool{}}
	}
	d.settleNames()
	return d, &Dir{path: "/state", opt: Options{NoLock: true}, fs: d}
}

func supplant(dir *Dir) error {
	return dir.Supplant(theirs, 0o600, sample(0), []string{running}, []string{copied, ours})
}

// has reports whether a file is there with content.
func (d *disk) has(name string, content []byte) bool {
	n := d.names["/state/"+name]
	return n != nil && bytes.Equal(n.data, content)
}

// checkSupplanted holds a disk to what Supplant promises; done says that it returned.
func checkSupplanted(t *testing.T, d *disk, done bool) {
	t.Helper()
	is, oursThere := d.has(theirs, sample(0)), d.has(ours, []byte("old ours"))
	switch {
	case !is && (!oursThere || !d.has(copied, []byte("old ours.bak"))):
		t.Fatalf("nothing counts: %v", d.names)
	case is && d.names["/state/"+running] != nil:
		t.Fatal("the running state of before is beside the new one")
	case is && !d.has(theirs+asideEnding, []byte("old theirs")):
		t.Fatal("what was replaced is not kept")
	case !is && d.names["/state/"+theirs] == nil && !d.noLinks, d.names["/state/"+theirs] != nil && !is && !d.has(theirs, []byte("old theirs")):
		t.Fatal("half a file has the name")
	case done && (!is || oursThere || d.names["/state/"+copied] != nil || !d.has(ours+asideEnding, []byte("old ours")) || len(d.names) != 5):
		t.Fatalf("it was acknowledged, and there is %v", d.names)
	case !oursThere && d.names["/state/"+copied] != nil:
		t.Fatal("the backup is there without the file")
	}
}

// TestSupplantAnywhere has the power go at every operation.
func TestSupplantAnywhere(t *testing.T) {
	for _, links := range []bool{true, false} {
		good, dir := supplanting(links)
		if err := supplant(dir); err != nil {
			t.Fatal(err)
		}
		checkSupplanted(t, good, true)
		for seed := range int64(20) {
			checkSupplanted(t, good.crash(rand.New(rand.NewSource(seed))), true)
		}
		for op := range good.ops {
			for _, late := range []bool{false, true} {
				for seed := range int64(20) {
					d, dir := supplanting(links)
					d.failAt, d.late, d.failFor = op, late, 1<<30
					if err := supplant(dir); err == nil {
						t.Fatalf("operation %d: the fault was not reported", op)
					}
					after := d.crash(rand.New(rand.NewSource(seed)))
					after.noLinks = !links
					checkSupplanted(t, after, false)
				}
				d, dir := supplanting(links)
				d.failAt, d.late = op, late // it heals
				err := supplant(dir)
				checkSupplanted(t, d, err == nil)
			}
		}
	}
}

// TestSupplant does it on a real directory, twice, and where little is there.
func TestSupplant(t *testing.T) {
	path := t.TempDir()
	dir, err := OpenDir(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if err := os.WriteFile(filepath.Join(path, ours), []byte{byte(n)}, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := dir.Supplant(theirs, 0o640, sample(n), []string{running}, []string{copied, ours}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]byte{theirs: sample(n), ours + asideEnding: {byte(n)}} {
			if got, err := os.ReadFile(filepath.Join(path, name)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
		}
	}
	if got, err := os.ReadFile(filepath.Join(path, theirs+asideEnding)); err != nil || !bytes.Equal(got, sample(0)) {
		t.Errorf("what was replaced: %d bytes, %v", len(got), err)
	}
	if info, err := os.Stat(filepath.Join(path, theirs)); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
	if list, _ := os.ReadDir(path); len(list) != 3 {
		t.Errorf("there are %v", list)
	}
}

// TestHolder asks for the lock of a directory, which does not take it.
func TestHolder(t *testing.T) {
	path := t.TempDir()
	dir, err := OpenDir(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, held, err := Holder(path); held || err != nil {
			t.Errorf("before: %v, %v", held, err)
		}
		if err := dir.Lock(0); err != nil {
			t.Fatal(err)
		}
		if _, held, err := Holder(path); !held || err != nil {
			t.Errorf("while it is held: %v, %v", held, err)
		}
		dir.Unlock()
	}
	os.Remove(filepath.Join(path, lockName))
	os.Symlink("elsewhere", filepath.Join(path, lockName))
	if _, _, err := Holder(path); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a link: %v", err)
	}
}
