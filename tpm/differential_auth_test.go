package tpm

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// via says that a handle of a step is to be authorized by a policy.
type via struct {
	handle int
	recipe *recipe
}

// callOf is a step's command as the engine would see it.
func (g *gen) callOf(s *step) *call {
	c := &call{cmd: s.d}
	for i, h := range s.handles {
		c.handles[i] = h
		c.objects[i] = g.w.e.state.objects.Get(h)
		c.indices[i] = g.w.e.state.nv.Get(h)
	}
	return c
}

// authorize fills the authorization area: with a password, an HMAC session or
// a policy for each handle that needs it, and sessions that encrypt or audit.
func (g *gen) authorize(s *step) {
	if s.d.noSessions {
		return
	}
	var c *call
	taken := map[tpm2.Handle]bool{}
	for i := range s.d.handles {
		if s.d.handles[i].role == authNone || i >= len(s.handles) {
			break
		}
		if c == nil {
			c = g.callOf(s)
		}
		s.uses = append(s.uses, g.authorization(s, c, i, taken))
	}
	if g.IntN(6) == 0 && len(s.uses) < maxSessions {
		if h := g.sessions(func(x *session.Session) bool { return !taken[x.Handle] && !x.Trial }); len(h) > 0 {
			x := pickOf(g, h...)
			taken[x] = true
			s.uses = append(s.uses, g.use(x))
		}
	}
	g.burden(s)
}

// authorization is one handle's.
func (g *gen) authorization(s *step, c *call, i int, taken map[tpm2.Handle]bool) use {
	e := g.w.e
	need := e.policyRequired(c, i) || !e.authValueAvailable(c, i)
	if need || g.IntN(12) == 0 && e.policyAvailable(c, i) {
		if r := g.recipeFor(s, s.handles[i], s.d.handles[i].role); r != nil {
			s.vias = append(s.vias, via{i, r})
			return g.password()
		}
	}
	if g.IntN(3) == 0 {
		if h := g.sessions(func(x *session.Session) bool { return !taken[x.Handle] && !x.IsPolicy() }); len(h) > 0 {
			x := pickOf(g, h...)
			taken[x] = true
			return g.use(x)
		}
	}
	u := g.password()
	if g.IntN(40) == 0 && (s.handles[i] != tpm2.RHLockout || g.IntN(10) == 0) {
		u.wrong = true
	}
	return u
}

// use is a use of a session.
func (g *gen) use(h tpm2.Handle) use {
	u := use{session: h, nonce: g.bytes(pickOf(g, 16, 20, 32))}
	if g.often(25) {
		u.attrs = tpm2.SessionContinue
	}
	return u
}

// burden makes the sessions encrypt and audit. An answer that has something of
// each TPM's own in it is not audited: the digests would be too.
func (g *gen) burden(s *step) {
	var decrypt, encrypt, audit bool
	for i := range s.uses {
		u := &s.uses[i]
		x := g.w.e.state.sessions.Get(u.session)
		if x == nil {
			continue
		}
		extra := i >= len(s.d.handles) || s.d.handles[i].role == authNone
		if cipher := x.Symmetric.Alg != tpm2.AlgNull; cipher && s.d.decrypt && !decrypt && g.IntN(2) == 0 {
			u.attrs |= tpm2.SessionDecrypt
			decrypt = true
		} else if cipher && s.d.encrypt && !encrypt && g.IntN(2) == 0 {
			u.attrs |= tpm2.SessionEncrypt
			encrypt = true
		}
		if !x.IsPolicy() && !audit && ownParts[s.d.cc] == nil && (extra && u.attrs&^tpm2.SessionContinue == 0 || g.IntN(8) == 0) {
			u.attrs |= tpm2.SessionAudit
			audit = true
			u.attrs |= pickOf(g, 0, 0, 0, 0, tpm2.SessionAuditExclusive, tpm2.SessionAuditReset)
		}
		if extra && u.attrs&^tpm2.SessionContinue == 0 && g.often(20) {
			s.uses = slices.Delete(s.uses, i, i+1)
			return
		}
	}
}

