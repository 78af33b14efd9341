package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/disk"
)

// load is a state that must be there.
func load(t *testing.T, f *File) []byte {
	t.Helper()
	b, _, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSingle keeps two states in one file, that come and go.
func TestSingle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, lock := range []bool{true, false} {
		_ = os.Remove(path)
		open := func() *Dir {
			d, err := OpenSingle(path, Options{Mode: 0o600, NoLock: !lock}, "a", "b")
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		d := open()
		if !d.Single() || d.Path() != path {
			t.Error(d.Path())
		}
		if _, _, err := d.File("a").Load(); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := d.Make(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.File("a").Load(); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := d.Lock(0); err != nil {
			t.Fatal(err)
		}
		if lock {
			if err := open().Lock(0); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
				t.Errorf("locked twice: %v", err)
			}
		}
		a, b := d.File("a"), d.File("b")
		for n, f := range []*File{a, b} {
			if _, _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if _, err := f.Swap(0, sample(n)); err != nil {
				t.Fatal(err)
			}
		}
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 || st.Size() != d.single.total() {
			t.Fatalf("%v %v", st, err)
		}
		if !bytes.Equal(load(t, open().File("a")), sample(0)) || !bytes.Equal(load(t, open().File("b")), sample(1)) {
			t.Error("the states are not those that were saved")
		}
		if err := b.Remove(); err != nil {
			t.Fatal(err)
		}
		if err := b.Remove(); err != nil {
			t.Errorf("removed twice: %v", err)
		}
		if _, _, err := open().File("b").Load(); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if _, err := b.Swap(0, sample(2)); err != nil || !bytes.Equal(load(t, open().File("b")), sample(2)) {
			t.Errorf("saved after it was removed: %v", err)
		}
		_, v, err := a.Load()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Swap(v, make([]byte, singleMost+payload)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a state that has no room: %v", err)
		}
		if _, err := a.Swap(v, make([]byte, singleMost)); err != nil {
			t.Errorf("the largest state: %v", err)
		}
		if err := d.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSingleRefuses leaves alone what is not its file, and takes what is empty.
func TestSingleRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	try := func(content []byte) error {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := OpenSingle(path, Options{NoLock: true}, "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		f := d.File("a")
		if _, _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
			if b, _ := os.ReadFile(path); !bytes.Equal(b, content) {
				t.Error("a file that was refused was written")
			}
			return err
		}
		_, err = f.Swap(0, sample(0))
		return err
	}
	for _, n := range []int{0, 100, 512, 3000, 3 << 20} { // the last as a disk is larger
		if err := try(make([]byte, n)); err != nil {
			t.Errorf("%d zeros: %v", n, err)
		}
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	for name, b := range map[string][]byte{
		"text": []byte("hello"), "cut": good[:len(good)/3], "an altered magic": damage(3), "an altered mark": damage(19),
		"an altered state": damage(600), "no first sector": append(make([]byte, 512), good[512:]...),
	} {
		if err := try(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, p := range []string{dir, "/dev/null", filepath.Join(dir, "absent", "state")} {
		if _, err := OpenSingle(p, Options{}, "a"); err == nil {
			t.Errorf("%s is taken for a file", p)
		}
	}
}

// TestSingleNeighbours crashes while one state is saved and removed, at every
// operation: the other one stays as it was.
func TestSingleNeighbours(t *testing.T) {
	d := disk.NewSimulated()
	dir := singleOn(d, "other")
	other, f := dir.File("other"), dir.File("tpm")
	for _, f := range []*File{other, f} {
		if got, _, err := found(f); got != nil || err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.Swap(0, sample(4)); err != nil {
		t.Fatal(err)
	}
	orders := 0
	d.Watch = func(op disk.Op) {
		orders += disk.EachChoice(func(c *disk.Choices) {
			after := singleOn(d.Crash(c), "other")
			if !bytes.Equal(load(t, after.File("other")), sample(4)) {
				t.Fatalf("operation %d: the other state is another", d.Ops())
			}
			if got, _, err := found(after.File("tpm")); err != nil || !got.in([]state{nil, sample(0)}) {
				t.Fatalf("operation %d: %v, %v", d.Ops(), got, err)
			}
		})
	}
	if _, err := f.Swap(0, sample(0)); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if orders < 15 {
		t.Errorf("%d orders", orders)
	}
}

// TestSingleOnDisk keeps states on a block device.
func TestSingleOnDisk(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Skip("needs losetup, and the right to use it")
	}
	path := strings.TrimSpace(string(out))
	defer func() { _ = exec.Command("losetup", "--detach", path).Run() }()
	d, err := OpenSingle(path, Options{}, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Lock(0); err != nil {
		t.Fatal(err)
	}
	f := d.File("b")
	_, _, _ = f.Load()
	if _, err := f.Swap(0, sample(1)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(load(t, d.File("b")), sample(1)) {
		t.Error("the state is another")
	}
}

// FuzzSingle loads states from one file that may hold anything, and saves to it.
func FuzzSingle(f *testing.F) {
	open := func(b []byte) *File {
		d := disk.NewSimulated()
		if b != nil {
			d.Put("/state/file", b)
		}
		return roomOn(d, 3*payload, "other").File("tpm")
	}
	file := open(nil)
	_, _, _ = file.Load()
	if _, err := file.Swap(0, []byte("state")); err != nil {
		f.Fatal(err)
	}
	f.Add(file.dir.single.under.(*disk.Simulated).Get("/state/file"))
	f.Add(make([]byte, 600))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := open(b)
		state, v, err := file.Load()
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return
		case len(state) > 3*payload:
			t.Fatal("more state than room")
		}
		if _, err := file.Swap(v, []byte("new")); err != nil {
			t.Fatal(err)
		}
		if got := load(t, file); string(got) != "new" {
			t.Fatalf("%q", got)
		}
	})
}
