package tpm2

import "encoding/binary"

// Walker is a structure that can be carried in both directions: Walk visits
// its fields in wire order.
type Walker interface{ Walk(*Codec) }

type mode uint8

const (
	modeDecode mode = iota
	modeEncode
	modeProbe
)

// Codec carries structures to and from their canonical wire form (big-endian,
// Part 1, 31). The first error sticks: later calls do nothing, so a Walk needs
// no checks of its own. Decoded slices alias the input.
//
// The zero Codec encodes nothing and decodes the empty input; use NewDecoder
// or NewEncoder.
type Codec struct {
	buf  []byte
	off  int // decode: next byte to read
	rc   RC
	mode mode
	// param is the number of the parameter being walked, 0 outside parameters.
	param int
	impl  *Implementation // nil: everything known
	probe probe
}

// probe is what a probing Walk has met first.
type probe uint8

const (
	probeNothing probe = iota
	probeSized
	probeOther
)

// meet notes the first thing that a probing Walk meets.
func (c *Codec) meet(p probe) {
	if c.probe == probeNothing {
		c.probe = p
	}
}

// StartsSized reports whether w's first field is a TPM2B: then it is a
// parameter that a session can encrypt (Part 1, 21.1).
func StartsSized(w Walker) bool {
	c := Codec{mode: modeProbe}
	w.Walk(&c)
	return c.probe == probeSized
}

// NewDecoder reads from b.
func NewDecoder(b []byte) Codec { return Codec{buf: b, mode: modeDecode} }

// NewEncoder appends to b.
func NewEncoder(b []byte) Codec { return Codec{buf: b, mode: modeEncode} }

// Decoding tells a Walk the direction, for fields that are derived when
// writing and checked when reading.
func (c *Codec) Decoding() bool { return c.mode == modeDecode }

// RC is the first error, RCSuccess while there is none. An error inside a
// parameter carries its number.
func (c *Codec) RC() RC { return c.rc }

// Fail records an error unless there is one already.
func (c *Codec) Fail(rc RC) {
	if c.rc == RCSuccess {
		if c.param > 0 {
			rc = rc.P(c.param)
		}
		c.rc = rc
	}
}

// Remaining is the number of bytes that a decoder has not read.
func (c *Codec) Remaining() int { return len(c.buf) - c.off }

// Rest gives the bytes that a decoder has not read, without reading them.
func (c *Codec) Rest() []byte { return c.buf[c.off:] }

// Output is what an encoder has written, with the prefix it was given.
func (c *Codec) Output() []byte { return c.buf }

// Param walks a command's or response's next parameter; errors inside it get
// its number (Part 2, 6.6.3).
func (c *Codec) Param(w Walker) {
	c.param++
	w.Walk(c)
}

func (c *Codec) take(n int) []byte {
	if c.rc != RCSuccess {
		return nil
	}
	if n > len(c.buf)-c.off {
		c.Fail(RCInsufficient)
		return nil
	}
	b := c.buf[c.off : c.off+n : c.off+n]
	c.off += n
	return b
}

// U8 walks a UINT8 or BYTE.
func (c *Codec) U8(p *uint8) {
	switch c.mode {
	case modeDecode:
		if b := c.take(1); b != nil {
			*p = b[0]
		}
	case modeEncode:
		c.buf = append(c.buf, *p)
	default:
		c.meet(probeOther)
	}
}

// U16 walks a UINT16.
func (c *Codec) U16(p *uint16) {
	switch c.mode {
	case modeDecode:
		if b := c.take(2); b != nil {
			*p = binary.BigEndian.Uint16(b)
		}
	case modeEncode:
		c.buf = binary.BigEndian.AppendUint16(c.buf, *p)
	default:
		c.meet(probeOther)
	}
}

// U32 walks a UINT32.
func (c *Codec) U32(p *uint32) {
	switch c.mode {
	case modeDecode:
		if b := c.take(4); b != nil {
			*p = binary.BigEndian.Uint32(b)
		}
	case modeEncode:
		c.buf = binary.BigEndian.AppendUint32(c.buf, *p)
	default:
		c.meet(probeOther)
	}
}

// U64 walks a UINT64.
func (c *Codec) U64(p *uint64) {
	switch c.mode {
	case modeDecode:
		if b := c.take(8); b != nil {
			*p = binary.BigEndian.Uint64(b)
		}
	case modeEncode:
		c.buf = binary.BigEndian.AppendUint64(c.buf, *p)
	default:
		c.meet(probeOther)
	}
}

