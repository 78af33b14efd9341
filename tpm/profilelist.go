package tpm

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// profileAlg is an algorithm as profiles name it.
type profileAlg struct {
	name   string
	alg    tpm2.AlgID
	needed bool // cannot be left out
}

// profileAlgs are the algorithms of libtpms' profiles. What the TPM itself
// protects contexts and blobs with is needed.
var profileAlgs = [...]profileAlg{
	{"rsa", tpm2.AlgRSA, true}, {"tdes", tpm2.AlgTDES, false}, {"sha1", tpm2.AlgSHA1, false},
	{"hmac", tpm2.AlgHMAC, true}, {"aes", tpm2.AlgAES, true}, {"mgf1", tpm2.AlgMGF1, true},
	{"keyedhash", tpm2.AlgKeyedHash, true}, {"xor", tpm2.AlgXOR, true}, {"sha256", tpm2.AlgSHA256, true},
	{"sha384", tpm2.AlgSHA384, true}, {"sha512", tpm2.AlgSHA512, false}, {"null", tpm2.AlgNull, true},
	{"rsassa", tpm2.AlgRSASSA, false}, {"rsaes", tpm2.AlgRSAES, false}, {"rsapss", tpm2.AlgRSAPSS, false},
	{"oaep", tpm2.AlgOAEP, true}, {"ecdsa", tpm2.AlgECDSA, true}, {"ecdh", tpm2.AlgECDH, true},
	{"ecdaa", tpm2.AlgECDAA, false}, {"sm2", tpm2.AlgSM2, false}, {"ecschnorr", tpm2.AlgECSchnorr, false},
	{"ecmqv", tpm2.AlgECMQV, false}, {"kdf1-sp800-56a", tpm2.AlgKDF1SP80056A, true},
	{"kdf2", tpm2.AlgKDF2, true}, {"kdf1-sp800-108", tpm2.AlgKDF1SP800108, true}, {"ecc", tpm2.AlgECC, true},
	{"symcipher", tpm2.AlgSymCipher, true}, {"camellia", tpm2.AlgCamellia, false}, {"cmac", tpm2.AlgCMAC, false},
	{"ctr", tpm2.AlgCTR, false}, {"ofb", tpm2.AlgOFB, false}, {"cbc", tpm2.AlgCBC, false},
	{"cfb", tpm2.AlgCFB, true}, {"ecb", tpm2.AlgECB, false},
}

// profileCurves are the curves, with their sizes in bits.
var profileCurves = [...]struct {
	name   string
	curve  tpm2.ECCCurve
	bits   int
	needed bool
}{
	{"ecc-nist-p192", tpm2.CurveP192, 192, false}, {"ecc-nist-p224", tpm2.CurveP224, 224, false},
	{"ecc-nist-p256", tpm2.CurveP256, 256, true}, {"ecc-nist-p384", tpm2.CurveP384, 384, true},
	{"ecc-nist-p521", tpm2.CurveP521, 521, false}, {"ecc-bn-p256", tpm2.CurveBNP256, 256, false},
	{"ecc-bn-p638", tpm2.CurveBNP638, 638, false}, {"ecc-sm2-p256", tpm2.CurveSM2, 256, false},
}

// curveBits is the size of a curve in bits.
func curveBits(curve tpm2.ECCCurve) int {
	for _, c := range profileCurves {
		if c.curve == curve {
			return c.bits
		}
	}
	return 0
}

// curveGroups stand for all curves whose names begin with theirs.
var curveGroups = [...]string{"ecc-nist", "ecc-bn"}

// profileSizes are the key sizes in bits of the algorithms whose smallest one
// can be set, with the level that each needs.
var profileSizes = map[tpm2.AlgID][]struct {
	bits  uint16
	level int
}{
	tpm2.AlgRSA:      {{1024, 1}, {2048, 1}, {3072, 1}, {4096, 8}},
	tpm2.AlgTDES:     {{128, 1}, {192, 1}},
	tpm2.AlgAES:      {{128, 1}, {192, 4}, {256, 1}},
	tpm2.AlgCamellia: {{128, 1}, {192, 4}, {256, 1}},
	tpm2.AlgECC:      {{192, 1}, {224, 1}, {256, 1}, {384, 1}, {521, 1}, {638, 1}},
}

