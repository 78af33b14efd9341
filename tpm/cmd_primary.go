package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// primaryCommands are those of Part 3, 24 that make objects.
var primaryCommands = []command{
	define(command{cc: tpm2.CCCreatePrimary, pp: true, retHandle: true, readOnly: true, slow: true,
		handles: []handle{{"primaryHandle", aHierarchyOrNull, authUser}},
	}, (*Engine).createPrimary),
}

// createIn is the parameters of CreatePrimary and Create.
type createIn struct {
	sensitive   tpm2.SensitiveCreate
	public      tpm2.SizedPublic
	outsideInfo tpm2.Data
	creationPCR tpm2.PCRSelectionList
}

// Walk visits the parameters.
func (p *createIn) Walk(c *tpm2.Codec) {
	c.Param(&p.sensitive)
	c.Param(&p.public)
	c.Param(&p.outsideInfo)
	c.Param(&p.creationPCR)
}

// created is what CreatePrimary and Create tell of a new object.
type created struct {
	public tpm2.SizedPublic
	data   tpm2.SizedCreationData
	hash   tpm2.Digest
	ticket tpm2.CreationTicket
}

// Walk visits the parameters.
func (p *created) Walk(c *tpm2.Codec) {
	c.Param(&p.public)
	c.Param(&p.data)
	c.Param(&p.hash)
	c.Param(&p.ticket)
}

type createPrimaryOut struct {
	created
	name tpm2.Name
}

// Walk visits the parameters.
func (p *createPrimaryOut) Walk(c *tpm2.Codec) {
	p.created.Walk(c)
	c.Param(&p.name)
}

// createPrimary is TPM2_CreatePrimary (Part 3, 24.1). The object follows from
// the hierarchy's seed, the template and the sensitive data alone.
func (e *Engine) createPrimary(c *call, in *createIn, out *createPrimaryOut) tpm2.RC {
	if e.state.objects.Full() {
		return tpm2.RCObjectMemory
	}
	if rc := in.check(nil); rc != tpm2.RCSuccess {
		return rc
	}
	o, rc := e.newPrimary(c, &in.public.Public, &in.sensitive)
	if rc != tpm2.RCSuccess {
		return rc
	}
	parent := e.entityName(c.handles[0])
	e.describe(c, in, o, tpm2.AlgNull, parent, parent, &out.created)
	out.name = o.Name
	c.handle, rc = e.state.objects.Add(o)
	return rc
}

// newPrimary makes a primary object of the hierarchy that is the command's
// first handle. The template has been checked.
func (e *Engine) newPrimary(c *call, pub *tpm2.Public, sens *tpm2.SensitiveCreate) (*object.Object, tpm2.RC) {
	h := c.handles[0]
	hierarchies := &e.state.hierarchies
	x := hierarchies.Get(h)
	src := crypt.Source{
		Primary: crypt.NewPrimaryDRBG(x.Seed, x.Level, pub.Name(), sens.Data),
		Cancel:  c.canceled,
	}
	defer src.Primary.Wipe()
	if h == tpm2.RHEndorsement {
		// Clear changes the owner's proof, and so what these objects protect.
		src.Proofs = [][]byte{hierarchies.Owner.Proof, hierarchies.Endorsement.Proof}
	}
	e.requireKey(&pub.PublicParms)
	key, rc := crypt.CreateObject(pub, sens.UserAuth, sens.Data, &src)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	e.checkNewKey(key)
	return object.NewPrimary(key, h), tpm2.RCSuccess
}

// check checks the parameters and trims the authorization value; parent is nil
// for a primary object.
func (p *createIn) check(parent *object.Object) tpm2.RC {
	if rc := object.CheckCreate(parent, &p.public.Public, len(p.sensitive.Data)); rc != tpm2.RCSuccess {
		return rc.P(2)
	}
	p.sensitive.UserAuth = trimAuth(p.sensitive.UserAuth)
	if len(p.sensitive.UserAuth) > p.public.NameAlg.DigestSize() {
		return tpm2.RCSize.P(1)
	}
	return tpm2.RCSuccess
}

// describe fills in the public area of a new object and its creation data
// (FillInCreationData; Part 1, 27.6), with the digest and ticket that certify
// it later.
func (e *Engine) describe(c *call, in *createIn, o *object.Object, parentAlg tpm2.AlgID,
	parentName, parentQualified tpm2.Name, out *created) {
	alg := o.Public.NameAlg
	out.public.Public = o.Public
	d := &out.data.CreationData
	d.PCRSelect, d.PCRDigest = e.state.pcrs.Digest(in.creationPCR, alg)
	d.Locality = tpm2.LocalityBit(c.req.Locality)
	d.ParentNameAlg = parentAlg
	d.ParentName, d.ParentQualifiedName = parentName, parentQualified
	d.OutsideInfo = in.outsideInfo
	out.hash = alg.Digest(tpm2.Marshal(d))
	out.ticket = e.creationTicket(o.Hierarchy, o.Name, out.hash)
}
