package tpm

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/tpm/internal/libtpms"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// fileAlone makes a TPM of ours of the oracle's permanent state, not started.
func (r *rig) fileAlone() *rig {
	r.t.Helper()
	mine := &rig{t: r.t, clock: new(clock.Manual), cfg: testConfig()}
	permanent, err := ImportLibtpms(mine.cfg, r.other.blob(permanentBlob))
	if err != nil {
		r.t.Fatal(err)
	}
	mine.power(permanent)
	return mine
}

// TestImportAfterPowerLoss: the file of a TPM that was not shut down makes the same
// one as Debian's swtpm goes on with: the failure that counts, the counters moved on,
// the clock that is not safe.
func TestImportAfterPowerLoss(t *testing.T) {
	r := newForeign(t)
	r.fill()
	mine := r.fileAlone()
	r.other.tell(0, 0, 0, 2, 0, 0, 0, 0)
	r.agree(mine, "starting up", startupCmd(tpm2.SUClear))
	r.agree(mine, "after a power loss", inventory()...)
	r.agree(mine, "what is used", useCmds()...)
	var a, b tpm2.TimeInfo
	read := frame(tpm2.CCReadClock, nil, nil)
	decode(t, r.execute(read)[headerSize:], &a)
	decode(t, mine.execute(read)[headerSize:], &b)
	if a.Safe != b.Safe || a.ResetCount != b.ResetCount || a.RestartCount != b.RestartCount {
		t.Errorf("the clock: %+v and %+v", a, b)
	}
}

// TestImportSaved: the file after Shutdown(STATE) resumes here, and the contexts
// that libtpms has saved load.
func TestImportSaved(t *testing.T) {
	r := newForeign(t)
	key := eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256)
	r.all(startupCmd(tpm2.SUClear), createPrimaryCmd(tpm2.RHNull, &key, ""),
		auditableCmd(tpm2.SEHMAC, tpm2.RHNull, tpm2.AlgSHA256), auditableCmd(tpm2.SEHMAC, tpm2.RHNull, tpm2.AlgSHA256),
		frame(tpm2.CCHierarchyChangeAuth, []tpm2.Handle{tpm2.RHPlatform}, password(""), buf16([]byte("platform"))))
	object, session := r.execute(saveCmd(tpm2.TransientFirst)), r.execute(saveCmd(tpm2.HMACSessionFirst+1))
	for _, n := range []tpm2.Handle{0, 15, 16, 17, 23} {
		r.execute(frame(tpm2.CCPCRExtend, []tpm2.Handle{n}, password(""), u32(1), u16(uint16(tpm2.AlgSHA256)), make([]byte, 32)))
	}
	r.all(shutdownCmd(tpm2.SUState))
	running := r.takeOver()
	r.agree(running, "still running after Shutdown(STATE)", capabilityCmd(tpm2.CapHandles, 0x03000000, 10))
	running.power(running.durable)
	running.all(startupCmd(tpm2.SUState), loadContextCmd(session), loadContextCmd(object))
	mine := r.fileAlone()
	r.other.tell(0, 0, 0, 2, 0, 0, 0, 0)
	waiting := r.takeOver() // powered on and not started
	waiting.all(startupCmd(tpm2.SUState), loadContextCmd(session))
	r.agree(mine, "resuming", startupCmd(tpm2.SUState))
	r.agree(mine, "what was saved", inventory()...)
	r.agree(mine, "contexts", loadContextCmd(object), loadContextCmd(session), readPublicCmd(tpm2.TransientFirst),
		createPrimaryCmd(tpm2.RHNull, &key, ""), capabilityCmd(tpm2.CapHandles, 0x02000000, 10),
		frame(tpm2.CCClearControl, []tpm2.Handle{tpm2.RHPlatform}, password("platform"), []byte{1}))
}

// TestImportBound: a session that Debian's swtpm has bound to an entity is bound to
// it here.
func TestImportBound(t *testing.T) {
	r := newForeign(t)
	r.all(startupCmd(tpm2.SUClear), defineCmd(tpm2.RHOwner, goldenIndex, tpm2.NVOwnerRead|tpm2.NVOwnerWrite, 8),
		frame(tpm2.CCHierarchyChangeAuth, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16([]byte("the owner's password"))),
		auditableCmd(tpm2.SEHMAC, tpm2.RHOwner, tpm2.AlgSHA256), auditableCmd(tpm2.SEHMAC, goldenIndex, tpm2.AlgSHA512),
		auditableCmd(tpm2.SEHMAC, tpm2.RHNull, tpm2.AlgSHA256))
	mine := r.takeOver()
	for i, bound := range []tpm2.Handle{tpm2.RHOwner, goldenIndex, tpm2.RHNull} {
		s := mine.e.state.sessions.Get(tpm2.HMACSessionFirst + tpm2.Handle(i))
		for _, h := range []tpm2.Handle{tpm2.RHOwner, goldenIndex, tpm2.RHEndorsement} {
			if mine.e.isBoundTo(s, h) != (h == bound) {
				t.Errorf("session %d and %v: bound is %v", i, h, !(h == bound))
			}
		}
	}
}

