// Command swtpm_setup stands in for the tools that come with swtpm and that no
// guest reaches. It is one program by several names: what it is called by says
// which tool it is.
//
// Exit codes: 0 when it is done, 1 otherwise, with the reason on standard
// error, or in the log file where one was given.
package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

// A tool reads its command line without the name it was called by. What it
// prints for people and programs goes to out; why it failed is its error.
type tool func(args []string, out, errs io.Writer) error

// tools are the names that this program is called by.
func tools() map[string]tool {
	return map[string]tool{
		"swtpm_cert":    certificate,
		"swtpm_localca": localca,
		"swtpm_setup":   setup,
	}
}

// errSaid is a tool's error that its log file has already.
var errSaid = errors.New("the reason is in the log file")

func main() {
	os.Exit(dispatch(tools(), os.Args, os.Stdout, os.Stderr))
}

// dispatch runs the tool that the program was called as and gives its exit code.
func dispatch(tools map[string]tool, args []string, out, errs io.Writer) int {
	called := "swtpm_setup"
	if len(args) > 0 {
		called, args = filepath.Base(args[0]), args[1:]
	}
	run, known := tools[called]
	if !known {
		fmt.Fprintf(errs, "%s is none of the names of this program: call it %s\n", called, strings.Join(slices.Sorted(maps.Keys(tools)), " or "))
		return 1
	}
	switch err := run(args, out, errs); {
	case err == nil:
		return 0
	case !errors.Is(err, errSaid):
		fmt.Fprintf(errs, "%s: %v\n", called, err)
	}
	return 1
}

// about is what a tool says of itself where it is asked to.
type about struct {
	usage, title string
	features     []string // in the words of --print-capabilities

	help, version, capabilities bool // what it was asked
}

// options are those that ask.
func (a *about) options() []option {
	return []option{flagOption("help", &a.help), flagOption("version", &a.version), flagOption("print-capabilities", &a.capabilities)}
}

// answer writes what was asked of a tool, and reports whether anything was.
func (a *about) answer(tool string, out io.Writer) bool {
	switch {
	case a.help:
		fmt.Fprint(out, a.usage)
	case a.version:
		fmt.Fprintf(out, "%s version %s, Ashlar\n", a.title, swtpm.Version)
	case a.capabilities:
		fmt.Fprintf(out, "{ \"type\": \"%s\", \"features\": [ \"%s\" ], \"version\": \"%s\" }\n",
			tool, strings.Join(a.features, "\", \""), swtpm.Version)
	default:
		return false
	}
	return true
}
