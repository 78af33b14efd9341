package tpm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// maxReplays is how often an episode is done again to shorten it.
const maxReplays = 400

// explain reports a difference with the shortest list of steps that shows it.
func (r *runner) explain(n uint64, d *difference) {
	r.t.Helper()
	steps := slices.Clone(r.done)
	if again := r.replay(steps); again == nil {
		r.coverage.flakes++
		r.differences--
		r.t.Logf("seed %d, episode %d: %v; not when it was done again:\n ours  %x\n swtpm %x\n command %x", r.seed, n, d,
			d.answers[0].whole, d.answers[1].whole, d.cmd)
		return
	}
	steps = r.shrink(steps, d)
	last := r.replay(steps)
	if last == nil {
		last = d
	}
	var b strings.Builder
	for i, s := range steps {
		fmt.Fprintf(&b, "\n %3d %v", i, s)
	}
	r.t.Errorf("seed %d, episode %d: %v\n ours  %x\n swtpm %x\n command %x\n%d steps:%s", r.seed, n, last,
		last.answers[0].whole, last.answers[1].whole, last.cmd, len(steps), b.String())
}

// replay does steps again from the beginning, and gives the first difference:
// that swtpm ends is one.
func (r *runner) replay(steps []*step) (d *difference) {
	defer func() {
		p := recover()
		if lost, ok := p.(oracleLost); ok {
			r.revive()
			d = &difference{cc: commandCode(lost.cmd), why: "swtpm ends", cmd: lost.cmd, theirs: tpm2.RCFailure}
		} else if p != nil {
			panic(p)
		}
	}()
	r.w.begin()
	g := gen{w: r.w}
	kept := r.coverage
	r.coverage = newCoverage()
	defer func() { r.coverage = kept }()
	for _, s := range steps {
		d := r.do(&g, s)
		g.queue, g.pool = nil, nil
		if d != nil && d.excused != "" {
			return nil
		}
		if d != nil {
			return d
		}
	}
	return nil
}

// shrink leaves steps out as long as the difference stays.
func (r *runner) shrink(steps []*step, d *difference) []*step {
	replays := 0
	for size := len(steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size < len(steps); {
			if replays++; replays > maxReplays {
				return steps
			}
			fewer := slices.Concat(steps[:at], steps[at+size:])
			if x := r.replay(fewer); d.same(x) {
				steps = fewer
			} else {
				at += size
			}
		}
	}
	return steps
}

// equip makes what every episode begins with: parents that are persistent, and
// objects below them.
func (r *runner) equip() {
	w := r.w
	null := tpm2.Scheme{Alg: tpm2.AlgNull}
	broadly := func(p tpm2.Public) tpm2.Public {
		p.AuthPolicy = r.base.broad[p.NameAlg]
		return p
	}
	for h, x := range map[tpm2.Handle]struct {
		hierarchy tpm2.Handle
		template  tpm2.Public
	}{
		srk:            {tpm2.RHOwner, storageKey(eccKey(0, null, tpm2.CurveP256))},
		cipherParent:   {tpm2.RHOwner, broadly(storageKey(aesKey(0, tpm2.AlgCFB)))},
		platformParent: {tpm2.RHPlatform, storageKey(aesKey(0, tpm2.AlgCFB))},
		ek:             {tpm2.RHEndorsement, broadly(storageKey(rsaKey(0, null)))},
	} {
		resp := w.expect(tpm2.RCSuccess, "CreatePrimary", createPrimaryCmd(x.hierarchy, &x.template, ""))
		if code(resp) != tpm2.RCSuccess {
			r.t.FailNow()
		}
		who := tpm2.RHOwner
		if h >= tpm2.PlatformPersistent {
			who = tpm2.RHPlatform
		}
		w.expect(tpm2.RCSuccess, "EvictControl", frame(tpm2.CCEvictControl, []tpm2.Handle{who, tpm2.TransientFirst}, password(""), u32(uint32(h))))
		w.expect(tpm2.RCSuccess, "FlushContext", flushCmd(tpm2.TransientFirst))
	}
	w.keep()
	w.begin()
	g := &r.base
	usable := signingKey&^tpm2.ObjSign | tpm2.ObjDecrypt
	storage := rsaKey(usable|tpm2.ObjRestricted, null)
	storage.Symmetric = tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
	for _, p := range []tpm2.Public{rsaKey(signingKey, null), rsaKey(usable, null), rsaKey(attestingKey, schemeOf(tpm2.AlgRSASSA)),
		rsaKey(signingKey, schemeOf(tpm2.AlgRSAPSS)), rsaKey(usable, schemeOf(tpm2.AlgOAEP)), storage} {
		in := &createIn{}
		in.public.Public = p
		r.must(g.cmd(tpm2.CCCreate, []tpm2.Handle{srk}, in))
	}
	for range 300 {
		s := g.createSome()
		if d := r.do(g, s); d != nil && d.excused == "" {
			r.done = append(r.done[:0], s)
			r.explain(0, d)
		}
		g.queue = nil
		g.base, g.pool = append(g.base, g.pool...), nil
	}
}

// createSome is a Create below one of the parents.
func (g *gen) createSome() *step {
	h := pickOf(g, srk, cipherParent, platformParent)
	in := g.createIn(g.w.e.state.objects.Get(h))
	s := g.cmd(tpm2.CCCreate, []tpm2.Handle{h}, in)
	s.uses, s.vias = []use{g.password()}, nil
	return s
}

// must does a step that must succeed on both.
func (r *runner) must(s *step) {
	r.t.Helper()
	s.uses, s.vias = []use{r.base.password()}, nil
	if d := r.do(&r.base, s); d != nil || r.base.last.rc != tpm2.RCSuccess {
		r.t.Fatalf("%v: %v, %v", s, r.base.last.rc, d)
	}
}
