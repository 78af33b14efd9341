package tpm

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// registry is every command that the engine implements, in ascending order of
// code: the chapters of Part 3 in their files.
var registry = func() []command {
	all := slices.Concat(startupCommands, sessionCommands)
	slices.SortFunc(all, func(a, b command) int { return int(a.cc) - int(b.cc) })
	return all
}()

// byCode finds a command by its code.
var byCode = func() map[tpm2.CC]*command {
	m := make(map[tpm2.CC]*command, len(registry))
	for i := range registry {
		m[registry[i].cc] = &registry[i]
	}
	return m
}()

// lookup gives a command, or nil where the engine does not implement it.
func lookup(cc tpm2.CC) *command { return byCode[cc] }

// Command is what the engine says about one of its commands, for tables and
// tests.
type Command struct {
	CC         tpm2.CC
	Handles    int
	Attributes tpm2.CCAttributes
	// Decrypt and Encrypt: the first parameter of the command and of the
	// response can be encrypted.
	Decrypt, Encrypt bool
	// Slow: the command may take long (a search for primes).
	Slow bool
}

// Commands lists the commands implemented, in ascending order of code.
func Commands() []Command {
	list := make([]Command, len(registry))
	for i := range registry {
		d := &registry[i]
		list[i] = Command{d.cc, len(d.handles), d.attributes(), d.decrypt, d.encrypt, d.slow}
	}
	return list
}
