package confine

import (
	"fmt"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Access rights by the version of Landlock's interface that brought them.
const (
	rights1 = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // EXECUTE to MAKE_SYM
	rights2 = rights1 | unix.LANDLOCK_ACCESS_FS_REFER
	rights3 = rights2 | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	rights5 = rights3 | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	// What stays of a file, and of a directory and the files in it.
	rightsFile = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	rightsKept = rightsFile | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_REG
)

// erratumSignals is the bit of the correction after which threads of one process
// may signal each other whatever their domains; Go's runtime does that all the time.
const erratumSignals = 1 << 1

// ruleset is all that a version of Landlock can take away.
func ruleset(version, errata int) (a unix.LandlockRulesetAttr) {
	switch {
	case version >= 5:
		a.Handled_access_fs = rights5
	case version >= 3:
		a.Handled_access_fs = rights3
	case version == 2:
		a.Handled_access_fs = rights2
	default:
		a.Handled_access_fs = rights1
	}
	if version >= 4 {
		a.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 6 {
		a.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		if errata&erratumSignals != 0 {
			a.Scoped |= unix.LANDLOCK_SCOPE_SIGNAL
		}
	}
	return a
}

// keepFiles leaves of the file system what is in a plan. With the rest go, as far as
// the kernel knows how (Landlock's ABI 4 and 6), new TCP connections and listeners,
// abstract sockets of others, and signals to others.
func keepFiles(plan Plan) error {
	version, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return lack("the kernel has no Landlock: the program keeps its user's files")
	}
	errata, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_ERRATA)
	if e != 0 {
		errata = 0
	}
	attr := ruleset(int(version), int(errata))
	fd, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if e != 0 {
		return fmt.Errorf("no rules for Landlock can be made: %w", e)
	}
	defer unix.Close(int(fd))
	for _, k := range plan.keeps() {
		if err := allow(int(fd), k.path, k.rights&attr.Handled_access_fs); err != nil {
			return err
		}
	}
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); e != 0 {
		return fmt.Errorf("the rules for Landlock cannot be put in force: %w", e)
	}
	return nil
}

// keep is a directory or a file, and the rights that stay.
type keep struct {
	path   string
	rights uint64
}

func (p *Plan) keeps() (list []keep) {
	for _, dir := range p.Dirs {
		list = append(list, keep{dir, rightsKept})
	}
	for _, file := range p.Files {
		list = append(list, keep{file, rightsFile})
	}
	for _, file := range p.Remove {
		list = append(list, keep{filepath.Dir(file), unix.LANDLOCK_ACCESS_FS_REMOVE_FILE})
	}
	return list
}

// allow adds rights for what is in a directory, or for a file.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s cannot be used: %w", path, err)
	}
	defer unix.Close(fd)
	attr := &unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(attr)), 0, 0, 0)
	runtime.KeepAlive(attr)
	if e != 0 {
		return fmt.Errorf("%s cannot be kept: %w", path, e)
	}
	return nil
}
