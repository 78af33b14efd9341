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
)

func open(t *testing.T, dir string) *File {
	t.Helper()
	d, err := OpenDir(dir, Options{Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Lock(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Unlock() })
	f := d.File("tpm")
	t.Cleanup(f.Close)
	return f
}

func TestRoundTrip(t *testing.T) {
	f := open(t, t.TempDir())
	if _, _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	v := Version(0)
	var err error
	for n := range samples * 2 {
		if v, err = f.Swap(v, sample(n)); err != nil {
			t.Fatal(err)
		}
		got, loaded, err := f.Load()
		if err != nil || !bytes.Equal(got, sample(n)) || loaded != v {
			t.Fatalf("state %d: %d bytes, version %d, want %d: %v", n, len(got), loaded, v, err)
		}
	}
	st, err := os.Stat(f.Path())
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
	if _, err := f.Swap(0, sample(1)); err != nil {
		t.Errorf("after removal: %v", err)
	}
}

func TestConflict(t *testing.T) {
	f := open(t, t.TempDir())
	if _, err := f.Swap(0, nil); !errors.Is(err, ErrConflict) {
		t.Errorf("swap before load: %v", err)
	}
	f.Load()
	v, err := f.Swap(0, sample(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Swap(0, sample(1)); !errors.Is(err, ErrConflict) {
		t.Errorf("swap of an old version: %v", err)
	}
	if _, err := f.Swap(v, make([]byte, MaxSize+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := f.Swap(v, make([]byte, MaxSize)); err != nil {
		t.Errorf("largest: %v", err)
	}
}

// TestDamaged cuts the file at, and alters it in, many places: it must be
// refused with its path, and stay as it is.
func TestDamaged(t *testing.T) {
	f := open(t, t.TempDir())
	f.Load()
	v, _ := f.Swap(0, sample(0))
	if _, err := f.Swap(v, sample(2)); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(f.Path())
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, b []byte) {
		t.Helper()
		os.WriteFile(f.Path(), b, 0o600)
		_, _, err := f.Load()
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), f.Path()) {
			t.Fatalf("%s: %v", what, err)
		}
		if _, err := f.Swap(0, sample(1)); err == nil {
			t.Fatalf("%s: written over", what)
		}
		if now, _ := os.ReadFile(f.Path()); !bytes.Equal(now, b) {
			t.Fatalf("%s: the file was changed", what)
		}
	}
	for n := 0; n < len(good); n += 509 {
		refused("cut", good[:n])
		b := bytes.Clone(good)
		b[n] ^= 1 << (n % 8)
		refused("altered", b)
	}
	refused("longer", append(bytes.Clone(good), 0))
	refused("zeros", make([]byte, len(good)))
	refused("other slots", append(bytes.Clone(good), good...))
	refused("a slot missing", append(bytes.Clone(good[:len(good)/2]), make([]byte, len(good)/2)...))
	refused("nothing written", append(blank(minSectors), blank(minSectors)...))

	os.WriteFile(f.Path(), good, 0o600)
	if got, _, err := f.Load(); err != nil || !bytes.Equal(got, sample(2)) {
		t.Fatalf("restored: %v", err)
	}
}

func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	os.Mkdir(f.Path(), 0o700)
	if _, _, err := f.Load(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory: %v", err)
	}
	os.Remove(f.Path())
	os.Symlink("/dev/null", f.Path())
	if _, _, err := f.Load(); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link: %v", err)
	}
	if _, err := OpenDir(filepath.Join(dir, "absent"), Options{}); err == nil {
		t.Error("an absent directory")
	}
	if _, err := OpenDir("/dev/null", Options{}); err == nil {
		t.Error("not a directory")
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	other, err := OpenDir(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Lock(2); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("locked twice: %v", err)
	}
	if err := f.dir.Lock(0); err != nil {
		t.Errorf("locked again by the same: %v", err)
	}
	f.dir.Unlock()
	if err := other.Lock(0); err != nil {
		t.Errorf("after unlock: %v", err)
	}
	other.Unlock()
	if other.Locked() {
		t.Error("still locked")
	}
}

// TestConflictOnDisk: what another process has written, replaced or removed meanwhile is
// not overwritten.
func TestConflictOnDisk(t *testing.T) {
	path := t.TempDir()
	for name, meanwhile := range map[string]func(other *File) error{
		"written":  func(other *File) error { _, err := other.Swap(Version(other.version), sample(1)); return err },
		"outgrown": func(other *File) error { _, err := other.Swap(Version(other.version), make([]byte, 60000)); return err },
		"removed":  func(other *File) error { return other.Remove() },
	} {
		var files [2]*File
		for i := range files {
			d, err := OpenDir(path, Options{NoLock: true})
			if err != nil {
				t.Fatal(err)
			}
			files[i] = d.File(name)
			if _, _, err := found(files[i]); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				if _, err := files[0].Swap(0, sample(0)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := meanwhile(files[1]); err != nil {
			t.Fatal(err)
		}
		there, _ := os.ReadFile(files[0].Path())
		if _, err := files[0].Swap(1, sample(2)); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
		if now, _ := os.ReadFile(files[0].Path()); !bytes.Equal(now, there) {
			t.Errorf("%s: it was overwritten", name)
		}
		_, v, err := found(files[0])
		if err == nil {
			_, err = files[0].Swap(v, sample(2))
		}
		if err != nil {
			t.Errorf("%s: after it was loaded again: %v", name, err)
		}
	}
}

// TestDiscard removes a directory with nothing in it that is ours, and no other.
func TestDiscard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	f.Load()
	if _, err := f.Swap(0, sample(0)); err != nil {
		t.Fatal(err)
	}
	if err := f.dir.Discard(); err != nil || !f.dir.Locked() {
		t.Errorf("with a state in it: locked %v, %v", f.dir.Locked(), err)
	}
	if _, _, err := f.Load(); err != nil {
		t.Error(err)
	}
	f.Remove()
	f.dir.Unlock()
	if f.dir.Discard(); !exists(path) {
		t.Error("it was removed without the lock")
	}
	if err := f.dir.Lock(0); err != nil {
		t.Fatal(err)
	}
	if err := f.dir.Discard(); err != nil || exists(path) || f.dir.Locked() {
		t.Errorf("with nothing in it: locked %v, %v", f.dir.Locked(), err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestLockToRead: readers lock out who writes and are locked out by him, but not by
// each other, and make no file.
func TestLockToRead(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDir(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	read := func() func() error {
		t.Helper()
		unlock, err := LockToRead(dir)
		if err != nil {
			t.Fatal(err)
		}
		return unlock
	}
	read()()
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("it made %v, %v", list, err)
	}
	if err := d.Lock(0); err != nil {
		t.Fatal(err)
	}
	if _, err := LockToRead(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("while another writes: %v", err)
	}
	d.Unlock()
	if err := os.Chmod(filepath.Join(dir, ".lock"), 0o400); err != nil {
		t.Fatal(err)
	}
	one, two := read(), read()
	os.Chmod(filepath.Join(dir, ".lock"), 0o600)
	for _, unlock := range []func() error{one, two} {
		if err := d.Lock(0); !errors.Is(err, ErrLocked) {
			t.Errorf("while another reads: %v", err)
		}
		unlock()
	}
	if err := d.Lock(0); err != nil {
		t.Errorf("after all have read: %v", err)
	}
	d.Unlock()
}

// TestLockOfSwtpm shows that our lock and that of Debian's swtpm exclude each
// other.
func TestLockOfSwtpm(t *testing.T) {
	if _, err := exec.LookPath("swtpm_setup"); err != nil {
		t.Skip("needs swtpm")
	}
	dir := t.TempDir()
	open(t, dir)
	out, err := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags",
		"not-need-init", "--server", "type=unixio,path="+dir+"/s", "-t").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "lock") {
		t.Errorf("swtpm started in a locked directory: %v %s", err, out)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(blank(3))
	f.Add(append(encode(nil, 7, 3, sample(0)), blank(0)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		capacity := len(b) / sectorSize
		if capacity == 0 || capacity > 64 {
			return
		}
		s, ok := decode(b[:capacity*sectorSize], capacity)
		if ok && s.seq != 0 && len(s.state()) > capacity*payload {
			t.Fatal("more state than room")
		}
	})
}

func BenchmarkSwap(b *testing.B) {
	for _, size := range []int{4000, 30000, 200000} {
		b.Run(sizeName(size), func(b *testing.B) {
			d, _ := OpenDir(b.TempDir(), Options{})
			f := d.File("tpm")
			f.Load()
			state := make([]byte, size)
			v, err := f.Swap(0, state)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if v, err = f.Swap(v, state); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func sizeName(n int) string { return map[int]string{4000: "4k", 30000: "30k", 200000: "200k"}[n] }
