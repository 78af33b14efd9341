package tpm

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/ashlar-cloud/ashlar/measurement/ima"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// compare holds the confirmed measurements against the reference values.
func (a *appraisal) compare() {
	refs := a.References
	if refs == nil {
		return
	}
	a.PolicyIDs = append(a.PolicyIDs, refs.id)
	lists := slices.ContainsFunc(refs.Boots, func(b RefBoot) bool { return len(b.Events) > 0 })
	if a.PCRs[refs.alg] == nil || a.log == nil && lists {
		a.Fail(scheme.ReasonCoverage, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: "reference values",
			Why: fmt.Sprintf("the reference values are for PCR bank %s and its event log, and the evidence does not prove both", refs.Bank)})
		return
	}
	before := len(a.failedClaims())
	a.compareEvents()
	a.compareValues()
	a.compareFiles()
	a.Measurements = append(a.Measurements, a.missing...)
	if len(a.failedClaims()) > before {
		return
	}
	if a.Verdict == scheme.Valid {
		a.Claim(rats.Configuration, rats.ConfigApproved)
		if refs.IMA {
			a.Claim(rats.Executables, rats.ExecutablesApproved)
		} else {
			a.Claim(rats.Executables, rats.ExecutablesBootApproved)
		}
		a.Hold("reference values", "every measurement is listed")
	}
}

func (a *appraisal) failedClaims() []rats.Claim { return rats.Appraisal{Claims: a.Claims}.Failed() }

// compareEvents compares PCR by PCR with the reference boot that differs least.
func (a *appraisal) compareEvents() {
	refs := a.References
	for pcr := range numPCRs {
		var found []*scheme.Measurement
		for i := range a.Measurements {
			if m := &a.Measurements[i]; m.Log == "event" && m.PCR == pcr {
				found = append(found, m)
			}
		}
		var best []difference
		bestCount, listed := -1, 0
		for i := range refs.Boots {
			var want []RefEvent
			for _, e := range refs.Boots[i].Events {
				if e.PCR == pcr {
					want = append(want, e)
				}
			}
			listed = max(listed, len(want))
			d := diff(want, found)
			if bestCount < 0 || len(d) < bestCount {
				best, bestCount = d, len(d)
			}
		}
		if a.PCRs[refs.alg][pcr] == nil {
			if listed > 0 {
				a.Fail(scheme.ReasonCoverage, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: fmt.Sprintf("PCR %d", pcr),
					Why: fmt.Sprintf("PCR %d is not in the quote, so nothing proves what was measured into it", pcr)})
			}
			continue
		}
		for _, m := range found {
			m.Listing = scheme.Listed
		}
		a.reportEvents(pcr, best)
	}
}

// difference is one place where a PCR's events are not the reference's; one of
// the two may be nil.
type difference struct {
	want *RefEvent
	got  *scheme.Measurement
}

// maxDiff bounds the table that diff fills: lists whose lengths multiply to more
// are compared place by place.
const maxDiff = 1 << 22

// diff gives the differences between two sequences of events, in order, by their
// longest common subsequence. What is replaced is paired.
func diff(want []RefEvent, got []*scheme.Measurement) []difference {
	for len(want) > 0 && len(got) > 0 && want[0].Digest == bare(got[0].Digest) {
		want, got = want[1:], got[1:]
	}
	if len(want)+len(got) == 0 {
		return nil
	}
	table := common(want, got)
	var list []difference
	var missing []*RefEvent
	var extra []*scheme.Measurement
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		both := i < len(want) && j < len(got)
		switch {
		case both && want[i].Digest == bare(got[j].Digest):
			list, missing, extra = paired(list, missing, extra), nil, nil
			i, j = i+1, j+1
		case both && table == nil:
			missing, extra = append(missing, &want[i]), append(extra, got[j])
			i, j = i+1, j+1
		case j >= len(got) || both && table[i+1][j] >= table[i][j+1]:
			missing = append(missing, &want[i])
			i++
		default:
			extra = append(extra, got[j])
			j++
		}
	}
	return paired(list, missing, extra)
}

