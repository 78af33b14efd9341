package swtpm

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// ctrlPatience is the time that the rest of a command may take, as in
	// swtpm.
	ctrlPatience = 500 * time.Millisecond
	// dataPatience is the time between two pieces of the data that HASH_DATA
	// and SET_STATEBLOB announce.
	dataPatience = 30 * time.Second
	// ctrlBuffer is the most that one read of the control channel takes:
	// HASH_DATA with 4096 bytes, as in swtpm.
	ctrlBuffer = 4 + 4 + 4096
	// maxFDs is how many descriptors are received with one message; all but
	// the one of SET_DATAFD are closed.
	maxFDs = 8
)

// message is what one read of the control channel gave. The body is valid
// until the next read.
type message struct {
	cmd   uint32
	body  []byte
	short bool // not even the command came
	fds   []int
}

// ctrlReader takes a control connection apart into commands.
type ctrlReader struct {
	conn net.Conn
	buf  []byte
	oob  []byte
}

func newCtrlReader(conn net.Conn) ctrlReader {
	return ctrlReader{
		conn: conn,
		buf:  make([]byte, ctrlBuffer),
		oob:  make([]byte, syscall.CmsgSpace(4*maxFDs)),
	}
}

// next reads one command. What is sent together belongs together: it is one
// command, however long. A command that does not arrive in time is given as
// far as it came, for the answer that it is too short.
func (r *ctrlReader) next() (message, error) {
	n, fds, err := r.receive()
	m := message{fds: fds}
	if err != nil {
		m.drop()
		return m, err
	}
	deadline := time.Now().Add(ctrlPatience)
	late := false
	for !late && n < len(r.buf) && n < r.needed(n) {
		if err := r.conn.SetReadDeadline(deadline); err != nil {
			m.drop()
			return m, err
		}
		k, err := r.conn.Read(r.buf[n:])
		n += k
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			late = true
		case err != nil:
			m.drop()
			return m, err
		}
	}
	if err := r.conn.SetReadDeadline(time.Time{}); err != nil {
		m.drop()
		return m, err
	}
	if m.short = n < 4; !m.short {
		m.cmd, m.body = word(r.buf), r.buf[4:n]
	}
	return m, nil
}

// needed gives the length of the command of which n bytes have come.
func (r *ctrlReader) needed(n int) int {
	if n < 4 {
		return 4
	}
	return 4 + controls[word(r.buf)].body
}

// receive reads once, with the descriptors that come along.
func (r *ctrlReader) receive() (n int, fds []int, err error) {
	u, ok := r.conn.(*net.UnixConn)
	if !ok {
		n, err = r.conn.Read(r.buf)
		return n, nil, err
	}
	n, k, _, _, err := u.ReadMsgUnix(r.buf, r.oob)
	fds = rights(r.oob[:k])
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, fds, err
}

// rights gives the descriptors in ancillary data.
func rights(oob []byte) (fds []int) {
	if len(oob) == 0 {
		return nil
	}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range msgs {
		if got, err := syscall.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// drop closes the descriptors that nobody took.
func (m *message) drop() {
	for _, fd := range m.fds {
		syscall.Close(fd)
	}
	m.fds = nil
}

// takeConn gives the first descriptor as a connection; nil where there is
// none, or it is no stream.
func (m *message) takeConn() net.Conn {
	if len(m.fds) == 0 {
		return nil
	}
	f := os.NewFile(uintptr(m.fds[0]), "data channel")
	m.fds = m.fds[1:]
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil
	}
	return conn
}

// rest hands over length bytes of data: those that came with the command and
// those that follow it. It reads over the message that first is part of.
func (r *ctrlReader) rest(first []byte, length uint32, take func([]byte) Result) Result {
	if uint64(len(first)) > uint64(length) {
		return BadParameter
	}
	if res := take(first); res != OK {
		return res
	}
	remain := int64(length) - int64(len(first))
	defer r.conn.SetReadDeadline(time.Time{})
	for remain > 0 {
		if err := r.conn.SetReadDeadline(time.Now().Add(dataPatience)); err != nil {
			return IOError
		}
		n, err := r.conn.Read(r.buf[:min(int64(len(r.buf)), remain)])
		if err != nil {
			return IOError
		}
		remain -= int64(n)
		if res := take(r.buf[:n]); res != OK {
			return res
		}
	}
	return OK
}
