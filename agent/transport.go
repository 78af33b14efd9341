package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

const (
	headerSize  = 10      // of a command and a response: tag, size, code
	maxResponse = 1 << 16 // bytes
	dialTimeout = 10 * time.Second
	// answerTimeout is how long a TPM may think: an RSA key can take minutes.
	answerTimeout = 5 * time.Minute
)

// TPM is a connection to a TPM.
type TPM interface {
	transport.TPM
	io.Closer
}

// OpenTPM connects to a TPM:
//
//	""                        /dev/tpmrm0, or /dev/tpm0 where there is no resource manager
//	/dev/tpm0                 a device
//	unix:/run/tpm.sock        a socket that carries TPM commands: swtpm's data channel
//	tcp:host:port             likewise
//	swtpm:path=P or swtpm:host=H,port=N   as tpm2-tools' TCTI writes it
func OpenTPM(where string) (TPM, error) {
	switch kind, rest, _ := strings.Cut(where, ":"); kind {
	case "":
		for _, dev := range []string{"/dev/tpmrm0", "/dev/tpm0"} {
			if _, err := os.Stat(dev); err == nil {
				return openDevice(dev)
			}
		}
		return nil, errors.New("there is no TPM here: neither /dev/tpmrm0 nor /dev/tpm0 exists; name one with --tpm")
	case "unix":
		return dial("unix", rest)
	case "tcp":
		return dial("tcp", rest)
	case "swtpm":
		return openTCTI(rest)
	case "device":
		return openDevice(rest)
	}
	return openDevice(where)
}

func openTCTI(conf string) (TPM, error) {
	host, port := "127.0.0.1", "2321"
	for _, kv := range strings.Split(conf, ",") {
		switch k, v, _ := strings.Cut(kv, "="); k {
		case "path":
			return dial("unix", v)
		case "host":
			host = v
		case "port":
			port = v
		case "":
		default:
			return nil, fmt.Errorf("%q is not understood after swtpm: use path=, host= and port=", kv)
		}
	}
	return dial("tcp", net.JoinHostPort(host, port))
}

func openDevice(path string) (TPM, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the TPM: %w", err)
	}
	if info.Mode()&os.ModeSocket != 0 {
		return dial("unix", path)
	}
	if info.Mode()&os.ModeDevice == 0 {
		return nil, fmt.Errorf("%s is neither a TPM device nor a socket", path)
	}
	// os.OpenFile would make the descriptor non-blocking. Linux then queues a command
	// instead of running it, and a read that comes too early ends with nothing.
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the TPM: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return &device{os.NewFile(uintptr(fd), path)}, nil
}

// device is a character device: one write is a command, one read its response.
type device struct{ f *os.File }

// Send runs one command.
func (d *device) Send(cmd []byte) ([]byte, error) {
	if _, err := d.f.Write(cmd); err != nil {
		return nil, fmt.Errorf("cannot send to the TPM: %w", err)
	}
	buf := make([]byte, maxResponse)
	n, err := d.f.Read(buf)
	if err != nil {
		return nil, fmt.Errorf("cannot read from the TPM: %w", err)
	}
	return buf[:n], nil
}

// Close closes the device.
func (d *device) Close() error { return d.f.Close() }

// socket is a stream of commands and responses.
type socket struct{ c net.Conn }

func dial(network, addr string) (TPM, error) {
	c, err := net.DialTimeout(network, addr, dialTimeout)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the TPM: %w", err)
	}
	return &socket{c}, nil
}

// Send runs one command.
func (s *socket) Send(cmd []byte) ([]byte, error) {
	if err := s.c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, fmt.Errorf("cannot send to the TPM: %w", err)
	}
	if _, err := s.c.Write(cmd); err != nil {
		return nil, fmt.Errorf("cannot send to the TPM: %w", err)
	}
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(s.c, head); err != nil {
		return nil, fmt.Errorf("the TPM gave no answer: %w", err)
	}
	size := binary.BigEndian.Uint32(head[2:])
	if size < headerSize || size > maxResponse {
		return nil, fmt.Errorf("the TPM's answer should have %d bytes: it does not speak TPM 2.0 here", size)
	}
	rsp := make([]byte, size)
	copy(rsp, head)
	if _, err := io.ReadFull(s.c, rsp[headerSize:]); err != nil {
		return nil, fmt.Errorf("the TPM's answer is cut short: %w", err)
	}
	return rsp, nil
}

// Close closes the connection.
func (s *socket) Close() error { return s.c.Close() }