// common fills the table of the lengths of the longest common subsequences of
// all pairs of tails; nil where it would be larger than maxDiff.
func common(want []RefEvent, got []*scheme.Measurement) [][]int32 {
	if (len(want)+1)*(len(got)+1) > maxDiff {
		return nil
	}
	table := make([][]int32, len(want)+1)
	for i := range table {
		table[i] = make([]int32, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i].Digest == bare(got[j].Digest) {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	return table
}

// paired appends a gap between common events: what is missing beside what
// stands in its place.
func paired(list []difference, missing []*RefEvent, extra []*scheme.Measurement) []difference {
	for i := range max(len(missing), len(extra)) {
		var d difference
		if i < len(missing) {
			d.want = missing[i]
		}
		if i < len(extra) {
			d.got = extra[i]
		}
		list = append(list, d)
	}
	return list
}

// reportEvents names each event that differs, and where only one changed, what
// it changed from and to.
func (a *appraisal) reportEvents(pcr int, list []difference) {
	for n, d := range list {
		if n == scheme.MaxReported {
			a.Fail(scheme.ReasonEvent, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: fmt.Sprintf("PCR %d", pcr),
				Why: fmt.Sprintf("%d more events in PCR %d differ", len(list)-n, pcr)})
			return
		}
		var c rats.Claim
		stage := ""
		switch {
		case d.want != nil && d.got != nil:
			d.got.Listing, stage = scheme.Changed, d.got.Stage
			c = rats.Claim{Name: fmt.Sprintf("event %d, PCR %d, %s", d.got.Number, pcr, stage),
				Expected: d.want.What + " (" + a.References.Bank + ":" + d.want.Digest + ")", Found: d.got.What + " (" + d.got.Digest + ")"}
			c.Why = fmt.Sprintf("event %d in PCR %d (%s) is not the one in the reference values: %s", d.got.Number, pcr, stage, changed(d))
		case d.got != nil:
			d.got.Listing, stage = scheme.Unlisted, d.got.Stage
			c = rats.Claim{Name: fmt.Sprintf("event %d, PCR %d, %s", d.got.Number, pcr, stage), Found: d.got.What + " (" + d.got.Digest + ")"}
			c.Why = fmt.Sprintf("event %d in PCR %d (%s) is not in the reference values: %s", d.got.Number, pcr, stage, words(d.got))
		default:
			stage = d.want.Stage
			c = rats.Claim{Name: fmt.Sprintf("PCR %d, %s", pcr, stage), Expected: d.want.What + " (" + a.References.Bank + ":" + d.want.Digest + ")"}
			c.Why = fmt.Sprintf("an event of the reference values is missing in PCR %d (%s): %s", pcr, stage, d.want.What)
			a.missing = append(a.missing, scheme.Measurement{Log: "event", PCR: pcr, Stage: stage, What: d.want.What,
				Digest: a.References.Bank + ":" + d.want.Digest, Listing: scheme.Missing})
		}
		cat, value := category(stage)
		a.Fail(scheme.ReasonEvent, cat, value, c)
	}
}

func changed(d difference) string {
	if d.want.What == d.got.What {
		return fmt.Sprintf("%s, with another digest (%s… instead of %s…)", d.got.What, bare(d.got.Digest)[:16], d.want.Digest[:16])
	}
	return fmt.Sprintf("expected %s, found %s", d.want.What, words(d.got))
}

// words are those of an event, with the doubt that they deserve: a machine that
// hides something can call it what it likes, where no digest is of the words.
func words(m *scheme.Measurement) string {
	if m.Data == dataProved {
		return m.What
	}
	return "what the log calls " + m.What
}

// category says what of the vector an event of a stage bears on.
func category(stage string) (rats.Category, rats.Value) {
	switch stage {
	case "firmware", "boot loader", "kernel", "initrd", "operating system":
		return rats.Executables, rats.ExecutablesContra
	}
	return rats.Configuration, rats.ConfigUnsupported
}

// compareValues compares the PCRs that no log explains.
func (a *appraisal) compareValues() {
	refs := a.References
	explained := map[int]bool{imaPCR: refs.IMA || a.imaUsed > 0, 16: true, 23: true} // compareFiles sees to PCR 10
	for _, m := range a.Measurements {
		explained[m.PCR] = true
	}
	for pcr := range numPCRs {
		v := a.PCRs[refs.alg][pcr]
		found, known, want := hex.EncodeToString(v), false, ""
		for i := range refs.Boots {
			if w, ok := refs.Boots[i].PCRs[strconv.Itoa(pcr)]; ok {
				want, known = w, known || w == found
			}
		}
		name := fmt.Sprintf("PCR %d", pcr)
		switch {
		case explained[pcr]:
		case v == nil && want != "":
			a.Fail(scheme.ReasonCoverage, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: name, Expected: want,
				Why: name + " has a reference value and is not in the quote"})
		// A PCR that nobody extended and the references do not mention is as
		// Startup left it.
		case v == nil, known, want == "" && found == hex.EncodeToString(a.reset(pcr)):
		default:
			a.Fail(scheme.ReasonEvent, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: name, Expected: want, Found: found,
				Why: name + " has a value that neither the logs nor the reference values explain"})
		}
	}
}

