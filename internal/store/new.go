package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/ashlar-cloud/ashlar/internal/disk"
)

// WriteNew makes a file of its owner's that no program keeps a state in. When it
// returns the file is durable. fs.ErrExist is in the error's chain where there is
// one already, which is left as it is; after any other error there is none.
func WriteNew(path string, b []byte) error { return writeNew(disk.System{}, path, b) }

func writeNew(fsys disk.FS, path string, b []byte) error {
	dir := filepath.Dir(path)
	tmp := filepath.Join(dir, ".new-"+rand.Text())
	err := fill(fsys, tmp, b, 0o600)
	if err == nil {
		err = place(fsys, tmp, path)
	}
	_ = fsys.Remove(tmp)
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, cause(err))
	}
	if err := fsys.SyncDir(dir); err != nil {
		_ = fsys.Remove(path)
		return fmt.Errorf("%s cannot be made durable: %w", path, cause(err))
	}
	return nil
}

// fill makes a file with durable content.
func fill(fsys disk.FS, path string, b []byte, mode fs.FileMode) error {
	h, err := fsys.Create(path, mode)
	if err != nil {
		return err
	}
	err = h.WriteAt(b, 0)
	if err == nil {
		err = h.Sync()
	}
	return errors.Join(err, h.Close())
}

// place gives a file a name that is free. A file system without hard links (FAT,
// 9p, some of FUSE) has no other operation for that which all systems know: there
// an empty file takes the name first, and is replaced.
func place(fsys disk.FS, from, to string) error {
	err := fsys.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	h, err := fsys.Create(to, 0o600)
	if err != nil {
		return err
	}
	if err = errors.Join(h.Close(), fsys.Rename(from, to)); err != nil {
		_ = fsys.Remove(to)
	}
	return err
}
