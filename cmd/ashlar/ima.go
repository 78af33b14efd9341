package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/measurement/ima"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

type imaOptions struct {
	pcrs, policy string
	summary      bool
	learn        bool
	json         bool
}

func newIMACmd() *cobra.Command {
	var o imaOptions
	cmd := &cobra.Command{
		Use:   "ima FILE",
		Short: "Say in words what a Linux measured while running, and replay it",
		Long: `Reads an IMA measurement list (binary or ASCII, - for standard input), says for
each entry what was measured, checks the entries' hashes, and replays PCR 10.

With --pcrs it finds the prefix of the log that the PCR confirms: files measured
after the PCR was read are not confirmed. With --policy it names every file that
is not listed or has another digest; Keylime's runtime policies are read.

Exit code 0: the log holds. 1: it is malformed, an entry's hash is wrong, the PCR
does not follow from it, or a file is not allowed, with the reason. 2: misuse.`,
		Example: `  ashlar ima /sys/kernel/security/ima/binary_runtime_measurements
  ashlar ima ima.bin --pcrs quote.pcrs --summary
  ashlar ima trusted.bin --learn > policy.json
  ashlar ima other.bin --policy policy.json --summary`,
		Args:         one("FILE"),
		SilenceUsage: true,
		RunE:         func(cmd *cobra.Command, args []string) error { return runIMA(cmd, args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.pcrs, "pcrs", "", "find the prefix that the PCR values in `FILE` confirm (written by tpm2_pcrread, tpm2_quote or ashlar)")
	f.StringVar(&o.policy, "policy", "", "compare with the allowed files in `FILE`")
	f.BoolVar(&o.learn, "learn", false, "write a policy that allows the files of this log")
	f.BoolVar(&o.summary, "summary", false, "leave the entries out")
	f.BoolVar(&o.json, "json", false, "write one JSON object")
	return cmd
}

type imaEntryJSON struct {
	Number    int    `json:"number"`
	PCR       uint32 `json:"pcr"`
	Template  string `json:"template"`
	Path      string `json:"path"`
	Digest    string `json:"digest"`
	Violation bool   `json:"violation,omitempty"`
	What      string `json:"what"`
}

type imaJSON struct {
	Verdict scheme.Verdict `json:"verdict"`
	Reasons []string       `json:"reasons"`
	Facts   scheme.Facts   `json:"facts"`
	Entries []imaEntryJSON `json:"entries,omitempty"`
}

func runIMA(cmd *cobra.Command, path string, o imaOptions) error {
	if o.learn && (o.policy != "" || o.json) {
		return errors.New("--learn writes a policy: it does not go with --policy or --json")
	}
	raw, err := readInput(cmd, path, ima.MaxLogSize)
	if err != nil {
		return err
	}
	recorded, err := recordedPCRs(cmd, o.pcrs)
	if err != nil {
		return err
	}
	var policy *ima.Policy
	if o.policy != "" {
		text, err := readInput(cmd, o.policy, ima.MaxPolicySize)
		if err != nil {
			return err
		}
		if policy, err = ima.ParsePolicy(text); err != nil {
			return fmt.Errorf("%s: %w", o.policy, err)
		}
	}
	result := tpm.AppraiseIMA(raw, recorded, policy)
	l, err := ima.Parse(raw)
	if err != nil { // the result says so too
		l = nil
	}
	if err := writeIMA(cmd.OutOrStdout(), l, recorded, result, o); err != nil {
		return err
	}
	if result.Verdict != scheme.Valid {
		return refuse(result.Why()...)
	}
	return nil
}

func writeIMA(out io.Writer, l *ima.Log, recorded eventlog.PCRs, result *scheme.Result, o imaOptions) error {
	switch {
	case o.json:
		return imaToJSON(out, l, result, o)
	case l == nil:
		return nil
	case o.learn:
		if result.Verdict != scheme.Valid {
			return nil // never make reference values from a log that does not hold
		}
		var p ima.Policy
		p.Learn(l)
		return writeJSON(out, &p)
	}
	return printIMA(out, l, recorded, o)
}

func printIMA(out io.Writer, l *ima.Log, recorded eventlog.PCRs, o imaOptions) error {
	h := l.CheckHashes()
	fmt.Fprintf(out, "%s IMA log, %d entries (%s), violations: %d, ", l.Format, len(l.Entries), templateList(l), h.Violations)
	switch {
	case h.Unknown > 0:
		fmt.Fprintf(out, "hashes of an algorithm not known here: %d\n", h.Unknown)
	case len(h.Bad) > 0:
		fmt.Fprintf(out, "wrong hashes: %d\n", len(h.Bad))
	default:
		fmt.Fprintln(out, "every hash is that of its entry")
	}
	if !o.summary {
		fmt.Fprintln(out)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "#\tPCR\tTEMPLATE\tWHAT WAS MEASURED")
		for i := range l.Entries {
			e := &l.Entries[i]
			fmt.Fprintf(w, "%d\t%d\t%s\t%s\n", e.Number, e.PCR, e.Template.Name, ima.Explain(e))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintln(out)
	for _, bank := range []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgSHA256} {
		r, err := l.Replay(bank, ima.PerBank)
		if err != nil {
			return err
		}
		for _, pcr := range l.PCRs() {
			fmt.Fprintf(out, "PCR %d after all entries, %s: %x\n", pcr, bank, r.PCR(pcr))
		}
	}
	for _, bank := range slices.Sorted(maps.Keys(recorded)) {
		want, ok := recorded[bank][10]
		if !ok {
			continue
		}
		if p, ok := l.FindPrefix(bank, map[int][]byte{10: want}); ok {
			fmt.Fprintf(out, "The first %d of %d entries are confirmed by PCR 10, %s (%s)\n", p.Entries, len(l.Entries), bank, p.Mode)
		}
	}
	return nil
}

func templateList(l *ima.Log) string {
	counts := l.Templates()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(list, ", ")
}

func imaToJSON(out io.Writer, l *ima.Log, result *scheme.Result, o imaOptions) error {
	j := imaJSON{Verdict: result.Verdict, Reasons: append([]string{}, result.Why()...), Facts: result.Facts}
	if l != nil && !o.summary {
		for i := range l.Entries {
			e := &l.Entries[i]
			alg, digest := e.FileDigest()
			j.Entries = append(j.Entries, imaEntryJSON{e.Number, e.PCR, e.Template.Name, e.Path(),
				alg + ":" + hex.EncodeToString(digest), e.Violation(), ima.Explain(e)})
		}
	}
	return writeJSON(out, j)
}
