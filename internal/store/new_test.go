package store

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const newPath = "/there/file"

// linking is a disk on which names of files can be linked, or not.
func linking(can bool) *disk {
	d := newDisk()
	d.noLinks = !can
	return d
}

// TestWriteNewAnywhere has each operation fail, alone or with all that follow, and
// the power go then: a file that was acknowledged is whole, and never is there half
// of one. Without links one may be there that is empty.
func TestWriteNewAnywhere(t *testing.T) {
	want := sample(0)
	for _, can := range []bool{true, false} {
		good := linking(can)
		if err := writeNew(good, newPath, want); err != nil {
			t.Fatal(err)
		}
		for seed := range int64(20) {
			if n := good.crash(rand.New(rand.NewSource(seed))).names[newPath]; n == nil || !bytes.Equal(n.data, want) {
				t.Fatalf("links %v: an acknowledged file is lost", can)
			}
		}
		if len(good.names) != 1 {
			t.Errorf("links %v: left beside it: %v", can, good.names)
		}
		for op := range good.ops {
			for _, late := range []bool{false, true} {
				for seed := range int64(20) {
					d := linking(can)
					d.failAt, d.late, d.failFor = op, late, 1<<30 // nothing works after it
					err := writeNew(d, newPath, want)
					if n := d.crash(rand.New(rand.NewSource(seed))).names[newPath]; n != nil &&
						!bytes.Equal(n.data, want) && (can || len(n.data) != 0) {
						t.Fatalf("links %v, operation %d, late %v: %d bytes are there", can, op, late, len(n.data))
					} else if err == nil && n == nil {
						t.Fatalf("links %v, operation %d, late %v: it is not there", can, op, late)
					}
				}
				d := linking(can)
				d.failAt, d.late = op, late
				err := writeNew(d, newPath, want)
				if n := d.names[newPath]; err == nil && (n == nil || !bytes.Equal(n.data, want)) || err != nil && n != nil && !late {
					t.Errorf("links %v, operation %d, late %v: %v, and %v", can, op, late, n, err)
				}
			}
		}
	}
}

// TestWriteNewOver: what is there stays as it is.
func TestWriteNewOver(t *testing.T) {
	for _, can := range []bool{true, false} {
		d := linking(can)
		there := &inode{data: []byte("mine")}
		d.names[newPath] = there
		if err := writeNew(d, newPath, sample(0)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("links %v: %v", can, err)
		}
		if len(d.names) != 1 || d.names[newPath] != there || string(there.data) != "mine" {
			t.Errorf("links %v: it was changed", can)
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
type unlinked struct{ osFS }

func (unlinked) link(_, to string) error {
	return &os.LinkError{Op: "link", New: to, Err: syscall.EPERM}
}

func TestWriteNew(t *testing.T) {
	for _, fsys := range []filesystem{osFS{}, unlinked{}} {
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
