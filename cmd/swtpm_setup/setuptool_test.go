package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// setupConfig makes a configuration whose CA is in a folder of its own, and gives
// the file of swtpm_setup.
func setupConfig(t testing.TB, localca string) string {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{
		"setup.conf": fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n",
			localca, path("ca.conf"), path("ca.options")),
		"ca.conf": fmt.Sprintf("statedir = %s\nsigningkey = %s\nissuercert = %s\ncertserial = %s\n",
			dir, path("signkey.pem"), path("issuercert.pem"), path("certserial")),
		"ca.options": "--platform-manufacturer Test\n--platform-version 2.1\n--platform-model QEMU\n",
	} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path("setup.conf")
}

// runningTPM is a TPM of ours or Debian's that was started from its state.
type runningTPM struct {
	device
	stop func()
}

// startOurs starts our TPM from a directory or from one file.
func startOurs(t testing.TB, dir string) runningTPM {
	t.Helper()
	return startSealed(t, dir, "")
}

// startSealed starts our TPM from a state that is encrypted under the key of option,
// or in clear.
func startSealed(t testing.TB, dir, option string) runningTPM {
	t.Helper()
	var key *swtpm.Key
	if option != "" {
		var err error
		if key, err = swtpm.ReadKey(option); err != nil {
			t.Fatal(err)
		}
	}
	open := store.OpenDir
	if st, err := os.Stat(dir); err == nil && !st.IsDir() {
		open = swtpm.OpenFile
	}
	d, err := open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := swtpm.NewHost(swtpm.Config{Dir: d, Key: key, Engine: engineConfig()})
	stop := func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	if rc := h.Startup(false); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	return runningTPM{func(cmd []byte) []byte { return h.Execute(0, cmd, nil) }, stop}
}

// startTheirs starts Debian's.
func startTheirs(t testing.TB, dir string) runningTPM {
	t.Helper()
	sockets, err := os.MkdirTemp("", "sw") // short: the path of a socket has a limit
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "not-need-init,startup-clear",
		"--server", "type=unixio,path="+sockets+"/d", "--ctrl", "type=unixio,path="+sockets+"/c")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.RemoveAll(sockets)
	}
	t.Cleanup(stop)
	var c net.Conn
	for i := 0; c == nil; i++ {
		if c, err = net.Dial("unix", sockets+"/d"); err != nil && i > 1000 {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Cleanup(func() { c.Close() })
	return runningTPM{func(cmd []byte) []byte {
		head := make([]byte, 10)
		_, err1 := c.Write(cmd)
		_, err2 := io.ReadFull(c, head)
		rsp := append(head, make([]byte, max(10, binary.BigEndian.Uint32(head[2:]))-10)...)
		_, err3 := io.ReadFull(c, rsp[10:])
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Error(err)
			return nil
		}
		return rsp
	}, stop}
}

// decode runs a command and reads its response.
func (d device) decode(t testing.TB, into []tpm2.Walker, cc tpm2.CC, handles []tpm2.Handle, auth bool, params ...tpm2.Walker) {
	t.Helper()
	rsp, err := d.run(cc, handles, auth, params...)
	if err != nil {
		t.Fatal(err)
	}
	if auth {
		rsp = rsp[4:]
	}
	c := tpm2.NewDecoder(rsp)
	for _, w := range into {
		w.Walk(&c)
	}
	if rc := c.RC(); rc != tpm2.RCSuccess {
		t.Fatalf("%v: %v", cc, rc)
	}
}

func (d device) handles(t testing.TB, first tpm2.Handle) tpm2.HandleList {
	t.Helper()
	data, err := d.capability(tpm2.CapHandles, uint32(first), 100)
	if err != nil {
		t.Fatal(err)
	}
	return data.Handles
}

func (d device) public(t testing.TB, key tpm2.Handle) *tpm2.Public {
	t.Helper()
	var public tpm2.SizedPublic
	d.decode(t, []tpm2.Walker{&public}, tpm2.CCReadPublic, []tpm2.Handle{key}, false)
	p := public.Clone()
	return &p
}

func (d device) nvPublic(t testing.TB, index tpm2.Handle) tpm2.NVPublic {
	t.Helper()
	var public tpm2.SizedNVPublic
	d.decode(t, []tpm2.Walker{&public}, tpm2.CCNVReadPublic, []tpm2.Handle{index}, false)
	return public.NVPublic
}

// read reads an NV Index with its own authorization.
func (d device) read(t testing.TB, index tpm2.Handle) (data []byte) {
	t.Helper()
	size := int(d.nvPublic(t, index).DataSize)
	for len(data) < size {
		n, at := tpm2.UINT16(min(512, size-len(data))), tpm2.UINT16(len(data))
		var piece tpm2.MaxBuffer
		d.decode(t, []tpm2.Walker{&piece}, tpm2.CCNVRead, []tpm2.Handle{index, index}, true, &n, &at)
		data = append(data, piece...)
	}
	return data
}

// portrait is what of a TPM does not depend on its seeds, when it was made and how
// long its certificates are, a line for each thing.
func (d device) portrait(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, h := range d.handles(t, tpm2.PersistentFirst) {
		p := d.public(t, h)
		p.Unique, p.Point = nil, tpm2.ECCPoint{}
		fmt.Fprintf(&b, "key %x: %x\n", uint32(h), tpm2.Marshal(p))
	}
	for _, h := range d.handles(t, tpm2.NVIndexFirst) {
		p := d.nvPublic(t, h)
		if data := d.read(t, h); p.DataSize < 450 { // a template
			fmt.Fprintf(&b, "nv %x holds %x\n", uint32(h), data)
		} else {
			p.DataSize = 0
		}
		fmt.Fprintf(&b, "nv %x: %x\n", uint32(h), tpm2.Marshal(&p))
	}
	data, err := d.capability(tpm2.CapPCRs, 0, 16)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "pcrs: %x\n", tpm2.Marshal(&data.PCRs))
	if data, err = d.capability(tpm2.CapTPMProperties, 0x200, 100); err != nil {
		t.Fatal(err)
	}
	for _, p := range data.Properties {
		fmt.Fprintf(&b, "property %x: %x\n", uint32(p.Property), p.Value)
	}
	var now tpm2.TimeInfo
	d.decode(t, []tpm2.Walker{&now}, tpm2.CCReadClock, nil, false)
	fmt.Fprintf(&b, "resets %d, restarts %d\n", now.ClockInfo.ResetCount, now.ClockInfo.RestartCount)
	return b.String()
}
