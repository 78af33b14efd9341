package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// stateTPM is the arguments of a swtpm that is on, with its state where --tpmstate
// says.
func stateTPM(run, state string) []string {
	return []string{"socket", "--tpm2", "--tpmstate", state, "--flags", "not-need-init",
		"--ctrl", "type=unixio,path=" + join(run, "c"), "--server", "type=unixio,path=" + join(run, "d")}
}

// TestLockAgainstDebian has Debian's swtpm and ours keep each other off a state
// directory: their locks are the same.
func TestLockAgainstDebian(t *testing.T) {
	const debian = "/usr/bin/swtpm"
	needTools(t, debian)
	for _, c := range []struct{ first, second func(...string) *exec.Cmd }{
		{func(args ...string) *exec.Cmd { return exec.Command(debian, args...) }, func(args ...string) *exec.Cmd { return swtpmCommand(t, args...) }},
		{func(args ...string) *exec.Cmd { return swtpmCommand(t, args...) }, func(args ...string) *exec.Cmd { return exec.Command(debian, args...) }},
	} {
		state := "dir=" + shortDir(t)
		run := shortDir(t)
		first := startProcess(t, c.first(stateTPM(run, state)...))
		conn := first.dial("unix", join(run, "c"))
		awaitAnswer(t, first, conn)
		second := startProcess(t, c.second(stateTPM(shortDir(t), state)...))
		if code := second.wait(); code != 1 {
			t.Errorf("the second one: exit code %d: %s", code, second.errs)
		}
		conn.Close()
		first.stop()
	}
}

// TestLockMoves gives the lock away with the last state that a migration reads, and
// takes it back, as the control channel says.
func TestLockMoves(t *testing.T) {
	for _, state := range []string{"dir=" + shortDir(t), "backend-uri=file://" + join(shortDir(t), "s") + ",lock"} {
		run, other, files := shortDir(t), shortDir(t), shortDir(t)
		source := startProcess(t, swtpmCommand(t, append(stateTPM(run, state), "--migration", "release-lock-outgoing")...))
		conn := source.dial("unix", join(run, "c"))
		awaitAnswer(t, source, conn) // it has the lock
		conn.Close()
		tool := func(name string, args ...string) toolRun {
			t.Helper()
			return runTool(t, calledAs(t, name, args...), files, "")
		}
		// It answers when it has the lock; until then another one could take it.
		if r := tool("swtpm_ioctl", "--unix", join(run, "c"), "-e"); r.code != 0 {
			t.Fatalf("the source: %+v %s", r, source.errs)
		}
		for _, blob := range []string{"permanent", "volatile", "savestate"} {
			if _, errs, code := output(t, stateTPM(other, state)...); code != 1 || !strings.Contains(errs, "in use") {
				t.Fatalf("before %s was read: exit code %d, %s", blob, code, errs)
			}
			if r := tool("swtpm_ioctl", "--unix", join(run, "c"), "--save", blob, blob); r.code != 0 {
				t.Fatalf("%s: %+v", blob, r)
			}
		}
		// The target, which has the lock with its first command.
		target := startProcess(t, swtpmCommand(t, append(stateTPM(other, state), "--migration", "incoming")...))
		target.dial("unix", join(other, "c")).Close()
		if r := tool("swtpm_bios", "--unix", join(other, "d"), "--tpm2"); r.code != 0 {
			t.Fatalf("the target: %+v %s", r, target.errs)
		}
		lock := func() toolRun { return tool("swtpm_ioctl", "--unix", join(run, "c"), "--lock-storage", "3") }
		if r := lock(); r.code != 1 || r.errs != "TPM result from PTM_LOCK_STORAGE: 0x9\n" {
			t.Errorf("while the target has it: %+v", r)
		}
		target.kill()
		if r := lock(); r != (toolRun{}) {
			t.Errorf("after the target: %+v %s", r, source.errs)
		}
		if _, errs, code := output(t, stateTPM(other, state)...); code != 1 || !strings.Contains(errs, "in use") {
			t.Errorf("after it was taken back: exit code %d, %s", code, errs)
		}
		if r := tool("swtpm_bios", "--unix", join(run, "d"), "--tpm2"); r.code != 0 {
			t.Errorf("the source: %+v %s", r, fmt.Sprint(source.errs))
		}
	}
}

// TestLostLock: where a lock is lost, here with its file, two processes are on one state.
// What the later one has written stays; the other one's commands are undone.
func TestLostLock(t *testing.T) {
	for _, state := range []string{"dir=%s", "backend-uri=file://%s/state"} { // the file is not locked unless asked
		dir := shortDir(t)
		f := &filled{t: t, k: &killer{t: t, dir: shortDir(t), state: fmt.Sprintf(state, dir)}}
		f.k.define()
		f.p, f.w = f.k.start()
		f.work(2)
		if err := os.Remove(join(dir, ".lock")); err != nil && state == "dir=%s" {
			t.Fatal(err)
		}
		other := &filled{t: t, k: &killer{t: t, dir: shortDir(t), state: f.k.state, value: f.k.value, count: f.k.count}}
		other.p, other.w = other.k.start()
		other.work(2)
		if err := f.k.increment(f.w); !errors.Is(err, tpm2.TPMRCNVUnavailable) {
			t.Errorf("%s: the one that had it first: %v", state, err)
		}
		if err := f.extend(); err != nil {
			t.Errorf("%s: PCR_Extend: %v", state, err)
		}
		f.p.kill()
		other.work(2)
		other.restart()
		other.p.kill()
	}
}
