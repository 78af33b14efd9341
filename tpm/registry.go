package tpm

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// commandSet is every command that the engine implements. Handlers reach it
// through their Engine, since they are part of it.
type commandSet struct {
	list   []command // in ascending order of code
	byCode map[tpm2.CC]*command
}

// registry is the chapters of Part 3 in their files.
var registry = func() *commandSet {
	all := slices.Concat(startupCommands, sessionCommands,
		primaryCommands, objectCommands, createLoadedCommands, credentialCommands, contextCommands, duplicationCommands, testParmsCommands,
		policyCommands, policyBindCommands, policyApprovedCommands, policyConditionCommands,
		integrityCommands, nvCommands, nvSpecialCommands, hierarchyCommands, lockoutCommands, clockCommands, capabilityCommands,
		selfTestCommands, randomCommands, asymmetricCommands, symmetricCommands, sequenceCommands,
		signingCommands, attestationCommands, platformCommands, ecdhCommands, rewrapCommands)
	slices.SortFunc(all, func(a, b command) int { return int(a.cc) - int(b.cc) })
	r := &commandSet{list: all, byCode: make(map[tpm2.CC]*command, len(all))}
	for i := range all {
		r.byCode[all[i].cc] = &all[i]
	}
	return r
}()

// lookup gives a command, or nil where the engine does not implement it.
func (r *commandSet) lookup(cc tpm2.CC) *command { return r.byCode[cc] }

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
	list := make([]Command, len(registry.list))
	for i := range registry.list {
		d := &registry.list[i]
		list[i] = Command{d.cc, len(d.handles), d.attributes(), d.decrypt, d.encrypt, d.slow}
	}
	return list
}