// TestImportAlgorithms takes over a persistent key of every curve and RSA size that
// Debian's swtpm has, which children below them and signatures show to be the same.
func TestImportAlgorithms(t *testing.T) {
	r := newForeign(t)
	r.all(startupCmd(tpm2.SUClear))
	var keys []tpm2.Public
	for _, curve := range nullProfile.impl.Curves {
		keys = append(keys, storageKey(eccKey(0, schemeOf(tpm2.AlgNull), curve)))
	}
	for _, bits := range nullProfile.impl.RSABits {
		key := storageKey(rsaKey(0, schemeOf(tpm2.AlgNull)))
		key.KeyBits = bits
		keys = append(keys, key)
	}
	for i := range keys {
		r.all(createPrimaryCmd(tpm2.RHOwner, &keys[i], ""), evictCmd(tpm2.RHOwner, tpm2.TransientFirst, goldenKey+tpm2.Handle(i)),
			flushCmd(tpm2.TransientFirst))
	}
	child := sealedData()
	var loads [][]byte
	for i := range keys {
		parent := []tpm2.Handle{goldenKey + tpm2.Handle(i)}
		created := new(createOut)
		decode(t, params(t, r.execute(frame(tpm2.CCCreate, parent, password(""), buf16(append(buf16(nil), buf16([]byte("a child"))...)),
			buf16(tpm2.Marshal(&child)), buf16(nil), u32(0)))[headerSize:]), created)
		loads = append(loads, frame(tpm2.CCLoad, parent, password(""), buf16(created.private), buf16(tpm2.Marshal(&created.public.Public))))
	}
	mine := r.takeOver()
	for i, load := range loads {
		r.agree(mine, "a key", readPublicCmd(goldenKey+tpm2.Handle(i)))
		loaded := mine.execute(load)
		if rc := code(loaded); rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		h := handleOf(loaded)
		mine.all(frame(tpm2.CCUnseal, []tpm2.Handle{h}, password("")), flushCmd(h))
	}
	if t.Failed() || len(loads) < 8 {
		t.Errorf("%d keys", len(loads))
	}
}

// TestImportLists: everything that cannot be carried is listed at once.
func TestImportLists(t *testing.T) {
	p, err := libtpms.DecodePermanent(foreignGolden(t, "0.9.2.permanent"))
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for _, e := range p.Entries {
		switch {
		case e.Index != nil && e.Handle == goldenIndex:
			e.Index.Public.NameAlg = tpm2.AlgSM3256
			want++
		case e.Object != nil && (e.Handle == goldenKey || e.Handle == goldenKey+0x10):
			e.Object.Public.NameAlg = tpm2.AlgSHA3256
			want++
		}
	}
	b, err := p.Encode(1)
	if err != nil {
		t.Fatal(err)
	}
	var not *NotCarried
	if _, err := ImportLibtpms(testConfig(), b); !errors.As(err, &not) || len(not.Things) != want || want != 3 {
		t.Fatalf("%v", err)
	}
	for i, handle := range []string{"0x01500001", "0x81000001", "0x81000011"} {
		found := false
		for _, thing := range not.Things {
			found = found || strings.Contains(thing, handle) && strings.Contains(thing, "does not have")
		}
		if !found {
			t.Errorf("%d: %s is not named: %v", i, handle, not.Things)
		}
	}

	p.Profile = `{"Name":"of-the-future","StateFormatLevel":9}`
	if b, err = p.Encode(8); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportLibtpms(testConfig(), b); !errors.As(err, &not) || !strings.Contains(err.Error(), "the profile is not one of this TPM's") {
		t.Errorf("%v", err)
	}
}

// TestImportBetweenAnyCommands runs histories of TestDifferential, and takes the TPM
// of Debian's swtpm over every few commands: ours answers on as it does, to the
// byte, and loads the contexts that libtpms has saved.
func TestImportBetweenAnyCommands(t *testing.T) {
	r := newRunner(t, *diffSeed)
	tally := &takeOvers{inTheWay: map[string]int{}}
	for n := range uint64(6) {
		r.episodeWithTakeOvers(n, tally)
	}
	if tally.taken < 100 {
		t.Errorf("the TPM was taken over %d times only: %v", tally.taken, tally.inTheWay)
	}
	t.Logf("taken over %d times, and else in the way: %v", tally.taken, tally.inTheWay)
}

type takeOvers struct {
	taken    int
	inTheWay map[string]int
}

// episodeWithTakeOvers is episode, with a take-over every few commands.
func (r *runner) episodeWithTakeOvers(n uint64, tally *takeOvers) {
	r.t.Helper()
	defer r.survive(n)
	r.w.begin()
	g := r.base
	g.pool = slices.Clone(g.pool)
	g.Rand = rand.New(rand.NewPCG(r.seed, n+1))
	r.done = r.done[:0]
	for i := range episodeLength {
		if i%7 == 0 {
			r.takeOver(tally)
		}
		s := g.next()
		r.done = append(r.done, s)
		if d := r.do(&g, s); d != nil {
			// The time that ClockSet sets may be this very millisecond.
			if d.excused == "" && d.cc != tpm2.CCClockSet {
				r.t.Errorf("episode %d, command %d: %v\n%x", n, i, d, d.cmd)
			}
			return
		}
	}
}

func (r *runner) takeOver(tally *takeOvers) {
	r.t.Helper()
	var not *NotCarried
	switch err := r.w.goOnFrom(r.w.o); {
	case err == nil:
		tally.taken++
	case errors.As(err, &not):
		tally.inTheWay[not.Things[0]]++
		return
	default:
		r.t.Fatal(err)
	}
	r.w.random.engine = r.w.e
	for i := range r.w.saved {
		r.w.saved[i].context[0] = r.w.saved[i].context[1]
	}
}
