package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// objectCommands are those of Part 3, 12; the credential commands are in
// cmd_credential.go.
var objectCommands = []command{
	define(command{cc: tpm2.CCCreate, readOnly: true, slow: true,
		handles: []handle{{"parentHandle", anObject, authUser}},
	}, (*Engine).create),
	define(command{cc: tpm2.CCLoad, retHandle: true, readOnly: true,
		handles: []handle{{"parentHandle", anObject, authUser}},
	}, (*Engine).load),
	define(command{cc: tpm2.CCLoadExternal, retHandle: true, readOnly: true}, (*Engine).loadExternal),
	define(command{cc: tpm2.CCReadPublic, readOnly: true,
		handles: []handle{{"objectHandle", anObject, authNone}},
	}, (*Engine).readPublic),
	define(command{cc: tpm2.CCUnseal, readOnly: true,
		handles: []handle{{"itemHandle", anObject, authUser}},
	}, (*Engine).unseal),
	define(command{cc: tpm2.CCObjectChangeAuth, readOnly: true,
		handles: []handle{{"objectHandle", anObject, authAdmin}, {"parentHandle", anObject, authNone}},
	}, (*Engine).objectChangeAuth),
}

type createOut struct {
	private tpm2.Private
	created
}

// Walk visits the parameters.
func (p *createOut) Walk(c *tpm2.Codec) {
	c.Param(&p.private)
	p.created.Walk(c)
}

// create is TPM2_Create (Part 3, 12.1).
func (e *Engine) create(c *call, in *createIn, out *createOut) tpm2.RC {
	parent := c.objects[0]
	if !parent.IsParent() {
		return tpm2.RCType.H(1)
	}
	// A slot is only needed while the object is made, but a caller counts on the
	// reference code's answer to know that it must flush one.
	if e.state.objects.Full() {
		return tpm2.RCObjectMemory
	}
	if rc := in.check(parent); rc != tpm2.RCSuccess {
		return rc
	}
	o, rc := e.newChild(c, parent, &in.public.Public, &in.sensitive)
	if rc != tpm2.RCSuccess {
		return rc
	}
	defer o.Wipe()
	e.describe(c, in, o, parent.Public.NameAlg, parent.Name, parent.QualifiedName, &out.created)
	out.private, rc = crypt.SensitiveToPrivate(parent.Key, o.Name, o.Public.NameAlg, o.Sensitive, e.cfg.Entropy)
	return rc
}

// newChild makes an ordinary object below a parent. The template has been
// checked.
func (e *Engine) newChild(c *call, parent *object.Object, pub *tpm2.Public, sens *tpm2.SensitiveCreate) (*object.Object, tpm2.RC) {
	src := crypt.Source{Random: e.cfg.Entropy, Cancel: c.canceled}
	e.requireKey(&pub.PublicParms)
	key, rc := crypt.CreateObject(pub, sens.UserAuth, sens.Data, &src)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	e.checkNewKey(key)
	return object.NewChild(key, parent), tpm2.RCSuccess
}

type loadIn struct {
	private tpm2.Private
	public  tpm2.SizedPublic
}

// Walk visits the parameters.
func (p *loadIn) Walk(c *tpm2.Codec) {
	c.Param(&p.private)
	c.Param(&p.public)
}

type loadOut struct{ name tpm2.Name }

// Walk visits the parameters.
func (p *loadOut) Walk(c *tpm2.Codec) { c.Param(&p.name) }

// load is TPM2_Load (Part 3, 12.2).
func (e *Engine) load(c *call, in *loadIn, out *loadOut) tpm2.RC {
	if e.state.objects.Full() {
		return tpm2.RCObjectMemory
	}
	if len(in.private) == 0 {
		return tpm2.RCSize.P(1)
	}
	parent := c.objects[0]
	if !parent.IsParent() {
		return tpm2.RCType.H(1)
	}
	sens, rc := crypt.PrivateToSensitive(parent.Key, in.public.Public.Name(), in.private)
	if rc != tpm2.RCSuccess {
		return rc.P(1)
	}
	defer sens.Wipe()
	e.requireKey(&in.public.PublicParms)
	key, rc := object.Load(parent, &in.public.Public, sens, 2, 1)
	if rc != tpm2.RCSuccess {
		return rc
	}
	o := object.NewChild(key, parent)
	out.name = o.Name
	c.handle, rc = e.state.objects.Add(o)
	return rc
}

