package ima

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
)

// appendASCII parses lines such as
//
//	10 <template hash> ima-ng sha256:<digest> /usr/bin/true
//
// and turns their fields back into the bytes that the kernel hashed.
func (l *Log) appendASCII(raw []byte) *ParseError {
	arena := make([]byte, 0, len(raw))
	for off := 0; off < len(raw); {
		line := raw[off:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end]
		}
		if len(line) == 0 && len(bytes.TrimRight(raw[off:], "\r\n")) == 0 {
			break // blank lines at the end
		}
		number := len(l.Entries) + 1
		if number > MaxEntries {
			return &ParseError{number, l.size + off, fmt.Sprintf("the log has more than %d entries, the limit", MaxEntries)}
		}
		l.Entries = append(l.Entries, Entry{Number: number, Offset: l.size + off})
		var reason string
		if arena, reason = l.parseLine(&l.Entries[number-1], arena, bytes.TrimSuffix(line, []byte("\r"))); reason != "" {
			return &ParseError{number, l.size + off, reason}
		}
		off += len(line) + 1
	}
	return nil
}

func (l *Log) parseLine(e *Entry, arena, line []byte) ([]byte, string) {
	rest := bytes.TrimLeft(line, " ") // the kernel pads the PCR's index
	pcr, rest, ok := bytes.Cut(rest, []byte(" "))
	n, err := strconv.ParseUint(string(pcr), 10, 32)
	if !ok || err != nil || n >= numPCRs {
		return arena, fmt.Sprintf("the line should start with the number of a PCR, not %q", shorten(pcr))
	}
	e.PCR = uint32(n)
	digest, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return arena, "the line is cut short after the PCR's number"
	}
	start := len(arena)
	if arena, err = hex.AppendDecode(arena, digest); err != nil {
		return arena, fmt.Sprintf("the template hash %q is not hexadecimal", shorten(digest))
	}
	e.TemplateHash = arena[start:len(arena):len(arena)]
	switch len(e.TemplateHash) {
	case 20, 32, 48, 64:
	default:
		return arena, fmt.Sprintf("the template hash has %d bytes, which no algorithm gives", len(e.TemplateHash))
	}
	if e.Number == 1 {
		l.hashSize = len(e.TemplateHash)
	}
	if len(e.TemplateHash) != l.hashSize {
		return arena, fmt.Sprintf("the template hash has %d bytes, that of the first entry %d", len(e.TemplateHash), l.hashSize)
	}
	name, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return arena, "the line is cut short after the template hash"
	}
	if l.last == nil || string(name) != l.last.Name {
		t, err := lookup(name)
		if err != nil {
			return arena, err.Error()
		}
		if t.Fields == nil {
			return arena, fmt.Sprintf("template %q is not known, and an ASCII log does not tell its fields", name)
		}
		l.last = t
	}
	e.Template = l.last
	start = len(arena)
	arena, reason := appendFields(arena, e.Template, rest)
	e.Data = arena[start:len(arena):len(arena)]
	if reason == "" && len(e.Data) > MaxEntrySize {
		reason = fmt.Sprintf("its fields have %d bytes, the limit is %d", len(e.Data), MaxEntrySize)
	}
	return arena, reason
}

// appendFields encodes the fields of a line. Empty fields at a line's end may
// have lost their spaces on the way.
func appendFields(arena []byte, t *Template, rest []byte) ([]byte, string) {
	for i, f := range t.Fields {
		text := rest
		if i < len(t.Fields)-1 {
			var more bool
			if text, rest, more = bytes.Cut(rest, []byte(" ")); !more {
				rest = nil
			}
		} else if end := bytes.IndexByte(rest, ' '); end >= 0 {
			return arena, fmt.Sprintf("the line has more fields than template %s", t.Name)
		}
		if (i == t.digest || i == t.path) && len(text) == 0 {
			return arena, fmt.Sprintf("field %s is missing: the line is cut short", f)
		}
		start := len(arena)
		if !t.legacy() || i == t.path {
			arena = append(arena, 0, 0, 0, 0)
		}
		var reason string
		if arena, reason = appendField(arena, f, text, t.legacy()); reason != "" {
			return arena, reason
		}
		if !t.legacy() || i == t.path {
			binary.LittleEndian.PutUint32(arena[start:], uint32(len(arena)-start-4))
		}
	}
	return arena, ""
}

func appendField(arena []byte, id string, text []byte, legacy bool) ([]byte, string) {
	var err error
	start := len(arena)
	if len(text) == 0 { // the kernel has nothing to say: no attributes, no file
		return arena, ""
	}
	switch fieldFormats[id] {
	case formatString:
		arena = append(arena, text...)
		if !legacy {
			arena = append(arena, 0)
		}
		return arena, ""
	case formatUint:
		size := uintSizes[id]
		n, err := strconv.ParseUint(string(text), 10, 8*size)
		if err != nil {
			return arena, fmt.Sprintf("field %s should be a number, not %q", id, shorten(text))
		}
		arena = binary.LittleEndian.AppendUint64(arena, n)
		return arena[:start+size], ""
	case formatDigestAlg:
		colon := bytes.LastIndexByte(text, ':')
		if colon < 1 {
			return arena, fmt.Sprintf("field %s should be an algorithm, a colon and a digest, not %q", id, shorten(text))
		}
		arena = append(append(arena, text[:colon+1]...), 0)
		text = text[colon+1:]
	case formatDigest:
		if len(text) != 40 {
			return arena, fmt.Sprintf("the digest should have 40 hexadecimal digits, not %q", shorten(text))
		}
	}
	if arena, err = hex.AppendDecode(arena, text); err != nil {
		return arena, fmt.Sprintf("field %s is not hexadecimal: %q", id, shorten(text))
	}
	return arena, ""
}

// shorten bounds what an error quotes.
func shorten(b []byte) []byte {
	const limit = 40
	if len(b) > limit {
		return append(bytes.Clone(b[:limit]), "…"...)
	}
	return b
}
