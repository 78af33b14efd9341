package swtpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func (r *rig) expectRC(cmd string, want uint32) {
	r.t.Helper()
	if rc := execute(r.host, cmd); rc != tpm2.RC(want) {
		r.t.Fatalf("%s: %#x, want %#x", cmd, uint32(rc), want)
	}
}

func execute(h *Host, cmd string) tpm2.RC {
	return responseCode(h.Execute(0, unhex(cmd), nil))
}

// TestAutoShutdown checks that a TPM that is stopped, or initialized again,
// was shut down in order, so that Startup(STATE) finds something; and that a
// cut, or --flags disable-auto-shutdown, leaves it as the guest did.
func TestAutoShutdown(t *testing.T) {
	const noState = 0x1C4 // TPM_RC_VALUE + TPM_RC_P + TPM_RC_1
	for _, c := range []struct {
		name  string
		leave bool
		off   func(*Host)
		want  uint32
	}{
		{"STOP", false, (*Host).PowerOff, 0},
		{"INIT", false, func(*Host) {}, 0},
		{"cut", false, (*Host).Cut, noState},
		{"disabled", true, (*Host).PowerOff, noState},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), func(cfg *Config, _ *Server) { cfg.NoAutoShutdown = c.leave })
			r.control("00000002 00000000", "00000000")
			r.expectRC(startupClear, 0)
			c.off(r.host)
			r.control("00000002 00000000", "00000000")
			r.expectRC(startupState, c.want)
		})
	}
}

// TestShutdownThatWasNotLast: a guest that shuts down and goes on is shut down
// again, for any Startup; one whose Shutdown was the last is left alone.
func TestShutdownThatWasNotLast(t *testing.T) {
	const shutdownClear = "8001 0000000c 00000145 0000"
	for _, c := range []struct {
		after string
		want  uint32
	}{{getRandom, 0}, {shutdownClear, 0x1C4}} {
		r := newRig(t, t.TempDir(), nil)
		r.control("00000002 00000000", "00000000")
		r.expectRC(startupClear, 0)
		r.expectRC(shutdownClear, 0)
		r.expectRC(c.after, 0)
		r.control("00000002 00000000", "00000000")
		r.expectRC(startupState, c.want)
	}
}

// TestServerEndsInOrder checks the same for a server that ends.
func TestServerEndsInOrder(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	r.expectRC(startupClear, 0)
	r.kill()
	<-r.done
	if err := r.host.Close(); err != nil {
		t.Fatal(err)
	}
	again := newRig(t, r.dir, nil)
	again.control("00000002 00000000", "00000000")
	again.expectRC(startupState, 0)
}

func TestVolatileState(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	data := r.passData()
	wantRC(t, data, startupClear, 0)
	wantRC(t, data, extendPCR16, 0)
	pcr := command(t, data, unhex(readPCR16))
	r.control("0000000a", "00000000") // STORE_VOLATILE
	same := func() {
		t.Helper()
		if got := command(t, data, unhex(readPCR16)); !bytes.Equal(got, pcr) {
			t.Fatalf("PCR 16 is %x, was %x", got, pcr)
		}
	}
	r.control("0000000e", "00000000")
	r.control("00000002 00000000", "00000000")
	same()
	r.control("0000000a", "00000000")
	r.control("00000002 00000001", "00000000") // and delete it
	same()
	r.control("00000002 00000000", "00000000")
	wantRC(t, data, readPCR16, 0x100) // TPM_RC_INITIALIZE: powered on as ever

	// What is no volatile state of this TPM is refused and kept.
	other := newRig(t, t.TempDir(), nil)
	other.control("00000002 00000000", "00000000")
	other.control("0000000a", "00000000")
	from, to := other.host.state.volatile.Path(), r.host.state.volatile.Path()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	r.control("0000000e", "00000000")
	os.WriteFile(to, b, 0o600)
	r.control("00000002 00000000", "00000009")
	if !strings.Contains(r.log.String(), to) {
		t.Errorf("the log does not name the file: %s", r.log)
	}
	if now, _ := os.ReadFile(to); !bytes.Equal(now, b) {
		t.Error("the file was changed")
	}
}

