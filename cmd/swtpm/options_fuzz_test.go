package main

import (
	"slices"
	"strings"
	"testing"
)

// FuzzOptions: any command line is read to its end or refused, by swtpm and its tools,
// and what a value is taken apart to is all of it.
func FuzzOptions(f *testing.F) {
	f.Add("--ctrl type=unixio,path=x,mode=0600 --tpm2 -td -p3")
	f.Add("--tcp [::1]:2321 --save permanent file --info 0x3 -- rest")
	f.Add(`name=custom,profile={"Name":"a","x":"},{"},fd=3`)
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		_, _ = parseOptions("socket", args)
		known := append([]toolOption{{"save", 2}, {"info", 1}, {"i", 0}}, places...)
		given, rest, err := parseTool(known, args)
		words := len(rest)
		for _, g := range given {
			words += len(g.values)
		}
		if err == nil && words > len(args) {
			t.Errorf("%q: %+v and %q are more than was given", line, given, rest)
		}
		if s := strings.Join(split(line), ","); s != line {
			t.Errorf("%q is taken apart to %q", line, s)
		}
		if p, err := parseParams("option", line, "type", "path", "fd"); err == nil && slices.ContainsFunc([]string{"type", "path", "fd"}, func(key string) bool {
			return p.has(key) && !strings.Contains(line, key)
		}) {
			t.Errorf("%q: %v", line, p.values)
		}
		_, _ = hostPort(line, 2321)
	})
}
