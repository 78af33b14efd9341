package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/disk"
)

const newPath = "/there/file"

// linking is the number of the operation that links, which may mean that there are no
// links.
const linking = 3

// TestWriteNewAnywhere has the power go after every operation, and each operation
// fail: a file that was acknowledged is whole, and never is there half of one. Without
// links one may be there that is empty.
func TestWriteNewAnywhere(t *testing.T) {
	want := sample(0)
	for _, noLinks := range []bool{false, true} {
		orders := 0
		for n, ops := -1, 0; n <= ops; n++ { // the operation that fails, from 0
			for _, fault := range []disk.Fault{disk.Refused, disk.Done, disk.Half, disk.Dropped, disk.Reset} {
				d := disk.NewSimulated()
				d.NoLinks, d.Stale = noLinks, true
				d.Fault = func(i int, _ disk.Op) disk.Fault {
					if i == n {
						return fault
					}
					return disk.None
				}
				acked := false
				crash := func(disk.Op) {
					orders += disk.EachChoice(func(c *disk.Choices) {
						got := d.Crash(c).Get(newPath)
						if !bytes.Equal(got, want) && (acked || got != nil && (!noLinks && n != linking || len(got) != 0)) {
							t.Fatalf("no links %v, fault %d in operation %d, crash after %d: %d bytes are there", noLinks, fault, n, d.Ops(), len(got))
						}
					})
				}
				d.Watch = crash
				err := writeNew(d, newPath, want)
				acked = err == nil
				crash(disk.Op{})
				if acked && len(d.Names()) != 1 && n < 0 {
					t.Errorf("left beside it: %v", d.Names())
				}
				if err != nil && d.Get(newPath) != nil && fault != disk.Done {
					t.Errorf("no links %v, fault %d in operation %d: %v, and it is there", noLinks, fault, n, err)
				}
				ops = max(ops, d.Ops())
			}
		}
		t.Logf("no links %v: %d orders", noLinks, orders)
	}
}

// TestWriteNewOver: what is there stays as it is.
func TestWriteNewOver(t *testing.T) {
	for _, noLinks := range []bool{false, true} {
		d := disk.NewSimulated()
		d.NoLinks = noLinks
		d.Put(newPath, []byte("mine"))
		if err := writeNew(d, newPath, sample(0)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("no links %v: %v", noLinks, err)
		}
		if len(d.Names()) != 1 || string(d.Get(newPath)) != "mine" {
			t.Errorf("no links %v: it was changed", noLinks)
		}
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.Symlink("elsewhere", path); err != nil {
		t.Fatal(err)
	}
	if err := WriteNew(path, sample(0)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a link that leads nowhere: %v", err)
	}
}

// unlinked is the system's file system without hard links.
type unlinked struct{ disk.System }

func (unlinked) Link(_, to string) error {
	return &os.LinkError{Op: "link", New: to, Err: syscall.EPERM}
}

func TestWriteNew(t *testing.T) {
	for _, fsys := range []disk.FS{disk.System{}, unlinked{}} {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		if err := writeNew(fsys, path, sample(0)); err != nil {
			t.Fatal(err)
		}
		if err := writeNew(fsys, path, sample(1)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%T: a second time: %v", fsys, err)
		}
		info, err := os.Stat(path)
		if b, _ := os.ReadFile(path); err != nil || !bytes.Equal(b, sample(0)) || info.Mode().Perm() != 0o600 {
			t.Errorf("%T: %d bytes, %v, %v", fsys, len(b), info.Mode(), err)
		}
		if list, _ := os.ReadDir(dir); len(list) != 1 {
			t.Errorf("%T: left beside it: %v", fsys, list)
		}
		absent := filepath.Join(dir, "absent", "file")
		if err := writeNew(fsys, absent, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), absent+" cannot be written") {
			t.Errorf("%T: %v", fsys, err)
		}
	}
}
