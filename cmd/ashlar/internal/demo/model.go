package demo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// The verdicts of a boot, as demo.json and the pages spell them.
const (
	verdictReference       = "reference"
	verdictAffirming       = "affirming"
	verdictContraindicated = "contraindicated"
)

// What is shown: PCRs 0 to lastPCR of the SHA-256 bank, which every boot quotes.
const (
	shownBank = tpm2.AlgSHA256
	lastPCR   = 10
)

// boot is what one boot of the guest showed.
type boot struct {
	Number   int    // from 1
	Name     string // short, also the name of its directory
	Title    string // one line for people
	Cmdline  string
	Verdict  string
	Reasons  []string
	PCRs     eventlog.PCRs // the values that the quote confirms
	EventLog string        // paths of the evidence
	IMA      string
	Quote    string
	Nonce    string // hexadecimal, drawn for this boot
	// Qualifying is what the quote was signed under: the nonce with the key to which
	// the secret is sealed (rats.BindKey), in hexadecimal.
	Qualifying string
	// Measured is what the quote confirms, in the order of time: the firmware's
	// event log, then IMA's entries.
	Measured []scheme.Measurement
	// SecretReleased says that the guest itself decrypted the secret and proved it.
	SecretReleased bool
}

// directory is the name of the boot's directory.
func (b *boot) directory() string { return fmt.Sprintf("%d-%s", b.Number, b.Name) }

// stagesOf names the stages that the boots show, in the order of a boot.
func stagesOf(boots []*boot) []string {
	present := map[string]bool{}
	var others []string // what runs after the boot; the verifier names it
	for _, b := range boots {
		for _, m := range b.Measured {
			if !present[m.Stage] {
				present[m.Stage] = true
				others = append(others, m.Stage)
			}
		}
	}
	var names []string
	for s := eventlog.StageNote; s <= eventlog.StageSystem; s++ {
		if present[s.String()] {
			names = append(names, s.String())
		}
	}
	return append(names, slices.DeleteFunc(others, func(name string) bool { return slices.Contains(names, name) })...)
}

// during gives the boot's measurements of one stage.
func (b *boot) during(stage string) []scheme.Measurement {
	var out []scheme.Measurement
	for _, m := range b.Measured {
		if m.Stage == stage {
			out = append(out, m)
		}
	}
	return out
}

// bare is a measurement's digest without the name of its algorithm.
func bare(digest string) string {
	if _, hex, ok := strings.Cut(digest, ":"); ok {
		return hex
	}
	return digest
}

// pcrsOf lists the PCRs that the measurements extend, for a heading.
func pcrsOf(list []scheme.Measurement) string {
	var seen []int
	for _, m := range list {
		if !slices.Contains(seen, m.PCR) {
			seen = append(seen, m.PCR)
		}
	}
	slices.Sort(seen)
	var names []string
	for _, pcr := range seen {
		names = append(names, strconv.Itoa(pcr))
	}
	return strings.Join(names, ", ")
}
