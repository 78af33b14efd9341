package ima

import (
	"fmt"
	"strings"
)

// Limits of a template.
const (
	maxTemplateName   = 255 // bytes; a list of fields serves as a name
	maxTemplateFields = 15  // as in the kernel
)

// format is how the ASCII log shows a field.
type format uint8

const (
	formatHex format = iota
	formatDigest
	formatDigestAlg // alg:digest, with type:alg:digest in ngv2
	formatString
	formatUint
)

// fieldFormats are the kernel's fields (security/integrity/ima/ima_template.c).
var fieldFormats = map[string]format{
	"d": formatDigest, "n": formatString, "d-ng": formatDigestAlg, "d-ngv2": formatDigestAlg,
	"n-ng": formatString, "sig": formatHex, "buf": formatHex, "d-modsig": formatDigestAlg,
	"modsig": formatHex, "evmsig": formatHex, "iuid": formatUint, "igid": formatUint,
	"imode": formatUint, "xattrnames": formatString, "xattrlengths": formatHex,
	"xattrvalues": formatHex,
}

// uintSizes are the bytes of the fields that hold a number.
var uintSizes = map[string]int{"iuid": 4, "igid": 4, "imode": 2}

// Template says which fields an entry has.
type Template struct {
	Name   string
	Fields []string // identifiers such as d-ng and n-ng; none where the name is unknown
	digest int      // index of the file's digest, -1 where there is none
	path   int      // index of the name, likewise
}

// legacy tells whether the template is the first one, whose fields have no
// lengths and whose hash covers a name of fixed size.
func (t *Template) legacy() bool { return t.Name == "ima" }

var knownTemplates = func() map[string]*Template {
	m := map[string]*Template{}
	for name, fields := range map[string]string{
		"ima":        "d|n",
		"ima-ng":     "d-ng|n-ng",
		"ima-sig":    "d-ng|n-ng|sig",
		"ima-ngv2":   "d-ngv2|n-ng",
		"ima-sigv2":  "d-ngv2|n-ng|sig",
		"ima-buf":    "d-ng|n-ng|buf",
		"ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
		"evm-sig":    "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
	} {
		m[name] = newTemplate(name, strings.Split(fields, "|"))
	}
	return m
}()

func newTemplate(name string, fields []string) *Template {
	t := &Template{Name: name, Fields: fields, digest: -1, path: -1}
	for i, f := range fields {
		switch f {
		case "d", "d-ng", "d-ngv2":
			t.digest = i
		case "n", "n-ng":
			t.path = i
		}
	}
	return t
}

// lookup finds a template by its name in the log: a known one, or a list of
// fields joined by "|". The template of any other name has no fields.
func lookup(name []byte) (*Template, error) {
	if t, ok := knownTemplates[string(name)]; ok {
		return t, nil
	}
	if len(name) == 0 || len(name) > maxTemplateName {
		return nil, fmt.Errorf("its template's name has %d bytes", len(name))
	}
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return nil, fmt.Errorf("its template's name %q does not print", name)
		}
	}
	fields := strings.Split(string(name), "|")
	if len(fields) > maxTemplateFields {
		return nil, fmt.Errorf("its template has %d fields, the limit is %d", len(fields), maxTemplateFields)
	}
	for _, f := range fields {
		if _, ok := fieldFormats[f]; !ok {
			return newTemplate(string(name), nil), nil
		}
	}
	return newTemplate(string(name), fields), nil
}
