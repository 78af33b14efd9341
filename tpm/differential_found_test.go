package tpm

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// What the differential test has found, by itself.

// TestShutdownInProtectedSession shuts down in a session that is bound to what
// lockout protects: that use comes before the Shutdown, which stays in force.
func TestShutdownInProtectedSession(t *testing.T) {
	w := newTwin(t, 5)
	do := func(s *step) {
		t.Helper()
		ours, theirs := w.run(w.build(s))
		if ours.rc != tpm2.RCSuccess || theirs.rc != tpm2.RCSuccess {
			t.Fatalf("%v: ours %v, swtpm %v", s, ours.rc, theirs.rc)
		}
	}
	w.expect(tpm2.RCSuccess, "NV_DefineSpace", defineCmd(tpm2.RHOwner, tpm2.NVIndexFirst, tpm2.NVOwnerWrite|tpm2.NVAuthRead, 8))
	in := startAuthSessionIn{nonceCaller: make([]byte, 16), symmetric: tpm2.SymDef{Alg: tpm2.AlgNull}, authHash: tpm2.HashID(tpm2.AlgSHA256)}
	do(&step{d: registry.lookup(tpm2.CCStartAuthSession), handles: []tpm2.Handle{tpm2.RHNull, tpm2.NVIndexFirst}, plain: tpm2.Marshal(&in)})
	do(&step{d: registry.lookup(tpm2.CCShutdown), plain: u16(uint16(tpm2.SUState)),
		uses: []use{{session: tpm2.HMACSessionFirst, attrs: tpm2.SessionAudit, nonce: make([]byte, 16)}}})
	w.cut()
	w.expect(tpm2.RCSuccess, "Startup(STATE)", startupCmd(tpm2.SUState))
}

// TestContextLoadFailsAfterShutdown loads a session that is not saved after
// Shutdown(STATE): the command fails, and the Shutdown has ended.
func TestContextLoadFailsAfterShutdown(t *testing.T) {
	w := newTwin(t, 6)
	g := gen{w: w}
	do := func(want tpm2.RC, s *step) {
		t.Helper()
		x := w.build(s)
		ours, theirs := w.run(x)
		if ours.rc != want || theirs.rc != want {
			t.Errorf("%v: ours %v, swtpm %v, want %v", s, ours.rc, theirs.rc, want)
		}
		g.learn(x, &ours, &theirs)
	}
	in := startAuthSessionIn{nonceCaller: make([]byte, 16), symmetric: tpm2.SymDef{Alg: tpm2.AlgNull}, authHash: tpm2.HashID(tpm2.AlgSHA256)}
	load := &step{d: registry.lookup(tpm2.CCContextLoad), context: 1}
	do(tpm2.RCSuccess, &step{d: registry.lookup(tpm2.CCStartAuthSession), handles: []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, plain: tpm2.Marshal(&in)})
	do(tpm2.RCSuccess, &step{d: registry.lookup(tpm2.CCContextSave), handles: []tpm2.Handle{tpm2.HMACSessionFirst}})
	do(tpm2.RCSuccess, load)
	do(tpm2.RCSuccess, &step{d: registry.lookup(tpm2.CCShutdown), plain: u16(uint16(tpm2.SUState))})
	do(tpm2.RCHandle.P(1), load)
	w.cut()
	w.expect(tpm2.RCValue.P(1), "Startup(STATE)", startupCmd(tpm2.SUState))
	w.expect(tpm2.RCSuccess, "Startup(CLEAR)", startupCmd(tpm2.SUClear))
}
