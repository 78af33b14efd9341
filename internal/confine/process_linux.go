package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const withCgo lack = "this build of the program holds cgo and keeps its rights: build it with CGO_ENABLED=0"

// Apply takes from this process, with all its threads, whatever is not in the plan.
// What is open stays open. It cannot be undone. In lacking are sentences on what the
// kernel or this build of the program cannot do; the rest was done.
func Apply(p Plan) (lacking []string, err error) {
	steps := []func() error{
		dropRights,
		func() error { return keepFiles(p) },
		func() error { return keepCalls(p.Calls) },
	}
	for i, step := range steps {
		err := step()
		lacks, ok := errors.AsType[lack](err)
		last := i == len(steps)-1 || err == withCgo
		switch {
		case err == nil:
		case !ok, last && p.Insist:
			return nil, err
		default:
			lacking = append(lacking, string(lacks))
		}
		if last {
			break
		}
	}
	return lacking, nil
}

// dropRights gives up what no server of open files needs: core dumps and debuggers
// of the same user, which would show secrets; more rights by a program that is
// executed; capabilities; what others than owner and group could do with its new
// files. Of root's capabilities one stays, CAP_DAC_OVERRIDE, so that root may
// serve a directory of another user.
func dropRights() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("core dumps cannot be ruled out: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("core dumps cannot be ruled out: %w", err)
	}
	unix.Umask(unix.Umask(0o777) | 0o027)
	_, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	switch {
	case e == syscall.ENOTSUP: // of Go, where there may be threads of others
		return withCgo
	case e != 0:
		return fmt.Errorf("the way to new rights cannot be closed: %w", e)
	}
	if err := dropCapabilities(); err != nil {
		return fmt.Errorf("capabilities cannot be given up: %w", err)
	}
	return nil
}

func dropCapabilities() error {
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // 64 capabilities
	if err := unix.Capget(header, &data[0]); err != nil {
		return err
	}
	if data == [2]unix.CapUserData{} {
		return nil
	}
	var kept uint32
	if os.Geteuid() == 0 {
		kept = data[0].Permitted & (1 << unix.CAP_DAC_OVERRIDE)
	}
	next := &[2]unix.CapUserData{{Effective: kept, Permitted: kept}}
	_, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(header)), uintptr(unsafe.Pointer(next)), 0)
	runtime.KeepAlive(header)
	runtime.KeepAlive(next)
	if e != 0 {
		return e
	}
	return nil
}
