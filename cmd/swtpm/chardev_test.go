package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestChardev serves a device that is open already, for which a socket stands, and
// ends with it.
func TestChardev(t *testing.T) {
	for _, c := range []struct {
		option   string
		locality uint32 // what the kernel's SetLocality is answered
	}{
		{"reject-locality-4", 0x101},
		{"allow-set-locality", 0},
	} {
		dir := shortDir(t)
		ours, theirs := filePair(t)
		cmd := swtpmCommand(t, "chardev", "--tpm2", "--tpmstate", "dir="+dir, "--fd", "3", "--flags", "startup-clear",
			"--locality", c.option, "--ctrl", "type=unixio,path="+join(dir, "c"), "--pid", "file="+join(dir, "pid"))
		cmd.ExtraFiles = []*os.File{theirs}
		p := startProcess(t, cmd)
		theirs.Close()
		conn, err := net.FileConn(ours)
		if err != nil {
			t.Fatal(err)
		}
		ours.Close()
		defer conn.Close()
		wantCode(t, wire{conn}, "\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08", 0) // GetRandom
		wantCode(t, wire{conn}, "\x80\x01\x00\x00\x00\x0b\x20\x00\x10\x00\x03", c.locality)
		// The simulator's prefix is no way to another locality here.
		wantCode(t, wire{conn}, "\x00\x00\x00\x08\x03\x00\x00\x00\x0c\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08", 0x84)
		if r := runTool(t, calledAs(t, "swtpm_ioctl", "--unix", "c", "-c"), dir, ""); r.out != "ptm capability is 0x1ffff\n" {
			t.Errorf("control channel: %+v", r)
		}
		conn.Close()
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d when the device was closed: %s", code, p.errs)
		}
		if _, err := os.Stat(join(dir, "pid")); err == nil {
			t.Error("the pid file is left")
		}
	}
}

// TestChardevEnds ends a server that waits for its device, by a signal and by the
// control channel.
func TestChardevEnds(t *testing.T) {
	for _, by := range []string{"signal", "SHUTDOWN"} {
		dir := shortDir(t)
		_, theirs := filePair(t)
		cmd := swtpmCommand(t, "chardev", "--tpm2", "--tpmstate", "dir="+dir, "-f", "3", "--ctrl", "type=unixio,path="+join(dir, "c"))
		cmd.ExtraFiles = []*os.File{theirs}
		p := startProcess(t, cmd)
		c := p.dial("unix", join(dir, "c"))
		awaitAnswer(t, p, c)
		c.Close()
		if by == "signal" {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		} else if r := runTool(t, calledAs(t, "swtpm_ioctl", "--unix", "c", "-s"), dir, ""); r.code != 0 {
			t.Errorf("%+v", r)
		}
		if code := p.wait(); code != 0 {
			t.Errorf("%s: exit code %d: %s", by, code, p.errs)
		}
	}
}

// TestChardevPath opens a device by its path: the end of a pseudo-terminal.
func TestChardevPath(t *testing.T) {
	master, path := pseudoTerminal(t)
	dir := shortDir(t)
	p := startProcess(t, swtpmCommand(t, "chardev", "--tpm2", "--tpmstate", "dir="+dir, "-c", path, "--flags", "startup-clear"))
	wantCode(t, master, "\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08", 0)
	wantCode(t, master, "\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x00", 0x100) // Startup was sent
	master.Close()
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d when the terminal was closed: %s", code, p.errs)
	}
}

// TestBIOSOnDevice starts a TPM through a device, as swtpm_bios finds one.
func TestBIOSOnDevice(t *testing.T) {
	master, path := pseudoTerminal(t)
	dir := shortDir(t)
	cmd := swtpmCommand(t, "chardev", "--tpm2", "--tpmstate", "dir="+dir, "--fd", "3", "--flags", "not-need-init")
	cmd.ExtraFiles = []*os.File{master}
	startProcess(t, cmd)
	if r := runTool(t, calledAs(t, "swtpm_bios", "--tpm2", "--tpm-device", path, "-cs"), dir, ""); r != (toolRun{}) {
		t.Errorf("%+v", r)
	}
	again := calledAs(t, "swtpm_bios", "--tpm2")
	again.Env = append(again.Env, "TPM_DEVICE="+path)
	if r := runTool(t, again, dir, ""); r.code != 128 || r.out != "TPM2_Startup returned error code 0x00000100\n" {
		t.Errorf("a second Startup: %+v", r)
	}
}

// TestVTPMProxy checks what can be without the kernel's module: the ioctl's number,
// the line that scripts read, and the flags that the proxy stands for.
func TestVTPMProxy(t *testing.T) {
	if proxyNew != 0xc014a100 {
		t.Errorf("the ioctl is %#x", proxyNew)
	}
	dev := proxyDevice{number: 1, major: 10, minor: 224}
	if got := dev.String(); got != "New TPM device: /dev/tpm1 (major/minor = 10/224)\n" {
		t.Errorf("%q", got)
	}
	for flags, want := range map[string]startup{
		"":                      {powerOn: true, send: true},
		"startup-none":          {powerOn: true},
		"startup-state":         {powerOn: true, send: true, state: true},
		"disable-auto-shutdown": {powerOn: true, send: true, noShutdown: true},
	} {
		if got, err := parseFlags(flags, true); err != nil || got != want {
			t.Errorf("--flags %s: %+v %v", flags, got, err)
		}
	}
	if _, err := os.Stat(proxyPath); err == nil {
		t.Skip("there is /dev/vtpmx: devices are not made in tests")
	}
	dir := shortDir(t)
	_, errs, code := output(t, "chardev", "--tpm2", "--tpmstate", "dir="+dir, "--vtpm-proxy")
	if code != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "tpm_vtpm_proxy") {
		t.Errorf("exit code %d, %q", code, errs)
	}
}

// filePair is a connected pair of sockets as files.
func filePair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// pseudoTerminal is a terminal that changes no byte: its master, and the path of
// the other end, which is held open.
func pseudoTerminal(t *testing.T) (master *os.File, path string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	path = fmt.Sprintf("/dev/pts/%d", n)
	slave, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	raw, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	raw.Iflag, raw.Oflag, raw.Lflag = 0, 0, 0
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, raw); err != nil {
		t.Fatal(err)
	}
	return master, path
}

// wantCode sends a command and wants a response code.
func wantCode(t *testing.T, c io.ReadWriter, cmd string, want uint32) {
	t.Helper()
	if _, err := io.WriteString(c, cmd); err != nil {
		t.Fatal(err)
	}
	rsp := make([]byte, 4096)
	n, err := io.ReadAtLeast(c, rsp, 10)
	if err != nil {
		t.Fatal(err)
	}
	got := uint32(rsp[6])<<24 | uint32(rsp[7])<<16 | uint32(rsp[8])<<8 | uint32(rsp[9])
	if got != want {
		t.Errorf("%x: %x, want response code %#x", cmd, rsp[:n], want)
	}
}
