//go:build linux && (amd64 || arm64)

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// onData is the arguments of a swtpm that is on, with its data channel in a directory.
func onData(dir string, more ...string) []string {
	return append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--flags", "not-need-init,startup-clear",
		"--server", "type=unixio,path=" + join(dir, "data")}, more...)
}

// openTo makes a directory that everybody may use.
func openTo(t testing.TB) string {
	t.Helper()
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// threads reads one of the values in the kernel's status of every thread.
func (p *process) threads(key string) (values []string) {
	p.t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	if err != nil || len(files) == 0 {
		p.t.Fatalf("the process has no threads: %v: %s", err, p.errs)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if os.IsNotExist(err) { // it has ended
			continue
		}
		_, rest, ok := strings.Cut(string(b), "\n"+key+":")
		if err != nil || !ok {
			p.t.Fatalf("%s: no %s: %v", f, key, err)
		}
		line, _, _ := strings.Cut(rest, "\n")
		values = append(values, strings.TrimSpace(line))
	}
	return values
}

// wantThreads wants a value of all threads.
func (p *process) wantThreads(key, want string) {
	p.t.Helper()
	for _, v := range p.threads(key) {
		if v != want {
			p.t.Errorf("%s is %s, want %s", key, v, want)
		}
	}
}

// TestConfined reads from the kernel that every thread is confined, with the rights
// of --runas.
func TestConfined(t *testing.T) {
	dir := openTo(t)
	args := onData(dir)
	if os.Getuid() == 0 {
		args = append(args, "--runas", "nobody")
	}
	p := startProcess(t, swtpmCommand(t, args...))
	keepBusy(t, wire{p.dial("unix", join(dir, "data"))})
	for key, want := range map[string]string{"Seccomp": "2", "NoNewPrivs": "1", "CapEff": strings.Repeat("0", 16), "CapPrm": strings.Repeat("0", 16)} {
		p.wantThreads(key, want)
	}
	for _, ids := range append(p.threads("Uid"), p.threads("Gid")...) {
		if strings.HasPrefix(ids, "0\t") {
			t.Errorf("there is a thread of root: %s", ids)
		}
	}
	proc := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	limits, err := os.ReadFile(proc + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	if _, rest, _ := bytes.Cut(limits, []byte("Max core file size")); !bytes.HasPrefix(bytes.TrimSpace(rest), []byte("0 ")) {
		t.Errorf("core dumps are possible: %s", limits)
	}
	// The files in /proc of a process without dumps are root's.
	if st, err := os.Stat(proc + "/status"); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("a debugger of its user can be attached: %v %v", st, err)
	}
	if code := p.stop(); code != 0 || p.errs.Len() != 0 {
		t.Errorf("exit code %d: %s", code, p.errs)
	}
}

// keepBusy has keys made, which starts threads and collects garbage.
func keepBusy(t *testing.T, w wire) {
	t.Helper()
	for range 20 {
		k, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHNull, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(w)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (tpm2.FlushContext{FlushHandle: k.ObjectHandle}).Execute(w); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSeccompActions reads the kernel's mode for each action, and finds root warned
// and left with one capability.
func TestSeccompActions(t *testing.T) {
	for action, want := range map[string]string{"": "2", "action=kill": "2", "action=log": "2", "action=none": "0"} {
		t.Run(action, func(t *testing.T) {
			dir := shortDir(t)
			args := onData(dir)
			if action != "" {
				args = append(args, "--seccomp", action)
			}
			p := startProcess(t, swtpmCommand(t, args...))
			keepBusy(t, wire{p.dial("unix", join(dir, "data"))})
			p.wantThreads("Seccomp", want)
			p.wantThreads("NoNewPrivs", "1")
			if os.Getuid() == 0 {
				p.wantThreads("CapEff", "0000000000000002") // CAP_DAC_OVERRIDE
			}
			if code := p.stop(); code != 0 {
				t.Errorf("exit code %d: %s", code, p.errs)
			}
			if os.Getuid() == 0 && (strings.Count(p.errs.String(), "\n") != 1 || !strings.Contains(p.errs.String(), "--runas")) {
				t.Errorf("root is told: %s", p.errs)
			}
		})
	}
}

// TestRunAsNumber needs no account.
func TestRunAsNumber(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: nobody else can become another user, or change the root directory")
	}
	dir := openTo(t)
	p := startProcess(t, swtpmCommand(t, onData(dir, "--runas", "54321")...))
	keepBusy(t, wire{p.dial("unix", join(dir, "data"))})
	p.wantThreads("Uid", "54321\t54321\t54321\t54321")
	p.wantThreads("Gid", "54321\t54321\t54321\t54321")
	p.wantThreads("Groups", "54321")
	st, err := os.Stat(join(dir, "tpm2-00.ashlar"))
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != 54321 {
		t.Errorf("the state is not the user's: %v %v", st, err)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.errs)
	}
}

// TestChroot makes a directory the root of all paths, of a daemon's too.
func TestChroot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: nobody else can become another user, or change the root directory")
	}
	root := openTo(t)
	if err := os.Mkdir(join(root, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(join(root, "state"), 54321, 54321); err != nil {
		t.Fatal(err)
	}
	options := []string{"socket", "--tpm2", "--chroot", root, "--tpmstate", "dir=/state"}
	cmd := swtpmCommand(t, append(options, "--runas", "54321", "--ctrl", "type=unixio,path=/state/ctrl",
		"--pid", "file=/state/pid", "--log", "file=/state/log", "--daemon", "--flags", "not-need-init")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pid, err := os.ReadFile(join(root, "state/pid"))
	if err != nil {
		t.Fatal(err)
	}
	number := strings.TrimSpace(string(pid))
	if is, err := os.Readlink("/proc/" + number + "/root"); is != root {
		t.Errorf("the root is %q, %v", is, err)
	}
	c, err := net.Dial("unix", join(root, "state/ctrl"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte{0, 0, 0, 3}); err != nil { // SHUTDOWN
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(join(root, "state/pid")); os.IsNotExist(err) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not end, or leaves its pid file")
		}
	}
	out, err := swtpmCommand(t, append(options, "--print-states")...).Output()
	if err != nil || !strings.Contains(string(out), `"permall"`) {
		t.Errorf("--print-states: %s %v", out, err)
	}
	out, err = swtpmCommand(t, "socket", "--tpm2", "--chroot", join(root, "nowhere"), "--tpmstate", "dir=/state").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--chroot "+join(root, "nowhere")+": no such file or directory") {
		t.Errorf("a root that is not there: %s %v", out, err)
	}
}

// TestConfinedLife goes, confined and as another user, through what touches files
// and descriptors: sockets, pid file and log in other directories than the state, a
// daemon that systemd hears of, power on by INIT, a data channel that is passed,
// suspend, a full disk, the end.
func TestConfinedLife(t *testing.T) {
	state, run := openTo(t), openTo(t)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: join(run, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	if err := os.Chmod(join(run, "notify"), 0o777); err != nil {
		t.Fatal(err)
	}
	mounted := exec.Command("mount", "-t", "tmpfs", "-o", "size=192k,mode=777", "none", state).Run() == nil
	if mounted {
		t.Cleanup(func() { _ = exec.Command("umount", "-l", state).Run() })
	}
	args := []string{"socket", "--tpm2", "--daemon", "--tpmstate", "backend-uri=dir://" + state, "--ctrl", "type=unixio,path=" + join(run, "ctrl") + ",mode=0666",
		"--pid", "file=" + join(run, "pid"), "--log", "file=" + join(run, "log") + ",level=5"}
	if os.Getuid() == 0 {
		args = append(args, "--runas", "nobody")
	}
	cmd := swtpmCommand(t, args...)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+join(run, "notify"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_ = notify.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 64)
	if n, err := notify.Read(b); string(b[:n]) != "READY=1" {
		t.Errorf("systemd hears %q, %v", b[:n], err)
	}
	ctrl, err := net.Dial("unix", join(run, "ctrl"))
	if err != nil {
		t.Fatal(err)
	}
	defer ctrl.Close()
	life{t, ctrl.(*net.UnixConn), join(run, "log")}.all(state, mounted)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := filepath.Glob(join(run, "[cp]*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v are left", left)
		}
	}
}

// life is a control channel of a swtpm, and its log.
type life struct {
	t    *testing.T
	ctrl *net.UnixConn
	log  string
}

// ask sends a control command that answers n bytes, of which the first four are 0.
func (l life) ask(n int, cmd ...byte) {
	l.t.Helper()
	if _, err := l.ctrl.Write(cmd); err != nil {
		l.t.Fatal(err)
	}
	l.answered(n)
}

func (l life) answered(n int) {
	l.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(l.ctrl, b); err != nil || !bytes.Equal(b[:4], make([]byte, 4)) {
		log, _ := os.ReadFile(l.log)
		l.t.Fatalf("the control channel answers %x, %v\n%s", b, err, log)
	}
}

func (l life) all(state string, mounted bool) {
	const cmdInit, cmdShutdown, cmdStoreVolatile, cmdStop, cmdSetDataFD = 2, 3, 10, 14, 16
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, _, err := l.ctrl.WriteMsgUnix([]byte{0, 0, 0, cmdSetDataFD}, syscall.UnixRights(fds[1]), nil); err != nil {
		l.t.Fatal(err)
	}
	l.answered(4)
	syscall.Close(fds[1])
	f := os.NewFile(uintptr(fds[0]), "data")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	w := wire{c}
	l.ask(4, 0, 0, 0, cmdInit, 0, 0, 0, 0)
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(w); err != nil {
		l.t.Fatal(err)
	}
	keepBusy(l.t, w)
	if mounted {
		l.fillDisk(w, state)
	}
	l.ask(4, 0, 0, 0, cmdStoreVolatile)
	if _, err := os.Stat(join(state, "tpm2-00.ashlar-volatile")); err != nil {
		l.t.Error(err)
	}
	l.ask(4, 0, 0, 0, cmdStop)
	l.ask(4, 0, 0, 0, cmdInit, 0, 0, 0, 1)
	keepBusy(l.t, w)
	l.ask(4, 0, 0, 0, cmdShutdown)
}

// fillDisk has the state grow until there is no room, and heal.
func (l life) fillDisk(w wire, state string) {
	filler := join(state, "filler")
	_ = os.WriteFile(filler, make([]byte, 300<<10), 0o600) // as much as fits
	var err error
	n := 0
	fill := func() error {
		index := uint32(ordinaryIndex + 0x100 + n)
		_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, DataSize: 1024,
			Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true}})}.Execute(w)
		if err != nil && !errors.Is(err, tpm2.TPMRCNVDefined) {
			return err
		}
		_, err = tpm2.NVWrite{AuthHandle: named(index), Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, 1024)},
			NVIndex: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: tpm2.TPM2BName{Buffer: []byte{0}}}}.Execute(w)
		return err
	}
	for ; n < 64 && err == nil; n++ {
		err = fill()
	}
	if !errors.Is(err, tpm2.TPMRCNVUnavailable) {
		l.t.Errorf("a full disk after %d indices: %v", n, err)
	}
	if err := os.Remove(filler); err != nil {
		l.t.Fatal(err)
	}
	n--
	if err := fill(); err != nil {
		l.t.Errorf("there is room again: %v", err)
	}
}
