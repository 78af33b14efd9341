// Command swtpm is a TPM 2.0 for a virtual machine, with swtpm's options and
// its control and data channel. It is the program that a guest attacks, and
// holds nothing but the engine and its sockets.
//
//	swtpm socket --tpm2 --tpmstate dir=/var/lib/vm1 --ctrl type=unixio,path=/run/vm1.sock
//
// Exit codes: 0 when it ended in order, 1 otherwise, with one line on standard
// error that says why.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
)

func main() {
	// A TPM is small and mostly waits: collect early, so that thousands of
	// them fit a machine.
	debug.SetGCPercent(50)
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "swtpm:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("which interface? Try 'swtpm socket --help'")
	}
	switch verb := args[0]; verb {
	case "socket":
		return socket(args[1:])
	case "chardev", "cuse":
		return fmt.Errorf("the interface '%s' is not in this version: use 'swtpm socket'", verb)
	case "-h", "--help", "help":
		fmt.Print(usage)
		return nil
	case "-v", "--version", "version":
		printVersion()
		return nil
	default:
		return fmt.Errorf("'%s' is no interface: use 'swtpm socket'", verb)
	}
}
