// Package blob is the envelope of every saved state: sections, each with a
// version and the oldest reader that understands it, under one digest.
//
// All integers are big-endian:
//
//	magic "ASHLARTS" | u16 version | u16 minimum version | u32 total length
//	instance id [16] | target id [16] | u16 sections
//	sections: u32 tag | u16 version | u16 minimum version | u32 length | data
//	SHA-256 of everything before it
//
// The digest finds damage, not forgery: whoever can write the file can write
// its digest. The target id is zero until a migration binds the state to the
// instance that may resume it.
package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	magic = "ASHLARTS"
	// Version is the envelope that this program writes, and the newest that it
	// reads.
	Version = 1
	// MaxSize is the largest envelope in bytes, several times what a TPM with
	// all its NV memory in use has.
	MaxSize = 1 << 20
	// MaxSections bounds the sections of one envelope.
	MaxSections = 64

	headerSize  = len(magic) + 2 + 2 + 4 + 16 + 16 + 2
	sectionSize = 4 + 2 + 2 + 4
)

// ErrDamaged is in the chain of every error about bytes that no program wrote
// in this form: cut, altered, or not a state at all.
var ErrDamaged = errors.New("the state is damaged")

// ErrVersion is in the chain of every error about a state that a newer program
// wrote.
var ErrVersion = errors.New("the state is of a newer version")

// Section is one part of a state.
type Section struct {
	Tag        uint32
	Version    uint16 // of the data
	MinVersion uint16 // the oldest reader's version that understands the data; 0 if one that does not know it may skip it
	Data       []byte
}

// Envelope is a whole state.
type Envelope struct {
	Instance [16]byte // the TPM's own id, for life
	Target   [16]byte // the instance that may resume it; zero for any
	Sections []Section
}

// Encode gives the envelope's bytes. It panics on more than MaxSections.
func (e *Envelope) Encode() []byte {
	n := headerSize + sha256.Size
	for _, s := range e.Sections {
		n += sectionSize + len(s.Data)
	}
	w := NewWriter(e.Instance, e.Target, n)
	for _, s := range e.Sections {
		w.Write(s)
	}
	return w.Bytes()
}

// Writer makes an envelope's bytes section by section, in one piece of memory.
type Writer struct {
	b        []byte
	sections int
}

// NewWriter begins an envelope that will have about size bytes.
func NewWriter(instance, target [16]byte, size int) *Writer {
	b := append(make([]byte, 0, size), magic...)
	b = binary.BigEndian.AppendUint16(b, Version)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = append(b, 0, 0, 0, 0) // the size
	b = append(b, instance[:]...)
	b = append(b, target[:]...)
	return &Writer{b: append(b, 0, 0)} // the number of sections
}

// Write adds a section.
func (w *Writer) Write(s Section) {
	w.Append(s, func(b []byte) []byte { return append(b, s.Data...) })
}

// Append adds a section whose data is what f appends.
func (w *Writer) Append(s Section, f func([]byte) []byte) {
	w.sections++
	w.b = binary.BigEndian.AppendUint32(w.b, s.Tag)
	w.b = binary.BigEndian.AppendUint16(w.b, s.Version)
	w.b = binary.BigEndian.AppendUint16(w.b, s.MinVersion)
	w.b = append(w.b, 0, 0, 0, 0) // the size
	begin := len(w.b)
	w.b = f(w.b)
	binary.BigEndian.PutUint32(w.b[begin-4:], uint32(len(w.b)-begin))
}

// Bytes completes the envelope. It panics on more than MaxSections.
func (w *Writer) Bytes() []byte {
	if w.sections > MaxSections {
		panic("blob: too many sections")
	}
	binary.BigEndian.PutUint16(w.b[headerSize-2:], uint16(w.sections))
	binary.BigEndian.PutUint32(w.b[len(magic)+4:], uint32(len(w.b)+sha256.Size))
	sum := sha256.Sum256(w.b)
	return append(w.b, sum[:]...)
}

// Decode reads an envelope and checks its digest. Sections' data alias b.
func Decode(b []byte) (*Envelope, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes are more than a state can have", ErrDamaged, len(b))
	}
	if len(b) < headerSize+sha256.Size || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
	}
	p := b[len(magic):]
	version, minimum := binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	if minimum > Version {
		return nil, fmt.Errorf("%w: it is of version %d and needs a reader of %d, this one is %d",
			ErrVersion, version, minimum, Version)
	}
	if total := binary.BigEndian.Uint32(p[4:]); uint64(total) != uint64(len(b)) {
		return nil, fmt.Errorf("%w: it says %d bytes and has %d", ErrDamaged, total, len(b))
	}
	body := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return nil, fmt.Errorf("%w: its digest does not match", ErrDamaged)
	}
	e := new(Envelope)
	p = p[8 : len(body)-len(magic)]
	p = p[copy(e.Instance[:], p):]
	p = p[copy(e.Target[:], p):]
	return e, e.decodeSections(p)
}

func (e *Envelope) decodeSections(p []byte) error {
	n := int(binary.BigEndian.Uint16(p))
	p = p[2:]
	if n > MaxSections {
		return fmt.Errorf("%w: it has %d sections", ErrDamaged, n)
	}
	e.Sections = make([]Section, n)
	for i := range e.Sections {
		if len(p) < sectionSize {
			return fmt.Errorf("%w: section %d is cut", ErrDamaged, i)
		}
		s := &e.Sections[i]
		s.Tag = binary.BigEndian.Uint32(p)
		s.Version = binary.BigEndian.Uint16(p[4:])
		s.MinVersion = binary.BigEndian.Uint16(p[6:])
		size := binary.BigEndian.Uint32(p[8:])
		p = p[sectionSize:]
		if uint64(size) > uint64(len(p)) {
			return fmt.Errorf("%w: section %d is cut", ErrDamaged, i)
		}
		s.Data, p = p[:size:size], p[size:]
	}
	if len(p) != 0 {
		return fmt.Errorf("%w: %d bytes follow the last section", ErrDamaged, len(p))
	}
	return nil
}

// Find gives the section with a tag, or nil.
func (e *Envelope) Find(tag uint32) *Section {
	for i := range e.Sections {
		if e.Sections[i].Tag == tag {
			return &e.Sections[i]
		}
	}
	return nil
}
