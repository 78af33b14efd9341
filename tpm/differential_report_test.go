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

// report logs the coverage, and writes it to a file if there is a path.
func (c *coverage) report(t *testing.T, path string) {
	t.Helper()
	var b strings.Builder
	total, succeeded := 0, 0
	for _, cc := range slices.Sorted(maps.Keys(c.codes)) {
		m := c.codes[cc]
		sum := 0
		var codes []string
		for _, rc := range slices.Sorted(maps.Keys(m)) {
			sum += m[rc]
			if rc != tpm2.RCSuccess {
				codes = append(codes, fmt.Sprintf("%s %d", strings.TrimPrefix(rc.Error(), "TPM_RC_"), m[rc]))
			}
		}
		total += sum
		succeeded += m[tpm2.RCSuccess]
		fmt.Fprintf(&b, "%-28v %9d run %9d succeeded; %s\n", cc, sum, m[tpm2.RCSuccess], strings.Join(codes, ", "))
	}
	fmt.Fprintf(&b, "%d commands, %d succeeded; %d differences were not there again\n", total, succeeded, c.flakes)
	for _, why := range slices.Sorted(maps.Keys(c.excused)) {
		fmt.Fprintf(&b, "%9d meant: %s\n", c.excused[why], why)
	}
	t.Log("\n" + b.String())
	if path != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}
