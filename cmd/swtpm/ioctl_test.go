package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// toolRun is one run of a tool: what it wrote, and how it ended.
type toolRun struct {
	out, errs string
	code      int
}

// runTool runs a program with its directory and its standard input.
func runTool(t *testing.T, cmd *exec.Cmd, dir, input string) toolRun {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, strings.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return toolRun{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// calledAs is this program under another name.
func calledAs(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := swtpmCommand(t, args...)
	cmd.Args[0] = name
	return cmd
}

// toolScript is command lines of swtpm_ioctl and, behind "bios", of swtpm_bios, for a
// TPM of which nothing but a directory is there. TYPE is how it is reached.
var toolScript = []string{
	"-c", "-e", "-g", "-v", "-C",
	"-i", "-c", "-e", "-g", "-b 0", "-b 4000", "-b x", "-C",
	"bios --tpm2", "bios --tpm2 -c", "bios -tpm2 -n -cs", "bios --tpm2 -d -u -o", "bios --tpm2 -s -u",
	"-l 3", "-l 4", "-l 5", "-l x", "-r 2", "-h abc", "-h -", "-e", "-r 3", "-e", "-r 4", "-r 5", "-r x",
	"--info 1", "--info 0x2", "--info 7", "--info x",
	"--save permanent p", "--save volatile v", "--save savestate s", "--save nonsense n", "--save permanent",
	"--save permanent absent/p", "--load permanent p", "--load permanent absent",
	"-v", "--stop", "-e", "-b 3000", "-b 1", "-b 0", "--load permanent p", "--load volatile v", "--load savestate s",
	"-i", "bios --tpm2 -c", "--stop", "-i -e", "", "-s",
}

// TestControlToolsAsDebian gives the same command lines to Debian's tools and to ours, each
// with a TPM of its own, and wants the same output, exit codes and files.
func TestControlToolsAsDebian(t *testing.T) {
	needTools(t, "/usr/bin/swtpm_ioctl", "/usr/bin/swtpm_bios")
	for _, c := range []struct {
		name string
		tpm  func(dir string) *exec.Cmd
	}{
		{"our TPM", func(dir string) *exec.Cmd { return swtpmCommand(t, toolTPM(dir)...) }},
		{"Debian's TPM", func(dir string) *exec.Cmd { return exec.Command("/usr/bin/swtpm", toolTPM(dir)...) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			needTools(t, c.tpm("").Path)
			ours, theirs := shortDir(t), shortDir(t)
			for _, dir := range []string{ours, theirs} {
				p := startProcess(t, c.tpm(dir))
				p.dial("unix", join(dir, "c")).Close()
			}
			for _, line := range toolScript {
				tool, args := "swtpm_ioctl", strings.Fields(line)
				where := []string{"--unix", "c"}
				if rest, ok := strings.CutPrefix(line, "bios"); ok {
					tool, args, where = "swtpm_bios", strings.Fields(rest), []string{"--unix", "d"}
				}
				args = append(where, args...)
				input := strings.Repeat("data ", 2000)
				got := runTool(t, calledAs(t, tool, args...), ours, input)
				want := runTool(t, exec.Command("/usr/bin/"+tool, args...), theirs, input)
				if got.out != want.out || got.code != want.code || (got.errs == "") != (want.errs == "") {
					t.Errorf("%s %q: %+v, Debian's %+v", tool, line, got, want)
				}
				if strings.HasPrefix(want.errs, "TPM result") && got.errs != want.errs {
					t.Errorf("%s %q says %q, Debian's %q", tool, line, got.errs, want.errs)
				}
			}
			for _, name := range []string{"p", "v", "s", "n"} {
				if got, want := describe(join(ours, name)), describe(join(theirs, name)); got != want {
					t.Errorf("file %s: %s, Debian's: %s", name, got, want)
				}
			}
		})
	}
}

// toolTPM is the arguments of a swtpm with both channels.
func toolTPM(dir string) []string {
	return []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + join(dir, "c"),
		"--server", "type=unixio,path=" + join(dir, "d")}
}

// describe tells of a file what two TPMs have in common.
func describe(path string) string {
	st, err := os.Stat(path)
	if err != nil {
		return "absent"
	}
	return fmt.Sprintf("%v, empty %v", st.Mode(), st.Size() == 0)
}

// TestControlToolsRefuse wants one line and exit code 1, and no connection.
func TestControlToolsRefuse(t *testing.T) {
	dir := shortDir(t)
	for _, c := range []struct {
		args, says string
	}{
		{"swtpm_ioctl", "No valid command"},
		{"swtpm_ioctl --unix c", "No valid command"},
		{"swtpm_ioctl -c", "Missing device"},
		{"swtpm_ioctl -c /dev/vtpm-200", "CUSE"},
		{"swtpm_ioctl -c --tpm-device /dev/vtpm-200", "CUSE"},
		{"swtpm_ioctl -c --unix c stray", "stray"},
		{"swtpm_ioctl -c --unix absent", "absent"},
		{"swtpm_ioctl -c --tcp :x", "Invalid port 'x'"},
		{"swtpm_ioctl -c --tcp host:70000", "outside valid range"},
		{"swtpm_ioctl --save", "needs a value"},
		{"swtpm_ioctl --save permanent --unix", "Missing filename argument for --save option"},
		{"swtpm_ioctl --unix c -i=1", "takes no value"},
		{"swtpm_ioctl --unix c -lo 1", "-load or -lock-storage"},
		{"swtpm_ioctl --nonsense", "nonsense"},
		{"swtpm_bios --unix d", "--tpm2"},
		{"swtpm_bios --unix d -ea", "1.2"},
		{"swtpm_bios --unix d -ee", "-ee"},
		{"swtpm_bios --unix d --tpm2 stray", "stray"},
		{"swtpm_cuse -n vtpm", "CUSE"},
	} {
		args := strings.Fields(c.args)
		r := runTool(t, calledAs(t, args[0], args[1:]...), dir, "")
		if r.code != 1 || r.out != "" || strings.Count(r.errs, "\n") != 1 || !strings.Contains(r.errs, c.says) {
			t.Errorf("%s: %+v; want one line with %q", c.args, r, c.says)
		}
	}
	for _, c := range []string{"swtpm_bios --tpm2 --unix absent", "swtpm_bios --tpm2 --tpm-device absent", "swtpm_bios --tpm2 --tcp :1"} {
		args := strings.Fields(c)
		if r := runTool(t, calledAs(t, args[0], args[1:]...), dir, ""); r.code != 255 || strings.Count(r.errs, "\n") != 1 {
			t.Errorf("%s: %+v; want exit code 255", c, r)
		}
	}
	for _, c := range []string{"swtpm_ioctl --help", "swtpm_ioctl --version", "swtpm_bios -h", "swtpm_bios -v"} {
		args := strings.Fields(c)
		if r := runTool(t, calledAs(t, args[0], args[1:]...), dir, ""); r.code != 0 || !strings.Contains(r.out, "TPM") {
			t.Errorf("%s: %+v", c, r)
		}
	}
}

// TestControlToolsByTCP finds the TPM by a port, as the manuals and the environment say.
func TestControlToolsByTCP(t *testing.T) {
	dir, port := shortDir(t), freePortPair(t)
	p := startProcess(t, swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "not-need-init",
		"--server", fmt.Sprintf("type=tcp,port=%d", port), "--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1)))
	p.dial("tcp", fmt.Sprintf("127.0.0.1:%d", port+1)).Close()
	p.dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)).Close()
	cmd := calledAs(t, "swtpm_bios", "--tpm2")
	cmd.Env = append(cmd.Env, "TCSD_USE_TCP_DEVICE=1", "TCSD_TCP_DEVICE_HOSTNAME=127.0.0.1", fmt.Sprintf("TCSD_TCP_DEVICE_PORT=%d", port))
	if r := runTool(t, cmd, dir, ""); r != (toolRun{}) {
		t.Errorf("by the environment: %+v", r)
	}
	if r := runTool(t, calledAs(t, "swtpm_bios", "--tpm2", "--tcp", fmt.Sprintf(":%d", port)), dir, ""); r.code != 128 {
		t.Errorf("a second Startup: %+v", r)
	}
	for _, where := range []string{":%d", "localhost:%d", "127.0.0.1:%d"} {
		if r := runTool(t, calledAs(t, "swtpm_ioctl", "-e", "--tcp", fmt.Sprintf(where, port+1)), dir, ""); r.out != "tpmEstablished is 0\n" {
			t.Errorf("%s: %+v", where, r)
		}
	}
	// More than one answer holds, and a lock that is held already.
	r := runTool(t, calledAs(t, "swtpm_ioctl", "--info", "255", "--tcp", fmt.Sprintf(":%d", port+1)), dir, "")
	want, _, _ := output(t, "socket", "--tpm2", "--print-info", "255", "--tpmstate", "dir="+dir)
	if r.out != want || len(r.out) <= 3072 {
		t.Errorf("--info 255: %+v", r)
	}
	if r := runTool(t, calledAs(t, "swtpm_ioctl", "--lock-storage", "2", "--tcp", fmt.Sprintf(":%d", port+1)), dir, ""); r != (toolRun{}) {
		t.Errorf("--lock-storage: %+v", r)
	}
	if r := runTool(t, calledAs(t, "swtpm_ioctl", "-s", "--tcp", fmt.Sprintf(":%d", port+1)), dir, ""); r != (toolRun{}) || p.wait() != 0 {
		t.Errorf("-s: %+v", r)
	}
}
