package swtpm

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

var errTooLong = errors.New("a length exceeds the buffer")

// Server puts a Host on sockets. Fields that are not needed stay zero.
type Server struct {
	Host *Host

	Ctrl     net.Listener // control channel
	CtrlConn net.Conn     // control channel that is connected already
	Data     net.Listener // data channel
	DataConn net.Conn     // data channel that is connected already
	Device   *os.File     // character device in the place of a data channel

	Sim      net.Listener // the simulator's command port
	Platform net.Listener // the simulator's platform port

	// EndWithData ends the server when a client of the data channel is gone.
	EndWithData bool
	// EndWithCtrl ends it when a client of the control channel is gone.
	EndWithCtrl bool
	// OneCommand closes a data connection after each command.
	OneCommand bool

	ctx   context.Context
	stop  context.CancelFunc
	group sync.WaitGroup

	passed   chan net.Conn // of SET_DATAFD, to be served; holds one
	accepted chan net.Conn // of Data, to be served

	mu      sync.Mutex
	closed  bool
	conns   map[io.Closer]struct{} // all that are served
	given   bool                   // a connection of SET_DATAFD waits or is served
	current *blocking              // accepted data connection that is served
}

// Serve answers on all sockets until ctx is done, a client sends SHUTDOWN or
// the simulator's STOP, or a connection is lost that the server lives with.
// Then it closes them, and powers the TPM off in order.
func (s *Server) Serve(ctx context.Context) error {
	s.ctx, s.stop = context.WithCancel(ctx)
	defer s.stop()
	s.passed = make(chan net.Conn, 1)
	s.accepted = make(chan net.Conn)
	s.conns = map[io.Closer]struct{}{}

	if s.Device != nil {
		s.given = true // SET_DATAFD has none to give
		s.start(func() { s.serveDevice() })
	} else {
		s.start(func() { s.serveData() })
	}
	if s.DataConn != nil {
		s.passData(s.DataConn)
	}
	s.accept(s.Data, s.handData)
	if s.CtrlConn != nil {
		s.start(func() { s.serveCtrl(s.CtrlConn) })
	}
	s.accept(s.Ctrl, s.serveCtrl)
	s.accept(s.Sim, func(c net.Conn) { s.serveSim(c, (*simConn).command, s.EndWithData) })
	s.accept(s.Platform, func(c net.Conn) { s.serveSim(c, (*simConn).platform, false) })

	<-s.ctx.Done()
	s.close()
	s.Host.PowerOff()
	s.group.Wait()
	s.Host.PowerOff() // what a client started meanwhile
	return nil
}

func (s *Server) start(f func()) { s.group.Go(func() { s.confine(f) }) }

func (s *Server) confine(f func()) { s.Host.confine("a connection", f) }

// accept serves the clients of a listener one after the other.
func (s *Server) accept(l net.Listener, serve func(net.Conn)) {
	if l == nil {
		return
	}
	s.start(func() {
		for {
			c, err := l.Accept()
			if err == nil {
				s.confine(func() { serve(c) })
				continue
			}
			if s.ctx.Err() != nil {
				return
			}
			s.Host.log.Error("no connection can be accepted", "address", l.Addr().String(), "err", err)
			if !pause(s.ctx) {
				return
			}
		}
	})
}

// enter notes a connection, so that close reaches it. False where the server
// is closed already.
func (s *Server) enter(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) leave(c io.Closer) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, l := range []net.Listener{s.Ctrl, s.Data, s.Sim, s.Platform} {
		if l != nil {
			l.Close()
		}
	}
	for c := range s.conns {
		c.Close()
	}
}

func (s *Server) serveCtrl(c net.Conn) {
	if !s.enter(c) {
		return
	}
	defer s.leave(c)
	conn := &ctrlConn{
		host: s.Host, in: newCtrlReader(c), caps: Capabilities(),
		passFD: s.passData, end: s.stop,
	}
	err := conn.serve()
	s.lost("control", err, s.EndWithCtrl)
}

func (s *Server) serveSim(c net.Conn, one func(*simConn) error, end bool) {
	if !s.enter(c) {
		return
	}
	defer s.leave(c)
	conn := newSimConn(s.Host, c, s.stop)
	var err error
	for err == nil {
		err = one(conn)
	}
	s.lost("simulator", err, end)
}

// lost notes the end of a connection, and ends the server where it lives with
// that connection.
func (s *Server) lost(channel string, err error, end bool) {
	if s.ctx.Err() != nil {
		return
	}
	s.Host.log.Debug("a client is gone", "channel", channel, "err", err)
	if end {
		s.stop()
	}
}

// passData takes over a connection from SET_DATAFD, in the place of one that
// was accepted. One of SET_DATAFD that is in use stays.
func (s *Server) passData(c net.Conn) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given || s.closed {
		return IOError
	}
	s.given = true
	s.passed <- c
	if s.current != nil {
		s.current.Close()
	}
	return OK
}

// handData gives an accepted connection to the data channel, and so waits
// until that is free.
func (s *Server) handData(c net.Conn) {
	select {
	case s.accepted <- c:
	case <-s.ctx.Done():
		c.Close()
	}
}

// serveData serves the connections of the data channel one after the other.
func (s *Server) serveData() {
	for {
		select {
		case c := <-s.passed:
			s.serveDataConn(c, false)
		case c := <-s.accepted:
			s.serveDataConn(c, true)
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Server) serveDataConn(c net.Conn, accepted bool) {
	b, err := newBlocking(c)
	if err != nil {
		s.Host.log.Error("a data connection cannot be used", "err", err)
		s.setCurrent(nil, accepted)
		return
	}
	defer b.release()
	defer s.setCurrent(nil, accepted)
	if !s.enter(b) {
		return
	}
	defer s.leave(b)
	if !s.setCurrent(b, accepted) {
		return
	}
	// Behind a connection of SET_DATAFD is a guest, whose bytes arrive as they
	// are. It must not choose its locality by a prefix.
	err = newDataConn(s.Host, b, accepted).serve(s.OneCommand)
	s.lost("data", err, s.EndWithData && !s.replaced(b))
}

// serveDevice serves the commands of a device, and ends the server with it. What is
// behind it must not choose its locality by a prefix.
func (s *Server) serveDevice() {
	d, err := newDevice(s.Device)
	if err != nil {
		s.Host.log.Error("the device cannot be used", "err", err)
		s.stop()
		return
	}
	defer d.release()
	if !s.enter(d) {
		return
	}
	defer s.leave(d)
	s.lost("device", newDataConn(s.Host, d, false).serve(false), true)
}

// setCurrent notes which accepted data connection is served, or that one of
// SET_DATAFD is no longer. An accepted one is not served where one of
// SET_DATAFD was given.
func (s *Server) setCurrent(b *blocking, accepted bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !accepted {
		if b == nil {
			s.given = false
		}
		return true
	}
	s.current = b
	return !s.given
}

// replaced reports whether SET_DATAFD took the place of an accepted data
// connection.
func (s *Server) replaced(b *blocking) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current == b && s.given
}

// acceptPause is the time until the next try where no connection can be
// accepted, such as for want of descriptors.
const acceptPause = 100 * time.Millisecond

// pause waits that long; false where the server ends meanwhile.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(acceptPause):
		return true
	case <-ctx.Done():
		return false
	}
}
