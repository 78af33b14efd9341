package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// complaint is an error whose words are those of swtpm's tools, which scripts look
// for.
type complaint string

func (c complaint) Error() string { return string(c) }

func complain(format string, args ...any) error { return complaint(fmt.Sprintf(format, args...)) }

// toolOption is an option of swtpm_ioctl or swtpm_bios: its name, and how many
// values follow it.
type toolOption struct {
	name   string
	values int
}

// givenOption is one that was given.
type givenOption struct {
	name   string
	values []string
}

func (g *givenOption) value() string { return g.values[0] }

// parseTool reads a command line as getopt_long_only does: names with one dash or
// two, whole or as a beginning that fits no other, and values in the same word or
// the next. rest is what is no option.
func parseTool(known []toolOption, args []string) (given []givenOption, rest []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, dashed := strings.CutPrefix(arg, "-")
		switch {
		case arg == "--":
			return given, append(rest, args...), nil
		case !dashed, name == "":
			rest = append(rest, arg)
			continue
		}
		name, value, inside := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		opt, err := findTool(known, name)
		if err != nil {
			return nil, nil, err
		}
		g := givenOption{name: opt.name}
		if inside {
			g.values = append(g.values, value)
		}
		for len(g.values) < opt.values && len(args) > 0 {
			if len(g.values) > 0 && strings.HasPrefix(args[0], "-") {
				break // only the first value may look like an option
			}
			g.values, args = append(g.values, args[0]), args[1:]
		}
		switch {
		case len(g.values) > opt.values:
			return nil, nil, complain("option -%s takes no value", opt.name)
		case len(g.values) == 1 && opt.values == 2:
			return nil, nil, complain("Missing filename argument for --%s option", opt.name)
		case len(g.values) < opt.values:
			return nil, nil, complain("option -%s needs a value", opt.name)
		}
		given = append(given, g)
	}
	return given, rest, nil
}

func findTool(known []toolOption, name string) (found toolOption, err error) {
	if i := slices.IndexFunc(known, func(o toolOption) bool { return o.name == name }); i >= 0 {
		return known[i], nil
	}
	for _, opt := range known {
		if !strings.HasPrefix(opt.name, name) {
			continue
		}
		if found.name != "" {
			return found, complain("option -%s may be -%s or -%s", name, found.name, opt.name)
		}
		found = opt
	}
	if found.name == "" {
		err = complain("there is no option -%s", name)
	}
	return found, err
}

// destination says where a tool finds its TPM; the first that is set counts.
type destination struct {
	device string
	tcp    string // host and port
	unix   string
}

// places are the options that set a destination.
var places = []toolOption{{"tpm-device", 1}, {"tcp", 1}, {"unix", 1}}

// take notes an option that sets a destination; false where it is another one.
func (d *destination) take(g *givenOption, port int) (ok bool, err error) {
	switch g.name {
	case "tpm-device":
		d.device = g.value()
	case "tcp":
		d.tcp, err = hostPort(g.value(), port)
	case "unix":
		d.unix = g.value()
	default:
		return false, nil
	}
	return true, err
}

// hostPort reads HOST, HOST:PORT, :PORT or a lone colon.
func hostPort(s string, port int) (string, error) {
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host = s[:i]
		if digits := s[i+1:]; digits != "" || host != "" {
			n, err := strconv.ParseUint(digits, 10, 32)
			switch {
			case err != nil:
				return "", complain("Invalid port '%s'", digits)
			case n > 65535:
				return "", complain("Port '%s' outside valid range.", digits)
			}
			port = int(n)
		}
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port)), nil
}

// dialPatience bounds the time until a TPM accepts a connection.
const dialPatience = 20 * time.Second

// dial connects to a socket.
func (d *destination) dial() (net.Conn, error) {
	ctx, stop := context.WithTimeout(context.Background(), dialPatience)
	defer stop()
	var dialer net.Dialer
	if d.tcp != "" {
		c, err := dialer.DialContext(ctx, "tcp", d.tcp)
		if err != nil {
			host, port, _ := net.SplitHostPort(d.tcp)
			return nil, complain("Could not connect to host '%s' on port '%s' using TCP socket: %v", host, port, reason(err))
		}
		return c, nil
	}
	c, err := dialer.DialContext(ctx, "unix", d.unix)
	if err != nil {
		return nil, complain("Could not connect using UnixIO socket '%s': %v", d.unix, cause(err))
	}
	return c, nil
}

// cause is the system's word for what went wrong.
func cause(err error) error {
	var s *os.SyscallError
	if errors.As(err, &s) {
		return s.Err
	}
	return reason(err)
}
