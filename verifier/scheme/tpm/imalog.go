package tpm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/measurement/ima"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// imaPCR is the PCR that Linux extends with IMA entries unless told otherwise.
const imaPCR = 10

// imaView is a parsed IMA log with what an appraisal asks of it.
type imaView struct {
	*ima.Log
	bad map[int]bool // numbers of entries whose logged hash is not their content's
}

func parseIMA(raw []byte) (*imaView, error) {
	l, err := ima.Parse(raw)
	if err != nil {
		return nil, err
	}
	v := &imaView{Log: l, bad: map[int]bool{}}
	for _, n := range l.CheckHashes().Bad {
		v.bad[n] = true
	}
	return v, nil
}

// looksLikeIMA tells an IMA log in either form, even one that is cut at its end.
func looksLikeIMA(b []byte) bool {
	if _, err := ima.Parse(b); err == nil {
		return len(b) > 0
	}
	if len(b) < 64 {
		return false
	}
	line, _, _ := bytes.Cut(b[:min(len(b), 4096)], []byte("\n"))
	if l, err := ima.Parse(line); err == nil && l.Format == ima.ASCII {
		return true
	}
	name := b[4+20:]
	return bytes.HasPrefix(name[4:], []byte("ima")) && name[0] <= 16 && name[1] == 0
}

func (v *imaView) len() int             { return len(v.Entries) }
func (v *imaView) violation(i int) bool { return v.Entries[i].Violation() }

// path is fit for printing: control characters are escaped.
func (v *imaView) path(i int) string {
	q := strconv.Quote(v.Entries[i].Path())
	return q[1 : len(q)-1]
}

// file is the measured digest, "sha256:hex".
func (v *imaView) file(i int) string {
	alg, d := v.Entries[i].FileDigest()
	q := strconv.Quote(alg) // the attester's word, like the path
	return q[1:len(q)-1] + ":" + hex.EncodeToString(d)
}

// replays gives the ways in which a kernel may extend a bank, each from a start
// value of PCR 10.
func (v *imaView) replays(alg tpm2.AlgID, start []byte) []*ima.Replay {
	modes := []ima.Mode{ima.PerBank}
	if alg != tpm2.AlgSHA1 {
		modes = append(modes, ima.PaddedSHA1)
		if slices.ContainsFunc(v.Entries, func(e ima.Entry) bool { return e.Violation() }) {
			modes = append(modes, ima.PaddedSHA1Short)
		}
	}
	var list []*ima.Replay
	for _, m := range modes {
		r, err := ima.NewReplay(alg, m)
		if err != nil || r.Set(imaPCR, start) != nil {
			continue
		}
		list = append(list, r)
	}
	return list
}

// search extends entry after entry, puts each possible value of PCR 10 of the
// banks in place, and gives the first number of entries for which matches holds.
func (v *imaView) search(banks []tpm2.AlgID, start func(register) []byte, put func(tpm2.AlgID, []byte), matches func() (found, goOn bool)) (int, bool) {
	perBank := make([][]*ima.Replay, len(banks))
	for k, alg := range banks {
		perBank[k] = v.replays(alg, start(register{alg, imaPCR}))
	}
	for i := range v.Entries {
		for _, list := range perBank {
			for _, r := range list {
				r.Extend(&v.Entries[i])
			}
		}
		if v.Entries[i].PCR != imaPCR {
			continue
		}
		if found, goOn := try(banks, perBank, put, matches); found || !goOn {
			return i + 1, found
		}
	}
	return 0, false
}

// try puts every combination of the banks' values in place: at most 3 for each
// of four banks. It ends early where matches does not want to go on.
func try(banks []tpm2.AlgID, perBank [][]*ima.Replay, put func(tpm2.AlgID, []byte), matches func() (found, goOn bool)) (found, goOn bool) {
	if len(banks) == 0 {
		return matches()
	}
	for _, r := range perBank[0] {
		put(banks[0], r.PCR(imaPCR))
		if found, goOn = try(banks[1:], perBank[1:], put, matches); found || !goOn {
			return found, goOn
		}
	}
	return false, true
}

