//go:build linux && (amd64 || arm64)

package confine

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a test process that confines itself is told: what to try, with which action
// against system calls, and where.
const (
	tryVariable    = "ASHLAR_TEST_CONFINED"
	actionVariable = "ASHLAR_TEST_CONFINED_ACTION"
	dirVariable    = "ASHLAR_TEST_CONFINED_DIR"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(tryVariable); name != "" {
		os.Exit(confined(name))
	}
	os.Exit(m.Run())
}

// Exit codes of a test process.
const (
	exitDone = iota
	exitDenied
	exitNoCgo
	exitBroken
)

// confined confines this process to dir/kept, and to removing in dir/removed, and
// tries one thing.
func confined(name string) int {
	dir := os.Getenv(dirVariable)
	tries := forbiddenCalls()
	maps.Copy(tries, forbiddenFiles(dir))
	for name, o := range forbiddenOthers() {
		tries[name] = o.try
	}
	tries["work"] = func() error { return work(dir) }
	try := tries[name]
	_, err := Apply(Plan{Dirs: []string{dir + "/kept"}, Files: []string{dir + "/other/single"}, Remove: []string{dir + "/removed/socket"},
		Calls: Action(os.Getenv(actionVariable)), Insist: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if err == withCgo {
			return exitNoCgo
		}
		return exitBroken
	}
	err = try()
	fmt.Fprintln(os.Stderr, err)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EXDEV):
		return exitDenied
	}
	return exitBroken
}

// runConfined runs a test process to its end.
func runConfined(t *testing.T, name string, action Action) (*os.ProcessState, string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"kept", "removed", "other"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, d), 0o777), os.WriteFile(filepath.Join(dir, d, "file"), []byte("x"), 0o600),
			os.WriteFile(filepath.Join(dir, d, "single"), []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), tryVariable+"="+name, actionVariable+"="+string(action), dirVariable+"="+dir)
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if cmd.ProcessState.ExitCode() == exitNoCgo {
		t.Skip("this test binary holds cgo and cannot be confined: make test runs it with CGO_ENABLED=0, too")
	}
	return cmd.ProcessState, out.String()
}

// raw makes a system call whose arguments do not matter: it must not be reached.
func raw(call uintptr, args ...uintptr) func() error {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, e := syscall.RawSyscall6(call, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
			return e
		}
		return nil
	}
}

