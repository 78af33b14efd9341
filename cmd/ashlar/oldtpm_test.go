package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
)

// Debian's programs, which make the TPMs that are to be taken over.
const (
	debianTPM   = "/usr/bin/swtpm"
	debianSetup = "/usr/bin/swtpm_setup"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// setupTPM makes a TPM in a directory by Debian's swtpm_setup.
func setupTPM(t testing.TB, dir string, more ...string) string {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	args := append([]string{"--tpm", debianTPM + " socket", "--tpmstate", dir, "--overwrite"}, more...)
	if out, err := exec.Command(debianSetup, args...).CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup: %v\n%s", err, out)
	}
	return dir
}

// oldTPM is Debian's swtpm on a directory.
type oldTPM struct {
	t          testing.TB
	data, ctrl net.Conn
	stop       func()
}

// runOld starts it; its TPM has had TPM2_Startup.
func runOld(t testing.TB, dir string, more ...string) *oldTPM {
	t.Helper()
	run, err := os.MkdirTemp("", "old")
	must(t, err)
	cmd := exec.Command(debianTPM, append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--flags", "not-need-init,startup-clear",
		"--server", "type=unixio,path=" + run + "/d", "--ctrl", "type=unixio,path=" + run + "/c"}, more...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	must(t, cmd.Start())
	o := &oldTPM{t: t, stop: func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.RemoveAll(run)
	}}
	t.Cleanup(o.stop)
	for _, to := range []struct {
		conn *net.Conn
		name string
	}{{&o.ctrl, "c"}, {&o.data, "d"}} {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if *to.conn, err = net.Dial("unix", filepath.Join(run, to.name)); err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("Debian's swtpm does not listen: %v: %s", err, errs.String())
			}
		}
	}
	_, err = o.ctrl.Write([]byte{0, 0, 0, cmdGetConfig})
	if err == nil { // it listens before it has written a state, and answers after
		_, err = io.ReadFull(o.ctrl, make([]byte, 8))
	}
	must(t, err)
	return o
}

// control sends a command of the control channel, which must succeed.
func (o *oldTPM) control(cmd uint32, rest ...byte) {
	o.t.Helper()
	rsp := make([]byte, 4)
	_, err := o.ctrl.Write(append(binary.BigEndian.AppendUint32(nil, cmd), rest...))
	if err == nil {
		_, err = o.ctrl.Read(rsp)
	}
	if err != nil || binary.BigEndian.Uint32(rsp) != 0 {
		o.t.Fatalf("control command %d: %x, %v", cmd, rsp, err)
	}
}

// readEK asks for the public part of the endorsement key.
var readEK = []byte{0x80, 0x01, 0, 0, 0, 14, 0, 0, 1, 0x73, 0x81, 0x01, 0x00, 0x01}

// ek is what readEK gives.
func (o *oldTPM) ek() string {
	o.t.Helper()
	b := make([]byte, 4096)
	if _, err := o.data.Write(readEK); err != nil {
		o.t.Fatal(err)
	}
	n, err := o.data.Read(b)
	must(o.t, err)
	return goodEK(o.t, b[:n])
}

func goodEK(t testing.TB, rsp []byte) string {
	t.Helper()
	if len(rsp) < 200 || binary.BigEndian.Uint32(rsp[6:]) != 0 {
		t.Fatalf("there is no endorsement key: %x", rsp)
	}
	return string(rsp)
}

// ourEK starts our TPM on a directory and gives its endorsement key.
func ourEK(t testing.TB, path string, key *swtpm.Key) string {
	t.Helper()
	dir, err := store.OpenDir(path, store.Options{})
	must(t, err)
	h := swtpm.NewHost(swtpm.Config{Dir: dir, Engine: engineConfig(), Key: key})
	defer h.Close()
	must(t, h.Start())
	h.Startup(false)
	return goodEK(t, h.Execute(0, readEK, nil))
}

// Control commands of swtpm.
const (
	cmdHashStart     = 6
	cmdStoreVolatile = 10
	cmdGetConfig     = 15
)
