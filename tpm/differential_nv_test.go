package tpm

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// nvAuthFor picks who authorizes the use of an Index: the Index itself, its
// owner or the platform.
func (g *gen) nvAuthFor(h tpm2.Handle, write bool) tpm2.Handle {
	x := g.w.e.state.nv.Get(h)
	if x == nil || g.IntN(25) == 0 {
		return pickOf(g, h, tpm2.RHOwner, tpm2.RHPlatform)
	}
	auth, policy, owner, platform := tpm2.NVAuthRead, tpm2.NVPolicyRead, tpm2.NVOwnerRead, tpm2.NVPPRead
	if write {
		auth, policy, owner, platform = tpm2.NVAuthWrite, tpm2.NVPolicyWrite, tpm2.NVOwnerWrite, tpm2.NVPPWrite
	}
	var list []tpm2.Handle
	if x.Is(auth) || x.Is(policy) && len(x.Public.AuthPolicy) > 0 {
		list = append(list, h, h)
	}
	if x.Is(owner) {
		list = append(list, tpm2.RHOwner)
	}
	if x.Is(platform) {
		list = append(list, tpm2.RHPlatform)
	}
	return g.one(list)
}

// ofType finds Indices of kinds.
func ofType(kinds ...tpm2.NVType) func(*nv.Index) bool {
	return func(x *nv.Index) bool {
		for _, k := range kinds {
			if x.Type() == k {
				return true
			}
		}
		return false
	}
}

// onIndex makes a maker of a command on an Index, of one of the kinds mostly.
func onIndex(cc tpm2.CC, params func(g *gen, x *nv.Index) []tpm2.Walker, kinds ...tpm2.NVType) maker {
	return func(g *gen) *step {
		fits := anyIndex
		if len(kinds) > 0 && g.often(12) {
			fits = ofType(kinds...)
		}
		list := g.indices(fits)
		if len(list) == 0 {
			return g.defineIndex(kinds...)
		}
		h := g.one(list)
		x := g.w.e.state.nv.Get(h)
		if x == nil {
			x = &nv.Index{}
		}
		var handles []tpm2.Handle
		switch {
		case cc == tpm2.CCNVReadPublic:
			handles = []tpm2.Handle{h}
		default:
			handles = []tpm2.Handle{g.nvAuthFor(h, registry.lookup(cc).write), h}
		}
		return g.cmd(cc, handles, params(g, x)...)
	}
}

