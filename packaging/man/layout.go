package main

import (
	"reflect"
	"slices"
	"strings"
)

// helps writes the help texts of one program's interfaces as the usual sections of a
// page; what they have in common once.
func (r *roff) helps(list []help, options string) {
	var lead, bare, notes, exit []block
	var sections []section
	for _, h := range list {
		for _, b := range h.lead {
			if b.isItem() {
				bare = append(bare, b)
			} else {
				lead = append(lead, b)
			}
		}
		for _, s := range h.sections {
			if !shared(list, s) {
				s.heading += " (" + interfaceOf(h) + ")"
			}
			if !slices.ContainsFunc(sections, s.equal) {
				sections = append(sections, s)
			}
		}
		notes = append(notes, h.notes...)
		exit = h.exit
	}
	r.synopsis(list)
	r.part("DESCRIPTION", lead)
	r.part(options, bare)
	if len(bare) == 0 && len(sections) > 0 {
		r.macro("SH", options)
	}
	for _, s := range sections {
		r.macro("SS", s.heading)
		r.blocks(s.items)
	}
	r.part("NOTES", notes)
	for i, h := range list {
		if i == 0 && len(h.examples) > 0 {
			r.macro("SH", "EXAMPLES")
		}
		r.blocks(h.examples)
	}
	r.part("EXIT STATUS", exit)
}

func (s section) equal(other section) bool { return reflect.DeepEqual(s, other) }

// shared reports whether all interfaces have a section.
func shared(list []help, s section) bool {
	return !slices.ContainsFunc(list, func(h help) bool { return !slices.ContainsFunc(h.sections, s.equal) })
}

// interfaceOf is a help's command: the words of its usage before the options.
func interfaceOf(h help) string {
	name, _, _ := strings.Cut(h.usage[0], " -")
	return name
}

// part writes a section that may be empty.
func (r *roff) part(heading string, list []block) {
	if len(list) > 0 {
		r.macro("SH", heading)
		r.blocks(list)
	}
}

func (r *roff) synopsis(list []help) {
	heading := "SYNOPSIS"
	for _, h := range list {
		for _, u := range h.usage {
			if heading != "" {
				r.macro("SH", heading)
				heading = ""
			}
			r.macro("PP")
			r.tag(u)
		}
	}
}

// listOfVerbs is cobra's heading of the verbs that a command has.
const listOfVerbs = "Available Commands"

// verbs writes the help of a command and, below it, of all its verbs.
func (r *roff) verbs(bin string, command []string, root help) error {
	r.synopsis([]help{{usage: []string{command[0] + " COMMAND [options]"}}})
	r.part("DESCRIPTION", root.lead)
	slices.Reverse(root.sections) // the commands go before what is said of each
	for _, s := range root.sections {
		heading := map[string]string{"Flags": "OPTIONS", listOfVerbs: "COMMANDS"}[s.heading]
		r.part(heading, slices.DeleteFunc(slices.Clone(s.items), func(b block) bool { return b.tags[0] == "help" }))
	}
	err := r.verb(bin, command, root)
	r.part("EXAMPLES", root.examples)
	return err
}

// isHelp tells the option that all verbs have.
func isHelp(b block) bool { return b.isItem() && strings.HasPrefix(b.tags[0], "-h, --help") }

// verb writes the verbs of a command, those with verbs of their own by these.
func (r *roff) verb(bin string, command []string, h help) error {
	at := slices.IndexFunc(h.sections, func(s section) bool { return s.heading == listOfVerbs })
	if at < 0 {
		r.macro("SS", strings.TrimSuffix(h.usage[0], " [flags]"))
		r.blocks(h.lead)
		for _, s := range h.sections {
			r.blocks(slices.DeleteFunc(s.items, isHelp))
		}
		r.blocks(h.examples)
		return nil
	}
	for _, item := range h.sections[at].items {
		name := firstWord(item.tags[0]) // the longest name has one space behind it
		if name == "help" {
			continue
		}
		sub := append(slices.Clone(command), name)
		h, err := ask(bin, append(slices.Clone(sub), "--help"))
		if err == nil {
			err = r.verb(bin, sub, h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