func (a *appraisal) reset(pcr int) []byte {
	v := make([]byte, a.References.alg.DigestSize())
	if pcr >= 17 && pcr <= 22 {
		for i := range v {
			v[i] = 0xff
		}
	}
	return v
}

// compareFiles compares what IMA measured with the files listed.
func (a *appraisal) compareFiles() {
	refs := a.References
	if a.imaUsed < 0 {
		if refs.IMA {
			a.Fail(scheme.ReasonCoverage, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: "IMA log",
				Why: "the reference values list files, and the evidence proves no IMA log"})
		}
		return
	}
	if refs.IMA && a.PCRs[refs.alg][imaPCR] == nil {
		a.Fail(scheme.ReasonCoverage, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: "PCR 10",
			Why: fmt.Sprintf("PCR 10 of bank %s is not in the quote: another bank alone does not prove what files were measured", refs.Bank)})
		return
	}
	if a.imaUsed == 0 && refs.IMA {
		a.Fail(scheme.ReasonCoverage, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: "IMA log",
			Why: "the reference values list files, and this boot measured none, not even its own start: IMA was off"})
		return
	}
	allowed := make(map[string][]string, len(refs.Files))
	for _, f := range refs.Files {
		allowed[f.Path] = append(allowed[f.Path], f.Digest)
	}
	first := max(0, slices.IndexFunc(a.Measurements, func(m scheme.Measurement) bool { return m.Log == "ima" }))
	shown := a.Measurements[first:]
	bad := 0
	for i := range a.imaUsed {
		c, listing := a.compareFile(i, allowed)
		if i < len(shown) && shown[i].Log == "ima" {
			shown[i].Listing = listing
		}
		if listing == scheme.Listed {
			continue
		}
		if bad++; bad <= scheme.MaxReported {
			a.Fail(scheme.ReasonFile, rats.Executables, rats.ExecutablesContra, c)
		}
	}
	if bad > scheme.MaxReported {
		a.Fail(scheme.ReasonFile, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: "IMA log",
			Why: fmt.Sprintf("%d more files are not in the reference values", bad-scheme.MaxReported)})
	}
}

func (a *appraisal) compareFile(i int, allowed map[string][]string) (rats.Claim, scheme.Listing) {
	path, digest := a.ima.path(i), a.ima.file(i)
	c := rats.Claim{Name: fmt.Sprintf("IMA entry %d, file %s", i+1, path), Found: digest}
	if a.ima.violation(i) {
		c.Why = fmt.Sprintf("file %s was written while it was measured (a violation): what was read is not known", path)
		return c, scheme.Unlisted
	}
	if !a.ima.Entries[i].Comparable() {
		c.Why = fmt.Sprintf("IMA entry %d (%s) does not tell a file and its digest so that they could be compared: its template is %s", i+1, path, a.ima.Entries[i].Template.Name)
		return c, scheme.Unlisted
	}
	if a.ima.Entries[i].IsBootAggregate() {
		if _, err := ima.CheckBootAggregate(&a.ima.Entries[i], a.bootPCR); err != nil {
			c.Why = err.Error()
			return c, scheme.Changed
		}
		return c, scheme.Listed
	}
	want, known := allowed[path]
	switch {
	case slices.Contains(want, digest):
		return c, scheme.Listed
	case known:
		c.Expected = want[0]
		c.Why = fmt.Sprintf("file %s is not the one in the reference values: it has the digest %s", path, digest)
		return c, scheme.Changed
	}
	c.Why = fmt.Sprintf("file %s with digest %s was read or run and is in no reference values", path, digest)
	return c, scheme.Unlisted
}

// bootPCR is the value of a PCR when the kernel started: as quoted, or as the
// event log of a bank that is not quoted says.
func (a *appraisal) bootPCR(alg tpm2.AlgID, n int) []byte {
	if v := a.PCRs[alg][n]; v != nil {
		return v
	}
	return a.initial(register{alg, n})
}
