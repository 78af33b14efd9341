package tpm

import (
	"math/rand/v2"
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// gen generates the steps of an episode from what is in the TPMs: objects,
// sessions and Indices with their authorization values, as our engine's state
// has them.
type gen struct {
	*rand.Rand
	w      *twin
	makers map[tpm2.CC]maker
	deck   []tpm2.CC // each command as often as its weight says
	queue  []later
	home   uint8 // the locality that commands come from
	last   reply // of the oracle to the step before
	target []tpm2.Handle
	late   bool // authorizations are to have expired

	byDigest map[string][]*recipe
	recipes  []*recipe
	broad    map[tpm2.AlgID]tpm2.Digest // the policies that allow much

	base       []loadable // objects that can be loaded, in every episode
	pool       []loadable // and those that the episode has made
	creds      []credentialOf
	dups       []duplicated
	proofs     []creationProof
	tickets    []ticketOf
	ciphers    []cipherText
	signatures []signed
	hashed     []hashed
}

// maker makes a step of one command, nil where there is nothing to work on.
type maker func(g *gen) *step

// later is a step that is made when its turn comes.
type later func() *step

// loadable is an object as Create gives it.
type loadable struct {
	parent  tpm2.Name
	private tpm2.Private
	public  tpm2.Public
	like    *object.Object // what it will be like when it is loaded
}

// newLoadable is one of the three.
func newLoadable(parent tpm2.Name, private tpm2.Private, public tpm2.Public) loadable {
	return loadable{parent, private, public,
		object.NewPrimary(&crypt.Key{Public: public, Sensitive: &tpm2.Sensitive{}}, tpm2.RHOwner)}
}

var (
	knownAlgs = []tpm2.AlgID{tpm2.AlgNull, tpm2.AlgRSA, tpm2.AlgECC, tpm2.AlgKeyedHash, tpm2.AlgSymCipher, tpm2.AlgHMAC, tpm2.AlgXOR,
		tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512, tpm2.AlgAES, tpm2.AlgTDES, tpm2.AlgCamellia, tpm2.AlgCFB,
		tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgECB, tpm2.AlgCMAC, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgRSAES,
		tpm2.AlgOAEP, tpm2.AlgECDSA, tpm2.AlgECDH, tpm2.AlgECDAA, tpm2.AlgSM2, tpm2.AlgECSchnorr, tpm2.AlgECMQV,
		tpm2.AlgMGF1, tpm2.AlgKDF1SP80056A, tpm2.AlgKDF2, tpm2.AlgKDF1SP800108}
	knownHandles = []tpm2.Handle{tpm2.RHOwner, tpm2.RHNull, tpm2.RHLockout, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHPlatformNV,
		tpm2.RSPW, 0, 7, 11, 16, 17, 20, 23, 24, firstIndex, firstIndex + 1, firstIndex + 5, platformIndex, tpm2.TransientFirst,
		tpm2.TransientFirst + 1, tpm2.TransientFirst + 2, tpm2.TransientFirst + 3, srk, srk + 1, 0x81FFFFFF, platformParent,
		tpm2.HMACSessionFirst, tpm2.HMACSessionFirst + 1, tpm2.HMACSessionFirst + 2, tpm2.PolicySessionFirst,
		tpm2.PolicySessionFirst + 1, tpm2.PolicySessionFirst + 2, tpm2.PolicySessionFirst + 64, 0x90000000}
	hashes = []tpm2.AlgID{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512}
)

// Handles of what an episode begins with, and of what it makes.
const (
	firstIndex     tpm2.Handle = 0x01500000 // to +15, the owner's
	platformIndex  tpm2.Handle = 0x01C00000 // to +7, the platform's
	srk            tpm2.Handle = 0x81000001
	cipherParent   tpm2.Handle = 0x81000002
	platformParent tpm2.Handle = 0x81800001
	ek             tpm2.Handle = 0x81010001
)

func pickOf[T any](g *gen, list ...T) T { return list[g.IntN(len(list))] }

// often is true but once in n times.
func (g *gen) often(n int) bool { return g.IntN(n) != 0 }

func (g *gen) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// data is some bytes, at most n, of a length at a boundary now and then.
func (g *gen) data(n int) []byte {
	switch g.IntN(8) {
	case 0:
		return nil
	case 1:
		return g.bytes(n)
	case 2:
		return g.bytes(min(n, pickOf(g, 1, 15, 16, 17, 20, 32, 48, 64)))
	}
	return g.bytes(g.IntN(min(n, 40) + 1))
}

// auth is an authorization value for what has a name of an algorithm.
func (g *gen) auth(alg tpm2.AlgID) tpm2.Digest {
	if g.IntN(2) == 0 {
		return nil
	}
	if b := g.bytes(g.IntN(alg.DigestSize() + 1)); g.often(5) {
		return b
	}
	return append(g.bytes(g.IntN(8)), 0, 0)
}

// objects lists the handles of the objects that a caller can use.
func (g *gen) objects(fits func(*object.Object) bool) (list []tpm2.Handle) {
	s := &g.w.e.state.objects
	for i, o := range s.Slots {
		if o != nil && fits(o) {
			list = append(list, tpm2.TransientFirst+tpm2.Handle(i))
		}
	}
	for i := range s.Persistent {
		h := s.Persistent[i].Handle
		if o := g.w.e.persistentObject(h, false); o != nil && fits(o) {
			list = append(list, h)
		}
	}
	return list
}

// full reports whether there is no slot for n more objects.
func (g *gen) full(n int) bool {
	for _, o := range g.w.e.state.objects.Slots {
		if o == nil {
			n--
		}
	}
	return n > 0
}

// indices lists the Indices.
func (g *gen) indices(fits func(*nv.Index) bool) (list []tpm2.Handle) {
	for _, x := range g.w.e.state.nv.All() {
		if fits(x) {
			list = append(list, x.Public.Index)
		}
	}
	return list
}

// sessions lists the loaded sessions.
func (g *gen) sessions(fits func(*session.Session) bool) (list []tpm2.Handle) {
	for i := range g.w.e.state.sessions.Loaded {
		if s := &g.w.e.state.sessions.Loaded[i]; s.Handle != 0 && fits(s) {
			list = append(list, s.Handle)
		}
	}
	return list
}

// one picks one of a list; else any handle that is known.
func (g *gen) one(list []tpm2.Handle) tpm2.Handle {
	if len(list) == 0 || g.IntN(200) == 0 {
		return pickOf(g, knownHandles...)
	}
	return pickOf(g, list...)
}

// cmd is a step of a command with handles and parameters, authorized.
func (g *gen) cmd(cc tpm2.CC, handles []tpm2.Handle, params ...tpm2.Walker) *step {
	var plain []byte
	for _, p := range params {
		c := tpm2.NewEncoder(plain)
		p.Walk(&c)
		plain = c.Output()
	}
	return g.raw(cc, handles, plain)
}

// raw is cmd with encoded parameters.
func (g *gen) raw(cc tpm2.CC, handles []tpm2.Handle, plain []byte) *step {
	s := &step{d: registry.lookup(cc), handles: handles, plain: plain, locality: g.home, adopt: g.IntN(2)}
	g.authorize(s)
	return s
}

// then puts steps before what is queued.
func (g *gen) then(list ...later) { g.queue = append(list, g.queue...) }

// next is the next step.
func (g *gen) next() *step {
	for {
		var s *step
		if len(g.queue) > 0 {
			f := g.queue[0]
			g.queue = g.queue[1:]
			if s = f(); s != nil {
				if s = g.fit(g.expand(s)); s != nil {
					return s
				}
			}
			continue
		}
		if g.IntN(150) == 0 {
			s = g.happening()
		} else {
			s = g.makers[pickOf(g, g.deck...)](g)
		}
		if s != nil {
			if s = g.fit(g.expand(g.disturb(s))); s != nil {
				return s
			}
		}
	}
}

// fit makes room for a step, which may need slots for its persistent objects and
// for what it makes.
func (g *gen) fit(s *step) *step {
	if s == nil || s.d == nil || s.fitted {
		return s
	}
	s.fitted = true
	n := 0
	for _, h := range s.handles {
		if h.Type() == tpm2.HTPersistent {
			n++
		}
	}
	if n == 0 || g.IntN(40) == 0 {
		return s
	}
	if s.d.retHandle {
		n++
	}
	if !g.full(n) {
		return s
	}
	for i, o := range g.w.e.state.objects.Slots {
		if h := tpm2.TransientFirst + tpm2.Handle(i); o != nil && !slices.Contains(s.handles, h) {
			s.fitted = false
			g.then(func() *step { return s })
			return g.flush(h)
		}
	}
	return s
}

// disturb makes a step wrong, now and then.
func (g *gen) disturb(s *step) *step {
	if s == nil || s.d == nil {
		return s
	}
	switch n := g.IntN(100); {
	case n < 14 && s.context > 0:
		at := pickOf(g, 0, 1, 0, 1, 2, 3, 7, 8, 11, 12, 15, 65, 66, 73)
		s.plain = []byte{byte(g.IntN(contextChanges)), byte(at), byte(1 << g.IntN(8))}
	case n < 14:
		if len(s.plain) > 0 {
			s.plain = g.mutate(s.d, s.plain)
			if g.IntN(5) == 0 {
				s.plain = g.mutate(s.d, s.plain)
			}
		}
	case n < 17:
		if len(s.handles) > 0 {
			list := append(g.objects(anyObject), g.indices(anyIndex)...)
			s.handles[g.IntN(len(s.handles))] = pickOf(g, append(list, knownHandles...)...)
		}
	case n < 21:
		g.disturbSessions(s)
	case n < 24:
		x := g.spoilage()
		if s.context > 0 {
			x.at %= contextHeader - 2 // beyond it the two TPMs' contexts have different sizes
		}
		s.spoiled = append(s.spoiled, x)
	}
	return s
}

// disturbSessions makes an authorization wrong.
func (g *gen) disturbSessions(s *step) {
	if len(s.uses) == 0 {
		s.uses = append(s.uses, g.password())
		return
	}
	u := &s.uses[g.IntN(len(s.uses))]
	switch g.IntN(10) {
	case 0, 1:
		u.attrs ^= 1 << g.IntN(8)
		if ownParts[s.d.cc] != nil || s.context > 0 {
			u.attrs &^= tpm2.SessionAudit // the audit's digest would be each TPM's own
		}
	case 2:
		s.uses = s.uses[:len(s.uses)-1]
	case 3:
		s.uses = append(s.uses, *u)
	case 4:
		for g.IntN(2) == 0 && len(s.uses) < 3 {
			s.uses = append(s.uses, *u)
		}
		s.uses[len(s.uses)-1].session = pickOf(g, knownHandles...)
	case 5:
		u.nonce = g.bytes(pickOf(g, 0, 1, 15, 16, 64, 65))
	case 6:
		s.uses = append(s.uses, g.password())
	case 7:
		u.bare = true
	default:
		u.wrong = true
	}
}

func (g *gen) password() use { return use{session: tpm2.RSPW, attrs: tpm2.SessionContinue} }
