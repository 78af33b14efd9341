package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// ephemeralCommands are those of Part 3, 19, and ZGen_2Phase of 14, which ends
// what EC_Ephemeral has begun.
var ephemeralCommands = []command{
	define(command{cc: tpm2.CCCommit,
		handles: []handle{{"signHandle", anObject, authUser}},
	}, (*Engine).commitPoints),
	define(command{cc: tpm2.CCECEphemeral}, (*Engine).ecEphemeral),
	define(command{cc: tpm2.CCZGen2Phase,
		handles: []handle{{"keyA", anObject, authUser}},
	}, (*Engine).zGen2Phase),
}

type commitIn struct {
	p1 tpm2.SizedECCPoint
	s2 tpm2.SensitiveData
	y2 tpm2.ECCParameter
}

// Walk visits the parameters.
func (p *commitIn) Walk(c *tpm2.Codec) { c.Param(&p.p1); c.Param(&p.s2); c.Param(&p.y2) }

type commitOut struct {
	k, l, e tpm2.SizedECCPoint
	counter tpm2.UINT16
}

// Walk visits the parameters.
func (p *commitOut) Walk(c *tpm2.Codec) {
	c.Param(&p.k)
	c.Param(&p.l)
	c.Param(&p.e)
	c.Param(&p.counter)
}

// commitPoints is TPM2_Commit (Part 3, 19.2).
func (e *Engine) commitPoints(c *call, in *commitIn, out *commitOut) tpm2.RC {
	o := c.objects[0]
	if !hasType(o, tpm2.AlgECC) {
		return tpm2.RCKey.H(1)
	}
	if o.Public.Scheme.Alg != tpm2.AlgECDAA {
		return tpm2.RCScheme.H(1)
	}
	if (len(in.s2) == 0) != (len(in.y2) == 0) {
		return tpm2.RCSize.P(3)
	}
	curve, ok := crypt.CurveOf(o.Public.Curve)
	if !ok {
		return tpm2.RCKey.H(1)
	}
	s := &e.state.commitments
	r, ok := crypt.CommitmentSecret(curve.ID, s.nonce[:], commitmentName(&o.Public), s.counter)
	if !ok {
		return tpm2.RCNoResult
	}
	defer clear(r)
	var p1, p2 *tpm2.ECCPoint
	if len(in.s2) != 0 {
		p, rc := crypt.CommitPoint(o.Key, in.s2, in.y2)
		switch {
		case rc != tpm2.RCSuccess:
			return rc.H(1)
		case !curve.OnCurve(&p):
			return tpm2.RCECCPoint.P(2)
		case o.PublicOnly():
			return tpm2.RCKey.H(1)
		}
		p2 = &p
	}
	if len(in.p1.X)+len(in.p1.Y) != 0 {
		if p1 = &in.p1.ECCPoint; !curve.OnCurve(p1) {
			return tpm2.RCECCPoint.P(1)
		}
	}
	var rc tpm2.RC
	out.k.ECCPoint, out.l.ECCPoint, out.e.ECCPoint, rc = crypt.Commit(o.Key, p1, p2, r)
	if rc == tpm2.RCSuccess {
		out.counter = tpm2.UINT16(s.begin())
	}
	return rc
}

type ecEphemeralIn struct{ curve tpm2.ECCCurve }

// Walk visits the parameters.
func (p *ecEphemeralIn) Walk(c *tpm2.Codec) { c.Param(&p.curve) }

type ecEphemeralOut struct {
	q       tpm2.SizedECCPoint
	counter tpm2.UINT16
}

// Walk visits the parameters.
func (p *ecEphemeralOut) Walk(c *tpm2.Codec) { c.Param(&p.q); c.Param(&p.counter) }

// ecEphemeral is TPM2_EC_Ephemeral (Part 3, 19.3).
func (e *Engine) ecEphemeral(_ *call, in *ecEphemeralIn, out *ecEphemeralOut) tpm2.RC {
	s := &e.state.commitments
	r, ok := crypt.CommitmentSecret(in.curve, s.nonce[:], nil, s.counter)
	if !ok {
		return tpm2.RCNoResult
	}
	defer clear(r)
	var rc tpm2.RC
	if out.q.ECCPoint, rc = crypt.CommitPublic(in.curve, r); rc == tpm2.RCSuccess {
		out.counter = tpm2.UINT16(s.begin())
	}
	return rc
}

