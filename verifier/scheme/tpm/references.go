package tpm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// Limits of a file of reference values.
const (
	MaxReferences = 64 << 20 // bytes
	maxBoots      = 64
	maxRefEvents  = 1 << 16 // events of one boot
	maxRefFiles   = 1 << 20
)

// What a file of reference values says it is.
const (
	ReferencesFormat  = "ashlar-reference-values"
	ReferencesVersion = 1
)

// References are the measurements that are good. They were taken from one boot
// or more: each PCR's events must be those of one of them, in its order.
type References struct {
	Format  string    `json:"format"`  // ReferencesFormat
	Version int       `json:"version"` // ReferencesVersion
	Created time.Time `json:"created"`
	// Bank is the PCR bank whose digests are listed: "sha256".
	Bank  string    `json:"bank"`
	Boots []RefBoot `json:"boots"`
	// IMA says whether files were measured; if so, no others may be.
	IMA   bool      `json:"ima"`
	Files []RefFile `json:"files,omitempty"`

	alg tpm2.AlgID
	id  string
}

// RefBoot is one good boot.
type RefBoot struct {
	Events []RefEvent `json:"events"`
	// PCRs have values that no log explains; 16 and 23, which anyone may reset,
	// are left out.
	PCRs map[string]string `json:"pcrs,omitempty"`
}

// RefEvent is one good event. Only PCR and Digest are compared; the rest is for
// people.
type RefEvent struct {
	PCR    int    `json:"pcr"`
	Stage  string `json:"stage"`
	What   string `json:"what"`
	Digest string `json:"digest"` // hexadecimal, of the bank
}

// RefFile is a file that may be measured by IMA, by its path and one digest.
type RefFile struct {
	Path   string `json:"path"`
	Digest string `json:"digest"` // "sha256:hex"
}

// ParseReferences reads a file of reference values.
func ParseReferences(b []byte) (*References, error) {
	if len(b) > MaxReferences {
		return nil, fmt.Errorf("the reference values are longer than %d bytes", MaxReferences)
	}
	var r References
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("the reference values cannot be read, they are cut or altered: %w", err)
	}
	if r.Format != ReferencesFormat || r.Version != ReferencesVersion {
		return nil, fmt.Errorf("reference values of format %q version %d: %q version %d is read here", short(r.Format), r.Version, ReferencesFormat, ReferencesVersion)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	r.id = ReferencesID(b)
	return &r, nil
}

// ReferencesID names a file of reference values by its content; a result
// carries it as policy ID.
func ReferencesID(file []byte) string {
	sum := sha256.Sum256(file)
	return "ashlar-refvalues:sha256:" + hex.EncodeToString(sum[:])
}

func (r *References) check() error {
	var ok bool
	if r.alg, ok = eventlog.BankByName(r.Bank); !ok {
		return fmt.Errorf("the reference values are for the bank %q, which is not known", short(r.Bank))
	}
	if len(r.Boots) == 0 || len(r.Boots) > maxBoots || len(r.Files) > maxRefFiles {
		return fmt.Errorf("the reference values have %d boots and %d files: 1 to %d boots and at most %d files are read", len(r.Boots), len(r.Files), maxBoots, maxRefFiles)
	}
	digest := func(s string) bool {
		d, err := hex.DecodeString(s)
		return err == nil && len(d) == r.alg.DigestSize()
	}
	for i := range r.Boots {
		b := &r.Boots[i]
		if len(b.Events)+len(b.PCRs) == 0 {
			return fmt.Errorf("boot %d in the reference values says nothing of any PCR: anything would be as good as it", i+1)
		}
		if len(b.Events) > maxRefEvents {
			return fmt.Errorf("the reference values have more than %d events", maxRefEvents)
		}
		for k, e := range b.Events {
			if e.PCR < 0 || e.PCR >= numPCRs || !digest(e.Digest) {
				return fmt.Errorf("event %d of boot %d in the reference values has no PCR or no digest of bank %s", k+1, i+1, r.Bank)
			}
		}
		for n, v := range b.PCRs {
			if i, err := strconv.Atoi(n); err != nil || i < 0 || i >= numPCRs || strconv.Itoa(i) != n || !digest(v) {
				return fmt.Errorf("PCR %q in the reference values is none, or its value is not one of bank %s", short(n), r.Bank)
			}
		}
	}
	for i, f := range r.Files {
		if alg, digits, ok := strings.Cut(f.Digest, ":"); f.Path == "" || !ok || alg == "" || digits == "" {
			return fmt.Errorf("file %d in the reference values has no path or no digest like sha256:hex", i+1)
		} else if _, err := hex.DecodeString(digits); err != nil {
			return fmt.Errorf("file %d in the reference values (%s) has a digest that is not hexadecimal", i+1, short(f.Path))
		}
	}
	return nil
}