// prefix finds how many entries lead to the quoted values of PCR 10. Where the
// values are those before the first entry, it is 0.
func (v *imaView) prefix(want map[tpm2.AlgID][]byte, start func(register) []byte) (int, bool) {
	var banks []tpm2.AlgID
	got := map[tpm2.AlgID][]byte{}
	for alg := range want {
		banks = append(banks, alg)
		got[alg] = start(register{alg, imaPCR})
	}
	matches := func() bool {
		for alg, w := range want {
			if !bytes.Equal(got[alg], w) {
				return false
			}
		}
		return true
	}
	if matches() {
		return 0, true
	}
	return v.search(banks, start, func(alg tpm2.AlgID, x []byte) { got[alg] = x },
		func() (found, goOn bool) { return matches(), true })
}

// checkIMA finds the prefix of the IMA log that the quote covers and examines
// the entries in it.
func (a *appraisal) checkIMA() {
	if a.ima == nil {
		return
	}
	want := map[tpm2.AlgID][]byte{}
	values := map[string]string{}
	for alg, bank := range a.PCRs {
		if v := bank[imaPCR]; v != nil {
			want[alg] = v
			values[alg.String()] = hex.EncodeToString(v)
		}
	}
	if len(want) == 0 {
		a.Leave("", "IMA log", "the IMA log proves nothing: no confirmed quote covers PCR 10")
		return
	}
	a.Facts["pcr10_at_quote"] = values
	n, ok := a.ima.prefix(want, a.initial)
	if !ok {
		a.Fail(scheme.ReasonIMA, rats.Executables, rats.CryptoFailed, rats.Claim{Name: "IMA log", Expected: first(values),
			Why: fmt.Sprintf("the IMA log does not lead to the quoted PCR 10: none of its %d entries, in this order, ends there; it is cut, altered, or of another boot", a.ima.len())})
		return
	}
	a.imaUsed = n
	a.Facts["ima_entries_at_quote"] = n
	a.Hold("IMA log", fmt.Sprintf("%d of %d entries lead to the quoted PCR 10", n, a.ima.len()))
	a.imaEntries(n)
}

func first(m map[string]string) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys[len(keys)-1] + ":" + m[keys[len(keys)-1]]
}

// imaEntries checks that what the entries show is what their digests cover.
func (a *appraisal) imaEntries(n int) {
	bad, elsewhere := 0, 0
	for i := range n {
		if a.ima.Entries[i].PCR != imaPCR {
			if elsewhere++; elsewhere > scheme.MaxReported {
				continue
			}
			a.Leave(scheme.ReasonCoverage, fmt.Sprintf("IMA entry %d", i+1), fmt.Sprintf("IMA entry %d (%s) is in PCR %d, which is not examined", i+1, a.ima.path(i), a.ima.Entries[i].PCR))
		}
		if !a.ima.bad[i+1] {
			continue
		}
		if bad++; bad <= scheme.MaxReported {
			a.Fail(scheme.ReasonIMAHash, rats.Executables, rats.CryptoFailed, rats.Claim{Name: fmt.Sprintf("IMA entry %d", i+1),
				Why: fmt.Sprintf("IMA entry %d (%s) is altered: its digest is not that of its content", i+1, a.ima.path(i))})
		}
	}
}

