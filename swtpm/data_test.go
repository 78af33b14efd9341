package swtpm

import (
	"bytes"
	"net"
	"testing"
	"time"
)

const rcCommandSize = "8001 0000000a 00000142"

func wantAnswer(t *testing.T, c net.Conn, msg, want string) {
	t.Helper()
	w := unhex(want)
	if got := exchange(t, c, unhex(msg), len(w)); !bytes.Equal(got, w) {
		t.Fatalf("%s: answer %x, want %x", msg, got, w)
	}
}

func TestDataBeforeInit(t *testing.T) {
	_, data := newDataRig(t, nil)
	wantAnswer(t, data, getRandom, "8001 0000000a 00000101")
	wantAnswer(t, data, "8001 00000100 00000000", "8001 0000000a 00000101")
	wantAnswer(t, data, "00000008 00 0000000c"+getRandom, "0000000a 8001 0000000a 00000101 00000000")
}

// TestDataSizes sends commands whose size field disagrees with what is sent:
// each gets one error at once, and the next command is not disturbed.
func TestDataSizes(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	data := r.passData()
	wantRC(t, data, startupClear, 0)
	for _, msg := range []string{
		"8001 0000000d 0000017b 0008", "8001 0000000b 0000017b 0008", "8001 ffffffff 0000017b 0008",
		"8001 00000000 0000017b", "8001 0000000c 0000017b",
	} {
		before := time.Now()
		wantAnswer(t, data, msg, rcCommandSize)
		if d := time.Since(before); d > headPatience {
			t.Errorf("%s was answered after %v", msg, d)
		}
		wantRC(t, data, getRandom, 0)
	}
	for _, n := range []int{4096, 4097, 4105, 4106, 5000, 20000} {
		msg := make([]byte, n)
		copy(msg, unhex("8001 0000000c 0000017b 0008"))
		if got := exchange(t, data, msg, 10); !bytes.Equal(got, unhex(rcCommandSize)) {
			t.Fatalf("%d bytes: %x", n, got)
		}
		wantRC(t, data, getRandom, 0)
	}
	// Shorter than a header: an error after a moment.
	for _, msg := range []string{"8001", "8001 0000000a 0000"} {
		exchange(t, data, unhex(msg), 10)
		wantRC(t, data, getRandom, 0)
	}
	// A header in two pieces.
	data.Write(unhex("8001 000000"))
	time.Sleep(20 * time.Millisecond)
	wantRC(t, data, "0c 0000017b 0008", 0)
}

// newDataRig is a rig whose data channel accepts, with a client of it.
func newDataRig(t *testing.T, change func(*Config)) (*rig, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, t.TempDir(), func(c *Config, s *Server) {
		s.Data = l
		if change != nil {
			change(c)
		}
	})
	data, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { data.Close() })
	return r, data
}

// TestGuestChoosesNoLocality: what comes by SET_DATAFD is a guest's, to the
// byte. A prefix in it is no command, whatever follows.
func TestGuestChoosesNoLocality(t *testing.T) {
	const noTag = "8001 0000000a 00000084"
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	data := r.passData()
	wantRC(t, data, startupClear, 0)
	wantAnswer(t, data, "00000008 04 0000000c"+getRandom, noTag)
	data.Write(unhex("00000008 04 0000000c"))
	exchange(t, data, nil, 10)
	wantRC(t, data, getRandom, 0)
}

func TestDataPrefix(t *testing.T) {
	r, data := newDataRig(t, func(c *Config) { c.RejectLocality4 = true })
	r.control("00000002 00000000", "00000000")
	wantAnswer(t, data, "00000008 00 0000000c"+startupClear, "0000000a 8001 0000000a 00000000 00000000")
	got := exchange(t, data, unhex("00000008 00 0000000c"+getRandom), 4+20+4)
	if word(got) != 20 || word(got[10:]) != 0 || word(got[24:]) != 0 {
		t.Errorf("prefixed: %x", got)
	}
	// The prefix alone, and the command behind it.
	data.Write(unhex("00000008 00 0000000c"))
	time.Sleep(2 * headPatience)
	exchange(t, data, unhex(getRandom), 4+20+4)
	for _, locality := range []string{"04", "05", "1f"} {
		wantAnswer(t, data, "00000008"+locality+"0000000c"+getRandom,
			"0000000a 8001 0000000a 00000907 00000000")
	}
	wantAnswer(t, data, "00000008 00 0000000c 8001 0000000d 0000017b 0008",
		"0000000a"+rcCommandSize+"00000000")
	// The prefix's locality is that of its command only.
	if l := r.host.Locality(); l != 0 {
		t.Errorf("locality %d stayed", l)
	}
}

func TestSetLocalityCommand(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	r.control("00000002 00000000", "00000000")
	wantAnswer(t, r.passData(), "8001 0000000b 20001000 03", "8001 0000000a 00000101")

	r = newRig(t, t.TempDir(), func(c *Config, _ *Server) { c.AllowSetLocality = true })
	r.control("00000002 00000000", "00000000")
	data := r.passData()
	wantAnswer(t, data, "8001 0000000b 20001000 03", "8001 0000000a 00000000")
	wantAnswer(t, data, "8001 0000000b 20001000 05", "8001 0000000a 00000907")
	wantAnswer(t, data, "8001 0000000a 20001000", "8001 0000000a 0000009a")
	if l := r.host.Locality(); l != 3 {
		t.Errorf("locality %d, want 3", l)
	}
}

// TestOneClientAtATime checks that a second client waits, and that
// SET_DATAFD takes the place of one that was accepted.
func TestOneClientAtATime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, t.TempDir(), func(_ *Config, s *Server) { s.Data = l })
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first, second := dial(), dial()
	wantAnswer(t, first, getRandom, "8001 0000000a 00000101")
	second.Write(unhex(getRandom))
	second.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := second.Read(make([]byte, 10)); err == nil {
		t.Fatalf("the second client was answered with %d bytes", n)
	}
	first.Close()
	second.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := second.Read(make([]byte, 10)); n != 10 {
		t.Fatalf("the second client was not answered: %v", err)
	}
	passed := r.passData()
	wantAnswer(t, passed, getRandom, "8001 0000000a 00000101")
	if _, err := second.Read(make([]byte, 10)); err == nil {
		t.Error("the accepted client was not closed")
	}
}

func TestOneCommandPerConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	newRig(t, t.TempDir(), func(_ *Config, s *Server) { s.Data, s.OneCommand = l, true })
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		wantAnswer(t, c, getRandom, "8001 0000000a 00000101")
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the connection stays open")
		}
		c.Close()
	}
}

func TestEndWithData(t *testing.T) {
	r := newRig(t, t.TempDir(), func(_ *Config, s *Server) { s.EndWithData = true })
	data := r.passData()
	wantAnswer(t, data, getRandom, "8001 0000000a 00000101")
	data.Close()
	select {
	case <-r.done:
	case <-time.After(5 * time.Second):
		t.Fatal("the server goes on without its client")
	}
}

func TestEndWithControl(t *testing.T) {
	r := newRig(t, t.TempDir(), func(_ *Config, s *Server) { s.EndWithCtrl = true })
	r.control("00000001", "00000000 0001ffff")
	r.ctrl.Close()
	select {
	case <-r.done:
	case <-time.After(5 * time.Second):
		t.Fatal("the server goes on without its client")
	}
}
