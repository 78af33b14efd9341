package tpm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/cryptotest"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// saveAndLoad saves the context of every loaded object and session, flushes the
// objects, and loads all again, each in the slot where it was. It does nothing
// where that would revoke a Shutdown.
func (r *rig) saveAndLoad() {
	r.t.Helper()
	s := &r.e.state
	if !s.started || s.orderly != shutdownNone || r.e.failed {
		return
	}
	was := s.objects.Slots
	save := func(h tpm2.Handle) []byte {
		return bytes.Clone(r.must(tpm2.RCSuccess, tpm2.CCContextSave, []tpm2.Handle{h}, nil))
	}
	load := func(context []byte, want tpm2.Handle) {
		if got := r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, context); !bytes.Equal(got, u32(uint32(want))) {
			r.t.Fatalf("the context of 0x%x is loaded as %x", uint32(want), got)
		}
	}
	flush := func(h tpm2.Handle) { r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(h))) }
	var objects [len(was)][]byte
	for i, o := range was {
		if h := tpm2.TransientFirst + tpm2.Handle(i); o != nil {
			objects[i] = save(h)
			flush(h)
		}
	}
	for i, o := range was {
		if h := tpm2.TransientFirst + tpm2.Handle(i); o != nil {
			load(objects[i], h)
		} else { // a placeholder, so that the next gets the next slot
			r.must(tpm2.RCSuccess, tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA1)))
		}
	}
	for i, o := range was {
		if o == nil {
			flush(tpm2.TransientFirst + tpm2.Handle(i))
		}
	}
	for _, h := range s.sessions.Handles(true) {
		load(save(h), h)
	}
}

// TestContextsBetweenAnyCommands runs one history on two TPMs that start alike.
// In one of them the context of all that is loaded is saved, and loaded again,
// before every command; that must not change an answer.
func TestContextsBetweenAnyCommands(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			a, b := newRig(t, false), newRig(t, false)
			b.clock, b.cfg.Clock, b.e.cfg.Clock = a.clock, a.clock, a.clock
			s := &solo{history: newSoloHistory(*historySeed + seed + 200), todo: equipment()}
			theirs := map[string][]byte{} // b's context for each of a's
			reloads := 0
			for i := range *historyCount {
				cmd := s.step(i, 300, a, b)
				other := cmd
				if context, ok := theirs[string(cmd[min(headerSize, len(cmd)):])]; ok && commandCode(cmd) == tpm2.CCContextLoad {
					other = frame(tpm2.CCContextLoad, nil, nil, context)
				}
				if b.e.state.started {
					reloads++
				}
				b.saveAndLoad()
				cryptotest.SetGlobalRandom(t, uint64(i))
				x := a.execute(cmd)
				cryptotest.SetGlobalRandom(t, uint64(i))
				y := b.execute(other)
				a.alive(fmt.Sprintf("command %d, %x", i, cmd))
				s.note(cmd, x)
				cc := commandCode(cmd)
				if cc == tpm2.CCContextSave && code(x) == tpm2.RCSuccess && code(y) == tpm2.RCSuccess {
					theirs[string(x[headerSize:])] = bytes.Clone(y[headerSize:])
				}
				own := cc == tpm2.CCContextSave // its number is another
				if code(x) != code(y) || len(x) != len(y) || !own && !bytes.Equal(x, y) {
					t.Fatalf("command %d, %v: %v %x\n  with contexts saved before: %v %x\n%x", i, cc,
						code(x), x, code(y), y, cmd)
				}
			}
			if reloads < *historyCount/2 {
				t.Errorf("contexts were saved before %d commands only", reloads)
			}
		})
	}
}

// observations are commands whose answers show all that a power cycle may keep
// or end, none of it each TPM's own.
func observations() [][]byte {
	var list [][]byte
	for n := range byte(24) {
		sel := []byte{3, 0, 0, 0}
		sel[1+n/8] = 1 << (n % 8)
		for _, alg := range tpm2.HashAlgs() {
			list = append(list, frame(tpm2.CCPCRRead, nil, nil, u32(1), u16(uint16(alg)), sel))
		}
	}
	capability := func(c tpm2.Cap, property uint32, count uint32) {
		list = append(list, frame(tpm2.CCGetCapability, nil, nil, u32(uint32(c)), u32(property), u32(count)))
	}
	for _, h := range []tpm2.HandleType{tpm2.HTNVIndex, tpm2.HTHMACSession, tpm2.HTPolicySession, tpm2.HTTransient, tpm2.HTPersistent} {
		capability(tpm2.CapHandles, uint32(h)<<24, 100)
	}
	for _, p := range []tpm2.PT{tpm2.PTPermanent, tpm2.PTStartupClear, tpm2.PTLockoutCounter} {
		capability(tpm2.CapTPMProperties, uint32(p), 1)
	}
	capability(tpm2.CapPCRs, 0, 10)
	capability(tpm2.CapAuditCommands, 0, 200)
	capability(tpm2.CapAuthPolicies, uint32(tpm2.RHOwner), 10)
	for i := range tpm2.Handle(11) {
		x := 0x01500000 + i
		list = append(list, frame(tpm2.CCNVReadPublic, []tpm2.Handle{x}, nil),
			frame(tpm2.CCNVRead, []tpm2.Handle{tpm2.RHOwner, x}, password(""), u16(4), u16(0)),
			frame(tpm2.CCNVRead, []tpm2.Handle{x, x}, password(""), u16(8), u16(0)))
	}
	return list
}

// TestPowerCyclesAsSwtpm runs histories on both TPMs and ends each by a Shutdown,
// a loss of power and a Startup of every kind: what survives, and what does not,
// is the same.
func TestPowerCyclesAsSwtpm(t *testing.T) {
	p := newPair(t)
	h := newHistory(*diffSeed + 50)
	rnd := rand.New(rand.NewPCG(*diffSeed, 50))
	resumed := 0
	for round := range 40 {
		p.restart()
		for range 30 {
			d, cmd := h.next()
			got, want := p.execute(cmd), p.o.execute(cmd)
			if code(got) != code(want) && !excused(d, cmd, code(got), code(want)) {
				t.Fatalf("%v: ours %v, swtpm %v: %x", d.cc, code(got), code(want), cmd)
			}
		}
		how := fmt.Sprintf("round %d", round)
		if kind := rnd.IntN(5); kind > 0 {
			p.same(how+", Shutdown", shutdownCmd(tpm2.SU(min(kind, 2)-1)))
			how += fmt.Sprintf(", shutdown %d", min(kind, 2)-1)
		}
		p.cut()
		su := tpm2.SU(min(rnd.IntN(3), 1))
		how += fmt.Sprintf(", startup %d", su)
		if resp := p.same(how+", Startup", startupCmd(su)); code(resp) != tpm2.RCSuccess {
			// There a Startup that fails makes the next forget that a protected
			// authorization was tried, here it counts after the power loss.
			p.cut()
			p.same(how+", Startup again", startupCmd(tpm2.SUClear))
		} else if su == tpm2.SUState {
			resumed++
		}
		for _, cmd := range observations() {
			p.same(fmt.Sprintf("%s, %v", how, commandCode(cmd)), cmd)
		}
		if t.Failed() {
			break
		}
	}
	if resumed < 5 {
		t.Errorf("only %d of the cycles were a resume", resumed)
	}
}
