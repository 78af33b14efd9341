package tpm

import (
	"encoding/asn1"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

var (
	diffSeed   = flag.Uint64("differential.seed", 1, "seed of TestDifferential")
	diffCount  = flag.Int("differential.n", 20000, "commands of TestDifferential")
	diffJobs   = flag.Int("differential.jobs", 1, "pairs of TPMs that TestDifferential runs side by side")
	diffReport = flag.String("differential.report", "", "file that TestDifferential writes its coverage to")
	diffFrom   = flag.Uint64("differential.episode", 0, "first episode of TestDifferential")
)

// episodeLength is how many commands an episode has.
const episodeLength = 500

// progressEvery is how many commands there are between two lines of progress.
const progressEvery = 100_000

// maxDifferences is when a run gives up.
const maxDifferences = 12

// TestDifferential runs generated histories on this engine and on Debian's
// swtpm, two TPMs that live in one world (twin): the response codes must be the
// same, and the answers but for what is each TPM's own. It is replayed by its
// seed, and one episode of it by its number.
func TestDifferential(t *testing.T) {
	var next atomic.Uint64
	next.Store(*diffFrom)
	total := newCoverage()
	t.Run("pairs", func(t *testing.T) {
		for job := range *diffJobs {
			t.Run(fmt.Sprint(job), func(t *testing.T) {
				t.Parallel()
				r := newRunner(t, *diffSeed)
				defer total.merge(r.coverage)
				for !t.Failed() || r.differences < maxDifferences {
					n := next.Add(1) - 1
					done := (n - *diffFrom) * episodeLength
					if done >= uint64(*diffCount) {
						return
					}
					if done > 0 && done%progressEvery == 0 {
						t.Logf("%v: %d of %d commands", time.Now().Format(time.TimeOnly), done, *diffCount)
					}
					r.episode(n)
				}
			})
		}
	})
	total.report(t, *diffReport)
}

// runner runs episodes on one twin.
type runner struct {
	t           *testing.T
	w           *twin
	seed        uint64
	base        gen // with what every episode begins with
	coverage    *coverage
	done        []*step // of the episode
	differences int
}

// makers are the makers of all commands, and how often each is made.
func makers() (all map[tpm2.CC]maker, deck []tpm2.CC) {
	all = map[tpm2.CC]maker{}
	for _, m := range []map[tpm2.CC]maker{policyMakers(), objectMakers(), keyMakers(), eccMakers(), cryptoMakers(), attestMakers(), nvMakers(), platformMakers(), otherMakers()} {
		maps.Copy(all, m)
	}
	for _, cc := range slices.Sorted(maps.Keys(all)) {
		n, ok := weights[cc]
		if !ok {
			n = usual
		}
		deck = append(deck, slices.Repeat([]tpm2.CC{cc}, n)...)
	}
	return all, deck
}

// usual is the weight of most commands; weights are those of commands that take
// long, or that end much of what others work on.
const usual = 60

var weights = map[tpm2.CC]int{
	tpm2.CCClear: 2, tpm2.CCChangeEPS: 2, tpm2.CCChangePPS: 2, tpm2.CCStartup: 2, tpm2.CCHierarchyControl: 6, tpm2.CCClearControl: 6,
	tpm2.CCSetPrimaryPolicy: 20, tpm2.CCHierarchyChangeAuth: 20, tpm2.CCDictionaryAttackParameters: 10, tpm2.CCPCRAllocate: 10,
	tpm2.CCSelfTest: 2, tpm2.CCIncrementalSelfTest: 4, tpm2.CCShutdown: 6, tpm2.CCCreatePrimary: 20, tpm2.CCCreate: 20, tpm2.CCCreateLoaded: 20,
	tpm2.CCECDHKeyGen: 8, tpm2.CCECDHZGen: 8, tpm2.CCCommit: 12, tpm2.CCECEphemeral: 8, tpm2.CCZGen2Phase: 6, tpm2.CCCertifyX509: 8, tpm2.CCRSAEncrypt: 10, tpm2.CCRSADecrypt: 10, tpm2.CCMakeCredential: 8, tpm2.CCActivateCredential: 20,
	tpm2.CCDuplicate: 20, tpm2.CCImport: 30, tpm2.CCRewrap: 30, tpm2.CCSign: 40, tpm2.CCVerifySignature: 40, tpm2.CCLoadExternal: 40,
	tpm2.CCTestParms: 100, tpm2.CCClockRateAdjust: 10, tpm2.CCNVGlobalWriteLock: 8, tpm2.CCNVWriteLock: 20, tpm2.CCNVReadLock: 20,
	tpm2.CCNVUndefineSpace: 30, tpm2.CCEvictControl: 15, tpm2.CCHash: 100, tpm2.CCPCRRead: 100, tpm2.CCGetCapability: 100,
	tpm2.CCFlushContext: 20,
}

func newRunner(t *testing.T, seed uint64) *runner {
	t.Helper()
	r := &runner{t: t, w: newTwin(t, seed), seed: seed, coverage: newCoverage()}
	r.w.o.lost = func(cmd []byte) { panic(oracleLost{cmd}) }
	g := gen{w: r.w, Rand: rand.New(rand.NewPCG(seed, 0))}
	g.makers, g.deck = makers()
	g.byDigest, g.recipes = policies()
	g.broad = map[tpm2.AlgID]tpm2.Digest{}
	for _, x := range g.recipes {
		if g.broad[x.alg] == nil {
			g.broad[x.alg] = x.digest()
		}
	}
	r.base = g
	r.equip()
	return r
}

// oracleLost is what a command panics with that ends swtpm.
type oracleLost struct{ cmd []byte }

// survive starts swtpm again where a command has ended it.
func (r *runner) survive(n uint64) {
	p := recover()
	lost, ok := p.(oracleLost)
	if p != nil && !ok {
		panic(p)
	}
	if !ok {
		return
	}
	r.revive()
	if why := oracleEnds[commandCode(lost.cmd)]; why != "" {
		r.coverage.excused[why]++
		return
	}
	d := &difference{cc: commandCode(lost.cmd), theirs: tpm2.RCFailure}
	steps := r.shrink(slices.Clone(r.done), d)
	r.differences++
	r.t.Errorf("seed %d, episode %d: swtpm ended on %x after %v", r.seed, n, lost.cmd, steps)
}

// revive starts swtpm again.
func (r *runner) revive() {
	path, err := exec.LookPath("swtpm")
	if err != nil {
		r.t.Fatal(err)
	}
	r.w.o.start(path)
}

// episode runs one episode, up to the first difference.
func (r *runner) episode(n uint64) {
	r.t.Helper()
	defer r.survive(n)
	r.w.begin()
	g := r.base
	g.Rand = rand.New(rand.NewPCG(r.seed, n+1))
	r.done = r.done[:0]
	for range episodeLength {
		s := g.next()
		r.done = append(r.done, s)
		d := r.do(&g, s)
		if d == nil {
			continue
		}
		if d.excused == "" {
			r.differences++
			r.explain(n, d)
		}
		return
	}
}

// difference is one between the two TPMs.
type difference struct {
	cc           tpm2.CC
	ours, theirs tpm2.RC
	why          string
	excused      string // why it is meant
	answers      [2]reply
	cmd          []byte
}

func (d *difference) String() string {
	return fmt.Sprintf("%v: ours %v, swtpm %v: %s", d.cc, d.ours, d.theirs, d.why)
}

// same reports whether two are probably one and the same.
func (d *difference) same(x *difference) bool {
	return x != nil && d.cc == x.cc && d.ours == x.ours && d.theirs == x.theirs && x.excused == ""
}

// do does a step on both and gives the difference that ends the episode, or nil.
func (r *runner) do(g *gen, s *step) *difference {
	w := r.w
	if s.d == nil {
		w.happen(s.event)
		return nil
	}
	if s.locality != w.locality {
		w.setLocality(s.locality)
	}
	switch s.d.cc {
	case tpm2.CCClockSet, tpm2.CCPolicySecret, tpm2.CCPolicySigned, tpm2.CCPolicyTicket, tpm2.CCPolicyCounterTimer, tpm2.CCStartAuthSession:
		if w.e.state.started {
			w.readClock() // what they do depends on the time
		}
	}
	started := w.e.state.started
	x := w.build(s)
	partOfPIN, used, counters := x.writesPartOfPIN(w.e), w.e.state.lockout.Used, len(g.indices(isOwnersCounter))
	ours, theirs := w.run(x)
	if !started && w.e.state.started {
		w.started()
	}
	d := &difference{cc: s.d.cc, ours: ours.rc, theirs: theirs.rc, answers: [2]reply{ours, theirs}, cmd: x.cmd[0]}
	if ours.rc != theirs.rc {
		d.why = "the codes differ"
		if d.excused = w.excuse(x, ours.rc, theirs.rc); d.excused != "" {
			r.coverage.excused[d.excused]++
			switch {
			case theirs.rc == tpm2.RCFailure && d.excused != rsaFails: // nothing more comes from there
			case ours.rc == tpm2.RCSuccess:
				w.e.state = w.e.before // as if ours had refused it too
				d = nil
			case theirs.rc != tpm2.RCSuccess:
				d = nil
			}
		}
		g.last = theirs
		return d
	}
	r.coverage.count(x, ours.rc)
	switch {
	case ours.rc == tpm2.RCSuccess && partOfPIN:
		d.excused = restOfPIN
	case ours.rc == tpm2.RCSuccess && s.d.cc == tpm2.CCClear && counters > 0:
		d.excused = counts
	case ours.rc == tpm2.RCSuccess && s.d.cc == tpm2.CCClear && w.e.state.pcrs.Next != w.e.state.pcrs.Allocated:
		d.excused = allocation
	case ours.rc == tpm2.RCSuccess && (ownParts[s.d.cc] != nil || s.d.cc == tpm2.CCContextLoad) && w.e.state.audit.has(s.d.cc):
		d.excused = ownLogged
	case ours.rc != tpm2.RCSuccess && s.d.cc == tpm2.CCStartup && used:
		d.excused = failedStartup
	}
	if ours.rc == tpm2.RCSuccess {
		w.noteLogged(s.d.cc)
	}
	if d.why = w.differ(x, &ours, &theirs); d.why != "" && w.logged && (s.d.cc == tpm2.CCGetCommandAuditDigest || s.d.cc == tpm2.CCGetCapability) {
		d.excused = lostLog
	}
	if d.why != "" && w.counted && s.d.cc == tpm2.CCPCRRead {
		d.excused = lostCount
	}
	if d.why != "" && x.turned {
		d.excused = turned
	}
	if d.why != "" && slices.ContainsFunc(s.handles, w.commitsNameless) {
		d.excused = nameless
	}
	if d.excused != "" {
		r.coverage.excused[d.excused]++
	}
	if d.excused != "" || d.why != "" {
		return d
	}
	g.learn(x, &ours, &theirs)
	return nil
}

// The differences that are meant.
const (
	signedComparison = "version 0.9 orders two negative numbers the wrong way round, and takes the sign of an empty one from elsewhere"
	rsaFails         = "version 0.9 says TPM_RC_FAILURE of a ciphertext of RSA that does not decrypt"
	withoutSecret    = "version 0.9 fails when an HMAC session is to authorize an object without its sensitive area"
	exchange         = "version 0.9 fails in MQV, and in SM2's exchange on the long curves"
	restOfPIN        = "version 0.9 fills the rest of a PIN Index that is written in part with what was in its memory"
	failedStartup    = "there a Startup that fails makes the next forget that a protected authorization was tried"
	lostLog          = "there a command audited after Shutdown(STATE) is lost from the log at the next power cycle"
	inClear          = "version 0.9 wraps a derived object for a parent that has no cipher, so in clear"
	beyond           = "version 0.9 takes extensions of a certificate that do not fill what holds them, or reach beyond it"
	back             = "there Clear makes contexts of stClear objects load again that a TPM Restart has ended"
	ownLogged        = "what is each TPM's own was audited"
	lostCount        = "there the count of a change after Shutdown(STATE), of a PCR that it does not save, is lost at the next power cycle"
	reloaded         = "version 0.9 ends when it goes on with a sequence of CMAC that was loaded again"
	unsigned         = "version 0.9 goes on with a certificate that is to be signed by no key, and ends if nothing else is wrong"
	noSecret         = "version 0.9 shares a secret of no bytes with a key without a Name"
	noSerial         = "version 0.9 fails where a key without a Name signs a certificate, whose number is a digest"
	allocation       = "there Clear forgets the allocation of PCRs that was to come"
	turned           = "an altered session, which encrypts or decrypts what the test does not know"
	counts           = "there Clear forgets how far the counters have counted that it deletes"
	nameless         = "there all keys without a Name, and EC_Ephemeral, have the same commitments"
	sequenceMode     = "version 0.9 names a parameter where later ones name the handle"
)

// oracleEnds says of commands why they may end version 0.9.
var oracleEnds = map[tpm2.CC]string{
	tpm2.CCImport:           "version 0.9 ends when it imports an authorization value that is longer than the digest of the object's Name",
	tpm2.CCCertifyX509:      unsigned,
	tpm2.CCSequenceUpdate:   reloaded,
	tpm2.CCSequenceComplete: reloaded,
}

// excuse says why a difference of codes is meant, or nothing.
func (w *twin) excuse(x *sent, ours, theirs tpm2.RC) string {
	switch cc := x.d.cc; {
	case theirs == tpm2.RCFailure && ours.Base() == tpm2.RCValue:
		return rsaFails
	case theirs == tpm2.RCFailure && ours == tpm2.RCAuthUnavailable:
		return withoutSecret
	case theirs == tpm2.RCFailure && cc == tpm2.CCZGen2Phase:
		return exchange
	case theirs == tpm2.RCFailure && cc == tpm2.CCCertifyX509 && w.isNameless(x.handles[1]):
		return noSerial
	case cc == tpm2.CCObjectChangeAuth && ours == tpm2.RCType.H(2) && theirs == tpm2.RCSuccess && w.isDerivation(x.handles[1]):
		return inClear
	case ours.Base() == tpm2.RCKey && w.sharesWithNameless(x):
		return noSecret
	case cc == tpm2.CCCertifyX509 && ours == tpm2.RCKey.H(1) && x.handles[1] == tpm2.RHNull:
		return unsigned
	case cc == tpm2.CCCertifyX509 && ours == tpm2.RCValue.P(3) && !wellFormed(x.plain):
		return beyond
	case cc == tpm2.CCContextLoad && ours == tpm2.RCIntegrity.P(1) && theirs == tpm2.RCSuccess && w.isSTClear(x):
		return back
	case cc == tpm2.CCSequenceUpdate && ours == tpm2.RCMode.H(1) && theirs == tpm2.RCMode.P(1):
		return sequenceMode
	case (cc == tpm2.CCPolicyNV || cc == tpm2.CCPolicyCounterTimer) && (ours == tpm2.RCPolicy || theirs == tpm2.RCPolicy):
		var in policyNVIn
		if !decodes(x.plain, &in) || len(in.operandB) > 0 && in.operandB[0]&0x80 == 0 {
			return ""
		}
		switch in.operation {
		case tpm2.EOSignedGT, tpm2.EOSignedLT, tpm2.EOSignedGE, tpm2.EOSignedLE:
			return signedComparison
		}
	}
	return ""
}

// writesPartOfPIN reports whether the command is the first write of a PIN Index
// and does not write all of it.
func (x *sent) writesPartOfPIN(e *Engine) bool {
	if x.d.cc != tpm2.CCNVWrite || len(x.handles) < 2 {
		return false
	}
	i := e.state.nv.Get(x.handles[1])
	data, _, _ := cutSized(x.plain)
	return i != nil && i.IsPIN() && !i.Is(tpm2.NVWritten) && len(data) < 8
}

// sharesWithNameless reports whether the command makes a secret for a key without
// a Name.
func (w *twin) sharesWithNameless(x *sent) bool {
	switch x.d.cc {
	case tpm2.CCMakeCredential, tpm2.CCDuplicate, tpm2.CCRewrap:
		return w.isNameless(x.handles[len(x.handles)-1])
	}
	return false
}

// isSTClear reports whether it loads the unaltered context of an stClear object.
func (w *twin) isSTClear(x *sent) bool {
	return x.context > 0 && len(x.plain) == 0 && w.saved[x.context-1].context[0].SavedHandle == savedSTClear
}

func (w *twin) isDerivation(h tpm2.Handle) bool {
	o := w.e.state.objects.Get(h)
	return o != nil && o.IsDerivation()
}

// wellFormed reports whether the parameters of CertifyX509 hold a structure of
// which each part is within the one around it.
func wellFormed(params []byte) bool {
	var in certifyX509In
	return decodes(params, &in) && isDER(in.partialCertificate)
}

func isDER(b []byte) bool {
	for len(b) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(b, &v)
		if err != nil || (v.IsCompound || v.Tag == asn1.TagOctetString) && !isDER(v.Bytes) {
			return false
		}
		b = rest
	}
	return true
}

// isNameless reports whether a handle is of a key without a Name.
func (w *twin) isNameless(h tpm2.Handle) bool {
	o := w.e.state.objects.Get(h)
	return o != nil && o.Key != nil && o.Public.NameAlg == tpm2.AlgNull
}

// commitsNameless reports whether it is and can commit.
func (w *twin) commitsNameless(h tpm2.Handle) bool {
	return w.isNameless(h) && hasType(w.e.state.objects.Get(h), tpm2.AlgECC)
}

// isOwnersCounter finds the counters that Clear deletes.
func isOwnersCounter(x *nv.Index) bool {
	return x.Type() == tpm2.NTCounter && x.Is(tpm2.NVWritten) && !x.Is(tpm2.NVPlatformCreate)
}
