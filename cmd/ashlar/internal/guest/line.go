package guest

import (
	"bufio"
	"bytes"
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

// channel is the host's end of the line to the guest: requests of one line, contents
// as lines of base64, answers ended by a line ". STATUS". One request at a time.
type channel struct {
	conn net.Conn
	in   *bufio.Reader
}

func newChannel(conn net.Conn) *channel {
	return &channel{conn: conn, in: bufio.NewReaderSize(conn, lineMax)}
}

// greeting waits for the line "ready".
func (c *channel) greeting() error {
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

// request sends verb, and body where it is not nil, and reads the answer. A zero
// deadline means none.
func (c *channel) request(verb string, body []byte, deadline time.Time) (status int, data []byte, err error) {
	if strings.ContainsAny(verb, "\r\n\x00\\") || len(verb) > lineMax {
		return 0, nil, errors.New("a request is one short line without a backslash")
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return 0, nil, err
	}
	if _, err := c.conn.Write(encodeRequest(verb, body)); err != nil {
		return 0, nil, err
	}
	return c.answer()
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

func (c *channel) answer() (int, []byte, error) {
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
func (c *channel) readLine() (string, error) {
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
