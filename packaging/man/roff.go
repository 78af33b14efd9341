package main

import (
	"regexp"
	"strings"
)

// roff is a manual page in the making, for man(7).
type roff struct{ strings.Builder }

func (r *roff) macro(name string, args ...string) {
	r.WriteString("." + name)
	for _, a := range args {
		r.WriteString(" \"" + strings.ReplaceAll(escape(a), `"`, `\(dq`) + "\"")
	}
	r.WriteString("\n")
}

// escapes are what troff would take for something else than is written.
var escapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

func escape(s string) string { return escapes.Replace(s) }

// line writes words of a text that may be filled.
func (r *roff) line(s string) {
	s = dashes.ReplaceAllStringFunc(escape(s), func(m string) string { return strings.ReplaceAll(m, `\-`, "-") })
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	r.WriteString(s + "\n")
}

// dashes are hyphens within words, at which a line may break; those of options and
// their values, which one copies, are minus signs and stay.
var dashes = regexp.MustCompile(`\b[a-z]{2,}\\-[a-z]{2,}\b`)

func (r *roff) code(lines []string) {
	r.macro("PP")
	r.macro("RS", "4")
	r.macro("nf")
	for _, l := range lines {
		l = escape(l)
		if strings.HasPrefix(l, ".") {
			l = `\&` + l
		}
		r.WriteString(l + "\n")
	}
	r.macro("fi")
	r.macro("RE")
}

// placeholder is what stands for a value in an option.
var placeholder = regexp.MustCompile(`\b[A-Z][A-Z0-9]*\b`)

// tag writes an option in bold, what stands for values in italics.
func (r *roff) tag(s string) {
	s = placeholder.ReplaceAllString(escape(s), `\fI$0\fB`)
	r.WriteString(`\fB` + s + "\\fR\n")
}

func (r *roff) blocks(list []block) {
	for _, b := range list {
		switch {
		case b.code != nil:
			r.code(b.code)
		case len(b.tags) > 0:
			r.macro("TP")
			for i, t := range b.tags {
				if i > 0 {
					r.macro("TQ")
				}
				r.tag(t)
			}
			if b.text != "" {
				r.line(b.text)
			}
		default:
			r.macro("PP")
			r.line(b.text)
		}
	}
}
