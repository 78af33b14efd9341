package tpm

import (
	"slices"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestCommandAttributes: an instance without a profile has the commands that
// Debian's swtpm has, with the same attributes.
func TestCommandAttributes(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	cmd := capabilityCmd(tpm2.CapCommands, 0, 254)
	_, ours := capability(t, p.execute(cmd))
	_, theirs := capability(t, p.o.execute(cmd))
	for _, a := range theirs.Commands {
		if !slices.Contains(ours.Commands, a) {
			t.Errorf("%v: swtpm has it with attributes 0x%08x", tpm2.CC(a&0xFFFF), uint32(a))
		}
	}
	for _, a := range ours.Commands {
		if !slices.Contains(theirs.Commands, a) {
			t.Errorf("%v: swtpm does not have it with attributes 0x%08x", tpm2.CC(a&0xFFFF), uint32(a))
		}
	}
	p.same("those audited", capabilityCmd(tpm2.CapAuditCommands, 0, 254))
	p.same("those of physical presence", capabilityCmd(tpm2.CapPPCommands, 0, 254))
}
