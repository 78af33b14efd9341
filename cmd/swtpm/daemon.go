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

// ready tells who waits for it, a parent or systemd, that clients may come.
func ready() {
	if path := os.Getenv("NOTIFY_SOCKET"); path != "" {
		if c, err := net.Dial("unixgram", path); err == nil {
			_, _ = io.WriteString(c, "READY=1")
			c.Close()
		}
	}
	fd, err := strconv.Atoi(os.Getenv(daemonVariable))
	_ = os.Unsetenv(daemonVariable)
	if err != nil {
		return
	}
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		for i := range 3 {
			_ = unix.Dup2(int(null.Fd()), i)
		}
		null.Close()
	}
	w := os.NewFile(uintptr(fd), "ready")
	_, _ = w.Write([]byte{1})
	w.Close()
}

// runAs gives up the rights of the present user for those of another.
func runAs(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return fmt.Errorf("--runas: there is no user '%s'", name)
		}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("--runas: user '%s' has no numbers", name)
	}
	groups := []int{gid}
	if ids, err := u.GroupIds(); err == nil {
		groups = groups[:0]
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil {
				groups = append(groups, n)
			}
		}
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("--runas: the groups of '%s' cannot be taken: %w", name, err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("--runas: the group of '%s' cannot be taken: %w", name, err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("--runas: '%s' cannot be taken: %w", name, err)
	}
	return nil
}