// AppraiseIMA examines an IMA log by itself: its structure, the hashes of its
// entries, and, where PCR 10 was recorded with it, which prefix leads there.
// Those values are taken as they are: only a quote proves them.
// With a policy, every file measured must be one that it allows.
func AppraiseIMA(raw []byte, recorded eventlog.PCRs, policy *ima.Policy) *scheme.Result {
	v, err := parseIMA(raw)
	if err != nil {
		return scheme.Malformed("IMA log", err)
	}
	r := scheme.NewResult()
	h := v.CheckHashes()
	r.Facts["format"], r.Facts["entries"] = v.Format.String(), v.len()
	r.Facts["templates"], r.Facts["pcrs_used"] = v.Templates(), v.PCRs()
	r.Facts["violations"] = h.Violations
	algs := map[string]bool{}
	for i := range v.Entries {
		alg, _ := v.Entries[i].FileDigest()
		algs[alg] = true
		if i >= MaxMeasurements {
			continue
		}
		r.Measurements = append(r.Measurements, scheme.Measurement{Log: "ima", Number: i + 1, PCR: int(v.Entries[i].PCR),
			Stage: stageFile, What: v.path(i), Digest: v.file(i)})
	}
	if len(algs) == 1 {
		alg, _ := v.Entries[0].FileDigest()
		r.Facts["file_digest_alg"] = alg
	}
	if h.Unknown > 0 {
		r.Leave(scheme.ReasonAlgorithm, "template hashes", fmt.Sprintf("%d entries have hashes of an algorithm that is not known here: what they cover cannot be checked", h.Unknown))
		r.Finish()
		return r
	}
	r.Facts["template_hash_ok"], r.Facts["template_hash_bad"] = h.OK, len(h.Bad)
	for n, number := range h.Bad {
		if n == scheme.MaxReported {
			break
		}
		r.Fail(scheme.ReasonIMAHash, rats.Executables, rats.CryptoFailed, rats.Claim{Name: fmt.Sprintf("IMA entry %d", number),
			Why: fmt.Sprintf("IMA entry %d (%s) is altered: its hash is not that of its content", number, v.path(number-1))})
	}
	r.Facts["pcr10"] = v.pcr10()
	quoted(r, v, recorded)
	if policy != nil {
		for n, d := range policy.Check(v.Log, v.len()) {
			if n == scheme.MaxReported {
				break
			}
			r.Fail(scheme.ReasonFile, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: fmt.Sprintf("IMA entry %d", d.Entry), Why: d.Text})
		}
	}
	if r.Verdict == scheme.Valid {
		r.Hold("IMA log", fmt.Sprintf("%d entries, every hash is that of its entry", v.len()))
	}
	r.Finish()
	return r
}

// stageFile is the stage of what IMA measures.
const stageFile = "program or file"

// pcr10 is what PCR 10 holds after the whole log, for each way of extending it.
func (v *imaView) pcr10() map[string]string {
	out := map[string]string{}
	for _, c := range []struct {
		name string
		alg  tpm2.AlgID
		mode ima.Mode
	}{{"sha1", tpm2.AlgSHA1, ima.PerBank}, {"sha256", tpm2.AlgSHA256, ima.PerBank}, {"sha256_zero_padded_sha1", tpm2.AlgSHA256, ima.PaddedSHA1}} {
		if r, err := v.Replay(c.alg, c.mode); err == nil {
			out[c.name] = hex.EncodeToString(r.PCR(imaPCR))
		}
	}
	return out
}

// quoted finds the prefix that recorded values of PCR 10 belong to.
func quoted(r *scheme.Result, v *imaView, recorded eventlog.PCRs) {
	want := map[tpm2.AlgID][]byte{}
	for alg, bank := range recorded {
		if x := bank[imaPCR]; x != nil {
			want[alg] = x
		}
	}
	if len(want) == 0 {
		return
	}
	start := func(reg register) []byte { return make([]byte, reg.alg.DigestSize()) }
	n, ok := v.prefix(want, start)
	if !ok {
		r.Fail(scheme.ReasonIMA, rats.Executables, rats.CryptoFailed, rats.Claim{Name: "IMA log",
			Why: fmt.Sprintf("the IMA log does not lead to the recorded PCR 10: none of its %d entries ends there", v.len())})
		return
	}
	r.Facts["quoted_pcr10_matches_prefix"] = n
	r.Hold("recorded PCR 10", fmt.Sprintf("%d of %d entries lead to it", n, v.len()))
}
