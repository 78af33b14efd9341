package tpm

import (
	"crypto/rand"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// What answers give that other commands take.
type (
	credentialOf struct {
		object, key tpm2.Name
		credential
	}
	duplicated struct {
		parent tpm2.Name // empty: there is no outer wrapper
		public tpm2.Public
		duplicateOut
		symmetric tpm2.SymDefObject
	}
	creationProof struct {
		name   tpm2.Name
		hash   tpm2.Digest
		ticket tpm2.CreationTicket
	}
	cipherText struct {
		key tpm2.Name
		rsaIn
	}
	signed struct {
		key    tpm2.Name
		digest tpm2.Digest
		sig    tpm2.Signature
	}
	hashed struct {
		digest tpm2.Digest
		ticket tpm2.HashCheckTicket
	}
)

// maxKept is how many of a kind an episode remembers.
const maxKept = 40

// remember adds to a list, or replaces one of it when it is full.
func remember[T any](g *gen, list []T, x T) []T {
	if len(list) < maxKept {
		return append(list, x)
	}
	list[g.IntN(len(list))] = x
	return list
}

// salt is a secret for a session, encrypted to a key.
func (g *gen) salt(h tpm2.Handle, label string) tpm2.EncryptedSecret {
	o := g.w.e.state.objects.Get(h)
	if o == nil || o.Key == nil {
		return nil
	}
	_, secret, rc := crypt.SecretEncrypt(o.Key, label, rand.Reader)
	if rc != tpm2.RCSuccess {
		return nil
	}
	return secret
}

// named finds a loaded object by its Name, and one of a list that has one.
func found[T any](g *gen, list []T, name func(*T) tpm2.Name) (T, tpm2.Handle, bool) {
	var fit []int
	var at []tpm2.Handle
	for i := range list {
		n := name(&list[i])
		if h := g.objects(func(o *object.Object) bool { return string(o.Name) == string(n) }); len(h) > 0 {
			fit, at = append(fit, i), append(at, h[0])
		}
	}
	if len(fit) == 0 {
		var zero T
		return zero, 0, false
	}
	k := g.IntN(len(fit))
	return list[fit[k]], at[k], true
}

// keyMakers are those of Part 3, 13 and 14, and of credentials.
func keyMakers() map[tpm2.CC]maker {
	return map[tpm2.CC]maker{
		tpm2.CCMakeCredential: func(g *gen) *step {
			return g.with(isAsymParent, func(h tpm2.Handle) *step {
				name := g.w.e.entityName(g.one(g.objects(anyObject)))
				credential := g.data(20)
				if o := g.w.e.state.objects.Get(h); o != nil && o.Key != nil && o.Public.NameAlg == tpm2.AlgNull {
					credential = nil
				}
				return g.cmd(tpm2.CCMakeCredential, []tpm2.Handle{h}, &makeCredentialIn{credential, name})
			})
		},
		tpm2.CCActivateCredential: (*gen).activateCredential,
		tpm2.CCDuplicate: func(g *gen) *step {
			return g.with(isMovable, func(h tpm2.Handle) *step {
				in := &duplicateIn{symmetric: tpm2.SymDefObject{Alg: tpm2.AlgNull}}
				parent := g.newParent()
				if o := g.w.e.state.objects.Get(h); o != nil && o.Is(tpm2.ObjEncryptedDuplication) && g.often(10) || g.IntN(3) == 0 {
					in.symmetric = tpm2.SymDefObject(g.cipher(tpm2.AlgCFB))
					in.encryptionKey = pickOf(g, nil, g.bytes(int(in.symmetric.KeyBits)/8))
				}
				return g.cmd(tpm2.CCDuplicate, []tpm2.Handle{h, parent}, in)
			})
		},
		tpm2.CCImport: (*gen).importDuplicate,
		tpm2.CCRewrap: (*gen).rewrap,
		tpm2.CCRSAEncrypt: func(g *gen) *step {
			return g.with(func(o *object.Object) bool { return hasType(o, tpm2.AlgRSA) && o.Is(tpm2.ObjDecrypt) }, func(h tpm2.Handle) *step {
				return g.cmd(tpm2.CCRSAEncrypt, []tpm2.Handle{h}, g.rsaIn(h))
			})
		},
		tpm2.CCRSADecrypt: func(g *gen) *step {
			if c, h, ok := found(g, g.ciphers, func(c *cipherText) tpm2.Name { return c.key }); ok && g.often(8) {
				return g.cmd(tpm2.CCRSADecrypt, []tpm2.Handle{h}, &c.rsaIn)
			}
			return g.with(isRSADecrypt, func(h tpm2.Handle) *step {
				if g.often(4) {
					g.then(func() *step {
						if g.last.rc != tpm2.RCSuccess || len(g.ciphers) == 0 {
							return nil
						}
						return g.cmd(tpm2.CCRSADecrypt, []tpm2.Handle{h}, &g.ciphers[len(g.ciphers)-1].rsaIn)
					})
					return g.cmd(tpm2.CCRSAEncrypt, []tpm2.Handle{h}, g.rsaIn(h))
				}
				in := g.rsaIn(h)
				in.data = g.bytes(256)
				in.data[0] = byte(g.IntN(3)) * 0x7F
				return g.cmd(tpm2.CCRSADecrypt, []tpm2.Handle{h}, in)
			})
		},
	}
}

func (g *gen) rsaIn(h tpm2.Handle) *rsaIn {
	in := &rsaIn{data: g.data(100), label: pickOf(g, nil, nil, append(g.bytes(5), 0))}
	in.scheme = pickOf(g, tpm2.RSADecryptScheme{Alg: tpm2.AlgNull}, tpm2.RSADecryptScheme{Alg: tpm2.AlgRSAES}, tpm2.RSADecryptScheme{Alg: tpm2.AlgOAEP, Hash: g.hash()})
	if o := g.w.e.state.objects.Get(h); o != nil && o.Key != nil && o.Public.Scheme.Alg != tpm2.AlgNull && g.often(10) {
		in.scheme = tpm2.RSADecryptScheme{Alg: tpm2.AlgNull}
	}
	if in.scheme.Alg == tpm2.AlgNull && g.IntN(3) == 0 {
		in.data = append([]byte{byte(g.IntN(2)), 1}, g.bytes(254)...)
	}
	return in
}

func (g *gen) activateCredential() *step {
	c, key, ok := found(g, g.creds, func(c *credentialOf) tpm2.Name { return c.key })
	if !ok {
		return g.makers[tpm2.CCMakeCredential](g)
	}
	target := g.one(g.objects(anyObject))
	if list := g.objects(func(o *object.Object) bool { return string(o.Name) == string(c.object) }); len(list) > 0 {
		target = list[0]
	}
	return g.cmd(tpm2.CCActivateCredential, []tpm2.Handle{target, key}, &c.credential)
}

func (g *gen) importDuplicate() *step {
	var d duplicated
	var h tpm2.Handle
	if f, ok := g.forgedDuplicate(); ok && g.IntN(3) == 0 {
		d = f
	} else if len(g.dups) == 0 {
		return g.makers[tpm2.CCDuplicate](g)
	} else {
		d = pickOf(g, g.dups...)
	}
	if h = g.one(g.objects(isStorage)); len(d.parent) > 0 {
		h = g.parentNamed(d.parent)
	}
	in := &importIn{encryptionKey: d.encryptionKey, duplicate: d.duplicate, seed: d.seed, symmetric: d.symmetric}
	if n := len(in.seed); n > 0 && g.IntN(20) == 0 { // of an ECC parent, a point off its curve
		in.seed = append(in.seed[:n-1:n-1], in.seed[n-1]^1)
	}
	in.public.Public = d.public
	return g.cmd(tpm2.CCImport, []tpm2.Handle{h}, in)
}

// newParent is a parent that an object can move to: it may be another TPM's.
func (g *gen) newParent() tpm2.Handle {
	if g.IntN(4) == 0 {
		return g.one(g.objects(isAsymParent))
	}
	return g.one(append(g.objects(isStorage), tpm2.RHNull))
}

func (g *gen) rewrap() *step {
	if len(g.dups) == 0 {
		return g.makers[tpm2.CCDuplicate](g)
	}
	d := pickOf(g, g.dups...)
	old := tpm2.RHNull
	if len(d.parent) > 0 {
		old = g.parentNamed(d.parent)
	}
	return g.cmd(tpm2.CCRewrap, []tpm2.Handle{old, g.newParent()},
		&rewrapIn{duplicate: d.duplicate, name: d.public.Name(), seed: d.seed})
}

// learn keeps of an answer what other commands take. Of what is each TPM's own,
// one of the two goes on to be used for both, who have the same keys.
func (g *gen) learn(s *sent, ours, theirs *reply) {
	g.last = *theirs
	if s.d == nil || theirs.rc != tpm2.RCSuccess || ours.rc != tpm2.RCSuccess {
		return
	}
	p := ours.params
	if s.adopt == 1 {
		p = theirs.params
	}
	switch s.d.cc {
	case tpm2.CCContextSave:
		g.learnContext(s, ours, theirs)
	case tpm2.CCPolicySecret, tpm2.CCPolicySigned:
		g.learnTicket(s, p)
	case tpm2.CCCreate, tpm2.CCImport, tpm2.CCObjectChangeAuth, tpm2.CCCreatePrimary, tpm2.CCCreateLoaded:
		g.learnObject(s, p)
	case tpm2.CCMakeCredential:
		c := credentialOf{key: g.w.e.entityName(s.handles[0])}
		var in makeCredentialIn
		if decodes(p, &c.credential) && decodes(s.plain, &in) {
			c.object = in.objectName
			g.creds = remember(g, g.creds, c)
		}
	case tpm2.CCDuplicate:
		g.learnDuplicate(s, p)
	case tpm2.CCRSAEncrypt:
		c := cipherText{key: g.w.e.entityName(s.handles[0])}
		var out rsaOut
		if decodes(s.plain, &c.rsaIn) && decodes(p, &out) {
			c.data = out.data
			g.ciphers = remember(g, g.ciphers, c)
		}
	case tpm2.CCSign:
		var in signIn
		x := signed{key: g.w.e.entityName(s.handles[0])}
		if decodes(s.plain, &in) && decodes(p, &x.sig) {
			x.digest = in.digest
			g.signatures = remember(g, g.signatures, x)
		}
	case tpm2.CCHash, tpm2.CCSequenceComplete:
		var out digestOut
		if decodes(p, &out) {
			g.hashed = remember(g, g.hashed, hashed{out.digest, out.validation})
		}
	}
}

// decodes decodes a copy of b.
func decodes(b []byte, w tpm2.Walker) bool {
	c := tpm2.NewDecoder(append([]byte(nil), b...))
	w.Walk(&c)
	return c.RC() == tpm2.RCSuccess
}

func (g *gen) learnContext(s *sent, ours, theirs *reply) {
	var x savedPair
	if !decodes(ours.params, &x.context[0]) || !decodes(theirs.params, &x.context[1]) {
		return
	}
	if h := s.handles[0]; h.IsSession() {
		x.session = h
	}
	g.w.saved = append(g.w.saved, x)
}

func (g *gen) learnTicket(s *sent, p []byte) {
	t := ticketOf{name: g.w.e.entityName(s.handles[0])}
	if decodes(s.plain, &t.authorization) && decodes(p, &t.out) && len(t.out.timeout) > 0 {
		g.tickets = remember(g, g.tickets, t)
	}
}

func (g *gen) learnDuplicate(s *sent, p []byte) {
	o := g.w.e.state.objects.Get(s.handles[0])
	var in duplicateIn
	d := duplicated{}
	if o == nil || o.Key == nil || !decodes(s.plain, &in) || !decodes(p, &d.duplicateOut) {
		return
	}
	d.public, d.symmetric = o.Public.Clone(), in.symmetric
	if len(d.encryptionKey) == 0 {
		d.encryptionKey = in.encryptionKey
	}
	if s.handles[1] != tpm2.RHNull {
		d.parent = g.w.e.entityName(s.handles[1])
	}
	g.dups = remember(g, g.dups, d)
}

func (g *gen) learnObject(s *sent, p []byte) {
	b := loadable{parent: g.w.e.entityName(s.handles[0])}
	switch s.d.cc {
	case tpm2.CCCreate:
		var out createOut
		if !decodes(p, &out) {
			return
		}
		b.private, b.public = out.private, out.public.Public
		g.proofs = remember(g, g.proofs, creationProof{b.public.Name(), out.hash, out.ticket})
	case tpm2.CCCreatePrimary:
		var out createPrimaryOut
		if decodes(p, &out) {
			g.proofs = remember(g, g.proofs, creationProof{out.name, out.hash, out.ticket})
		}
		return
	case tpm2.CCImport:
		var in importIn
		var out importOut
		if !decodes(s.plain, &in) || !decodes(p, &out) {
			return
		}
		b.private, b.public = out.private, in.public.Public
	case tpm2.CCObjectChangeAuth:
		var out objectChangeAuthOut
		o := g.w.e.state.objects.Get(s.handles[0])
		if o == nil || o.Key == nil || !decodes(p, &out) {
			return
		}
		b = loadable{parent: g.w.e.entityName(s.handles[1]), private: out.private, public: o.Public.Clone()}
	case tpm2.CCCreateLoaded:
		var out createLoadedOut
		if !decodes(p, &out) || len(out.private) == 0 {
			return
		}
		b.private, b.public = out.private, out.public.Public
		// The one in each TPM is its own: one of the two takes its place.
		h := g.last.handle
		g.then(func() *step { return g.flush(h) }, func() *step { return g.load(b) })
	}
	g.pool = remember(g, g.pool, newLoadable(b.parent, b.private, b.public))
}
