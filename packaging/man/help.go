package main

import (
	"regexp"
	"slices"
	"strings"
)

// A help is what a program says to --help, taken apart.
type help struct {
	usage    []string
	lead     []block // what stands before the first heading
	sections []section
	examples []block
	exit     []block
	notes    []block // paragraphs below lists
}

// A section is a list under a heading.
type section struct {
	heading string
	items   []block
}

// A block is a paragraph, an item of a list with what is said of it, or lines as
// they stand.
type block struct {
	tags []string // of an item: its option, in the forms that it has
	text string   // of an item or a paragraph
	code []string
}

func (b block) isItem() bool { return len(b.tags) > 0 }

// A reader takes a help text apart.
type reader struct {
	help
	indented func(lines []string) // takes what stands below the last line at the left
}

// parseHelp reads the form that all programs here keep: "Usage:", paragraphs, headings
// with a colon, items at two spaces with what is said of them in a column or on the
// lines below, examples, exit codes.
func parseHelp(text string) help {
	var r reader
	r.indented = r.list(&r.lead)
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for len(lines) > 0 {
		n := 1
		for n < len(lines) && atLeft(lines[n]) == atLeft(lines[0]) {
			n++
		}
		if atLeft(lines[0]) {
			r.left(strings.Join(lines[:n], " "), n == 1)
		} else if body := trimBlank(lines[:n]); len(body) > 0 {
			r.indented(body)
		}
		lines = lines[n:]
	}
	return r.help
}

func atLeft(line string) bool { return line != "" && line[0] != ' ' }

// trimBlank leaves blank lines at both ends out.
func trimBlank(lines []string) []string {
	for len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// left takes a paragraph or a heading.
func (r *reader) left(text string, single bool) {
	usage, isUsage := strings.CutPrefix(text, "Usage:")
	heading, isHeading := strings.CutSuffix(text, ":")
	switch {
	case isUsage:
		r.usage = append(r.usage, strings.Fields(usage)...)
		r.usage = []string{strings.Join(r.usage, " ")}
		r.indented = func(lines []string) {
			r.usage = unindent(lines)
			r.indented = r.list(&r.lead)
		}
		if usage != "" {
			r.indented = r.list(&r.lead)
		}
	case strings.HasPrefix(text, "Exit codes: "):
		r.exit = append(r.exit, block{text: strings.TrimPrefix(text, "Exit codes: ")})
	case text == "Example:", text == "Examples:":
		r.indented = func(lines []string) { r.examples = append(r.examples, block{code: unindent(lines)}) }
	case isHeading && single && r.usage != nil:
		r.sections = append(r.sections, section{heading: heading})
		r.indented = r.list(&r.sections[len(r.sections)-1].items)
	case r.usage == nil, len(r.sections) == 0 && !slices.ContainsFunc(r.lead, block.isItem):
		r.lead = append(r.lead, block{text: text})
	default:
		r.notes = append(r.notes, block{text: text})
	}
}

func (r *reader) list(into *[]block) func([]string) {
	return func(lines []string) { *into = append(*into, items(lines)...) }
}

func unindent(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = strings.TrimPrefix(l, "  ")
	}
	return out
}

// items reads a list. Where lines go on in a column, what is said of an item begins
// there on its own line, too, and what reaches over it belongs to the option.
func items(lines []string) []block {
	column := 0
	for _, l := range lines {
		if l != "" && !beginsItem(l) {
			column = len(l) - len(strings.TrimLeft(l, " "))
			break
		}
	}
	var list []block
	for _, l := range lines {
		switch {
		case l == "":
		case !beginsItem(l):
			last := &list[len(list)-1]
			last.text = strings.TrimSpace(last.text + " " + strings.TrimSpace(l))
		default:
			tag, text := splitItem(l, column)
			if n := len(list); n > 0 && list[n-1].text == "" && firstWord(list[n-1].tags[0]) == firstWord(tag) {
				list[n-1].tags, list[n-1].text = append(list[n-1].tags, tag), text
				continue
			}
			list = append(list, block{tags: []string{tag}, text: text})
		}
	}
	return list
}

// beginsItem tells items from lines that go on: they stand at two spaces or, as some
// in cobra's lists of flags, begin with two dashes.
func beginsItem(line string) bool {
	trimmed := strings.TrimLeft(line, " ")
	return len(line)-len(trimmed) == 2 || strings.HasPrefix(trimmed, "--")
}

var gap = regexp.MustCompile(`\S(  +)\S`)

// splitItem parts an item's option from what is said of it, at the column or, where
// there is none, at the first gap.
func splitItem(line string, column int) (tag, text string) {
	if column == 0 {
		if at := gap.FindStringSubmatchIndex(line); at != nil {
			column = at[3]
		}
	}
	if column > 2 && len(line) > column && line[column-2:column] == "  " && line[column] != ' ' {
		return strings.TrimSpace(line[:column]), line[column:]
	}
	return strings.TrimSpace(line), ""
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}
