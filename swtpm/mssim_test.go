package swtpm

import (
	"bytes"
	"crypto/sha256"
	"net"
	"strings"
	"testing"
	"time"
)

func hexRepeat(s string, n int) string { return strings.Repeat(s, n) }

// sha256Of is a PCR of SHA-256 with a last byte.
func sha256Of(last byte) []byte {
	b := make([]byte, sha256.Size)
	b[sha256.Size-1] = last
	return b
}

func extend(pcr, data []byte) []byte {
	d := sha256.Sum256(data)
	n := sha256.Sum256(append(bytes.Clone(pcr), d[:]...))
	return n[:]
}

type simRig struct {
	*rig
	command, platform net.Conn
}

func newSimRig(t *testing.T) *simRig {
	t.Helper()
	var l [2]net.Listener
	for i := range l {
		var err error
		if l[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	s := &simRig{rig: newRig(t, t.TempDir(), func(_ *Config, srv *Server) {
		srv.Sim, srv.Platform = l[0], l[1]
	})}
	s.connect()
	return s
}

func (s *simRig) connect() {
	s.t.Helper()
	dial := func(l net.Listener) net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { c.Close() })
		return c
	}
	s.command, s.platform = dial(s.srv.Sim), dial(s.srv.Platform)
}

// signal sends platform commands and wants 0 for each.
func (s *simRig) signal(cmds ...byte) {
	s.t.Helper()
	for _, c := range cmds {
		if got := exchange(s.t, s.platform, []byte{0, 0, 0, c}, 4); word(got) != 0 {
			s.t.Fatalf("platform command %d: %x", c, got)
		}
	}
}

// send runs a command and wants a response code.
func (s *simRig) send(locality, cmd string, want uint32) []byte {
	s.t.Helper()
	c := unhex(cmd)
	msg := append(unhex("00000008"+locality+hexWord(uint32(len(c)))), c...)
	head := exchange(s.t, s.command, msg, 4)
	rest := exchange(s.t, s.command, nil, int(word(head))+4)
	if rc := word(rest[6:]); rc != want {
		s.t.Fatalf("%s: response code %#x, want %#x", cmd, rc, want)
	}
	if ack := word(rest[len(rest)-4:]); ack != 0 {
		s.t.Fatalf("%s: trailer %#x", cmd, ack)
	}
	return rest[:len(rest)-4]
}

func TestSimulator(t *testing.T) {
	s := newSimRig(t)
	s.send("00", getRandom, 0x101) // no power
	s.signal(simPowerOn, simNVOn, simPhysPresOn, simPhysPresOff)
	s.send("00", getRandom, 0x100)
	s.send("00", startupClear, 0)
	s.signal(simPowerOn) // has power already: nothing happens
	s.send("00", getRandom, 0)
	s.send("00", "8001 0000000d 0000017b 0008", 0x142)
	s.send("05", getRandom, 0x907)
	s.send("00", "", 0x9a)

	s.signal(simNVOff)
	s.send("00", shutdownState, 0x923)
	s.signal(simNVOn)
	s.signal(simCancelOn)
	s.send("00", createRSA, 0x909)
	s.signal(simCancelOff)

	s.signal(simReset) // a cut: nothing for Startup(STATE)
	s.send("00", startupState, 0x1c4)
	s.send("00", startupClear, 0)
	s.send("00", shutdownState, 0)
	s.signal(simPowerOff, simPowerOn)
	s.send("00", startupState, 0)
	s.signal(simSessionEnd)
	if _, err := s.platform.Read(make([]byte, 1)); err == nil {
		t.Error("SESSION_END leaves the connection open")
	}
	s.command.Close()
	s.connect()
	s.send("00", getRandom, 0)
	s.signal(simStop)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		t.Fatal("STOP does not end the server")
	}
}

// TestSimulatorPresence shows physical presence and takes it away.
func TestSimulatorPresence(t *testing.T) {
	s := newSimRig(t)
	s.signal(simPowerOn)
	s.send("00", startupClear, 0)
	const ppCommands = "8002 00000023 0000012d 4000000c 00000009 40000009 0000010000 00000000 00000000"
	s.send("00", ppCommands, 0x990)
	s.signal(simPhysPresOn)
	s.send("00", ppCommands, 0)
	s.signal(simPhysPresOff)
	s.send("00", ppCommands, 0x990)
}

// TestSimulatorWithoutPower: what comes without power is taken, and does nothing.
func TestSimulatorWithoutPower(t *testing.T) {
	s := newSimRig(t)
	s.signal(simReset, simPowerOff, simHashStart, simHashEnd, simPhysPresOn, simCancelOn, simNVOff)
	for _, c := range []net.Conn{s.platform, s.command} {
		if got := exchange(t, c, unhex("00000006 00000004 61626364"), 4); word(got) != 0 {
			t.Fatalf("HASH_DATA: %x", got)
		}
	}
	s.send("00", startupClear, 0x101) // it has no power still
	s.signal(simPowerOn)
	s.send("00", startupClear, 0)
	s.send("00", "8002 00000023 0000012d 4000000c 00000009 40000009 0000010000 00000000 00000000", 0x990)
	s.send("00", "8001 0000000b 00000143 00", 0) // SelfTest, which could be cancelled
	if rsp := s.send("00", "8001 00000014 0000017e 00000001 000b 03 010000", 0); !bytes.Contains(rsp, sha256Of(0)) {
		t.Errorf("PCR 0: %x", rsp)
	}
}

func TestSimulatorHash(t *testing.T) {
	s := newSimRig(t)
	s.signal(simPowerOn, simHashStart)
	if got := exchange(t, s.platform, unhex("00000006 00000004 61626364"), 4); word(got) != 0 {
		t.Fatalf("HASH_DATA: %x", got)
	}
	s.signal(simHashEnd)
	s.send("00", startupClear, 0)
	rsp := s.send("00", "8001 00000014 0000017e 00000001 000b 03 010000", 0)
	if !bytes.Contains(rsp, extend(sha256Of(4), []byte("abcd"))) {
		t.Errorf("PCR 0: %x", rsp)
	}
}

// TestSimulatorHandshake greets as go-tpm2 and Microsoft's TSS do.
func TestSimulatorHandshake(t *testing.T) {
	s := newSimRig(t)
	for range 2 { // it may come again
		if got := exchange(t, s.command, unhex("0000000f 00000001"), 12); !bytes.Equal(got, unhex("00000001 0000008d 00000000")) {
			t.Errorf("handshake: %x", got)
		}
	}
	if got := exchange(t, s.command, unhex("0000000f 00000000"), 4); word(got) != 1 {
		t.Errorf("version 0: %x", got)
	}
	if _, err := s.command.Read(make([]byte, 1)); err == nil {
		t.Error("version 0: the connection stays open")
	}
}

// TestSimulatorLimits sends what is unknown or too long: an error, and the end
// of that connection only.
func TestSimulatorLimits(t *testing.T) {
	s := newSimRig(t)
	s.signal(simPowerOn)
	for _, msg := range []string{"00000063", "00000006 ffffffff"} {
		if got := exchange(t, s.platform, unhex(msg), 4); word(got) != 1 {
			t.Errorf("%s: %x", msg, got)
		}
		if _, err := s.platform.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: the connection stays open", msg)
		}
		s.command.Close()
		s.connect()
	}
	s.command.Write(unhex("00000008 00 ffffffff 00"))
	s.command.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := s.command.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("a length of 4 GiB was taken")
	}
	s.platform.Close()
	s.connect()
	s.send("00", startupClear, 0)
}
