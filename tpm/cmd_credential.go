package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// credentialCommands are those of Part 3, 12 about credentials.
var credentialCommands = []command{
	define(command{cc: tpm2.CCActivateCredential, readOnly: true,
		handles: []handle{{"activateHandle", anObject, authAdmin}, {"keyHandle", anObject, authUser}},
	}, (*Engine).activateCredential),
	define(command{cc: tpm2.CCMakeCredential, readOnly: true,
		handles: []handle{{"handle", anObject, authNone}},
	}, (*Engine).makeCredential),
}

// credential is the parameters of ActivateCredential and what MakeCredential
// gives.
type credential struct {
	blob   tpm2.IDObject
	secret tpm2.EncryptedSecret
}

// Walk visits the parameters.
func (p *credential) Walk(c *tpm2.Codec) {
	c.Param(&p.blob)
	c.Param(&p.secret)
}

type activateCredentialOut struct{ certInfo tpm2.Digest }

// Walk visits the parameters.
func (p *activateCredentialOut) Walk(c *tpm2.Codec) { c.Param(&p.certInfo) }

// activateCredential is TPM2_ActivateCredential (Part 3, 12.5).
func (e *Engine) activateCredential(c *call, in *credential, out *activateCredentialOut) tpm2.RC {
	activated, key := c.objects[0], c.objects[1]
	if !key.IsAsymmetric() || !key.Is(tpm2.ObjDecrypt|tpm2.ObjRestricted) {
		return tpm2.RCType.H(2)
	}
	seed, rc := crypt.SecretDecrypt(key.Key, crypt.LabelIdentity, nil, in.secret)
	if rc != tpm2.RCSuccess {
		return rc.P(2)
	}
	defer clear(seed)
	secret, rc := crypt.CredentialToSecret(key.Key, seed, activated.Name, in.blob)
	out.certInfo = secret
	return rc.P(1)
}

type makeCredentialIn struct {
	credential tpm2.Digest
	objectName tpm2.Name
}

// Walk visits the parameters.
func (p *makeCredentialIn) Walk(c *tpm2.Codec) {
	c.Param(&p.credential)
	c.Param(&p.objectName)
}

// makeCredential is TPM2_MakeCredential (Part 3, 12.6).
func (e *Engine) makeCredential(c *call, in *makeCredentialIn, out *credential) tpm2.RC {
	key := c.objects[0]
	if !key.IsAsymmetric() || !key.Is(tpm2.ObjDecrypt|tpm2.ObjRestricted) {
		return tpm2.RCType.H(1)
	}
	if len(in.credential) > key.Public.NameAlg.DigestSize() {
		return tpm2.RCSize.P(1)
	}
	seed, secret, rc := crypt.SecretEncrypt(key.Key, crypt.LabelIdentity, e.cfg.Entropy)
	if rc != tpm2.RCSuccess {
		return rc
	}
	defer clear(seed)
	out.secret = secret
	out.blob, rc = crypt.SecretToCredential(key.Key, seed, in.objectName, in.credential)
	return rc
}