// TestForeignState checks that a file which should be swtpm's and is none is
// neither used nor lost.
func TestForeignState(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	foreign := filepath.Join(r.dir, foreignName)
	os.WriteFile(foreign, []byte("state of swtpm"), 0o600)
	r.control("00000002 00000000", "00000009")
	if !strings.Contains(r.log.String(), foreign) {
		t.Errorf("the log does not name it: %s", r.log)
	}
	if b, _ := os.ReadFile(foreign); string(b) != "state of swtpm" {
		t.Error("it was changed")
	}
	if err := os.Remove(foreign); err != nil {
		t.Fatal(err)
	}
	r.control("00000002 00000000", "00000000")
	r.control("0000000e", "00000000")
	// Beside a state of our own it does not matter.
	os.WriteFile(foreign, []byte("state of swtpm"), 0o600)
	r.control("00000002 00000000", "00000000")
}

// TestDamagedState cuts and alters the state file: INIT fails, the log names
// the file, and it stays as it is.
func TestDamagedState(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	r.expectRC(startupClear, 0)
	r.control("0000000e", "00000000")
	path := r.host.state.permanent.Path()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(b []byte) {
		t.Helper()
		os.WriteFile(path, b, 0o600)
		r.control("00000002 00000000", "00000009")
		r.control("0000000d 00000000 00000001 00000000", "00000003")
		if now, _ := os.ReadFile(path); !bytes.Equal(now, b) {
			t.Fatal("the file was changed")
		}
	}
	for n := 0; n < len(good); n += 1777 {
		refused(good[:n])
		b := bytes.Clone(good)
		b[n] ^= 0x10
		refused(b)
	}
	if !strings.Contains(r.log.String(), path) {
		t.Errorf("the log does not name the file: %s", r.log)
	}
	os.WriteFile(path, good, 0o600)
	r.control("00000002 00000000", "00000000")
	r.expectRC(startupState, 0)
}

// TestUnavailableNV checks that a state that cannot be saved undoes its
// command, and that the TPM goes on when it can be saved again.
func TestUnavailableNV(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	r.host.SetNV(false)
	r.expectRC(startupClear, 0x923)
	r.expectRC(getRandom, 0x100) // Startup was undone
	r.host.SetNV(true)
	r.expectRC(startupClear, 0)
	r.host.SetNV(false)
	r.expectRC(shutdownState, 0x923)
	r.expectRC(getRandom, 0)
	r.host.SetNV(true)
	r.expectRC(shutdownState, 0)
}

// createRSA is CreatePrimary of an RSA 3072 key in the null hierarchy, which
// takes long enough to be cancelled.
var createRSA = func() string {
	unique := "0000"
	public := "0001 000b 00030072 0000 0006 0080 0043 0010 0c00 00000000" + unique
	params := "0004 0000 0000" + size16(public) + public + "0000 00000000"
	cmd := "00000131 40000007 00000009 40000009 0000 00 0000" + params
	total := make([]byte, 4)
	binary.BigEndian.PutUint32(total, uint32(6+len(unhex(cmd))))
	return "8002" + hexWord(binary.BigEndian.Uint32(total)) + cmd
}()

func size16(s string) string {
	return hexWord(uint32(len(unhex(s))))[4:]
}

// TestCancel cancels a command that runs, by the control channel.
func TestCancel(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	r.expectRC(startupClear, 0)
	r.host.HoldCancel(true)
	r.expectRC(createRSA, 0x909)
	r.expectRC(getRandom, 0)
	r.host.HoldCancel(false)

	data := r.passData()
	for range 20 {
		data.Write(unhex(createRSA))
		time.Sleep(2 * time.Millisecond)
		before := time.Now()
		r.control("00000009", "00000000")
		if d := time.Since(before); d > time.Second {
			t.Fatalf("CANCEL_TPM_CMD was answered after %v", d)
		}
		rsp := command(t, data, nil)
		if rc := responseCode(rsp); rc == tpm2.RCCanceled {
			return
		}
		r.expectRC("8001 0000000e 00000165 80000000", 0) // it was faster: flush
	}
	t.Fatal("no command was cancelled in 20 tries")
}

