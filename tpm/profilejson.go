package tpm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// MaxProfile is the length in bytes of the longest profile's JSON.
const MaxProfile = 16384

// Lengths in bytes that a profile's name and description are cut at.
const (
	maxProfileName        = 32
	maxProfileDescription = 250
)

// ParseProfile reads a profile as a person chooses it, in libtpms' form: an
// object with "Name" and, for custom profiles, any of "Commands", "Algorithms",
// "Attributes", "StateFormatLevel" and "Description". What is left out of a
// custom profile is what libtpms enables. The error is one sentence for a
// person.
func ParseProfile(text []byte) (*Profile, error) {
	f, err := parseProfileJSON(text)
	if err != nil {
		return nil, err
	}
	return f.choose()
}

// choose makes the profile that a person has described.
func (f profileFields) choose() (*Profile, error) {
	b := builtin(f.name)
	if b == nil {
		return nil, unknownProfile(f.name)
	}
	if b.name != customName {
		if f.commands != "" || f.algorithms != "" || f.hasAttributes || f.description != "" || f.level != 0 {
			return nil, fmt.Errorf("the profile %s cannot be changed: name it custom, or custom: and a name of your own", f.name)
		}
		return newProfile(*b)
	}
	if f.level != 0 && f.level < levelCustom {
		return nil, fmt.Errorf("the profile's StateFormatLevel %d is below the smallest, %d", f.level, levelCustom)
	}
	p, err := newProfile(f.withDefaults(b))
	if err != nil {
		return nil, err
	}
	return p, p.checkSizes()
}

// checkSizes refuses a choice of smallest sizes that leaves an algorithm without
// a key, which libtpms lets pass.
func (p *Profile) checkSizes() error {
	switch {
	case len(p.impl.RSABits) == 0:
		return noSize(tpm2.AlgRSA)
	case len(p.impl.Curves) == 0:
		return noSize(tpm2.AlgECC)
	}
	for _, c := range p.impl.Ciphers {
		if len(c.KeyBits) == 0 {
			return noSize(c.Alg)
		}
	}
	return nil
}

func noSize(alg tpm2.AlgID) error { return fmt.Errorf("the profile leaves no key size of %s", alg) }

// RestoreProfile reads a profile as a state holds it, this program's or
// libtpms': what Profile.JSON gave. Empty text stands for null, since a state
// of libtpms 0.9 has none. Characters that libtpms takes and ParseProfile does
// not, in words for people, become question marks.
func RestoreProfile(text []byte) (*Profile, error) {
	if len(text) == 0 {
		return nullProfile, nil
	}
	text = bytes.Clone(text)
	for i, c := range text {
		if c > '~' || c == '\\' {
			text[i] = '?'
		}
	}
	f, err := parseProfileJSON(text)
	if err != nil {
		return nil, err
	}
	b := builtin(f.name)
	switch {
	case b == nil:
		return nil, &newerProfile{unknownProfile(f.name)}
	case b.name == nullName:
		return nullProfile, nil
	case f.level == 0:
		return nil, errors.New("the saved profile has no StateFormatLevel")
	}
	p, err := newProfile(f.withDefaults(b))
	if err != nil {
		return nil, &newerProfile{err}
	}
	return p, nil
}

// newerProfile is the error of a profile with what this program does not know: a
// newer one may.
type newerProfile struct{ error }

func unknownProfile(name string) error {
	names := make([]string, len(builtins))
	for i := range builtins {
		names[i] = builtins[i].name
	}
	return fmt.Errorf("there is no profile %q: there are %s, and custom: with a name of your own", name, strings.Join(names, ", "))
}

// withDefaults fills in what a profile leaves to the one its name is of.
func (f profileFields) withDefaults(b *profileFields) profileFields {
	if f.algorithms == "" {
		f.algorithms = b.algorithms
	}
	if f.description == "" {
		f.description = b.description
	}
	return f
}

