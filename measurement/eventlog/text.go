package eventlog

import (
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of what an explanation quotes. A command line may have 4 KiB on x86.
const (
	maxText = 4096 // bytes of text
	maxHex  = 32   // bytes shown in hexadecimal
)

// utf16String decodes little-endian UTF-16 up to its first NUL, and escapes
// what does not print: the text goes to terminals.
func utf16String(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u := uint16(b[0]) | uint16(b[1])<<8
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return clean(string(utf16.Decode(units)))
}

// clean escapes control characters and bounds the length.
func clean(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	if printsASCII(s) || strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "\\x%02x", r)
		}
	}
	return b.String()
}

// asText gives the bytes as text where they are text, in ASCII, UTF-8 or
// UTF-16, with or without a NUL at the end.
func asText(b []byte) (string, bool) {
	if s := trimNUL(b); len(s) > 0 && isText(string(s)) {
		return clean(string(s)), true
	}
	if len(b) >= 4 && len(b)%2 == 0 {
		for i := 1; i < len(b); i += 2 {
			if b[i] != 0 { // beyond Latin-1 it is more likely something else
				return "", false
			}
		}
		s := utf16String(b)
		if isText(s) && s != "" && !strings.Contains(s, `\x`) && len(b)/2 <= len(s)+2 {
			return s, true
		}
	}
	return "", false
}

// printsASCII is the quick answer for the usual text.
func printsASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func isText(s string) bool {
	if printsASCII(s) {
		return true
	}
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) && r != '\n' && r != '\r' && r != '\t' {
			return false
		}
	}
	return true
}

func trimNUL(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// printable gives what prints of b.
func printable(b []byte) string {
	if s, ok := asText(b); ok {
		return s
	}
	return describeBytes(b)
}

// describeBytes shows text as text, and other data by its length and start.
func describeBytes(b []byte) string {
	if len(b) == 0 {
		return "empty"
	}
	if s, ok := asText(b); ok && len(s) > 1 {
		return fmt.Sprintf("%q", s)
	}
	if len(b) <= maxHex {
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf("%d bytes, %s…", len(b), hex.EncodeToString(b[:maxHex/2]))
}

// size writes a length for people.
func size(n uint64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	case n == 1:
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}
