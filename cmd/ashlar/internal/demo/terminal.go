package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// teller writes the demo's progress for people: one line for each stage, with the
// seconds since the boot began.
type teller struct {
	out   io.Writer
	since time.Time
}

func (t *teller) say(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

// heading begins a boot and its clock.
func (t *teller) heading(number, of int, title string) {
	t.since = time.Now()
	t.say("\nBoot %d of %d: %s", number, of, title)
}

// step tells that a stage was reached.
func (t *teller) step(stage, format string, args ...any) {
	t.say("  %5.1f s  %-9s %s", time.Since(t.since).Seconds(), stage, fmt.Sprintf(format, args...))
}

// table shows every measurement of a boot under its stage.
func (t *teller) table(b *boot) {
	t.say("\n  %-20s %3s  %-12s    %s", "stage", "PCR", shownBank.String(), "measured")
	for _, stage := range stagesOf([]*boot{b}) {
		name := stage
		for _, m := range b.during(stage) {
			t.say("  %-20s %3d  %-12s  %s %s", name, m.PCR, shorten(bare(m.Digest), 12), mark(m.Listing), m.What)
			name = ""
		}
	}
	t.say("")
}

// verdict shows the decision and its reasons.
func (t *teller) verdict(b *boot) {
	t.step("verdict", "%s", strings.ToUpper(b.Verdict))
	for _, reason := range b.Reasons {
		t.say("             - %s", reason)
	}
}

// mark shows in one character how a measurement stands to the reference values.
func mark(l scheme.Listing) string {
	switch l {
	case scheme.Listed:
		return "✓"
	case scheme.Changed:
		return "≠"
	case scheme.Unlisted:
		return "✗"
	case scheme.Missing:
		return "–"
	}
	return " "
}

func shorten(s string, n int) string { return s[:min(len(s), n)] }