// forbiddenCalls are what the filter kills for, with arguments that would do no harm.
func forbiddenCalls() map[string]func() error {
	page := uintptr(os.Getpagesize())
	return map[string]func() error{
		"exec":              func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
		"execveat":          raw(unix.SYS_EXECVEAT, ^uintptr(0), 0, 0, 0, 0),
		"fork":              raw(unix.SYS_CLONE, uintptr(syscall.SIGCHLD)|unix.CLONE_VM|unix.CLONE_PARENT<<40),
		"clone3":            raw(unix.SYS_CLONE3, 0, 0),
		"thread of another": raw(unix.SYS_CLONE, anyThread|unix.CLONE_NEWUSER),
		"socket":            func() error { _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
		"socketpair":        func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
		"bind":              func() error { return unix.Bind(0, &unix.SockaddrInet4{}) },
		"connect":           func() error { return unix.Connect(0, &unix.SockaddrInet4{}) },
		"listen":            func() error { return unix.Listen(0, 1) },
		"ptrace":            raw(unix.SYS_PTRACE, unix.PTRACE_TRACEME),
		"mount":             func() error { return unix.Mount("none", "/nowhere", "tmpfs", 0, "") },
		"chroot":            func() error { return unix.Chroot("/nowhere") },
		"unshare":           func() error { return unix.Unshare(unix.CLONE_FS) },
		"setns":             func() error { return unix.Setns(-1, 0) },
		"bpf":               raw(unix.SYS_BPF, ^uintptr(0)),
		"keyctl":            raw(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID),
		"io_uring":          raw(unix.SYS_IO_URING_SETUP, 0, 0),
		"process_vm_readv":  raw(unix.SYS_PROCESS_VM_READV, uintptr(os.Getppid())),
		"process_vm_writev": raw(unix.SYS_PROCESS_VM_WRITEV, uintptr(os.Getppid())),
		"open_by_handle":    raw(unix.SYS_OPEN_BY_HANDLE_AT, ^uintptr(0), 0, 0),
		"userfaultfd":       raw(unix.SYS_USERFAULTFD, ^uintptr(0)),
		"memfd":             raw(unix.SYS_MEMFD_CREATE, 0, 0),
		"perf":              raw(unix.SYS_PERF_EVENT_OPEN, 0),
		"seccomp":           raw(unix.SYS_SECCOMP, ^uintptr(0)),
		"setuid":            raw(unix.SYS_SETUID, uintptr(os.Getuid())),
		"prlimit":           raw(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, 0, 0),
		"ioctl":             raw(unix.SYS_IOCTL, 0, 0),
		"chmod":             raw(unix.SYS_FCHMODAT, ^uintptr(0), 0, 0),
		"mkdir":             raw(unix.SYS_MKDIRAT, ^uintptr(0), 0, 0),
		"link":              raw(unix.SYS_LINKAT, ^uintptr(0), 0, ^uintptr(0), 0, 0),
		"dumpable":          raw(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1),
		"signal":            raw(unix.SYS_KILL, uintptr(os.Getppid()), 0),
		"signal to thread":  raw(unix.SYS_TGKILL, uintptr(os.Getppid()), uintptr(os.Getppid()), 0),
		"code":              raw(unix.SYS_MMAP, 0, page, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0),
		"memory to code":    raw(unix.SYS_MPROTECT, 0, page, unix.PROT_READ|unix.PROT_EXEC),
		"no call":           raw(5000),
	}
}

// TestForbiddenCallsKill tries each call confined, and finds the process dead.
func TestForbiddenCallsKill(t *testing.T) {
	for name := range forbiddenCalls() {
		t.Run(name, func(t *testing.T) {
			state, out := runConfined(t, name, Kill)
			if ws := state.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGSYS {
				t.Errorf("%v: %s", state, out)
			}
		})
	}
}

// TestLogLetsGo: with the action log, the call is made.
func TestLogLetsGo(t *testing.T) {
	if state, out := runConfined(t, "socketpair", Log); state.ExitCode() != exitDone {
		t.Errorf("%v: %s", state, out)
	}
}

// forbiddenFiles are what Landlock refuses without a filter.
func forbiddenFiles(dir string) map[string]func() error {
	open := func(path string, flags int) func() error {
		return func() error {
			f, err := os.OpenFile(path, flags, 0o600)
			if err == nil {
				f.Close()
			}
			return err
		}
	}
	return map[string]func() error{
		"read outside":      open("/etc/passwd", os.O_RDONLY),
		"read beside":       open(dir+"/other/file", os.O_RDONLY),
		"write beside":      open(dir+"/other/file", os.O_WRONLY),
		"write to removed":  open(dir+"/removed/file", os.O_WRONLY),
		"create beside":     open(dir+"/other/new", os.O_CREATE|os.O_WRONLY),
		"create in removed": open(dir+"/removed/new", os.O_CREATE|os.O_WRONLY),
		"list beside":       open(dir+"/other", os.O_RDONLY),
		"own memory":        open("/proc/self/mem", os.O_RDWR),
		"device":            open("/dev/null", os.O_RDWR),
		"remove beside":     func() error { return os.Remove(dir + "/other/file") },
		"rename out":        func() error { return os.Rename(dir+"/kept/file", dir+"/other/new") },
		"rename in":         func() error { return os.Rename(dir+"/other/file", dir+"/kept/new") },
		"link in":           func() error { return os.Link(dir+"/other/file", dir+"/kept/new") },
		"symlink":           func() error { return os.Symlink("/etc/passwd", dir+"/kept/new") },
		"mkdir":             func() error { return os.Mkdir(dir+"/kept/new", 0o700) },
		"program":           func() error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
		"mount again":       func() error { return unix.Mount("none", dir+"/kept", "tmpfs", 0, "") },
	}
}

// TestForbiddenFilesAreDenied tries each with Landlock alone.
func TestForbiddenFilesAreDenied(t *testing.T) {
	if version, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); e != 0 || version < 1 {
		t.Skip("this kernel has no Landlock")
	}
	for name := range forbiddenFiles("") {
		t.Run(name, func(t *testing.T) {
			if state, out := runConfined(t, name, None); state.ExitCode() != exitDenied {
				t.Errorf("%v: %s", state, out)
			}
		})
	}
}

