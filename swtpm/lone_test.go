package swtpm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// TestLoneVolatile: a running state without its permanent one, as a take-over that
// was cut off leaves it, is not buried under a new TPM that it does not belong to:
// it is said what to do, nothing is written, and each way out works.
func TestLoneVolatile(t *testing.T) {
	path := t.TempDir()
	h, _ := newTestHost(t, path, nil)
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	h.Startup(false)
	if r := h.StoreVolatile(); r != OK {
		t.Fatal(r)
	}
	h.PowerOff()
	permanent := filepath.Join(path, permanentName)
	if err := os.Rename(permanent, permanent+".away"); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, errLone) || !strings.Contains(err.Error(), filepath.Join(path, volatileName)) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := os.Stat(permanent); err == nil {
			t.Errorf("%s: a state was written", what)
		}
	}
	refused("a start", h.Start())
	_, err := Manufacture(h.cfg.Dir, nil, testEngine(), tpm.Options{})
	refused("a new TPM", err)

	if err := os.Rename(permanent+".away", permanent); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(); err != nil || !h.stored {
		t.Errorf("with its permanent state: %v", err)
	}
	h.PowerOff()
	os.Remove(permanent)
	os.Remove(filepath.Join(path, volatileName))
	if err := h.Start(); err != nil {
		t.Errorf("without the volatile state: %v", err)
	}
}

// TestLoneVolatileTakenOver: a take-over that fails leaves no running state alone,
// and the next one replaces what one that was cut off has left.
func TestLoneVolatileTakenOver(t *testing.T) {
	source := t.TempDir()
	d := startDebian(t, source)
	use(t, d.data)
	exchange(t, d.ctrl, unhex("0000000a"), 4) // STORE_VOLATILE
	d.stop()
	f, err := ReadForeign(source, nil)
	if err != nil || f.Volatile == nil {
		t.Fatal(err)
	}
	s := newStates(testDir(t, t.TempDir()), nil, testEngine())
	defer s.close()
	if _, err := s.takeOver(testEngine(), f); !errors.Is(err, store.ErrConflict) { // the file was never looked at
		t.Fatal(err)
	}
	if _, err := os.Stat(s.volatile.Path()); err == nil {
		t.Error("a running state is left")
	}
	if err := s.volatile.put([]byte("what was cut off")); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(s.dir, nil, testEngine(), f); err != nil {
		t.Error(err)
	}
}
