package main

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// maxConfig is the most bytes of a configuration or options file.
const maxConfig = 64 << 10

// A config is a configuration file of swtpm's tools: lines of "name = value".
type config []string

// readConfigText reads one. Those in /etc need not be there: a package that brought
// them would be in the way of swtpm's, which does, and of what is written into them.
func readConfigText(path string) ([]byte, error) {
	b, err := readLimited(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		for _, f := range systemConfig() {
			if f.path == path {
				return []byte(f.text), nil
			}
		}
	}
	return b, err
}

func readConfig(path string) (config, error) {
	b, err := readConfigText(path)
	if err != nil {
		return nil, err
	}
	return config(strings.Split(string(b), "\n")), nil
}

// value is that of the first line with a name, which must begin the line. What
// follows a '#' is a comment, and ${NAME} the environment's.
func (c config) value(name string) (string, bool) {
	for _, line := range c {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		rest, ok = strings.CutPrefix(strings.TrimLeft(rest, spaces), "=")
		if !ok {
			continue
		}
		rest, _, _ = strings.Cut(strings.TrimLeft(rest, spaces), "#")
		return expand(strings.TrimRight(rest, spaces)), true
	}
	return "", false
}

const spaces = " \t\r\v\f"

var envLine = regexp.MustCompile(`^env:([a-zA-Z_][a-zA-Z_0-9]*)\s*=\s*(.*)`)

// environment is what lines of "env:NAME = VALUE" set; the value goes to the
// line's end.
func (c config) environment() (list []string) {
	for _, line := range c {
		if m := envLine.FindStringSubmatch(line); m != nil {
			list = append(list, m[1]+"="+m[2])
		}
	}
	return list
}

// expand resolves ${NAME}; a name that the environment lacks is empty, and one
// without an end stays.
func expand(s string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		name, after, ended := strings.Cut(rest, "}")
		if !found || !ended {
			return b.String() + s
		}
		b.WriteString(before)
		b.WriteString(os.Getenv(name))
		s = after
	}
}
