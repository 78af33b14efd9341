package deb

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

// output runs a command in the project's folder.
func output(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "../.."
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// TestVersions: one place says the version, by the rules of semver.org; packages, the
// changelog and git's tags go by it.
func TestVersions(t *testing.T) {
	semver := regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?$`)
	m := semver.FindStringSubmatch(swtpm.Version)
	if m == nil {
		t.Fatalf("%s is no version", swtpm.Version)
	}
	deb := output(t, "packaging/version")
	if base, _, _ := strings.Cut(deb, "+"); strings.Replace(base, "~", "-", 1) != swtpm.Version {
		t.Errorf("packages are of version %s, the programs of %s", deb, swtpm.Version)
	}
	changelog, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile(`(?m)^## (\S+)`).FindStringSubmatch(string(changelog))
	want := swtpm.Version
	if m[4] == "-dev" {
		want = "Unreleased"
	}
	if heading == nil || heading[1] != want {
		t.Errorf("the first heading of CHANGELOG.md is %q, want %s", heading, want)
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git to ask for tags")
	}
	for tag := range strings.FieldsSeq(output(t, "git", "tag", "--points-at", "HEAD", "--list", "v*")) {
		if tag != "v"+swtpm.Version {
			t.Errorf("the commit has the tag %s and the version %s", tag, swtpm.Version)
		}
	}
}

// TestVersionsSort: dpkg has versions in the order that semver.org gives them, and what
// is built in between in the order of its commits.
func TestVersionsSort(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("there is no dpkg")
	}
	order := []string{"0.1.0-alpha", "0.1.0-alpha.1", "0.1.0-alpha.2", "0.1.0-alpha.10", "0.1.0-beta", "0.1.0-dev",
		"0.1.0-dev+20261128000000.abc", "0.1.0-dev+20261128000000.abc.modified", "0.1.0-dev+20261128000001.012",
		"0.1.0-rc.1", "0.1.0", "0.1.1-dev", "0.1.1", "0.2.0-rc.1", "0.2.0", "0.10.0", "1.0.0"}
	for i, v := range order[1:] {
		before, after := strings.Replace(order[i], "-", "~", 1), strings.Replace(v, "-", "~", 1)
		if err := exec.Command("dpkg", "--compare-versions", before, "lt", after).Run(); err != nil {
			t.Errorf("%s is not before %s", before, after)
		}
	}
}

// TestReproducible builds the packages again at another place, with another user's
// settings, and wants the same bytes.
func TestReproducible(t *testing.T) {
	deb, ashlar := packages(t)
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git to list the project's files")
	}
	other, out := t.TempDir(), t.TempDir()
	copying := exec.Command("sh", "-c", `umask 077; git ls-files -z -co --exclude-standard | xargs -0 cp --parents -t "$0"`, other)
	copying.Dir = "../.."
	if said, err := copying.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	build := exec.Command("sh", "-c", "umask 077; exec packaging/deb/build \"$0\"", out)
	build.Dir = other
	build.Env = append(os.Environ(), "TZ=Asia/Shanghai", "LC_ALL=C.UTF-8", "GOFLAGS=-buildvcs=false", "VERSION="+versionOf(t, deb),
		"SOURCE_DATE_EPOCH="+output(t, "git", "log", "-1", "--format=%ct"), "COMMIT="+output(t, "git", "rev-parse", "HEAD"))
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, first := range []string{deb, ashlar} {
		a, err1 := os.ReadFile(first)
		b, err2 := os.ReadFile(filepath.Join(out, filepath.Base(first)))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is not the same when it is built again: %v %v", filepath.Base(first), err1, err2)
		}
	}
}
