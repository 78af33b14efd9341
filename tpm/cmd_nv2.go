package tpm

import "github.com/ashlar-cloud/ashlar/tpm2"

// nv2Commands are those of version 1.83, Part 3, 31, which know handle types of
// Indices.
var nv2Commands = []command{
	define(command{cc: tpm2.CCNVDefineSpace2, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"authHandle", ownerOrPlatform, authUser}},
	}, (*Engine).nvDefineSpace2),
	define(command{cc: tpm2.CCNVReadPublic2, readOnly: true,
		handles: []handle{{"nvIndex", nvIndex, authNone}},
	}, (*Engine).nvReadPublic2),
}

type nvDefineSpace2In struct {
	auth       tpm2.Digest
	publicInfo tpm2.SizedNVPublic2
}

// Walk visits the parameters.
func (p *nvDefineSpace2In) Walk(c *tpm2.Codec) {
	c.Param(&p.auth)
	c.Param(&p.publicInfo)
}

// nvDefineSpace2 is TPM2_NV_DefineSpace2 (version 1.83, Part 3, 31). This TPM
// has no memory outside of it, nor Indices that it was made with: only Indices
// of the one type can be defined.
func (e *Engine) nvDefineSpace2(c *call, in *nvDefineSpace2In, _ *none) tpm2.RC {
	if in.publicInfo.HandleType != tpm2.HTNVIndex {
		return tpm2.RCHandle.P(2)
	}
	return e.defineIndex(c, trimAuth(in.auth), &in.publicInfo.NVPublic)
}

type nvReadPublic2Out struct {
	public tpm2.SizedNVPublic2
	name   tpm2.Name
}

// Walk visits the parameters.
func (p *nvReadPublic2Out) Walk(c *tpm2.Codec) {
	c.Param(&p.public)
	c.Param(&p.name)
}

// nvReadPublic2 is TPM2_NV_ReadPublic2 (version 1.83, Part 3, 31).
func (e *Engine) nvReadPublic2(c *call, _ *none, out *nvReadPublic2Out) tpm2.RC {
	x := c.indices[0]
	out.public.HandleType, out.public.NVPublic, out.name = x.Public.Index.Type(), x.Public, x.Name
	return tpm2.RCSuccess
}
