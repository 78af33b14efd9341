package guest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Limits of the line to the guest, which a guest could flood.
const (
	lineMax   = 1024     // bytes in one line; base64 lines have 76
	answerMax = 32 << 20 // bytes of base64 in one answer
)

// Line is the host's end of the line to the guest: requests of one line, contents
// as lines of base64, answers ended by a line ". STATUS". One request at a time.
type Line struct {
	conn net.Conn
	in   *bufio.Reader
}

// NewLine makes a Line of a connection to the guest's second serial port.
func NewLine(conn net.Conn) *Line {
	return &Line{conn: conn, in: bufio.NewReaderSize(conn, lineMax)}
}

// Close ends the line; the guest runs on.
func (c *Line) Close() error { return c.conn.Close() }

// Ready waits until the guest's first program serves the line, which it says once,
// after its start.
func (c *Line) Ready(ctx context.Context) error {
	stop, err := c.until(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for {
		line, err := c.readLine()
		if err != nil {
			return fmt.Errorf("the line to the guest broke: %w", err)
		}
		if line == "ready" {
			return nil
		}
	}
}

// until lets what is under way end with the context.
func (c *Line) until(ctx context.Context) (stop func() bool, err error) {
	deadline, _ := ctx.Deadline() // zero: none
	if err := c.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Now()) }), nil //nolint:errcheck // a closed line fails anyway
}

// Put writes data to a file in the guest.
func (c *Line) Put(ctx context.Context, path string, data []byte) error {
	status, _, err := c.request(ctx, "put "+path, data)
	if err == nil && status != 0 {
		err = fmt.Errorf("the guest could not write %s (status %d)", path, status)
	}
	return err
}

// Get reads a file from the guest.
func (c *Line) Get(ctx context.Context, path string) ([]byte, error) {
	status, data, err := c.request(ctx, "get "+path, nil)
	if err == nil && status != 0 {
		err = fmt.Errorf("the guest could not read %s (status %d)", path, status)
	}
	return data, err
}

// Run runs a shell command in the guest and gives its exit status and output, which
// the console also shows.
func (c *Line) Run(ctx context.Context, command string) (status int, output []byte, err error) {
	return c.request(ctx, "run "+command, nil)
}

// PowerOff asks the guest to power itself off, and does not wait for it.
func (c *Line) PowerOff() error {
	_, err := io.WriteString(c.conn, "off\n")
	return err
}

// request sends verb, and body where it is not nil, and reads the answer.
func (c *Line) request(ctx context.Context, verb string, body []byte) (status int, data []byte, err error) {
	if strings.ContainsAny(verb, "\r\n\x00\\") || len(verb) > lineMax {
		return 0, nil, errors.New("a request is one short line without a backslash")
	}
	stop, err := c.until(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer stop()
	if _, err = c.conn.Write(encodeRequest(verb, body)); err == nil {
		status, data, err = c.answer()
	}
	if err != nil {
		err = fmt.Errorf("the guest did not answer %q: %w", verb, err)
	}
	return status, data, err
}

func encodeRequest(verb string, body []byte) []byte {
	var out bytes.Buffer
	out.WriteString(verb + "\n")
	if body != nil {
		text := base64.StdEncoding.EncodeToString(body)
		for len(text) > 0 {
			n := min(len(text), 76)
			out.WriteString(text[:n] + "\n")
			text = text[n:]
		}
		out.WriteString(".\n")
	}
	return out.Bytes()
}

func (c *Line) answer() (int, []byte, error) {
	var text strings.Builder
	for {
		line, err := c.readLine()
		if err != nil {
			return 0, nil, err
		}
		if number, ok := strings.CutPrefix(line, ". "); ok {
			status, err := strconv.Atoi(number)
			if err != nil {
				return 0, nil, fmt.Errorf("no exit status: %w", err)
			}
			data, err := base64.StdEncoding.DecodeString(text.String())
			if err != nil {
				return 0, nil, fmt.Errorf("not base64: %w", err)
			}
			return status, data, nil
		}
		if text.Len()+len(line) > answerMax {
			return 0, nil, fmt.Errorf("more than %d bytes", answerMax)
		}
		text.WriteString(line)
	}
}

// readLine reads one line without its end; a serial line may add a carriage return.
func (c *Line) readLine() (string, error) {
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("a line of more than %d bytes", lineMax)
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			return "", errors.New("the line was closed")
		}
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}