// parseProfileJSON reads the members of a profile.
func parseProfileJSON(text []byte) (f profileFields, err error) {
	if len(text) > MaxProfile {
		return f, fmt.Errorf("the profile has %d bytes: %d is the limit", len(text), MaxProfile)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return f, fmt.Errorf("the profile is not a JSON object: %v", err)
	}
	for name, raw := range members {
		if err := f.set(name, raw); err != nil {
			return f, err
		}
	}
	if f.name == "" {
		return f, errors.New("the profile has no Name")
	}
	f.name = f.name[:min(len(f.name), maxProfileName)]
	f.description = f.description[:min(len(f.description), maxProfileDescription)]
	f.commands, f.algorithms, f.attributes = lastOfEach(f.commands), lastOfEach(f.algorithms), lastOfEach(f.attributes)
	return f, nil
}

// set takes one member in.
func (f *profileFields) set(name string, raw json.RawMessage) error {
	if name == "StateFormatLevel" {
		level, err := strconv.ParseUint(string(raw), 10, 16)
		switch {
		case err != nil:
			return fmt.Errorf("the profile's StateFormatLevel %s is not a number", raw)
		case level > levelLast && level != levelAshlar:
			return &newerProfile{fmt.Errorf("the profile's StateFormatLevel %d is above the highest, %d", level, levelLast)}
		}
		f.level = int(level)
		return nil
	}
	to := map[string]*string{"Name": &f.name, "Commands": &f.commands, "Algorithms": &f.algorithms,
		"Attributes": &f.attributes, "Description": &f.description}[name]
	if to == nil {
		return &newerProfile{fmt.Errorf("the profile has a member %q, which there is not", name)}
	}
	if err := json.Unmarshal(raw, to); err != nil || len(raw) == 0 || raw[0] != '"' {
		return fmt.Errorf("the profile's %s is not a string", name)
	}
	f.hasAttributes = f.hasAttributes || name == "Attributes"
	// libtpms, which may be given this, reads no escapes.
	if strings.ContainsFunc(*to, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		return fmt.Errorf("the profile's %s has a character that is not printable ASCII, or a quote or a backslash", name)
	}
	if *to == "" && name != "Attributes" {
		return fmt.Errorf("the profile's %s is empty", name)
	}
	return nil
}

// lastOfEach keeps of the items of a list that say the same, or set the same
// size, only the last.
func lastOfEach(list string) string {
	items := strings.Split(list, ",")
	last := make(map[string]int, len(items))
	for i, item := range items {
		key, _, _ := strings.Cut(item, "=")
		last[key] = i
	}
	kept := items[:0]
	for i, item := range items {
		if key, _, _ := strings.Cut(item, "="); last[key] == i {
			kept = append(kept, item)
		}
	}
	return strings.Join(kept, ",")
}

// newProfile makes a profile whose algorithms are given. A level of 0 becomes
// what the rest needs; commands that are not given become what libtpms enables
// up to the level.
func newProfile(f profileFields) (*Profile, error) {
	limit := f.level
	if limit == 0 {
		limit = levelAshlar
	}
	rules, level, err := parseAttributes(f.attributes, limit)
	if err != nil {
		return nil, err
	}
	algs, err := parseAlgorithms(f.algorithms, limit)
	if err != nil {
		return nil, err
	}
	filter := f.commands == ""
	if filter {
		f.commands = commandsLibtpms
	}
	set, need, err := parseCommands(f.commands, limit, filter)
	if err != nil {
		return nil, err
	}
	if filter {
		f.commands = set.String()
	}
	level = max(f.level, level, algs.level, need)
	if f.name != nullName {
		level = max(level, levelCustom)
	}
	return &Profile{
		name: f.name, level: level, commandList: f.commands, algorithmList: f.algorithms,
		attributeList: f.attributes, hasAttributes: f.hasAttributes, description: f.description,
		commands: registry, enabled: set, impl: algs.restrict(level), minHMAC: algs.minSize[tpm2.AlgHMAC], rules: rules,
	}, nil
}

// JSON is the profile with all that it implies, as libtpms writes it into a
// state: RestoreProfile gives it back.
func (p *Profile) JSON() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"Name":"%s","StateFormatLevel":%d,"Commands":"%s","Algorithms":"%s"`,
		p.name, p.level, p.commandList, p.algorithmList)
	if p.hasAttributes {
		fmt.Fprintf(&b, `,"Attributes":"%s"`, p.attributeList)
	}
	fmt.Fprintf(&b, `,"Description":"%s"}`, p.description)
	return b.Bytes()
}
