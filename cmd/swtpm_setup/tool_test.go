package main

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain makes the test binary the program itself, where it is called by one
// of its names.
func TestMain(m *testing.M) {
	if _, ok := tools()[filepath.Base(os.Args[0])]; ok {
		main()
	}
	os.Exit(m.Run())
}

// binDir is a directory with this program by all its names.
func binDir(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name := range tools() {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// debian is the path of one of Debian's tools.
func debian(t *testing.T, tool string) string {
	t.Helper()
	path := filepath.Join("/usr/bin", tool)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is missing: install swtpm-tools", path)
	}
	return path
}

// call runs one of our tools in this process.
func call(tool string, args ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	code = dispatch(tools(), append([]string{tool}, args...), &o, &e)
	return o.String(), e.String(), code
}

// mustCall wants a tool of ours to succeed and say nothing on standard error.
func mustCall(t *testing.T, tool string, args ...string) string {
	t.Helper()
	out, errs, code := call(tool, args...)
	if code != 0 || errs != "" {
		t.Fatalf("%s %q: exit code %d: %s", tool, args, code, errs)
	}
	return out
}

// mustRun wants a program to succeed.
func mustRun(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readCert(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	c, err := x509.ParseCertificate(b)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

// describe gives what of a certificate does not depend on when and by which key
// it was made: extensions by OID, with criticality and content.
func describe(c *x509.Certificate) map[string]string {
	d := map[string]string{
		"version":   fmt.Sprint(c.Version),
		"subject":   hex.EncodeToString(c.RawSubject),
		"issuer":    hex.EncodeToString(c.RawIssuer),
		"key":       hex.EncodeToString(c.RawSubjectPublicKeyInfo),
		"algorithm": c.SignatureAlgorithm.String(),
		"life":      c.NotAfter.Sub(c.NotBefore).String(),
	}
	if c.NotAfter.Year() == 9999 {
		d["life"] = c.NotAfter.String()
	}
	for _, e := range c.Extensions {
		d[e.Id.String()] = fmt.Sprintf("critical %v, %x", e.Critical, e.Value)
		if id := e.Id.String(); id == "2.5.29.14" || id == "2.5.29.35" { // key identifiers
			d[id] = fmt.Sprintf("critical %v, %d bytes", e.Critical, len(e.Value))
		}
	}
	return d
}

func compare(t *testing.T, what string, ours, theirs *x509.Certificate) {
	t.Helper()
	a, b := describe(ours), describe(theirs)
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if a[k] != b[k] {
			t.Errorf("%s: %s is %q, swtpm's %q", what, k, a[k], b[k])
		}
	}
}

// oneSentence wants exit code 1 and one line that has some words.
func oneSentence(t *testing.T, what, words, out, errs string, code int) {
	t.Helper()
	if code != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, words) {
		t.Errorf("%s: exit code %d, %q, %q; want one line with %q", what, code, out, errs, words)
	}
}
