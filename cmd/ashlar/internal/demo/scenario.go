package demo

import "github.com/ashlar-cloud/ashlar/cmd/ashlar/internal/guest"

// scenario is one boot of the story and how it has to end.
type scenario struct {
	name    string
	title   string
	cmdline string
	// program is the path of a program that is put into the guest and run before
	// the evidence is collected; "" for none.
	program string
	verdict string
	// names is what a reason must contain: the refusal has to say what was wrong.
	names string
}

// forgedOption is added to the command line of the third boot: the kernel would no
// longer guard against processor flaws such as Spectre.
const forgedOption = "mitigations=off"

// unlistedProgram is what runs in the fourth boot. It comes into the running guest
// from outside, so nothing that was booted differs.
const unlistedProgram = guest.Dir + "/unlisted"

// unlistedText is the program. What it does is of no account: that it ran is.
const unlistedText = "#!/bin/sh\necho \"no policy lists me, yet I run\"\n"

// story is what the demo shows, in order. All four boots share one TPM: its keys stay,
// its PCRs start anew.
var story = []scenario{
	{
		name: "reference", title: "the machine as it should be",
		cmdline: guest.Cmdline, verdict: verdictReference,
	},
	{
		name: "unchanged", title: "the same machine again",
		cmdline: guest.Cmdline, verdict: verdictAffirming,
	},
	{
		name: "command-line", title: "with a changed kernel command line",
		cmdline: guest.Cmdline + " " + forgedOption, verdict: verdictContraindicated, names: "command line",
	},
	{
		name: "unlisted-program", title: "with a program that no policy lists",
		cmdline: guest.Cmdline, program: unlistedProgram, verdict: verdictContraindicated, names: unlistedProgram,
	},
}
