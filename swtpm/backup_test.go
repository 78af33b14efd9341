package swtpm

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// lockedDir is a directory that is locked.
func lockedDir(t *testing.T, path string) *store.Dir {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := store.OpenDir(path, store.Options{Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Lock(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Unlock() })
	return d
}

// TestBackupRunning copies a TPM that writes all the time: each copy starts, and has at
// least what was acknowledged before.
func TestBackupRunning(t *testing.T) {
	for _, single := range []bool{false, true} {
		dir := t.TempDir()
		path := dir
		h, _ := newTestHost(t, dir, func(c *Config) {
			c.Key = testKey("0123456789abcdef0123456789abcdef", false)
			if single {
				path = filepath.Join(dir, "s")
				d, err := OpenFile(path, store.Options{})
				if err != nil {
					t.Fatal(err)
				}
				c.Dir = d
			}
		})
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		h.Startup(false)
		for _, cmd := range [][]byte{defineIndex(counterIndex, 1<<4), incrementCounter} {
			if rc := responseCode(h.Execute(0, cmd, nil)); rc != 0 {
				t.Fatal(rc)
			}
		}
		var mu sync.Mutex
		acked, stop := uint64(0), false
		var group sync.WaitGroup
		group.Go(func() {
			for {
				h.Execute(0, incrementCounter, nil)
				count := readIndex(h, counterIndex)
				mu.Lock()
				acked = count
				over := stop
				mu.Unlock()
				if over {
					return
				}
			}
		})
		for n := range 20 {
			to := filepath.Join(t.TempDir(), "copy")
			mu.Lock()
			before := acked
			mu.Unlock()
			d := lockedDir(t, to)
			if _, err := Backup(path, d); err != nil {
				t.Fatalf("copy %d: %v", n, err)
			}
			if _, err := Backup(path, d); err == nil || !strings.Contains(err.Error(), "already") {
				t.Errorf("over a copy: %v", err)
			}
			d.Unlock()
			c, _ := newTestHost(t, to, func(c *Config) { c.Key = h.cfg.Key })
			if err := c.Start(); err != nil {
				t.Fatalf("copy %d: %v", n, err)
			}
			c.Startup(false)
			if got := readIndex(c, counterIndex); got < before {
				t.Errorf("copy %d has %d of %d", n, got, before)
			}
		}
		mu.Lock()
		stop = true
		mu.Unlock()
		group.Wait()
	}
}

// TestRestore puts a copy back where its TPM is newer, as old, damaged, lost, and where
// there is another.
func TestRestore(t *testing.T) {
	key := testKey("0123456789abcdef0123456789abcdef", false)
	dir, copied := t.TempDir(), t.TempDir()
	start := func(dir string) (*Host, shown) {
		t.Helper()
		h, _ := newTestHost(t, dir, func(c *Config) { c.Key = key })
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		h.Startup(false)
		return h, h.shown(t)
	}
	h, _ := start(dir)
	h.Close()
	to := lockedDir(t, copied)
	if _, err := Backup(dir, to); err != nil {
		t.Fatal(err)
	}
	to.Unlock()
	var later clock.Manual // restored at another time each
	restore := func(dir string) (bool, error) {
		d := lockedDir(t, dir)
		defer d.Unlock()
		later.Advance(time.Minute)
		_, reverted, err := Restore(copied, d, key, tpm.Config{Clock: &later, Entropy: entropy.System()})
		return reverted, err
	}
	var last shown
	for _, c := range []struct {
		name     string
		spoil    func(path string) error
		reverted bool
	}{
		{"as old", func(string) error { return nil }, false},
		{"newer", nil, true},
		{"damaged", func(path string) error { return os.Truncate(path, 700) }, true},
		{"lost", os.Remove, true},
	} {
		path := filepath.Join(dir, permanentName)
		if c.spoil == nil {
			h, last = start(dir)
			h.Close()
		} else if err := c.spoil(path); err != nil {
			t.Fatal(err)
		}
		reverted, err := restore(dir)
		if err != nil || reverted != c.reverted {
			t.Errorf("%s: reverted %v, %v", c.name, reverted, err)
			continue
		}
		if !c.reverted {
			continue
		}
		h, now := start(dir)
		h.Close()
		if now.reset <= last.reset || now.safe {
			t.Errorf("%s: shown %+v, and then %+v", c.name, last, now)
		}
		last = now
	}
	other := t.TempDir()
	h, _ = start(other)
	h.Close()
	if _, err := restore(other); err == nil || !strings.Contains(err.Error(), "is another TPM") {
		t.Errorf("another TPM: %v", err)
	}
	d := lockedDir(t, t.TempDir())
	if _, _, err := Restore(copied, d, nil, testEngine()); err == nil {
		t.Error("without the key")
	}
	if _, _, err := Restore(filepath.Join(copied, "absent"), d, key, testEngine()); err == nil {
		t.Error("a copy that is not there")
	}
}
