package swtpm

import (
	"encoding/binary"
	"io"
	"net"
)

// Commands of the simulator's two ports.
const (
	simPowerOn     = 1
	simPowerOff    = 2
	simPhysPresOn  = 3
	simPhysPresOff = 4
	simHashStart   = 5
	simHashData    = 6
	simHashEnd     = 7
	simSendCommand = sendHeader
	simCancelOn    = 9
	simCancelOff   = 10
	simNVOn        = 11
	simNVOff       = 12
	simHandshake   = 15
	simReset       = 17
	simRestart     = 18
	simSessionEnd  = 20
	simStop        = 21
)

// What a handshake tells: the protocol's version; that there is a platform
// port, that commands reach the TPM as they are, that physical presence can be
// told, and that failure mode cannot be asked for.
const (
	simVersion  = 1
	simFeatures = 0x01 | 0x04 | 0x08 | 0x80
)

// simConn is one client of a port of the simulator.
type simConn struct {
	host *Host
	conn net.Conn
	in   []byte
	out  []byte
	end  func() // called after STOP
}

func newSimConn(h *Host, conn net.Conn, end func()) *simConn {
	return &simConn{
		host: h, conn: conn, end: end,
		in:  make([]byte, MaxBufferSize),
		out: make([]byte, 4+MaxBufferSize+4),
	}
}

// command reads and acts on one command of the command port. An unknown one
// ends the connection, since its length is not known.
func (s *simConn) command() error {
	cmd, err := s.readWord()
	if err != nil {
		return err
	}
	switch cmd {
	case simSendCommand:
		return s.send()
	case simHandshake:
		return s.handshake()
	}
	return s.finish(cmd, s.hash(cmd))
}

// handshake reads the client's version and tells ours. There is no version 0.
func (s *simConn) handshake() error {
	version, err := s.readWord()
	if err != nil {
		return err
	}
	if version == 0 {
		return s.finish(simHandshake, false)
	}
	if err := s.writeWord(simVersion); err != nil {
		return err
	}
	if err := s.writeWord(simFeatures); err != nil {
		return err
	}
	return s.finish(simHandshake, true)
}

// platform reads and acts on one command of the platform port.
func (s *simConn) platform() error {
	cmd, err := s.readWord()
	if err != nil {
		return err
	}
	known := true
	switch cmd {
	case simPowerOn:
		if !s.host.On() {
			known = s.host.PowerOn(false) == OK
		}
	case simPowerOff, simReset, simRestart, simCancelOn, simCancelOff, simNVOn, simNVOff, simPhysPresOn, simPhysPresOff:
		if s.host.On() {
			known = s.signal(cmd)
		}
	default:
		known = s.hash(cmd)
	}
	return s.finish(cmd, known)
}

// signal acts on a signal of the platform, which means nothing without power;
// false where it failed.
func (s *simConn) signal(cmd uint32) bool {
	switch cmd {
	case simPowerOff:
		s.host.Cut()
	case simReset, simRestart:
		s.host.Cut()
		return s.host.PowerOn(false) == OK
	case simCancelOn, simCancelOff:
		s.host.HoldCancel(cmd == simCancelOn)
	case simNVOn, simNVOff:
		s.host.SetNV(cmd == simNVOn)
	case simPhysPresOn, simPhysPresOff:
		s.host.SetPhysicalPresence(cmd == simPhysPresOn)
	}
	return true
}

// finish acknowledges a command with 0, or one that failed with 1 and the end
// of the connection.
func (s *simConn) finish(cmd uint32, done bool) error {
	switch {
	case cmd == simSessionEnd:
		_ = s.writeWord(0) // few clients wait for it
		return io.EOF
	case cmd == simStop:
		err := s.writeWord(0)
		s.end()
		return err
	case !done:
		_ = s.writeWord(1)
		return io.ErrUnexpectedEOF
	}
	return s.writeWord(0)
}

// hash acts on the commands that both ports take; false where cmd is none of
// them or failed. They too mean nothing without power.
func (s *simConn) hash(cmd uint32) bool {
	r := Fail
	switch cmd {
	case simHashStart:
		r = s.host.HashStart()
	case simHashData:
		if data, err := s.readBytes(); err == nil {
			r = s.host.HashData(data)
		}
	case simHashEnd:
		r = s.host.HashEnd()
	}
	return r == OK || r == BadOrdinal
}

// send runs a TPM command: u8 locality, u32 length, command.
func (s *simConn) send() error {
	var locality [1]byte
	if _, err := io.ReadFull(s.conn, locality[:]); err != nil {
		return err
	}
	cmd, err := s.readBytes()
	if err != nil {
		return err
	}
	rsp := s.host.Execute(locality[0], cmd, s.out[4:4:len(s.out)-4])
	_, err = s.conn.Write(wrap(s.out, rsp))
	return err
}

// readBytes reads a length and as many bytes. A length above the buffer ends
// the connection.
func (s *simConn) readBytes() ([]byte, error) {
	n, err := s.readWord()
	if err != nil {
		return nil, err
	}
	if n > uint32(len(s.in)) {
		return nil, errTooLong
	}
	_, err = io.ReadFull(s.conn, s.in[:n])
	return s.in[:n], err
}

func (s *simConn) readWord() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(s.conn, b[:])
	return binary.BigEndian.Uint32(b[:]), err
}

func (s *simConn) writeWord(w uint32) error {
	_, err := s.conn.Write(binary.BigEndian.AppendUint32(nil, w))
	return err
}
