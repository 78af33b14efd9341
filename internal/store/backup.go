package store

import (
	"errors"
	"fmt"
	"io/fs"
)

// Endings of the files beside a state's.
const (
	backupEnding  = ".bak"
	damagedEnding = ".damaged"
)

// BackedFile gives the state called name as File does. With the option Backup it
// is kept twice: the copy, called name with ".bak", holds the newest state too and
// is written first, so that a swap takes twice the time.
func (d *Dir) BackedFile(name string) *File {
	f := d.File(name)
	if d.opt.Backup {
		f.backup = d.File(name + backupEnding)
	}
	return f
}

// KeepBackup has a backup written that is there from when the option was given, so that
// it is not left with a state that is not to be had any more.
func (f *File) KeepBackup() {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := f.path + backupEnding
	if h, err := f.dir.fs.Open(path); err == nil {
		h.Close()
		if f.backup == nil {
			f.backup = &File{dir: f.dir, path: path}
		}
	}
}

// put makes the file hold a state, whatever it held.
func (f *File) put(state []byte) error {
	if !f.loaded {
		_, _, err := f.Load()
		if errors.Is(err, ErrDamaged) {
			err = f.Remove() // it is a copy, and a new one is at hand
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_, err := f.Swap(Version(f.version), state)
	return err
}

// restore gives the state of the backup of a file that could not be loaded, for the
// given reason. Under the lock the file is made anew of it; one that was damaged is
// kept beside it. Without a backup the reason stands.
func (f *File) restore(reason error) ([]byte, error) {
	state, _, err := f.backup.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, reason
	case err != nil:
		return nil, fmt.Errorf("%v, nor its backup: %w", cause(reason), err)
	case !f.dir.Locked():
		return state, nil
	}
	if !errors.Is(reason, fs.ErrNotExist) {
		if err := f.dir.fs.Rename(f.path, f.path+damagedEnding); err != nil {
			return nil, err
		}
	}
	f.forget()
	if err := f.create(state); err != nil {
		return nil, fmt.Errorf("it cannot be made anew of %s: %w", f.backup.path, err)
	}
	f.restored = true
	return state, nil
}

// Restored reports whether the file was made anew of its backup since it was last
// asked.
func (f *File) Restored() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.restored
	f.restored = false
	return was
}
