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
		platformCommands, ecdhCommands, rewrapCommands)
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
	if _, named := slices.BinarySearch(tpm2.CommandCodes(), cc); !named {
		return "the specification has no such command"
	}
	return notSupported[cc]
}

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
