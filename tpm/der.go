package tpm

import "encoding/binary"

// Tags of DER (X.690, 8.1.2): universal ones, and those of a TBSCertificate
// (RFC 5280, 4.1).
const (
	derInteger     = 0x02
	derBitString   = 0x03
	derOctetString = 0x04
	derNull        = 0x05
	derSequence    = 0x30
	derContext     = 0xA0 // [0]; [n] is n more
	derExtensions  = derContext + 3
)

// derElement is one element: whole is with its tag and length.
type derElement struct {
	tag            byte
	whole, content []byte
}

// cutDER cuts an element off the front of b. It refuses long tags, and lengths
// of no or more than two bytes or over 32,767, as the reference code does
// (ASN1NextTag); a length may take more bytes than it needs.
func cutDER(b []byte) (e derElement, rest []byte, ok bool) {
	if len(b) < 2 || b[0]&0x1F == 0x1F {
		return e, nil, false
	}
	head, n := 2, int(b[1])
	switch {
	case n < 0x80:
	case n == 0x81 && len(b) >= 3:
		head, n = 3, int(b[2])
	case n == 0x82 && len(b) >= 4 && b[2] < 0x80:
		head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	default:
		return e, nil, false
	}
	if n > len(b)-head {
		return e, nil, false
	}
	return derElement{b[0], b[:head+n], b[head : head+n]}, b[head+n:], true
}

// onlyDER is the content of the one element, of a tag, that b is.
func onlyDER(b []byte, tag byte) (content []byte, ok bool) {
	e, rest, ok := cutDER(b)
	return e.content, ok && e.tag == tag && len(rest) == 0
}

// derBits reads a BIT STRING of at most 32 bits; the first bit is the most
// significant.
func derBits(b []byte) (bits uint32, ok bool) {
	c, ok := onlyDER(b, derBitString)
	if !ok || len(c) == 0 || len(c) > 5 || c[0] > 7 || len(c) == 1 && c[0] != 0 {
		return 0, false
	}
	var word [4]byte
	unused := c[0]
	copy(word[:], c[1:])
	if len(c) > 1 {
		word[len(c)-2] &^= 1<<unused - 1
	}
	return binary.BigEndian.Uint32(word[:]), true
}

// der encodes an element of the parts.
func der(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := []byte{tag}
	switch {
	case n < 0x80:
		b = append(b, byte(n))
	case n < 0x100:
		b = append(b, 0x81, byte(n))
	default:
		b = binary.BigEndian.AppendUint16(append(b, 0x82), uint16(n))
	}
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// derUnsigned encodes a number that is not negative, given big-endian.
func derUnsigned(n []byte) []byte {
	for len(n) > 1 && n[0] == 0 {
		n = n[1:]
	}
	if n[0] >= 0x80 {
		return der(derInteger, []byte{0}, n)
	}
	return der(derInteger, n)
}
