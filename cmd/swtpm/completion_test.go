package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCompletionKnowsEveryOption completes "swtpm socket --" in bash and wants
// the options of the help text.
func TestCompletionKnowsEveryOption(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("there is no bash to complete with")
	}
	const file = "../../packaging/completion/swtpm.bash"
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("bash", "-c", "source "+file+`
COMP_WORDS=(swtpm socket --); COMP_CWORD=2; _swtpm; printf '%s\n' "${COMPREPLY[@]}"`).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	want := regexp.MustCompile(`--[a-z][a-z0-9-]+`).FindAllString(usage, -1)
	slices.Sort(want)
	slices.Sort(got)
	if want = slices.Compact(want); !slices.Equal(got, want) {
		t.Fatalf("completes %v, the help has %v", got, want)
	}
}
