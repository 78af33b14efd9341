package tpm

import (
	"crypto/rand"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// What an object is for.

func hasKey(o *object.Object, alg tpm2.AlgID, attrs tpm2.ObjectAttributes) bool {
	return hasType(o, alg) && o.Is(attrs) && !o.PublicOnly()
}

func isStorage(o *object.Object) bool { return o.Key != nil && !o.PublicOnly() && o.IsParent() }
func isAsymParent(o *object.Object) bool {
	return o.Key != nil && o.IsAsymmetric() && o.Is(tpm2.ObjRestricted|tpm2.ObjDecrypt)
}
func isDerivation(o *object.Object) bool {
	return o.Key != nil && !o.PublicOnly() && o.IsDerivation()
}
func isSequence(o *object.Object) bool { return o.Sequence != nil }
func isSealed(o *object.Object) bool {
	return hasKey(o, tpm2.AlgKeyedHash, 0) && !o.Is(tpm2.ObjSign) && !o.Is(tpm2.ObjDecrypt)
}
func isMACKey(o *object.Object) bool {
	return hasKey(o, tpm2.AlgKeyedHash, tpm2.ObjSign) && !o.Is(tpm2.ObjRestricted)
}
func isCMACKey(o *object.Object) bool {
	return hasKey(o, tpm2.AlgSymCipher, tpm2.ObjSign) && o.Public.Symmetric.Mode == tpm2.AlgCMAC
}
func isCipher(o *object.Object) bool {
	return hasType(o, tpm2.AlgSymCipher) && !o.Is(tpm2.ObjRestricted) && !o.PublicOnly() && o.Public.Symmetric.Mode != tpm2.AlgCMAC
}
func isSigner(o *object.Object) bool {
	return o.Key != nil && o.Is(tpm2.ObjSign) && !o.PublicOnly() && o.Public.Type != tpm2.AlgSymCipher
}
func isPlainSigner(o *object.Object) bool {
	return isSigner(o) && !o.Is(tpm2.ObjRestricted) && !o.Is(tpm2.ObjX509Sign)
}
func isDecryptKey(o *object.Object) bool {
	return o.Key != nil && o.IsAsymmetric() && o.Is(tpm2.ObjDecrypt) && !o.PublicOnly()
}
func isRSADecrypt(o *object.Object) bool {
	return hasKey(o, tpm2.AlgRSA, tpm2.ObjDecrypt) && !o.Is(tpm2.ObjRestricted)
}
func isECDH(o *object.Object) bool {
	return hasKey(o, tpm2.AlgECC, tpm2.ObjDecrypt) && !o.Is(tpm2.ObjRestricted)
}
func isECC(o *object.Object) bool { return hasType(o, tpm2.AlgECC) }
func isMovable(o *object.Object) bool {
	return o.Key != nil && !o.PublicOnly() && !o.Is(tpm2.ObjFixedParent) && o.Public.NameAlg != tpm2.AlgNull
}

// with makes a step on an object that fits; where none is loaded, one of the
// pool is loaded before.
func (g *gen) with(fits func(*object.Object) bool, f func(h tpm2.Handle) *step) *step {
	list := g.objects(fits)
	if len(list) > 0 && g.often(12) {
		return f(pickOf(g, list...))
	}
	var fit []loadable
	for _, list := range [][]loadable{g.pool, g.base} {
		for _, b := range list {
			if fits(b.like) {
				fit = append(fit, b)
			}
		}
	}
	if len(fit) == 0 || g.IntN(30) == 0 {
		return f(g.one(g.objects(anyObject)))
	}
	b := pickOf(g, fit...)
	g.then(append(g.room(1), func() *step { return g.load(b) }, func() *step {
		if list := g.objects(fits); len(list) > 0 {
			return g.disturb(f(pickOf(g, list...)))
		}
		return nil
	})...)
	return nil
}

// room flushes an object where there is no slot for n more.
func (g *gen) room(n int) []later {
	return []later{func() *step {
		if !g.full(n) || g.IntN(60) == 0 {
			return nil
		}
		return g.flush(tpm2.TransientFirst + tpm2.Handle(g.IntN(object.MaxTransient)))
	}}
}

// making is a step that takes a slot for what it makes.
func (g *gen) making(f func() *step) *step {
	g.then(append(g.room(1+g.IntN(2)), func() *step { return g.disturb(f()) })...)
	return nil
}

// parentNamed is a loaded object with a Name.
func (g *gen) parentNamed(name tpm2.Name) tpm2.Handle {
	return g.one(g.objects(func(o *object.Object) bool { return string(o.Name) == string(name) }))
}

// some is an object that can be loaded.
func (g *gen) some() loadable {
	if len(g.pool) > 0 && g.IntN(3) == 0 {
		return pickOf(g, g.pool...)
	}
	return pickOf(g, g.base...)
}

// load is a Load.
func (g *gen) load(b loadable) *step {
	in := &loadIn{private: b.private}
	in.public.Public = b.public
	return g.cmd(tpm2.CCLoad, []tpm2.Handle{g.parentNamed(b.parent)}, in)
}

// hash picks a hash algorithm, SHA-256 mostly.
func (g *gen) hash() tpm2.AlgID { return pickOf(g, append(hashes, tpm2.AlgSHA256, tpm2.AlgSHA256)...) }

// cipher is a symmetric algorithm with a mode.
func (g *gen) cipher(modes ...tpm2.AlgID) tpm2.SymDef {
	c := pickOf(g, nullProfile.impl.Ciphers...)
	return tpm2.SymDef{Alg: c.Alg, KeyBits: pickOf(g, c.KeyBits...), Mode: pickOf(g, modes...)}
}

// curve is an elliptic curve, a cheap one mostly.
func (g *gen) curve() tpm2.ECCCurve {
	if g.often(4) {
		return tpm2.CurveP256
	}
	return pickOf(g, nullProfile.impl.Curves...)
}

// template is the template of an object below a parent, nil for a primary.
func (g *gen) template(parent *object.Object) tpm2.Public {
	p := tpm2.Public{NameAlg: g.hash()}
	p.Symmetric.Alg, p.Scheme.Alg, p.KDF.Alg = tpm2.AlgNull, tpm2.AlgNull, tpm2.AlgNull
	a := tpm2.ObjSensitiveDataOrigin
	switch n := g.IntN(40); {
	case n < 8:
		p.Type, p.Scheme = tpm2.AlgKeyedHash, tpm2.Scheme{Alg: tpm2.AlgHMAC, Hash: g.hash()}
		a |= tpm2.ObjSign | pickOf(g, 0, 0, tpm2.ObjRestricted)
	case n < 14:
		p.Type = tpm2.AlgKeyedHash
		a = 0
	case n < 17:
		p.Type, p.Scheme = tpm2.AlgKeyedHash, tpm2.Scheme{Alg: tpm2.AlgXOR, Hash: g.hash(), KDF: tpm2.AlgKDF1SP800108}
		a |= tpm2.ObjRestricted | tpm2.ObjDecrypt
	case n < 18:
		p.Type, a = tpm2.AlgKeyedHash, a|tpm2.ObjSign|tpm2.ObjDecrypt
	case n < 23:
		p.Type, p.Symmetric = tpm2.AlgSymCipher, g.cipher(tpm2.AlgNull, tpm2.AlgCFB, tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgECB)
		a |= pickOf(g, tpm2.ObjSign, tpm2.ObjDecrypt, tpm2.ObjSign|tpm2.ObjDecrypt, tpm2.ObjSign|tpm2.ObjDecrypt)
	case n < 24:
		p.Type, p.Symmetric = tpm2.AlgSymCipher, g.cipher(tpm2.AlgCMAC)
		a |= tpm2.ObjSign
	case n < 29:
		p.Type, p.Symmetric = tpm2.AlgSymCipher, g.cipher(tpm2.AlgCFB)
		a |= tpm2.ObjRestricted | tpm2.ObjDecrypt
	case n < 38 || n > 38 && g.IntN(200) != 0:
		p.Type = tpm2.AlgECC
		g.eccTemplate(&p, &a)
	case n == 38: // of which none is made
		p.Type, p.KeyBits, p.Exponent = tpm2.AlgRSA, 2048, pickOf(g, uint32(3), 7, 65535, 65536, 1<<31)
		g.rsaTemplate(&p, &a)
	default:
		p.Type, p.KeyBits = tpm2.AlgRSA, pickOf(g, uint16(1024), 1024, 2048)
		g.rsaTemplate(&p, &a)
	}
	p.Attributes = a | g.placement(parent)
	if a.Has(tpm2.ObjRestricted|tpm2.ObjDecrypt) && parent != nil && p.Attributes.Has(tpm2.ObjFixedParent) && parent.Key != nil {
		p.NameAlg = parent.Public.NameAlg
		if p.Type != tpm2.AlgKeyedHash {
			p.Symmetric = parent.Public.Symmetric
		}
	}
	p.AuthPolicy = g.policyFor(p.NameAlg)
	if g.IntN(15) == 0 {
		g.odd(&p)
	}
	if len(p.AuthPolicy) > 0 && g.IntN(3) == 0 {
		p.Attributes |= tpm2.ObjAdminWithPolicy
	}
	if len(p.AuthPolicy) > 0 && g.IntN(8) == 0 {
		p.Attributes &^= tpm2.ObjUserWithAuth
	}
	return p
}

// placement are the attributes that say where an object belongs and how it is
// authorized.
func (g *gen) placement(parent *object.Object) tpm2.ObjectAttributes {
	a := tpm2.ObjUserWithAuth
	if g.IntN(3) != 0 {
		a |= tpm2.ObjNoDA
	}
	if g.IntN(20) == 0 {
		a |= tpm2.ObjSTClear
	}
	switch {
	case parent == nil || parent.Is(tpm2.ObjFixedTPM):
		if g.IntN(2) == 0 {
			return a | tpm2.ObjFixedTPM | tpm2.ObjFixedParent
		}
		return a | pickOf(g, 0, 0, tpm2.ObjEncryptedDuplication)
	case parent.Is(tpm2.ObjEncryptedDuplication):
		a |= tpm2.ObjEncryptedDuplication
	}
	return a | pickOf(g, 0, tpm2.ObjFixedParent)
}

func (g *gen) eccTemplate(p *tpm2.Public, a *tpm2.ObjectAttributes) {
	p.Curve = g.curve()
	switch g.IntN(4) {
	case 0, 1:
		*a |= tpm2.ObjSign
		p.Scheme = g.eccScheme(p.Curve)
		if p.Scheme.Alg != tpm2.AlgNull {
			*a |= pickOf(g, 0, tpm2.ObjRestricted)
		}
		*a |= pickOf(g, 0, 0, 0, tpm2.ObjX509Sign)
	case 2:
		*a |= tpm2.ObjDecrypt
		if g.IntN(3) == 0 {
			p.Scheme = tpm2.Scheme{Alg: pickOf(g, tpm2.AlgECDH, tpm2.AlgECDH, tpm2.AlgSM2, tpm2.AlgECMQV), Hash: g.hash()}
		}
	default:
		*a |= tpm2.ObjDecrypt | tpm2.ObjRestricted
		p.Symmetric = g.cipher(tpm2.AlgCFB)
	}
}

func (g *gen) rsaTemplate(p *tpm2.Public, a *tpm2.ObjectAttributes) {
	switch g.IntN(4) {
	case 0, 1:
		*a |= tpm2.ObjSign
		p.Scheme = pickOf(g, tpm2.Scheme{Alg: tpm2.AlgNull}, tpm2.Scheme{Alg: tpm2.AlgRSASSA, Hash: g.hash()}, tpm2.Scheme{Alg: tpm2.AlgRSAPSS, Hash: g.hash()})
	case 2:
		*a |= tpm2.ObjDecrypt
		p.Scheme = pickOf(g, tpm2.Scheme{Alg: tpm2.AlgNull}, tpm2.Scheme{Alg: tpm2.AlgRSAES}, tpm2.Scheme{Alg: tpm2.AlgOAEP, Hash: g.hash()})
	default:
		*a |= tpm2.ObjDecrypt | tpm2.ObjRestricted
		p.Symmetric = g.cipher(tpm2.AlgCFB)
	}
}

// sensitive is what the creator adds to a template.
func (g *gen) sensitive(p *tpm2.Public) tpm2.SensitiveCreate {
	s := tpm2.SensitiveCreate{UserAuth: g.auth(p.NameAlg)}
	if p.Attributes&(tpm2.ObjSensitiveDataOrigin) == 0 {
		s.Data = g.bytes(1 + g.IntN(pickOf(g, 32, 128)))
	} else if (p.Type == tpm2.AlgSymCipher || p.Type == tpm2.AlgKeyedHash) && g.IntN(5) == 0 {
		p.Attributes &^= tpm2.ObjSensitiveDataOrigin
		n := 20
		if p.Type == tpm2.AlgSymCipher {
			n = max(0, int(p.Symmetric.KeyBits)/8-g.IntN(4)/3)
		}
		if s.Data = g.bytes(n); p.Symmetric.Alg == tpm2.AlgTDES && g.often(4) {
			clear(s.Data) // a key that is none
		}
	}
	return s
}

func (g *gen) createIn(parent *object.Object) *createIn {
	in := &createIn{outsideInfo: g.data(66), creationPCR: pickOf(g, nil, nil, g.pcrList())}
	in.public.Public = g.template(parent)
	in.sensitive = g.sensitive(&in.public.Public)
	return in
}

// objectMakers are those of Part 3, 12.
func objectMakers() map[tpm2.CC]maker {
	return map[tpm2.CC]maker{
		tpm2.CCCreatePrimary: func(g *gen) *step {
			return g.making(func() *step {
				h := pickOf(g, tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHNull)
				return g.cmd(tpm2.CCCreatePrimary, []tpm2.Handle{h}, g.createIn(nil))
			})
		},
		tpm2.CCCreate: func(g *gen) *step {
			return g.with(isStorage, func(h tpm2.Handle) *step {
				create := func() *step {
					return g.cmd(tpm2.CCCreate, []tpm2.Handle{h}, g.createIn(g.w.e.state.objects.Get(h)))
				}
				if g.often(4) {
					return g.making(create)
				}
				return create()
			})
		},
		tpm2.CCLoad: func(g *gen) *step {
			return g.making(func() *step {
				if g.IntN(3) == 0 {
					return g.load(g.some())
				}
				return g.with(isOpenStorage, func(h tpm2.Handle) *step {
					if b, ok := g.forged(h); ok {
						return g.load(b)
					}
					return nil
				})
			})
		},
		tpm2.CCLoadExternal: func(g *gen) *step { return g.making(g.loadExternal) },
		tpm2.CCCreateLoaded: func(g *gen) *step {
			if g.IntN(3) == 0 {
				return g.with(isDerivation, func(h tpm2.Handle) *step {
					return g.making(func() *step { return g.createLoaded(h) })
				})
			}
			return g.making(func() *step {
				list := append(g.objects(isStorage), g.objects(isDerivation)...)
				return g.createLoaded(g.one(append(list, tpm2.RHOwner, tpm2.RHPlatform, tpm2.RHNull, tpm2.RHEndorsement)))
			})
		},
		tpm2.CCReadPublic: func(g *gen) *step {
			return g.cmd(tpm2.CCReadPublic, []tpm2.Handle{g.one(g.objects(anyObject))})
		},
		tpm2.CCUnseal: func(g *gen) *step {
			return g.with(isSealed, func(h tpm2.Handle) *step { return g.cmd(tpm2.CCUnseal, []tpm2.Handle{h}) })
		},
		tpm2.CCObjectChangeAuth: func(g *gen) *step {
			child := g.one(g.objects(func(o *object.Object) bool { return o.Key != nil && !o.PublicOnly() }))
			parent := g.one(g.objects(anyObject))
			alg := tpm2.AlgSHA256
			if o := g.w.e.state.objects.Get(child); o != nil {
				if list := g.objects(o.IsChildOf); len(list) > 0 {
					parent = pickOf(g, list...)
				}
				if o.Key != nil {
					alg = o.Public.NameAlg
				}
			}
			return g.cmd(tpm2.CCObjectChangeAuth, []tpm2.Handle{child, parent}, &objectChangeAuthIn{g.auth(alg)})
		},
		tpm2.CCEvictControl: (*gen).evict,
		tpm2.CCContextSave:  (*gen).contextSave,
		tpm2.CCContextLoad:  (*gen).contextLoad,
		tpm2.CCFlushContext: func(g *gen) *step {
			list := append(g.objects(func(o *object.Object) bool { return true }), g.w.e.state.sessions.Handles(true)...)
			list = append(list, g.w.e.state.sessions.Handles(false)...)
			return g.flush(g.one(list))
		},
	}
}

// marshal encodes what may be wrong.
func marshal(w tpm2.Walker) []byte {
	c := tpm2.NewEncoder(nil)
	w.Walk(&c)
	return c.Output()
}

func (g *gen) createLoaded(h tpm2.Handle) *step {
	parent := g.w.e.state.objects.Get(h)
	in := &createLoadedIn{}
	p := g.template(parent)
	in.sensitive = g.sensitive(&p)
	if parent == nil || !isDerivation(parent) {
		in.template = marshal(&p)
		return g.cmd(tpm2.CCCreateLoaded, []tpm2.Handle{h}, in)
	}
	for p.Type == tpm2.AlgRSA && g.often(10) {
		p = g.template(parent)
	}
	p.Attributes = p.Attributes&^(tpm2.ObjSensitiveDataOrigin|tpm2.ObjFixedTPM|tpm2.ObjFixedParent) |
		parent.Public.Attributes&tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	t := tpm2.DerivedTemplate{Public: p, Derive: tpm2.Derive{Label: g.data(32), Context: g.data(32)}}
	in.template = marshal(&t)
	in.sensitive.Data = nil
	if g.IntN(3) == 0 {
		in.sensitive.Data = tpm2.Marshal(&tpm2.Derive{Label: g.data(32), Context: g.data(32)})
	}
	return g.cmd(tpm2.CCCreateLoaded, []tpm2.Handle{h}, in)
}

// loadExternal loads a key that the generator makes, or the public area of one
// in the pool.
func (g *gen) loadExternal() *step {
	in := &loadExternalIn{hierarchy: tpm2.Hierarchy(pickOf(g, tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHNull))}
	if g.IntN(2) == 0 {
		p := g.some().public
		in.public.Public = p.Clone()
		if g.IntN(15) == 0 {
			in.public.NameAlg, in.public.AuthPolicy = tpm2.AlgNull, nil
		}
		if x := in.public.Point.X; len(x) > 0 && g.IntN(8) == 0 { // not on its curve, which only what has a Name must be
			x[len(x)-1] ^= 1
		}
		return g.cmd(tpm2.CCLoadExternal, nil, in)
	}
	p := g.template(nil)
	for p.Type == tpm2.AlgRSA {
		p = g.template(nil)
	}
	p.Attributes &^= tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjRestricted | tpm2.ObjEncryptedDuplication
	if p.Type == tpm2.AlgKeyedHash && p.Scheme.Alg == tpm2.AlgXOR || p.Type == tpm2.AlgECC && p.Symmetric.Alg != tpm2.AlgNull {
		p.Symmetric.Alg = tpm2.AlgNull
	}
	if p.Type == tpm2.AlgKeyedHash && p.Scheme.Alg == tpm2.AlgXOR {
		p.Scheme.KDF = tpm2.AlgKDF1SP800108
	}
	var data []byte
	switch p.Type {
	case tpm2.AlgKeyedHash:
		data = g.bytes(1 + g.IntN(40))
		p.Attributes &^= tpm2.ObjSensitiveDataOrigin
	case tpm2.AlgSymCipher:
		data = g.bytes(int(p.Symmetric.KeyBits) / 8)
		p.Attributes &^= tpm2.ObjSensitiveDataOrigin
	}
	key, rc := crypt.CreateObject(&p, g.auth(p.NameAlg), data, &crypt.Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		return nil
	}
	in.public.Public, in.sensitive = key.Public, tpm2.SizedSensitive{Present: true, Sensitive: *key.Sensitive}
	if g.IntN(2) == 0 {
		g.bend(&in.public.Public, &in.sensitive.Sensitive)
	}
	in.hierarchy = tpm2.Hierarchy(tpm2.RHNull)
	return g.cmd(tpm2.CCLoadExternal, nil, in)
}

func (g *gen) evict() *step {
	persistent := []tpm2.Handle{0x81000010, 0x81000011, 0x81800010, 0x81FFFFFF}
	h, who := pickOf(g, persistent...), tpm2.RHOwner
	if h >= tpm2.PlatformPersistent && g.often(10) {
		who = tpm2.RHPlatform
	}
	target := h
	if g.w.e.state.objects.Get(h) == nil {
		var list []tpm2.Handle
		for i, o := range g.w.e.state.objects.Slots {
			if o != nil && !o.Temporary() && !o.STClear && !o.PublicOnly() && (who == tpm2.RHOwner) == (o.Hierarchy != tpm2.RHPlatform) {
				list = append(list, tpm2.TransientFirst+tpm2.Handle(i))
			}
		}
		if len(list) == 0 && g.often(6) {
			return g.makers[tpm2.CCCreatePrimary](g)
		}
		target = g.one(list)
	}
	in := &evictControlIn{handleParam{aPersistent, h}}
	return g.cmd(tpm2.CCEvictControl, []tpm2.Handle{who, target}, in)
}

func (g *gen) contextSave() *step {
	var list []tpm2.Handle
	// Version 0.9 ends when it goes on with a sequence of CMAC that was saved.
	saved := func(o *object.Object) bool { return o.Sequence == nil || o.Sequence.Kind != object.CMACSequence }
	for _, h := range g.objects(saved) {
		if h.Type() == tpm2.HTTransient {
			list = append(list, h)
		}
	}
	if in, active := g.w.e.state.sessions.Counts(); active-in < 30 {
		list = append(list, g.w.e.state.sessions.Handles(true)...)
	}
	return g.cmd(tpm2.CCContextSave, []tpm2.Handle{g.one(list)})
}

// contextLoad loads a context; a session's mostly only once.
func (g *gen) contextLoad() *step {
	if len(g.w.saved) == 0 {
		return g.contextSave()
	}
	var fit []int
	for i := range g.w.saved {
		if h := g.w.saved[i].session; h != 0 {
			if id, ok := g.w.e.state.sessions.SavedID(h); !ok || id != g.w.saved[i].context[0].Sequence {
				continue
			}
		}
		fit = append(fit, i)
	}
	i := g.IntN(len(g.w.saved))
	if len(fit) > 0 && g.often(20) {
		i = pickOf(g, fit...)
	}
	f := func() *step {
		s := g.raw(tpm2.CCContextLoad, nil, nil)
		s.context = i + 1
		return s
	}
	if g.w.saved[i].session == 0 {
		return g.making(f)
	}
	g.then(append(g.roomForSession(), f)...)
	return nil
}