// Bool walks a TPMI_YES_NO (Part 2, 9.2): 0 or 1, else RCValue.
func (c *Codec) Bool(p *bool) {
	var v uint8
	if *p {
		v = 1
	}
	c.U8(&v)
	if v > 1 {
		c.Fail(RCValue)
	}
	*p = v == 1
}

// Raw walks exactly n bytes without a length.
func (c *Codec) Raw(p *[]byte, n int) {
	switch c.mode {
	case modeDecode:
		*p = c.take(n)
	case modeEncode:
		c.buf = append(c.buf, *p...)
	default:
		c.meet(probeOther)
	}
}

func (c *Codec) probeSized() {
	if c.mode == modeProbe {
		c.meet(probeSized)
	}
}

// Buffer walks a TPM2B of bytes: a UINT16 length of at most max bytes, else
// RCSize, then the bytes.
func (c *Codec) Buffer(p *[]byte, max int) {
	c.probeSized()
	if c.mode == modeEncode {
		if len(*p) > max || len(*p) > 0xFFFF {
			c.Fail(RCSize)
			return
		}
		c.buf = binary.BigEndian.AppendUint16(c.buf, uint16(len(*p)))
		c.buf = append(c.buf, *p...)
		return
	}
	var n uint16
	c.U16(&n)
	if c.rc != RCSuccess {
		return
	}
	if int(n) > max {
		c.Fail(RCSize)
		return
	}
	*p = c.take(int(n))
}

// Sized walks a TPM2B that wraps a structure: a UINT16 length, then body,
// which must be exactly that long (RCSize). A zero length is RCSize too,
// unless optional is set: then the structure is left untouched. It reports
// whether there was a structure.
func (c *Codec) Sized(optional bool, body func(*Codec)) bool {
	c.probeSized()
	if c.mode == modeEncode {
		at := len(c.buf)
		c.buf = append(c.buf, 0, 0)
		body(c)
		n := len(c.buf) - at - 2
		if n > 0xFFFF {
			c.Fail(RCSize)
			return false
		}
		binary.BigEndian.PutUint16(c.buf[at:], uint16(n))
		return true
	}
	var n uint16
	c.U16(&n)
	if c.rc != RCSuccess {
		return false
	}
	if n == 0 {
		if !optional {
			c.Fail(RCSize)
		}
		return false
	}
	start := c.off
	body(c)
	if c.off-start != int(n) {
		c.Fail(RCSize)
	}
	return c.rc == RCSuccess
}

// Absent writes the zero length of an absent TPM2B when encoding.
func (c *Codec) Absent() {
	if c.mode == modeEncode {
		c.buf = append(c.buf, 0, 0)
	}
}

// walkPtr is the constraint that lets List and Unmarshal reach *T's Walk.
type walkPtr[T any] interface {
	*T
	Walker
}

// List walks a TPML: a UINT32 count of at most max, else RCSize, then the
// elements.
func List[T any, P walkPtr[T]](c *Codec, list *[]T, max int) { ListRange[T, P](c, list, 0, max) }

// ListRange is List with a least count, else RCSize.
func ListRange[T any, P walkPtr[T]](c *Codec, list *[]T, min, max int) {
	n := uint32(len(*list))
	c.U32(&n)
	if c.rc != RCSuccess {
		return
	}
	if int64(n) < int64(min) || int64(n) > int64(max) {
		c.Fail(RCSize)
		return
	}
	if c.mode == modeDecode {
		*list = nil
		// A count is only believed as far as bytes are there to back it.
		if n > 0 && int(n) <= c.Remaining() {
			*list = make([]T, 0, n)
		}
		for range n {
			*list = append(*list, *new(T))
			if P(&(*list)[len(*list)-1]).Walk(c); c.rc != RCSuccess {
				return
			}
		}
		return
	}
	for i := range *list {
		P(&(*list)[i]).Walk(c)
	}
}

// Marshal gives w's wire form. It panics if w cannot be encoded, which is a
// programming error: use NewEncoder where the content is not one's own.
func Marshal(w Walker) []byte {
	c := NewEncoder(nil)
	w.Walk(&c)
	if c.rc != RCSuccess {
		panic("tpm2: cannot encode: " + c.rc.Error())
	}
	return c.buf
}

// Unmarshal decodes exactly b into w; bytes left over are RCSize.
func Unmarshal(b []byte, w Walker) error {
	c := NewDecoder(b)
	w.Walk(&c)
	if c.rc == RCSuccess && c.Remaining() != 0 {
		c.Fail(RCSize)
	}
	if c.rc != RCSuccess {
		return c.rc
	}
	return nil
}