// TestMigrationLock follows the lock through a migration between two hosts
// that share the directory, and back when it fails.
func TestMigrationLock(t *testing.T) {
	dir := t.TempDir()
	source := newRig(t, dir, func(c *Config, _ *Server) { c.ReleaseOutgoing = true })
	source.control("00000002 00000000", "00000000")
	source.expectRC(startupClear, 0)
	target := newRig(t, dir, func(c *Config, _ *Server) { c.Incoming = true })
	target.control("00000013 00000000", "00000009") // the source has it
	target.control("0000000d 00000000 00000003 00000000", "0000001f")
	for _, blob := range []string{"01", "02"} {
		head := exchange(t, source.ctrl, unhex("0000000c 00000001 000000"+blob+"00000000"), 16)
		exchange(t, source.ctrl, nil, int(word(head[12:])))
	}
	source.control("0000000c 00000001 00000003 00000000", "00000800 00000000 00000000 00000000")
	target.control("00000013 00000001", "00000000")
	source.control("00000013 00000002", "00000009")
	source.expectRC(getRandom, 0x101) // it must not run twice
	target.kill()
	<-target.done
	target.host.Close()
	source.control("00000013 0000012c", "00000000")
	source.expectRC(shutdownState, 0)
}

// TestIncomingMovedOn starts a TPM beside one that runs, as the target of a
// migration may: it must not overwrite what the other wrote meanwhile.
func TestIncomingMovedOn(t *testing.T) {
	dir := t.TempDir()
	source := newRig(t, dir, nil)
	source.control("00000002 00000000", "00000000")
	target := newRig(t, dir, func(c *Config, _ *Server) { c.Incoming = true })
	target.control("00000002 00000000", "00000000")
	source.expectRC(startupClear, 0)
	source.expectRC(defineSpace(1), 0)
	source.kill()
	<-source.done
	source.host.Close()
	target.expectRC(startupClear, 0x101)
	target.control("00000002 00000000", "00000000")
	target.expectRC(startupClear, 0)
	target.expectRC(defineSpace(1), 0x14C) // TPM_RC_NV_DEFINED
}

// TestIncomingMakesNothing: a migration's target that is powered on where there is no
// state yet makes none while another process has the lock.
func TestIncomingMakesNothing(t *testing.T) {
	dir := t.TempDir()
	held := testDir(t, dir)
	h, _ := newTestHost(t, dir, func(c *Config) { c.Incoming = true })
	if err := h.Start(); !errors.Is(err, store.ErrLocked) {
		t.Errorf("without the lock: %v", err)
	}
	if all := content(t, dir); all != "" {
		t.Errorf("it made %.20q", all)
	}
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(); err != nil {
		t.Error(err)
	}
}

// TestTwoProcesses checks that a directory in use is refused.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, nil)
	r.control("00000002 00000000", "00000000")
	other := newRig(t, dir, nil)
	other.control("00000002 00000000", "00000009")
	if !strings.Contains(other.log.String(), dir) {
		t.Errorf("the log does not name the directory: %s", other.log)
	}
}

