package tpm

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

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// oracle is Debian's swtpm, a second opinion on what a command answers.
type oracle struct {
	t             *testing.T
	dir           string // of its state
	data, control net.Conn
	// lost, if not nil, is told of a command on which the program ended.
	lost func(cmd []byte)
}

// newOracle starts a swtpm with a new state and powers it on. The test is
// skipped where there is no swtpm.
func newOracle(t *testing.T) *oracle { return newOracleOf(t, nil) }

// newOracleOf starts a swtpm with a permanent state, a new one where it is nil.
func newOracleOf(t *testing.T, permanent []byte) *oracle {
	t.Helper()
	path, err := exec.LookPath("swtpm")
	if err != nil {
		t.Skip("there is no swtpm to compare with: install the package swtpm")
	}
	dir, err := os.MkdirTemp("", "oracle") // short: the path of a socket has a limit
	if err != nil {
		t.Fatal(err)
	}
	if permanent != nil {
		file := binary.BigEndian.AppendUint32([]byte{2, 1, 0, 10, 0, 0}, uint32(len(permanent)+16))
		file = binary.BigEndian.AppendUint32(append(file, 0, 1), uint32(len(permanent)))
		if err := os.WriteFile(filepath.Join(dir, "tpm2-00.permall"), append(file, permanent...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := &oracle{t: t, dir: dir}
	o.start(path)
	return o
}

// start starts the program and connects to it.
func (o *oracle) start(path string) {
	o.t.Helper()
	data, control := filepath.Join(o.dir, "data"), filepath.Join(o.dir, "control")
	os.Remove(data)
	os.Remove(control)
	cmd := exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+o.dir, "--flags", "not-need-init",
		"--server", "type=unixio,path="+data, "--ctrl", "type=unixio,path="+control)
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	o.data, o.control = dial(o.t, data), dial(o.t, control)
}

// dial connects to a socket that is about to be there.
func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	var err error
	for range 200 {
		var c net.Conn
		if c, err = net.Dial("unix", path); err == nil {
			t.Cleanup(func() { c.Close() })
			c.SetDeadline(time.Now().Add(time.Minute))
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("swtpm does not answer: %v", err)
	return nil
}

// execute sends a command and gives its response. libtpms 0.9 refuses the
// first use of a protected authorization with TPM_RC_RETRY: it is sent again.
func (o *oracle) execute(cmd []byte) []byte {
	o.t.Helper()
	resp := o.send(cmd)
	if code(resp) == tpm2.RCRetry {
		resp = o.send(cmd)
	}
	return resp
}

func (o *oracle) send(cmd []byte) []byte {
	o.t.Helper()
	if _, err := o.data.Write(cmd); err != nil {
		o.t.Fatal(err)
	}
	resp := make([]byte, headerSize)
	if _, err := io.ReadFull(o.data, resp); err != nil {
		if o.lost != nil {
			o.lost(cmd)
		}
		o.t.Fatalf("swtpm does not answer %x: %v", cmd, err)
	}
	rest := make([]byte, int(binary.BigEndian.Uint32(resp[2:]))-headerSize)
	if _, err := io.ReadFull(o.data, rest); err != nil {
		o.t.Fatal(err)
	}
	return append(resp, rest...)
}

// tell sends a request on the control channel; its answer must be success.
func (o *oracle) tell(request ...byte) {
	o.t.Helper()
	if _, err := o.control.Write(request); err != nil {
		o.t.Fatal(err)
	}
	var rc [4]byte
	if _, err := io.ReadFull(o.control, rc[:]); err != nil || rc != [4]byte{} {
		o.t.Fatalf("control request %x: %x, %v", request, rc, err)
	}
}

// pair runs the same commands on this engine and on the oracle.
type pair struct {
	*rig
	o *oracle
}

// newPair powers both on with a new state, not started.
func newPair(t *testing.T) *pair {
	o := newOracle(t)
	return &pair{rig: newRig(t, false), o: o}
}

// cut cuts the power of both without a Shutdown, and gives it back.
func (p *pair) cut() {
	p.t.Helper()
	p.power(p.durable)
	p.o.tell(0, 0, 0, 2, 0, 0, 0, 0)
}

// setLocality sets the locality of the commands that follow.
func (p *pair) setLocality(l uint8) {
	p.t.Helper()
	p.locality = l
	p.o.tell(0, 0, 0, 5, l)
}

// same runs a command on both; the responses must be the same, byte for byte.
func (p *pair) same(what string, cmd []byte) []byte {
	p.t.Helper()
	got, want := p.execute(cmd), p.o.execute(cmd)
	if !bytes.Equal(got, want) {
		p.t.Errorf("%s: the answers differ:\n ours  %v %x\n swtpm %v %x", what, code(got), got, code(want), want)
	}
	return got
}

// expect is same where the code is known.
func (p *pair) expect(rc tpm2.RC, what string, cmd []byte) []byte {
	p.t.Helper()
	got := p.same(what, cmd)
	if code(got) != rc {
		p.t.Errorf("%s: %v, want %v", what, code(got), rc)
	}
	return got
}

func code(resp []byte) tpm2.RC { return tpm2.RC(binary.BigEndian.Uint32(resp[6:])) }

func startupCmd(su tpm2.SU) []byte  { return frame(tpm2.CCStartup, nil, nil, u16(uint16(su))) }
func shutdownCmd(su tpm2.SU) []byte { return frame(tpm2.CCShutdown, nil, nil, u16(uint16(su))) }