// sizeLevel is the level that a key size needs.
func sizeLevel(alg tpm2.AlgID, bits uint16) int {
	for _, s := range profileSizes[alg] {
		if s.bits == bits {
			return s.level
		}
	}
	return levelNull
}

// Sizes that a profile may ask for, in bits.
const (
	maxMinSize = 4096
	maxMinHMAC = 1024 // of the largest TPM2B_SENSITIVE_DATA
)

// minHMACLevel is the level that a smallest key size of an HMAC needs.
const minHMACLevel = 7

// algChoice is what a profile's Algorithms say.
type algChoice struct {
	algs    map[tpm2.AlgID]bool
	curves  map[tpm2.ECCCurve]bool
	groups  map[string]bool    // of curves
	minSize map[tpm2.AlgID]int // bits
	level   int                // that it needs
}

// parseAlgorithms reads a list of algorithms; limit is the highest level that
// it may need.
func parseAlgorithms(list string, limit int) (*algChoice, error) {
	a := &algChoice{algs: map[tpm2.AlgID]bool{}, curves: map[tpm2.ECCCurve]bool{},
		groups: map[string]bool{}, minSize: map[tpm2.AlgID]int{}}
	for item := range strings.SplitSeq(list, ",") {
		if err := a.add(item, limit); err != nil {
			return nil, err
		}
	}
	for _, p := range profileAlgs {
		if p.needed && !a.algs[p.alg] {
			return nil, fmt.Errorf("the profile leaves out the algorithm %s, which a TPM needs", p.name)
		}
	}
	for _, c := range profileCurves {
		if c.needed && !a.curves[c.curve] {
			return nil, fmt.Errorf("the profile leaves out the curve %s, which a TPM needs", c.name)
		}
		if !c.needed && c.bits < a.minSize[tpm2.AlgECC] {
			delete(a.curves, c.curve)
		}
	}
	if a.minSize[tpm2.AlgAES] > 128 && a.minSize[tpm2.AlgRSA] == 2048 {
		return nil, fmt.Errorf("the profile asks for aes-min-size=%d with rsa-min-size=2048: an RSA 2048 endorsement key "+
			"has AES 128", a.minSize[tpm2.AlgAES])
	}
	return a, nil
}

// add takes one item of the list in.
func (a *algChoice) add(item string, limit int) error {
	name, value, sized := strings.Cut(item, "=")
	if sized {
		return a.addSize(item, name, value, limit)
	}
	for _, p := range profileAlgs {
		if p.name == name {
			a.algs[p.alg] = true
			a.level = max(a.level, levelNull)
			return nil
		}
	}
	found, group := false, slices.Contains(curveGroups[:], name)
	if group {
		a.groups[name] = true
	}
	for _, c := range profileCurves {
		if c.name == name || group && strings.HasPrefix(c.name, name+"-") {
			a.curves[c.curve] = true
			found = true
		}
	}
	if !found {
		return fmt.Errorf("the profile names the algorithm %q, which is not one of a TPM's", item)
	}
	return nil
}

// addSize takes in the smallest size of a key.
func (a *algChoice) addSize(item, name, value string, limit int) error {
	most, alg := maxMinSize, tpm2.AlgError
	if name == "hmac-min-key-size" {
		most, alg = maxMinHMAC, tpm2.AlgHMAC
	} else if base, ok := strings.CutSuffix(name, "-min-size"); ok {
		for _, p := range profileAlgs {
			if p.name == base && profileSizes[p.alg] != nil {
				alg = p.alg
			}
		}
	}
	if alg == tpm2.AlgError {
		return fmt.Errorf("the profile sets %q, but %s is not a size that can be set", item, name)
	}
	size, err := strconv.ParseUint(value, 10, 16)
	if err != nil || int(size) > most {
		return fmt.Errorf("the profile sets %q: a size is a number of bits from 0 to %d", item, most)
	}
	a.minSize[alg] = int(size)
	if alg == tpm2.AlgHMAC {
		if limit < minHMACLevel {
			return needsLevel(item, minHMACLevel, limit)
		}
		a.level = max(a.level, minHMACLevel)
	}
	for _, s := range profileSizes[alg] {
		if uint64(s.bits) >= size && s.level <= limit {
			a.level = max(a.level, s.level)
		}
	}
	return nil
}

