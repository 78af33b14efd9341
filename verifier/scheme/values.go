package scheme

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
)

// What a file of Values says it is.
const (
	ValuesFormat  = "ashlar-claim-values"
	ValuesVersion = 1
)

// Limits of a file of Values.
const (
	MaxValues    = 4 << 20 // bytes
	maxFactNames = 256
)

// Values are reference values for Evidence whose facts are plain values, such as
// the report of a TEE: for each fact that is named, those that are good.
type Values struct {
	Format  string    `json:"format"`  // ValuesFormat
	Version int       `json:"version"` // ValuesVersion
	Kind    string    `json:"kind"`    // the kind's name
	Created time.Time `json:"created"`
	// OneOf has, by the fact's name, the values of which it must have one: as
	// Facts have it, digests in lower-case hexadecimal. "pcrs.0" is the entry 0 of
	// the fact pcrs.
	OneOf map[string][]string `json:"oneOf,omitempty"`
	// AtLeast has the least value of a fact that is a number, a version for one.
	AtLeast map[string]uint64 `json:"atLeast,omitempty"`

	id string
}

// ParseValues reads a file of Values; it must be for the kind.
func ParseValues(b []byte, kind string) (*Values, error) {
	if len(b) > MaxValues {
		return nil, fmt.Errorf("reference values take %d bytes: at most %d are read", len(b), MaxValues)
	}
	v := &Values{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return nil, fmt.Errorf("reference values for %s cannot be read: %w", kind, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("reference values: something follows their end")
	}
	switch {
	case v.Format != ValuesFormat:
		return nil, fmt.Errorf("reference values have the format %.80q: %q is expected for kind %s", v.Format, ValuesFormat, kind)
	case v.Version != ValuesVersion:
		return nil, fmt.Errorf("reference values have version %d: this program knows %d", v.Version, ValuesVersion)
	case v.Kind != kind:
		return nil, fmt.Errorf("reference values are for kind %.80q, not %s", v.Kind, kind)
	case len(v.OneOf)+len(v.AtLeast) == 0:
		return nil, errors.New("reference values name no fact: anything would be good")
	case len(v.OneOf)+len(v.AtLeast) > maxFactNames:
		return nil, fmt.Errorf("reference values name more than %d facts", maxFactNames)
	}
	for name, list := range v.OneOf {
		if len(list) == 0 {
			return nil, fmt.Errorf("reference values list nothing good for %.80q: leave the fact out, or list values", name)
		}
	}
	sum := sha256.Sum256(b)
	v.id = "sha256:" + hex.EncodeToString(sum[:])
	return v, nil
}

// ID names the values in Attestation Results: the digest of their file.
func (v *Values) ID() string { return v.id }

// Compare holds the facts of a Result against the values, in order of name. of
// gives the category of the vector that a fact belongs to. A category affirms if
// facts of it were compared and all are good.
func (r *Result) Compare(v *Values, of func(fact string) rats.Category) {
	r.PolicyIDs = append(r.PolicyIDs, v.id)
	names := slices.Concat(slices.Collect(maps.Keys(v.OneOf)), slices.Collect(maps.Keys(v.AtLeast)))
	slices.Sort(names)
	compared := map[rats.Category]bool{}
	for _, name := range slices.Compact(names) {
		cat := of(name)
		compared[cat] = true
		if list, ok := v.OneOf[name]; ok {
			r.oneOf(name, list, cat)
		}
		if least, ok := v.AtLeast[name]; ok {
			r.atLeast(name, least, cat)
		}
	}
	for cat := range compared {
		r.Claim(cat, approved(cat))
	}
}

// approved is the value that affirms in a category.
func approved(cat rats.Category) rats.Value {
	switch cat {
	case rats.Executables:
		return rats.ExecutablesBootApproved
	case rats.InstanceIdentity:
		return rats.InstanceKnown
	}
	return rats.ConfigApproved
}

// contradicted is the value of a category that has a fact which is not good.
func contradicted(cat rats.Category) rats.Value {
	if cat == rats.InstanceIdentity {
		return rats.InstanceUnknown
	}
	return rats.ExecutablesContra
}

func (r *Result) oneOf(name string, list []string, cat rats.Category) {
	found, why := r.fact(name)
	if why == "" && slices.Contains(list, found) {
		r.Hold(name, found)
		return
	}
	want := strings.Join(list, " or ")
	if why == "" {
		why = fmt.Sprintf("%s is %s, which is not among the %d reference values: find out what was started, or add it to them", name, found, len(list))
	}
	r.Fail(ReasonReference, cat, contradicted(cat), rats.Claim{Name: name, Expected: want, Found: found, Why: why})
}

func (r *Result) atLeast(name string, least uint64, cat rats.Category) {
	found, why := r.fact(name)
	n, err := strconv.ParseUint(found, 10, 64)
	if why == "" && err == nil && n >= least {
		r.Hold(name, found)
		return
	}
	want := strconv.FormatUint(least, 10)
	if why == "" {
		why = fmt.Sprintf("%s is %s, and at least %s is demanded", name, found, want)
	}
	r.Fail(ReasonReference, cat, contradicted(cat), rats.Claim{Name: name, Expected: "at least " + want, Found: found, Why: why})
}

// fact gives a fact in words, and why it cannot be compared.
func (r *Result) fact(name string) (text, why string) {
	f, ok := r.Facts[name]
	if table, entry, dotted := strings.Cut(name, "."); !ok && dotted {
		if m, _ := r.Facts[table].(map[string]string); m[entry] != "" {
			f = m[entry]
		}
	}
	switch f := f.(type) {
	case string:
		return f, ""
	case bool, int, int64, uint8, uint16, uint32, uint64:
		return fmt.Sprint(f), ""
	case nil:
		return "", fmt.Sprintf("the reference values name %q, and the evidence proves nothing of that name: see which facts --json lists", name)
	}
	return "", fmt.Sprintf("the reference values name %q, which is not a single value: compare its parts", name)
}
