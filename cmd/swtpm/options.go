package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// options are those of 'swtpm socket' and 'swtpm chardev', as given.
type options struct {
	verb string // the interface, one of the two

	ctrl, server, tpmstate, log, pid string
	flags, locality, migration       string
	seccomp, runas, chroot           string
	port, fd                         string
	info, profile                    string
	chardev, pcap                    string
	key, migrationKey                string

	terminate, daemon, tpm2        bool
	printCapabilities, printStates bool
	printProfiles                  bool
	printVersion, printHelp        bool
	vtpmProxy                      bool
}

// option is one option: its names, and where it goes.
type option struct {
	long  string
	short string
	text  func(*options) *string // takes a value
	flag  func(*options) *bool   // takes none
	not   string                 // known, refused with this reason
	only  string                 // the one interface that has it; empty = both
}

var optionTable = []option{
	{long: "ctrl", text: func(o *options) *string { return &o.ctrl }},
	{long: "server", only: "socket", text: func(o *options) *string { return &o.server }},
	{long: "tpmstate", text: func(o *options) *string { return &o.tpmstate }},
	{long: "log", text: func(o *options) *string { return &o.log }},
	{long: "pid", text: func(o *options) *string { return &o.pid }},
	{long: "flags", text: func(o *options) *string { return &o.flags }},
	{long: "locality", text: func(o *options) *string { return &o.locality }},
	{long: "migration", text: func(o *options) *string { return &o.migration }},
	{long: "seccomp", text: func(o *options) *string { return &o.seccomp }},
	{long: "runas", short: "r", text: func(o *options) *string { return &o.runas }},
	{long: "chroot", short: "R", text: func(o *options) *string { return &o.chroot }},
	{long: "port", short: "p", only: "socket", text: func(o *options) *string { return &o.port }},
	{long: "fd", short: "f", text: func(o *options) *string { return &o.fd }},
	{long: "pcap", text: func(o *options) *string { return &o.pcap }},
	{long: "key", text: func(o *options) *string { return &o.key }},
	{long: "migration-key", text: func(o *options) *string { return &o.migrationKey }},
	{long: "profile", text: func(o *options) *string { return &o.profile }},
	{long: "print-info", text: func(o *options) *string { return &o.info }},
	{long: "chardev", short: "c", only: "chardev", text: func(o *options) *string { return &o.chardev }},
	{long: "vtpm-proxy", only: "chardev", flag: func(o *options) *bool { return &o.vtpmProxy }},
	{long: "terminate", short: "t", only: "socket", flag: func(o *options) *bool { return &o.terminate }},
	{long: "daemon", short: "d", flag: func(o *options) *bool { return &o.daemon }},
	{long: "tpm2", flag: func(o *options) *bool { return &o.tpm2 }},
	{long: "print-capabilities", flag: func(o *options) *bool { return &o.printCapabilities }},
	{long: "print-states", flag: func(o *options) *bool { return &o.printStates }},
	{long: "print-profiles", flag: func(o *options) *bool { return &o.printProfiles }},
	{long: "version", flag: func(o *options) *bool { return &o.printVersion }},
	{long: "help", short: "h", flag: func(o *options) *bool { return &o.printHelp }},

	{long: "tpm", not: "there is no TPM 1.2 in this version: use --tpm2"},
}

// parseOptions reads the command line as getopt_long does: --name value,
// --name=value, unique beginnings of names, -p value, -pvalue, -td.
func parseOptions(verb string, args []string) (options, error) {
	o := options{verb: verb}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		var err error
		switch {
		case strings.HasPrefix(arg, "--") && arg != "--":
			args, err = o.long(arg[2:], args)
		case strings.HasPrefix(arg, "-") && arg != "-":
			args, err = o.shorts(arg[1:], args)
		default:
			err = fmt.Errorf("'%s' is no option: see 'swtpm %s --help'", arg, verb)
		}
		if err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *options) long(arg string, args []string) ([]string, error) {
	name, value, given := strings.Cut(arg, "=")
	opt, err := o.findOption(name)
	if err != nil {
		return nil, err
	}
	return o.set(opt, "--"+opt.long, value, given, args)
}

// shorts reads a group of one-letter options.
func (o *options) shorts(group string, args []string) ([]string, error) {
	for i := range len(group) {
		opt := o.findShort(group[i : i+1])
		if opt == nil {
			return nil, fmt.Errorf("there is no option -%c: see 'swtpm %s --help'", group[i], o.verb)
		}
		rest := group[i+1:]
		if opt.text != nil || opt.not != "" {
			return o.set(opt, "-"+opt.short, rest, rest != "", args)
		}
		*opt.flag(o) = true
	}
	return args, nil
}

func (o *options) set(opt *option, name, value string, given bool, args []string) ([]string, error) {
	switch {
	case opt.not != "":
		return nil, fmt.Errorf("option %s: %s", name, opt.not)
	case opt.flag != nil && given:
		return nil, fmt.Errorf("option %s takes no value", name)
	case opt.flag != nil:
		*opt.flag(o) = true
		return args, nil
	case !given && len(args) == 0:
		return nil, fmt.Errorf("option %s needs a value", name)
	case !given:
		value, args = args[0], args[1:]
	}
	if value == "" {
		return nil, fmt.Errorf("option %s needs a value", name)
	}
	*opt.text(o) = value
	return args, nil
}

// has reports whether the interface has an option.
func (o *options) has(opt *option) bool { return opt.only == "" || opt.only == o.verb }

// findOption finds an option by its name or a beginning of it that fits no
// other.
func (o *options) findOption(name string) (*option, error) {
	var found *option
	for i := range optionTable {
		opt := &optionTable[i]
		if !o.has(opt) {
			continue
		}
		if opt.long == name {
			return opt, nil
		}
		if strings.HasPrefix(opt.long, name) {
			if found != nil {
				return nil, fmt.Errorf("option --%s may be --%s or --%s", name, found.long, opt.long)
			}
			found = opt
		}
	}
	if found == nil {
		return nil, fmt.Errorf("there is no option --%s: see 'swtpm %s --help'", name, o.verb)
	}
	return found, nil
}

func (o *options) findShort(letter string) *option {
	for i := range optionTable {
		if opt := &optionTable[i]; opt.short == letter && o.has(opt) {
			return opt
		}
	}
	return nil
}

// check refuses what does not go together, before anything is opened.
func (o *options) check() error {
	if _, _, err := o.filter(); err != nil {
		return err
	}
	if !o.tpm2 {
		return fmt.Errorf("there is no TPM 1.2 in this version: add --tpm2")
	}
	return nil
}

// infoFlags reads the value of --print-info: decimal, or 0x and hexadecimal.
func (o *options) infoFlags() (uint64, error) {
	n, err := strconv.ParseUint(o.info, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("--print-info: '%s' is not a number", o.info)
	}
	return n, nil
}

// withEnvironment fills in what swtpm takes from its environment.
func (o *options) withEnvironment() {
	if o.tpmstate == "" && os.Getenv("TPM_PATH") != "" {
		o.tpmstate = "dir=" + os.Getenv("TPM_PATH")
	}
	if o.verb == "socket" && o.port == "" && o.server == "" && o.fd == "" && o.ctrl == "" {
		o.port = os.Getenv("TPM_PORT")
	}
}
