package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// block is a sector full of one letter.
func block(letters string) (b []byte) {
	for _, l := range letters {
		b = append(b, bytes.Repeat([]byte{byte(l)}, SectorSize)...)
	}
	return b
}

// letters tells of each file on a disk what its sectors begin with.
func letters(d *Simulated) string {
	var list []string
	for _, name := range d.Names() {
		b := d.Get(name)
		s := filepath.Base(name) + "="
		for at := 0; at < len(b); at += SectorSize {
			s += strings.ReplaceAll(string(b[at]), "\x00", "0")
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

// left are all that a crash may leave, in order, each once.
func left(d *Simulated) string {
	seen := map[string]bool{}
	EachChoice(func(c *Choices) { seen[letters(d.Crash(c))] = true })
	var list []string
	for s := range seen {
		list = append(list, s)
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

// must is for what cannot fail here.
func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// TestCrash compares what a crash may leave with what the model says.
func TestCrash(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(d *Simulated)
		want string
	}{
		{"nothing", func(*Simulated) {}, "a=xy"},
		{"sectors by themselves", func(d *Simulated) { must(d.Open("/a")).WriteAt(block("XY"), 0) }, "a=XY; a=Xy; a=xY; a=xy"},
		{"synced", func(d *Simulated) { f := must(d.Open("/a")); f.WriteAt(block("XY"), 0); f.Sync() }, "a=XY"},
		{"each of two writes", func(d *Simulated) {
			f := must(d.Open("/a"))
			f.WriteAt(block("1"), 0)
			f.WriteAt(block("2"), 0)
		}, "a=1y; a=2y; a=xy"},
		{"size without data", func(d *Simulated) { must(d.Open("/a")).WriteAt(block("z"), 2*SectorSize) }, "a=xy; a=xy0; a=xyz"},
		{"stale blocks", func(d *Simulated) {
			d.Stale = true
			f := must(d.Create("/b", 0))
			f.WriteAt(block("z"), 0)
			d.SyncDir("/")
		}, "a=xy b=; a=xy b=0; a=xy b=z; a=xy b=¥"},
		{"a name without data", func(d *Simulated) {
			f := must(d.Create("/t", 0))
			f.WriteAt(block("N"), 0)
			d.Rename("/t", "/a")
		}, "a=; a= t=; a=0; a=0 t=0; a=N; a=N t=N; a=xy; a=xy t=; a=xy t=0; a=xy t=N"},
		{"data before its name", func(d *Simulated) {
			f := must(d.Create("/t", 0))
			f.WriteAt(block("N"), 0)
			f.Sync()
			d.Rename("/t", "/a")
		}, "a=N; a=N t=N; a=xy; a=xy t=N"},
		{"all of it", func(d *Simulated) {
			f := must(d.Create("/t", 0))
			f.WriteAt(block("N"), 0)
			f.Sync()
			d.Rename("/t", "/a")
			d.SyncDir("/")
		}, "a=N"},
		{"a late removal", func(d *Simulated) { d.Remove("/a") }, "; a=xy"},
		{"a link", func(d *Simulated) { d.Link("/a", "/b"); d.Remove("/a") }, "; a=xy; a=xy b=xy; b=xy"},
		{"a sync that gave up", func(d *Simulated) {
			d.Fault = func(_ int, op Op) Fault {
				if op.Kind == KindSync {
					d.Fault = nil
					return Dropped
				}
				return None
			}
			f := must(d.Open("/a"))
			f.WriteAt(block("X"), 0)
			if err := f.Sync(); !errors.Is(err, ErrFault) || letters(d) != "a=Xy" {
				panic(letters(d))
			}
			f.Sync() // too late
			f.WriteAt(block("Y"), SectorSize)
			f.Sync()
		}, "a=XY; a=xY"},
		{"a sync that reads again", func(d *Simulated) {
			d.Fault = func(int, Op) Fault { d.Fault = nil; return Reset }
			f := must(d.Open("/a"))
			f.Sync()
			f.WriteAt(block("X"), 0)
			d.Fault = func(int, Op) Fault { d.Fault = nil; return Reset }
			f.Sync()
		}, "a=xy"},
		{"a sync that lies", func(d *Simulated) {
			d.Fault = func(int, Op) Fault { return Lie }
			if err := d.Remove("/a"); err != nil {
				panic(err)
			}
		}, "a=xy"},
		{"half a write", func(d *Simulated) {
			d.Fault = func(_ int, op Op) Fault {
				if op.Kind == KindWrite {
					return Half
				}
				return None
			}
			f := must(d.Open("/a"))
			f.WriteAt(block("XY"), 0)
			f.Sync()
		}, "a=Xy"},
	} {
		d := NewSimulated()
		d.Put("/a", block("xy"))
		c.do(d)
		if got := left(d); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
		if d.Kill(); left(d.Kill()) != c.want {
			t.Errorf("%s: after a kill: %q", c.what, left(d.Kill()))
		}
	}
}

// TestCrashTwice: what the first crash left is what the second finds, looked at or not.
func TestCrashTwice(t *testing.T) {
	d := NewSimulated()
	d.Put("/a", block("xy"))
	must(d.Open("/a")).WriteAt(block("XY"), 0)
	seen := map[string]bool{}
	EachChoice(func(c *Choices) {
		once := d.Crash(c)
		if c.Choose(2) == 0 {
			if first, twice := letters(once), letters(once.Crash(c)); first != twice {
				t.Errorf("%s became %s", first, twice)
			}
			return
		}
		seen[letters(once.Crash(c))] = true
	})
	if len(seen) != 4 {
		t.Errorf("%v", seen)
	}
}

// TestManySectors: of a long write all pairs of sectors are told apart.
func TestManySectors(t *testing.T) {
	const n = 40
	d := NewSimulated()
	d.Put("/a", block(strings.Repeat("x", n)))
	must(d.Open("/a")).WriteAt(block(strings.Repeat("X", n)), 0)
	pairs := map[string]bool{}
	runs := EachChoice(func(c *Choices) {
		s := letters(d.Crash(c))[2:]
		for i := range n {
			for j := i + 1; j < n; j++ {
				pairs[fmt.Sprint(i, j, s[i:i+1], s[j:j+1])] = true
			}
		}
	})
	if len(pairs) != 4*n*(n-1)/2 || runs > 4*n*n {
		t.Errorf("%d pairs in %d runs", len(pairs), runs)
	}
}

func TestSimulatedRefuses(t *testing.T) {
	d := NewSimulated()
	d.Put("/a", block("x"))
	_, open := d.Open("/b")
	_, create := d.Create("/a", 0)
	_, read := d.Read("/b", 1)
	d.NoLinks = true
	link := d.Link("/a", "/b")
	d.NoLinks = false
	f := must(d.Open("/a"))
	d.Full = true
	for _, c := range []struct{ got, want error }{
		{open, fs.ErrNotExist}, {create, fs.ErrExist}, {read, fs.ErrNotExist}, {link, errors.ErrUnsupported},
		{d.Link("/b", "/c"), fs.ErrNotExist}, {d.Link("/a", "/a"), fs.ErrExist}, {d.Remove("/b"), fs.ErrNotExist},
		{d.Rename("/b", "/a"), fs.ErrNotExist}, {f.ReadAt(make([]byte, 513), 0), syscall.EINVAL},
		{f.WriteAt(block("yz"), 0), syscall.ENOSPC}, {f.WriteAt(block("y"), 0), nil},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	if b := must(d.Read("/a", 9)); len(b) != 10 {
		t.Errorf("%d bytes were read", len(b))
	}
}

// TestSystem: the operating system's file system does what the simulated one does.
func TestSystem(t *testing.T) {
	dir := t.TempDir()
	sim := NewSimulated()
	for _, d := range []struct {
		fs   FS
		root string
	}{{System{}, dir}, {sim, "/"}} {
		path := func(name string) string { return filepath.Join(d.root, name) }
		f := must(d.fs.Create(path("t"), 0o600))
		if err := errors.Join(f.WriteAt(block("ab"), 0), f.Sync(), d.fs.Rename(path("t"), path("a")),
			d.fs.Link(path("a"), path("b")), d.fs.SyncDir(d.root), f.Close()); err != nil {
			t.Fatal(err)
		}
		_, again := d.fs.Create(path("a"), 0o600)
		_, absent := d.fs.Open(path("t"))
		if !errors.Is(again, fs.ErrExist) || !errors.Is(absent, fs.ErrNotExist) || !errors.Is(d.fs.Link(path("a"), path("b")), fs.ErrExist) {
			t.Errorf("%T: %v, %v", d.fs, again, absent)
		}
		f = must(d.fs.Open(path("b")))
		b := make([]byte, 2*SectorSize)
		if err := f.ReadAt(b, 0); err != nil || must(f.Size()) != 2*SectorSize || !bytes.Equal(b, block("ab")) {
			t.Errorf("%T: %v", d.fs, err)
		}
		if err := f.ReadAt(b, 1); err == nil {
			t.Errorf("%T: more was read than there is", d.fs)
		}
		if got, err := d.fs.Read(path("a"), 5); err != nil || string(got) != "aaaaaa" {
			t.Errorf("%T: %q, %v", d.fs, got, err)
		}
		if err := errors.Join(f.Close(), d.fs.Remove(path("a"))); err != nil || !errors.Is(d.fs.Remove(path("a")), fs.ErrNotExist) {
			t.Errorf("%T: %v", d.fs, err)
		}
	}
	if _, err := (System{}).Read(dir, 1); err == nil {
		t.Error("a directory was read")
	}
	f := must(os.Open(dir))
	defer f.Close()
	if _, err := (osFile{f}).Size(); err == nil {
		t.Error("a directory has a size")
	}
}
