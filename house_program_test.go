package ashlar_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestProgramOfGuests holds what is linked into the program that a guest attacks,
// however it comes there: of other modules only those named, nothing with cgo, and
// of the standard library nothing that serves, stores, starts or loads.
func TestProgramOfGuests(t *testing.T) {
	modules := []string{module, "golang.org/x/sys/", "golang.org/x/crypto/argon2", "golang.org/x/crypto/blake2b", "filippo.io/bigmod", "filippo.io/nistec"}
	banned := []string{"C", "runtime/cgo", "os/exec", "plugin", "crypto/tls", "crypto/x509", "database/", "encoding/gob",
		"encoding/xml", "expvar", "go/", "html/", "log/syslog", "net/", "testing", "text/template"}
	allowed := []string{"net/netip"}
	list := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{len .CgoFiles}}", "./cmd/swtpm")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	if len(lines) < 100 {
		t.Fatalf("only %d packages are found", len(lines)/2)
	}
	within := func(path string, list []string) bool {
		for _, l := range list {
			if path == l || strings.HasPrefix(path, l) && (strings.HasSuffix(l, "/") || strings.HasPrefix(path, l+"/")) {
				return true
			}
		}
		return false
	}
	for i := 0; i < len(lines); i += 2 {
		path, cgo := lines[i], lines[i+1]
		switch {
		case cgo != "0":
			t.Errorf("%s has %s files of cgo", path, cgo)
		case !standard(path) && !within(path, modules):
			t.Errorf("%s is of a module that is not named", path)
		case within(path, banned) && !within(path, allowed):
			t.Errorf("%s is nothing for a program that a guest attacks", path)
		}
	}
}
