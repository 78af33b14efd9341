// Command swtpm is a TPM 2.0 for a virtual machine, with swtpm's options and
// its control and data channel. It is the program that a guest attacks, and
// holds nothing but the engine and its sockets.
//
//	swtpm socket --tpm2 --tpmstate dir=/var/lib/vm1 --ctrl type=unixio,path=/run/vm1.sock
//
// Called by the names of swtpm's tools swtpm_ioctl and swtpm_bios, it is these.
//
// Exit codes: 0 when it ended in order, 1 otherwise, with one line on standard
// error that says why; those of swtpm_bios are in its help text.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
)

// processors is how many of them work at once: a TPM runs one command at a time, which
// searches for a key's primes with all. Go's runtime keeps memory for each.
const processors = 2

func main() {
	// A TPM is small and mostly waits: collect early, so that thousands of
	// them fit a machine.
	debug.SetGCPercent(50)
	runtime.GOMAXPROCS(min(processors, runtime.GOMAXPROCS(0)))
	name := filepath.Base(os.Args[0])
	program, ok := programs[name]
	if !ok {
		name, program = "swtpm", run
	}
	if err := program(os.Args[1:]); err != nil {
		os.Exit(report(name, err))
	}
}

// programs are the names by which this program is another one than swtpm.
var programs = map[string]func([]string) error{
	"swtpm_ioctl": ioctl,
	"swtpm_bios":  bios,
	"swtpm_cuse":  func([]string) error { return errCUSE },
}

var errCUSE = errors.New("there are no CUSE devices (swtpm cuse) in this version: use 'swtpm socket', or 'swtpm chardev --vtpm-proxy' for a device")

// exitError is an error that ends the program with a code of its own; without an
// error in it, all is said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }

// report says why the program ends, in swtpm's words where these are known, and
// gives the exit code.
func report(name string, err error) int {
	code := 1
	var exit *exitError
	if errors.As(err, &exit) {
		code, err = exit.code, exit.err
	}
	var said complaint
	switch {
	case err == nil:
	case name == "swtpm_ioctl", errors.As(err, &said):
		fmt.Fprintln(os.Stderr, err)
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	return code
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("which interface? Try 'swtpm socket --help'")
	}
	switch verb := args[0]; verb {
	case "socket", "chardev":
		return serveBy(verb, args[1:])
	case "cuse":
		return errCUSE
	case "-h", "--help", "help":
		fmt.Print(usages["socket"])
		return nil
	case "-v", "--version", "version":
		printVersion()
		return nil
	default:
		return fmt.Errorf("'%s' is no interface: use 'swtpm socket'", verb)
	}
}
