package tpm

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// logFacts says what an event log is and what it replays to.
func logFacts(l *eventlog.Log, banks []eventlog.Bank) scheme.Facts {
	pcrs := map[string]map[string]string{}
	for i := range banks {
		b := &banks[i]
		m := map[string]string{}
		for _, n := range b.Extended() {
			v, _ := b.PCR(n)
			m[strconv.Itoa(n)] = hex.EncodeToString(v)
		}
		pcrs[b.Alg.String()] = m
	}
	var names []string
	for _, alg := range l.Banks() {
		names = append(names, alg.String())
	}
	f := scheme.Facts{"format": l.Format.String(), "banks": names, "events": len(l.Events),
		"spec_id_header": l.SpecID != nil, "startup_locality": nil, "padding_bytes": l.Padding, "pcrs": pcrs}
	if loc, stated := l.StartupLocality(); stated {
		f["startup_locality"] = loc
	}
	if n := l.Outside(); n > 0 {
		f["events_outside_pcrs"] = n
	}
	return f
}

// checkEventLog compares what the log replays to with the confirmed PCRs.
func (a *appraisal) checkEventLog() {
	if a.log == nil {
		return
	}
	structure(a.Result, a.log)
	if len(a.PCRs) == 0 {
		a.Leave("", "event log", "the event log proves nothing: no quote confirms PCR values")
		return
	}
	replayed(a.Result, a.log, a.banks, a.PCRs)
}

// structure reports what is malformed in a log; doubtful data is only noted.
func structure(r *scheme.Result, l *eventlog.Log) {
	for _, f := range l.Check() {
		name := "event log"
		if f.Event > 0 {
			name = fmt.Sprintf("event %d", f.Event)
		}
		switch f.Severity {
		case eventlog.Malformed:
			r.Fail(scheme.ReasonMalformed, rats.Executables, rats.CryptoFailed, rats.Claim{Name: name, Why: f.Text})
		case eventlog.Doubt:
			r.Leave("", name, f.Text)
		}
	}
}

// replayed compares the log's banks with recorded PCR values. A log that
// replays in one bank and not in another is partial evidence: some firmware
// writes a bank's digests wrong, but what holds in the one is proven by it.
func replayed(r *scheme.Result, l *eventlog.Log, banks []eventlog.Bank, recorded eventlog.PCRs) {
	compared, mismatch, values := map[string][]int{}, map[string][]int{}, map[string]map[string]string{}
	var good, bad []string
	var failures []rats.Claim
	for i := range banks {
		b := &banks[i]
		name := b.Alg.String()
		same, differ := b.Mismatches(recorded[b.Alg])
		compared[name] = append([]int{}, same...)
		if len(same) == 0 {
			continue
		}
		if len(differ) == 0 {
			good = append(good, name)
			continue
		}
		bad = append(bad, name)
		mismatch[name], values[name] = differ, map[string]string{}
		for _, n := range differ {
			want := recorded[b.Alg][n]
			values[name][strconv.Itoa(n)] = hex.EncodeToString(want)
			failures = append(failures, mismatched(l, b, n, want))
		}
	}
	r.Facts["recorded_pcrs_compared"], r.Facts["recorded_pcrs_mismatch"] = compared, mismatch
	if _, taken := r.Facts["recorded_pcrs"]; !taken {
		r.Facts["recorded_pcrs"] = values
	}
	for _, name := range good {
		r.Hold("event log in bank "+name, fmt.Sprintf("%d PCRs replay", len(compared[name])))
	}
	switch {
	case len(good) > 0 && len(bad) > 0:
		for _, c := range failures {
			r.Leave(scheme.ReasonLog+scheme.Reason("-in-"+strings.Join(bad, "-")), c.Name, c.Why)
		}
	case len(bad) > 0:
		for _, c := range failures {
			r.Fail(scheme.ReasonLog, rats.Executables, rats.CryptoFailed, c)
		}
	case len(good) == 0:
		r.Leave("", "event log", "the event log proves nothing: it has no bank and PCR in common with the PCR values that are known")
	}
}

// mismatched says for one PCR up to which event the log agrees with the TPM.
func mismatched(l *eventlog.Log, b *eventlog.Bank, pcr int, want []byte) rats.Claim {
	v, _ := b.PCR(pcr)
	c := rats.Claim{Name: fmt.Sprintf("event log, PCR %d of bank %v", pcr, b.Alg),
		Expected: hex.EncodeToString(want), Found: hex.EncodeToString(v)}
	c.Why = fmt.Sprintf("the event log does not lead to PCR %d of bank %v: an event was altered, left out or added", pcr, b.Alg)
	const search = 500 // events: replaying each prefix costs their number squared
	if len(l.Events) > search {
		return c
	}
	for n := len(l.Events) - 1; n > 0; n-- {
		e := &l.Events[n]
		if !e.Extends() || int(e.PCR) != pcr {
			continue
		}
		p, _ := l.ReplayPrefix(n, b.Alg)[0].PCR(pcr)
		if string(p) == string(want) {
			c.Why = fmt.Sprintf("the event log has events in PCR %d of bank %v that the TPM was never given, from event %d (%s) on", pcr, b.Alg, e.Number, l.Explain(n))
			break
		}
	}
	return c
}

