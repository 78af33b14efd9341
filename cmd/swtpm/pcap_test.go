package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"syscall"
	"testing"
	"time"
)

// captured takes a capture apart: the data of each packet, who sends it, and flags.
func captured(t *testing.T, b []byte, sums bool) (sent [2][]byte, flags []byte) {
	t.Helper()
	le, be := binary.LittleEndian, binary.BigEndian
	next := [2]uint32{}
	for len(b) > 0 {
		kind, size := le.Uint32(b), int(le.Uint32(b[4:]))
		if size%4 != 0 || size > len(b) || int(le.Uint32(b[size-4:])) != size {
			t.Fatalf("a block of %d bytes", size)
		}
		block := b[:size]
		b = b[size:]
		if kind != 6 {
			continue
		}
		frame := block[28 : 28+le.Uint32(block[20:])]
		ip, tcp, data := frame[14:34], frame[34:54], frame[54:]
		if int(be.Uint16(ip[2:])) != len(frame)-14 {
			t.Fatalf("IP says %d bytes of %d", be.Uint16(ip[2:]), len(frame)-14)
		}
		pseudo := append([]byte{0, 6, byte((len(tcp) + len(data)) >> 8), byte(len(tcp) + len(data))}, ip[12:20]...)
		if ok := checksum(ip) == 0 && checksum(pseudo, tcp, data) == 0; ok != sums {
			t.Errorf("checksums are right: %v", ok)
		}
		from := 0
		if be.Uint16(tcp) == capturePort {
			from = 1
		}
		seq := be.Uint32(tcp[4:])
		if len(flags) > 1 && next[from] != seq {
			t.Errorf("sequence number %d, want %d", seq, next[from])
		}
		next[from] = seq + uint32(len(data))
		if tcp[13]&(tcpSYN|tcpFIN) != 0 {
			next[from]++
		}
		sent[from] = append(sent[from], data...)
		flags = append(flags, tcp[13])
	}
	return sent, flags
}

// TestCapture has what goes over the data channel in the file, and what swtpm's own
// test wants of its size and its mode.
func TestCapture(t *testing.T) {
	dir := shortDir(t)
	path := join(dir, "pcap")
	size := func(want int64) {
		t.Helper()
		if st, err := os.Stat(path); err != nil || st.Size() != want || st.Mode() != 0o644 {
			t.Fatalf("%v, %v; want %d bytes", st.Size(), st.Mode(), want)
		}
	}
	for _, sums := range []bool{false, true} {
		value := "file=" + path + ",mode=0644,truncate"
		if sums {
			value += ",checksums"
		}
		p := startProcess(t, swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "not-need-init,disable-auto-shutdown",
			"--server", "type=unixio,path="+join(dir, "d"), "--ctrl", "type=unixio,path="+join(dir, "c"), "--pcap", value))
		ctrl := p.dial("unix", join(dir, "c"))
		awaitAnswer(t, p, ctrl)
		ctrl.Close()
		size(312)
		w := wire{p.dial("unix", join(dir, "d"))}
		command := []byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x00")
		rsp, err := w.Send(command)
		if err != nil {
			t.Fatal(err)
		}
		size(508)
		p.stop()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sent, flags := captured(t, b, sums)
		if !bytes.Equal(sent[0], command) || !bytes.Equal(sent[1], rsp) {
			t.Errorf("%x and %x are in the capture", sent[0], sent[1])
		}
		if want := []byte{tcpSYN, tcpSYN | tcpACK, tcpACK, tcpPSH | tcpACK, tcpPSH | tcpACK, tcpFIN | tcpACK, tcpFIN | tcpACK, tcpACK}; !bytes.Equal(flags, want) {
			t.Errorf("flags %x, want %x", flags, want)
		}
	}
}

// TestCaptureNeverWaits: who reads a capture from a pipe, and does not go on, gets what
// there is room for, and keeps no TPM waiting.
func TestCaptureNeverWaits(t *testing.T) {
	path := join(shortDir(t), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	c, err := openCapture("file=" + path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			c.record(false, make([]byte, 4000))
		}
		c.close()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it waits")
	}
	b, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for ; len(b) >= 12 && int(binary.LittleEndian.Uint32(b[4:])) <= len(b); blocks++ {
		b = b[binary.LittleEndian.Uint32(b[4:]):]
	}
	if blocks < 10 || len(b) > 0 && !c.cut {
		t.Errorf("%d blocks, and %d bytes of another one", blocks, len(b))
	}
}
