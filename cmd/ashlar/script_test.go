package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ashlar": main})
}

// TestScripts runs the scripts of testdata with the program as a person would.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("EVIDENCE", os.Getenv("ASHLAR_EVIDENCE"))
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "evidence" {
				return os.Getenv("ASHLAR_EVIDENCE") != "", nil
			}
			return false, errors.New("there is no such condition")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code},
	})
}

// code N PROGRAM ARG... wants a program to end with exit code N; what it prints
// can be looked at with stdout and stderr as after exec.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	default:
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// TestAppraiseVerb runs the verb over every item of real evidence and wants the
// exit code and the verdict that its verdict demands.
func TestAppraiseVerb(t *testing.T) {
	dir := os.Getenv("ASHLAR_EVIDENCE")
	if dir == "" {
		t.Skip("ASHLAR_EVIDENCE is not set: there is no real evidence to appraise")
	}
	all, err := os.ReadFile(filepath.Join(dir, "expected.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, line := range strings.Split(strings.TrimSpace(string(all)), "\n") {
		var it struct {
			ID, Kind, Expect    string
			Files, Endorsements []string
			Nonce, At           *string
		}
		if json.Unmarshal([]byte(line), &it) != nil || verifier.FindKind(it.Kind) == nil {
			continue
		}
		count++
		args := []string{"appraise", it.Kind, "--json"}
		for _, f := range it.Files {
			args = append(args, filepath.Join(dir, f))
		}
		for _, f := range it.Endorsements {
			args = append(args, "--endorsement", filepath.Join(dir, f))
		}
		if it.Nonce != nil {
			args = append(args, "--nonce", *it.Nonce)
		}
		if it.At != nil {
			args = append(args, "--at", *it.At)
		}
		t.Run(it.ID, func(t *testing.T) {
			var out, errOut bytes.Buffer
			got := run(context.Background(), args, strings.NewReader(""), &out, &errOut)
			want := map[string]int{"valid": 0, "invalid": 1, "partial": 1}[it.Expect]
			if got != want {
				t.Errorf("exit code %d, want %d: %s", got, want, errOut.String())
			}
			if want == 1 && !strings.HasPrefix(errOut.String(), "refused: ") {
				t.Errorf("no reason on standard error: %q", errOut.String())
			}
			var res struct {
				Verdict string
				Facts   map[string]any
			}
			if err := json.Unmarshal(out.Bytes(), &res); err != nil || res.Verdict != it.Expect {
				t.Errorf("verdict %q, want %q: %v", res.Verdict, it.Expect, err)
			}
		})
	}
	if count < 68 {
		t.Errorf("%d items found, want 68 at least", count)
	}
}

// TestHelp wants of every verb what a person needs: a line, examples, exit codes.
func TestHelp(t *testing.T) {
	seen := 0
	for _, c := range verbs() {
		leaves := c.Commands()
		if len(leaves) == 0 {
			leaves = append(leaves, c)
		}
		for _, leaf := range leaves {
			seen++
			if leaf.Short == "" || leaf.Example == "" || !strings.Contains(strings.ToLower(leaf.Long), "exit code") {
				t.Errorf("%s lacks a line, an example or its exit codes", leaf.CommandPath())
			}
			if leaf.Flags().Lookup("json") == nil {
				t.Errorf("%s has no --json", leaf.CommandPath())
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d verbs", seen)
	}
}

// TestNoEscapes writes what a hostile machine could have said.
func TestNoEscapes(t *testing.T) {
	hostile := "a\x1b]0;x\x07\r\u009b2J\u202eb\x00\nrefused: c\U000e0001é"
	harmful := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	var j, e bytes.Buffer
	if err := writeJSON(&j, map[string]string{"x": hostile}); err != nil {
		t.Fatal(err)
	}
	var back map[string]string
	if err := json.Unmarshal(j.Bytes(), &back); err != nil || back["x"] != hostile {
		t.Errorf("JSON does not come back: %q %v", back["x"], err)
	}
	report(&e, nil, refuse(hostile))
	report(&e, newRootCmd(), errors.New(hostile))
	r := &scheme.Result{Claims: []rats.Claim{{Name: hostile, Status: rats.Fails, Why: hostile}},
		Measurements: []scheme.Measurement{{What: hostile}}}
	if err := printAppraisal(&e, r, true); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{j.String(), e.String()} {
		if i := strings.IndexFunc(text, harmful); i >= 0 {
			t.Errorf("%q reaches the terminal", text[i:])
		}
	}
	if n := strings.Count(e.String(), "\n"); n != 6 || !strings.Contains(e.String(), "é") {
		t.Errorf("%d lines: %s", n, e.String())
	}
}
