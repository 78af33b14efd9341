package ima

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Limits of a policy. A distribution's packages hold some hundred thousand
// files.
const (
	MaxPolicySize     = 512 << 20 // bytes of JSON
	MaxPolicyExcludes = 4096      // patterns
)

// FileDigest is an allowed digest of a file. Alg is the kernel's name of the
// algorithm, or "" where only the digest's length tells.
type FileDigest struct {
	Alg   string
	Value []byte
}

// Policy is the set of files that a machine may have measured: by path the
// digests allowed, and patterns of paths that do not matter. The zero value
// allows nothing but the boot aggregate.
type Policy struct {
	digests  map[string][]FileDigest
	excludes []*regexp.Regexp
}

// Allow adds a digest for a path. The path is as logged: with "_" for a space.
func (p *Policy) Allow(path string, d FileDigest) {
	if p.digests == nil {
		p.digests = map[string][]FileDigest{}
	}
	for _, have := range p.digests[path] {
		if have.Alg == d.Alg && bytes.Equal(have.Value, d.Value) {
			return
		}
	}
	p.digests[path] = append(p.digests[path], FileDigest{d.Alg, bytes.Clone(d.Value)})
}

// Exclude adds a regular expression (RE2 syntax) that is matched at the start
// of paths, as Keylime does: files it matches are not compared.
func (p *Policy) Exclude(pattern string) error {
	if len(p.excludes) >= MaxPolicyExcludes {
		return fmt.Errorf("IMA policy: more than %d patterns to exclude, the limit", MaxPolicyExcludes)
	}
	re, err := regexp.Compile("^(?:" + pattern + ")")
	if err != nil {
		return fmt.Errorf("IMA policy: pattern %q: %w", pattern, err)
	}
	p.excludes = append(p.excludes, re)
	return nil
}

// Len is the number of paths listed.
func (p *Policy) Len() int { return len(p.digests) }

// Learn allows every file of a log that was measured for sure: it makes
// reference values from a machine that is trusted.
func (p *Policy) Learn(l *Log) {
	for i := range l.Entries {
		e := &l.Entries[i]
		if e.Violation() || e.IsBootAggregate() || !e.Comparable() {
			continue
		}
		alg, digest := e.FileDigest()
		p.Allow(e.Path(), FileDigest{alg, digest})
	}
}

// DeviationKind says how an entry breaks a policy.
type DeviationKind uint8

// The kinds.
const (
	Unlisted      DeviationKind = iota // the policy does not know the path
	Changed                            // it knows the path with other digests
	Unmeasurable                       // a violation: the kernel could not measure for sure
	NotComparable                      // the entry's template has no path or digest
)

// String gives "unlisted", "changed", "violation" or "not comparable".
func (k DeviationKind) String() string {
	return [...]string{"unlisted", "changed", "violation", "not comparable"}[min(k, NotComparable)]
}

// MarshalText gives the name.
func (k DeviationKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Deviation is one entry that a policy does not allow.
type Deviation struct {
	Entry int // its number
	Path  string
	Kind  DeviationKind
	Text  string // one sentence that names the file
}

// Check compares the first n entries of a log, those that a quote confirms,
// with the policy. The boot aggregate that begins a log is left to
// CheckBootAggregate; what has its name later is a file like others.
func (p *Policy) Check(l *Log, n int) []Deviation {
	var list []Deviation
	for i := range l.Entries[:max(0, min(n, len(l.Entries)))] {
		e := &l.Entries[i]
		if i == 0 && e.IsBootAggregate() && e.Comparable() {
			continue
		}
		if kind, text, ok := p.check(e); !ok {
			list = append(list, Deviation{e.Number, e.Path(), kind, fmt.Sprintf("IMA entry %d: %s", e.Number, text)})
		}
	}
	return list
}

func (p *Policy) check(e *Entry) (kind DeviationKind, text string, ok bool) {
	path := e.PathBytes()
	if !e.Comparable() && !(e.Violation() && len(path) > 0) {
		return NotComparable, "its template " + e.Template.Name + " tells no path and digest that could be compared", false
	}
	for _, re := range p.excludes {
		if re.Match(path) {
			return 0, "", true
		}
	}
	if e.Violation() {
		return Unmeasurable, violation(e, clean(string(path))), false
	}
	allowed, listed := p.digests[string(path)]
	alg, digest := e.FileDigest()
	if !listed {
		return Unlisted, fmt.Sprintf("%s is not in the list of allowed files (%s:%x)", clean(string(path)), clean(alg), digest), false
	}
	for _, d := range allowed {
		if (d.Alg == "" || d.Alg == alg) && bytes.Equal(d.Value, digest) {
			return 0, "", true
		}
	}
	return Changed, fmt.Sprintf("%s has changed: %s:%x is not among its %d allowed digests",
		clean(string(path)), clean(alg), digest, len(allowed)), false
}

// policyJSON is the part of Keylime's runtime policy that is compared here.
type policyJSON struct {
	Digests  map[string][]string `json:"digests"`
	Excludes []string            `json:"excludes"`
}

// ParsePolicy reads a policy in JSON: {"digests": {path: [digest, …]},
// "excludes": [pattern, …]}, where a digest is hexadecimal or "alg:hexadecimal".
// Runtime policies of Keylime are read; what they say of keyrings and buffers
// is left out.
func ParsePolicy(raw []byte) (*Policy, error) {
	if len(raw) > MaxPolicySize {
		return nil, fmt.Errorf("IMA policy: %d bytes, the limit is %d", len(raw), MaxPolicySize)
	}
	var in policyJSON
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fmt.Errorf("IMA policy: not the JSON of a policy: %w", err)
	}
	if in.Digests == nil {
		return nil, errors.New(`IMA policy: the object has no "digests"`)
	}
	p := &Policy{digests: make(map[string][]FileDigest, len(in.Digests))}
	for path, list := range in.Digests {
		for _, text := range list {
			alg, digits, ok := strings.Cut(text, ":")
			if !ok {
				alg, digits = "", text
			}
			value, err := hex.DecodeString(digits)
			if err != nil || len(value) == 0 {
				return nil, fmt.Errorf("IMA policy: %s: %q is no digest", clean(path), clean(text))
			}
			// IMA writes "_" for a space in what it logs.
			p.Allow(strings.ReplaceAll(path, " ", "_"), FileDigest{alg, value})
		}
	}
	for _, pattern := range in.Excludes {
		if err := p.Exclude(pattern); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// MarshalJSON writes the form that ParsePolicy reads.
func (p *Policy) MarshalJSON() ([]byte, error) {
	out := policyJSON{Digests: make(map[string][]string, len(p.digests)), Excludes: []string{}}
	for path, list := range p.digests {
		for _, d := range list {
			text := hex.EncodeToString(d.Value)
			if d.Alg != "" {
				text = d.Alg + ":" + text
			}
			out.Digests[path] = append(out.Digests[path], text)
		}
	}
	for _, re := range p.excludes {
		s := re.String()
		out.Excludes = append(out.Excludes, s[len("^(?:"):len(s)-1])
	}
	return json.Marshal(out)
}
