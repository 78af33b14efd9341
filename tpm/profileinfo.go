package tpm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ashlar-cloud/ashlar/internal/blob"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Choice is what a profile could say of one kind of thing and what it says, as
// lists in the form of its JSON.
type Choice struct {
	Implemented   string // all that there are
	CanBeDisabled string // of these, what a custom profile may leave out
	Enabled       string // what the profile shows
	Disabled      string // what it does not
}

// add puts an item in the lists that it belongs to.
func (c *Choice) add(item string, needed, enabled bool) {
	join := func(to *string) {
		if *to != "" {
			*to += ","
		}
		*to += item
	}
	join(&c.Implemented)
	if !needed {
		join(&c.CanBeDisabled)
	}
	if enabled {
		join(&c.Enabled)
	} else {
		join(&c.Disabled)
	}
}

// addSize adds the smallest size of an algorithm's keys.
func (c *Choice) addSize(name string, smallest, least int, enabled bool) {
	c.Implemented += fmt.Sprintf(",%s=%d", name, smallest)
	if enabled && least > 0 {
		c.Enabled += fmt.Sprintf(",%s=%d", name, least)
	}
}

// Algorithms is the profile's choice of algorithms.
func (p *Profile) Algorithms() (c Choice) {
	a, err := parseAlgorithms(p.algorithmList, p.level)
	if err != nil {
		panic(err) // the list has been parsed before
	}
	for _, g := range profileAlgs {
		c.add(g.name, g.needed, a.algs[g.alg])
		switch sizes := profileSizes[g.alg]; {
		case g.alg == tpm2.AlgHMAC:
			c.addSize("hmac-min-key-size", 1, a.minSize[g.alg], true)
		case g.alg == tpm2.AlgECC:
			c.addSize("ecc-min-size", int(sizes[0].bits), a.minSize[g.alg], true)
			for _, group := range curveGroups {
				c.add(group, false, a.groups[group])
			}
			for _, curve := range profileCurves {
				c.add(curve.name, curve.needed, a.curves[curve.curve])
			}
		case sizes != nil:
			c.addSize(g.name+"-min-size", int(sizes[0].bits), max(a.minSize[g.alg], int(sizes[0].bits)), a.algs[g.alg])
		}
	}
	return c
}

// Commands is the profile's choice of commands.
func (p *Profile) Commands() Choice {
	var all, optional, disabled ccSet
	for i := range p.commands.list {
		cc := p.commands.list[i].cc
		all.add(cc)
		if !slices.Contains(neededCommands[:], cc) {
			optional.add(cc)
		}
		if !p.enabled.has(cc) {
			disabled.add(cc)
		}
	}
	return Choice{all.String(), optional.String(), p.enabled.String(), disabled.String()}
}

// Attributes is the profile's choice of attributes, all of which can be left out.
func (p *Profile) Attributes() (c Choice) {
	for _, r := range profileRules {
		c.add(r.name, false, slices.Contains(strings.Split(p.attributeList, ","), r.name))
	}
	return c
}

// Shows reports whether the profile shows a command.
func (p *Profile) Shows(cc tpm2.CC) bool { return p.lookup(cc) != nil }

// KeySizes lists the sizes in bits of the keys of RSA or a block cipher that can
// be made.
func (p *Profile) KeySizes(alg tpm2.AlgID) []uint16 {
	if alg == tpm2.AlgRSA {
		return p.impl.RSABits
	}
	if c := p.impl.Cipher(alg); c != nil {
		return c.KeyBits
	}
	return nil
}

// ProfileOf is the profile of a permanent state.
func ProfileOf(permanent []byte) (*Profile, error) {
	env, err := blob.Decode(permanent)
	if err != nil {
		return nil, err
	}
	return savedProfile(env)
}

// FIPSHostProfile is ParseProfile for a host in FIPS mode, as swtpm's
// remove-disabled=fips-host means it: a custom profile is left without Camellia,
// TDES, RSAES and small keys, and forbids SHA-1 in signatures and RSA without a
// padding. Other profiles stay as they are.
func FIPSHostProfile(text []byte) (*Profile, error) {
	f, err := parseProfileJSON(text)
	if err != nil {
		return nil, err
	}
	if b := builtin(f.name); b == nil || b.name != customName {
		return ParseProfile(text)
	}
	if f.algorithms == "" {
		f.algorithms = algorithmsLibtpms
	}
	f.algorithms = fipsAlgorithms(f.algorithms)
	if !slices.Contains(strings.Split(f.attributes, ","), "fips-host") {
		f.attributes = lastOfEach(strings.TrimPrefix(f.attributes+",no-sha1-signing,no-sha1-verification,no-unpadded-encryption", ","))
	}
	f.hasAttributes = true
	return f.choose()
}

// fipsAlgorithms is a list of algorithms without what FIPS mode forbids, and with
// the smallest sizes that it allows: in place where the list has them.
func fipsAlgorithms(list string) string {
	least := [...]struct {
		name string
		bits uint64
	}{{"rsa-min-size", 2048}, {"ecc-min-size", 224}}
	var items []string
	for item := range strings.SplitSeq(list, ",") {
		switch name, _, _ := strings.Cut(item, "="); name {
		case "camellia", "camellia-min-size", "tdes", "tdes-min-size", "rsaes", "ecc-nist-p192":
		default:
			items = append(items, item)
		}
	}
	for _, l := range least {
		want := fmt.Sprintf("%s=%d", l.name, l.bits)
		i := slices.IndexFunc(items, func(s string) bool { return strings.HasPrefix(s, l.name+"=") })
		if i < 0 {
			items = append(items, want)
			continue
		}
		// What is not a number is refused later.
		if bits, err := strconv.ParseUint(items[i][len(l.name)+1:], 10, 16); err == nil && bits < l.bits {
			items[i] = want
		}
	}
	return strings.Join(items, ",")
}
