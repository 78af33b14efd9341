package tpm

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
)

// The states in testdata/libtpms were made by a swtpm with several versions of
// libtpms, filled with something of every kind, and kept for ever: NAME.permanent
// and NAME.volatile, and NAME.answers with a digest of what each command of
// inventory answered there. Their secrets are nobody's.

var foreignUpdate = flag.String("golden.foreign", "", "write the golden state `NAME` anew with the swtpm that is installed")

const foreignDir = "testdata/libtpms"

// answers has a line for each command: how it begins, and a digest of the response.
func (r *rig) answers() string {
	var b strings.Builder
	for _, cmd := range inventory() {
		sum := sha256.Sum256(r.execute(cmd))
		fmt.Fprintf(&b, "%v %x %x\n", commandCode(cmd), cmd[headerSize:min(len(cmd), headerSize+8)], sum[:6])
	}
	return b.String()
}

func updateForeign(t *testing.T, name string) {
	t.Helper()
	r := newForeign(t)
	r.fill()
	files := map[string][]byte{"permanent": r.other.blob(permanentBlob), "volatile": r.other.blob(volatileBlob)}
	files["answers"] = []byte(r.answers())
	if err := os.MkdirAll(foreignDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for kind, b := range files {
		if err := os.WriteFile(filepath.Join(foreignDir, name+"."+kind), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func foreignGolden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(foreignDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestImportGolden takes over what libtpms 0.7 to 0.10 have left.
func TestImportGolden(t *testing.T) {
	if *foreignUpdate != "" {
		updateForeign(t, *foreignUpdate)
	}
	names, err := filepath.Glob(filepath.Join(foreignDir, "*.permanent"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden states: %v", err)
	}
	for _, name := range names {
		name = strings.TrimSuffix(name, ".permanent")
		t.Run(filepath.Base(name), func(t *testing.T) {
			read := func(kind string) []byte { return foreignGolden(t, filepath.Base(name)+"."+kind) }
			mine := &rig{t: t, clock: new(clock.Manual)}
			mine.cfg = Config{Clock: mine.clock, Entropy: entropy.Replay(5)}
			permanent, err := ImportLibtpms(mine.cfg, read("permanent"))
			if err != nil {
				t.Fatal(err)
			}
			volatile, err := ImportLibtpmsVolatile(mine.cfg, permanent, read("volatile"))
			if err != nil {
				t.Fatal(err)
			}
			if mine.e, err = Resume(mine.cfg, permanent, volatile); err != nil {
				t.Fatal(err)
			}
			got, want := strings.Split(mine.answers(), "\n"), strings.Split(string(bytes.TrimSpace(read("answers"))), "\n")
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("answered %s, not %s", got[i], want[i])
				}
			}
			mine.all(useCmds()[0], useCmds()[1])
		})
	}
}
