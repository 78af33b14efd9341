package swtpm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm"
)

// TestControlStates checks which commands are refused while the TPM is off,
// and which while it is on, and how.
func TestControlStates(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000001", "00000000 0001ffff")
	for _, cmd := range []string{
		"00000004", "00000006", "00000007 00000000", "00000008", "00000009", "0000000a",
		"0000000b 03", "0000000c 00000001 00000001 00000000",
	} {
		r.control(cmd, "0000000a")
	}
	r.control("00000063", "0000000a")                                                       // no such command
	r.control("0000000f", "00000000 00000000")                                              // GET_CONFIG: no keys
	r.control("00000002 00000000", "00000000")                                              // INIT
	r.control("0000000d 00000000 00000001 00000000", "0000000a")                            // SET_STATEBLOB
	r.control("00000011 00000f80", "0000000a")                                              // SET_BUFFERSIZE
	r.control("00000011 00000000", "00000000 00001000 00000af8 00001000")                   // only asks
	r.control("00000004", "00000000 00000000")                                              // GET_TPMESTABLISHED
	r.control("00000009", "00000000")                                                       // CANCEL: none runs
	r.control("0000000c 00000001 00000003 00000000", "00000800 00000000 00000000 00000000") // no savestate
	r.control("0000000c 00000001 00000004 00000000", "00000009 00000000 00000000 00000000") // no such type
	r.control("00000013 00000001", "00000000")                                              // LOCK_STORAGE
	r.control("0000000e", "00000000")                                                       // STOP
	r.control("00000004", "0000000a")
}

func TestControlLengths(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	for _, cmd := range []string{
		"00000002 0000000000", "00000003 00", "00000004 00", "00000006 00", "00000008 00",
		"00000009 00", "0000000a 00", "0000000e 00", "0000000f 00",
		"00000007 00000001 0102",                      // more data than announced
		"00000012 0000000000000001 00001000 00000000", // offset behind the end
		"00000010", // no descriptor
	} {
		r.control(cmd, "00000003")
	}
	// What is too short is waited for, and then refused; the channel lives.
	for _, cmd := range []string{"00", "00000002 00", "00000005", "00000011 0000"} {
		before := time.Now()
		r.control(cmd, "00000003")
		if d := time.Since(before); d < ctrlPatience || d > ctrlPatience+5*time.Second {
			t.Errorf("%s was answered after %v", cmd, d)
		}
	}
	// A command in two pieces is one command.
	r.ctrl.Write(unhex("0000"))
	time.Sleep(50 * time.Millisecond)
	r.ctrl.Write(unhex("0011 00"))
	time.Sleep(50 * time.Millisecond)
	r.control("000000", "00000000 00001000 00000af8 00001000")
	r.control("0000000d 00000000 00000001 ffffffff", "0000000a") // while on
	r.control("0000000e", "00000000")
	r.control("0000000d 00000000 00000001 ffffffff", "00000009") // too long
	r.control("0000000d 00000000 00000001 00000001 0102", "00000003")
}

func TestControlLocality(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000005 00", "00000000")
	r.control("00000005 04000000", "00000000") // four bytes, as QEMU sends
	r.control("00000005 05", "0000003d")
	if l := r.host.Locality(); l != 4 {
		t.Errorf("locality %d, want 4", l)
	}
	r.control("00000002 00000000", "00000000")
	r.control("0000000b 05", "0000003d")
	r.control("0000000b 02", "0000003d")
	r.control("0000000b 03000000", "00000000")

	r = newRig(t, t.TempDir(), func(c *Config, _ *Server) { c.RejectLocality4 = true })
	r.control("00000005 04", "0000003d")
	r.control("00000005 03", "00000000")
}

func TestControlBufferSize(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000011 00000f80", "00000000 00000f80 00000af8 00001000")
	r.control("00000011 00000001", "00000000 00000af8 00000af8 00001000")
	r.control("00000011 ffffffff", "00000000 00001000 00000af8 00001000")
	r.control("00000011 00000f80", "00000000 00000f80 00000af8 00001000")
	r.control("00000002 00000000", "00000000")
	data := r.passData()
	wantRC(t, data, startupClear, 0)
	// TPM_PT_MAX_COMMAND_SIZE follows.
	rsp := command(t, data, unhex("8001 00000016 0000017a 00000006 0000011e 00000001"))
	if got := binary.BigEndian.Uint32(rsp[len(rsp)-4:]); got != 0xf80 {
		t.Errorf("TPM_PT_MAX_COMMAND_SIZE is %d", got)
	}
}

func TestControlInfo(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	head := exchange(t, r.ctrl, unhex("00000012 0000000000000007 00000000 00000000"), 12)
	if word(head) != 0 || word(head[4:]) != word(head[8:]) {
		t.Fatalf("GET_INFO: %x", head)
	}
	text := make([]byte, word(head[8:]))
	if _, err := io.ReadFull(r.ctrl, text); err != nil {
		t.Fatal(err)
	}
	var v struct{ TPMSpecification struct{ Family string } }
	if err := json.Unmarshal(bytes.TrimRight(text, "\x00"), &v); err != nil || v.TPMSpecification.Family != "2.0" {
		t.Errorf("%s: %v", text, err)
	}
	tail := exchange(t, r.ctrl, unhex("00000012 0000000000000007 00000003 00000000"), 12+len(text)-3)
	if !bytes.Equal(tail[12:], text[3:]) {
		t.Errorf("from offset 3: %s", tail[12:])
	}
}

