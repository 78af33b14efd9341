package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

type eventlogOptions struct {
	pcrs, bank string
	json       bool
	digests    bool
}

func newEventlogCmd() *cobra.Command {
	var o eventlogOptions
	cmd := &cobra.Command{
		Use:   "eventlog FILE",
		Short: "Say in words what a boot measured, and replay it",
		Long: `Reads a TCG event log (legacy or crypto-agile, binary or base64, - for standard
input), says for each event what was measured, and replays the PCRs.

The column DATA tells what the words are worth: "proved" means that the event's
digest is that of the data in the log; "stated" that the digest is of something
else, such as a file, which the data only names; "differs" that they should agree
and do not.

Exit code 0: the log is well-formed, and leads to the PCRs given with --pcrs.
1: it is malformed or does not replay, with the reason. 2: misuse.`,
		Example: `  ashlar eventlog /sys/kernel/security/tpm0/binary_bios_measurements
  tpm2_pcrread -o pcrs.bin -F serialized sha256:all
  ashlar eventlog eventlog.bin --pcrs pcrs.bin
  ashlar eventlog eventlog.bin --json | jq '.events[] | select(.stage == "kernel")'`,
		Args:         one("FILE"),
		SilenceUsage: true,
		RunE:         func(cmd *cobra.Command, args []string) error { return runEventlog(cmd, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.pcrs, "pcrs", "", "compare with the PCR values in `FILE` (written by tpm2_pcrread, tpm2_quote or ashlar)")
	f.StringVar(&o.bank, "bank", "", "show the PCRs and digests of this `BANK` (default: the strongest of the log)")
	f.BoolVar(&o.digests, "digests", false, "show each event's digest")
	f.BoolVar(&o.json, "json", false, "write one JSON object")
	return cmd
}

// eventJSON is an event in the output for machines.
type eventJSON struct {
	Number  int               `json:"number"`
	PCR     uint32            `json:"pcr"`
	Type    string            `json:"type"`
	Stage   eventlog.Stage    `json:"stage"`
	What    string            `json:"what"`
	Data    string            `json:"data"` // bound, unbound, mismatched
	Digests map[string]string `json:"digests"`
}

type eventlogJSON struct {
	Verdict  scheme.Verdict     `json:"verdict"`
	Reasons  []string           `json:"reasons"`
	Facts    scheme.Facts       `json:"facts"`
	Secure   *bool              `json:"secureBoot"` // null where the log does not prove it
	Findings []eventlog.Finding `json:"findings"`
	Events   []eventJSON        `json:"events"`
}

func runEventlog(cmd *cobra.Command, path string, o eventlogOptions) error {
	raw, err := readInput(cmd, path, 2*eventlog.MaxLogSize)
	if err != nil {
		return err
	}
	recorded, err := recordedPCRs(cmd, o.pcrs)
	if err != nil {
		return err
	}
	result := tpm.AppraiseEventLog(raw, recorded)
	l, err := eventlog.Parse(fromBase64(raw))
	if err != nil { // the result says so too
		l = &eventlog.Log{}
	}
	alg, err := shownBank(l, o.bank)
	if err != nil {
		return err
	}
	if o.json {
		err = eventlogToJSON(cmd.OutOrStdout(), l, result)
	} else if len(l.Events) > 0 {
		err = printEventlog(cmd.OutOrStdout(), l, alg, o, len(recorded) > 0 && result.Verdict == scheme.Valid)
	}
	if err != nil {
		return err
	}
	if result.Verdict != scheme.Valid {
		return refuse(result.Why()...)
	}
	return nil
}

// fromBase64 decodes a log that was sent as text.
func fromBase64(raw []byte) []byte {
	text := strings.TrimSpace(string(raw))
	if b, err := base64.StdEncoding.Strict().DecodeString(text); err == nil && len(b) > 0 {
		return b
	}
	return raw
}

// shownBank is the bank asked for, or the log's last that can be replayed:
// headers list banks from weak to strong.
func shownBank(l *eventlog.Log, name string) (tpm2.AlgID, error) {
	best := tpm2.AlgNull
	for _, alg := range l.Banks() {
		if name != "" && alg.String() == name {
			return alg, nil
		}
		if alg.DigestSize() != 0 && (best == tpm2.AlgNull || alg.DigestSize() <= 32) {
			best = alg // SHA-256 is what people compare; longer digests only where there is no other
		}
	}
	if name != "" {
		return best, fmt.Errorf("the log has no bank %q: it has %s", name, bankNames(l))
	}
	return best, nil
}

func bankNames(l *eventlog.Log) string {
	var names []string
	for _, alg := range l.Banks() {
		names = append(names, alg.String())
	}
	return strings.Join(names, ", ")
}

func bindingWord(e *eventlog.Event) string {
	return map[eventlog.Binding]string{eventlog.Bound: "proved", eventlog.Unbound: "stated",
		eventlog.Mismatched: "differs"}[eventlog.BindingOf(e)]
}

func printEventlog(out io.Writer, l *eventlog.Log, alg tpm2.AlgID, o eventlogOptions, confirmed bool) error {
	fmt.Fprintf(out, "%s event log, banks %s, %d events", l.Format, bankNames(l), len(l.Events))
	if on, stated := l.SecureBoot(); stated {
		fmt.Fprintf(out, ", Secure Boot %s", map[bool]string{true: "on", false: "off"}[on])
	}
	if l.Padding > 0 {
		fmt.Fprintf(out, ", %d bytes of padding", l.Padding)
	}
	fmt.Fprint(out, "\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "#\tPCR\tSTAGE\tDATA\tWHAT WAS MEASURED")
	for i := range l.Events {
		e := &l.Events[i]
		pcr := strconv.FormatUint(uint64(e.PCR), 10)
		if e.PCR >= eventlog.NumPCRs {
			pcr = "-"
		}
		what := l.Explain(i)
		if o.digests {
			what += fmt.Sprintf("  %s:%x", alg, e.Digest(alg))
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", e.Number, pcr, l.Stage(i), bindingWord(e), what)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	title := "PCRs that this leads to"
	if confirmed {
		title = "PCRs, as recorded"
	}
	for _, b := range l.Replay(alg) {
		fmt.Fprintf(out, "\n%s, %s:\n", title, b.Alg)
		for _, i := range b.Extended() {
			v, _ := b.PCR(i)
			fmt.Fprintf(out, "%4d  %x\n", i, v)
		}
	}
	for n, f := range l.Check() {
		if n == 0 {
			fmt.Fprintln(out, "\nWorth knowing:")
		}
		fmt.Fprintf(out, "  %s: %s\n", f.Severity, f.Text)
	}
	return nil
}

func eventlogToJSON(out io.Writer, l *eventlog.Log, result *scheme.Result) error {
	o := eventlogJSON{Verdict: result.Verdict, Reasons: append([]string{}, result.Why()...), Facts: result.Facts,
		Findings: append([]eventlog.Finding{}, l.Check()...), Events: []eventJSON{}}
	if on, stated := l.SecureBoot(); stated {
		o.Secure = &on
	}
	for i := range l.Events {
		e := &l.Events[i]
		digests := map[string]string{}
		for _, d := range e.Digests {
			digests[d.Alg.String()] = hex.EncodeToString(d.Value)
		}
		o.Events = append(o.Events, eventJSON{e.Number, e.PCR, e.Type.String(), l.Stage(i), l.Explain(i),
			eventlog.BindingOf(e).String(), digests})
	}
	return writeJSON(out, o)
}
