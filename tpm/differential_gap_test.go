package tpm

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestContextGapAlike saves contexts until the oldest is as far behind as it may
// be, which is too far for a generated history: what TPM_RC_CONTEXT_GAP then
// forbids, and what closes the gap, is the same on Debian's swtpm.
func TestContextGapAlike(t *testing.T) {
	t.Parallel()
	w := newTwin(t, 7)
	g := gen{w: w}
	do := func(s *step) (tpm2.RC, tpm2.Handle) {
		t.Helper()
		x := w.build(s)
		ours, theirs := w.run(x)
		if ours.rc != theirs.rc || ours.handle != theirs.handle {
			t.Fatalf("%v: ours %v %x, swtpm %v %x", s, ours.rc, ours.handle, theirs.rc, theirs.handle)
		}
		g.learn(x, &ours, &theirs)
		return ours.rc, ours.handle
	}
	in := startAuthSessionIn{nonceCaller: make([]byte, 16), symmetric: tpm2.SymDef{Alg: tpm2.AlgNull}, authHash: tpm2.HashID(tpm2.AlgSHA256)}
	start := func() (tpm2.RC, tpm2.Handle) {
		t.Helper()
		return do(&step{d: registry.lookup(tpm2.CCStartAuthSession), handles: []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, plain: tpm2.Marshal(&in)})
	}
	save := func(h tpm2.Handle) tpm2.RC {
		t.Helper()
		rc, _ := do(&step{d: registry.lookup(tpm2.CCContextSave), handles: []tpm2.Handle{h}})
		return rc
	}
	load := func(n int) tpm2.RC {
		t.Helper()
		rc, _ := do(&step{d: registry.lookup(tpm2.CCContextLoad), context: n})
		return rc
	}
	must := func(want, rc tpm2.RC) {
		t.Helper()
		if rc != want {
			t.Fatalf("%v, want %v", rc, want)
		}
	}
	const oldest, second, moving = 1, 2, 3
	for range 2 {
		_, h := start()
		must(tpm2.RCSuccess, save(h))
	}
	_, h := start()
	n := 2
	for ; save(h) == tpm2.RCSuccess; n++ {
		must(tpm2.RCSuccess, load(moving))
		w.saved = w.saved[:second]
	}
	must(tpm2.RCContextGap, save(h))
	t.Logf("the gap is full after %d contexts", n)
	_, _ = start()
	rc, _ := start()
	must(tpm2.RCContextGap, rc)
	must(tpm2.RCContextGap, load(second))
	must(tpm2.RCSuccess, load(oldest))
	must(tpm2.RCSuccess, save(h))
	must(tpm2.RCSuccess, load(second))
}
