package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/disk"
)

// Names of what is in the directory of another program, and of this one.
const (
	theirs  = "theirs"
	running = "theirs-running"
	ours    = "ours"
	copied  = "ours.bak"
)

// supplanting is a disk with all four, durable.
func supplanting(noLinks bool) (*disk.Simulated, *Dir) {
	d := disk.NewSimulated()
	d.NoLinks, d.Stale = noLinks, true
	for _, name := range []string{theirs, running, ours, copied} {
		d.Put("/state/"+name, []byte("old "+name))
	}
	return d, dirOn(d, Options{})
}

func supplant(dir *Dir) error {
	return dir.Supplant(theirs, 0o600, sample(0), []string{running}, []string{copied, ours})
}

// checkSupplanted holds a disk to what Supplant promises; done says that it returned.
func checkSupplanted(t *testing.T, d *disk.Simulated, done bool) {
	t.Helper()
	there := map[string]string{}
	for _, name := range d.Names() {
		there[filepath.Base(name)] = string(d.Get(name))
	}
	is, oursThere := there[theirs] == string(sample(0)), there[ours] == "old ours"
	switch {
	case !is && (!oursThere || there[copied] != "old ours.bak"):
		t.Fatalf("nothing counts: %v", d.Names())
	case is && there[running] != "":
		t.Fatal("the running state of before is beside the new one")
	case is && there[theirs+asideEnding] != "old theirs":
		t.Fatal("what was replaced is not kept")
	case !is && there[theirs] != "old theirs" && (there[theirs] != "" || !d.NoLinks):
		t.Fatal("half a file has the name")
	case done && (!is || oursThere || there[copied] != "" || there[ours+asideEnding] != "old ours" || len(there) != 5):
		t.Fatalf("it was acknowledged, and there is %v", d.Names())
	case !oursThere && there[copied] != "":
		t.Fatal("the backup is there without the file")
	}
}

// TestSupplantAnywhere has the power go after every operation, with every order of the
// effects, and each operation fail.
func TestSupplantAnywhere(t *testing.T) {
	for _, noLinks := range []bool{false, true} {
		orders := 0
		for n, ops := -1, 0; n <= ops; n++ { // the operation that fails, from 0
			for _, fault := range []disk.Fault{disk.Refused, disk.Done, disk.Half, disk.Dropped, disk.Reset} {
				d, dir := supplanting(noLinks)
				d.Fault = func(i int, _ disk.Op) disk.Fault {
					if i == n {
						return fault
					}
					return disk.None
				}
				done := false
				d.Watch = func(disk.Op) {
					orders += disk.EachChoice(func(c *disk.Choices) { checkSupplanted(t, d.Crash(c), done) })
				}
				err := supplant(dir)
				done = err == nil
				d.Watch(disk.Op{})
				ops = max(ops, d.Ops())
			}
		}
		t.Logf("no links %v: %d orders", noLinks, orders)
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
