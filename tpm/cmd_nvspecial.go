package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// nvSpecialCommands are those of Part 3, 31, for bit fields, for what only a
// policy allows, and for attestation.
var nvSpecialCommands = []command{
	define(command{cc: tpm2.CCNVUndefineSpaceSpecial, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"nvIndex", nvIndex, authAdmin}, {"platform", thePlatform, authUser}},
	}, (*Engine).nvUndefineSpaceSpecial),
	define(command{cc: tpm2.CCNVSetBits, attrs: tpm2.CCAttrNV, write: true, handles: nvHandles}, (*Engine).nvSetBits),
	define(command{cc: tpm2.CCNVGlobalWriteLock, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"authHandle", ownerOrPlatform, authUser}},
	}, (*Engine).nvGlobalWriteLock),
	define(command{cc: tpm2.CCNVChangeAuth, attrs: tpm2.CCAttrNV,
		handles: []handle{{"nvIndex", nvIndex, authAdmin}},
	}, (*Engine).nvChangeAuth),
	define(command{cc: tpm2.CCNVCertify, handles: []handle{
		{"signHandle", anObjectOrNull, authUser}, {"authHandle", nvAuth, authUser}, {"nvIndex", nvIndex, authNone},
	}}, (*Engine).nvCertify),
}

// nvUndefineSpaceSpecial is TPM2_NV_UndefineSpaceSpecial (Part 3, 31.5).
func (e *Engine) nvUndefineSpaceSpecial(c *call, _ *none, _ *none) tpm2.RC {
	x := c.indices[0]
	if !x.Is(tpm2.NVPolicyDelete) {
		return tpm2.RCAttributes.H(1)
	}
	e.state.nv.Delete(x.Public.Index)
	c.persist()
	return tpm2.RCSuccess
}

type nvSetBitsIn struct{ bits tpm2.UINT64 }

// Walk visits the parameters.
func (p *nvSetBitsIn) Walk(c *tpm2.Codec) { c.Param(&p.bits) }

// nvSetBits is TPM2_NV_SetBits (Part 3, 31.10).
func (e *Engine) nvSetBits(c *call, in *nvSetBitsIn, _ *none) tpm2.RC {
	x := c.indices[1]
	if rc := e.mayChange(x); rc != tpm2.RCSuccess {
		return rc
	}
	if rc := nvWritable(c.handles[0], x); rc != tpm2.RCSuccess {
		return rc
	}
	if x.Type() != tpm2.NTBits {
		return tpm2.RCAttributes.H(2)
	}
	c.wrote(x, e.state.nv.SetBits(x, uint64(in.bits)))
	return tpm2.RCSuccess
}

// nvGlobalWriteLock is TPM2_NV_GlobalWriteLock (Part 3, 31.12).
func (e *Engine) nvGlobalWriteLock(c *call, _ *none, _ *none) tpm2.RC {
	c.persistIf(e.state.nv.LockGlobal())
	return tpm2.RCSuccess
}

type nvChangeAuthIn struct{ newAuth tpm2.Digest }

// Walk visits the parameters.
func (p *nvChangeAuthIn) Walk(c *tpm2.Codec) { c.Param(&p.newAuth) }

// nvChangeAuth is TPM2_NV_ChangeAuth (Part 3, 31.15).
func (e *Engine) nvChangeAuth(c *call, in *nvChangeAuthIn, _ *none) tpm2.RC {
	x := c.indices[0]
	auth := trimAuth(in.newAuth)
	if len(auth) > x.Public.NameAlg.DigestSize() {
		return tpm2.RCSize.P(1)
	}
	e.state.nv.SetAuth(x, auth)
	c.persist()
	return tpm2.RCSuccess
}

type nvCertifyIn struct {
	attestIn
	size, offset tpm2.UINT16
}

// Walk visits the parameters.
func (p *nvCertifyIn) Walk(c *tpm2.Codec) {
	p.attestIn.Walk(c)
	c.Param(&p.size)
	c.Param(&p.offset)
}

// nvCertify is TPM2_NV_Certify (Part 3, 31.16): a part of the data, or with a
// size and an offset of zero the digest of all.
func (e *Engine) nvCertify(c *call, in *nvCertifyIn, out *attestOut) tpm2.RC {
	a, rc := e.newAttestation(tpm2.STAttestNV, c, 1, in.scheme, 2, in.qualifyingData)
	if rc != tpm2.RCSuccess {
		return rc
	}
	x := c.indices[2]
	if rc := nvReadable(c.handles[1], x); rc != tpm2.RCSuccess {
		return rc
	}
	size, offset := int(in.size), int(in.offset)
	if size+offset > int(x.Public.DataSize) {
		return tpm2.RCNVRange
	}
	if size > tpm2.MaxBufferSize {
		return tpm2.RCValue.P(3)
	}
	a.NV = tpm2.NVCertifyInfo{IndexName: x.Name, Offset: uint16(offset), Contents: x.Data[offset : offset+size]}
	if size == 0 && offset == 0 {
		a.Type = tpm2.STAttestNVDigest
		if a.scheme.Hash != tpm2.AlgNull {
			a.NV.Digest = a.scheme.Hash.Digest(x.Data)
		}
	}
	return e.signAttestation(c, &a, out)
}

// countPIN counts the use of a PIN Index's authorization value by a session,
// right or wrong (CheckAuthSession). The count stays where the command is
// undone.
func (e *Engine) countPIN(c *call, i int, right bool) {
	x := c.indices[i]
	if x == nil || !x.IsPIN() || !c.auth.sessions[i].includeAuth {
		return
	}
	// An authorization before this one may have counted in the same Index.
	x = e.state.nv.Get(x.Public.Index)
	c.persistIf(e.state.nv.CountPIN(x, right))
	y := e.state.nv.Get(x.Public.Index)
	if y == x {
		return
	}
	for k, h := range c.handles {
		if h == y.Public.Index && c.indices[k] != nil {
			c.indices[k] = y
		}
	}
	e.failure.pins = append(e.failure.pins, y)
	e.endShutdownFor(c, y)
}

// keepPINs counts again in a state that was put back.
func (e *Engine) keepPINs(c *call) {
	for _, x := range e.failure.pins {
		e.state.nv.Put(x)
		c.persistIf(!x.Is(tpm2.NVOrderly))
		e.endShutdownFor(c, x)
	}
}

// endShutdownFor ends a Shutdown in force where an orderly Index has changed:
// what was saved of it no longer holds.
func (e *Engine) endShutdownFor(c *call, x *nv.Index) {
	if x.Is(tpm2.NVOrderly) && e.state.orderly != shutdownNone {
		e.state.orderly = shutdownNone
		c.persist()
	}
}
