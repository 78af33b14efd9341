package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pipeOf is a pipe's end to read from, with a content; the other end is closed.
func pipeOf(t testing.TB, content string) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return r
}

// control sends a control command and gives the answer of n bytes.
func control(t testing.TB, c net.Conn, cmd []byte, n int) []byte {
	t.Helper()
	if _, err := c.Write(cmd); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// config is what GET_CONFIG answers.
func config(t testing.TB, c net.Conn) uint32 {
	t.Helper()
	return binary.BigEndian.Uint32(control(t, c, []byte{0, 0, 0, 15}, 8)[4:])
}

// TestKeysOfLibvirt starts with the very options of libvirt, each passphrase in a
// pipe: nobody can read it afterwards, and the state is only there with it.
func TestKeysOfLibvirt(t *testing.T) {
	const secret = "libvirt's secret"
	dir := shortDir(t)
	os.Mkdir(join(dir, "state"), 0o700)
	var pipes [2]string
	start := func(passphrase string, more ...string) (*process, net.Conn) {
		cmd := swtpmCommand(t, append([]string{"socket", "--ctrl", "type=unixio,path=" + join(dir, "ctrl") + ",mode=0600",
			"--tpmstate", "dir=" + join(dir, "state") + ",mode=0600", "--log", "file=" + join(dir, "log"), "--terminate", "--tpm2",
			"--key", "pwdfd=3,mode=aes-256-cbc", "--migration-key", "pwdfd=4,mode=aes-256-cbc"}, more...)...)
		cmd.ExtraFiles = []*os.File{pipeOf(t, passphrase), pipeOf(t, passphrase)}
		for i, f := range cmd.ExtraFiles {
			pipes[i], _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		}
		p := startProcess(t, cmd)
		return p, p.dial("unix", join(dir, "ctrl"))
	}
	init := []byte{0, 0, 0, 2, 0, 0, 0, 0}
	for i, passphrase := range []string{secret, secret, "another secret"} {
		p, ctrl := start(passphrase)
		if flags := config(t, ctrl); flags != 3 {
			t.Errorf("GET_CONFIG: %x", flags)
		}
		if right := binary.BigEndian.Uint32(control(t, ctrl, init, 4)) == 0; right != (passphrase == secret) {
			t.Errorf("start %d with %q: %v", i, passphrase, right)
		}
		for _, link := range links(t, p.cmd.Process.Pid) {
			if pipes[0] == "" || slices.Contains(pipes[:], link) {
				t.Errorf("start %d: a pipe is still open: %s", i, link)
			}
		}
		control(t, ctrl, []byte{0, 0, 0, 3}, 4)
		if code := p.wait(); code != 0 {
			t.Errorf("start %d: exit code %d: %s", i, code, p.errs)
		}
	}
	// Where nobody sends INIT, a wrong key ends the program.
	cmd := swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+join(dir, "state"), "--server", "type=unixio,path="+join(dir, "data"),
		"--flags", "not-need-init", "--key", "pwdfd=3")
	cmd.ExtraFiles = []*os.File{pipeOf(t, "another secret")}
	p := startProcess(t, cmd)
	if code := p.wait(); code != 1 || !strings.Contains(p.errs.String(), "the key is another one") || strings.Count(p.errs.String(), "\n") != 1 {
		t.Errorf("exit code %d: %s", code, p.errs)
	}
	state, _ := os.ReadFile(join(dir, "state/tpm2-00.ashlar"))
	log, _ := os.ReadFile(join(dir, "log"))
	if strings.Contains(string(state), "ASHLARTS") || strings.Contains(string(log), "secret") {
		t.Error("the state is in clear, or the log has the secret")
	}
}

// links are what the descriptors of a process are.
func links(t testing.TB, pid int) (list []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if link, err := os.Readlink(join(dir, e.Name())); err == nil {
			list = append(list, link)
		}
	}
	return list
}

// TestKeyOfDaemon: a daemon has the keys that its parent was given, and a file that
// was to be removed is gone.
func TestKeyOfDaemon(t *testing.T) {
	dir := shortDir(t)
	key := join(dir, "key")
	os.WriteFile(key, []byte(strings.Repeat("0f", 32)), 0o600)
	cmd := swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+join(dir, "ctrl"),
		"--server", "type=unixio,path="+join(dir, "data"), "--flags", "not-need-init", "--pid", "file="+join(dir, "pid"), "--daemon",
		"--key", "file="+key+",mode=aes-256-cbc,remove=true", "--migration-key", "pwdfd=5,mode=aes-256-cbc")
	cmd.ExtraFiles = []*os.File{nil, nil, pipeOf(t, "a secret")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c, err := net.Dial("unix", join(dir, "ctrl"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if flags := config(t, c); flags != 3 {
		t.Errorf("GET_CONFIG: %x", flags)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("the key's file is there")
	}
	control(t, c, []byte{0, 0, 0, 3}, 4)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(join(dir, "pid")); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the daemon does not end")
		}
	}
}

