package swtpm

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

const (
	cmdHeader  = 10 // tag, size, command code
	prefixSize = 9  // u32 8, u8 locality, u32 length
	sendHeader = 8  // TPM_SEND_COMMAND

	// headPatience is the time that a command may take to be ten bytes long.
	headPatience = 200 * time.Millisecond
	// maxDrain bounds what is read and thrown away behind a command that is
	// too long, in bytes.
	maxDrain = 64 << 10
)

// dataConn is one client of the data channel.
type dataConn struct {
	host *Host
	conn stream
	// prefixes: the client may put the simulator's prefix before a command, and
	// so choose its locality.
	prefixes bool

	in  []byte // prefix, the largest command, and one more to see that it is longer
	out []byte // length, the largest response, trailer
}

func newDataConn(h *Host, conn stream, prefixes bool) *dataConn {
	return &dataConn{
		host: h, conn: conn, prefixes: prefixes,
		in:  make([]byte, prefixSize+MaxBufferSize+1),
		out: make([]byte, 4+MaxBufferSize+4),
	}
}

// serve answers commands until the client is gone, or, with once, one.
func (d *dataConn) serve(once bool) error {
	for {
		cmd, err := d.read()
		if err != nil {
			return err
		}
		if _, err := d.conn.Write(d.answer(cmd)); err != nil {
			return err
		}
		if once {
			return io.EOF
		}
	}
}

// read reads one command: what is sent together belongs together.
func (d *dataConn) read() ([]byte, error) {
	n, err := d.conn.Read(d.in)
	if err != nil {
		return nil, err
	}
	if n < cmdHeader {
		if n, err = d.readHead(n); err != nil {
			return nil, err
		}
	}
	if n == len(d.in) {
		err = d.drain()
	}
	return d.in[:n], err
}

// readHead waits a little for the first ten bytes of a command; a prefix may
// come alone, and the command at leisure behind it.
func (d *dataConn) readHead(n int) (int, error) {
	deadline := time.Now().Add(headPatience)
	defer d.conn.SetReadDeadline(time.Time{})
	for n < cmdHeader {
		if d.prefixes && n == prefixSize && word(d.in) == sendHeader {
			deadline = time.Time{}
		}
		if err := d.conn.SetReadDeadline(deadline); err != nil {
			return n, err
		}
		k, err := d.conn.Read(d.in[n:])
		n += k
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// drain throws away what has arrived of a command that is too long, so that
// it gets one answer.
func (d *dataConn) drain() error {
	defer d.conn.SetReadDeadline(time.Time{})
	var waste [4096]byte
	for range maxDrain / len(waste) {
		if err := d.conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return err
		}
		_, err := d.conn.Read(waste[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// answer runs what was read and gives all that is to be written.
func (d *dataConn) answer(msg []byte) []byte {
	cmd, locality, prefixed := msg, uint8(0), false
	if d.prefixes {
		cmd, locality, prefixed = unwrap(msg)
	}
	if !prefixed {
		locality = d.host.Locality()
	}
	rsp := d.run(locality, cmd)
	if !prefixed {
		return rsp
	}
	return wrap(d.out, rsp)
}

// run executes one command; the response is in d.out behind four bytes where
// it fits.
func (d *dataConn) run(locality uint8, cmd []byte) []byte {
	buf := d.out[4 : 4 : len(d.out)-4]
	if !d.host.On() {
		return errorResponse(buf, tpm2.RCFailure)
	}
	if len(cmd) >= cmdHeader && word(cmd[6:]) == ccSetLocality {
		return errorResponse(buf, d.host.setLocalityCommand(cmd))
	}
	return d.host.Execute(locality, cmd, buf)
}

// unwrap takes the simulator's prefix off. The length in it is not asked: the
// size field of the command decides.
func unwrap(msg []byte) (cmd []byte, locality uint8, prefixed bool) {
	if len(msg) < cmdHeader || word(msg) != sendHeader {
		return msg, 0, false
	}
	return msg[prefixSize:], msg[4], true
}

// wrap puts length and trailer around a response: in place where it is in
// buf[4:] already.
func wrap(buf, rsp []byte) []byte {
	if len(rsp) > len(buf)-8 || &buf[4] != &rsp[0] {
		buf = append(append(make([]byte, 4, len(rsp)+8), rsp...), 0, 0, 0, 0)
	}
	binary.BigEndian.PutUint32(buf, uint32(len(rsp)))
	binary.BigEndian.PutUint32(buf[4+len(rsp):], 0)
	return buf[:4+len(rsp)+4]
}

// ccSetLocality is the command code by which the kernel's vTPM proxy sets the
// locality.
const ccSetLocality = 0x20001000

// setLocalityCommand answers the vTPM proxy's SetLocality.
func (h *Host) setLocalityCommand(cmd []byte) tpm2.RC {
	switch {
	case len(cmd) < cmdHeader+1:
		return tpm2.RCInsufficient
	case !h.cfg.AllowSetLocality:
		return tpm2.RCFailure
	case h.SetLocality(cmd[cmdHeader]) != OK:
		return tpm2.RCLocality
	}
	return tpm2.RCSuccess
}