// MakeReferences takes reference values from the Evidence of good boots. Each
// must hold by itself: a quote, signed, of a log that replays. Whether the boot
// was good is the caller's to know. Without an event log the PCRs' values are the
// reference.
func MakeReferences(boots []*Evidence, now time.Time) (*References, error) {
	refs := &References{Format: ReferencesFormat, Version: ReferencesVersion, Created: now.UTC().Truncate(time.Second)}
	seen := map[RefFile]bool{}
	for i, ev := range boots {
		a := &appraisal{Request: Request{Evidence: ev, Time: now}, Result: scheme.NewResult(), ev: ev, imaUsed: -1}
		if err := a.confirmed(); err != nil {
			return nil, fmt.Errorf("no reference values can be taken from boot %d: %w", i+1, err)
		}
		alg, ok := a.bestBank()
		if !ok {
			return nil, fmt.Errorf("no reference values can be taken from boot %d: its event log has no bank in common with its quote", i+1)
		}
		if refs.alg == 0 {
			refs.alg, refs.Bank, refs.IMA = alg, alg.String(), a.imaUsed > 0
		}
		if refs.alg != alg || refs.IMA != (a.imaUsed > 0) {
			return nil, fmt.Errorf("boot %d has another PCR bank, or an IMA log where the others have none", i+1)
		}
		refs.Boots = append(refs.Boots, a.refBoot(alg))
		for k := range max(a.imaUsed, 0) {
			f := RefFile{a.ima.path(k), a.ima.file(k)}
			if !a.ima.violation(k) && !a.ima.Entries[k].Comparable() {
				return nil, fmt.Errorf("no reference values can be taken from boot %d: IMA entry %d (%s) is of template %s, which does not tell a file and its digest", i+1, k+1, f.Path, a.ima.Entries[k].Template.Name)
			}
			if a.ima.violation(k) || a.ima.Entries[k].IsBootAggregate() || seen[f] {
				continue
			}
			seen[f] = true
			refs.Files = append(refs.Files, f)
		}
	}
	return refs, refs.check()
}

// confirmed runs the parts of an appraisal that do not need reference values.
func (a *appraisal) confirmed() error {
	if len(a.ev.Quotes) == 0 {
		return errors.New("there is no quote in it")
	}
	if a.decode() {
		a.chooseKey()
		a.readLogs()
		a.checkQuotes()
		a.checkEventLog()
		a.checkIMA()
		a.measure()
	}
	if a.Verdict != scheme.Valid {
		return fmt.Errorf("it does not hold by itself: %s", a.Why()[0])
	}
	return nil
}

func (a *appraisal) refBoot(alg tpm2.AlgID) RefBoot {
	b := RefBoot{PCRs: map[string]string{}}
	explained := map[int]bool{imaPCR: a.imaUsed > 0, 16: true, 23: true}
	for _, m := range a.Measurements {
		if m.Log != "event" {
			continue
		}
		explained[m.PCR] = true
		b.Events = append(b.Events, RefEvent{PCR: m.PCR, Stage: m.Stage, What: m.What, Digest: bare(m.Digest)})
	}
	for n, v := range a.PCRs[alg] {
		if !explained[n] {
			b.PCRs[strconv.Itoa(n)] = hex.EncodeToString(v)
		}
	}
	return b
}

// bare is a digest without its algorithm.
func bare(digest string) string {
	for i := range digest {
		if digest[i] == ':' {
			return digest[i+1:]
		}
	}
	return digest
}
