package tpm

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// coverage counts what both TPMs answered alike.
type coverage struct {
	sync.Mutex
	codes   map[tpm2.CC]map[tpm2.RC]int // without numbers of handles, parameters and sessions
	excused map[string]int
	flakes  int // differences that were not there again
}

func newCoverage() *coverage {
	return &coverage{codes: map[tpm2.CC]map[tpm2.RC]int{}, excused: map[string]int{}}
}

func (c *coverage) count(x *sent, rc tpm2.RC) {
	m := c.codes[x.d.cc]
	if m == nil {
		m = map[tpm2.RC]int{}
		c.codes[x.d.cc] = m
	}
	m[rc.Base()]++
}

// merge adds another's counts.
func (c *coverage) merge(x *coverage) {
	c.Lock()
	defer c.Unlock()
	for cc, m := range x.codes {
		if c.codes[cc] == nil {
			c.codes[cc] = map[tpm2.RC]int{}
		}
		for rc, n := range m {
			c.codes[cc][rc] += n
		}
	}
	for why, n := range x.excused {
		c.excused[why] += n
	}
	c.flakes += x.flakes
}

// enough is how often every command must succeed in a whole run, and whole how
// many commands that has.
const (
	enough = 1000
	whole  = 5_000_000
)

// listed reads which response codes Part 3 lists for which command; "*" are
// those of the header, the handles and the authorization area.
func listed(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile("testdata/response-codes.txt")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] != "#" {
			m[f[0]] = f[1:]
		}
	}
	return m
}

// report logs the coverage, and writes it to a file if there is a path. A whole
// run must have reached all that can be.
func (c *coverage) report(t *testing.T, path string) {
	t.Helper()
	var b, gaps strings.Builder
	total, succeeded := 0, 0
	lists, seen := listed(t), map[string]bool{}
	for _, d := range nullProfile.shown() {
		m := c.codes[d.cc]
		sum := 0
		var codes []string
		reached := map[string]bool{}
		for _, rc := range slices.Sorted(maps.Keys(m)) {
			sum += m[rc]
			name, _, _ := strings.Cut(strings.TrimPrefix(rc.Error(), "TPM_RC_"), " ")
			reached[name], seen[name] = true, true
			if rc != tpm2.RCSuccess {
				codes = append(codes, fmt.Sprintf("%s %d", name, m[rc]))
			}
		}
		total += sum
		succeeded += m[tpm2.RCSuccess]
		fmt.Fprintf(&b, "%-28v %9d run %9d succeeded; %s\n", d.cc, sum, m[tpm2.RCSuccess], strings.Join(codes, ", "))
		if m[tpm2.RCSuccess] < enough && unreachable[d.cc.String()+" SUCCESS"] == "" {
			fmt.Fprintf(&gaps, "%v succeeded %d times\n", d.cc, m[tpm2.RCSuccess])
		}
		for _, name := range lists[d.cc.String()] {
			if !reached[name] && unreachable[d.cc.String()+" "+name] == "" {
				fmt.Fprintf(&gaps, "%v never gave TPM_RC_%s\n", d.cc, name)
			}
		}
	}
	for _, name := range lists["*"] {
		if !seen[name] && unreachable["* "+name] == "" {
			fmt.Fprintf(&gaps, "no command gave TPM_RC_%s\n", name)
		}
	}
	fmt.Fprintf(&b, "%d commands, %d succeeded; %d differences were not there again\n", total, succeeded, c.flakes)
	for _, why := range slices.Sorted(maps.Keys(c.excused)) {
		fmt.Fprintf(&b, "%9d meant: %s\n", c.excused[why], why)
	}
	for _, what := range slices.Sorted(maps.Keys(unreachable)) {
		fmt.Fprintf(&b, "not expected: %s: %s\n", what, unreachable[what])
	}
	t.Logf("\n%s%s", b.String(), gaps.String())
	if path != "" {
		if err := os.WriteFile(path, []byte(b.String()+gaps.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
	if total >= whole && gaps.Len() > 0 {
		t.Error("a whole run has not reached all that it should")
	}
}

// unreachable are the codes that a list has and no history reaches, with the
// reason.
var unreachable = func() map[string]string {
	m := map[string]string{
		"PP_Commands SUCCESS":               "swtpm has no button of physical presence",
		"Startup NV_UNINITIALIZED":          "swtpm has a state before it has a TPM",
		"SelfTest CANCELED":                 "nobody cancels in this test",
		"SelfTest TESTING":                  "all tests are done when the command is",
		"IncrementalSelfTest CANCELED":      "nobody cancels in this test",
		"ContextSave TOO_MANY_CONTEXTS":     "it takes 2^64 contexts",
		"SequenceUpdate MODE":               "the two name different places for it, which is meant",
		"EvictControl NV_HANDLE":            "TPM_RC_NV_DEFINED is what it is called",
		"PolicyNV AUTH_TYPE":                "the authorization area gives it, and NV needs no policy",
		"ContextSave of a sequence of CMAC": reloaded,
		"* RETRY":                           "the command is sent again",
		"* FAILURE":                         "where swtpm says it, it is meant",
	}
	for _, cc := range []string{"ActivateCredential", "Commit", "ECDH_ZGen", "EC_Ephemeral", "Import"} {
		m[cc+" NO_RESULT"] = "it takes a generator that fails, or a point at infinity"
	}
	for _, what := range []string{"RSA_Decrypt", "Sign"} {
		m[what+" BINDING"] = "a key whose parts do not fit cannot be loaded"
	}
	for _, what := range []string{"ClockSet", "PCR_Allocate", "*"} {
		m[what+" NV_RATE"] = "swtpm writes at any rate"
		m[what+" NV_UNAVAILABLE"] = "swtpm's disk is never full here"
	}
	for _, what := range []string{"Duplicate KEY", "MakeCredential KEY", "Rewrap KEY"} {
		m[what] = "only a key without a Name may be off its curve, for which the two differ anyway"
	}
	for _, what := range []string{"Rewrap KEY_SIZE", "Duplicate HASH"} {
		m[what] = "libtpms gives it nowhere on the way"
	}
	for _, what := range []string{"ContextSave", "ContextLoad", "StartAuthSession"} {
		m[what+" CONTEXT_GAP"] = "it takes 65,000 contexts: TestContextGapAlike"
	}
	return m
}()
