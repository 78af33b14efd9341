package main

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// params are the parameters of one option, such as "type=tcp,port=2321".
type params struct {
	option string
	values map[string]string
}

// parseParams takes an option's value apart. Keys must be among those known, and
// have one value each; one without a value is a flag.
func parseParams(option, s string, known ...string) (params, error) {
	p := params{option: option, values: map[string]string{}}
	if s == "" {
		return p, nil
	}
	for _, part := range split(s) {
		key, value, given := strings.Cut(part, "=")
		before, twice := p.values[key]
		switch {
		case !slices.Contains(known, key):
			return p, fmt.Errorf("--%s does not know '%s': it takes %s", option, key, strings.Join(known, ", "))
		case given && value == "":
			return p, fmt.Errorf("--%s: %s= has no value", option, key)
		case twice && value != before:
			return p, fmt.Errorf("--%s: %s is '%s' and '%s'", option, key, before, value)
		}
		p.values[key] = value
	}
	return p, nil
}

// split takes an option's value apart at its commas, but for those in a value
// that is a JSON object. A string there may hold braces.
func split(s string) (parts []string) {
	depth, start, quoted := 0, 0, false
	for i := range len(s) {
		switch {
		case depth > 0 && s[i] == '"':
			quoted = !quoted
		case quoted:
		case s[i] == '{' && (depth > 0 || i > start && s[i-1] == '='):
			depth++
		case s[i] == '}' && depth > 0:
			depth--
		case s[i] == ',' && depth == 0:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

func (p params) has(key string) bool   { _, ok := p.values[key]; return ok }
func (p params) str(key string) string { return p.values[key] }
func (p params) bad(key, is string) error {
	return fmt.Errorf("--%s: %s=%s is not %s", p.option, key, p.str(key), is)
}

// flag reads a flag, which may also be written key=true or key=false, or 1 or 0.
func (p params) flag(key string) (bool, error) {
	v, given := p.values[key]
	switch strings.ToLower(v) {
	case "false", "0":
		return false, nil
	case "", "true", "1":
		return given, nil
	}
	return false, p.bad(key, "true or false")
}

// flags reads several flags.
func (p params) flags(to map[string]*bool) error {
	for key, flag := range to {
		set, err := p.flag(key)
		if err != nil {
			return err
		}
		*flag = set
	}
	return nil
}

// number reads a whole number from 0 to most; -1 where it is not given.
func (p params) number(key string, most int) (int, error) {
	if !p.has(key) {
		return -1, nil
	}
	n, err := strconv.ParseUint(p.str(key), 10, 31)
	if err != nil || int(n) > most {
		return -1, p.bad(key, fmt.Sprintf("a number from 0 to %d", most))
	}
	return int(n), nil
}

// mode reads octal file mode bits.
func (p params) mode(key string, byDefault fs.FileMode) (fs.FileMode, error) {
	if !p.has(key) {
		return byDefault, nil
	}
	n, err := strconv.ParseUint(p.str(key), 8, 32)
	if err != nil || n > 0o777 {
		return 0, p.bad(key, "an octal file mode such as 0600")
	}
	return fs.FileMode(n), nil
}
