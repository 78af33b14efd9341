package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestBackup loses, and damages, a file that has a backup.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	open := func(backup bool) (*Dir, *File) {
		d, err := OpenDir(dir, Options{Mode: 0o600, Backup: backup})
		if err != nil {
			t.Fatal(err)
		}
		return d, d.BackedFile("tpm")
	}
	d, f := open(true)
	if err := d.Lock(0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	v, err := f.Swap(0, sample(0))
	if err == nil {
		_, err = f.Swap(v, sample(1))
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tpm")
	for _, c := range []struct {
		name  string
		spoil func()
	}{ // in this order: what was damaged stays
		{"lost", func() { _ = os.Remove(path) }},
		{"damaged", func() {
			b, _ := os.ReadFile(path)
			b[700] ^= 1
			_ = os.WriteFile(path, b, 0o600)
		}},
	} {
		name := c.name
		_ = d.Unlock()
		c.spoil()
		// Who has no lock reads the backup, and changes nothing.
		_, reader := open(true)
		if b := load(t, reader); !bytes.Equal(b, sample(1)) || reader.Restored() {
			t.Errorf("%s: a reader has %d bytes", name, len(b))
		}
		_, plain := open(false)
		if _, _, err := plain.Load(); err == nil {
			t.Errorf("%s: there is a state without the backup", name)
		}
		d, owner := open(true)
		if err := d.Lock(0); err != nil {
			t.Fatal(err)
		}
		if b := load(t, owner); !bytes.Equal(b, sample(1)) || !owner.Restored() || owner.Restored() {
			t.Errorf("%s: the owner has %d bytes", name, len(b))
		}
		owner.Close()
		if b := load(t, plain); !bytes.Equal(b, sample(1)) {
			t.Errorf("%s: the file has %d bytes", name, len(b))
		}
		_, err := os.Stat(path + damagedEnding)
		if kept := err == nil; kept != (name == "damaged") {
			t.Errorf("%s: what was damaged is kept: %v", name, kept)
		}
		_ = d.Unlock()
	}
	// A backup that is damaged itself is made anew; one beside no file hides nothing.
	if err := d.Lock(0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+backupEnding, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, v, err = f.Load()
	if err != nil {
		t.Fatal(err)
	}
	f.backup.Close()
	if _, err := f.Swap(v, sample(2)); err != nil || !bytes.Equal(load(t, d.File("tpm"+backupEnding)), sample(2)) {
		t.Errorf("a damaged backup: %v", err)
	}
	_ = os.Remove(path)
	if err := os.WriteFile(path+backupEnding, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Load(); !errors.Is(err, ErrDamaged) {
		t.Errorf("a lost file and a damaged backup: %v", err)
	}
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 { // .lock, tpm.damaged
		t.Errorf("%v is left", list)
	}
}