// defineIndex defines an Index of one of the kinds, where there is room.
func (g *gen) defineIndex(kinds ...tpm2.NVType) *step {
	if len(kinds) == 0 {
		kinds = []tpm2.NVType{tpm2.NTOrdinary, tpm2.NTOrdinary, tpm2.NTCounter, tpm2.NTBits, tpm2.NTExtend, tpm2.NTPinFail, tpm2.NTPinPass}
	}
	p := tpm2.NVPublic{NameAlg: g.hash(), DataSize: 8, Index: firstIndex + tpm2.Handle(g.IntN(14))}
	who, kind := tpm2.RHOwner, pickOf(g, kinds...)
	a := tpm2.NVAttributes(kind) << 4
	if g.IntN(3) == 0 {
		p.Index, who = platformIndex+tpm2.Handle(g.IntN(6)), tpm2.RHPlatform
		a |= tpm2.NVPlatformCreate
		if g.IntN(3) == 0 {
			a |= tpm2.NVPolicyDelete
		}
	}
	for range 8 { // another one, if it is defined
		if g.w.e.state.nv.Get(p.Index) == nil || g.IntN(20) == 0 {
			break
		}
		p.Index = p.Index&^0xF + tpm2.Handle(g.IntN(6))
	}
	some := func(bits ...tpm2.NVAttributes) (s tpm2.NVAttributes) {
		for _, b := range bits {
			if g.IntN(2) == 0 {
				s |= b
			}
		}
		return s
	}
	a |= pickOf(g, tpm2.NVOwnerRead, tpm2.NVAuthRead, tpm2.NVPPRead, tpm2.NVPolicyRead) | some(tpm2.NVOwnerRead, tpm2.NVAuthRead)
	a |= pickOf(g, tpm2.NVOwnerWrite, tpm2.NVPPWrite, tpm2.NVOwnerWrite) | some(tpm2.NVNoDA, tpm2.NVNoDA, tpm2.NVPolicyWrite, tpm2.NVPolicyRead)
	for _, b := range []tpm2.NVAttributes{tpm2.NVWriteSTClear, tpm2.NVReadSTClear, tpm2.NVOrderly, tpm2.NVClearSTClear, tpm2.NVWriteAll, tpm2.NVWriteDefine, tpm2.NVGlobalLock} {
		if g.IntN(6) == 0 {
			a |= b
		}
	}
	if a.Has(tpm2.NVClearSTClear) {
		a &^= tpm2.NVWriteDefine
	}
	if a.Has(tpm2.NVOrderly) {
		a &^= tpm2.NVWriteDefine // version 0.9 may forget the lock at a power loss
	}
	switch kind {
	case tpm2.NTOrdinary:
		p.DataSize = uint16(pickOf(g, 0, 1, 8, 16, 34, 50, 64, 200, 1024, 2048))
		a |= some(tpm2.NVAuthWrite)
		if a.Has(tpm2.NVWriteAll) {
			p.DataSize = min(p.DataSize, 64)
		}
	case tpm2.NTExtend:
		p.DataSize = uint16(p.NameAlg.DigestSize())
		a |= some(tpm2.NVAuthWrite)
	case tpm2.NTCounter:
		a &^= tpm2.NVClearSTClear
		a |= some(tpm2.NVAuthWrite)
	case tpm2.NTBits:
		a |= some(tpm2.NVAuthWrite)
	case tpm2.NTPinFail, tpm2.NTPinPass:
		a = a&^(tpm2.NVGlobalLock|tpm2.NVWriteDefine|tpm2.NVAuthWrite) | tpm2.NVAuthRead
		if kind == tpm2.NTPinFail {
			a |= tpm2.NVNoDA
		}
	}
	p.AuthPolicy = g.policyFor(p.NameAlg)
	if a.Has(tpm2.NVPolicyDelete) && g.often(5) {
		p.AuthPolicy = g.broad[p.NameAlg]
	}
	p.Attributes = a
	in := &nvDefineSpaceIn{auth: g.auth(p.NameAlg)}
	in.publicInfo.NVPublic = p
	return g.cmd(tpm2.CCNVDefineSpace, []tpm2.Handle{who}, in)
}

// lockable makes a maker of a command that locks an Index.
func lockable(cc tpm2.CC, attrs ...tpm2.NVAttributes) maker {
	return func(g *gen) *step {
		list := g.indices(func(x *nv.Index) bool { return slices.ContainsFunc(attrs, x.Is) })
		if len(list) == 0 || g.IntN(12) == 0 {
			list = g.indices(anyIndex)
		}
		h := g.one(list)
		return g.cmd(cc, []tpm2.Handle{g.nvAuthFor(h, cc == tpm2.CCNVWriteLock), h})
	}
}

