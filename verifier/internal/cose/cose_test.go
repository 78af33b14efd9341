package cose

import (
	"bytes"
	"strings"
	"testing"
)

// TestParse reads the forms of a message, and says what is wrong with others.
func TestParse(t *testing.T) {
	body := "\x84\x43\xa1\x01\x26\xa0\x41p\x41s" // [h'a10126', {}, 'p', 's']
	for in, want := range map[string]string{
		body:                                "",
		"\xd2" + body:                       "",
		"\xd1" + body:                       "",
		"\xd3" + body:                       "its tag is 19",
		"\xd2" + body + "\x00":              "extraneous data",
		body[:len(body)-1]:                  "unexpected EOF",
		"":                                  "EOF",
		"\xa0":                              "a CBOR map stands where",
		"\x84\x43\xa1\x01\x26\xa0\xf6\x41s": "no payload",
		"\x84\x43\xa1\x01\x26\xa0\x41p\x40": "not signed",
		"\x84\x45\xa2\x01\x26\x01\x26\xa0\x41p\x41s": "headers",
		"\x85\x43\xa1\x01\x26\xa0\x41p\x41s\x41s":    "no COSE message",
		strings.Repeat("\x81", 40) + "\x00":          "nested level",
		string(make([]byte, MaxMessage+1)):           "at most 1048576",
	} {
		m, err := Parse([]byte(in))
		switch {
		case want == "" && (err != nil || string(m.Payload) != "p" || m.Algorithm() != "ES256"):
			t.Errorf("%x: %v", in, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.40x: %v instead of %q", in, err, want)
		}
	}
}

// TestTwice refuses a map that has a key twice.
func TestTwice(t *testing.T) {
	var m map[int64]int64
	if err := Unmarshal([]byte("\xa2\x01\x02\x01\x03"), &m); err == nil || !strings.Contains(err.Error(), "duplicate") {
		t.Errorf("%v %v", m, err)
	}
}

// FuzzParse wants limits to hold and nothing to panic.
func FuzzParse(f *testing.F) {
	f.Add([]byte("\xd2\x84\x43\xa1\x01\x26\xa0\x41p\x41s"))
	f.Add(bytes.Repeat([]byte{0x9f}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err == nil && len(m.Payload) > len(b) {
			t.Errorf("%d bytes gave %d", len(b), len(m.Payload))
		}
		if err == nil {
			_ = m.Algorithm()
		}
	})
}
