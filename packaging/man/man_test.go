package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// built has the programs built, under all their names.
func built(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "../../cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, program := range map[string]string{"swtpm_ioctl": "swtpm", "swtpm_bios": "swtpm",
		"swtpm_cert": "swtpm_setup", "swtpm_localca": "swtpm_setup"} {
		if err := os.Symlink(program, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

var (
	optionWord = regexp.MustCompile(`(?:^|[ \n,(\[|])(-{1,2}[A-Za-z][A-Za-z0-9-]*)`)
	helpVerb   = regexp.MustCompile(`(?m)^  help +Help about any command\n`)
	roffFont   = regexp.MustCompile(`\\f[BIR]`)
	plainText  = strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\(dq`, `"`, `\(ti`, "~", `\(ga`, "`", `\(ha`, "^", `\&`, "", `\e`, `\`)
	roffMacro  = regexp.MustCompile(`(?m)^\.(TH|SH|SS|BR|\\").*$|^\.[A-Z]+.*$`)
)

// words are those of a page as one reads it; macros are left out, but headings.
func words(page string) map[string]bool {
	heading := regexp.MustCompile(`(?m)^\.SS "(.*)"$`)
	page = heading.ReplaceAllString(page, "$1")
	page = roffMacro.ReplaceAllString(page, "")
	return setOf(strings.Fields(plainText.Replace(roffFont.ReplaceAllString(page, ""))))
}

func setOf(list []string) map[string]bool {
	set := map[string]bool{}
	for _, s := range list {
		set[s] = true
	}
	return set
}

func optionsIn(text string) []string {
	set := map[string]bool{}
	for _, m := range optionWord.FindAllStringSubmatch(text, -1) {
		set[m[1]] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// rawHelp is what the programs of a page say, and their verbs.
func rawHelp(t *testing.T, bin string, command []string, tree bool) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, command[0]), command[1:]...).Output()
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(out), "\nUse \"")
	text = helpVerb.ReplaceAllString(text, "")
	_, verbs, found := strings.Cut(text, "\nAvailable Commands:\n")
	if !tree || !found {
		return text
	}
	verbs, _, _ = strings.Cut(verbs, "\n\n")
	if len(command) > 1 {
		text = "" // a page says of such a verb what its verbs do
	}
	for line := range strings.Lines(verbs) {
		verb := slices.DeleteFunc(append(slices.Clone(command), strings.Fields(line)[0]), func(s string) bool { return s == "--help" })
		text += rawHelp(t, bin, append(verb, "--help"), true)
	}
	return text
}

// TestPagesSayWhatHelpSays: a page has every option of the help text and no other, and
// every word of it.
func TestPagesSayWhatHelpSays(t *testing.T) {
	bin := built(t)
	for _, p := range pages() {
		if p.help == nil {
			continue
		}
		page, err := p.render(bin, "1.2.3", "2026-11-28")
		if err != nil {
			t.Fatal(err)
		}
		var help string
		for _, command := range p.help {
			help += rawHelp(t, bin, command, p.tree)
		}
		shown := words(page)
		text := strings.Join(slices.Collect(maps.Keys(shown)), "\n")
		got, want := optionsIn(text), optionsIn(help)
		if len(want) < 2 || !slices.Equal(got, want) {
			t.Errorf("%s has the options %v, the program %v", p.file(), got, want)
		}
		for _, word := range strings.Fields(help) {
			switch word = strings.TrimSuffix(word, ":"); word {
			case "Usage", "Example", "Examples", "Exit", "codes", "Flags", "Available", "Commands", "[flags]", "[command]":
			default:
				if !shown[word] && !shown[word+":"] {
					t.Errorf("%s lacks the word %q", p.file(), word)
				}
			}
		}
	}
}

// TestPagesRead has man and lexgrog read all pages: no warning, and a name for whatis.
func TestPagesRead(t *testing.T) {
	for _, tool := range []string{"man", "lexgrog"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("there is no man: install man-db")
		}
	}
	dir := t.TempDir()
	if err := writePages(built(t), dir, "1.2.3", "2026-11-28"); err != nil {
		t.Fatal(err)
	}
	for _, p := range pages() {
		file := filepath.Join(dir, p.file())
		cmd := exec.Command("man", "--warnings", "-E", "UTF-8", "-l", file)
		cmd.Env = append(os.Environ(), "MANWIDTH=80", "MANROFFSEQ=", "LC_ALL=C.UTF-8")
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil || errs.String() != "" || !strings.Contains(string(out), p.says) || !strings.Contains(string(out), "1.2.3") {
			t.Errorf("man %s: %v\n%s", p.file(), err, errs.String())
		}
		if out, err := exec.Command("lexgrog", file).CombinedOutput(); err != nil || !strings.Contains(string(out), p.name+" - "+p.says) {
			t.Errorf("lexgrog: %v\n%s", err, out)
		}
	}
}

// TestPagesOfFilesKnowEveryName compares the names that a page explains with those that
// the program asks its configuration for.
func TestPagesOfFilesKnowEveryName(t *testing.T) {
	asks := regexp.MustCompile(`conf\.value\("(\w+)"\)|s\.given\([\w.]+, "(\w+)"\)|{"(\w+)", &ca\.|"--(?:config|opts)file", "(\w+)"|s\.\w+, "(\w+)", identity\.`)
	asked := func(files ...string) map[string]bool {
		names := map[string]bool{}
		for _, file := range files {
			src, err := os.ReadFile(filepath.Join("../../cmd/swtpm_setup", file))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range asks.FindAllStringSubmatch(string(src), -1) {
				names[strings.Join(m[1:], "")] = true
			}
		}
		return names
	}
	setup := asked("setup.go", "setupcert.go", "setupkeys.go", "setupprofile.go")
	ca := asked("authority.go", "localca.go")
	ca["SWTPM_PKCS11_PIN"], ca["env:NAME"] = true, true
	for name, want := range map[string]map[string]bool{"swtpm_setup.conf": setup, "swtpm-localca.conf": ca} {
		p := page{name: name, section: 5}
		list, err := p.read("")
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, b := range list[0].lead {
			if b.isItem() {
				maps.Copy(got, setOf(strings.Split(b.tags[0], ", ")))
			}
		}
		if len(want) < 5 || !maps.Equal(got, want) {
			t.Errorf("%s explains %v, the program asks for %v", name, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
}
