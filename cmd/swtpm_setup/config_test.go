package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestSystemConfigIsInThePages: what is in force without files in /etc is what the
// manual pages show.
func TestSystemConfigIsInThePages(t *testing.T) {
	files := systemConfig()
	if len(files) != 3 {
		t.Fatalf("%d files", len(files))
	}
	for _, f := range files {
		name := strings.TrimPrefix(f.path, "/etc/")
		page, err := os.ReadFile("../../packaging/man/" + name + ".5.txt")
		if err != nil {
			t.Fatal(err)
		}
		_, example, _ := strings.Cut(string(page), "\nExample:\n")
		want := strings.ReplaceAll(f.text, localcaPath(), "/usr/bin/swtpm_localca")
		if got := regexp.MustCompile(`(?m)^  `).ReplaceAllString(example, ""); got != want {
			t.Errorf("%s: the page shows\n%s\nin force is\n%s", name, got, want)
		}
		if _, err := os.Stat(f.path); err == nil {
			continue // what is there counts; the package's test looks at a host without
		}
		if got, err := readConfigText(f.path); err != nil || string(got) != f.text {
			t.Errorf("%s: %q, %v", f.path, got, err)
		}
	}
}
