package tpm

import (
	"bytes"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// rewrapCommands is the one of Part 3, 13, that passes a duplicate on.
var rewrapCommands = []command{
	define(command{cc: tpm2.CCRewrap, readOnly: true,
		handles: []handle{{"oldParent", anObjectOrNull, authUser}, {"newParent", anObjectOrNull, authNone}},
	}, (*Engine).rewrap),
}

type rewrapIn struct {
	duplicate tpm2.Private
	name      tpm2.Name
	seed      tpm2.EncryptedSecret
}

// Walk visits the parameters.
func (p *rewrapIn) Walk(c *tpm2.Codec) {
	c.Param(&p.duplicate)
	c.Param(&p.name)
	c.Param(&p.seed)
}

type rewrapOut struct {
	duplicate tpm2.Private
	seed      tpm2.EncryptedSecret
}

// Walk visits the parameters.
func (p *rewrapOut) Walk(c *tpm2.Codec) {
	c.Param(&p.duplicate)
	c.Param(&p.seed)
}

// rewrap is TPM2_Rewrap (Part 3, 13.2): it takes the outer wrapper of the old
// parent off and puts the new one's on, without looking inside.
func (e *Engine) rewrap(c *call, in *rewrapIn, out *rewrapOut) tpm2.RC {
	oldParent, newParent := c.objects[0], c.objects[1]
	if (oldParent == nil) != (len(in.seed) == 0) {
		return tpm2.RCHandle.H(1)
	}
	inner := bytes.Clone(in.duplicate)
	if oldParent != nil {
		if !oldParent.IsStorage() {
			return tpm2.RCType.H(1)
		}
		seed, rc := crypt.SecretDecrypt(oldParent.Key, crypt.LabelDuplicate, nil, in.seed)
		if rc != tpm2.RCSuccess {
			return tpm2.RCValue.P(3)
		}
		defer clear(seed)
		if inner, rc = crypt.ProtectionBy(oldParent.Key, seed).Unwrap(in.name, in.duplicate, false); rc != tpm2.RCSuccess {
			return rc.P(1)
		}
	}
	defer clear(inner)
	if newParent == nil {
		out.duplicate = bytes.Clone(inner)
		return tpm2.RCSuccess
	}
	if !newParent.IsStorage() {
		return tpm2.RCType.H(2)
	}
	seed, secret, rc := crypt.SecretEncrypt(newParent.Key, crypt.LabelDuplicate, e.cfg.Entropy)
	if rc != tpm2.RCSuccess {
		return rc
	}
	defer clear(seed)
	if 2+newParent.Public.NameAlg.DigestSize()+len(inner) > e.profile.impl.MaxPrivate() {
		return tpm2.RCValue.P(1)
	}
	out.seed = secret
	out.duplicate, rc = crypt.ProtectionBy(newParent.Key, seed).Wrap(in.name, inner, nil)
	return rc
}
