package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

// asOwner runs f, where this is root, with the rights on files of who owns a directory
// or a file: a TPM's process may have been broken into, and what it has put there must
// not lead root elsewhere; and what f makes there is that user's. On a network file
// system root may have no rights at all.
func asOwner(path string, f func() error) error {
	if os.Geteuid() != 0 {
		return f()
	}
	st, err := owner(path)
	if err != nil {
		return err
	}
	if st.Uid == 0 {
		return f()
	}
	result := make(chan error)
	go func() {
		// The rights are this thread's, which ends with the goroutine.
		runtime.LockOSThread()
		if err := become(int(st.Uid), int(st.Gid)); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}

// become gives the thread the rights on files of a user and a group.
func become(uid, gid int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return fmt.Errorf("the groups of root cannot be left: %w", errno)
	}
	// They tell of no failure, but of what was before.
	_, _ = unix.SetfsgidRetGid(gid)
	_, _ = unix.SetfsuidRetUid(uid)
	g, _ := unix.SetfsgidRetGid(-1)
	u, _ := unix.SetfsuidRetUid(-1)
	if u != uid || g != gid {
		return fmt.Errorf("the rights of user %d and group %d cannot be had", uid, gid)
	}
	return nil
}

func owner(path string) (*syscall.Stat_t, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	return info.Sys().(*syscall.Stat_t), nil
}

// sameOwner refuses a directory with state files of another user's than its own: what
// is made there would be one's that the other cannot read.
func sameOwner(dir string) error {
	d, err := owner(dir)
	if err != nil {
		return err
	}
	for _, name := range swtpm.StateNames() {
		if f, err := owner(filepath.Join(dir, name)); err == nil && f.Uid != d.Uid {
			return fmt.Errorf("%s and its directory belong to different users (%d and %d): give both to the one that its TPM runs as",
				filepath.Join(dir, name), f.Uid, d.Uid)
		}
	}
	return nil
}

// writable gives the file system of a directory and how many bytes are free there, or
// why nothing can be written.
func writable(dir string) (device uint64, free int64, err error) {
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return 0, 0, fmt.Errorf("nothing can be written there: %w", err)
	}
	st, err := owner(dir)
	if err != nil {
		return 0, 0, err
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return uint64(st.Dev), int64(s.Bavail) * int64(s.Bsize), nil
}