// other is what Landlock refuses from a version on.
type other struct {
	version int
	try     func() error
}

// abstractName is a socket that the test listens on.
func abstractName(pid int) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("@ashlar-confine-%d", pid)}
}

func forbiddenOthers() map[string]other {
	with := func(domain int, f func(fd int) error) func() error {
		return func() error {
			fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return f(fd)
		}
	}
	loopback := &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}}
	return map[string]other{
		"TCP connection":  {4, with(unix.AF_INET, func(fd int) error { return unix.Connect(fd, loopback) })},
		"TCP port":        {4, with(unix.AF_INET, func(fd int) error { return unix.Bind(fd, &unix.SockaddrInet4{Port: 65000}) })},
		"abstract socket": {6, with(unix.AF_UNIX, func(fd int) error { return unix.Connect(fd, abstractName(os.Getppid())) })},
		"signal to other": {7, func() error { return unix.Kill(os.Getppid(), 0) }},
	}
}

// TestForbiddenOthersAreDenied tries with Landlock alone what is beyond files.
func TestForbiddenOthersAreDenied(t *testing.T) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, abstractName(os.Getpid())), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	version, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	for name, o := range forbiddenOthers() {
		t.Run(name, func(t *testing.T) {
			if e != 0 || int(version) < o.version {
				t.Skipf("this kernel's Landlock has version %d, and this needs %d", version, o.version)
			}
			if state, out := runConfined(t, name, None); state.ExitCode() != exitDenied {
				t.Errorf("%v: %s", state, out)
			}
		})
	}
}

// TestWork does under the whole of it what a TPM's process does.
func TestWork(t *testing.T) {
	if state, out := runConfined(t, "work", Kill); state.ExitCode() != exitDone {
		t.Errorf("%v: %s", state, out)
	}
}

// work does what must go on, with threads, signals, timers and garbage.
func work(dir string) error {
	var group sync.WaitGroup
	for range 40 { // each blocks a thread, so that the runtime makes them
		group.Go(func() {
			runtime.LockOSThread()
			ts := unix.NsecToTimespec(int64(20 * time.Millisecond))
			_, _, _ = unix.Syscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
		})
	}
	group.Wait() // and these threads end, being locked
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		return err
	}
	<-signals
	signal.Reset(syscall.SIGUSR1)
	for i := range 20 {
		garbage := make([][]byte, 0, 64)
		for range 64 {
			garbage = append(garbage, make([]byte, 64<<10))
		}
		group.Go(func() { // loops that only a signal preempts
			for n := 0; n < 20_000_000; n++ {
			}
		})
		runtime.KeepAlive(garbage)
		if i%5 == 0 {
			debug.FreeOSMemory()
		}
	}
	group.Wait()
	runtime.GC()
	select {
	case <-time.After(10 * time.Millisecond):
	case <-time.NewTimer(time.Minute).C:
	}
	if _, err := rand.Read(make([]byte, 512)); err != nil {
		return err
	}
	return workOnFiles(dir)
}

func workOnFiles(dir string) error {
	kept := dir + "/kept/"
	f, err := os.OpenFile(kept+"new.tmp", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("state"), 0); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o600), syscall.Fdatasync(int(f.Fd())), f.Sync(), f.Truncate(3)); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(kept+"new.tmp", kept+"file"), os.WriteFile(kept+"more", []byte("x"), 0o666)); err != nil {
		return err
	}
	d, err := os.Open(kept)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return err
	}
	b, err := os.ReadFile(kept + "file")
	if err != nil || string(b) != "sta" {
		return fmt.Errorf("%q is read: %w", b, err)
	}
	st, err := os.Stat(kept + "more")
	if err != nil || st.Mode().Perm()&0o027 != 0 {
		return fmt.Errorf("the umask does not hold: %v, %w", st, err)
	}
	single, err := os.OpenFile(dir+"/other/single", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer single.Close()
	if _, err := single.WriteAt([]byte("y"), 0); err != nil {
		return err
	}
	return errors.Join(single.Sync(), os.Remove(kept+"more"), os.Remove(dir+"/removed/file"))
}