func TestStates(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	list := func() []StateInfo {
		d, err := store.OpenDir(r.dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := States(d)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := list(); len(s) != 0 {
		t.Errorf("no states: %v", s)
	}
	r.control("00000002 00000000", "00000000")
	r.control("0000000a", "00000000")
	s := list()
	if len(s) != 2 || s[0].Name != "permall" || s[1].Name != "volatile" || s[0].Size == 0 || s[1].Size == 0 {
		t.Errorf("states: %v", s)
	}
}

// TestFullDisk fills a small file system: a command that needs more room is
// undone, all others go on, and it heals when there is room again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=192k", "none", dir).Run(); err != nil {
		t.Skip("needs root, to mount a small file system")
	}
	t.Cleanup(func() { exec.CommandContext(context.Background(), "umount", "-l", dir).Run() })
	r := newRig(t, dir, nil)
	r.control("00000002 00000000", "00000000")
	r.expectRC(startupClear, 0)
	filler := filepath.Join(dir, "filler")
	os.WriteFile(filler, make([]byte, 300<<10), 0o600) // as much as fits
	undone := false
	n := 0
	for ; n < 64 && !undone; n++ {
		rc := execute(r.host, defineSpace(n))
		if rc == tpm2.RCSuccess {
			rc = execute(r.host, fillSpace(n))
		}
		switch rc {
		case tpm2.RCSuccess:
		case tpm2.RCNVUnavailable:
			undone = true
		default:
			t.Fatalf("index %d: %v", n, rc)
		}
	}
	if !undone {
		t.Fatal("the disk never filled")
	}
	r.expectRC(getRandom, 0)
	r.expectRC(fillSpace(0), 0) // fits where it was
	os.Remove(filler)
	_ = execute(r.host, defineSpace(n-1)) // if that was undone
	r.expectRC(fillSpace(n-1), 0)
	r.control("00000002 00000000", "00000000")
	r.expectRC(startupClear, 0)
	r.expectRC(defineSpace(n-1), 0x14C) // TPM_RC_NV_DEFINED
}

// defineSpace is NV_DefineSpace of index n with 2048 bytes.
func defineSpace(n int) string {
	public := hexWord(0x01800000+uint32(n)) + "000b 02040004 0000 0800"
	cmd := "0000012a 40000001 00000009 40000009 0000 00 0000 0000" + size16(public) + public
	return "8002" + hexWord(uint32(6+len(unhex(cmd)))) + cmd
}

// fillSpace is NV_Write of 1024 bytes to index n.
func fillSpace(n int) string {
	index := hexWord(0x01800000 + uint32(n))
	cmd := "00000137" + index + index + "00000009 40000009 0000 00 0000 0400" + hexRepeat("5a", 1024) + "0000"
	return "8002" + hexWord(uint32(6+len(unhex(cmd)))) + cmd
}

// TestVolatileStateEnds: a volatile state is good until the TPM that runs has
// written its permanent one. The next power on is then one as ever, neither a
// return to the past nor an error.
func TestVolatileStateEnds(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	r.expectRC(startupClear, 0)
	r.control("0000000a", "00000000") // STORE_VOLATILE
	r.expectRC(shutdownState, 0)
	if _, err := os.Stat(r.host.state.volatile.Path()); err == nil {
		t.Error("the volatile state is still there")
	}
	r.control("00000002 00000000", "00000000")
	r.expectRC(startupState, 0)
}

// TestVolatileStateOfFailedMigration: what the target put into the shared
// directory does not outlive the source's return.
func TestVolatileStateOfFailedMigration(t *testing.T) {
	dir := t.TempDir()
	source := newRig(t, dir, func(c *Config, _ *Server) { c.ReleaseOutgoing = true })
	source.control("00000002 00000000", "00000000")
	source.expectRC(startupClear, 0)
	target := newRig(t, dir, func(c *Config, _ *Server) { c.Incoming = true })
	var blobs [2][]byte
	for i, kind := range []BlobType{BlobPermanent, BlobVolatile} {
		var r Result
		if blobs[i], _, r = source.host.StateBlob(kind, true); r != OK {
			t.Fatal(r)
		}
	}
	if _, _, r := source.host.StateBlob(BlobSaveState, true); r != Retry {
		t.Fatal(r)
	}
	for i, kind := range []BlobType{BlobPermanent, BlobVolatile} {
		if r := target.host.SetStateBlob(kind, blobs[i], false); r != OK {
			t.Fatalf("state %d: %v", kind, r)
		}
	}
	target.host.Close()
	if r := source.host.LockStorage(100); r != OK {
		t.Fatal(r)
	}
	source.expectRC(shutdownState, 0)
	source.control("00000002 00000000", "00000000")
	source.expectRC(startupState, 0)
}
