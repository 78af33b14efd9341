package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCompletionKnowsEveryOption completes each program in bash and wants the options
// of its help text.
func TestCompletionKnowsEveryOption(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("there is no bash to complete with")
	}
	const file = "../../packaging/completion/swtpm.bash"
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	long, any := regexp.MustCompile(`--[a-z][a-z0-9-]+`), regexp.MustCompile(`(?m)(?:^ +|, )(-[a-zA-Z]+|--[a-z][a-z0-9-]+)`)
	for _, c := range []struct {
		words, function, help string
		option                *regexp.Regexp
	}{
		{"swtpm socket --", "_swtpm", usages["socket"], long},
		{"swtpm chardev --", "_swtpm", usages["chardev"], long},
		{"swtpm_ioctl -", "_swtpm_ioctl", ioctlUsage, any},
		{"swtpm_bios -", "_swtpm_bios", biosUsage, any},
	} {
		out, err := exec.Command("bash", "-c", "source "+file+`
COMP_WORDS=(`+c.words+`); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); `+c.function+`; printf '%s\n' "${COMPREPLY[@]}"`).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Fields(string(out))
		var want []string
		for _, m := range c.option.FindAllStringSubmatch(c.help, -1) {
			want = append(want, m[len(m)-1])
		}
		slices.Sort(want)
		slices.Sort(got)
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Errorf("%s completes %v, the help has %v", c.words, got, want)
		}
	}
}