// bestBank is the strongest bank whose PCRs are confirmed and which the log has.
func (a *appraisal) bestBank() (tpm2.AlgID, bool) {
	for _, alg := range []tpm2.AlgID{tpm2.AlgSHA512, tpm2.AlgSHA384, tpm2.AlgSHA256, tpm2.AlgSHA1} {
		if a.PCRs[alg] == nil {
			continue
		}
		if a.log == nil || slices.Contains(a.log.Banks(), alg) {
			return alg, true
		}
	}
	return 0, false
}

// MaxMeasurements is the most measurements that a result lists of each log.
const MaxMeasurements = 1 << 16

// measure lists what the quote confirms: the events of quoted PCRs that replay,
// and the IMA entries up to the quote.
func (a *appraisal) measure() {
	alg, ok := a.bestBank()
	if !ok {
		return
	}
	if refs := a.References; refs != nil && a.PCRs[refs.alg] != nil && (a.log == nil || slices.Contains(a.log.Banks(), refs.alg)) {
		alg = refs.alg // the one to compare in, though a stronger one may be quoted too
	}
	if a.log != nil {
		line := eventlog.NewCommandLine(a.ev.CommandLine)
		for i := range a.log.Events {
			if m, ok := measureEvent(a.log, i, alg); ok && a.PCRs[alg][m.PCR] != nil {
				if hint := a.ev.CommandLine; hint != "" && line.Matches(&a.log.Events[i]) {
					m.What = "kernel command line " + strconv.Quote(hint) // proven by the event's digest
					m.Data = dataProved
				}
				a.Measurements = append(a.Measurements, m)
			}
		}
	}
	for i := range min(max(a.imaUsed, 0), MaxMeasurements) {
		a.Measurements = append(a.Measurements, scheme.Measurement{Log: "ima", Number: i + 1, PCR: imaPCR,
			Stage: stageFile, What: a.ima.path(i), Digest: a.ima.file(i), Data: dataProved})
	}
}

// The values of Measurement.Data.
const (
	dataProved  = "proved"
	dataStated  = "stated"
	dataDiffers = "differs"
)

func dataWord(e *eventlog.Event, alg tpm2.AlgID) string {
	switch eventlog.BindingIn(e, alg) {
	case eventlog.Bound:
		return dataProved
	case eventlog.Mismatched:
		return dataDiffers
	}
	return dataStated
}

func measureEvent(l *eventlog.Log, i int, alg tpm2.AlgID) (scheme.Measurement, bool) {
	e := &l.Events[i]
	if !e.Extends() || e.Digest(alg) == nil { // a loader may leave banks out
		return scheme.Measurement{}, false
	}
	return scheme.Measurement{Log: "event", Number: e.Number, PCR: int(e.PCR), Stage: l.Stage(i).String(),
		What: l.Explain(i), Digest: alg.String() + ":" + hex.EncodeToString(e.Digest(alg)), Data: dataWord(e, alg)}, true
}

// AppraiseEventLog examines an event log by itself: its structure, and, where
// PCR values were recorded with it, whether it leads to them. Those values are
// taken as they are: only a quote proves them.
func AppraiseEventLog(raw []byte, recorded eventlog.PCRs) *scheme.Result {
	r := scheme.NewResult()
	text := unwrapBase64(raw)
	if len(text) != len(raw) {
		r.Facts["encoding"] = "base64"
	}
	l, err := eventlog.Parse(text)
	if err != nil {
		return scheme.Malformed("event log", err)
	}
	banks := l.Replay()
	maps.Copy(r.Facts, logFacts(l, banks))
	structure(r, l)
	if len(recorded) > 0 {
		replayed(r, l, banks, recorded)
	}
	if r.Verdict == scheme.Valid {
		r.Hold("event log", fmt.Sprintf("%d events, well-formed", len(l.Events)))
	}
	if len(banks) > 0 {
		alg := banks[len(banks)-1].Alg
		for i := range l.Events {
			if m, ok := measureEvent(l, i, alg); ok {
				r.Measurements = append(r.Measurements, m)
			}
		}
	}
	r.Finish()
	return r
}

// RecordedPCRs reads the PCR values in a file of Evidence, unproven: for
// AppraiseEventLog and AppraiseIMA.
func RecordedPCRs(name string, b []byte) (eventlog.PCRs, error) {
	if isToolsPCRs(b) {
		return parseToolsPCRs(b)
	}
	e := &Evidence{}
	if err := e.Add(name, scheme.RoleAuto, b); err != nil {
		return nil, err
	}
	all := eventlog.PCRs{}
	for i := range e.Quotes {
		q := &e.Quotes[i]
		if q.rawPCRs != nil {
			p, err := parseToolsPCRs(q.rawPCRs)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			q.PCRs = p
		}
		for alg, bank := range q.PCRs {
			if all[alg] == nil {
				all[alg] = map[int][]byte{}
			}
			maps.Copy(all[alg], bank)
		}
	}
	return all, nil
}