type zGen2PhaseIn struct {
	static, ephemeral tpm2.SizedECCPoint
	scheme            tpm2.KeyExchange
	counter           tpm2.UINT16
}

// Walk visits the parameters.
func (p *zGen2PhaseIn) Walk(c *tpm2.Codec) {
	c.Param(&p.static)
	c.Param(&p.ephemeral)
	c.Param(&p.scheme)
	c.Param(&p.counter)
}

type zGen2PhaseOut struct{ z1, z2 tpm2.SizedECCPoint }

// Walk visits the parameters.
func (p *zGen2PhaseOut) Walk(c *tpm2.Codec) { c.Param(&p.z1); c.Param(&p.z2) }

// zGen2Phase is TPM2_ZGen_2Phase (Part 3, 14.7).
func (e *Engine) zGen2Phase(c *call, in *zGen2PhaseIn, out *zGen2PhaseOut) tpm2.RC {
	o := c.objects[0]
	if !hasType(o, tpm2.AlgECC) {
		return tpm2.RCKey.H(1)
	}
	if o.Is(tpm2.ObjRestricted) || !o.Is(tpm2.ObjDecrypt) {
		return tpm2.RCAttributes.H(1)
	}
	scheme := tpm2.AlgID(in.scheme)
	if own := o.Public.Scheme.Alg; own != tpm2.AlgNull && own != scheme {
		return tpm2.RCScheme.P(3)
	}
	curve, ok := crypt.CurveOf(o.Public.Curve)
	if !ok || !curve.OnCurve(&in.static.ECCPoint) {
		return tpm2.RCECCPoint.P(1)
	}
	if !curve.OnCurve(&in.ephemeral.ECCPoint) {
		return tpm2.RCECCPoint.P(2)
	}
	r, ok := e.commitmentSecret(curve.ID, nil, uint16(in.counter))
	if !ok {
		return tpm2.RCValue.P(4)
	}
	defer clear(r)
	var rc tpm2.RC
	out.z1.ECCPoint, out.z2.ECCPoint, rc = crypt.TwoPhase(o.Key, scheme, r, in.static.ECCPoint, in.ephemeral.ECCPoint)
	if rc == tpm2.RCSuccess {
		e.state.commitments.end(uint16(in.counter))
	}
	return rc
}

// commitmentName keeps a key's commitments apart from all others: its Name, or a
// digest of the public area of a key without one. In the reference code those of
// all such keys and of EC_Ephemeral have the same secrets, which a signature by
// anybody's own key would give away.
func commitmentName(pub *tpm2.Public) tpm2.Name {
	if name := pub.Name(); len(name) != 0 {
		return name
	}
	return tpm2.AlgSHA512.Digest(tpm2.Marshal((*tpm2.PublicOrNull)(pub)))
}

// commitmentSecret is the secret of a commitment that is pending.
func (e *Engine) commitmentSecret(curve tpm2.ECCCurve, name tpm2.Name, n uint16) ([]byte, bool) {
	s := &e.state.commitments
	number, ok := s.number(n)
	if !ok {
		return nil, false
	}
	return crypt.CommitmentSecret(curve, s.nonce[:], name, number)
}

// signSplit signs by ECDAA, which ends the commitment that the scheme names.
func (e *Engine) signSplit(c *call, key *crypt.Key, scheme tpm2.SigScheme, digest []byte) (tpm2.Signature, tpm2.RC) {
	r, ok := e.commitmentSecret(key.Public.Curve, commitmentName(&key.Public), scheme.Count)
	if !ok {
		return tpm2.Signature{}, tpm2.RCValue
	}
	defer clear(r)
	sig, rc := crypt.SignECDAA(key, scheme.Hash, r, digest, e.cfg.Entropy)
	if rc == tpm2.RCSuccess {
		e.state.commitments.end(scheme.Count)
		// To sign twice by one commitment gives the key away: what Shutdown(STATE)
		// saved must not bring it back.
		c.persistIf(e.state.orderly != shutdownNone)
	}
	return sig, rc
}
