package tpm

import (
	"crypto/rand"
	"math/big"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func isCommitter(o *object.Object) bool {
	return hasKey(o, tpm2.AlgECC, tpm2.ObjSign) && o.Public.Scheme.Alg == tpm2.AlgECDAA
}

// pointOn is a point of a curve: a key's of the pool, or the base point.
func (g *gen) pointOn(id tpm2.ECCCurve) (p tpm2.ECCPoint) {
	if c, ok := crypt.CurveOf(id); ok {
		p = tpm2.ECCPoint{X: c.Gx, Y: c.Gy}
	}
	for _, b := range append(g.base[:len(g.base):len(g.base)], g.pool...) {
		if b.public.Type == tpm2.AlgECC && b.public.Curve == id && g.IntN(3) == 0 {
			p = b.public.Point
		}
	}
	if g.IntN(30) == 0 && len(p.X) > 0 {
		p.X = append([]byte{p.X[0] ^ 1}, p.X[1:]...)
	}
	return p
}

// curveOfKey is the curve of a key.
func (g *gen) curveOfKey(h tpm2.Handle) tpm2.ECCCurve {
	if o := g.w.e.state.objects.Get(h); o != nil && hasType(o, tpm2.AlgECC) {
		return o.Public.Curve
	}
	return tpm2.CurveP256
}

// hashed to a point: s2 and the y2 of the point that its hash gives.
func (g *gen) hashedPoint(h tpm2.Handle) (s2 []byte, y2 []byte) {
	o := g.w.e.state.objects.Get(h)
	c, ok := crypt.CurveOf(g.curveOfKey(h))
	if !ok || o == nil || o.Key == nil || o.Public.NameAlg == tpm2.AlgNull {
		return g.bytes(8), g.bytes(32)
	}
	p := new(big.Int).SetBytes(c.P)
	for range 20 {
		s2 = g.bytes(1 + g.IntN(20))
		x := new(big.Int).SetBytes(o.Public.NameAlg.Digest(s2))
		x.Mod(x, p)
		rhs := new(big.Int).Exp(x, big.NewInt(3), p)
		rhs.Add(rhs, new(big.Int).Mul(x, new(big.Int).SetBytes(c.A)))
		rhs.Add(rhs, new(big.Int).SetBytes(c.B)).Mod(rhs, p)
		if y := new(big.Int).ModSqrt(rhs, p); y != nil {
			return s2, y.FillBytes(make([]byte, len(c.P)))
		}
	}
	return s2, g.bytes(32)
}

// eccMakers are those of Part 3, 14 and 19, that are of elliptic curves, and of
// certificates.
func eccMakers() map[tpm2.CC]maker {
	return map[tpm2.CC]maker{
		tpm2.CCECDHKeyGen: func(g *gen) *step {
			return g.with(isECC, func(h tpm2.Handle) *step { return g.cmd(tpm2.CCECDHKeyGen, []tpm2.Handle{h}) })
		},
		tpm2.CCECDHZGen: func(g *gen) *step {
			return g.with(isECDH, func(h tpm2.Handle) *step {
				in := &pointParam{}
				in.point.ECCPoint = g.pointOn(g.curveOfKey(h))
				return g.cmd(tpm2.CCECDHZGen, []tpm2.Handle{h}, in)
			})
		},
		tpm2.CCECCParameters: func(g *gen) *step {
			return g.cmd(tpm2.CCECCParameters, nil, &eccParametersIn{pickOf(g, nullProfile.impl.Curves...)})
		},
		tpm2.CCECEphemeral: func(g *gen) *step {
			return g.cmd(tpm2.CCECEphemeral, nil, &ecEphemeralIn{g.curve()})
		},
		tpm2.CCCommit: func(g *gen) *step {
			if g.IntN(20) == 0 {
				return g.making(g.externalCommitter)
			}
			return g.with(isCommitter, func(h tpm2.Handle) *step {
				in := &commitIn{}
				if g.IntN(2) == 0 {
					in.p1.ECCPoint = g.pointOn(g.curveOfKey(h))
				}
				if g.IntN(2) == 0 {
					in.s2, in.y2 = g.hashedPoint(h)
				}
				return g.cmd(tpm2.CCCommit, []tpm2.Handle{h}, in)
			})
		},
		tpm2.CCZGen2Phase: func(g *gen) *step {
			return g.with(isECDH, func(h tpm2.Handle) *step {
				curve := g.curveOfKey(h)
				in := &zGen2PhaseIn{scheme: tpm2.KeyExchange(pickOf(g, tpm2.AlgECDH, tpm2.AlgECDH, tpm2.AlgSM2, tpm2.AlgECMQV))}
				in.static.ECCPoint, in.ephemeral.ECCPoint = g.pointOn(curve), g.pointOn(curve)
				f := func() *step {
					in.counter = tpm2.UINT16(g.w.e.state.commitments.counter - 1)
					return g.cmd(tpm2.CCZGen2Phase, []tpm2.Handle{h}, in)
				}
				if g.IntN(6) == 0 {
					return f()
				}
				g.then(f)
				return g.cmd(tpm2.CCECEphemeral, nil, &ecEphemeralIn{curve})
			})
		},
		tpm2.CCCertifyX509: (*gen).certifyX509,
	}
}

// externalCommitter loads a key without a Name, which hashes to no point.
func (g *gen) externalCommitter() *step {
	p := eccKey(signingKey, tpm2.Scheme{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256}, tpm2.CurveP256)
	key, rc := crypt.CreateObject(&p, nil, nil, &crypt.Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		return nil
	}
	in := &loadExternalIn{hierarchy: tpm2.Hierarchy(tpm2.RHNull)}
	in.public.Public, in.sensitive = key.Public, tpm2.SizedSensitive{Present: true, Sensitive: *key.Sensitive}
	in.public.NameAlg = tpm2.AlgNull
	g.then(func() *step {
		if g.last.rc != tpm2.RCSuccess {
			return nil
		}
		return g.disturb(g.cmd(tpm2.CCCommit, []tpm2.Handle{g.last.handle}, &commitIn{s2: g.bytes(8), y2: g.bytes(32)}))
	})
	return g.cmd(tpm2.CCLoadExternal, nil, in)
}

func isX509Signer(o *object.Object) bool {
	return isSigner(o) && o.Is(tpm2.ObjX509Sign) && o.IsAsymmetric()
}

// certifyX509 certifies a key; its usage is right or wrong.
func (g *gen) certifyX509() *step {
	return g.with(isX509Signer, func(signer tpm2.Handle) *step {
		target := g.one(g.objects(func(o *object.Object) bool { return o.Key != nil && o.IsAsymmetric() }))
		usage := uint32(pickOf(g, 0x80000000, 0x40000000, 0x20000000, 0x08000000, 0x04000000, 0x02000000, 0x88000000))
		if o := g.w.e.state.objects.Get(target); o != nil && g.often(6) {
			usage = 0x80000000
			if o.Is(tpm2.ObjDecrypt) {
				usage = 0x10000000
				if o.Is(tpm2.ObjRestricted) {
					usage = 0x20000000
				}
			}
		}
		in := &certifyX509In{scheme: g.scheme(signer), partialCertificate: partial(nil, keyUsage(usage))}
		if g.IntN(20) == 0 {
			in.reserved = g.data(8)
		}
		if n := len(in.partialCertificate); g.IntN(8) == 0 {
			in.partialCertificate[g.IntN(n)] ^= 1 << g.IntN(8)
		}
		return g.cmd(tpm2.CCCertifyX509, []tpm2.Handle{target, signer}, in)
	})
}

// sameCertificate compares certificates. Where the signatures have random
// numbers, the serial number is not the same, and so is not what was signed.
func sameCertificate(w *twin, s *sent, ours, theirs []byte) string {
	var a, b certifyX509Out
	if !decodes(ours, &a) || !decodes(theirs, &b) {
		return "a certificate does not decode"
	}
	if a.signature.Alg != b.signature.Alg || a.signature.Hash != b.signature.Hash || len(a.tbsDigest) != len(b.tbsDigest) {
		return "the schemes of the signatures differ"
	}
	key := w.e.state.objects.Get(s.handles[1])
	if key == nil {
		return "there is no key"
	}
	for i, x := range []*certifyX509Out{&a, &b} {
		if !verifiable(x.signature.Alg) {
			continue
		}
		if rc := crypt.VerifySignature(key.Key, tpm2.Digest(x.tbsDigest), &x.signature); rc != tpm2.RCSuccess {
			return [2]string{"ours", "swtpm"}[i] + ": the certificate's signature does not verify"
		}
	}
	return ""
}

// The scheme of an elliptic-curve key: one of all there are.
func (g *gen) eccScheme(tpm2.ECCCurve) tpm2.Scheme {
	s := tpm2.Scheme{Alg: pickOf(g, tpm2.AlgNull, tpm2.AlgECDSA, tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgECDAA, tpm2.AlgSM2, tpm2.AlgECSchnorr)}
	if s.Alg != tpm2.AlgNull {
		s.Hash = g.hash()
	}
	if s.Alg == tpm2.AlgECDAA {
		s.Count = uint16(g.IntN(3))
	}
	return s
}

// sameCommitment reports whether two ECDAA signatures of one digest were made
// with one key and one commitment, of whose secret r both are r + t·d: nobody
// can verify them without the group's parameters.
func sameCommitment(key *crypt.Key, digest []byte, a, b *tpm2.Signature) bool {
	c, ok := crypt.CurveOf(key.Public.Curve)
	if !ok || a.Hash != b.Hash {
		return false
	}
	n, d := new(big.Int).SetBytes(c.N), new(big.Int).SetBytes(key.Sensitive.Sensitive)
	secret := func(sig *tpm2.Signature) *big.Int {
		t := new(big.Int).SetBytes(sig.Hash.Digest(sig.R, digest))
		r := new(big.Int).SetBytes(sig.S)
		return r.Sub(r, t.Mul(t, d)).Mod(r, n)
	}
	return secret(a).Cmp(secret(b)) == 0
}
