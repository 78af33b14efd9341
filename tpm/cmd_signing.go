package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// signingCommands are those of Part 3, 20.
var signingCommands = []command{
	define(command{cc: tpm2.CCVerifySignature, readOnly: true,
		handles: []handle{{"keyHandle", anObject, authNone}},
	}, (*Engine).verifySignature),
	define(command{cc: tpm2.CCSign, readOnly: true,
		handles: []handle{{"keyHandle", anObject, authUser}},
	}, (*Engine).sign),
}

// maySign reports whether an object can be the signer of a command: none, or a
// signing key that is not a block cipher's (IsSigningObject).
func maySign(o *object.Object) bool {
	return o == nil || o.Is(tpm2.ObjSign) && o.Public.Type != tpm2.AlgSymCipher
}

// selectScheme resolves a signing scheme against the signer's own. No signer
// has the null scheme.
func selectScheme(signer *object.Object, want tpm2.SigScheme) (tpm2.SigScheme, tpm2.RC) {
	if signer == nil {
		return tpm2.SigScheme{Alg: tpm2.AlgNull, Hash: tpm2.AlgNull}, tpm2.RCSuccess
	}
	return crypt.SelectSignScheme(signer.Key, want)
}

type verifySignatureIn struct {
	digest    tpm2.Digest
	signature tpm2.Signature
}

// Walk visits the parameters.
func (p *verifySignatureIn) Walk(c *tpm2.Codec) { c.Param(&p.digest); c.Param(&p.signature) }

type verifySignatureOut struct{ validation tpm2.VerifiedTicket }

// Walk visits the parameters.
func (p *verifySignatureOut) Walk(c *tpm2.Codec) { c.Param(&p.validation) }

// verifySignature is TPM2_VerifySignature (Part 3, 20.1). A key in no
// hierarchy or without a Name gives a ticket that proves nothing.
func (e *Engine) verifySignature(c *call, in *verifySignatureIn, out *verifySignatureOut) tpm2.RC {
	key := c.objects[0]
	if !key.Is(tpm2.ObjSign) {
		return tpm2.RCAttributes.H(1)
	}
	if rc := e.verifyDigest(key.Key, in.digest, &in.signature); rc != tpm2.RCSuccess {
		return rc.P(2)
	}
	if key.Hierarchy == tpm2.RHNull || key.Public.NameAlg == tpm2.AlgNull {
		out.validation = tpm2.VerifiedTicket(nullTicket(tpm2.STVerified))
		return tpm2.RCSuccess
	}
	out.validation = e.verifiedTicket(key.Hierarchy, in.digest, key.Name)
	return tpm2.RCSuccess
}

type signIn struct {
	digest     tpm2.Digest
	scheme     tpm2.SigScheme
	validation tpm2.HashCheckTicket
}

// Walk visits the parameters.
func (p *signIn) Walk(c *tpm2.Codec) { c.Param(&p.digest); c.Param(&p.scheme); c.Param(&p.validation) }

type signOut struct{ signature tpm2.Signature }

// Walk visits the parameters.
func (p *signOut) Walk(c *tpm2.Codec) { c.Param(&p.signature) }

// sign is TPM2_Sign (Part 3, 20.2). A restricted key signs only a digest whose
// ticket says that the TPM computed it, of data which does not pretend to be
// the TPM's own.
func (e *Engine) sign(c *call, in *signIn, out *signOut) tpm2.RC {
	key := c.objects[0]
	switch {
	case !maySign(key):
		return tpm2.RCKey.H(1)
	case key.Is(tpm2.ObjX509Sign):
		return tpm2.RCAttributes.H(1)
	}
	scheme, rc := selectScheme(key, in.scheme)
	if rc != tpm2.RCSuccess {
		return tpm2.RCScheme.P(2)
	}
	if len(in.validation.Digest) != 0 || key.Is(tpm2.ObjRestricted) {
		want := e.hashCheckTicket(tpm2.Handle(in.validation.Hierarchy), scheme.Hash, in.digest)
		if !ticketMatches(tpm2.Ticket(want), in.validation.Digest) {
			return tpm2.RCTicket.P(3)
		}
	} else if len(in.digest) != scheme.Hash.DigestSize() {
		return tpm2.RCSize.P(1)
	}
	out.signature, rc = e.signDigest(c, key.Key, scheme, in.digest)
	return rc
}
