package scheme

import (
	"errors"
	"fmt"

	"github.com/ashlar-cloud/ashlar/rats"
)

// Kind is one kind of Evidence.
type Kind struct {
	// Name is what people and lists call it: "sev-snp". It is the name of the
	// submodule in Attestation Results, too.
	Name string
	// Title says in a line what it is.
	Title string
	// Type is the media type under which it travels; empty for what is appraised
	// only as files.
	Type rats.MediaType
	// Takes tells which parts of an Input mean something to it, besides Files,
	// Endorsements and Time.
	Takes Takes
	// One says that it takes exactly one file.
	One bool

	appraise func(*Input) *Result
	own      func(*Input) error
}

// Takes are parts of an Input.
type Takes uint8

// The parts.
const (
	TakesNonce Takes = 1 << iota
	TakesKey
	TakesReferences
	TakesChallenge
	TakesLogs // event log and IMA log beside the Evidence
)

// Has tells whether t has all of u.
func (t Takes) Has(u Takes) bool { return t&u == u }

// New makes a Kind of its description and the function that appraises. The
// function is given at least one file, one alone if k.One, and nothing that the
// kind does not take. own, which may be nil, says what of the caller's own part of
// an Input (endorsements, reference values) cannot be read.
func New(k Kind, appraise func(*Input) *Result, own func(*Input) error) Kind {
	k.appraise, k.own = appraise, own
	return k
}

// CheckOwn says which of the caller's endorsements and reference values cannot be
// read, nil if each can. A service asks before it appraises, for that is its own
// mistake and must not be held against the Attester.
func (k *Kind) CheckOwn(in *Input) error {
	if k.own == nil {
		return nil
	}
	return k.own(in)
}

// Appraise decodes the files and appraises them. What cannot be decoded is
// refused in the Result; the error is for misuse alone: no file, or too many, or
// something given that this kind has no use for.
func (k *Kind) Appraise(in *Input) (*Result, error) {
	switch {
	case len(in.Files) == 0:
		return nil, errors.New("there is nothing to appraise: name at least one file")
	case k.One && len(in.Files) != 1:
		return nil, fmt.Errorf("kind %s takes one file, not %d", k.Name, len(in.Files))
	}
	for _, part := range []struct {
		takes Takes
		given bool
		name  string
	}{
		{TakesNonce, in.HasNonce, "a nonce"},
		{TakesKey, in.Key != nil, "a key"},
		{TakesReferences, in.References != nil, "reference values"},
		{TakesChallenge, in.Challenge != nil, "a challenge"},
	} {
		if part.given && !k.Takes.Has(part.takes) {
			return nil, fmt.Errorf("kind %s has no use for %s: leave it out", k.Name, part.name)
		}
	}
	return k.appraise(in), nil
}
