package ima

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
)

// Limits of what Parse takes. A server that runs for months has some hundred
// thousand entries of about 100 bytes.
const (
	MaxLogSize   = 256 << 20 // bytes
	MaxEntries   = 2 << 20   // entries
	MaxEntrySize = 16 << 20  // bytes of an entry's fields; kexec measures buffers

	numPCRs       = 24
	firstEstimate = 4096 // entries allocated at once
)

// Format is the log's form.
type Format uint8

// The forms.
const (
	Binary Format = iota // binary_runtime_measurements
	ASCII                // ascii_runtime_measurements
)

// String gives "binary" or "ascii".
func (f Format) String() string {
	if f == ASCII {
		return "ascii"
	}
	return "binary"
}

// Log is a parsed measurement list.
type Log struct {
	Format  Format
	Entries []Entry

	hashSize  int // of the template hashes: 20, except in the kernel's per-algorithm files
	bigEndian bool
	size      int // bytes read, over all Appends
	last      *Template
}

// ParseError says where a log stops making sense.
type ParseError struct {
	Entry  int // number of the entry, from 1
	Offset int
	Reason string
}

// Error gives one sentence.
func (e *ParseError) Error() string {
	return fmt.Sprintf("IMA log: entry %d at offset %d: %s", e.Entry, e.Offset, e.Reason)
}

// Parse reads a log in either form; it tells them apart by the first byte. In
// a binary log it finds out the byte order and the size of the template hashes
// from the first entry. An empty log is a binary one without entries. The
// error is a *ParseError.
func Parse(raw []byte) (*Log, error) {
	l := &Log{hashSize: sha1.Size}
	if len(raw) > 0 {
		if c := raw[0]; c == ' ' || c >= '0' && c <= '9' {
			l.Format = ASCII
		} else if err := l.detect(raw); err != nil {
			return nil, err
		}
	}
	if err := l.Append(raw); err != nil {
		return nil, err
	}
	return l, nil
}

// Append parses more of the same log, from where the last part ended, which
// must be the end of an entry. Where it fails the log is left as it was.
func (l *Log) Append(raw []byte) error {
	before, size := l.Entries, l.size
	if len(raw) > MaxLogSize-l.size {
		return &ParseError{len(l.Entries) + 1, l.size, fmt.Sprintf("the log has more than %d bytes, the limit", MaxLogSize)}
	}
	if l.Entries == nil {
		l.Entries = make([]Entry, 0, min(firstEstimate, len(raw)/64+1))
	}
	var err *ParseError
	if l.Format == ASCII {
		err = l.appendASCII(raw)
	} else {
		err = l.appendBinary(raw)
	}
	if err != nil {
		l.Entries, l.size = before, size
		return err
	}
	l.size += len(raw)
	return nil
}

// detect finds the byte order and the size of the template hash.
func (l *Log) detect(raw []byte) error {
	fail := &ParseError{1, 0, "this is no IMA log, neither binary nor ASCII"}
	if len(raw) < 4 {
		return fail
	}
	if binary.LittleEndian.Uint32(raw) >= numPCRs {
		if binary.BigEndian.Uint32(raw) >= numPCRs {
			return fail
		}
		l.bigEndian = true
	}
	probe := Entry{bigEndian: l.bigEndian}
	for _, size := range []int{20, 32, 48, 64} {
		off := 4 + size
		if len(raw) < off+4 {
			break
		}
		n := probe.u32(raw[off:])
		if n == 0 || n > maxTemplateName || uint64(len(raw)) < uint64(off+4)+uint64(n) {
			continue
		}
		if t, err := lookup(raw[off+4 : off+4+int(n)]); err == nil && t.Fields != nil {
			l.hashSize = size
			return nil
		}
	}
	// Not recognized: the parser says what is wrong with the first entry.
	return nil
}

