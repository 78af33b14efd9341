package tpm

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm/internal/libtpms"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// plain is a permanent state of libtpms without what says nothing: the order of
// entries, what the timers count from, the PCRs allocated while it ran, and the
// data of an orderly Index that was not written.
func plain(t *testing.T, b []byte) *libtpms.Permanent {
	t.Helper()
	p, err := libtpms.DecodePermanent(b)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(p.Entries, func(a, b libtpms.Entry) int {
		return cmp.Or(cmp.Compare(int(a.Handle.Type())&0x80, int(b.Handle.Type())&0x80), cmp.Compare(a.Handle, b.Handle))
	})
	slices.SortFunc(p.RAM, func(a, b libtpms.RAMIndex) int { return cmp.Compare(a.Handle, b.Handle) })
	o := &p.Orderly
	for _, timer := range []*int64{&o.SelfHealTimer, &o.LockoutTimer} {
		if *timer = min(*timer-int64(o.Time), 0); p.Data.OrderlyState >= libtpms.StateProtected {
			*timer = 0
		}
	}
	o.Time, p.Data.PCRActive = 0, nil
	for i := range p.RAM {
		if x := &p.RAM[i]; !x.Attributes.Has(tpm2.NVWritten) {
			clear(x.Data)
		}
	}
	return p
}

func testConfig() Config {
	return Config{Clock: new(clock.Manual), Entropy: entropy.Replay(4)}
}

// TestExportIsImport: what was taken over goes back as it came.
func TestExportIsImport(t *testing.T) {
	r := newForeign(t)
	r.fill()
	r.all(shutdownCmd(tpm2.SUClear))
	there := r.other.blob(permanentBlob)
	here, err := ImportLibtpms(testConfig(), there)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ExportLibtpms(testConfig(), here, false)
	if err != nil {
		t.Fatal(err)
	}
	got, want := plain(t, back), plain(t, there)
	g, _ := got.Encode(1)
	w, _ := want.Encode(1)
	if !bytes.Equal(g, w) {
		i := 0
		for g[i] == w[i] {
			i++
		}
		t.Errorf("the state came back as another one, from byte %d on: %x, not %x", i, g[i:min(i+40, len(g))], w[i:min(i+40, len(w))])
	}
}

// TestExport moves a TPM of ours with something of every kind to Debian's swtpm.
func TestExport(t *testing.T) {
	for _, down := range []tpm2.SU{tpm2.SUClear, tpm2.SUState} {
		r := newRig(t, false)
		r.fill()
		r.all(shutdownCmd(down))
		there, err := ExportLibtpms(r.cfg, r.durable, false)
		if down == tpm2.SUState {
			var not *NotCarried
			if !errors.As(err, &not) || len(not.Things) != 1 || !strings.Contains(not.Things[0], "contexts that the guest has saved") {
				t.Errorf("a state with saved contexts: %v", err)
			}
			there, err = ExportLibtpms(r.cfg, r.durable, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		swtpm := &rig{t: t, other: newOracleOf(t, there)}
		mine := &rig{t: t, clock: r.clock, cfg: r.cfg}
		here, err := ImportLibtpms(r.cfg, there)
		if err != nil {
			t.Fatal(err)
		}
		mine.power(here)
		swtpm.agree(mine, "starting up", startupCmd(tpm2.SUClear))
		swtpm.agree(mine, "what there is", inventory()...)
		swtpm.agree(mine, "what is used", useCmds()[:5]...)
	}
}

// TestExportSaved: what Shutdown(STATE) has saved goes over too, where no
// contexts are out.
func TestExportSaved(t *testing.T) {
	r := newRig(t, true)
	for _, alg := range tpm2.HashAlgs() {
		r.all(frame(tpm2.CCPCRExtend, []tpm2.Handle{7}, password(""), u32(1), u16(uint16(alg)), make([]byte, alg.DigestSize())))
	}
	r.all(frame(tpm2.CCHierarchyChangeAuth, []tpm2.Handle{tpm2.RHPlatform}, password(""), buf16([]byte("platform"))),
		frame(tpm2.CCHierarchyControl, []tpm2.Handle{tpm2.RHOwner}, password(""), u32(uint32(tpm2.RHOwner)), []byte{0}),
		shutdownCmd(tpm2.SUState))
	there, err := ExportLibtpms(r.cfg, r.durable, false)
	if err != nil {
		t.Fatal(err)
	}
	swtpm := &rig{t: t, other: newOracleOf(t, there)}
	r.power(r.durable)
	swtpm.agree(r, "starting up", startupCmd(tpm2.SUState))
	swtpm.agree(r, "what was saved", inventory()...)
	null := eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256)
	swtpm.agree(r, "a key of the null hierarchy", createPrimaryCmd(tpm2.RHNull, &null, ""))
	back, err := ImportLibtpms(r.cfg, swtpm.other.blob(permanentBlob))
	if err != nil || bytes.Equal(back, r.durable) {
		t.Error(err)
	}
}

// TestExportNamesWhatCannotGo: a profile that libtpms does not have.
func TestExportNamesWhatCannotGo(t *testing.T) {
	r := newRigOf(t, builtinProfile("ashlar-v1"), true)
	_, err := ExportLibtpms(r.cfg, r.durable, false)
	var not *NotCarried
	if !errors.As(err, &not) || !strings.Contains(err.Error(), ": the profile ashlar-v1 is none of libtpms") {
		t.Errorf("%v", err)
	}
}