// TestKeyOptionsAsSwtpm holds which key options are taken, and with which exit code
// the others are refused, to Debian's swtpm.
func TestKeyOptionsAsSwtpm(t *testing.T) {
	debian, err := exec.LookPath("/usr/bin/swtpm")
	if err != nil {
		t.Skip("there is no swtpm to compare with: install the package swtpm")
	}
	dir := shortDir(t)
	for name, content := range map[string]string{"hex": strings.Repeat("0123456789abcdef", 4), "half": strings.Repeat("ab", 16) + "\n", "0x": "0x" + strings.Repeat("ab", 16),
		"bin": strings.Repeat("k", 32), "short": strings.Repeat("k", 16), "odd": strings.Repeat("a", 31), "twenty": strings.Repeat("k", 20)} {
		os.WriteFile(join(dir, name), []byte(content), 0o600)
	}
	for _, option := range []string{
		"file=DIR/hex,mode=aes-256-cbc", "file=DIR/half", "file=DIR/0x,format=hex,mode=aes-cbc", "file=DIR/half,mode=aes-128-cbc",
		"file=DIR/bin,format=binary,mode=aes-256-cbc", "file=DIR/short,format=binary", "file=DIR/short,format=binary,mode=aes-256-cbc",
		"pwdfile=DIR/hex", "pwdfile=DIR/hex,kdf=sha512,mode=aes-256-cbc", "pwdfile=DIR/hex,kdf=pbkdf2", "pwdfd=3", "fd=3,mode=aes-256-cbc",
		"file=DIR/half,pwdfile=DIR/absent,kdf=md5", "file=DIR/half,remove=false", "file=DIR/half,remove=maybe", ",file=DIR/half,,",
		"", "mode=aes-cbc", "file=DIR/absent", "file=DIR/hex", "file=DIR/half,mode=aes-256-cbc", "file=DIR/odd", "file=DIR/bin",
		"file=DIR/bin,format=binary", "file=DIR/twenty,format=binary,mode=aes-256-cbc", "pwdfile=DIR/absent", "pwdfile=DIR/hex,kdf=md5",
		"pwdfile=DIR/hex,format=base64", "file=DIR/half,mode=aes-192-cbc", "fd=77", "pwdfd=77", "pwdfd=x", "file=DIR/half,colour=red", "pwdfile=", "file",
	} {
		var codes [2]int
		for i, path := range []string{"", debian} {
			args := []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + join(dir, "c") + strconv.Itoa(i),
				"--key", strings.ReplaceAll(option, "DIR", dir), "--migration-key", strings.ReplaceAll(option, "DIR", dir)}
			cmd := swtpmCommand(t, args...)
			if path != "" {
				cmd = exec.Command(path, args...)
			}
			cmd.ExtraFiles = []*os.File{pipeOf(t, strings.Repeat("0f", 32))}
			if strings.Contains(option, "fd=3") { // one pipe for one key
				cmd.Args = cmd.Args[:len(cmd.Args)-2]
			}
			codes[i] = outcome(t, cmd, join(dir, "c")+strconv.Itoa(i))
		}
		if codes[0] != codes[1] {
			t.Errorf("%q: ours ends with %d, swtpm with %d", option, codes[0], codes[1])
		}
	}
}

// outcome is 0 where a program listens, after which it is ended, or else its exit code.
func outcome(t testing.TB, cmd *exec.Cmd, socket string) int {
	t.Helper()
	os.Remove(socket)
	p := startProcess(t, cmd)
	defer p.kill()
	for {
		if c, err := net.Dial("unix", socket); err == nil {
			_, err = c.Write([]byte{0, 0, 0, 15})
			if err == nil { // swtpm listens before it reads its keys
				_, err = io.ReadFull(c, make([]byte, 8))
			}
			c.Close()
			if err == nil {
				return 0
			}
		}
		select {
		case <-p.done:
			return cmd.ProcessState.ExitCode()
		case <-time.After(time.Millisecond):
		}
	}
}
