package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// guest is a QEMU without a disk: its firmware starts the TPM and measures.
type guest struct {
	t       *testing.T
	tpm     *process
	qemu    *process
	monitor net.Conn
	in      *bufio.Scanner
}

func startGuest(t *testing.T, dir, device string, more ...string) *guest {
	t.Helper()
	return startGuestOn(t, swtpmCommand(t, guestTPM(dir)...), dir, device, more...)
}

// guestTPM is the arguments of a swtpm for a guest.
func guestTPM(dir string) []string {
	return []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + join(dir, "ctrl"), "--terminate"}
}

// startGuestOn starts a guest with the swtpm of a command.
func startGuestOn(t *testing.T, swtpm *exec.Cmd, dir, device string, more ...string) *guest {
	t.Helper()
	g := &guest{t: t}
	g.tpm = startProcess(t, swtpm)
	g.tpm.dial("unix", join(dir, "ctrl")).Close()
	args := append([]string{"-machine", "q35,accel=tcg", "-m", "64", "-nodefaults", "-display", "none",
		"-chardev", "socket,id=c,path=" + join(dir, "ctrl"), "-tpmdev", "emulator,id=t,chardev=c",
		"-device", device + ",tpmdev=t", "-qmp", "unix:" + join(dir, "qmp") + ",server=on,wait=off"}, more...)
	g.qemu = startProcess(t, exec.Command("qemu-system-x86_64", args...))
	g.monitor = g.qemu.dial("unix", join(dir, "qmp"))
	g.in = bufio.NewScanner(g.monitor)
	g.ask("qmp_capabilities", nil)
	return g
}

// ask runs a monitor command and gives what it returns.
func (g *guest) ask(command string, arguments any) map[string]any {
	g.t.Helper()
	b, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if arguments == nil {
		b, err = json.Marshal(map[string]any{"execute": command})
	}
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := g.monitor.Write(b); err != nil {
		g.t.Fatalf("%v\n%s%s", err, g.qemu.errs, g.tpm.errs)
	}
	_ = g.monitor.SetReadDeadline(time.Now().Add(30 * time.Second))
	for g.in.Scan() {
		var m struct {
			Return any
			Error  any
		}
		if err := json.Unmarshal(g.in.Bytes(), &m); err != nil {
			g.t.Fatal(err)
		}
		if m.Error != nil {
			g.t.Fatalf("%s: %v\n%s%s", command, m.Error, g.qemu.errs, g.tpm.errs)
		}
		switch r := m.Return.(type) {
		case map[string]any:
			return r
		case string: // what a person's monitor command says
			return map[string]any{"says": r}
		}
	}
	g.t.Fatalf("%s: QEMU is gone\n%s%s", command, g.qemu.errs, g.tpm.errs)
	return nil
}

// await asks until the answer's status is one of those wanted.
func (g *guest) await(command string, want ...string) {
	g.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		status := fmt.Sprint(g.ask(command, nil)["status"])
		for _, w := range want {
			if status == w {
				return
			}
		}
		if time.Now().After(deadline) || status == "failed" {
			g.t.Fatalf("%s: %s\n%s%s", command, status, g.qemu.errs, g.tpm.errs)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// quit ends QEMU, and with it swtpm.
func (g *guest) quit() {
	g.t.Helper()
	g.ask("quit", nil)
	g.qemu.wait()
	if code := g.tpm.wait(); code != 0 {
		g.t.Errorf("swtpm: exit code %d: %s", code, g.tpm.errs)
	}
}

// TestQEMU boots firmware on both kinds of TPM device, moves the guest to
// another QEMU and swtpm, and finds there what the firmware measured.
func TestQEMU(t *testing.T) {
	needTools(t, "qemu-system-x86_64")
	for _, device := range []string{"tpm-tis", "tpm-crb"} {
		t.Run(device, func(t *testing.T) {
			source, target := shortDir(t), shortDir(t)
			moveGuest(t, startGuest(t, source, device, firmwareLog(source)...), source, target, device)
		})
	}
}

// TestQEMUFromDebian moves a guest that runs on Debian's swtpm to ours.
func TestQEMUFromDebian(t *testing.T) {
	const debian = "/usr/bin/swtpm"
	needTools(t, "qemu-system-x86_64", debian)
	source, target := shortDir(t), shortDir(t)
	g := startGuestOn(t, exec.Command(debian, guestTPM(source)...), source, "tpm-crb", firmwareLog(source)...)
	moveGuest(t, g, source, target, "tpm-crb")
}

// firmwareLog is the arguments of a QEMU whose firmware tells what it does.
func firmwareLog(dir string) []string {
	return []string{"-chardev", "file,id=log,path=" + join(dir, "firmware"), "-device", "isa-debugcon,iobase=0x402,chardev=log"}
}

// moveGuest moves a guest whose files are in source to our swtpm, and finds there
// what the firmware measured.
func moveGuest(t *testing.T, g *guest, source, target, device string) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		log, err := os.ReadFile(join(source, "firmware"))
		if err == nil && bytes.Contains(log, []byte("No bootable device")) { // it has measured
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the firmware does not come to its end: %s", log)
		}
	}
	g.ask("migrate", map[string]string{"uri": "exec:cat > " + join(source, "guest")})
	g.await("query-migrate", "completed")
	g.quit()

	g = startGuest(t, target, device, "-incoming", "exec:cat "+join(source, "guest"))
	g.await("query-status", "running", "paused", "postmigrate")
	g.quit()

	p := startProcess(t, swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+target,
		"--flags", "startup-state", "--server", "type=unixio,path="+join(target, "d")))
	w := wire{p.dial("unix", join(target, "d"))}
	rsp, err := tpm2.PCRRead{PCRSelectionIn: pcrSelection(0)}.Execute(w)
	if err != nil {
		t.Fatalf("%v: %s", err, p.errs)
	}
	if pcr := rsp.PCRValues.Digests[0].Buffer; bytes.Equal(pcr, make([]byte, 32)) {
		t.Error("PCR 0 holds nothing")
	}
}
