package main

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// docBlock is a fenced block of commands that the test runs.
var docBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// pageNeeds lists what a page uses besides tpm2-tools and QEMU.
var pageNeeds = map[string][]string{
	"clients.md": {"clevis", "dbus-daemon", "/usr/sbin/tpm2-abrmd", "tpm2_ptool", "pkcs11-tool",
		"systemd-cryptenroll", "/sbin/cryptsetup", "tsspowerup"},
	"certificates.md": {"softhsm2-util", "pkcs11-tool"},
}

// pagesElsewhere are pages whose commands another test runs, and how it is started.
var pagesElsewhere = map[string]string{"libvirt.md": "make test-libvirt"}

// TestDocs runs every sh block of every page in docs/, a page at a time, in an
// empty directory with our programs first on PATH. A line that begins with "!"
// must fail, every other line must not.
func TestDocs(t *testing.T) {
	for _, tool := range []string{"tpm2_createek", "qemu-system-x86_64", "/usr/bin/swtpm", "/usr/bin/swtpm_setup"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: install tpm2-tools, qemu-system-x86, ovmf and swtpm-tools", tool)
		}
	}
	bin := t.TempDir()
	for _, cmd := range []string{"ashlar", "swtpm", "swtpm_setup"} {
		build := exec.Command("go", "build", "-o", filepath.Join(bin, cmd), "../"+cmd)
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as packaged: confined
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	for name, program := range map[string]string{"swtpm_ioctl": "swtpm", "swtpm_bios": "swtpm",
		"swtpm_cert": "swtpm_setup", "swtpm_localca": "swtpm_setup"} {
		if err := os.Symlink(program, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			if by := pagesElsewhere[filepath.Base(page)]; by != "" {
				t.Skip("its commands are run by '" + by + "'")
			}
			for _, tool := range pageNeeds[filepath.Base(page)] {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skipf("%s is missing: install TEST_PACKAGES of the Makefile", tool)
				}
			}
			runPage(t, page, bin)
		})
	}
}

func runPage(t *testing.T, page, bin string) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	script := "set -eu\n"
	for _, block := range docBlock.FindAllSubmatch(text, -1) {
		// The shell ignores the failure of a negated command, and its success
		// too: say so.
		for line := range strings.Lines(strings.ReplaceAll(string(block[1]), "\\\n", " ")) {
			if rest, negated := strings.CutPrefix(line, "! "); negated {
				line = "if " + strings.TrimSpace(rest) + "; then echo 'should have failed: " + page + "' >&2; exit 9; fi\n"
			}
			script += line
		}
	}
	script = movePorts(t, script)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	killStrays(dir)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// docPort is a port that the pages use, of TPMs on the loopback interface.
var docPort = regexp.MustCompile(`\b24[0-9][0-9]\b`)

// movePorts moves all ports of a page by the same distance, to where they are
// free: two tests may run at once, and a reader's TPM may be on one of them.
func movePorts(t *testing.T, script string) string {
	free := func(port int) bool {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		return err == nil && l.Close() == nil
	}
	for range 100 {
		shift, ok := 100*(10+rand.IntN(200)), true
		moved := docPort.ReplaceAllStringFunc(script, func(s string) string {
			n, err := strconv.Atoi(s)
			ok = ok && err == nil && free(n+shift) && free(n+shift+1) // mssim takes the next as well
			return strconv.Itoa(n + shift)
		})
		if ok {
			return moved
		}
	}
	t.Fatal("there are no free ports")
	return ""
}

// killStrays ends what a failed page has left running.
func killStrays(dir string) {
	for _, pattern := range []string{"*/pid", "*/qemu.pid"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, f := range files {
			pid, err := os.ReadFile(f)
			if err == nil {
				_ = exec.Command("kill", strings.TrimSpace(string(pid))).Run()
			}
		}
	}
}
