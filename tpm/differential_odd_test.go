package tpm

import (
	"crypto/rand"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// odd makes a template that a TPM has something against.
func (g *gen) odd(p *tpm2.Public) {
	scheme := func() tpm2.Scheme {
		return pickOf(g, tpm2.Scheme{Alg: tpm2.AlgNull}, tpm2.Scheme{Alg: tpm2.AlgHMAC, Hash: g.hash()}, tpm2.Scheme{Alg: tpm2.AlgECDSA, Hash: g.hash()},
			tpm2.Scheme{Alg: tpm2.AlgECDH, Hash: g.hash()}, tpm2.Scheme{Alg: tpm2.AlgRSASSA, Hash: g.hash()}, tpm2.Scheme{Alg: tpm2.AlgOAEP, Hash: g.hash()},
			tpm2.Scheme{Alg: tpm2.AlgXOR, Hash: g.hash(), KDF: pickOf(g, tpm2.AlgKDF1SP800108, tpm2.AlgMGF1)})
	}
	switch g.IntN(8) {
	case 0:
		p.KDF = tpm2.Scheme{Alg: pickOf(g, tpm2.AlgMGF1, tpm2.AlgKDF2, tpm2.AlgKDF1SP80056A, tpm2.AlgKDF1SP800108), Hash: g.hash()}
	case 1:
		p.Scheme = scheme()
	case 2:
		p.Symmetric = pickOf(g, tpm2.SymDef{Alg: tpm2.AlgNull}, g.cipher(tpm2.AlgCFB, tpm2.AlgCBC, tpm2.AlgCMAC))
	case 3:
		p.Exponent = pickOf(g, uint32(3), 65537, 7, 1<<31+1)
	case 4:
		p.NameAlg = pickOf(g, hashes...)
	case 5:
		p.Attributes ^= pickOf(g, tpm2.ObjSTClear, tpm2.ObjUserWithAuth, tpm2.ObjNoDA, tpm2.ObjEncryptedDuplication, tpm2.ObjX509Sign, tpm2.ObjSensitiveDataOrigin)
	case 6:
		p.AuthPolicy = g.data(64)
	default:
		p.Attributes ^= pickOf(g, tpm2.ObjRestricted, tpm2.ObjDecrypt, tpm2.ObjSign, tpm2.ObjFixedParent, tpm2.ObjFixedTPM)
	}
}

// bend makes a key's two areas not fit each other.
func (g *gen) bend(p *tpm2.Public, s *tpm2.Sensitive) {
	if p.Type == tpm2.AlgSymCipher && p.Symmetric.Alg == tpm2.AlgTDES && g.IntN(3) == 0 {
		s.Sensitive = make([]byte, len(s.Sensitive)) // a key that is none
		return
	}
	switch g.IntN(8) {
	case 0:
		if len(s.Sensitive) > 0 {
			s.Sensitive = append([]byte(nil), s.Sensitive...)
			s.Sensitive[g.IntN(len(s.Sensitive))] ^= 1
		}
	case 1:
		s.Sensitive = g.bytes(pickOf(g, 0, 1, 15, 16, 24, 31, 32, 33))
	case 2:
		s.Type = pickOf(g, tpm2.AlgKeyedHash, tpm2.AlgSymCipher, tpm2.AlgECC, tpm2.AlgRSA)
		if s.Type == tpm2.AlgSymCipher || s.Type == tpm2.AlgECC {
			s.Sensitive = s.Sensitive[:min(32, len(s.Sensitive))]
		}
	case 3:
		s.SeedValue = g.data(64)
	case 4:
		s.AuthValue = g.data(64)
	case 5:
		if len(p.Point.X) > 0 {
			p.Point.X = append([]byte(nil), p.Point.X...)
			p.Point.X[0] ^= 1
		} else {
			p.Unique = g.bytes(len(p.Unique))
		}
	case 6:
		p.NameAlg = tpm2.AlgNull
		p.AuthPolicy = nil
	default:
		g.odd(p)
	}
}

// isOpenStorage: someone besides the TPM may know the parent's secrets.
func isOpenStorage(o *object.Object) bool { return isStorage(o) && !o.Is(tpm2.ObjFixedTPM) }

// forged is a private area that only someone who knows the parent's secrets can
// make: what protects it is right, and what is in it is not.
func (g *gen) forged(h tpm2.Handle) (b loadable, ok bool) {
	parent := g.w.e.state.objects.Get(h)
	if parent == nil || !isOpenStorage(parent) {
		return b, false
	}
	p := g.template(parent)
	for p.Type == tpm2.AlgRSA {
		p = g.template(parent)
	}
	in := g.sensitive(&p)
	key, rc := crypt.CreateObject(&p, in.UserAuth, in.Data, &crypt.Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		return b, false
	}
	if g.bend(&key.Public, key.Sensitive); !encodes(key) {
		return
	}
	if g.IntN(5) == 0 { // what is protected is no sensitive area at all
		data := buf16(tpm2.Marshal(key.Sensitive))
		data = pickOf(g, data[:g.IntN(len(data))], append(data, 0), g.bytes(40), append(buf16(nil), data...))
		private, err := crypt.ProtectionOf(parent.Key).Wrap(key.Public.Name(), data, rand.Reader)
		return newLoadable(parent.Name, private, key.Public), err == tpm2.RCSuccess
	}
	private, rc := crypt.SensitiveToPrivate(parent.Key, key.Public.Name(), key.Public.NameAlg, key.Sensitive, rand.Reader)
	return newLoadable(parent.Name, private, key.Public), rc == tpm2.RCSuccess
}

// forgedDuplicate is a duplicate without wrappers, of what is not right.
func (g *gen) forgedDuplicate() (d duplicated, ok bool) {
	p := g.template(nil)
	for p.Type == tpm2.AlgRSA {
		p = g.template(nil)
	}
	p.Attributes &^= tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	in := g.sensitive(&p)
	key, rc := crypt.CreateObject(&p, in.UserAuth, in.Data, &crypt.Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		return d, false
	}
	if g.bend(&key.Public, key.Sensitive); !encodes(key) {
		return
	}
	d.public, d.symmetric = key.Public, tpm2.SymDefObject{Alg: tpm2.AlgNull}
	d.duplicate, rc = crypt.SensitiveToDuplicate(nil, nil, key.Public.Name(), key.Public.NameAlg, tpm2.SymDef{Alg: tpm2.AlgNull}, nil, key.Sensitive)
	return d, rc == tpm2.RCSuccess
}

// encodes reports whether a key can be sent.
func encodes(key *crypt.Key) bool {
	c := tpm2.NewEncoder(nil)
	(&tpm2.SizedPublic{Public: key.Public}).Walk(&c)
	key.Sensitive.Walk(&c)
	return c.RC() == tpm2.RCSuccess && key.Public.NameAlg != tpm2.AlgNull
}

// manySessions saves sessions until there are no handles for more.
func (g *gen) manySessions() (list []later) {
	list = g.roomForSession()
	for range 70 {
		list = append(list, func() *step { return g.startSession(tpm2.SEHMAC, tpm2.AlgSHA256) }, func() *step {
			if g.last.rc != tpm2.RCSuccess {
				return nil
			}
			return g.cmd(tpm2.CCContextSave, []tpm2.Handle{g.last.handle})
		})
	}
	for i := range tpm2.Handle(64) {
		list = append(list, func() *step { return g.flush(tpm2.HMACSessionFirst + i) })
	}
	return list
}

// fullMemory defines large Indices until there is no room, and tries to keep an
// object besides.
func (g *gen) fullMemory() (list []later) {
	index := func(i int) tpm2.Handle { return firstIndex + 0x100 + tpm2.Handle(i) }
	const large, n = 72, 76
	for i := range n {
		list = append(list, func() *step {
			in := &nvDefineSpaceIn{}
			in.publicInfo.NVPublic = tpm2.NVPublic{Index: index(i), NameAlg: tpm2.AlgSHA256, Attributes: tpm2.NVOwnerRead | tpm2.NVOwnerWrite,
				DataSize: 2048}
			if i >= large {
				in.publicInfo.DataSize = 700
			}
			return g.cmd(tpm2.CCNVDefineSpace, []tpm2.Handle{tpm2.RHOwner}, in)
		})
	}
	// A few persistent objects have room in any case.
	persistent := func(i int) tpm2.Handle { return 0x81000100 + tpm2.Handle(i) }
	const more = 10
	list = append(list, append(g.room(1), func() *step {
		in := &createIn{}
		in.public.Public = hmacKey(signingKey, schemeOf(tpm2.AlgHMAC))
		return g.cmd(tpm2.CCCreatePrimary, []tpm2.Handle{tpm2.RHOwner}, in)
	}, func() *step {
		h := g.last.handle
		for i := range more {
			g.then(func() *step {
				in := &evictControlIn{handleParam{aPersistent, persistent(i)}}
				return g.cmd(tpm2.CCEvictControl, []tpm2.Handle{tpm2.RHOwner, h}, in)
			})
		}
		return nil
	})...)
	for i := range more {
		list = append(list, func() *step {
			if g.w.e.state.objects.Get(persistent(i)) == nil {
				return nil
			}
			in := &evictControlIn{handleParam{aPersistent, persistent(i)}}
			return g.cmd(tpm2.CCEvictControl, []tpm2.Handle{tpm2.RHOwner, persistent(i)}, in)
		})
	}
	for i := range n {
		list = append(list, func() *step {
			if g.w.e.state.nv.Get(index(i)) == nil {
				return nil
			}
			return g.cmd(tpm2.CCNVUndefineSpace, []tpm2.Handle{tpm2.RHOwner, index(i)})
		})
	}
	return list
}

// expiries are authorizations that are too late, once Time is above a second.
func (g *gen) expiries() (list []later) {
	for range 6 {
		list = append(list, func() *step {
			h := g.sessions(func(s *session.Session) bool { return s.IsPolicy() && !s.Trial })
			if len(h) == 0 {
				return g.startSession(tpm2.SEPolicy, g.hash())
			}
			in := authorization{expiration: tpm2.UINT32(pickOf(g, uint32(1), 0xFFFFFFFF))}
			return g.cmd(tpm2.CCPolicySecret, []tpm2.Handle{tpm2.RHOwner, h[0]}, &in)
		}, func() *step { g.late = true; return g.policySigned() }, g.policyTicket, func() *step { g.late = false; return nil })
	}
	return list
}
