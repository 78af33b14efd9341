package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

// asideEnding is that of a file that was put aside.
const asideEnding = ".old"

// Supplant makes b, in a file of another program's called name, the state that counts
// in the directory, whose lock is held: the files called before are put aside until
// then, the one called name when it is replaced, and the files called after from then
// on, each as its name with ".old", and each where it is there. All is durable when it
// returns. After an error or a crash either the files called after are all there still,
// or name is b; the files called before are never beside b.
func (d *Dir) Supplant(name string, mode fs.FileMode, b []byte, before, after []string) error {
	tmp := filepath.Join(d.path, ".new-"+rand.Text())
	err := fill(d.fs, tmp, b, mode)
	if err == nil {
		err = d.putAside(before)
	}
	if err == nil {
		err = d.replace(tmp, filepath.Join(d.path, name))
	}
	_ = d.fs.Remove(tmp)
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", filepath.Join(d.path, name), cause(err))
	}
	if err := d.putAside(after); err != nil {
		return fmt.Errorf("%s is written, but not all of what it replaces could be put aside: %w", filepath.Join(d.path, name), err)
	}
	return nil
}

// putAside renames files that are there, one after the other.
func (d *Dir) putAside(names []string) error {
	for _, name := range names {
		path := filepath.Join(d.path, name)
		err := d.fs.Rename(path, path+asideEnding)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = d.fs.SyncDir(d.path)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, cause(err))
		}
	}
	return nil
}

// replace gives a file the name of another, which is kept. Without links, nothing has
// that name for a moment.
func (d *Dir) replace(from, to string) error {
	old := to + asideEnding
	if err := d.fs.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := d.fs.Link(to, old)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM) { // FAT, 9p, some of FUSE
		err = d.fs.Rename(to, old)
	}
	if err == nil { // in this order on the disk, too
		err = d.fs.SyncDir(d.path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.fs.Rename(from, to); err != nil {
		return err
	}
	return d.fs.SyncDir(d.path)
}
