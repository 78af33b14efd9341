package tpm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ashlar-cloud/ashlar/internal/blob"
	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Profile is what a TPM shows of the commands and algorithms that there are,
// and the rules it holds their use to. It is chosen when a TPM is made, stays
// with its state, and cannot be changed. One that was read is never modified,
// so that engines can share it.
type Profile struct {
	name          string
	level         int    // StateFormatLevel
	commandList   string // as given, such as "0x11f-0x122,0x124"
	algorithmList string // as given, such as "rsa,rsa-min-size=2048"
	attributeList string // as given, such as "no-sha1-signing"
	description   string
	// hasAttributes: attributes was given, if only as an empty list.
	hasAttributes bool

	commands *commandSet // that the engine has
	enabled  ccSet       // of these, what the profile shows
	impl     tpm2.Implementation
	minHMAC  int // bits of the shortest key of an HMAC
	rules    rule
}

// engineImpl is every algorithm, curve and size that the engine has: what
// ashlar-v1 shows, and what the other profiles restrict.
var engineImpl = tpm2.Implementation{
	Hashes:  []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512},
	RSABits: []uint16{1024, 2048, 3072, 4096},
	Curves: []tpm2.ECCCurve{tpm2.CurveP192, tpm2.CurveP224, tpm2.CurveP256, tpm2.CurveP384, tpm2.CurveP521,
		tpm2.CurveBNP256, tpm2.CurveBNP638, tpm2.CurveSM2},
	Ciphers: []tpm2.Cipher{{Alg: tpm2.AlgTDES, KeyBits: []uint16{128, 192}}, {Alg: tpm2.AlgAES, KeyBits: []uint16{128, 192, 256}},
		{Alg: tpm2.AlgCamellia, KeyBits: []uint16{128, 192, 256}}},
	RSASchemes: []tpm2.AlgID{tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgRSAES, tpm2.AlgOAEP},
	ECCSchemes: []tpm2.AlgID{tpm2.AlgECDSA, tpm2.AlgECDH, tpm2.AlgECDAA, tpm2.AlgSM2, tpm2.AlgECSchnorr,
		tpm2.AlgECMQV},
	SymModes:    []tpm2.AlgID{tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB, tpm2.AlgCMAC},
	MaxRSABytes: 512,
	MaxHashes:   pcr.Banks,
}

// Levels of a profile: the version of libtpms' state that it needs. The first
// is that of libtpms 0.9, which does not know profiles; the last is ours, for
// what libtpms lacks.
const (
	levelNull   = 1
	levelCustom = 2   // the lowest that can be chosen
	levelLast   = 8   // libtpms 0.11
	levelAshlar = 100 // the commands of versions 1.83 and 1.84 that libtpms lacks
)

// What libtpms enables; "null" is without what came after its version 0.9.
const (
	commandsNull = "0x11f-0x122,0x124-0x12e,0x130-0x140,0x142-0x159,0x15b-0x15e,0x160-0x165," +
		"0x167-0x174,0x176-0x178,0x17a-0x193,0x197"
	commandsLibtpms   = commandsNull + ",0x199-0x19c"
	commandsAshlar    = commandsNull + ",0x198-0x1a0"
	algorithmsLibtpms = "rsa,rsa-min-size=1024,tdes,tdes-min-size=128,sha1,hmac,aes,aes-min-size=128," +
		"mgf1,keyedhash,xor,sha256,sha384,sha512,null,rsassa,rsaes,rsapss,oaep,ecdsa,ecdh,ecdaa,sm2," +
		"ecschnorr,ecmqv,kdf1-sp800-56a,kdf2,kdf1-sp800-108,ecc,ecc-min-size=192,ecc-nist,ecc-bn," +
		"ecc-sm2-p256,symcipher,camellia,camellia-min-size=128,cmac,ctr,ofb,cbc,cfb,ecb"
)

// The names of the profiles that need more than their name to be told apart.
const (
	nullName     = "null"
	customName   = "custom"
	customPrefix = customName + ":"
)

// profileFields are the members of a profile's JSON, unset ones empty.
type profileFields struct {
	name, commands, algorithms, attributes, description string
	hasAttributes                                       bool
	level                                               int
}

// builtins are the profiles with a meaning of their own. What one of them shows
// never changes, but for ashlar-v1 before the first release.
var builtins = [...]profileFields{
	{name: "ashlar-v1", commands: commandsAshlar, algorithms: algorithmsLibtpms, level: levelAshlar,
		description: "All that this TPM has: the commands of versions 1.83 and 1.84 of the library " +
			"specification too. libtpms cannot take its state over."},
	{name: "default-v2", commands: commandsLibtpms, algorithms: algorithmsLibtpms, level: levelLast,
		description: "The commands and algorithms of libtpms 0.11."},
	{name: "default-v1", commands: commandsLibtpms, algorithms: algorithmsLibtpms, level: 7,
		description: "The commands and algorithms of libtpms 0.10."},
	{name: nullName, commands: commandsNull, algorithms: algorithmsLibtpms, level: levelNull,
		description: "The commands and algorithms of libtpms 0.9: what a TPM shows that was made without a profile."},
	{name: customName, commands: commandsLibtpms, algorithms: algorithmsLibtpms,
		description: "Commands, algorithms and attributes of one's own choice."},
}