func (l *Log) appendBinary(raw []byte) *ParseError {
	for off := 0; off < len(raw); {
		number := len(l.Entries) + 1
		if number > MaxEntries {
			return &ParseError{number, l.size + off, fmt.Sprintf("the log has more than %d entries, the limit", MaxEntries)}
		}
		l.Entries = append(l.Entries, Entry{Number: number, Offset: l.size + off, bigEndian: l.bigEndian})
		n, reason := l.parseEntry(&l.Entries[number-1], raw[off:])
		if reason != "" {
			return &ParseError{number, l.size + off, reason}
		}
		off += n
	}
	return nil
}

// parseEntry reads one binary entry: PCR, template hash, name of the template,
// fields. It gives the entry's length, or what is wrong with it.
func (l *Log) parseEntry(e *Entry, b []byte) (n int, reason string) {
	head := 4 + l.hashSize + 4
	if len(b) < head {
		return 0, fmt.Sprintf("%d bytes are left where an entry needs at least %d: the log is cut short", len(b), head)
	}
	if e.PCR = e.u32(b); e.PCR >= numPCRs {
		return 0, fmt.Sprintf("PCR %d does not exist", e.PCR)
	}
	e.TemplateHash = b[4 : 4+l.hashSize : 4+l.hashSize]
	nameLen := e.u32(b[4+l.hashSize:])
	if nameLen == 0 || nameLen > maxTemplateName {
		return 0, fmt.Sprintf("its template's name should have %d bytes", nameLen)
	}
	if uint64(len(b)-head) < uint64(nameLen) {
		return 0, "the log is cut short in the template's name"
	}
	off := head + int(nameLen)
	if name := b[head:off]; l.last == nil || string(name) != l.last.Name {
		t, err := lookup(name)
		if err != nil {
			return 0, err.Error()
		}
		l.last = t
	}
	e.Template = l.last
	size, skip := uint64(0), 0
	if e.Template.legacy() {
		if len(b)-off < sha1.Size+4 {
			return 0, "the log is cut short in the file's digest"
		}
		size = sha1.Size + 4 + uint64(e.u32(b[off+sha1.Size:]))
	} else {
		if len(b)-off < 4 {
			return 0, "the log is cut short in the size of the fields"
		}
		size, skip = uint64(e.u32(b[off:])), 4
	}
	if size > MaxEntrySize {
		return 0, fmt.Sprintf("its fields should have %d bytes, the limit is %d", size, MaxEntrySize)
	}
	off += skip
	if size > uint64(len(b)-off) {
		return 0, fmt.Sprintf("its fields should have %d bytes, %d are left: the log is cut short", size, len(b)-off)
	}
	end := off + int(size)
	e.Data = b[off:end:end]
	return end, checkFields(e)
}

// checkFields makes sure that the fields fill the entry's data exactly.
func checkFields(e *Entry) string {
	t := e.Template
	if t.legacy() || t.Fields == nil {
		return ""
	}
	b := e.Data
	for _, f := range t.Fields {
		if len(b) < 4 || uint64(e.u32(b)) > uint64(len(b)-4) {
			return fmt.Sprintf("field %s of template %s does not fit in the entry", f, t.Name)
		}
		b = b[4+e.u32(b):]
	}
	if len(b) > 0 {
		return fmt.Sprintf("%d bytes follow the last field of template %s", len(b), t.Name)
	}
	if p := e.field(t.path); bytes.IndexByte(bytes.TrimRight(p, "\x00"), 0) >= 0 {
		return "its path has a NUL in the middle"
	}
	return ""
}

// Templates counts the entries by template.
func (l *Log) Templates() map[string]int {
	m := map[string]int{}
	for i := range l.Entries {
		m[l.Entries[i].Template.Name]++
	}
	return m
}

// PCRs lists, ascending, the PCRs that entries extend.
func (l *Log) PCRs() []int {
	var used uint32
	for i := range l.Entries {
		used |= 1 << l.Entries[i].PCR
	}
	var list []int
	for i := range numPCRs {
		if used>>i&1 == 1 {
			list = append(list, i)
		}
	}
	return list
}
