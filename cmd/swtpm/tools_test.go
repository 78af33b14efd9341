package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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
	onBoth(t, "testdata/tools")
}

// onBoth runs scripts against our swtpm and against Debian's.
func onBoth(t *testing.T, dir string) {
	ours := os.Getenv(programVariable)
	for _, c := range []served{
		{name: "ashlar", program: ours, ours: true},
		{name: "debian", program: "/usr/bin/swtpm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := os.Stat(c.program); err != nil {
				t.Skip("Debian's swtpm is missing: install the package swtpm")
			}
			runTools(t, dir, c)
		})
	}
}

// served is the swtpm of one script.
type served struct {
	name, program string
	ours          bool
	state         string
	port          int
	cmd           *exec.Cmd
	others        []*exec.Cmd // what stands between it and its clients
}

type servedKey struct{}

func servedOf(ts *testscript.TestScript) *served { return ts.Value(servedKey{}).(*served) }

func runTools(t *testing.T, dir string, c served) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			s := c
			s.state, s.port = filepath.Join(env.WorkDir, ".state"), freePorts(t)
			if err := os.Mkdir(s.state, 0o700); err != nil {
				return err
			}
			env.Setenv("TPM2TOOLS_TCTI", fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", s.port))
			env.Setenv("CTRL", fmt.Sprintf("127.0.0.1:%d", s.port+1))
			env.Setenv("LC_ALL", "C")
			env.Values[servedKey{}] = &s
			env.Defer(s.stop)
			return s.start("tcp")
		},
		Condition: func(cond string) (bool, error) {
			kind, pattern, _ := strings.Cut(cond, ":")
			switch kind {
			case "ours":
				return c.ours, nil
			case "file":
				files, err := filepath.Glob(pattern)
				return len(files) > 0, err
			}
			return false, fmt.Errorf("there is no condition %q", cond)
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
			// restart ends swtpm and starts it, with more flags where some are named.
			"restart": func(ts *testscript.TestScript, neg bool, flags []string) {
				s := servedOf(ts)
				s.stop()
				ts.Check(s.start("tcp", flags...))
			},
			"simulator": simulator,
			"abrmd":     abrmd,
		},
	})
}

// start serves the data channel as tcp, with its control channel, or as mssim,
// on a port and the one after it.
func (s *served) start(channel string, flags ...string) error {
	args := []string{"socket", "--tpm2", "--tpmstate", "dir=" + s.state,
		"--server", fmt.Sprintf("type=%s,port=%d", channel, s.port)}
	if channel == "tcp" {
		args = append(args, "--ctrl", fmt.Sprintf("type=tcp,port=%d", s.port+1),
			"--flags", strings.Join(append(flags, "not-need-init", "startup-clear"), ","))
	}
	s.cmd = exec.Command(s.program, args...)
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
	for _, other := range slices.Backward(s.others) {
		end(other)
	}
	s.others = nil
	end(s.cmd)
	s.cmd = nil
}

func end(cmd *exec.Cmd) {
	if cmd != nil && cmd.Process != nil {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
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
