package main

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// TestDispatch: the name says which tool it is, and what a log file has is not
// said twice.
func TestDispatch(t *testing.T) {
	fails := func(err error) tool { return func([]string, io.Writer, io.Writer) error { return err } }
	tools := map[string]tool{"good": fails(nil), "bad": fails(errors.New("no luck")), "logged": fails(errSaid)}
	for _, c := range []struct {
		called, errs string
		code         int
	}{
		{"good", "", 0},
		{"/usr/bin/bad", "bad: no luck\n", 1},
		{"logged", "", 1},
		{"/usr/bin/teapot", "teapot is none of the names of this program: call it bad or good or logged\n", 1},
	} {
		var out, errs bytes.Buffer
		if code := dispatch(tools, []string{c.called, "--help"}, &out, &errs); code != c.code || errs.String() != c.errs || out.Len() > 0 {
			t.Errorf("%s: exit code %d, %q, %q", c.called, code, out.String(), errs.String())
		}
	}
}

// TestGetopt reads command lines as glibc's getopt_long does.
func TestGetopt(t *testing.T) {
	bad := errors.New("bad")
	read := func(only bool, line string) (got, rest string, err error) {
		var dir, dirmode, level string
		var tpm2, help bool
		short := flagOption("help", &help)
		short.short = "h"
		withValue := textOption("level", &level)
		withValue.short = "l"
		left, err := getopt(strings.Fields(line), []option{
			textOption("dir", &dir), textOption("dirmode", &dirmode), flagOption("tpm2", &tpm2), short, withValue,
			{name: "number", text: func(string) error { return bad }},
		}, only)
		if tpm2 {
			got += "tpm2 "
		}
		if help {
			got += "help "
		}
		return got + strings.Join([]string{dir, dirmode, level}, "|"), strings.Join(left, " "), err
	}
	for _, c := range []struct {
		only            bool
		line, got, rest string
	}{
		{false, "--dir a --tpm2", "tpm2 a||", ""},
		{false, "--dir=a=b", "a=b||", ""},
		{false, "--dir= --dirm x", "|x|", ""},
		{false, "--dir --tpm2", "--tpm2||", ""}, // a value may look like an option
		{false, "--tp stray --dir a --dir b", "tpm2 b||", "stray"},
		{false, "--tpm2 -- --dir a", "tpm2 ||", "--dir a"},
		{false, "-hl5 -", "help ||5", "-"},
		{false, "-l 6", "||6", ""},
		{true, "-tpm2 -dir a --dirmode b", "tpm2 a|b|", ""},
	} {
		if got, rest, err := read(c.only, c.line); got != c.got || rest != c.rest || err != nil {
			t.Errorf("%q gives %q and leaves %q, %v; want %q, %q", c.line, got, rest, err, c.got, c.rest)
		}
	}
	for line, want := range map[string]string{
		"--di a": "--dir or --dirmode", "--nothing": "--nothing", "--tpm2=1": "takes no value", "--dir": "needs a value",
		"-l": "needs a value", "-x": "-x", "--number 7": "--number: bad",
	} {
		if _, _, err := read(false, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

// FuzzGetopt: any command line is read to its end or refused in one line, and
// what is no option comes back as it is.
func FuzzGetopt(f *testing.F) {
	f.Add("--type ek --ek=00 -h stray -- --tpm2", false)
	f.Add("-type=ek -x", true)
	f.Fuzz(func(t *testing.T, line string, only bool) {
		args := strings.Fields(line)
		rest, err := getopt(args, new(localcaOptions).table(), only)
		for _, word := range rest {
			if !slices.Contains(args, word) {
				t.Errorf("%q leaves %q", line, word)
			}
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", line, err)
		}
	})
}
