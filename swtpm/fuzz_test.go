package swtpm

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// script is a connection whose peer sends given pieces, one a read, and is
// gone then. Where a read has a deadline, nothing more comes in time.
type script struct {
	net.Conn
	pieces   [][]byte
	deadline bool
	written  bytes.Buffer
}

func (s *script) Read(b []byte) (int, error) {
	if len(s.pieces) == 0 {
		if s.deadline {
			return 0, os.ErrDeadlineExceeded
		}
		return 0, io.EOF
	}
	n := copy(b, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (s *script) Write(b []byte) (int, error)       { return s.written.Write(b) }
func (s *script) Close() error                      { return nil }
func (s *script) SetReadDeadline(t time.Time) error { s.deadline = !t.IsZero(); return nil }

// pieces takes fuzz input apart: one byte of length before each piece, 255
// for all that is left.
func pieces(b []byte) (list [][]byte) {
	for len(b) > 1 {
		n := int(b[0])
		b = b[1:]
		if n == 0 {
			continue
		}
		if n == 255 || n > len(b) {
			n = len(b)
		}
		list = append(list, b[:n])
		b = b[n:]
	}
	return list
}

// join is the inverse of pieces.
func join(hex ...string) (b []byte) {
	for _, h := range hex {
		p := unhex(h)
		b = append(append(b, byte(len(p))), p...)
	}
	return b
}

// maxAnswer is more than all answers to one fuzz input of reasonable size.
const maxAnswer = 64 << 20

func FuzzControlChannel(f *testing.F) {
	f.Add(join("00000001", "00000002 00000000", "00000004", "00000005 00", "0000000e", "00000003"))
	f.Add(join("00000002 00000000", "00000006", "00000007 00000004 6162", "6364", "00000008"))
	f.Add(join("00000002 00000000", "0000000c 00000001 00000002 00000010", "0000000a", "00000002 00000001"))
	f.Add(join("0000000d 00000000 00000001 00000006 0102", "03040506", "0000000f", "00000010"))
	f.Add(join("00000011 00000f80", "00000012 0000000000000007 00000000 00000000", "00000013 00000001"))
	f.Add(join("0000000d 00000000 00000002 ffffffff", "00", "0000000b 03", "00000009"))
	h, _ := newTestHost(f, f.TempDir(), nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		h.Cut()
		s := &script{pieces: pieces(b)}
		n := len(s.pieces)
		c := &ctrlConn{host: h, in: newCtrlReader(s), caps: Capabilities(), end: func() {}}
		_ = c.serve()
		if s.written.Len() > maxAnswer || s.written.Len() < 4 && n > 0 {
			t.Fatalf("%d messages, %d bytes of answer", n, s.written.Len())
		}
	})
}

func FuzzDataChannel(f *testing.F) {
	f.Add(join(startupClear, getRandom))
	f.Add(join(startupClear, "00000008 00 0000000c"+getRandom, "8001", "8001 ffffffff 0000017b"))
	f.Add(join("00000008 04 0000000c", startupClear, "8001 0000000b 20001000 03"))
	f.Add(append([]byte{255}, make([]byte, 5000)...))
	h, _ := newTestHost(f, f.TempDir(), func(c *Config) { c.AllowSetLocality = true })
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		h.Cut()
		if h.PowerOn(false) != OK {
			t.Fatal("the TPM does not start")
		}
		s := &script{pieces: pieces(b)}
		_ = newDataConn(h, s, true).serve(false)
		checkAnswers(t, s.written.Bytes())
	})
}

// checkAnswers wants well-formed responses, raw or wrapped.
func checkAnswers(t *testing.T, b []byte) {
	for len(b) > 0 {
		if len(b) < 10 {
			t.Fatalf("%d bytes at the end of the answers", len(b))
		}
		trailer := 0
		if tag := binary.BigEndian.Uint16(b); tag != 0x8001 && tag != 0x8002 && tag != 0x00c4 { // 00c4: TPM_RC_BAD_TAG
			b, trailer = b[4:], 4
		}
		size := int(binary.BigEndian.Uint32(b[2:]))
		if size < 10 || size > MaxBufferSize || size+trailer > len(b) {
			t.Fatalf("a response of %d bytes", size)
		}
		b = b[size+trailer:]
	}
}

func FuzzSimulator(f *testing.F) {
	f.Add(unhex("00000001 0000000b 00000005 00000006 00000002 6162 00000007 00000011"))
	f.Add(append(unhex("00000001 00000008 00 0000000c"), unhex(startupClear)...))
	f.Add(unhex("00000006 ffffffff"))
	h, _ := newTestHost(f, f.TempDir(), nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		h.Cut()
		h.HoldCancel(false)
		h.SetNV(true)
		s := &script{pieces: [][]byte{b}}
		c := newSimConn(h, s, func() {})
		for i := range 100 {
			one := (*simConn).platform
			if i%2 == 1 {
				one = (*simConn).command
			}
			if one(c) != nil {
				return
			}
		}
	})
}

// FuzzClient has a client read the answers of a TPM that may be anybody.
func FuzzClient(f *testing.F) {
	f.Add([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x03abc"))
	f.Add([]byte("\xff\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x02{}\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x03{}\x00"))
	f.Add([]byte("\x04\x00\x00\x00\x0a\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := NewClient(&script{pieces: pieces(b)})
		if blob, err := c.StateBlob(BlobPermanent); err == nil && len(blob) > MaxBlob {
			t.Errorf("a state of %d bytes", len(blob))
		}
		if text, err := c.Info(InfoProfile); err == nil && len(text) > MaxBlob+4096 {
			t.Errorf("a text of %d bytes", len(text))
		}
		_, _, _, _ = c.BufferSize(0)
		_, _ = c.Established()
		_ = c.SetStateBlob(BlobPermanent, b)
		_ = c.Hash(bytes.NewReader(b))
		_ = c.LockStorage(1)
	})
}
