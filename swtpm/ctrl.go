package swtpm

import (
	"encoding/binary"
	"net"
)

// Commands of the control channel.
const (
	cmdGetCapability    = 1
	cmdInit             = 2
	cmdShutdown         = 3
	cmdGetEstablished   = 4
	cmdSetLocality      = 5
	cmdHashStart        = 6
	cmdHashData         = 7
	cmdHashEnd          = 8
	cmdCancel           = 9
	cmdStoreVolatile    = 10
	cmdResetEstablished = 11
	cmdGetStateBlob     = 12
	cmdSetStateBlob     = 13
	cmdStop             = 14
	cmdGetConfig        = 15
	cmdSetDataFD        = 16
	cmdSetBufferSize    = 17
	cmdGetInfo          = 18
	cmdLockStorage      = 19
)

// power says in which state of power a command is possible.
type power int

const (
	always power = iota
	whileOn
	whileOff
)

// control is one entry of the table of control commands: its bit in the
// capabilities, the length of its request in bytes, whether more is an error,
// and what it does.
type control struct {
	bit   uint
	body  int
	exact bool
	power power
	run   func(*ctrlConn, *message) []byte
}

// controls is every control command. A request longer than its body is
// refused where swtpm refuses it; QEMU sends four bytes for one in
// SET_LOCALITY and RESET_TPMESTABLISHED.
var controls = map[uint32]control{
	cmdGetCapability:    {bit: none, run: (*ctrlConn).capability},
	cmdInit:             {bit: 0, body: 4, exact: true, run: (*ctrlConn).init},
	cmdShutdown:         {bit: 1, exact: true, run: (*ctrlConn).shutdown},
	cmdGetEstablished:   {bit: 2, exact: true, power: whileOn, run: (*ctrlConn).established},
	cmdSetLocality:      {bit: 3, body: 1, run: (*ctrlConn).setLocality},
	cmdHashStart:        {bit: 4, exact: true, power: whileOn, run: (*ctrlConn).hashStart},
	cmdHashData:         {bit: 4, body: 4, power: whileOn, run: (*ctrlConn).hashData},
	cmdHashEnd:          {bit: 4, exact: true, power: whileOn, run: (*ctrlConn).hashEnd},
	cmdCancel:           {bit: 5, exact: true, power: whileOn, run: (*ctrlConn).cancel},
	cmdStoreVolatile:    {bit: 6, exact: true, power: whileOn, run: (*ctrlConn).storeVolatile},
	cmdResetEstablished: {bit: 7, body: 1, power: whileOn, run: (*ctrlConn).resetEstablished},
	cmdGetStateBlob:     {bit: 8, body: 12, power: whileOn, run: (*ctrlConn).getStateBlob},
	cmdSetStateBlob:     {bit: 9, body: 12, power: whileOff, run: (*ctrlConn).setStateBlob},
	cmdStop:             {bit: 10, exact: true, run: (*ctrlConn).stop},
	cmdGetConfig:        {bit: 11, exact: true, run: (*ctrlConn).getConfig},
	cmdSetDataFD:        {bit: 12, run: (*ctrlConn).setDataFD},
	cmdSetBufferSize:    {bit: 13, body: 4, run: (*ctrlConn).setBufferSize},
	cmdGetInfo:          {bit: 14, body: 16, run: (*ctrlConn).getInfo},
	cmdLockStorage:      {bit: 16, body: 4, run: (*ctrlConn).lockStorage},
}

const (
	none          = 32 // no bit of its own
	sendHeaderBit = 15 // the data channel takes the simulator's prefix
)

// Capabilities is the word that GET_CAPABILITY answers.
func Capabilities() uint32 {
	caps := uint32(1) << sendHeaderBit
	for _, c := range controls {
		if c.bit != none {
			caps |= 1 << c.bit
		}
	}
	return caps
}

// ctrlConn is one client of the control channel.
type ctrlConn struct {
	host *Host
	in   ctrlReader
	caps uint32
	// passFD takes over a data connection; nil where there is none to pass.
	passFD func(net.Conn) Result
	// end is called after SHUTDOWN.
	end func()

	over  bool   // SHUTDOWN came
	state []byte // follows the answer
}

