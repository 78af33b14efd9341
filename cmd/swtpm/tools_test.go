package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestTools runs Debian's tpm2-tools against our swtpm, and the same scripts
// against Debian's own swtpm, so that a script is known to ask for what a TPM
// does. What the tools get is checked outside the TPM, by openssl.
func TestTools(t *testing.T) {
	for _, tool := range []string{"tpm2_createek", "openssl", "xxd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: install tpm2-tools, openssl and xxd", tool)
		}
	}
	ours := filepath.Join(t.TempDir(), "swtpm")
	if out, err := exec.Command("go", "build", "-o", ours, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, c := range []struct{ name, program string }{{"ashlar", ours}, {"debian", "/usr/bin/swtpm"}} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := os.Stat(c.program); err != nil {
				t.Skip("Debian's swtpm is missing: install the package swtpm")
			}
			runTools(t, c.program)
		})
	}
}

// served is the swtpm of one script.
type served struct {
	program, state string
	port           int
	cmd            *exec.Cmd
}

type servedKey struct{}

func runTools(t *testing.T, program string) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/tools",
		Setup: func(env *testscript.Env) error {
			s := &served{program: program, state: filepath.Join(env.WorkDir, ".state"), port: freePorts(t)}
			if err := os.Mkdir(s.state, 0o700); err != nil {
				return err
			}
			env.Setenv("TPM2TOOLS_TCTI", fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", s.port))
			env.Setenv("LC_ALL", "C")
			env.Values[servedKey{}] = s
			env.Defer(s.stop)
			return s.start()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// tpm runs one of tpm2-tools and flushes what it leaves in the TPM, as
			// a resource manager would.
			"tpm": func(ts *testscript.TestScript, neg bool, args []string) {
				err := ts.Exec("tpm2_"+args[0], args[1:]...)
				flush := exec.Command("tpm2_flushcontext", "-t")
				flush.Env = append(os.Environ(), "TPM2TOOLS_TCTI="+ts.Getenv("TPM2TOOLS_TCTI"))
				if out, err := flush.CombinedOutput(); err != nil {
					ts.Fatalf("tpm2_flushcontext: %v\n%s", err, out)
				}
				if (err != nil) != neg {
					ts.Fatalf("tpm2_%s: %v, failure expected: %v", args[0], err, neg)
				}
			},
			"restart": func(ts *testscript.TestScript, neg bool, args []string) {
				s := ts.Value(servedKey{}).(*served)
				s.stop()
				ts.Check(s.start())
			},
		},
	})
}

func (s *served) start() error {
	s.cmd = exec.Command(s.program, "socket", "--tpm2", "--tpmstate", "dir="+s.state,
		"--server", fmt.Sprintf("type=tcp,port=%d", s.port),
		"--ctrl", fmt.Sprintf("type=tcp,port=%d", s.port+1),
		"--flags", "not-need-init,startup-clear")
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port+1))
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen: %w", s.program, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *served) stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// freePorts finds a port that is free together with the one after it.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		_ = a.Close()
		if err == nil {
			_ = b.Close()
			return port
		}
	}
	t.Fatal("no two free ports beside each other")
	return 0
}
