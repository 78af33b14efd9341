package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

// capture writes commands and responses to a file in the form pcapng, as the TCP
// connection to port 2321 whose content Wireshark knows. Packets that cannot be
// written are lost: the TPM waits for no capture.
type capture struct {
	f         *os.File
	checksums bool
	client    uint16    // the port of who sends commands
	seq       [2]uint32 // next byte of the client, and of the TPM
	cut       bool      // a block is in it in part, so that nothing may follow
}

// Ports, flags of TCP, and sizes of headers in bytes.
const (
	capturePort = 2321

	tcpFIN, tcpSYN, tcpPSH, tcpACK = 0x01, 0x02, 0x08, 0x10

	sizeEthernet, sizeIP, sizeTCP = 14, 20, 20
)

// openCapture opens what --pcap names; nil where it is not given.
func openCapture(value string) (*capture, error) {
	if value == "" {
		return nil, nil
	}
	p, err := parseParams("pcap", value, "file", "fd", "mode", "truncate", "checksums")
	if err != nil {
		return nil, err
	}
	mode, err := p.mode("mode", 0o640)
	if err != nil {
		return nil, err
	}
	c := &capture{client: uint16(50000 + rand.IntN(5000)), seq: [2]uint32{rand.Uint32(), rand.Uint32()}}
	var truncate bool
	if err := p.flags(map[string]*bool{"truncate": &truncate, "checksums": &c.checksums}); err != nil {
		return nil, err
	}
	switch {
	case p.has("file") == p.has("fd"):
		return nil, fmt.Errorf("--pcap needs file=PATH or fd=N")
	case p.has("fd"):
		c.f, err = inherited(p, "fd")
	default:
		c.f, err = os.OpenFile(p.str("file"), os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, mode)
	}
	if err == nil {
		err = c.begin(mode, truncate)
	}
	if err != nil {
		return nil, fmt.Errorf("--pcap: %w", err)
	}
	return c, nil
}

// begin prepares the file and writes the head of a section, and of a connection.
func (c *capture) begin(mode os.FileMode, truncate bool) error {
	if truncate {
		if err := c.f.Truncate(0); err != nil {
			return err
		}
	}
	if err := c.f.Chmod(mode); err != nil {
		return err
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0x0a0d0d0a) // section header
	b = le.AppendUint32(b, 28)
	b = le.AppendUint32(b, 0x1a2b3c4d) // byte order
	b = le.AppendUint32(b, 1)          // version 1.0
	b = le.AppendUint64(b, ^uint64(0)) // of unknown length
	b = le.AppendUint32(b, 28)
	b = le.AppendUint32(b, 1) // interface
	b = le.AppendUint32(b, 20)
	b = le.AppendUint64(b, 1) // Ethernet, packets of any length
	b = le.AppendUint32(b, 20)
	if _, err := c.f.Write(b); err != nil {
		return err
	}
	c.shake(tcpSYN)
	return nil
}

// close ends the connection and the file.
func (c *capture) close() {
	c.shake(tcpFIN)
	c.f.Close()
}

// shake begins or ends the connection.
func (c *capture) shake(flag byte) {
	first := flag | tcpACK
	if flag == tcpSYN {
		first = tcpSYN
	}
	c.write(0, first, nil)
	c.seq[0]++
	c.write(1, flag|tcpACK, nil)
	c.seq[1]++
	c.write(0, tcpACK, nil)
}

// record notes a command, or a response.
func (c *capture) record(response bool, packet []byte) {
	from := 0
	if response {
		from = 1
	}
	c.write(from, tcpPSH|tcpACK, packet)
	c.seq[from] += uint32(len(packet))
}

// write writes a packet that the client (0) or the TPM (1) sends.
func (c *capture) write(from int, flags byte, data []byte) {
	frame := append(c.headers(from, flags, data), data...)
	le := binary.LittleEndian
	size := (28 + len(frame) + 3 + 4) &^ 3
	now := uint64(time.Now().UnixMicro())
	b := le.AppendUint32(make([]byte, 0, size), 6) // enhanced packet
	for _, w := range []uint32{uint32(size), 0, uint32(now >> 32), uint32(now), uint32(len(frame)), uint32(len(frame))} {
		b = le.AppendUint32(b, w)
	}
	b = append(b, frame...)
	b = append(b, make([]byte, size-4-len(b))...)
	c.put(le.AppendUint32(b, uint32(size)))
}

// put writes a block without waiting for who reads a pipe.
func (c *capture) put(block []byte) {
	raw, err := c.f.SyscallConn()
	if err != nil || c.cut {
		return
	}
	_ = raw.Write(func(fd uintptr) bool {
		n, _ := syscall.Write(int(fd), block)
		c.cut = n > 0 && n < len(block)
		return true
	})
}

// headers makes those of Ethernet, IP (RFC 791) and TCP (RFC 9293).
func (c *capture) headers(from int, flags byte, data []byte) []byte {
	b := make([]byte, sizeEthernet+sizeIP+sizeTCP)
	be := binary.BigEndian
	be.PutUint16(b[12:], 0x0800)
	ip, tcp := b[sizeEthernet:], b[sizeEthernet+sizeIP:]
	ip[0] = 0x45
	be.PutUint16(ip[2:], uint16(sizeIP+sizeTCP+len(data)))
	be.PutUint16(ip[6:], 0x4000) // do not fragment
	ip[8], ip[9] = 64, 6
	copy(ip[12:], []byte{127, 0, 0, 1, 127, 0, 0, 1})
	ports := [2]uint16{c.client, capturePort}
	be.PutUint16(tcp, ports[from])
	be.PutUint16(tcp[2:], ports[1-from])
	be.PutUint32(tcp[4:], c.seq[from])
	if flags&tcpACK != 0 {
		be.PutUint32(tcp[8:], c.seq[1-from])
	}
	tcp[12], tcp[13] = sizeTCP/4<<4, flags
	be.PutUint16(tcp[14:], 0xffff)
	if c.checksums {
		be.PutUint16(ip[10:], checksum(ip[:sizeIP]))
		pseudo := append([]byte{0, 6, 0, 0}, ip[12:20]...)
		be.PutUint16(pseudo[2:], uint16(sizeTCP+len(data)))
		be.PutUint16(tcp[16:], checksum(pseudo, tcp[:sizeTCP], data))
	}
	return b
}

// checksum is that of RFC 1071 over parts, of which the last only may be odd.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for i, v := range b {
			sum += uint32(v) << (8 * (1 - i&1))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