// nullProfile is that of an instance made without a profile.
var nullProfile = builtinProfile(nullName)

// builtinProfile makes one of the builtins; they are all valid.
func builtinProfile(name string) *Profile {
	p, err := newProfile(*builtin(name))
	if err != nil {
		panic(err)
	}
	return p
}

// builtin finds the profile that a name is of, nil where there is none. All
// names that begin with "custom:" are custom.
func builtin(name string) *profileFields {
	for i := range builtins {
		if b := &builtins[i]; b.name == name || b.name == customName && strings.HasPrefix(name, customPrefix) {
			return b
		}
	}
	return nil
}

// Profiles lists the profiles that can be chosen by name alone, the fullest
// first.
func Profiles() []*Profile {
	list := make([]*Profile, len(builtins))
	for i := range builtins {
		list[i] = builtinProfile(builtins[i].name)
	}
	return list
}

// Name is the profile's name: "null", "default-v1", "default-v2", "ashlar-v1",
// "custom", or "custom:" and a name of one's own.
func (p *Profile) Name() string { return p.name }

// lookup gives a command, or nil where the profile does not show it.
func (p *Profile) lookup(cc tpm2.CC) *command {
	if !p.enabled.has(cc) {
		return nil
	}
	return p.commands.lookup(cc)
}

// shown lists the commands that the profile shows, in ascending order of code.
func (p *Profile) shown() []*command {
	list := make([]*command, 0, len(p.commands.list))
	for i := range p.commands.list {
		if d := &p.commands.list[i]; p.enabled.has(d.cc) {
			list = append(list, d)
		}
	}
	return list
}

// has reports whether a rule is in force.
func (p *Profile) has(r rule) bool { return p.rules&r != 0 }

// profileTag is the section of a permanent state that holds its profile. It is
// read before the others, and not there for null.
const (
	profileTag     = 0x0100
	profileVersion = 1
)

// section is the profile as a section of the permanent state.
func (p *Profile) section() []blob.Section {
	if p.name == nullName {
		return nil
	}
	return []blob.Section{{Tag: profileTag, Version: profileVersion, MinVersion: profileVersion, Data: p.JSON()}}
}

// savedProfile is the profile of a permanent state.
func savedProfile(env *blob.Envelope) (*Profile, error) {
	s := env.Find(profileTag)
	if s == nil {
		return nullProfile, nil
	}
	p, err := RestoreProfile(s.Data)
	if newer := new(newerProfile); errors.As(err, &newer) {
		return nil, fmt.Errorf("%w: %w", blob.ErrVersion, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", blob.ErrDamaged, err)
	}
	return p, nil
}

// setProfile puts a profile in force.
func (e *Engine) setProfile(p *Profile) {
	e.profile = p
	if p.has(drbgContinuousTest) {
		e.cfg.Entropy = &continuous{source: e.cfg.Entropy}
	}
}

// banks checks a choice of PCR banks; all that there are where it is empty.
func (p *Profile) banks(chosen []tpm2.AlgID) ([]tpm2.AlgID, error) {
	for _, alg := range chosen {
		if !slices.Contains(p.impl.Hashes, alg) {
			return nil, fmt.Errorf("the profile %s has no PCR bank %s", p.name, alg)
		}
	}
	if len(chosen) == 0 {
		return p.impl.Hashes, nil
	}
	return chosen, nil
}

// Profile is what the TPM shows.
func (e *Engine) Profile() *Profile { return e.profile }

// restrict is the part of engineImpl that a choice of algorithms leaves.
func (a *algChoice) restrict(level int) tpm2.Implementation {
	enabled := func(alg tpm2.AlgID) bool { return a.algs[alg] }
	size := func(alg tpm2.AlgID) func(uint16) bool {
		return func(bits uint16) bool { return int(bits) >= a.minSize[alg] && sizeLevel(alg, bits) <= level }
	}
	i := tpm2.Implementation{
		Hashes:  keep(engineImpl.Hashes, enabled),
		RSABits: keep(engineImpl.RSABits, size(tpm2.AlgRSA)),
		Curves: keep(engineImpl.Curves, func(c tpm2.ECCCurve) bool {
			return a.curves[c] && curveBits(c) >= a.minSize[tpm2.AlgECC]
		}),
		RSASchemes:  keep(engineImpl.RSASchemes, enabled),
		ECCSchemes:  keep(engineImpl.ECCSchemes, enabled),
		SymModes:    keep(engineImpl.SymModes, enabled),
		MaxRSABytes: int(slices.Max(keep(engineImpl.RSABits, func(b uint16) bool { return sizeLevel(tpm2.AlgRSA, b) <= level }))) / 8,
		MaxHashes:   engineImpl.MaxHashes,
	}
	for _, c := range engineImpl.Ciphers {
		if a.algs[c.Alg] {
			i.Ciphers = append(i.Ciphers, tpm2.Cipher{Alg: c.Alg, KeyBits: keep(c.KeyBits, size(c.Alg))})
		}
	}
	return i
}
