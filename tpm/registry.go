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
		integrityCommands, nvCommands, nvSpecialCommands, auditCommands, hierarchyCommands, lockoutCommands, clockCommands, capabilityCommands,
		selfTestCommands, randomCommands, asymmetricCommands, symmetricCommands, sequenceCommands,
		nv2Commands, readOnlyCommands, countdownCommands, signingCommands, attestationCommands, x509Commands,
		platformCommands, ecdhCommands, ephemeralCommands, eccEncryptCommands, rewrapCommands)
	slices.SortFunc(all, func(a, b command) int { return int(a.cc) - int(b.cc) })
	r := &commandSet{list: all, byCode: make(map[tpm2.CC]*command, len(all))}
	for i := range all {
		r.byCode[all[i].cc] = &all[i]
	}
	return r
}()

// lookup gives a command, or nil where the engine does not implement it.
func (r *commandSet) lookup(cc tpm2.CC) *command { return r.byCode[cc] }

// notSupported are the commands of the specification that the engine does not
// have and why; they answer TPM_RC_COMMAND_CODE.
var notSupported = map[tpm2.CC]string{
	tpm2.CCFieldUpgradeStart:      noUpgrade,
	tpm2.CCFieldUpgradeData:       noUpgrade,
	tpm2.CCFirmwareRead:           noUpgrade,
	tpm2.CCACGetCapability:        noComponents,
	tpm2.CCACSend:                 noComponents,
	tpm2.CCPolicyACSendSelect:     noComponents,
	tpm2.CCPolicyTransportSPDM:    "there is no bus to secure by SPDM between a machine and its virtual TPM",
	tpm2.CCVerifySequenceComplete: postQuantum,
	tpm2.CCSignSequenceComplete:   postQuantum,
	tpm2.CCVerifyDigestSignature:  postQuantum,
	tpm2.CCSignDigest:             postQuantum,
	tpm2.CCEncapsulate:            postQuantum,
	tpm2.CCDecapsulate:            postQuantum,
	tpm2.CCVerifySequenceStart:    postQuantum,
	tpm2.CCSignSequenceStart:      postQuantum,
}

const (
	noUpgrade    = "the TPM is a program, which its host replaces"
	noComponents = "there are no attached components"
	postQuantum  = "version 1.85 of the specification is not implemented yet"
)

// notImplemented says why the engine does not have a command, "" where it has.
func notImplemented(cc tpm2.CC) string {
	if !cc.Known() {
		return "the specification has no such command"
	}
	return notSupported[cc]
}

// since is the version of the library specification that brought a command.
func since(cc tpm2.CC) string {
	switch {
	case cc <= tpm2.CCPolicyNvWritten:
		return "1.16"
	case cc <= tpm2.CCEncryptDecrypt2:
		return "1.38"
	case cc <= tpm2.CCACTSetTimeout:
		return "1.59"
	case cc <= tpm2.CCSetCapability:
		return "1.83"
	case cc <= tpm2.CCPolicyTransportSPDM:
		return "1.84"
	}
	return "1.85"
}

// Command is what the engine says about a command of the specification.
type Command struct {
	CC tpm2.CC
	// Since is the version of the library specification that brought it.
	Since string
	// NotSupported says why the engine does not have it, and is empty where it
	// has: only then do the fields below mean something.
	NotSupported string
	// Profiles are the names of those that show it, out of Profiles but for
	// custom, in their order.
	Profiles   []string
	Handles    []CommandHandle
	Attributes tpm2.CCAttributes
	// NoSessions: it takes no sessions.
	NoSessions bool
	// Decrypt and Encrypt: the first parameter of the command and of the
	// response can be encrypted by a session.
	Decrypt, Encrypt bool
	// Slow: it may take long (a search for primes).
	Slow bool
}

// CommandHandle is a handle of a command: its name in Part 3, and the role of
// its authorization, "USER", "ADMIN" or "DUP", empty where it needs none.
type CommandHandle struct{ Name, Role string }

// Commands lists the commands implemented, in ascending order of code.
func Commands() []Command {
	return keep(Specification(), func(c Command) bool { return c.NotSupported == "" })
}

// Specification lists all commands of the specification up to version 1.85, in
// ascending order of code.
func Specification() []Command {
	profiles := Profiles()
	list := make([]Command, 0, len(registry.list)+len(notSupported))
	for _, cc := range tpm2.CommandCodes() {
		c := Command{CC: cc, Since: since(cc), NotSupported: notSupported[cc]}
		if d := registry.lookup(cc); d != nil {
			d.describe(&c)
		} else if c.NotSupported == "" {
			c.NotSupported = "it is not in this version"
		}
		for _, p := range profiles {
			if p.Name() != customName && p.Shows(cc) {
				c.Profiles = append(c.Profiles, p.Name())
			}
		}
		list = append(list, c)
	}
	return list
}

// describe fills in what the declaration says.
func (d *command) describe(c *Command) {
	for _, h := range d.handles {
		c.Handles = append(c.Handles, CommandHandle{h.name, [...]string{"", "USER", "ADMIN", "DUP"}[h.role]})
	}
	c.Attributes, c.NoSessions = d.attributes(), d.noSessions
	c.Decrypt, c.Encrypt, c.Slow = d.decrypt, d.encrypt, d.slow
}