func needsLevel(what string, level, limit int) error {
	return fmt.Errorf("the profile's %s needs StateFormatLevel %d, but its own is %d", what, level, limit)
}

// rule is what a profile's attributes forbid or ask for.
type rule uint16

const (
	noUnpaddedEncryption   rule = 1 << iota // RSA without a padding
	noSHA1Signing                           // SHA-1 in signatures of RSA and ECC keys
	noSHA1Verification                      // the same, to verify them
	noSHA1HMACCreation                      // SHA-1 in the HMACs of keys
	noSHA1HMACVerification                  // the same, to verify them
	drbgContinuousTest                      // no two random blocks in a row may be equal
	pairwiseTest                            // a new signing key must sign and verify
	noECCKeyDerivation                      // ECC keys that are derived, not drawn
)

// ruleLevel is the level that the attributes need.
const ruleLevel = 7

// profileRules are the attributes of libtpms' profiles, spelled as they are.
var profileRules = [...]struct {
	name  string
	rules rule
}{
	{"no-unpadded-encryption", noUnpaddedEncryption},
	{"no-sha1-signing", noSHA1Signing},
	{"no-sha1-verification", noSHA1Verification},
	{"no-sha1-hmac-creation", noSHA1HMACCreation},
	{"no-sha1-hmac-verification", noSHA1HMACVerification},
	{"no-sha1-hmac", noSHA1HMACCreation | noSHA1HMACVerification},
	{"fips-host", noUnpaddedEncryption | noSHA1Signing | noSHA1Verification},
	{"drbg-continous-test", drbgContinuousTest},
	{"pct", pairwiseTest},
	{"no-ecc-key-derivation", noECCKeyDerivation},
}

// parseAttributes reads a list of attributes, which may be empty, and gives the
// level that it needs.
func parseAttributes(list string, limit int) (rules rule, level int, err error) {
	if list == "" {
		return 0, levelNull, nil
	}
	for item := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(profileRules[:], func(r struct {
			name  string
			rules rule
		}) bool {
			return r.name == item
		})
		if i < 0 {
			return 0, 0, fmt.Errorf("the profile names the attribute %q, which there is not", item)
		}
		if limit < ruleLevel {
			return 0, 0, needsLevel("attribute "+item, ruleLevel, limit)
		}
		rules |= profileRules[i].rules
	}
	return rules, ruleLevel, nil
}

// neededCommands cannot be left out: power on, what makes and certifies an
// endorsement key, and what firmware measures with.
var neededCommands = [...]tpm2.CC{
	tpm2.CCEvictControl, tpm2.CCHierarchyChangeAuth, tpm2.CCPCRAllocate, tpm2.CCCreatePrimary, tpm2.CCPCREvent,
	tpm2.CCSelfTest, tpm2.CCStartup, tpm2.CCShutdown, tpm2.CCCertify, tpm2.CCNVRead, tpm2.CCCreate, tpm2.CCImport,
	tpm2.CCLoad, tpm2.CCQuote, tpm2.CCSequenceUpdate, tpm2.CCFlushContext, tpm2.CCNVReadPublic, tpm2.CCReadPublic,
	tpm2.CCStartAuthSession, tpm2.CCGetCapability, tpm2.CCGetTestResult, tpm2.CCHash, tpm2.CCPCRRead,
	tpm2.CCPCRExtend, tpm2.CCEventSequenceComplete, tpm2.CCHashSequenceStart,
}

