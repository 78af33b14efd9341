package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// tools runs tpm2-tools against a TCTI.
type tools struct {
	t    *testing.T
	tcti string
	dir  string
}

func (x tools) run(line string) string {
	x.t.Helper()
	argv := strings.Fields(line)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = x.dir
	cmd.Env = append(os.Environ(), "TPM2TOOLS_TCTI="+x.tcti, "TSS2_LOG=all+ERROR")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		x.t.Fatalf("%s: %v\n%s%s", line, err, out, errs.String())
	}
	return string(out)
}

func TestToolsOverSwtpm(t *testing.T) {
	needTools(t, "tpm2_startup", "tpm2_nvdefine")
	port := freePortPair(t)
	restartUnderTools(t, fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port),
		"--server", fmt.Sprintf("type=tcp,port=%d", port),
		"--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1), "--flags", "not-need-init")
}

func TestToolsOverSimulator(t *testing.T) {
	needTools(t, "tpm2_startup", "tpm2_nvdefine")
	port := freePortPair(t)
	restartUnderTools(t, fmt.Sprintf("mssim:host=127.0.0.1,port=%d", port),
		"--server", fmt.Sprintf("type=mssim,port=%d", port))
}

// restartUnderTools writes NV by tpm2-tools, ends swtpm, and finds it again
// after a restart.
func restartUnderTools(t *testing.T, tcti string, args ...string) {
	dir := shortDir(t)
	args = append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir}, args...)
	x := tools{t: t, tcti: tcti, dir: t.TempDir()}
	if err := os.WriteFile(join(x.dir, "data"), []byte("kept over a restart"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(tcti, "port=")
	start := func() *process {
		p := startProcess(t, swtpmCommand(t, args...))
		p.dial("tcp", "127.0.0.1:"+port).Close()
		return p
	}

	p := start()
	x.run("tpm2_startup -c")
	if n := len(x.run("tpm2_getrandom 16")); n != 16 {
		t.Errorf("tpm2_getrandom 16 gave %d bytes", n)
	}
	x.run("tpm2_nvdefine 0x1500001 -C o -s 19 -a ownerread|ownerwrite|authread|authwrite")
	x.run("tpm2_nvwrite 0x1500001 -C o -i data")
	x.run("tpm2_pcrextend 16:sha256=" + strings.Repeat("01", 32))
	if pcr := x.run("tpm2_pcrread sha256:16"); strings.Contains(pcr, strings.Repeat("0", 64)) {
		t.Errorf("PCR 16 was not extended: %s", pcr)
	}
	if code := p.stop(); code != 0 {
		t.Fatalf("exit code %d after SIGTERM: %s", code, p.errs)
	}

	p = start()
	x.run("tpm2_startup")
	if got := x.run("tpm2_nvread 0x1500001 -C o"); got != "kept over a restart" {
		t.Errorf("after a restart NV holds %q", got)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM: %s", code, p.errs)
	}
}

// TestSwtpmIoctl drives the control channel by swtpm's own tool.
func TestSwtpmIoctl(t *testing.T) {
	needTools(t, "swtpm_ioctl")
	dir := shortDir(t)
	p := startProcess(t, swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--ctrl", "type=unixio,path="+join(dir, "c"), "--server", "type=unixio,path="+join(dir, "d")))
	p.dial("unix", join(dir, "c")).Close()
	ioctl := func(args string) string {
		t.Helper()
		argv := append([]string{"--unix", join(dir, "c")}, strings.Fields(args)...)
		out, err := exec.Command("swtpm_ioctl", argv...).CombinedOutput()
		if err != nil {
			t.Fatalf("swtpm_ioctl %s: %v\n%s%s", args, err, out, p.errs)
		}
		return string(out)
	}
	if out := ioctl("-c"); !strings.Contains(strings.ToLower(out), "1ffff") {
		t.Errorf("capabilities: %s", out)
	}
	for _, args := range []string{
		"-i", "-e", "-l 3", "-r 3", "-h abcd", "-C", "-b 0", "-g", "--info 1", "-v",
		"--save permanent " + join(dir, "saved-p"), "--save volatile " + join(dir, "saved-v"),
		"--stop", "-b 3000",
		"--load permanent " + join(dir, "saved-p"), "--load volatile " + join(dir, "saved-v"), "-i",
		"-s",
	} {
		ioctl(args)
	}
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d after SHUTDOWN: %s", code, p.errs)
	}
}
