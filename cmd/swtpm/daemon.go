package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ashlar-cloud/ashlar/internal/confine"
)

// daemonVariable tells a process that it is the daemon, and on which
// descriptor its parent waits for it to be ready.
const daemonVariable = "ASHLAR_SWTPM_READY_FD"

func isDaemon() bool { return os.Getenv(daemonVariable) != "" }

// daemonize starts this program again in the background, with the same
// descriptors, and waits until it is ready or has failed.
func daemonize(o *options) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	for _, fd := range o.descriptors() {
		for len(files) <= fd {
			files = append(files, nil)
		}
		files[fd] = os.NewFile(uintptr(fd), "inherited")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p, err := os.StartProcess(self, os.Args, &os.ProcAttr{
		Env:   append(os.Environ(), fmt.Sprintf("%s=%d", daemonVariable, len(files))),
		Files: append(files, w),
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return err
	}
	if n, _ := r.Read(make([]byte, 1)); n == 1 {
		return p.Release()
	}
	if _, err := p.Wait(); err != nil {
		return err
	}
	os.Exit(1) // it has said why
	return nil
}

// descriptors lists those that the options name.
func (o *options) descriptors() (fds []int) {
	text := strings.Join([]string{o.ctrl, o.server, o.log, o.pid, o.profile, o.pcap, o.key, o.migrationKey, "fd=" + o.fd}, ",")
	for part := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(part, "=")
		if fd, err := strconv.Atoi(value); err == nil && fd > 2 && fd < 1<<16 && (key == "fd" || key == "clientfd" || key == "pwdfd") {
			fds = append(fds, fd)
		}
	}
	return fds
}

// waiting is who waits until clients may come, reached while this process can still
// open everything.
type waiting struct {
	systemd net.Conn
	parent  *os.File // of a daemon
	null    *os.File // for a daemon's standard input, output and error
}

func whoWaits() (w waiting) {
	if path := os.Getenv("NOTIFY_SOCKET"); path != "" {
		if c, err := net.Dial("unixgram", path); err == nil {
			w.systemd = c
		}
	}
	fd, err := strconv.Atoi(os.Getenv(daemonVariable))
	_ = os.Unsetenv(daemonVariable)
	if err != nil {
		return w
	}
	syscall.CloseOnExec(fd)
	w.parent = os.NewFile(uintptr(fd), "ready")
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		w.null = null
	}
	return w
}

// tell says that clients may come.
func (w *waiting) tell() {
	if w.systemd != nil {
		_, _ = io.WriteString(w.systemd, "READY=1")
		w.systemd.Close()
	}
	if w.parent == nil {
		return
	}
	if w.null != nil {
		for i := range 3 {
			_ = unix.Dup2(int(w.null.Fd()), i)
		}
		w.null.Close()
	}
	_, _ = w.parent.Write([]byte{1})
	w.parent.Close()
}

// changeRoot makes a directory the root of all paths that the other options name, and
// of the accounts that --runas knows, as in swtpm. Go's threads share it.
func changeRoot(dir string) error {
	err := unix.Chroot(dir)
	if err == nil {
		err = unix.Chdir("/")
	}
	if err != nil {
		return fmt.Errorf("--chroot %s: %w", dir, err)
	}
	return nil
}

// runAs gives up the rights of the present user for those of another, by name or
// number. As for swtpm, a number needs no account; the group then has the same.
func runAs(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		n, err := strconv.ParseUint(name, 10, 31)
		if err != nil {
			return fmt.Errorf("--runas: there is no user '%s'", name)
		}
		return confine.Account{UID: int(n), GID: int(n), Groups: []int{int(n)}}.Become(name)
	}
	a, err := confine.AccountOf(u)
	if err != nil {
		return err
	}
	return a.Become(name)
}
