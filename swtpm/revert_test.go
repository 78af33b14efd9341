package swtpm

import (
	"encoding/binary"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/store"
)

// shown is what attestations of a TPM show of time.
type shown struct {
	clock          uint64
	reset, restart uint32
	safe           bool
}

func (h *Host) shown(t *testing.T) shown {
	t.Helper()
	b := h.Execute(0, unhex("8001 0000000a 00000181"), nil)
	if len(b) != 35 {
		t.Fatalf("ReadClock: %x", b)
	}
	return shown{binary.BigEndian.Uint64(b[18:]), binary.BigEndian.Uint32(b[26:]), binary.BigEndian.Uint32(b[30:]), b[34] != 0}
}

// blobs are the states of a TPM, as QEMU reads them.
func (h *Host) blobs(t *testing.T) (list [2][]byte) {
	t.Helper()
	for i, kind := range []BlobType{BlobPermanent, BlobVolatile} {
		b, _, r := h.StateBlob(kind, true)
		if r != OK {
			t.Fatal(r)
		}
		list[i] = b
	}
	return list
}

// arrive gives a TPM states as QEMU does, and starts it.
func (h *Host) arrive(t *testing.T, blobs [2][]byte) {
	t.Helper()
	h.PowerOff()
	for i, kind := range []BlobType{BlobPermanent, BlobVolatile} {
		if r := h.SetStateBlob(kind, blobs[i], false); r != OK {
			t.Fatal(r)
		}
	}
	if r := h.PowerOn(true); r != OK {
		t.Fatal(r)
	}
}

const replacedByOlder = "is older, such as a snapshot's: attestations show it"

// TestRevertShows: a state that takes the place of a newer one is accepted, noted, and
// shows in what is attested; one that goes on, as after a migration, does not.
func TestRevertShows(t *testing.T) {
	for _, single := range []bool{false, true} {
		for _, key := range []*Key{nil, testKey(strings.Repeat("k", 32), false)} {
			open := func() (*Host, *logBuffer) {
				dir := t.TempDir()
				return newTestHost(t, dir, func(c *Config) {
					c.Key = key
					if single {
						d, err := OpenFile(filepath.Join(dir, "s"), store.Options{})
						if err != nil {
							t.Fatal(err)
						}
						c.Dir = d
					}
				})
			}
			testRevertShows(t, open)
		}
	}
}

func testRevertShows(t *testing.T, open func() (*Host, *logBuffer)) {
	h, log := open()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	h.Startup(false)
	before := h.shown(t)
	snapshot := h.blobs(t)
	// Nothing that is written comes since but that a copy is about, and there is no
	// Shutdown: as of a process that is killed.
	if rc := responseCode(h.Execute(0, unhex(extendPCR16), nil)); rc != 0 {
		t.Fatal(rc)
	}
	h.Cut()
	h.arrive(t, snapshot)
	after := h.shown(t)
	if after.reset <= before.reset || after.clock < before.clock || after.safe || !strings.Contains(log.String(), replacedByOlder) {
		t.Errorf("shown before %+v, and after a revert %+v; log: %s", before, after, log)
	}
	if got := string(h.Info(InfoHistory)); got != `{"StateHistory":{"Reverts":1}}` {
		t.Errorf("info: %s", got)
	}
	// What it has shown outlives it.
	h.PowerOff()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	h.Startup(false)
	if again := h.shown(t); again.reset < after.reset || again.reset == after.reset && again.restart <= after.restart {
		t.Errorf("shown after a revert %+v, and after a reboot %+v", after, again)
	}

	// There and back.
	after = h.shown(t)
	there, thereLog := open()
	there.arrive(t, h.blobs(t))
	h.Cut()
	if rc := responseCode(there.Execute(0, unhex(extendPCR16), nil)); rc != 0 {
		t.Fatal(rc)
	}
	h.arrive(t, there.blobs(t))
	if back := h.shown(t); back.reset != after.reset || back.restart != after.restart || back.clock < after.clock ||
		strings.Count(log.String(), replacedByOlder) != 1 || strings.Contains(thereLog.String(), replacedByOlder) {
		t.Errorf("shown before %+v, and after a migration there and back %+v; log: %s", after, back, log)
	}
}

// TestRevertUnreadable: a state that came in takes the place of one that is of another
// key's, which the log says.
func TestRevertUnreadable(t *testing.T) {
	source, _ := newTestHost(t, t.TempDir(), nil)
	if err := source.Start(); err != nil {
		t.Fatal(err)
	}
	source.Startup(false)
	dir := t.TempDir()
	sealed, _ := newTestHost(t, dir, func(c *Config) { c.Key = testKey(strings.Repeat("k", 32), false) })
	if err := sealed.Start(); err != nil {
		t.Fatal(err)
	}
	if err := sealed.Close(); err != nil {
		t.Fatal(err)
	}
	h, log := newTestHost(t, dir, nil)
	h.arrive(t, source.blobs(t))
	if !strings.Contains(log.String(), "cannot be compared with it") {
		t.Errorf("log: %s", log)
	}
}