// nvMakers are those of Part 3, 31.
func nvMakers() map[tpm2.CC]maker {
	nothing := func(*gen, *nv.Index) []tpm2.Walker { return nil }
	m := map[tpm2.CC]maker{
		tpm2.CCNVDefineSpace: func(g *gen) *step { return g.defineIndex() },
		tpm2.CCNVUndefineSpace: func(g *gen) *step {
			h := g.one(g.indices(anyIndex))
			who := tpm2.RHOwner
			if x := g.w.e.state.nv.Get(h); x != nil && x.Is(tpm2.NVPlatformCreate) {
				who = tpm2.RHPlatform
			}
			if g.IntN(15) == 0 {
				who = pickOf(g, tpm2.RHOwner, tpm2.RHPlatform)
			}
			return g.cmd(tpm2.CCNVUndefineSpace, []tpm2.Handle{who, h})
		},
		tpm2.CCNVUndefineSpaceSpecial: func(g *gen) *step {
			list := g.indices(func(x *nv.Index) bool { return x.Is(tpm2.NVPolicyDelete) })
			if len(list) == 0 && g.often(8) {
				return g.defineIndex()
			}
			return g.cmd(tpm2.CCNVUndefineSpaceSpecial, []tpm2.Handle{g.one(list), tpm2.RHPlatform})
		},
		tpm2.CCNVGlobalWriteLock: func(g *gen) *step {
			return g.cmd(tpm2.CCNVGlobalWriteLock, []tpm2.Handle{pickOf(g, tpm2.RHOwner, tpm2.RHPlatform)})
		},
		tpm2.CCNVChangeAuth: func(g *gen) *step {
			h := g.one(g.indices(func(x *nv.Index) bool { return len(x.Public.AuthPolicy) > 0 }))
			alg := tpm2.AlgSHA256
			if x := g.w.e.state.nv.Get(h); x != nil {
				alg = x.Public.NameAlg
			}
			return g.cmd(tpm2.CCNVChangeAuth, []tpm2.Handle{h}, &nvChangeAuthIn{g.auth(alg)})
		},
		tpm2.CCNVCertify: func(g *gen) *step {
			return g.signing(func(key tpm2.Handle) *step {
				h := g.one(g.indices(func(x *nv.Index) bool { return x.Is(tpm2.NVWritten) }))
				size, offset := g.window(g.w.e.state.nv.Get(h))
				in := &nvCertifyIn{attestIn{g.data(66), g.scheme(key)}, size, offset}
				return g.cmd(tpm2.CCNVCertify, []tpm2.Handle{key, g.nvAuthFor(h, false), h}, in)
			})
		},
	}
	add := func(cc tpm2.CC, params func(g *gen, x *nv.Index) []tpm2.Walker, kinds ...tpm2.NVType) {
		m[cc] = onIndex(cc, params, kinds...)
	}
	add(tpm2.CCNVReadPublic, nothing)
	add(tpm2.CCNVIncrement, nothing, tpm2.NTCounter)
	m[tpm2.CCNVWriteLock] = lockable(tpm2.CCNVWriteLock, tpm2.NVWriteSTClear, tpm2.NVWriteDefine)
	m[tpm2.CCNVReadLock] = lockable(tpm2.CCNVReadLock, tpm2.NVReadSTClear)
	add(tpm2.CCNVSetBits, func(g *gen, _ *nv.Index) []tpm2.Walker {
		return []tpm2.Walker{&nvSetBitsIn{tpm2.UINT64(pickOf(g, 0, 1<<g.IntN(64), g.Uint64()))}}
	}, tpm2.NTBits)
	add(tpm2.CCNVExtend, func(g *gen, _ *nv.Index) []tpm2.Walker { return []tpm2.Walker{&nvExtendIn{g.data(1024)}} }, tpm2.NTExtend)
	add(tpm2.CCNVRead, func(g *gen, x *nv.Index) []tpm2.Walker {
		size, offset := g.window(x)
		return []tpm2.Walker{&nvReadIn{size, offset}}
	})
	add(tpm2.CCNVWrite, (*gen).nvWrite, tpm2.NTOrdinary, tpm2.NTPinFail, tpm2.NTPinPass)
	return m
}

// window is a part of an Index, all of it often.
func (g *gen) window(x *nv.Index) (size, offset tpm2.UINT16) {
	if x == nil {
		return 8, 0
	}
	n := min(int(x.Public.DataSize), 1024)
	switch g.IntN(4) {
	case 0, 1:
		return tpm2.UINT16(n), 0
	case 2:
		return 0, 0
	}
	at := g.IntN(n + 1)
	return tpm2.UINT16(g.IntN(n - at + 1)), tpm2.UINT16(at)
}

func (g *gen) nvWrite(x *nv.Index) []tpm2.Walker {
	size, offset := g.window(x)
	switch {
	case x.IsPIN():
		data := []byte{0, 0, 0, byte(g.IntN(4)), 0, 0, 0, byte(g.IntN(6))}
		return []tpm2.Walker{&nvWriteIn{data: data}}
	case x.Is(tpm2.NVWriteAll):
		size, offset = tpm2.UINT16(x.Public.DataSize), 0
	}
	data := g.bytes(int(size))
	// A policy that PolicyAuthorizeNV can take.
	if alg := pickOf(g, hashes...); int(size) >= 2+alg.DigestSize() && g.IntN(2) == 0 {
		offset = 0
		copy(data, u16(uint16(alg)))
		digest := make([]byte, alg.DigestSize())
		if s := g.sessions(func(s *session.Session) bool { return s.IsPolicy() && s.AuthHash == alg }); len(s) > 0 {
			digest = g.w.e.state.sessions.Get(s[0]).Digest
		}
		copy(data[2:], digest)
	}
	return []tpm2.Walker{&nvWriteIn{data, offset}}
}
