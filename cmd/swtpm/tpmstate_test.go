package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestStateInOneFile keeps a TPM in one file: its states go there and nowhere else,
// and the file moves with them.
func TestStateInOneFile(t *testing.T) {
	dir := shortDir(t)
	start := func(file string, more ...string) *process {
		t.Helper()
		p := startProcess(t, swtpmCommand(t, append([]string{"socket", "--tpm2", "--tpmstate", "backend-uri=file://" + join(dir, file) + ",mode=0600,lock",
			"--ctrl", "type=unixio,path=" + join(dir, "c"), "--server", "type=unixio,path=" + join(dir, "d")}, more...)...))
		p.dial("unix", join(dir, "c")).Close()
		return p
	}
	tool := func(name string, args ...string) toolRun {
		t.Helper()
		return runTool(t, calledAs(t, name, args...), dir, "")
	}
	want := func(r toolRun, out string) {
		t.Helper()
		if r.code != 0 || r.out != out {
			t.Fatalf("%+v, want %q", r, out)
		}
	}
	states := func(file string) string {
		t.Helper()
		out, errs, code := output(t, "socket", "--tpm2", "--print-states", "--tpmstate", "backend-uri=file://"+join(dir, file))
		var v struct{ States []struct{ Name string } }
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 {
			t.Fatalf("%s%s: %v", out, errs, err)
		}
		return fmt.Sprint(v.States)
	}
	if got := states("s"); got != "[]" {
		t.Errorf("states before there are any: %s", got)
	}
	p := start("s", "--profile", "name=default-v1")
	want(tool("swtpm_ioctl", "--unix", "c", "-i"), "")
	want(tool("swtpm_bios", "--unix", "d", "--tpm2"), "")
	want(tool("swtpm_ioctl", "--unix", "c", "-h", "data"), "")
	want(tool("swtpm_ioctl", "--unix", "c", "-v"), "")
	want(tool("swtpm_ioctl", "--unix", "c", "-s"), "")
	p.wait()
	if got := states("s"); got != "[{permall} {volatile}]" {
		t.Errorf("states: %s", got)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("%v is left", list)
	}
	if st, err := os.Stat(join(dir, "s")); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	if err := os.Rename(join(dir, "s"), join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	p = start("moved")
	want(tool("swtpm_ioctl", "--unix", "c", "-i"), "")
	want(tool("swtpm_ioctl", "--unix", "c", "-e"), "tpmEstablished is 1\n") // it went on
	if got := states("moved"); got != "[{permall}]" {
		t.Errorf("states of one that went on: %s", got)
	}
	_, errs, code := output(t, "socket", "--tpm2", "--tpmstate", "backend-uri=file://"+join(dir, "moved")+",lock", "--flags", "not-need-init",
		"--ctrl", "type=unixio,path="+join(dir, "c2"))
	if code != 1 || !strings.Contains(errs, "in use by another process") {
		t.Errorf("a second swtpm: exit code %d, %s", code, errs)
	}
	want(tool("swtpm_ioctl", "--unix", "c", "-s"), "")
	p.wait()
	if i := profileInfo(t, "--tpmstate", "backend-uri=file://"+join(dir, "moved")); i.ActiveProfile.Name != "default-v1" {
		t.Errorf("profile %s", i.ActiveProfile.Name)
	}
}

// TestFileOfSwtpm leaves the one file of a swtpm alone, and says what to do with it.
func TestFileOfSwtpm(t *testing.T) {
	const debian = "/usr/bin/swtpm"
	needTools(t, debian)
	dir := shortDir(t)
	p := startProcess(t, exec.Command(debian, "socket", "--tpm2", "--tpmstate", "backend-uri=file://"+join(dir, "s"),
		"--flags", "startup-clear", "--ctrl", "type=unixio,path="+join(dir, "c")))
	c := p.dial("unix", join(dir, "c"))
	awaitAnswer(t, p, c)
	c.Close()
	p.stop()
	before, err := os.ReadFile(join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	_, errs, code := output(t, "socket", "--tpm2", "--tpmstate", "backend-uri=file://"+join(dir, "s"), "--flags", "not-need-init",
		"--ctrl", "type=unixio,path="+join(dir, "c"))
	if after, _ := os.ReadFile(join(dir, "s")); code != 1 || !strings.Contains(errs, "ashlar tpm import") || string(after) != string(before) {
		t.Errorf("exit code %d, %s", code, errs)
	}
}

// TestStateBackup starts a TPM from its backup when its file is damaged, and says so.
func TestStateBackup(t *testing.T) {
	dir := shortDir(t)
	run := func() string {
		t.Helper()
		_ = os.Remove(join(dir, "log"))
		p := startProcess(t, swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir+",backup,fsync", "--flags", "startup-clear",
			"--ctrl", "type=unixio,path="+join(dir, "c"), "--log", "file="+join(dir, "log")+",level=2"))
		c := p.dial("unix", join(dir, "c"))
		awaitAnswer(t, p, c)
		c.Close()
		if code := p.stop(); code != 0 {
			t.Fatalf("exit code %d: %s", code, p.errs)
		}
		b, _ := os.ReadFile(join(dir, "log"))
		return string(b)
	}
	blob := func() string {
		b, err := os.ReadFile(join(dir, "tpm2-00.ashlar"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if log := run(); strings.Contains(log, "backup") {
		t.Errorf("log: %s", log)
	}
	good := blob()
	if err := os.WriteFile(join(dir, "tpm2-00.ashlar"), []byte(good[:1000]), 0o600); err != nil {
		t.Fatal(err)
	}
	if log := run(); !strings.Contains(log, "made anew of its backup") {
		t.Errorf("log: %q", log)
	}
	if b, err := os.ReadFile(join(dir, "tpm2-00.ashlar.damaged")); err != nil || string(b) != good[:1000] {
		t.Errorf("the damaged file is not kept: %v", err)
	}
	if err := os.Remove(join(dir, "tpm2-00.ashlar")); err != nil {
		t.Fatal(err)
	}
	if log := run(); !strings.Contains(log, "made anew of its backup") {
		t.Errorf("log: %q", log)
	}
}

// TestPassedFiles takes descriptors for the pid and the log, as libvirt passes them;
// the pid file goes at the end.
func TestPassedFiles(t *testing.T) {
	dir := shortDir(t)
	pid, err := os.Create(join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--pid", "fd=3", "--log", "fd=4,level=5,prefix=vm1: ",
		"--ctrl", "type=unixio,path="+join(dir, "c"))
	cmd.ExtraFiles = []*os.File{pid, log}
	p := startProcess(t, cmd)
	c := p.dial("unix", join(dir, "c"))
	awaitAnswer(t, p, c)
	c.Close()
	if b, _ := os.ReadFile(pid.Name()); string(b) != fmt.Sprint(p.cmd.Process.Pid) {
		t.Errorf("pid file %q", b)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if st, err := log.Stat(); err == nil && st.Size() > 0 { // that the client is gone
			break
		}
	}
	p.stop()
	if _, err := os.Stat(pid.Name()); err == nil {
		t.Error("the pid file is left")
	}
	if b, _ := os.ReadFile(log.Name()); !strings.HasPrefix(string(b), "vm1: ") {
		t.Errorf("log %q", b)
	}
	// Why it does not start is in the log, where libvirt looks for it.
	_, errs, code := output(t, "socket", "--tpm2", "--tpmstate", "dir="+join(dir, "absent"), "--log", "file="+join(dir, "l"),
		"--ctrl", "type=unixio,path="+join(dir, "c"))
	b, _ := os.ReadFile(join(dir, "l"))
	if code != 1 || "swtpm: "+string(b) != errs {
		t.Errorf("log %q, standard error %q", b, errs)
	}
}

// TestPortOfEnvironment listens where TPM_PORT says when the options name no port.
func TestPortOfEnvironment(t *testing.T) {
	dir, port := shortDir(t), freePortPair(t)
	for _, args := range [][]string{{"--server", "type=tcp"}, {}} {
		cmd := swtpmCommand(t, append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir}, args...)...)
		cmd.Env = append(cmd.Env, fmt.Sprintf("TPM_PORT=%d", port))
		p := startProcess(t, cmd)
		p.dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)).Close()
		p.stop()
	}
}
