package swtpm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// logBuffer keeps what a host logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newTestHost makes a host with its state in dir.
func newTestHost(t testing.TB, dir string, change func(*Config)) (*Host, *logBuffer) {
	t.Helper()
	d, err := store.OpenDir(dir, store.Options{Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	log := new(logBuffer)
	cfg := Config{
		Dir:    d,
		Engine: tpm.Config{Clock: clock.NewSystem(), Entropy: rand.Reader},
		Log:    slog.New(slog.NewTextHandler(log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	h := NewHost(cfg)
	t.Cleanup(func() { h.Close() })
	return h, log
}

// rig is a server with a client on its control channel, as QEMU has it.
type rig struct {
	t    testing.TB
	host *Host
	log  *logBuffer
	srv  *Server
	ctrl *net.UnixConn
	dir  string
	done chan struct{} // closed when the server has ended
	kill context.CancelFunc
	data net.Conn // of startAsQEMU
}

func newRig(t testing.TB, dir string, change func(*Config, *Server)) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, done: make(chan struct{}), srv: &Server{}}
	r.host, r.log = newTestHost(t, dir, func(c *Config) {
		if change != nil {
			change(c, r.srv)
		}
	})
	sockets := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(sockets, "ctrl"))
	if err != nil {
		t.Fatal(err)
	}
	r.srv.Host, r.srv.Ctrl = r.host, l
	var ctx context.Context
	ctx, r.kill = context.WithCancel(context.Background())
	go func() {
		defer close(r.done)
		r.srv.Serve(ctx)
	}()
	t.Cleanup(func() { r.kill(); <-r.done })
	r.ctrl = r.dialCtrl()
	return r
}

func (r *rig) dialCtrl() *net.UnixConn {
	r.t.Helper()
	c, err := net.Dial("unix", r.srv.Ctrl.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}

// unhex takes hexadecimal with spaces.
func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// exchange sends and gives what comes back, n bytes of it.
func exchange(t testing.TB, c net.Conn, msg []byte, n int) []byte {
	t.Helper()
	if _, err := c.Write(msg); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, n)
	if k, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("%x: %d bytes of answer, want %d: %v", msg, k, n, err)
	}
	return b
}

// control sends a control command and wants the answer.
func (r *rig) control(cmd, want string) {
	r.t.Helper()
	w := unhex(want)
	if got := exchange(r.t, r.ctrl, unhex(cmd), len(w)); !bytes.Equal(got, w) {
		r.t.Fatalf("control %s: answer %x, want %x", cmd, got, w)
	}
}

// passData gives the server one end of a socket pair, and keeps the other.
func (r *rig) passData() net.Conn {
	r.t.Helper()
	c, r2 := r.tryPassData()
	if r2 != OK {
		r.t.Fatalf("SET_DATAFD: %v", r2)
	}
	return c
}

func (r *rig) tryPassData() (net.Conn, Result) {
	r.t.Helper()
	ours, theirs := socketPair(r.t)
	defer theirs.Close()
	if _, _, err := r.ctrl.WriteMsgUnix(unhex("00000010"), unixRights(theirs), nil); err != nil {
		r.t.Fatal(err)
	}
	r.ctrl.SetReadDeadline(time.Now().Add(10 * time.Second))
	var b [4]byte
	if _, err := io.ReadFull(r.ctrl, b[:]); err != nil {
		r.t.Fatal(err)
	}
	defer ours.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c, Result(binary.BigEndian.Uint32(b[:]))
}

// command sends a TPM command and gives the response.
func command(t testing.TB, c net.Conn, cmd []byte) []byte {
	t.Helper()
	head := exchange(t, c, cmd, 10)
	rest := make([]byte, int(binary.BigEndian.Uint32(head[2:]))-10)
	if _, err := io.ReadFull(c, rest); err != nil {
		t.Fatal(err)
	}
	return append(head, rest...)
}

// wantRC sends a TPM command and wants a response code.
func wantRC(t testing.TB, c net.Conn, cmd string, want uint32) {
	t.Helper()
	if rc := binary.BigEndian.Uint32(command(t, c, unhex(cmd))[6:]); rc != want {
		t.Fatalf("%s: response code %#x, want %#x", cmd, rc, want)
	}
}

// Some commands as bytes.
const (
	startupClear  = "8001 0000000c 00000144 0000"
	startupState  = "8001 0000000c 00000144 0001"
	shutdownState = "8001 0000000c 00000145 0001"
	getRandom     = "8001 0000000c 0000017b 0008"
	readPCR16     = "8001 00000014 0000017e 00000001 000b 03 000001"
	extendPCR16   = "8002 00000041 00000182 00000010 00000009 40000009 0000 00 0000" +
		"00000001 000b 0101010101010101010101010101010101010101010101010101010101010101"
)