// expand puts before a step what its policies need.
func (g *gen) expand(s *step) *step {
	if len(s.vias) == 0 {
		return s
	}
	v := s.vias[0]
	s.vias = s.vias[1:]
	var h tpm2.Handle
	list := []later{func() *step { return g.startSession(tpm2.SEPolicy, v.recipe.alg) }, func() *step {
		if g.last.rc == tpm2.RCSuccess {
			h = g.last.handle
		}
		return nil
	}}
	for _, a := range v.recipe.list {
		list = append(list, func() *step {
			if h == 0 {
				return nil
			}
			return a.step(g, h, s)
		})
	}
	list = append(list, func() *step {
		if h == 0 || v.handle >= len(s.uses) {
			return nil
		}
		s.uses[v.handle] = g.use(h)
		s.uses[v.handle].attrs |= pickOf(g, 0, tpm2.SessionContinue)
		if c := v.recipe.cc; c == 0 && s.d.encrypt && g.IntN(4) == 0 {
			s.uses[v.handle].attrs |= tpm2.SessionEncrypt
		}
		return g.expand(s)
	})
	g.then(append(g.roomForSession(), list...)...)
	return nil
}

// roomForSession ends a session where there is no slot for another.
func (g *gen) roomForSession() []later {
	return []later{func() *step {
		if h := g.sessions(func(*session.Session) bool { return true }); len(h) == session.MaxLoaded && g.often(30) {
			return g.flush(pickOf(g, h...))
		}
		return nil
	}}
}

// flush is a FlushContext.
func (g *gen) flush(h tpm2.Handle) *step {
	return g.raw(tpm2.CCFlushContext, nil, u32(uint32(h)))
}

// symmetric is what a session encrypts with.
func (g *gen) symmetric() tpm2.SymDef {
	switch g.IntN(6) {
	case 0, 1:
		return tpm2.SymDef{Alg: tpm2.AlgNull}
	case 2:
		return tpm2.SymDef{Alg: tpm2.AlgXOR, KeyBits: uint16(pickOf(g, hashes...))}
	case 3:
		return tpm2.SymDef{Alg: tpm2.AlgCamellia, KeyBits: pickOf(g, uint16(128), 192, 256), Mode: tpm2.AlgCFB}
	}
	return tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: pickOf(g, uint16(128), 192, 256), Mode: tpm2.AlgCFB}
}

// startSession is a StartAuthSession without salt or bind.
func (g *gen) startSession(kind tpm2.SE, alg tpm2.AlgID) *step {
	in := startAuthSessionIn{nonceCaller: g.bytes(pickOf(g, 16, alg.DigestSize())), sessionType: kind,
		symmetric: g.symmetric(), authHash: tpm2.HashID(alg)}
	return g.cmd(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, &in)
}

// makeSession is a StartAuthSession of any kind.
func (g *gen) makeSession() *step {
	if h := g.sessions(func(*session.Session) bool { return true }); len(h) == session.MaxLoaded && g.often(15) {
		g.then(g.makeSession)
		return g.flush(pickOf(g, h...))
	}
	alg := pickOf(g, hashes...)
	in := startAuthSessionIn{nonceCaller: g.bytes(pickOf(g, 16, 16, alg.DigestSize())),
		sessionType: pickOf(g, tpm2.SEHMAC, tpm2.SEHMAC, tpm2.SEPolicy, tpm2.SETrial), symmetric: g.symmetric(), authHash: tpm2.HashID(alg)}
	handles := []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}
	if g.IntN(3) == 0 {
		handles[1] = g.anEntity()
	}
	if g.IntN(25) == 0 {
		in.symmetric.Mode = pickOf(g, tpm2.AlgCBC, tpm2.AlgNull)
	}
	if g.IntN(10) == 0 {
		if key := g.objects(isDecryptKey); len(key) > 0 {
			handles[0] = pickOf(g, key...)
			if salt := g.salt(handles[0], "SECRET"); salt != nil {
				in.encryptedSalt = salt
			}
		}
	}
	return g.cmd(tpm2.CCStartAuthSession, handles, &in)
}

// anEntity is a handle that has an authorization value.
func (g *gen) anEntity() tpm2.Handle {
	switch g.IntN(8) {
	case 0:
		return g.one(g.indices(anyIndex))
	case 1, 2:
		return g.one(g.objects(anyObject))
	case 3:
		return tpm2.Handle(g.IntN(24))
	case 4:
		return tpm2.RHLockout
	}
	return pickOf(g, tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform)
}
