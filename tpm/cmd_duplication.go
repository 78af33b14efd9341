package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// duplicationCommands are those of Part 3, 13.
var duplicationCommands = []command{
	define(command{cc: tpm2.CCDuplicate, readOnly: true,
		handles: []handle{{"objectHandle", anObject, authDup}, {"newParentHandle", anObjectOrNull, authNone}},
	}, (*Engine).duplicate),
	define(command{cc: tpm2.CCImport, readOnly: true,
		handles: []handle{{"parentHandle", anObject, authUser}},
	}, (*Engine).importObject),
}

type duplicateIn struct {
	encryptionKey tpm2.Data
	symmetric     tpm2.SymDefObject
}

// Walk visits the parameters.
func (p *duplicateIn) Walk(c *tpm2.Codec) {
	c.Param(&p.encryptionKey)
	c.Param(&p.symmetric)
}

type duplicateOut struct {
	encryptionKey tpm2.Data
	duplicate     tpm2.Private
	seed          tpm2.EncryptedSecret
}

// Walk visits the parameters.
func (p *duplicateOut) Walk(c *tpm2.Codec) {
	c.Param(&p.encryptionKey)
	c.Param(&p.duplicate)
	c.Param(&p.seed)
}

// duplicate is TPM2_Duplicate (Part 3, 13.1).
func (e *Engine) duplicate(c *call, in *duplicateIn, out *duplicateOut) tpm2.RC {
	o, newParent := c.objects[0], c.objects[1]
	inner := tpm2.SymDef(in.symmetric)
	if rc := checkDuplicate(o, newParent, inner, in.encryptionKey); rc != tpm2.RCSuccess {
		return rc
	}
	e.require(setOf(inner.Alg))
	innerKey := []byte(in.encryptionKey)
	if inner.Alg != tpm2.AlgNull && len(innerKey) == 0 {
		innerKey = e.random(int(inner.KeyBits) / 8)
		out.encryptionKey = innerKey
	}
	var key *crypt.Key
	var seed []byte
	var rc tpm2.RC
	if newParent != nil {
		key = newParent.Key
		if seed, out.seed, rc = crypt.SecretEncrypt(key, crypt.LabelDuplicate, e.cfg.Entropy); rc != tpm2.RCSuccess {
			return rc
		}
		defer clear(seed)
	}
	out.duplicate, rc = crypt.SensitiveToDuplicate(key, seed, o.Name, o.Public.NameAlg, inner, innerKey, o.Sensitive)
	return rc
}

func checkDuplicate(o, newParent *object.Object, inner tpm2.SymDef, innerKey tpm2.Data) tpm2.RC {
	if o.Is(tpm2.ObjFixedParent) {
		return tpm2.RCAttributes.H(1)
	}
	if o.Key == nil || o.Public.NameAlg == tpm2.AlgNull {
		return tpm2.RCType.H(1)
	}
	if newParent != nil && !newParent.IsStorage() {
		return tpm2.RCType.H(2)
	}
	if o.Is(tpm2.ObjEncryptedDuplication) {
		if inner.Alg == tpm2.AlgNull {
			return tpm2.RCSymmetric.P(2)
		}
		if newParent == nil {
			return tpm2.RCHierarchy.H(2)
		}
	}
	if n := len(innerKey); n != 0 && (inner.Alg == tpm2.AlgNull || n != int(inner.KeyBits)/8) {
		return tpm2.RCSize.P(1)
	}
	return tpm2.RCSuccess
}

type importIn struct {
	encryptionKey tpm2.Data
	public        tpm2.SizedPublic
	duplicate     tpm2.Private
	seed          tpm2.EncryptedSecret
	symmetric     tpm2.SymDefObject
}

// Walk visits the parameters.
func (p *importIn) Walk(c *tpm2.Codec) {
	c.Param(&p.encryptionKey)
	c.Param(&p.public)
	c.Param(&p.duplicate)
	c.Param(&p.seed)
	c.Param(&p.symmetric)
}

type importOut struct{ private tpm2.Private }

// Walk visits the parameters.
func (p *importOut) Walk(c *tpm2.Codec) { c.Param(&p.private) }

// importObject is TPM2_Import (Part 3, 13.3).
func (e *Engine) importObject(c *call, in *importIn, out *importOut) tpm2.RC {
	parent := c.objects[0]
	if rc := in.check(parent); rc != tpm2.RCSuccess {
		return rc
	}
	e.require(setOf(in.symmetric.Alg))
	var seed []byte
	var rc tpm2.RC
	if len(in.seed) != 0 {
		if seed, rc = crypt.SecretDecrypt(parent.Key, crypt.LabelDuplicate, nil, in.seed); rc != tpm2.RCSuccess {
			return rc.P(4)
		}
		defer clear(seed)
	}
	pub := &in.public.Public
	name := pub.Name()
	sens, rc := crypt.DuplicateToSensitive(parent.Key, seed, name, pub.NameAlg,
		tpm2.SymDef(in.symmetric), in.encryptionKey, in.duplicate)
	if rc != tpm2.RCSuccess {
		return rc.P(3)
	}
	defer sens.Wipe()
	if parent.Is(tpm2.ObjFixedTPM) {
		// Load takes what is below such a parent for this TPM's own.
		e.requireKey(&pub.PublicParms)
		key, rc := object.Load(nil, pub, sens, 2, 3)
		if rc != tpm2.RCSuccess {
			return rc
		}
		key.Wipe()
	}
	out.private, rc = crypt.SensitiveToPrivate(parent.Key, name, pub.NameAlg, sens, e.cfg.Entropy)
	return rc
}

func (p *importIn) check(parent *object.Object) tpm2.RC {
	a := p.public.Attributes
	if a&(tpm2.ObjFixedTPM|tpm2.ObjFixedParent) != 0 {
		return tpm2.RCAttributes.P(2)
	}
	if !parent.IsParent() {
		return tpm2.RCType.H(1)
	}
	size := 0
	if p.symmetric.Alg != tpm2.AlgNull {
		size = int(p.symmetric.KeyBits) / 8
	}
	if len(p.encryptionKey) != size {
		return tpm2.RCSize.P(1)
	}
	if size == 0 && a.Has(tpm2.ObjEncryptedDuplication) {
		return tpm2.RCAttributes.P(1)
	}
	if len(p.seed) == 0 {
		if a.Has(tpm2.ObjEncryptedDuplication) {
			return tpm2.RCAttributes.P(4)
		}
		return tpm2.RCSuccess
	}
	if !parent.IsAsymmetric() {
		// There is no way to send a seed to a symmetric key.
		return tpm2.RCType.H(1)
	}
	return tpm2.RCSuccess
}
