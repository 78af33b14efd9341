package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// runVariable makes the test binary be swtpm: the program at the path in
// programVariable, since the test binary may hold cgo and then is not confined.
const (
	runVariable     = "ASHLAR_TEST_RUN_SWTPM"
	programVariable = "ASHLAR_TEST_SWTPM"
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if os.Getenv(runVariable) != "" {
		fmt.Fprintln(os.Stderr, syscall.Exec(os.Getenv(programVariable), os.Args, os.Environ()))
		return 1
	}
	if os.Getenv(programVariable) != "" { // is there, such as in packaging/vm's machine
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "swtpm-program")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program := join(dir, "swtpm")
	if err := buildProgram(program); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(programVariable, program)
	return m.Run()
}

// buildProgram makes swtpm as it is packaged.
func buildProgram(path string) error {
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// swtpmCommand is this program with arguments.
func swtpmCommand(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), runVariable+"=1")
	return cmd
}

// output runs this program to its end.
func output(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := swtpmCommand(t, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// process is a swtpm that runs.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	errs *bytes.Buffer
	done chan struct{}
}

func startProcess(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, errs: new(bytes.Buffer), done: make(chan struct{})}
	cmd.Stderr = p.errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(p.done) }()
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends the process by SIGTERM and gives its exit code.
func (p *process) stop() int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait()
}

func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		p.t.Fatal("swtpm does not end")
		return -1
	}
}

// dial connects, as soon as the process listens.
func (p *process) dial(network, address string) net.Conn {
	p.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		c, err := net.Dial(network, address)
		if err == nil {
			p.t.Cleanup(func() { c.Close() })
			return c
		}
		select {
		case <-p.done:
			p.t.Fatalf("swtpm ended: %s", p.errs)
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("swtpm does not listen: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
}

// wire is a data channel as go-tpm's transport.
type wire struct{ net.Conn }

var _ transport.TPM = wire{}

// Send runs one command.
func (w wire) Send(cmd []byte) ([]byte, error) {
	if _, err := w.Write(cmd); err != nil {
		return nil, err
	}
	b := make([]byte, 4096)
	if _, err := io.ReadFull(w, b[:10]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(b[2:]))
	if size < 10 || size > len(b) {
		return nil, fmt.Errorf("a response of %d bytes", size)
	}
	_, err := io.ReadFull(w, b[10:size])
	return b[:size], err
}

// freePortPair finds a port whose successor is free too.
func freePortPair(t testing.TB) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port+1))
		a.Close()
		if err == nil {
			b.Close()
			return port
		}
	}
	t.Fatal("no two free ports in a row")
	return 0
}

func needTools(t testing.TB, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			t.Skipf("needs %s", n)
		}
	}
}

// shortDir is a directory whose path is short enough for a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "swtpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func join(dir, name string) string { return filepath.Join(dir, name) }