// TestControlInfoInParts reads more than one answer holds.
func TestControlInfoInParts(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	var text []byte
	for total := uint32(1); uint32(len(text)) < total; {
		cmd := binary.BigEndian.AppendUint32(unhex("00000012 00000000000000ff"), uint32(len(text)))
		head := exchange(t, r.ctrl, append(cmd, 0, 0, 0, 0), 12)
		part := make([]byte, word(head[8:]))
		if total = word(head[4:]); word(head) != 0 || len(part) == 0 || len(part) > maxInfo {
			t.Fatalf("GET_INFO from %d: %x", len(text), head)
		}
		if _, err := io.ReadFull(r.ctrl, part); err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	var v struct {
		ActiveProfile     struct{ Name string }
		AvailableProfiles []struct{ Name string }
	}
	if err := json.Unmarshal(bytes.TrimRight(text, "\x00"), &v); err != nil || len(text) <= maxInfo ||
		v.ActiveProfile.Name != "null" || len(v.AvailableProfiles) != 5 {
		t.Errorf("%d bytes, %+v: %v", len(text), v, err)
	}
}

// TestInfoIsPlain: what is given out is what libtpms gives, which escapes nothing.
func TestInfoIsPlain(t *testing.T) {
	p, err := tpm.ParseProfile([]byte(`{"Name":"custom:<a>","Description":"this & that"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := Info(InfoProfile, p); string(got) != `{"ActiveProfile":`+string(p.JSON())+`}` {
		t.Errorf("%s", got)
	}
}

// TestInfoIsTrue compares GET_INFO with what the TPM itself says.
func TestInfoIsTrue(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	data := r.passData()
	wantRC(t, data, startupClear, 0)
	property := func(pt uint32) uint32 {
		cmd := unhex("8001 00000016 0000017a 00000006 00000000 00000001")
		binary.BigEndian.PutUint32(cmd[14:], pt)
		rsp := command(t, data, cmd)
		if word(rsp[len(rsp)-8:]) != pt {
			t.Fatalf("no property %#x: %x", pt, rsp)
		}
		return word(rsp[len(rsp)-4:])
	}
	var got info
	if err := json.Unmarshal(Info(InfoSpecification|InfoAttributes, r.host.Profile()), &got); err != nil {
		t.Fatal(err)
	}
	if rev := property(0x102); rev != got.Specification.Revision {
		t.Errorf("revision %d, TPM says %d", got.Specification.Revision, rev)
	}
	// IBM is "IBM" to the TPM and 0x1014, its PCI vendor, to libtpms.
	if id := property(0x105); hexWord(id) != "49424D00" || got.Attributes.Manufacturer != "id:00001014" {
		t.Errorf("manufacturer %s, TPM says %08X", got.Attributes.Manufacturer, id)
	}
	if fw := property(0x10b); "id:"+hexWord(fw) != got.Attributes.Version {
		t.Errorf("version %s, TPM says %08X", got.Attributes.Version, fw)
	}
}

func hexWord(w uint32) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 8)
	for i := range b {
		b[i] = digits[w>>(28-4*i)&15]
	}
	return string(b)
}

func TestPassedDescriptors(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000001", "00000000 0001ffff")
	before := openFDs(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	send := func(cmd string, want Result, n int) {
		t.Helper()
		files := []*os.File{null, null, null}[:n]
		if _, _, err := r.ctrl.WriteMsgUnix(unhex(cmd), unixRights(files...), nil); err != nil {
			t.Fatal(err)
		}
		var b [4]byte
		if _, err := io.ReadFull(r.ctrl, b[:]); err != nil {
			t.Fatal(err)
		}
		if got := Result(word(b[:])); got != want {
			t.Errorf("%s with %d descriptors: %v, want %v", cmd, n, got, want)
		}
	}
	for range 20 {
		send("0000000e", OK, 3)           // a command that takes none
		send("00000010", BadParameter, 1) // not a socket
	}
	if after := openFDs(t); after > before+1 { // null
		t.Errorf("%d descriptors were open, now %d", before, after)
	}

	first := r.passData()
	if _, res := r.tryPassData(); res != IOError {
		t.Errorf("a second data channel: %v", res)
	}
	wantRC(t, first, getRandom, 0x101)
	first.Close()
	deadline := time.Now().Add(5 * time.Second)
	for {
		c, res := r.tryPassData()
		if res == OK {
			wantRC(t, c, getRandom, 0x101)
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no new data channel after the first was closed")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestShutdownCommand checks that SHUTDOWN is answered and ends the server.
func TestShutdownCommand(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	r.control("00000003", "00000000")
	select {
	case <-r.done:
	case <-time.After(5 * time.Second):
		t.Fatal("the server goes on")
	}
}

// TestShutdownUnanswered: SHUTDOWN ends the server although its client is gone before
// the answer.
func TestShutdownUnanswered(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "ctrl"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	gone, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Write(unhex("00000003")); err != nil {
		t.Fatal(err)
	}
	gone.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h, _ := newTestHost(t, t.TempDir(), nil)
	ended := false
	c := ctrlConn{host: h, in: newCtrlReader(conn), end: func() { ended = true }}
	if err := c.serve(); err == nil || !ended {
		t.Errorf("%v, and the server has ended: %v", err, ended)
	}
}