type loadExternalIn struct {
	sensitive tpm2.SizedSensitive
	public    tpm2.SizedPublicOrNull
	hierarchy tpm2.Hierarchy
}

// Walk visits the parameters.
func (p *loadExternalIn) Walk(c *tpm2.Codec) {
	c.Param(&p.sensitive)
	c.Param(&p.public)
	c.Param(&p.hierarchy)
}

// loadExternal is TPM2_LoadExternal (Part 3, 12.3).
func (e *Engine) loadExternal(c *call, in *loadExternalIn, out *loadOut) tpm2.RC {
	if e.state.objects.Full() {
		return tpm2.RCObjectMemory
	}
	h := tpm2.Handle(in.hierarchy)
	if !e.hierarchyOn(h) {
		return tpm2.RCHierarchy.P(3)
	}
	var sens *tpm2.Sensitive
	if in.sensitive.Present {
		// It must not pass for an object of this TPM.
		if h != tpm2.RHNull {
			return tpm2.RCHierarchy.P(3)
		}
		const own = tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjRestricted
		if in.public.Attributes&own != 0 {
			return tpm2.RCAttributes.P(2)
		}
		sens = &in.sensitive.Sensitive
	}
	e.requireKey(&in.public.PublicParms)
	key, rc := object.Load(nil, &in.public.Public, sens, 2, 1)
	if rc != tpm2.RCSuccess {
		return rc
	}
	o := object.NewExternal(key, h)
	out.name = o.Name
	c.handle, rc = e.state.objects.Add(o)
	return rc
}

type readPublicOut struct {
	public              tpm2.SizedPublicOrNull
	name, qualifiedName tpm2.Name
}

// Walk visits the parameters.
func (p *readPublicOut) Walk(c *tpm2.Codec) {
	c.Param(&p.public)
	c.Param(&p.name)
	c.Param(&p.qualifiedName)
}

// readPublic is TPM2_ReadPublic (Part 3, 12.4).
func (e *Engine) readPublic(c *call, _ *none, out *readPublicOut) tpm2.RC {
	o := c.objects[0]
	if o.Sequence != nil {
		return tpm2.RCSequence
	}
	out.public.Public, out.name, out.qualifiedName = o.Public, o.Name, o.QualifiedName
	return tpm2.RCSuccess
}

type unsealOut struct{ data tpm2.SensitiveData }

// Walk visits the parameters.
func (p *unsealOut) Walk(c *tpm2.Codec) { c.Param(&p.data) }

// unseal is TPM2_Unseal (Part 3, 12.7).
func (e *Engine) unseal(c *call, _ *none, out *unsealOut) tpm2.RC {
	o := c.objects[0]
	if o.Key == nil || o.Public.Type != tpm2.AlgKeyedHash {
		return tpm2.RCType.H(1)
	}
	if o.Public.Attributes&(tpm2.ObjDecrypt|tpm2.ObjSign|tpm2.ObjRestricted) != 0 {
		return tpm2.RCAttributes.H(1)
	}
	out.data = o.Sensitive.Sensitive
	return tpm2.RCSuccess
}

type objectChangeAuthIn struct{ newAuth tpm2.Digest }

// Walk visits the parameters.
func (p *objectChangeAuthIn) Walk(c *tpm2.Codec) { c.Param(&p.newAuth) }

type objectChangeAuthOut struct{ private tpm2.Private }

// Walk visits the parameters.
func (p *objectChangeAuthOut) Walk(c *tpm2.Codec) { c.Param(&p.private) }

// objectChangeAuth is TPM2_ObjectChangeAuth (Part 3, 12.8): it gives a private
// area with the new authorization value; the loaded object keeps the old one.
func (e *Engine) objectChangeAuth(c *call, in *objectChangeAuthIn, out *objectChangeAuthOut) tpm2.RC {
	o, parent := c.objects[0], c.objects[1]
	if o.Key == nil {
		return tpm2.RCType.H(1)
	}
	auth := trimAuth(in.newAuth)
	if o.Public.NameAlg != tpm2.AlgNull && len(auth) > o.Public.NameAlg.DigestSize() {
		return tpm2.RCSize.P(1)
	}
	if !o.IsChildOf(parent) {
		return tpm2.RCType.H(2)
	}
	sens := *o.Sensitive
	sens.AuthValue = auth
	var rc tpm2.RC
	out.private, rc = crypt.SensitiveToPrivate(parent.Key, o.Name, o.Public.NameAlg, &sens, e.cfg.Entropy)
	return rc
}
