// Package conformance runs the tests of canonical/go-tpm2 on our swtpm, over
// the simulator's protocol. It is a module of its own, so that nothing of
// go-tpm2 reaches the project's.
package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	// What the tests of go-tpm2 are made of, so that go.mod names it.
	_ "github.com/canonical/go-tpm2/cryptutil"
	_ "github.com/canonical/go-tpm2/objectutil"
	_ "github.com/canonical/go-tpm2/policyutil"
	_ "github.com/canonical/go-tpm2/templates"
	_ "github.com/canonical/go-tpm2/testutil"
	_ "github.com/canonical/go-tpm2/util"
)

const module = "github.com/canonical/go-tpm2"

// packages are those whose tests use a TPM.
var packages = []string{"", "/cryptutil", "/objectutil", "/policyutil", "/templates", "/testutil", "/util"}

// TestGoTPM2 runs the tests of go-tpm2 as they are, on our swtpm, and on
// Debian's as control. Each test that does not pass must be in
// testdata/expected.txt with a reason, and each that is there must not pass.
func TestGoTPM2(t *testing.T) {
	want := readExpected(t)
	ours := filepath.Join(t.TempDir(), "swtpm")
	build := exec.Command("go", "build", "-C", "..", "-o", ours, "./cmd/swtpm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as packaged: confined
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for name, program := range map[string]string{"ashlar": ours, "debian": debian} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(program); err != nil {
				t.Skip("Debian's swtpm is missing: install the package swtpm")
			}
			t.Parallel()
			bin := launcher(t, program)
			var passed, explained int
			t.Run("packages", func(t *testing.T) {
				for _, pkg := range packages {
					t.Run("go-tpm2"+pkg, func(t *testing.T) {
						p, e := compare(t, runPackage(t, pkg, bin, freePorts(t)), want[name], pkg)
						passed, explained = passed+p, explained+e
					})
				}
			})
			t.Logf("%s: %d tests pass, %d do not for a known reason", name, passed, explained)
		})
	}
}

// expected is what does not pass: package and test to outcome and reason.
type expected map[string]outcome

type outcome struct{ what, reason string }

// readExpected reads the lines of testdata/expected.txt: where it does not
// pass (ashlar, debian or both), the outcome, package and test, the reason.
func readExpected(t *testing.T) map[string]expected {
	t.Helper()
	text, err := os.ReadFile("testdata/expected.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]expected{"ashlar": {}, "debian": {}}
	for line := range strings.Lines(string(text)) {
		head, reason, found := strings.Cut(strings.TrimSpace(line), ": ")
		if head == "" || strings.HasPrefix(head, "#") {
			continue
		}
		f := strings.Fields(head)
		if len(f) != 4 || !found || !slices.Contains([]string{"FAIL", "SKIP", "PANIC"}, f[1]) {
			t.Fatalf("expected.txt: %q is not WHERE OUTCOME PACKAGE TEST: REASON", line)
		}
		for name := range want {
			if f[0] == name || f[0] == "both" {
				want[name][f[2]+" "+f[3]] = outcome{f[1], reason}
			}
		}
	}
	return want
}

// result is what came of a test, and its output.
type result struct {
	what, output string
}

// compare reports what differs from what is expected, and counts the tests
// that pass and those that do not for a known reason.
func compare(t *testing.T, got map[string]result, want expected, pkg string) (passed, explained int) {
	t.Helper()
	name := "go-tpm2" + pkg
	for test, r := range got {
		w, listed := want[name+" "+test]
		switch {
		case r.what == "PASS" && listed:
			t.Errorf("%s passes, and is expected not to: take it off the list", test)
		case r.what == "PASS":
			passed++
		case !listed:
			t.Errorf("%s %s: not expected\n%s", r.what, test, r.output)
		case w.what != r.what:
			t.Errorf("%s %s: %s expected\n%s", r.what, test, w.what, r.output)
		default:
			explained++
		}
	}
	for key := range want {
		if p, test, _ := strings.Cut(key, " "); p == name && got[test].what == "" {
			t.Errorf("%s is on the list and did not run", test)
		}
	}
	return passed, explained
}

// event is a line of go test -json.
type event struct{ Action, Test, Output string }

// checked is the line with which gocheck begins what it says about a test.
var checked = regexp.MustCompile(`^(PASS|FAIL|SKIP|PANIC|MISS): [^ ]+: ([^ \t\n]+)`)

// runPackage runs the tests of a package of go-tpm2 on a simulator of its own.
func runPackage(t *testing.T, pkg, bin string, port int) map[string]result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-count=1", "-json", module+pkg,
		"-args", "-use-mssim", "-mssim-port", strconv.Itoa(port), "-check.v")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "XDG_RUNTIME_DIR="+t.TempDir())
	cmd.WaitDelay = 10 * time.Second // should the simulator hold the output
	out, err := cmd.CombinedOutput()
	got := map[string]result{}
	suite := ""
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var e event
		if d.Decode(&e) != nil {
			break
		}
		if m := checked.FindStringSubmatch(e.Output); m != nil {
			suite = m[2]
			got[suite] = result{what: m[1], output: e.Output}
			continue
		}
		switch e.Action {
		case "output":
			keep(got, suite, e.Output)
		case "pass", "fail", "skip":
			// Test is what runs gocheck; its tests were seen already.
			if e.Test != "" && e.Test != "Test" {
				got[e.Test] = result{what: strings.ToUpper(e.Action), output: got[e.Test].output}
			}
		}
	}
	if err != nil && !slices.ContainsFunc(slices.Collect(maps.Values(got)), func(r result) bool { return r.what == "FAIL" || r.what == "PANIC" }) {
		t.Fatalf("go test: %v\n%s", err, out)
	}
	return got
}

// maxOutput bounds in bytes what is shown of a test that is not as expected.
const maxOutput = 4000

func keep(got map[string]result, test, line string) {
	r, ok := got[test]
	if ok && len(r.output) < maxOutput {
		r.output += line[:min(len(line), 300)]
		got[test] = r
	}
}

// freePorts finds a port that is free together with the one after it.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "localhost:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", net.JoinHostPort("localhost", strconv.Itoa(port+1)))
		a.Close()
		if err == nil {
			b.Close()
			return port
		}
	}
	t.Fatal("no two free ports beside each other")
	return 0
}
