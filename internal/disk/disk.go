// Package disk is the seam between saved states and the file system: the operating
// system's, and a simulated one, which fails, and loses its power, in every way that a
// file system allows.
package disk

import "io/fs"

// FS is a file system. Names and what files hold are durable when they were synced, and
// may be durable before that, in any order.
type FS interface {
	// Open opens a file that is there for reading and writing.
	Open(path string) (File, error)
	// Create makes a file; fs.ErrExist where there is one.
	Create(path string, mode fs.FileMode) (File, error)
	// Read gives what a file holds, of more than most bytes the first most+1.
	Read(path string, most int64) ([]byte, error)
	// Rename gives a file another name, in the place of one that has it.
	Rename(from, to string) error
	// Link gives a file a second name; fs.ErrExist where something has it.
	Link(from, to string) error
	// Remove takes a name away.
	Remove(path string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(path string) error
}

// File is an open file. Offsets and sizes are in bytes.
type File interface {
	Size() (int64, error)
	ReadAt(b []byte, off int64) error  // all of b
	WriteAt(b []byte, off int64) error // all of b
	// Sync makes what the file holds, and its size, durable.
	Sync() error
	Close() error
}
