package tpm

import (
	"crypto/rand"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// cryptoMakers are those of Part 3, 15 to 17: ciphers, hashes and sequences.
func cryptoMakers() map[tpm2.CC]maker {
	return map[tpm2.CC]maker{
		tpm2.CCEncryptDecrypt: func(g *gen) *step {
			return g.with(isCipher, func(h tpm2.Handle) *step {
				return g.cmd(tpm2.CCEncryptDecrypt, []tpm2.Handle{h}, &encryptDecryptIn{g.cipherIn(h)})
			})
		},
		tpm2.CCEncryptDecrypt2: func(g *gen) *step {
			return g.with(isCipher, func(h tpm2.Handle) *step {
				return g.cmd(tpm2.CCEncryptDecrypt2, []tpm2.Handle{h}, &encryptDecrypt2In{g.cipherIn(h)})
			})
		},
		tpm2.CCHash: func(g *gen) *step {
			return g.cmd(tpm2.CCHash, nil, &hashIn{data: g.data(1024), alg: tpm2.HashID(g.hash()), hierarchy: g.hierarchy()})
		},
		tpm2.CCHMAC: func(g *gen) *step {
			return g.with(g.macKey(), func(h tpm2.Handle) *step {
				return g.cmd(tpm2.CCHMAC, []tpm2.Handle{h}, &hmacIn{g.data(1024), g.macScheme(h)})
			})
		},
		tpm2.CCHMACStart: func(g *gen) *step {
			return g.with(g.macKey(), func(h tpm2.Handle) *step {
				return g.making(func() *step {
					return g.cmd(tpm2.CCHMACStart, []tpm2.Handle{h}, &hmacStartIn{g.auth(tpm2.AlgSHA256), g.macScheme(h)})
				})
			})
		},
		tpm2.CCHashSequenceStart: func(g *gen) *step { return g.making(g.hashSequence) },
		tpm2.CCSequenceUpdate: func(g *gen) *step {
			return g.sequence(func(h tpm2.Handle) *step {
				return g.cmd(tpm2.CCSequenceUpdate, []tpm2.Handle{h}, &sequenceUpdateIn{g.message()})
			})
		},
		tpm2.CCSequenceComplete: func(g *gen) *step {
			return g.sequence(func(h tpm2.Handle) *step {
				return g.cmd(tpm2.CCSequenceComplete, []tpm2.Handle{h}, &sequenceCompleteIn{g.message(), g.hierarchy()})
			})
		},
		tpm2.CCEventSequenceComplete: func(g *gen) *step {
			event := func(o *object.Object) bool { return o.Sequence != nil && o.Sequence.Kind == object.EventSequence }
			if len(g.objects(event)) == 0 {
				return g.making(g.hashSequence)
			}
			return g.cmd(tpm2.CCEventSequenceComplete, []tpm2.Handle{g.pcr(), g.one(g.objects(event))}, &eventSequenceCompleteIn{g.data(1024)})
		},
		tpm2.CCVerifySignature: (*gen).verifySignature,
		tpm2.CCSign:            (*gen).sign,
	}
}

func (g *gen) hierarchy() tpm2.Hierarchy {
	return tpm2.Hierarchy(pickOf(g, tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHNull))
}

func (g *gen) cipherIn(h tpm2.Handle) cipherIn {
	in := cipherIn{decrypt: tpm2.YesNo(g.IntN(2) == 0), mode: tpm2.CipherModeOrNull(tpm2.AlgNull)}
	block, mode := 16, tpm2.AlgCFB
	if o := g.w.e.state.objects.Get(h); o != nil && hasType(o, tpm2.AlgSymCipher) {
		sym := o.Public.Symmetric
		if block = crypt.CipherBlockSize(sym.Alg); sym.Mode == tpm2.AlgNull {
			mode = pickOf(g, tpm2.AlgCFB, tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgECB)
			in.mode = tpm2.CipherModeOrNull(mode)
		} else {
			mode = sym.Mode
		}
		if !o.Is(tpm2.ObjDecrypt) && g.often(8) {
			in.decrypt = false
		} else if !o.Is(tpm2.ObjSign) && g.often(8) {
			in.decrypt = true
		}
	}
	in.data = g.data(1024)
	if mode == tpm2.AlgCBC || mode == tpm2.AlgECB {
		in.data = in.data[:len(in.data)/block*block]
	}
	if mode != tpm2.AlgECB {
		in.iv = g.bytes(block)
		if g.IntN(6) == 0 { // a counter at its end
			for i := range in.iv {
				in.iv[i] = 0xFF
			}
		}
	}
	return in
}

func (g *gen) macKey() func(*object.Object) bool {
	if g.IntN(4) == 0 {
		return isCMACKey
	}
	return isMACKey
}

func (g *gen) macScheme(h tpm2.Handle) macScheme {
	o := g.w.e.state.objects.Get(h)
	switch {
	case g.IntN(8) == 0:
		return macScheme(pickOf(g, append(hashes, tpm2.AlgCMAC, tpm2.AlgNull)...))
	case o != nil && o.Key != nil && hasType(o, tpm2.AlgKeyedHash) && o.Public.Scheme.Alg == tpm2.AlgNull:
		return macScheme(g.hash())
	}
	return macScheme(tpm2.AlgNull)
}

func (g *gen) hashSequence() *step {
	alg := tpm2.HashIDOrNull(g.hash())
	if g.IntN(3) == 0 {
		alg = tpm2.HashIDOrNull(tpm2.AlgNull)
	}
	return g.cmd(tpm2.CCHashSequenceStart, nil, &hashSequenceStartIn{g.auth(tpm2.AlgSHA256), alg})
}

// sequence works on a sequence, or starts one.
func (g *gen) sequence(f func(h tpm2.Handle) *step) *step {
	list := g.objects(isSequence)
	if len(list) == 0 && g.often(20) {
		return g.making(g.hashSequence)
	}
	return f(g.one(list))
}

// message is data for a sequence; some pretends to be the TPM's own.
func (g *gen) message() tpm2.MaxBuffer {
	if g.IntN(12) == 0 {
		return append([]byte{0xFF, 'T', 'C', 'G'}, g.data(40)...)
	}
	return g.data(1024)
}

// scheme is a signing scheme that suits a key.
func (g *gen) scheme(h tpm2.Handle) tpm2.SigScheme {
	o := g.w.e.state.objects.Get(h)
	null := tpm2.SigScheme{Alg: tpm2.AlgNull}
	if o == nil || o.Key == nil || g.IntN(25) == 0 {
		return pickOf(g, null, tpm2.SigScheme{Alg: tpm2.AlgECDSA, Hash: g.hash()}, tpm2.SigScheme{Alg: tpm2.AlgRSASSA, Hash: g.hash()}, tpm2.SigScheme{Alg: tpm2.AlgHMAC, Hash: g.hash()})
	}
	if o.Public.Scheme.Alg != tpm2.AlgNull {
		return pickOf(g, null, null, tpm2.SigScheme(o.Public.Scheme))
	}
	switch o.Public.Type {
	case tpm2.AlgRSA:
		return tpm2.SigScheme{Alg: pickOf(g, tpm2.AlgRSASSA, tpm2.AlgRSAPSS), Hash: g.hash()}
	case tpm2.AlgECC:
		return tpm2.SigScheme{Alg: pickOf(g, tpm2.AlgECDSA, tpm2.AlgECDSA, tpm2.AlgECDSA, tpm2.AlgSM2, tpm2.AlgECSchnorr, tpm2.AlgECDAA), Hash: g.hash()}
	}
	return tpm2.SigScheme{Alg: tpm2.AlgHMAC, Hash: g.hash()}
}

// schemeHash is the hash algorithm that a key will sign with.
func (g *gen) schemeHash(h tpm2.Handle, s tpm2.SigScheme) tpm2.AlgID {
	if o := g.w.e.state.objects.Get(h); s.Alg == tpm2.AlgNull && o != nil && o.Key != nil && o.Public.Scheme.Alg != tpm2.AlgNull {
		return o.Public.Scheme.Hash
	}
	if s.Hash.DigestSize() == 0 {
		return tpm2.AlgSHA256
	}
	return s.Hash
}

func (g *gen) sign() *step {
	fits := isSigner
	switch g.IntN(4) {
	case 0:
		fits = isPlainSigner
	case 1, 2:
		fits = isMACKey
	}
	return g.with(fits, func(h tpm2.Handle) *step {
		in := &signIn{scheme: g.scheme(h), validation: tpm2.HashCheckTicket{Tag: tpm2.STHashCheck, Hierarchy: tpm2.Hierarchy(tpm2.RHNull)}}
		alg := g.schemeHash(h, in.scheme)
		in.digest = g.bytes(alg.DigestSize())
		o := g.w.e.state.objects.Get(h)
		if in.scheme.Alg == tpm2.AlgNull && o != nil && isCommitter(o) && g.often(8) {
			in.scheme = tpm2.SigScheme(o.Public.Scheme)
		}
		if in.scheme.Alg == tpm2.AlgECDAA {
			in.scheme.Count = uint16(g.w.e.state.commitments.counter - 1)
		}
		if restricted := o != nil && o.Key != nil && o.Is(tpm2.ObjRestricted); restricted && g.often(6) || g.IntN(10) == 0 {
			in.validation = g.w.e.hashCheckTicket(tpm2.Handle(g.hierarchy()), alg, in.digest)
			if x := g.hashed; len(x) > 0 && g.IntN(4) == 0 {
				k := pickOf(g, x...)
				in.digest, in.validation = k.digest, k.ticket
			}
		}
		return g.cmd(tpm2.CCSign, []tpm2.Handle{h}, in)
	})
}

func (g *gen) verifySignature() *step {
	if x, h, ok := found(g, g.signatures, func(x *signed) tpm2.Name { return x.key }); ok && g.IntN(3) != 0 {
		return g.cmd(tpm2.CCVerifySignature, []tpm2.Handle{h}, &verifySignatureIn{x.digest, x.sig})
	}
	return g.with(g.verifier(), func(h tpm2.Handle) *step {
		alg := g.hash()
		in := &verifySignatureIn{digest: g.bytes(alg.DigestSize())}
		in.signature = tpm2.Signature{Alg: tpm2.AlgHMAC, Hash: alg, HMAC: g.bytes(alg.DigestSize())}
		o := g.w.e.state.objects.Get(h)
		if o == nil || o.Key == nil {
			return g.cmd(tpm2.CCVerifySignature, []tpm2.Handle{h}, in)
		}
		if s := o.Public.Scheme; s.Alg != tpm2.AlgNull && isSigner(o) {
			alg = s.Hash
			in.digest = g.bytes(alg.DigestSize())
		}
		if !o.PublicOnly() {
			scheme := g.scheme(h)
			if scheme.Alg == tpm2.AlgNull {
				scheme = tpm2.SigScheme(o.Public.Scheme)
			}
			if scheme.Hash.DigestSize() > 0 {
				in.digest = g.bytes(scheme.Hash.DigestSize())
			}
			if sig, rc := crypt.SignDigest(o.Key, scheme, in.digest, rand.Reader); rc == tpm2.RCSuccess {
				in.signature = sig
			}
		} else if o.Public.Type == tpm2.AlgECC {
			in.signature = tpm2.Signature{Alg: tpm2.AlgECDSA, Hash: alg, R: g.bytes(32), S: g.bytes(32)}
		}
		return g.cmd(tpm2.CCVerifySignature, []tpm2.Handle{h}, in)
	})
}

// verifier is a kind of key that verifies, HMAC mostly for it is quick.
func (g *gen) verifier() func(*object.Object) bool {
	if g.often(3) {
		return isMACKey
	}
	return func(o *object.Object) bool { return o.Key != nil && o.Is(tpm2.ObjSign) }
}

// signing picks a key for an attestation, none or an HMAC key mostly.
func (g *gen) signing(f func(h tpm2.Handle) *step) *step {
	switch g.IntN(5) {
	case 0, 1:
		return f(tpm2.RHNull)
	case 2, 3:
		return g.with(func(o *object.Object) bool { return hasKey(o, tpm2.AlgKeyedHash, tpm2.ObjSign) }, f)
	}
	return g.with(isSigner, f)
}

// audited is a command in a session that audits it, which is started before.
func (g *gen) audited() *step {
	g.then(append(g.roomForSession(), func() *step { return g.startSession(tpm2.SEHMAC, g.hash()) }, func() *step {
		h := g.last.handle
		if g.last.rc != tpm2.RCSuccess {
			return nil
		}
		s := g.raw(tpm2.CCPCRRead, nil, tpm2.Marshal(&pcrReadIn{g.pcrList()}))
		s.uses = []use{{session: h, attrs: tpm2.SessionAudit | tpm2.SessionContinue, nonce: g.bytes(16)}}
		return s
	})...)
	return nil
}

// attestMakers are those of Part 3, 18.
func attestMakers() map[tpm2.CC]maker {
	in := func(g *gen, h tpm2.Handle) attestIn {
		a := attestIn{qualifyingData: g.data(66), scheme: g.scheme(h)}
		if h == tpm2.RHNull {
			a.scheme = pickOf(g, tpm2.SigScheme{Alg: tpm2.AlgNull}, tpm2.SigScheme{Alg: tpm2.AlgNull}, a.scheme)
		}
		return a
	}
	m := map[tpm2.CC]maker{
		tpm2.CCQuote: func(g *gen) *step {
			return g.signing(func(h tpm2.Handle) *step {
				return g.cmd(tpm2.CCQuote, []tpm2.Handle{h}, &quoteIn{in(g, h), g.pcrList()})
			})
		},
		tpm2.CCCertify: func(g *gen) *step {
			return g.signing(func(h tpm2.Handle) *step {
				a := in(g, h)
				return g.cmd(tpm2.CCCertify, []tpm2.Handle{g.one(g.objects(anyObject)), h}, &a)
			})
		},
		tpm2.CCCertifyCreation: func(g *gen) *step {
			return g.signing(func(h tpm2.Handle) *step {
				a := in(g, h)
				x := &certifyCreationIn{qualifyingData: a.qualifyingData, scheme: a.scheme, creationHash: g.bytes(32)}
				x.ticket = tpm2.CreationTicket{Tag: tpm2.STCreation, Hierarchy: g.hierarchy(), Digest: g.bytes(64)}
				target := g.one(g.objects(anyObject))
				if p, o, ok := found(g, g.proofs, func(p *creationProof) tpm2.Name { return p.name }); ok && g.often(8) {
					x.creationHash, x.ticket, target = p.hash, p.ticket, o
				} else if o := g.w.e.state.objects.Get(target); o != nil && g.often(8) {
					x.ticket = g.w.e.creationTicket(tpm2.Handle(g.hierarchy()), o.Name, x.creationHash)
				}
				return g.cmd(tpm2.CCCertifyCreation, []tpm2.Handle{h, target}, x)
			})
		},
	}
	for _, cc := range []tpm2.CC{tpm2.CCGetTime, tpm2.CCGetCommandAuditDigest} {
		m[cc] = func(g *gen) *step {
			return g.signing(func(h tpm2.Handle) *step {
				a := in(g, h)
				return g.cmd(cc, []tpm2.Handle{tpm2.RHEndorsement, h}, &a)
			})
		}
	}
	m[tpm2.CCGetSessionAuditDigest] = func(g *gen) *step {
		return g.signing(func(h tpm2.Handle) *step {
			a := in(g, h)
			list := g.sessions((*session.Session).IsAudit)
			if len(list) == 0 && g.often(20) {
				return g.audited()
			}
			if g.IntN(15) == 0 {
				list = g.sessions(func(s *session.Session) bool { return !s.IsPolicy() })
			}
			return g.cmd(tpm2.CCGetSessionAuditDigest, []tpm2.Handle{tpm2.RHEndorsement, h, g.one(list)}, &a)
		})
	}
	return m
}
