package conformance

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// debian is Debian's swtpm, which has no simulator's protocol.
const debian = "/usr/bin/swtpm"

// simulatorVariable makes the test binary be the simulator that go-tpm2 runs,
// by the swtpm that it names.
const simulatorVariable = "ASHLAR_TEST_SIMULATOR"

func TestMain(m *testing.M) {
	if program := os.Getenv(simulatorVariable); program != "" {
		if err := simulate(program, os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// launcher makes the program that go-tpm2 looks for, and gives its directory.
func launcher(t *testing.T, program string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", simulatorVariable, program, self)
	if err := os.WriteFile(filepath.Join(dir, "tpm2-simulator"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// simulate is a simulator on a port and the one after it, whose state is in
// the working directory.
func simulate(program, port string) error {
	if program != debian {
		return syscall.Exec(program, []string{program, "socket", "--tpm2", "--tpmstate", "dir=.",
			"--server", "type=mssim,port=" + port}, os.Environ())
	}
	first, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	b, err := newBridge()
	if err != nil {
		return err
	}
	failed := make(chan error)
	for _, p := range []int{first, first + 1} {
		l, err := net.Listen("tcp", net.JoinHostPort("localhost", strconv.Itoa(p)))
		if err != nil {
			return err
		}
		go func() { failed <- b.listen(l) }()
	}
	return <-failed
}

// bridge speaks the simulator's protocol for a swtpm that does not.
type bridge struct {
	mu         sync.Mutex
	ctrl, data net.Conn
	on         bool
}

// newBridge starts swtpm. It ends when the connection to its data channel does.
func newBridge() (*bridge, error) {
	cmd := exec.Command(debian, "socket", "--tpm2", "--tpmstate", "dir=.", "--terminate",
		"--server", "type=unixio,path=data", "--ctrl", "type=unixio,path=ctrl")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := new(bridge)
	for path, conn := range map[string]*net.Conn{"ctrl": &b.ctrl, "data": &b.data} {
		var err error
		for range 1000 {
			if *conn, err = net.Dial("unix", path); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// listen serves the clients of a port one after the other, until one says STOP.
func (b *bridge) listen(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		for err == nil {
			err = b.serve(c)
		}
		c.Close()
		if err == errStop {
			return nil
		}
	}
}

var errStop = fmt.Errorf("the simulator is to end")

// control runs a command of swtpm's control channel.
func (b *bridge) control(cmd uint32, args ...byte) error {
	if _, err := b.ctrl.Write(append(binary.BigEndian.AppendUint32(nil, cmd), args...)); err != nil {
		return err
	}
	result, err := word(b.ctrl)
	if err == nil && result != 0 {
		err = fmt.Errorf("control command %d gives %#x", cmd, result)
	}
	return err
}

// serve runs one command of a port of the simulator.
func (b *bridge) serve(c net.Conn) error {
	cmd, err := word(c)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var reply []byte
	switch cmd {
	case 1: // power on
		if !b.on {
			err = b.control(2, 0, 0, 0, 0) // INIT
		}
		b.on = true
	case 2: // power off
		b.on = false
		err = b.control(14) // STOP
	case 17, 18: // reset, restart
		err = b.control(2, 0, 0, 0, 0)
	case 5: // H-CRTM: start, data, end
		err = b.control(6)
	case 6:
		var data []byte
		if data, err = sized(c); err == nil {
			err = b.control(7, append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)...)
		}
	case 7:
		err = b.control(8)
	case 8:
		reply, err = b.send(c)
	case 15: // handshake
		_, err = word(c)
		reply = []byte{0, 0, 0, 1, 0, 0, 0, 5}
	case 3, 4, 9, 10, 11, 12: // presence, cancel, NV: not asked for
	case 20:
		return io.EOF
	case 21:
		return errStop
	default:
		err = fmt.Errorf("command %d is not known", cmd)
	}
	if err != nil {
		return err
	}
	_, err = c.Write(append(reply, 0, 0, 0, 0))
	return err
}

// send passes a command on at its locality, and gives the sized response.
func (b *bridge) send(c net.Conn) ([]byte, error) {
	var locality [1]byte
	if _, err := io.ReadFull(c, locality[:]); err != nil {
		return nil, err
	}
	cmd, err := sized(c)
	if err != nil {
		return nil, err
	}
	if err := b.control(5, locality[0]); err != nil { // SET_LOCALITY
		return nil, err
	}
	if _, err := b.data.Write(cmd); err != nil {
		return nil, err
	}
	var head [10]byte
	if _, err := io.ReadFull(b.data, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[2:])
	if n < 10 || n > maxMessage {
		return nil, fmt.Errorf("a response of %d bytes", n)
	}
	rsp := append(binary.BigEndian.AppendUint32(nil, n), head[:]...)
	rsp = append(rsp, make([]byte, n-10)...)
	_, err = io.ReadFull(b.data, rsp[14:])
	return rsp, err
}

// maxMessage bounds commands and responses in bytes.
const maxMessage = 4096

func word(r io.Reader) (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(r, b[:])
	return binary.BigEndian.Uint32(b[:]), err
}

func sized(r io.Reader) ([]byte, error) {
	n, err := word(r)
	if err != nil || n > maxMessage {
		return nil, fmt.Errorf("a length of %d: %v", n, err)
	}
	data := make([]byte, n)
	_, err = io.ReadFull(r, data)
	return data, err
}
