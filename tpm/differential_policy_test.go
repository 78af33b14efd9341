package tpm

import (
	"crypto/hmac"
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// assertion is one command of a policy: what it does to the digest, and the
// command itself.
type assertion struct {
	extend func(s *session.Session)
	step   func(g *gen, h tpm2.Handle, target *step) *step
}

// recipe is a policy that can be fulfilled.
type recipe struct {
	alg  tpm2.AlgID
	cc   tpm2.CC // the only command that it allows; 0: any of the USER role
	list []assertion
}

// digest is the policy's.
func (r *recipe) digest() tpm2.Digest {
	s := &session.Session{AuthHash: r.alg}
	s.StartPolicy(0, 0)
	for _, a := range r.list {
		a.extend(s)
	}
	return s.Digest
}

// simple is an assertion by a command whose parameters are what it asserts.
func simple(cc tpm2.CC, params ...[]byte) assertion {
	var plain []byte
	for _, p := range params {
		plain = append(plain, p...)
	}
	code := cc
	if cc == tpm2.CCPolicyPassword {
		code = tpm2.CCPolicyAuthValue
	}
	return assertion{func(s *session.Session) { extendPolicy(s, code, plain) },
		func(g *gen, h tpm2.Handle, _ *step) *step { return g.raw(cc, []tpm2.Handle{h}, plain) }}
}

// secretOf is PolicySecret.
func secretOf(entity tpm2.Handle) assertion {
	return assertion{func(s *session.Session) { updatePolicy(s, tpm2.CCPolicySecret, u32(uint32(entity)), nil) },
		func(g *gen, h tpm2.Handle, _ *step) *step {
			return g.cmd(tpm2.CCPolicySecret, []tpm2.Handle{entity, h}, &authorization{})
		}}
}

// adminCommands are those that need a policy for their command code.
var adminCommands = []tpm2.CC{tpm2.CCDuplicate, tpm2.CCObjectChangeAuth, tpm2.CCCertify, tpm2.CCActivateCredential,
	tpm2.CCNVChangeAuth, tpm2.CCNVUndefineSpaceSpecial}

// anyOf is PolicyOR of an authorization value, a secret and the admin commands.
func anyOf(alg tpm2.AlgID) []*recipe {
	roots := []*recipe{{alg, 0, []assertion{simple(tpm2.CCPolicyAuthValue)}}, {alg, 0, []assertion{secretOf(tpm2.RHOwner)}}}
	for _, cc := range adminCommands {
		roots = append(roots, &recipe{alg, cc, []assertion{simple(tpm2.CCPolicyCommandCode, u32(uint32(cc)))}})
	}
	var branches tpm2.PolicyBranches
	for _, r := range roots {
		branches = append(branches, r.digest())
	}
	or := assertion{func(s *session.Session) {
		s.Digest = make(tpm2.Digest, alg.DigestSize())
		var all [][]byte
		for _, b := range branches {
			all = append(all, b)
		}
		extendPolicy(s, tpm2.CCPolicyOR, all...)
	}, func(g *gen, h tpm2.Handle, _ *step) *step {
		return g.cmd(tpm2.CCPolicyOR, []tpm2.Handle{h}, &policyORIn{branches})
	}}
	roots = append(roots, &recipe{alg, 0, []assertion{simple(tpm2.CCPolicyPassword)}})
	for _, r := range roots {
		r.list = append(r.list, or)
	}
	return roots
}

// pcrSelection selects one PCR of the bank of SHA-256.
func pcrSelection(n int) tpm2.PCRSelectionList {
	s := tpm2.PCRSelection{Hash: tpm2.AlgSHA256}
	s.Set(n)
	return tpm2.PCRSelectionList{s}
}

// quietPCR is the PCR that no episode extends.
const quietPCR = 12

// policies are the recipes by their digests.
func policies() (byDigest map[string][]*recipe, list []*recipe) {
	byDigest = map[string][]*recipe{}
	for _, alg := range hashes {
		sel := pcrSelection(quietPCR)
		zero := tpm2.AlgID(alg).Digest(make([]byte, 32))
		pcrs := assertion{func(s *session.Session) { extendPolicy(s, tpm2.CCPolicyPCR, tpm2.Marshal(&sel), zero) },
			func(g *gen, h tpm2.Handle, _ *step) *step {
				return g.cmd(tpm2.CCPolicyPCR, []tpm2.Handle{h}, &policyPCRIn{pcrs: sel})
			}}
		timer := assertion{func(s *session.Session) {
			extendPolicy(s, tpm2.CCPolicyCounterTimer, alg.Digest(make([]byte, 4), u16(16), u16(uint16(tpm2.EOUnsignedGE))))
		}, func(g *gen, h tpm2.Handle, _ *step) *step {
			return g.raw(tpm2.CCPolicyCounterTimer, []tpm2.Handle{h}, append(buf16(make([]byte, 4)), 0, 16, 0, byte(tpm2.EOUnsignedGE)))
		}}
		all := append(anyOf(alg), &recipe{alg, 0, []assertion{pcrs}}, &recipe{alg, 0, []assertion{timer}},
			&recipe{alg, 0, []assertion{simple(tpm2.CCPolicyLocality, []byte{1 << 0})}},
			&recipe{alg, 0, []assertion{simple(tpm2.CCPolicyLocality, []byte{1 << 1})}},
			&recipe{alg, 0, []assertion{simple(tpm2.CCPolicyPhysicalPresence)}},
			&recipe{alg, 0, []assertion{simple(tpm2.CCPolicyNvWritten, []byte{1})}},
			&recipe{alg, 0, []assertion{secretOf(tpm2.RHEndorsement), simple(tpm2.CCPolicyAuthValue)}},
			&recipe{alg, tpm2.CCNVRead, []assertion{simple(tpm2.CCPolicyCommandCode, u32(uint32(tpm2.CCNVRead)))}},
			&recipe{alg, tpm2.CCUnseal, []assertion{simple(tpm2.CCPolicyPassword), simple(tpm2.CCPolicyCommandCode, u32(uint32(tpm2.CCUnseal)))}})
		for _, r := range all {
			key := string(r.digest())
			byDigest[key] = append(byDigest[key], r)
		}
		list = append(list, all...)
	}
	return byDigest, list
}

// recipeFor finds how to fulfil an entity's policy for a step.
func (g *gen) recipeFor(s *step, h tpm2.Handle, r role) *recipe {
	_, policy := g.w.e.entityPolicy(h)
	var fit []*recipe
	for _, x := range g.byDigest[string(policy)] {
		if x.cc == s.d.cc || x.cc == 0 && r == authUser || g.IntN(40) == 0 {
			fit = append(fit, x)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return pickOf(g, fit...)
}

// policyFor is a policy for something with a nameAlg; most have the one that
// allows much.
func (g *gen) policyFor(alg tpm2.AlgID) tpm2.Digest {
	switch n := g.IntN(10); {
	case n < 4:
		return nil
	case n < 8:
		return g.broad[alg]
	case n < 9:
		for range 20 {
			if r := pickOf(g, g.recipes...); r.alg == alg {
				return r.digest()
			}
		}
	}
	return g.bytes(alg.DigestSize())
}

// policySession picks a policy session, or starts one and comes back.
func (g *gen) policySession(again maker) (tpm2.Handle, *step) {
	list := g.sessions((*session.Session).IsPolicy)
	if len(list) == 0 || g.IntN(30) == 0 {
		if g.often(10) {
			g.then(append(g.roomForSession(), func() *step {
				return g.startSession(pickOf(g, tpm2.SEPolicy, tpm2.SEPolicy, tpm2.SETrial), pickOf(g, hashes...))
			}, func() *step { return again(g) })...)
			return 0, nil
		}
		return g.one(nil), nil
	}
	return pickOf(g, list...), nil
}

// onPolicy makes a maker of a policy command, which gets the session.
func onPolicy(cc tpm2.CC, f func(g *gen, s *session.Session) []tpm2.Walker) maker {
	var m maker
	m = func(g *gen) *step {
		h, _ := g.policySession(m)
		if h == 0 {
			return nil
		}
		s := g.w.e.state.sessions.Get(h)
		if s == nil {
			s = &session.Session{AuthHash: tpm2.AlgSHA256, Policy: session.Policy{Digest: make([]byte, 32)}}
		}
		var before []tpm2.Handle
		for _, x := range registry.lookup(cc).handles {
			switch x.kind {
			case anEntity:
				before = append(before, g.anEntity())
			case anObject:
				before = append(before, g.one(g.objects(isSigner)))
			case nvAuth:
				x := g.one(g.indices(anyIndex))
				before = append(before, g.nvAuthFor(x, false), x)
			}
		}
		g.target = before
		return g.cmd(cc, append(before, h), f(g, s)...)
	}
	return m
}

// digest is a policy digest or its like, of the session's size.
func (g *gen) digest(s *session.Session) tpm2.Digest {
	switch g.IntN(12) {
	case 0:
		return g.data(64)
	case 1:
		return nil
	case 2:
		if c := s.ParametersConstraint(); len(c) > 0 {
			return c
		}
	}
	if g.IntN(3) == 0 {
		return make([]byte, s.AuthHash.DigestSize())
	}
	return g.bytes(s.AuthHash.DigestSize())
}

// limits are the parameters that PolicySigned and PolicySecret share.
func (g *gen) limits(s *session.Session) authorization {
	a := authorization{policyRef: g.data(32)}
	if g.IntN(3) == 0 {
		a.nonceTPM = s.NonceTPM
	}
	if g.IntN(4) == 0 {
		a.cpHashA = g.digest(s)
	}
	if g.late {
		a.nonceTPM, a.expiration = nil, tpm2.UINT32(pickOf(g, uint32(1), 0xFFFFFFFF))
		return a
	}
	switch g.IntN(8) {
	case 0, 1:
		a.expiration = tpm2.UINT32(uint32(pickOf(g, int32(-100_000), -90_000_000, -2_000_000_000)))
	case 2:
		a.expiration = tpm2.UINT32(pickOf(g, uint32(100_000), 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
	}
	return a
}

// policyMakers are those of Part 3, 23.
func policyMakers() map[tpm2.CC]maker {
	nothing := func(*gen, *session.Session) []tpm2.Walker { return nil }
	m := map[tpm2.CC]maker{}
	for _, cc := range []tpm2.CC{tpm2.CCPolicyAuthValue, tpm2.CCPolicyPassword, tpm2.CCPolicyGetDigest, tpm2.CCPolicyPhysicalPresence,
		tpm2.CCPolicyRestart} {
		m[cc] = onPolicy(cc, nothing)
	}
	hashed := func(g *gen, s *session.Session) []tpm2.Walker { return []tpm2.Walker{&policyHashIn{g.digest(s)}} }
	for _, cc := range []tpm2.CC{tpm2.CCPolicyCpHash, tpm2.CCPolicyNameHash, tpm2.CCPolicyTemplate} {
		m[cc] = onPolicy(cc, hashed)
	}
	add := func(cc tpm2.CC, f func(g *gen, s *session.Session) []tpm2.Walker) { m[cc] = onPolicy(cc, f) }
	add(tpm2.CCPolicyOR, func(g *gen, s *session.Session) []tpm2.Walker {
		in := &policyORIn{}
		for range pickOf(g, 2, 2, 3, 8) {
			in.branches = append(in.branches, g.bytes(s.AuthHash.DigestSize()))
		}
		if g.often(8) {
			in.branches[g.IntN(len(in.branches))] = s.Digest
		}
		return []tpm2.Walker{in}
	})
	add(tpm2.CCPolicyPCR, func(g *gen, s *session.Session) []tpm2.Walker {
		in := &policyPCRIn{pcrs: g.pcrList()}
		if g.IntN(3) == 0 {
			_, in.pcrDigest = g.w.e.state.pcrs.Digest(in.pcrs, s.AuthHash)
		} else if g.IntN(8) == 0 {
			in.pcrDigest = g.digest(s)
		}
		return []tpm2.Walker{in}
	})
	add(tpm2.CCPolicyLocality, func(g *gen, s *session.Session) []tpm2.Walker {
		return []tpm2.Walker{&policyLocalityIn{tpm2.Locality(pickOf(g, 1, 3, 31, 7, 9, 32, 33, 0, 255, 8))}}
	})
	add(tpm2.CCPolicyCommandCode, func(g *gen, s *session.Session) []tpm2.Walker {
		cc := pickOf(g, g.deck...)
		if s.CommandCode != 0 && g.often(4) {
			cc = s.CommandCode
		}
		return []tpm2.Walker{&policyCommandCodeIn{cc}}
	})
	add(tpm2.CCPolicyNvWritten, func(g *gen, s *session.Session) []tpm2.Walker {
		v := s.NVWritten
		if !s.CheckNVWritten || g.IntN(6) == 0 {
			v = g.IntN(2) == 0
		}
		return []tpm2.Walker{&policyNvWrittenIn{tpm2.YesNo(v)}}
	})
	add(tpm2.CCPolicyDuplicationSelect, func(g *gen, s *session.Session) []tpm2.Walker {
		name := func() tpm2.Name { return g.w.e.entityName(g.one(g.objects(anyObject))) }
		return []tpm2.Walker{&policyDuplicationSelectIn{name(), name(), tpm2.YesNo(g.IntN(2) == 0)}}
	})
	add(tpm2.CCPolicySecret, func(g *gen, s *session.Session) []tpm2.Walker {
		in := g.limits(s)
		return []tpm2.Walker{&in}
	})
	add(tpm2.CCPolicyCounterTimer, (*gen).counterTimer)
	add(tpm2.CCPolicyNV, (*gen).policyNV)
	add(tpm2.CCPolicyAuthorizeNV, nothing)
	m[tpm2.CCPolicySigned] = (*gen).policySigned
	m[tpm2.CCPolicyTicket] = (*gen).policyTicket
	m[tpm2.CCPolicyAuthorize] = (*gen).policyAuthorize
	return m
}

// comparisons are the operations; 0.9 orders two negative numbers the wrong way
// round, so that the signed ones are made with positive numbers.
func (g *gen) comparison(operand []byte) tpm2.EO {
	for {
		op := tpm2.EO(g.IntN(12))
		switch op {
		case tpm2.EOSignedGT, tpm2.EOSignedLT, tpm2.EOSignedGE, tpm2.EOSignedLE:
			if len(operand) > 0 && operand[0]&0x80 != 0 {
				continue
			}
		}
		return op
	}
}

func (g *gen) counterTimer(s *session.Session) []tpm2.Walker {
	e := g.w.e
	info := tpm2.TimeInfo{Time: e.state.timing.Time, ClockInfo: e.state.timing.ClockInfo()}
	b := tpm2.Marshal(&info)
	at := 16 + g.IntN(9)
	n := g.IntN(min(8, len(b)-at) + 1)
	operand := append([]byte(nil), b[at:at+n]...)
	if n > 0 && g.IntN(3) == 0 {
		operand[n-1] ^= byte(g.IntN(4))
	}
	if g.IntN(10) == 0 {
		at = pickOf(g, 17, 25, 26, 0xFFFF, 24)
	}
	return []tpm2.Walker{&policyNVIn{operandB: operand, offset: tpm2.UINT16(at), operation: g.comparison(operand)}}
}

func (g *gen) policyNV(s *session.Session) []tpm2.Walker {
	in := &policyNVIn{}
	if x := g.w.e.state.nv.Get(g.target[len(g.target)-1]); x != nil && len(x.Data) > 0 {
		at := g.IntN(len(x.Data))
		n := g.IntN(min(20, len(x.Data)-at) + 1)
		in.operandB, in.offset = append([]byte(nil), x.Data[at:at+n]...), tpm2.UINT16(at)
		if n > 0 && g.IntN(3) == 0 {
			in.operandB[n-1] ^= byte(g.IntN(4))
		}
	}
	in.operation = g.comparison(in.operandB)
	return []tpm2.Walker{in}
}

// signedBy is what PolicySigned verifies: an HMAC by a key in the TPM.
func (g *gen) policySigned() *step {
	h, _ := g.policySession((*gen).policySigned)
	if h == 0 {
		return nil
	}
	s := g.w.e.state.sessions.Get(h)
	if s == nil {
		return nil
	}
	in := policySignedIn{authorization: g.limits(s)}
	return g.with(isMACKey, func(key tpm2.Handle) *step {
		in.auth = tpm2.Signature{Alg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA256}
		if o := g.w.e.state.objects.Get(key); o != nil && isMACKey(o) {
			in.auth.Hash = o.Public.Scheme.Hash
			if o.Public.Scheme.Alg == tpm2.AlgNull {
				in.auth.Hash = pickOf(g, hashes...)
			}
			expiration := binary.BigEndian.AppendUint32(nil, uint32(in.expiration))
			in.auth.HMAC = macOf(in.auth.Hash, o.Sensitive.Sensitive, in.auth.Hash.Digest(in.nonceTPM, expiration, in.cpHashA, in.policyRef))
		} else {
			in.auth.HMAC = g.bytes(32)
		}
		return g.cmd(tpm2.CCPolicySigned, []tpm2.Handle{key, h}, &in)
	})
}

func macOf(alg tpm2.AlgID, key, data []byte) []byte {
	m := hmac.New(alg.New, key)
	m.Write(data)
	return m.Sum(nil)
}

// ticketOf is a ticket that PolicySigned or PolicySecret gave.
type ticketOf struct {
	authorization
	out  authorizationOut
	name tpm2.Name
}

func (g *gen) policyTicket() *step {
	h, _ := g.policySession((*gen).policyTicket)
	if h == 0 {
		return nil
	}
	if len(g.tickets) == 0 || g.IntN(10) == 0 {
		return g.makers[pickOf(g, tpm2.CCPolicySecret, tpm2.CCPolicySigned)](g)
	}
	t := pickOf(g, g.tickets...)
	return g.cmd(tpm2.CCPolicyTicket, []tpm2.Handle{h},
		&policyTicketIn{timeout: t.out.timeout, cpHashA: t.cpHashA, policyRef: t.policyRef, authName: t.name, ticket: t.out.ticket})
}

// policyAuthorize has what the session's policy is approved by a key: the
// ticket is the one that VerifySignature would give.
func (g *gen) policyAuthorize() *step {
	h, _ := g.policySession((*gen).policyAuthorize)
	if h == 0 {
		return nil
	}
	s := g.w.e.state.sessions.Get(h)
	if s == nil {
		return nil
	}
	name := g.w.e.entityName(g.one(g.objects(func(o *object.Object) bool { return o.Key != nil })))
	in := &policyAuthorizeIn{approvedPolicy: s.Digest, policyRef: g.data(32), keySign: name}
	alg := tpm2.AlgSHA256
	if len(name) > 2 {
		alg = tpm2.AlgID(binary.BigEndian.Uint16(name))
	}
	in.checkTicket = tpm2.VerifiedTicket{Tag: tpm2.STVerified, Hierarchy: tpm2.Hierarchy(tpm2.RHNull)}
	if alg.DigestSize() > 0 && g.often(10) {
		in.checkTicket = g.w.e.verifiedTicket(pickOf(g, tpm2.RHOwner, tpm2.RHPlatform, tpm2.RHNull), alg.Digest(in.approvedPolicy, in.policyRef), name)
	}
	return g.cmd(tpm2.CCPolicyAuthorize, []tpm2.Handle{h}, in)
}

func anyIndex(*nv.Index) bool       { return true }
func anyObject(*object.Object) bool { return true }
