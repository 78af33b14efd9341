package tpm

import (
	"bytes"
	"cmp"
	"errors"
	"math/rand/v2"
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
// data of an Index that was not written.
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
	for _, e := range p.Entries {
		if e.Index != nil && !e.Index.Public.Attributes.Has(tpm2.NVWritten) {
			clear(e.Index.Data)
		}
	}
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

// TestExportBetweenAnyCommands runs histories of TestDifferential, in which both
// TPMs have the same secrets and draw the same numbers, and shuts them down now and
// then: what we write is what libtpms has written, field by field.
func TestExportBetweenAnyCommands(t *testing.T) {
	r := newRunner(t, *diffSeed)
	compared := 0
	for n := range uint64(8) {
		compared += r.episodeWithExports(n)
	}
	if compared < 20 {
		t.Errorf("only %d states were compared", compared)
	}
	t.Logf("%d states were compared", compared)
}

func (r *runner) episodeWithExports(n uint64) (compared int) {
	r.t.Helper()
	defer r.survive(n)
	r.w.begin()
	g := r.base
	g.pool = slices.Clone(g.pool)
	g.Rand = rand.New(rand.NewPCG(r.seed, n+1))
	r.done = r.done[:0]
	for i := range episodeLength / 2 {
		s := g.next()
		r.done = append(r.done, s)
		if r.do(&g, s) != nil {
			return compared
		}
		down := shutdownCmd(tpm2.SUClear)
		if i%10 != 9 || !r.w.e.state.started || code(r.w.execute(down)) != tpm2.RCSuccess || code(r.w.o.execute(down)) != tpm2.RCSuccess {
			continue
		}
		back, err := ExportLibtpms(r.w.cfg, r.w.durable, false)
		if err != nil {
			r.t.Fatal(err)
		}
		r.sameStates(plain(r.t, back), plain(r.t, r.w.o.blob(permanentBlob)))
		if compared++; r.t.Failed() {
			r.t.Fatalf("episode %d, command %d", n, i)
		}
	}
	return compared
}

// sameStates compares states but for the clock, which each TPM reads for itself.
func (r *runner) sameStates(ours, theirs *libtpms.Permanent) {
	r.t.Helper()
	ours.Orderly, theirs.Orderly = libtpms.Orderly{}, libtpms.Orderly{}
	if len(ours.Entries) != len(theirs.Entries) {
		r.t.Errorf("%d entries, not %d", len(ours.Entries), len(theirs.Entries))
		return
	}
	for i := range ours.Entries {
		one, other := &libtpms.Permanent{Entries: ours.Entries[i : i+1]}, &libtpms.Permanent{Entries: theirs.Entries[i : i+1]}
		a, _ := one.Encode(1)
		b, _ := other.Encode(1)
		if !bytes.Equal(a, b) {
			r.t.Errorf("the entry 0x%08X is another one: %+v, %+v", uint32(ours.Entries[i].Handle), ours.Entries[i], theirs.Entries[i])
		}
	}
	ours.Entries, theirs.Entries = nil, nil
	a, err := ours.Encode(1)
	b, _ := theirs.Encode(1)
	if err != nil || !bytes.Equal(a, b) {
		r.t.Errorf("%v: the state is\n%+v, not\n%+v", err, ours, theirs)
	}
}

// TestExportContextCounter: libtpms takes the low bits of the next context's id
// for a session's state, in which 0 to 3 say something else.
func TestExportContextCounter(t *testing.T) {
	r := newRig(t, true)
	r.all(shutdownCmd(tpm2.SUState))
	e, err := New(r.cfg, r.durable)
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range []uint64{1, 4, 0xFFFB, 0xFFFC, 0xFFFF, 0x10004, 0x1FFFD} {
		e.state.sessions.SetNext(next)
		there, err := ExportLibtpms(r.cfg, e.Permanent(), false)
		if err != nil {
			t.Fatal(err)
		}
		p, err := libtpms.DecodePermanent(there)
		if err != nil {
			t.Fatal(err)
		}
		if n := p.Reset.ContextCounter; n < next || n&libtpms.LongMask <= libtpms.LoadedSessions {
			t.Errorf("%#x went as %#x", next, n)
		}
	}
}