// serve answers commands until the client is gone or sends SHUTDOWN.
func (c *ctrlConn) serve() error {
	for !c.over {
		m, err := c.in.next()
		if err != nil {
			return err
		}
		rsp := c.answer(&m)
		parts := net.Buffers{rsp, c.state}
		c.state = nil
		m.drop()
		_, err = parts.WriteTo(c.in.conn)
		if c.over { // also where nobody waits for the answer
			c.end()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *ctrlConn) answer(m *message) []byte {
	cmd, ok := controls[m.cmd]
	switch {
	case m.short:
		return BadParameter.reply()
	case !ok:
		return BadOrdinal.reply()
	case cmd.power == whileOn && !c.host.On(), cmd.power == whileOff && c.host.On():
		return BadOrdinal.reply()
	case len(m.body) < cmd.body, cmd.exact && len(m.body) > cmd.body:
		return BadParameter.reply()
	}
	return cmd.run(c, m)
}

// reply is a response: the result, and what follows it as 32-bit words.
func (r Result) reply(words ...uint32) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+4*len(words)), uint32(r))
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func word(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

func (c *ctrlConn) capability(*message) []byte { return OK.reply(c.caps) }

// initDeleteVolatile is INIT's flag to delete the volatile state when read.
const initDeleteVolatile = 1

func (c *ctrlConn) init(m *message) []byte {
	return c.host.PowerOn(word(m.body)&initDeleteVolatile != 0).reply()
}

func (c *ctrlConn) shutdown(*message) []byte {
	c.host.PowerOff()
	c.over = true
	return OK.reply()
}

func (c *ctrlConn) stop(*message) []byte {
	c.host.PowerOff()
	return OK.reply()
}

func (c *ctrlConn) established(*message) []byte {
	bit, r := c.host.Established()
	var w uint32
	if bit {
		w = 1 << 24 // one byte, and three to pad
	}
	return r.reply(w)
}

func (c *ctrlConn) resetEstablished(m *message) []byte {
	return c.host.ResetEstablished(m.body[0]).reply()
}

func (c *ctrlConn) setLocality(m *message) []byte {
	return c.host.SetLocality(m.body[0]).reply()
}

func (c *ctrlConn) hashStart(*message) []byte { return c.host.HashStart().reply() }
func (c *ctrlConn) hashEnd(*message) []byte   { return c.host.HashEnd().reply() }

func (c *ctrlConn) hashData(m *message) []byte {
	return c.in.rest(m.body[4:], word(m.body), c.host.HashData).reply()
}

func (c *ctrlConn) cancel(*message) []byte {
	c.host.Cancel()
	return OK.reply()
}

func (c *ctrlConn) storeVolatile(*message) []byte { return c.host.StoreVolatile().reply() }

// Flags of GET_CONFIG.
const (
	configFileKey      = 1
	configMigrationKey = 2
)

func (c *ctrlConn) getConfig(*message) []byte {
	var flags uint32
	if c.host.cfg.Key != nil {
		flags |= configFileKey
	}
	if c.host.cfg.MigrationKey != nil {
		flags |= configMigrationKey
	}
	return OK.reply(flags)
}

func (c *ctrlConn) setBufferSize(m *message) []byte {
	n, r := c.host.SetBufferSize(word(m.body))
	if r != OK {
		return r.reply()
	}
	return r.reply(n, MinBufferSize, MaxBufferSize)
}

// maxInfo is the most that one GET_INFO answers in bytes.
const maxInfo = 3 * 1024

func (c *ctrlConn) getInfo(m *message) []byte {
	info := append(c.host.Info(binary.BigEndian.Uint64(m.body)), 0)
	offset := word(m.body[8:])
	if int64(offset) >= int64(len(info)-1) {
		return BadParameter.reply()
	}
	part := info[offset:]
	part = part[:min(len(part), maxInfo)]
	return append(OK.reply(uint32(len(info)), uint32(len(part))), part...)
}

func (c *ctrlConn) lockStorage(m *message) []byte {
	return c.host.LockStorage(word(m.body)).reply()
}

// Flags of the two commands for state blobs, about the key for files.
const (
	stateDecrypted = 1 // asked for
	stateEncrypted = 2 // given
)

func (c *ctrlConn) getStateBlob(m *message) []byte {
	blob, encrypted, r := c.host.StateBlob(BlobType(word(m.body[4:])), word(m.body)&stateDecrypted != 0)
	offset, flags := word(m.body[8:]), uint32(0)
	if encrypted {
		flags = stateEncrypted
	}
	c.state = blob[min(uint64(offset), uint64(len(blob))):]
	return r.reply(flags, uint32(len(c.state)), uint32(len(c.state)))
}

// usualBlob is as much in bytes as a TPM has whose NV is full.
const usualBlob = 256 << 10

func (c *ctrlConn) setStateBlob(m *message) []byte {
	flags, kind, length := word(m.body), BlobType(word(m.body[4:])), word(m.body[8:])
	if length > MaxBlob {
		return Fail.reply()
	}
	// Most states fit at once. Beyond, the buffer grows with what arrives, not with
	// what is announced.
	blob := make([]byte, 0, min(length, usualBlob))
	r := c.in.rest(m.body[12:], length, func(b []byte) Result {
		blob = append(blob, b...)
		return OK
	})
	if r == OK {
		r = c.host.SetStateBlob(kind, blob, flags&stateEncrypted != 0)
	}
	clear(blob)
	return r.reply()
}

func (c *ctrlConn) setDataFD(m *message) []byte {
	if c.passFD == nil {
		return IOError.reply()
	}
	conn := m.takeConn()
	if conn == nil {
		return BadParameter.reply()
	}
	r := c.passFD(conn)
	if r != OK {
		conn.Close()
	}
	return r.reply()
}