// commandLevel is the level that a command needs.
func commandLevel(cc tpm2.CC) int {
	switch {
	case cc == tpm2.CCECCEncrypt || cc == tpm2.CCECCDecrypt:
		return 3
	case cc == tpm2.CCPolicyCapability || cc == tpm2.CCPolicyParameters:
		return 5
	case cc >= tpm2.CCNVDefineSpace2 || cc == tpm2.CCACTSetTimeout:
		return levelAshlar
	}
	return levelNull
}

// ccSet is a set of command codes, all of them from firstCC to lastCC.
type ccSet [(lastCC-firstCC)/64 + 1]uint64

const (
	firstCC = tpm2.CCNVUndefineSpaceSpecial
	lastCC  = tpm2.CCReadOnlyControl
)

func (s *ccSet) has(cc tpm2.CC) bool {
	i := uint(cc - firstCC)
	return cc >= firstCC && cc <= lastCC && s[i/64]>>(i%64)&1 != 0
}

func (s *ccSet) count() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// ccSetOf is the set of some commands.
func ccSetOf(list ...tpm2.CC) (s ccSet) {
	for _, cc := range list {
		s.add(cc)
	}
	return s
}

func (s *ccSet) add(cc tpm2.CC) {
	i := uint(cc - firstCC)
	s[i/64] |= 1 << (i % 64)
}

// parseCommands reads a list of command codes and ranges of them, and gives the
// level that it needs. Where filter is set, what needs more than limit is left
// out, else refused.
func parseCommands(list string, limit int, filter bool) (set ccSet, level int, err error) {
	for item := range strings.SplitSeq(list, ",") {
		first, last, err := parseRange(item)
		if err != nil {
			return set, 0, err
		}
		for cc := first; cc <= last; cc++ {
			if why := notImplemented(cc); why != "" {
				return set, 0, fmt.Errorf("the profile names the command %s (0x%x), which is not implemented: %s", cc, uint32(cc), why)
			}
			need := commandLevel(cc)
			if need > limit && filter {
				continue
			}
			if need > limit {
				return set, 0, needsLevel(fmt.Sprintf("command %s (0x%x)", cc, uint32(cc)), need, limit)
			}
			set.add(cc)
			level = max(level, need)
		}
	}
	for _, cc := range neededCommands {
		if !set.has(cc) {
			return set, 0, fmt.Errorf("the profile leaves out the command %s (0x%x), which a TPM needs", cc, uint32(cc))
		}
	}
	return set, level, nil
}

// parseRange reads "0x11f" or "0x11f-0x122"; numbers may be decimal.
func parseRange(item string) (first, last tpm2.CC, err error) {
	low, high, isRange := strings.Cut(item, "-")
	if !isRange {
		high = low
	}
	a, errA := parseCode(low)
	b, errB := parseCode(high)
	if errA != nil || errB != nil || a > b || tpm2.CC(a) < firstCC || tpm2.CC(b) > lastCC {
		return 0, 0, fmt.Errorf("the profile names the commands %q: it takes codes and ranges from 0x%x to 0x%x, "+
			"such as 0x11f-0x122", item, uint32(firstCC), uint32(lastCC))
	}
	return tpm2.CC(a), tpm2.CC(b), nil
}

// parseCode reads a number as C does: not by all of Go's notations, since libtpms
// may be given the list.
func parseCode(s string) (uint64, error) {
	if strings.ContainsAny(s, "_oO") || strings.HasPrefix(s, "0b") || strings.HasPrefix(s, "0B") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 0, 32)
}

// String is parseCommands' inverse.
func (s *ccSet) String() string {
	var items []string
	for cc := firstCC; cc <= lastCC; cc++ {
		if !s.has(cc) {
			continue
		}
		last := cc
		for s.has(last + 1) {
			last++
		}
		item := fmt.Sprintf("0x%x", uint32(cc))
		if last != cc {
			item += fmt.Sprintf("-0x%x", uint32(last))
		}
		items = append(items, item)
		cc = last
	}
	return strings.Join(items, ",")
}
