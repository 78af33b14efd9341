package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// createLoadedCommands is the one of Part 3, 12 that makes objects of all
// three kinds: primary, ordinary and derived.
var createLoadedCommands = []command{
	define(command{cc: tpm2.CCCreateLoaded, pp: true, retHandle: true, readOnly: true, slow: true,
		handles: []handle{{"parentHandle", aParentOrNull, authUser}},
	}, (*Engine).createLoaded),
}

type createLoadedIn struct {
	sensitive tpm2.SensitiveCreate
	template  tpm2.Template
}

// Walk visits the parameters.
func (p *createLoadedIn) Walk(c *tpm2.Codec) { c.Param(&p.sensitive); c.Param(&p.template) }

type createLoadedOut struct {
	private tpm2.Private // empty where the object can be made again
	public  tpm2.SizedPublic
	name    tpm2.Name
}

// Walk visits the parameters.
func (p *createLoadedOut) Walk(c *tpm2.Codec) {
	c.Param(&p.private)
	c.Param(&p.public)
	c.Param(&p.name)
}

// createLoaded is TPM2_CreateLoaded (Part 3, 12.9): the parent says whether the
// object is a primary, a derived or an ordinary one.
func (e *Engine) createLoaded(c *call, in *createLoadedIn, out *createLoadedOut) tpm2.RC {
	parent := c.objects[0]
	derive := parent != nil && parent.IsDerivation()
	if parent != nil && !parent.IsParent() && !derive {
		return tpm2.RCType.H(1)
	}
	if e.state.objects.Full() {
		return tpm2.RCObjectMemory
	}
	var template tpm2.DerivedTemplate
	if rc := e.readTemplate(in.template, derive, &template); rc != tpm2.RCSuccess {
		return rc.P(2)
	}
	pub := &template.Public
	in.sensitive.UserAuth = trimAuth(in.sensitive.UserAuth)
	if len(in.sensitive.UserAuth) > pub.NameAlg.DigestSize() {
		return tpm2.RCSize.P(1)
	}
	if !derive {
		if rc := object.CheckCreate(parent, pub, len(in.sensitive.Data)); rc != tpm2.RCSuccess {
			return rc.P(2)
		}
	}
	var o *object.Object
	var rc tpm2.RC
	switch {
	case derive:
		o, rc = e.newDerived(parent, &template, &in.sensitive)
	case parent == nil:
		o, rc = e.newPrimary(c, pub, &in.sensitive)
	default:
		o, rc = e.newChild(c, parent, pub, &in.sensitive)
	}
	if rc != tpm2.RCSuccess {
		return rc
	}
	out.public.Public, out.name = o.Public, o.Name
	if parent != nil && !derive {
		out.private, rc = crypt.SensitiveToPrivate(parent.Key, o.Name, o.Public.NameAlg, o.Sensitive, e.cfg.Entropy)
		if rc != tpm2.RCSuccess {
			return rc
		}
	}
	c.handle, rc = e.state.objects.Add(o)
	return rc
}

// readTemplate decodes a template (UnmarshalToPublic).
func (e *Engine) readTemplate(b tpm2.Template, derive bool, t *tpm2.DerivedTemplate) tpm2.RC {
	dec := tpm2.NewDecoderFor(b, &e.profile.impl)
	if derive {
		t.Walk(&dec)
	} else {
		t.Public.Walk(&dec)
	}
	if rc := dec.RC(); rc != tpm2.RCSuccess {
		return rc
	}
	if dec.Remaining() != 0 {
		return tpm2.RCSize
	}
	return tpm2.RCSuccess
}

// newDerived makes a derived object (Part 1, 28.4): from the parent's secret,
// the template's label and context, and for what the template leaves empty
// those in the caller's sensitive data.
func (e *Engine) newDerived(parent *object.Object, t *tpm2.DerivedTemplate, sens *tpm2.SensitiveCreate) (*object.Object, tpm2.RC) {
	if t.Type == tpm2.AlgRSA {
		return nil, tpm2.RCType.P(2)
	}
	if rc := e.mayDeriveECC(); rc != tpm2.RCSuccess && t.Type == tpm2.AlgECC {
		return nil, rc.P(2)
	}
	if t.Attributes.Has(tpm2.ObjSensitiveDataOrigin) {
		return nil, tpm2.RCAttributes
	}
	if rc := object.CheckAttributes(parent, &t.Public); rc != tpm2.RCSuccess {
		return nil, rc.P(2)
	}
	if len(sens.Data) != 0 {
		var d tpm2.Derive
		dec := tpm2.NewDecoderFor(sens.Data, &e.profile.impl)
		if d.Walk(&dec); dec.RC() != tpm2.RCSuccess {
			return nil, dec.RC()
		}
		if len(t.Label) == 0 {
			t.Label = d.Label
		}
		if len(t.Context) == 0 {
			t.Context = d.Context
		}
	}
	src := crypt.Source{Derived: crypt.NewDerivation(parent.Public.Scheme.Hash, parent.Sensitive.Sensitive, t.Label, t.Context)}
	defer src.Derived.Wipe()
	e.requireKey(&t.PublicParms)
	key, rc := crypt.CreateObject(&t.Public, sens.UserAuth, nil, &src)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	e.checkNewKey(key)
	return object.NewChild(key, parent), tpm2.RCSuccess
}
