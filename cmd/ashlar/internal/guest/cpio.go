package guest

import (
	"fmt"
	"io"
	"io/fs"
)

// The file types of a cpio header's mode field, as in stat(2).
const (
	cpioFile    = 0o100000
	cpioDir     = 0o040000
	cpioSymlink = 0o120000
)

// cpioMax is the largest member written: newc has 32-bit sizes, and the kernel
// unpacks the archive into the guest's memory.
const cpioMax = 256 << 20

// cpioWriter writes the "newc" archive that Linux takes as an initramfs
// (Documentation/driver-api/early-userspace/buffer-format). Times and owners are
// zero and inode numbers count up, so that equal contents make equal bytes: the
// archive is measured at every boot.
type cpioWriter struct {
	w     io.Writer
	inode uint32
	err   error
}

// file adds a regular file.
func (c *cpioWriter) file(name string, perm fs.FileMode, data []byte) {
	c.member(name, cpioFile|uint32(perm.Perm()), data)
}

// dir adds a directory; parents must come first.
func (c *cpioWriter) dir(name string) { c.member(name, cpioDir|0o755, nil) }

// symlink adds a symbolic link to target.
func (c *cpioWriter) symlink(name, target string) {
	c.member(name, cpioSymlink|0o777, []byte(target))
}

// close writes the trailer and gives the first error of all writes.
func (c *cpioWriter) close() error {
	c.member("TRAILER!!!", 0, nil)
	return c.err
}

func (c *cpioWriter) member(name string, mode uint32, data []byte) {
	if c.err == nil && len(data) > cpioMax {
		c.err = fmt.Errorf("%s is %d bytes; an initramfs member may have %d", name, len(data), cpioMax)
	}
	if c.err != nil {
		return
	}
	c.inode++
	links := 1
	if mode&cpioDir != 0 {
		links = 2
	}
	// magic, ino, mode, uid, gid, nlink, mtime, filesize, device and rdevice
	// numbers (major, minor each), namesize with its NUL, and an unused checksum.
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	c.padded([]byte(header))
	c.padded(data)
}

// padded writes b and zeros up to the next multiple of four bytes.
func (c *cpioWriter) padded(b []byte) {
	for _, part := range [][]byte{b, make([]byte, -len(b)&3)} {
		if c.err == nil {
			_, c.err = c.w.Write(part)
		}
	}
}
