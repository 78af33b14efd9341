package main

import (
	"fmt"
	"strings"
)

// An option is one of a tool's, and what is done with it.
type option struct {
	name  string
	short string             // one letter, or none
	text  func(string) error // takes a value
	flag  func()             // takes none
	// lax: there may be no value, which is empty then. An argument after the
	// option is its value unless it begins with a dash.
	lax bool
}

// textOption is an option whose last value counts.
func textOption(name string, into *string) option {
	return option{name: name, text: func(s string) error { *into = s; return nil }}
}

// flagOption is an option that is there or not.
func flagOption(name string, into *bool) option {
	return option{name: name, flag: func() { *into = true }}
}

// getopt reads a command line as glibc's getopt_long does: --name value,
// --name=value, beginnings of names that fit no other, -x for short names, and
// nothing after "--". Where only is set, -name is --name (getopt_long_only).
// What is no option comes back; swtpm's tools take no notice of it.
func getopt(args []string, known []option, only bool) (rest []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(rest, args...), nil
		case strings.HasPrefix(arg, "--"):
			args, err = longOption(known, arg[2:], args)
		case only && strings.HasPrefix(arg, "-") && arg != "-":
			args, err = longOption(known, arg[1:], args)
		case strings.HasPrefix(arg, "-") && arg != "-":
			args, err = shortOptions(known, arg[1:], args)
		default:
			rest = append(rest, arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

func longOption(known []option, arg string, args []string) ([]string, error) {
	name, value, given := strings.Cut(arg, "=")
	opt, err := findOption(known, name)
	if err != nil {
		return nil, err
	}
	return opt.apply("--"+opt.name, value, given, args)
}

// shortOptions reads a group of one-letter options.
func shortOptions(known []option, group string, args []string) ([]string, error) {
	for i := range len(group) {
		opt := findShort(known, group[i:i+1])
		if opt == nil {
			return nil, fmt.Errorf("there is no option -%c: see --help", group[i])
		}
		if rest := group[i+1:]; opt.text != nil {
			return opt.apply("-"+opt.short, rest, rest != "", args)
		}
		opt.flag()
	}
	return args, nil
}

// apply does what an option says, with its value or the next argument, and
// gives the arguments that are left.
func (o *option) apply(name, value string, given bool, args []string) ([]string, error) {
	switch {
	case o.flag != nil && given:
		return nil, fmt.Errorf("option %s takes no value", name)
	case o.flag != nil:
		o.flag()
		return args, nil
	case !given && o.lax && (len(args) == 0 || strings.HasPrefix(args[0], "-")):
	case !given && len(args) == 0:
		return nil, fmt.Errorf("option %s needs a value", name)
	case !given:
		value, args = args[0], args[1:]
	}
	if err := o.text(value); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return args, nil
}

// findOption finds an option by its name or a beginning of it that fits no
// other.
func findOption(known []option, name string) (*option, error) {
	var found *option
	for i := range known {
		opt := &known[i]
		if opt.name == name {
			return opt, nil
		}
		if !strings.HasPrefix(opt.name, name) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("option --%s may be --%s or --%s", name, found.name, opt.name)
		}
		found = opt
	}
	if found == nil {
		return nil, fmt.Errorf("there is no option --%s: see --help", name)
	}
	return found, nil
}

func findShort(known []option, letter string) *option {
	for i := range known {
		if known[i].short == letter {
			return &known[i]
		}
	}
	return nil
}
