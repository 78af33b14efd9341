package identity

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxName is the most bytes of a name that ParseName reads.
const MaxName = 4096

// nameAttributes are the attributes of a subject by the names that people give
// them, in lower case.
var nameAttributes = map[string]struct {
	id  asn1.ObjectIdentifier
	ia5 bool // an IA5String, not a PrintableString or UTF8String
}{
	"cn":           {id: asn1.ObjectIdentifier{2, 5, 4, 3}},
	"sn":           {id: asn1.ObjectIdentifier{2, 5, 4, 4}},
	"serialnumber": {id: asn1.ObjectIdentifier{2, 5, 4, 5}},
	"c":            {id: asn1.ObjectIdentifier{2, 5, 4, 6}},
	"l":            {id: asn1.ObjectIdentifier{2, 5, 4, 7}},
	"st":           {id: asn1.ObjectIdentifier{2, 5, 4, 8}},
	"street":       {id: asn1.ObjectIdentifier{2, 5, 4, 9}},
	"o":            {id: asn1.ObjectIdentifier{2, 5, 4, 10}},
	"ou":           {id: asn1.ObjectIdentifier{2, 5, 4, 11}},
	"title":        {id: asn1.ObjectIdentifier{2, 5, 4, 12}},
	"postalcode":   {id: asn1.ObjectIdentifier{2, 5, 4, 17}},
	"givenname":    {id: asn1.ObjectIdentifier{2, 5, 4, 42}},
	"uid":          {id: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}},
	"dc":           {id: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, ia5: true},
	"email":        {id: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, ia5: true},
	"emailaddress": {id: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, ia5: true},
}

// ParseName encodes a name such as "C=US,ST=NY,L=New York" in DER, the last
// attribute first (RFC 4514, 2.1), as swtpm_cert does up to its version 0.10. A
// backslash takes the meaning from the comma, plus sign or backslash that
// follows, or begins a byte in two hexadecimal digits. Sets of several
// attributes (a plus sign) are refused.
func ParseName(s string) ([]byte, error) {
	if len(s) > MaxName {
		return nil, fmt.Errorf("a name of %d bytes: at most %d are read", len(s), MaxName)
	}
	var list []attribute
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		part, rest, err := nextAttribute(s)
		if err != nil {
			return nil, err
		}
		a, err := parseAttribute(part)
		if err != nil {
			return nil, err
		}
		list, s = append(list, a), rest
	}
	slices.Reverse(list)
	return name(list...)
}

// nextAttribute cuts a name at its first comma that is one, without resolving
// what a backslash precedes.
func nextAttribute(s string) (part, rest string, err error) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '+':
			return "", "", errors.New("the name has a '+': sets of several attributes are not supported")
		case ',':
			return s[:i], s[i+1:], nil
		}
	}
	return s, "", nil
}

func parseAttribute(part string) (attribute, error) {
	key, text, found := strings.Cut(part, "=")
	known, ok := nameAttributes[strings.ToLower(strings.TrimSpace(key))]
	if !found || !ok {
		return attribute{}, fmt.Errorf("'%s' is no attribute of a name that is known, such as CN=, O= or L=", strings.TrimSpace(part))
	}
	value, err := unescape(strings.TrimSpace(text))
	if err != nil {
		return attribute{}, err
	}
	tag := asn1.TagUTF8String
	switch {
	case value == "" || !utf8.ValidString(value):
		return attribute{}, fmt.Errorf("the name's %s is empty or not UTF-8", strings.TrimSpace(key))
	case known.ia5 && strings.ContainsFunc(value, func(r rune) bool { return r > 0x7f }):
		return attribute{}, fmt.Errorf("the name's %s has characters that it may not have", strings.TrimSpace(key))
	case known.ia5:
		tag = asn1.TagIA5String
	case !strings.ContainsFunc(value, notPrintable):
		tag = asn1.TagPrintableString
	}
	return attribute{known.id, asn1.RawValue{Tag: tag, Bytes: []byte(value)}}, nil
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 == len(s) {
			return "", errors.New("the name ends with a backslash")
		}
		if i+2 < len(s) {
			if raw, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.WriteByte(raw[0])
				i += 2
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String(), nil
}

// notPrintable tells what a PrintableString may not hold (X.680, 41.4).
func notPrintable(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune(" '()+,-./:=?", r)
}
