package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// nvCommands are those of Part 3, 31.
var nvCommands = []command{
	define(command{cc: tpm2.CCNVDefineSpace, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"authHandle", ownerOrPlatform, authUser}},
	}, (*Engine).nvDefineSpace),
	define(command{cc: tpm2.CCNVUndefineSpace, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"authHandle", ownerOrPlatform, authUser}, {"nvIndex", nvIndex, authNone}},
	}, (*Engine).nvUndefineSpace),
	define(command{cc: tpm2.CCNVReadPublic, readOnly: true,
		handles: []handle{{"nvIndex", nvIndex, authNone}},
	}, (*Engine).nvReadPublic),
	define(command{cc: tpm2.CCNVWrite, attrs: tpm2.CCAttrNV, write: true, handles: nvHandles}, (*Engine).nvWrite),
	define(command{cc: tpm2.CCNVIncrement, attrs: tpm2.CCAttrNV, write: true, handles: nvHandles}, (*Engine).nvIncrement),
	define(command{cc: tpm2.CCNVExtend, attrs: tpm2.CCAttrNV, write: true, handles: nvHandles}, (*Engine).nvExtend),
	define(command{cc: tpm2.CCNVWriteLock, attrs: tpm2.CCAttrNV, write: true, handles: nvHandles}, (*Engine).nvWriteLock),
	define(command{cc: tpm2.CCNVRead, readOnly: true, handles: nvHandles}, (*Engine).nvRead),
	define(command{cc: tpm2.CCNVReadLock, attrs: tpm2.CCAttrNV, handles: nvHandles}, (*Engine).nvReadLock),
}

// nvHandles are those of a command on an Index: what authorizes it, which may
// be the Index itself, and the Index.
var nvHandles = []handle{{"authHandle", nvAuth, authUser}, {"nvIndex", nvIndex, authNone}}

// nvAuthorized reports whether the handle that gave the authorization may give
// it: the owner and the platform where the attributes say so, else only the
// Index itself, whose attributes the authorization has checked.
func nvAuthorized(auth tpm2.Handle, x *nv.Index, owner, platform tpm2.NVAttributes) bool {
	switch auth {
	case tpm2.RHOwner:
		return x.Is(owner)
	case tpm2.RHPlatform:
		return x.Is(platform)
	}
	return auth == x.Public.Index
}

// nvReadable checks that an Index may be read (NvReadAccessChecks).
func nvReadable(auth tpm2.Handle, x *nv.Index) tpm2.RC {
	switch {
	case x.Is(tpm2.NVReadLocked):
		return tpm2.RCNVLocked
	case !nvAuthorized(auth, x, tpm2.NVOwnerRead, tpm2.NVPPRead):
		return tpm2.RCNVAuthorization
	case !x.Is(tpm2.NVWritten):
		return tpm2.RCNVUninitialized
	}
	return tpm2.RCSuccess
}

// nvWritable checks that an Index may be written (NvWriteAccessChecks).
func nvWritable(auth tpm2.Handle, x *nv.Index) tpm2.RC {
	switch {
	case x.Is(tpm2.NVWriteLocked):
		return tpm2.RCNVLocked
	case !nvAuthorized(auth, x, tpm2.NVOwnerWrite, tpm2.NVPPWrite):
		return tpm2.RCNVAuthorization
	}
	return tpm2.RCSuccess
}

// mayChange refuses, in Read-Only mode, to change an Index that outlives power
// or a TPM Restart (NvReadOnlyModeChecks).
func (e *Engine) mayChange(x *nv.Index) tpm2.RC {
	if e.state.readOnly && !x.Is(tpm2.NVOrderly|tpm2.NVClearSTClear) {
		return tpm2.RCReadOnly
	}
	return tpm2.RCSuccess
}

// persistIf is persist where durable is set.
func (c *call) persistIf(durable bool) {
	if durable {
		c.persist()
	}
}

// wrote notes that an Index was written: what of an orderly one is not durable
// ends a Shutdown.
func (c *call) wrote(x *nv.Index, durable bool) {
	c.endsShutdown = x.Is(tpm2.NVOrderly)
	c.persistIf(durable)
}

type nvReadPublicOut struct {
	public tpm2.SizedNVPublic
	name   tpm2.Name
}

// Walk visits the parameters.
func (p *nvReadPublicOut) Walk(c *tpm2.Codec) {
	c.Param(&p.public)
	c.Param(&p.name)
}

// nvReadPublic is TPM2_NV_ReadPublic (Part 3, 31.6).
func (e *Engine) nvReadPublic(c *call, _ *none, out *nvReadPublicOut) tpm2.RC {
	out.public.NVPublic, out.name = c.indices[0].Public, c.indices[0].Name
	return tpm2.RCSuccess
}

type nvWriteIn struct {
	data   tpm2.MaxBuffer
	offset tpm2.UINT16
}

// Walk visits the parameters.
func (p *nvWriteIn) Walk(c *tpm2.Codec) {
	c.Param(&p.data)
	c.Param(&p.offset)
}

// nvWrite is TPM2_NV_Write (Part 3, 31.7).
func (e *Engine) nvWrite(c *call, in *nvWriteIn, _ *none) tpm2.RC {
	x := c.indices[1]
	if rc := e.mayChange(x); rc != tpm2.RCSuccess {
		return rc
	}
	if rc := nvWritable(c.handles[0], x); rc != tpm2.RCSuccess {
		return rc
	}
	if x.Type() != tpm2.NTOrdinary && !x.IsPIN() {
		return tpm2.RCAttributes
	}
	offset, size := int(in.offset), int(x.Public.DataSize)
	if offset > size {
		return tpm2.RCValue.P(2)
	}
	if len(in.data) > size-offset || x.Is(tpm2.NVWriteAll) && len(in.data) < size {
		return tpm2.RCNVRange
	}
	c.wrote(x, e.state.nv.Write(x, offset, in.data))
	return tpm2.RCSuccess
}

// nvIncrement is TPM2_NV_Increment (Part 3, 31.8).
func (e *Engine) nvIncrement(c *call, _ *none, _ *none) tpm2.RC {
	x := c.indices[1]
	if rc := nvWritable(c.handles[0], x); rc != tpm2.RCSuccess {
		return rc
	}
	if x.Type() != tpm2.NTCounter {
		return tpm2.RCAttributes.H(2)
	}
	c.wrote(x, e.state.nv.Increment(x))
	return tpm2.RCSuccess
}

type nvExtendIn struct{ data tpm2.MaxBuffer }

// Walk visits the parameters.
func (p *nvExtendIn) Walk(c *tpm2.Codec) { c.Param(&p.data) }

// nvExtend is TPM2_NV_Extend (Part 3, 31.9).
func (e *Engine) nvExtend(c *call, in *nvExtendIn, _ *none) tpm2.RC {
	x := c.indices[1]
	if rc := e.mayChange(x); rc != tpm2.RCSuccess {
		return rc
	}
	if rc := nvWritable(c.handles[0], x); rc != tpm2.RCSuccess {
		return rc
	}
	if x.Type() != tpm2.NTExtend {
		return tpm2.RCAttributes.H(2)
	}
	c.wrote(x, e.state.nv.Extend(x, in.data))
	return tpm2.RCSuccess
}

// nvWriteLock is TPM2_NV_WriteLock (Part 3, 31.11). To lock what is locked is
// no error.
func (e *Engine) nvWriteLock(c *call, _ *none, _ *none) tpm2.RC {
	x := c.indices[1]
	if rc := e.mayChange(x); rc != tpm2.RCSuccess {
		return rc
	}
	switch rc := nvWritable(c.handles[0], x); {
	case rc == tpm2.RCNVLocked:
		return tpm2.RCSuccess
	case rc != tpm2.RCSuccess:
		return rc
	case !x.Is(tpm2.NVWriteDefine) && !x.Is(tpm2.NVWriteSTClear):
		return tpm2.RCAttributes.H(2)
	}
	c.persistIf(e.state.nv.SetAttributes(x, tpm2.NVWriteLocked))
	return tpm2.RCSuccess
}

type nvReadIn struct{ size, offset tpm2.UINT16 }

// Walk visits the parameters.
func (p *nvReadIn) Walk(c *tpm2.Codec) {
	c.Param(&p.size)
	c.Param(&p.offset)
}

type nvReadOut struct{ data tpm2.MaxBuffer }

// Walk visits the parameters.
func (p *nvReadOut) Walk(c *tpm2.Codec) { c.Param(&p.data) }

// nvRead is TPM2_NV_Read (Part 3, 31.13).
func (e *Engine) nvRead(c *call, in *nvReadIn, out *nvReadOut) tpm2.RC {
	x := c.indices[1]
	if rc := nvReadable(c.handles[0], x); rc != tpm2.RCSuccess {
		return rc
	}
	size, offset := int(in.size), int(in.offset)
	switch {
	case size > tpm2.MaxBufferSize:
		return tpm2.RCValue.P(1)
	case offset > len(x.Data):
		return tpm2.RCValue.P(2)
	case size > len(x.Data)-offset:
		return tpm2.RCNVRange
	}
	out.data = x.Data[offset : offset+size]
	return tpm2.RCSuccess
}

// nvReadLock is TPM2_NV_ReadLock (Part 3, 31.14). An Index that is not written
// can be locked, and one that is locked already.
func (e *Engine) nvReadLock(c *call, _ *none, _ *none) tpm2.RC {
	x := c.indices[1]
	if rc := e.mayChange(x); rc != tpm2.RCSuccess {
		return rc
	}
	switch rc := nvReadable(c.handles[0], x); {
	case rc == tpm2.RCNVLocked:
		return tpm2.RCSuccess
	case rc == tpm2.RCNVAuthorization:
		return rc
	case !x.Is(tpm2.NVReadSTClear):
		return tpm2.RCAttributes.H(2)
	}
	c.persistIf(e.state.nv.SetAttributes(x, tpm2.NVReadLocked))
	return tpm2.RCSuccess
}

type nvDefineSpaceIn struct {
	auth       tpm2.Digest
	publicInfo tpm2.SizedNVPublic
}

// Walk visits the parameters.
func (p *nvDefineSpaceIn) Walk(c *tpm2.Codec) {
	c.Param(&p.auth)
	c.Param(&p.publicInfo)
}

// nvDefineSpace is TPM2_NV_DefineSpace (Part 3, 31.3).
func (e *Engine) nvDefineSpace(c *call, in *nvDefineSpaceIn, _ *none) tpm2.RC {
	return e.defineIndex(c, trimAuth(in.auth), &in.publicInfo.NVPublic)
}

// defineIndex defines an Index for both commands that do (NvDefineSpace).
func (e *Engine) defineIndex(c *call, auth tpm2.Digest, p *tpm2.NVPublic) tpm2.RC {
	a := p.Attributes
	digest := p.NameAlg.DigestSize()
	platform := c.handles[0] == tpm2.RHPlatform
	switch {
	case len(p.AuthPolicy) != 0 && len(p.AuthPolicy) != digest:
		return tpm2.RCSize.P(2)
	case len(auth) > digest:
		return tpm2.RCSize.P(1)
	case platform && !e.state.hierarchies.PlatformNV:
		return tpm2.RCHierarchy.H(1)
	}
	if rc := nvTypeFits(p); rc != tpm2.RCSuccess {
		return rc.P(2)
	}
	switch {
	case !nvAttributesFit(a):
		return tpm2.RCAttributes.P(2)
	case a.Has(tpm2.NVPlatformCreate) != platform:
		return tpm2.RCAttributes.H(1)
	case a.Has(tpm2.NVPolicyDelete) && !platform:
		return tpm2.RCAttributes.P(2)
	case p.DataSize > tpm2.MaxBufferSize && a.Has(tpm2.NVWriteAll):
		return tpm2.RCSize.P(2)
	case e.state.nv.Get(p.Index) != nil:
		return tpm2.RCNVDefined
	}
	if rc := e.state.nv.Define(p, auth, len(e.state.objects.Persistent)); rc != tpm2.RCSuccess {
		return rc
	}
	c.persist()
	return tpm2.RCSuccess
}

// nvTypeFits checks the kind of an Index, its size, and the attributes that the
// kind forbids.
func nvTypeFits(p *tpm2.NVPublic) tpm2.RC {
	size := int(p.DataSize)
	switch p.Attributes.Type() {
	case tpm2.NTOrdinary:
		return tpm2.RCSuccess
	case tpm2.NTExtend:
		if size != p.NameAlg.DigestSize() {
			return tpm2.RCSize
		}
		return tpm2.RCSuccess
	case tpm2.NTCounter:
		if size != nv.CounterSize {
			return tpm2.RCSize
		}
		if p.Attributes.Has(tpm2.NVClearSTClear) {
			return tpm2.RCAttributes
		}
		return tpm2.RCSuccess
	case tpm2.NTBits, tpm2.NTPinPass, tpm2.NTPinFail:
		if size != nv.CounterSize {
			return tpm2.RCSize
		}
		return pinAttributesFit(p.Attributes)
	}
	return tpm2.RCAttributes
}

// pinAttributesFit checks what a PIN Index may not have: lockout would count
// with a PIN Fail Index, and one that its own authorization value writes, or
// that is locked for ever, is of no use.
func pinAttributesFit(a tpm2.NVAttributes) tpm2.RC {
	const useless = tpm2.NVAuthWrite | tpm2.NVGlobalLock | tpm2.NVWriteDefine
	t := a.Type()
	if t == tpm2.NTPinFail && !a.Has(tpm2.NVNoDA) || t != tpm2.NTBits && a&useless != 0 {
		return tpm2.RCAttributes
	}
	return tpm2.RCSuccess
}

// nvAttributesFit reports whether an Index may begin with the attributes:
// neither locked nor written, with a way to read it and a way to write it, and
// not locked for ever while it is cleared.
func nvAttributesFit(a tpm2.NVAttributes) bool {
	const (
		state = tpm2.NVWritten | tpm2.NVWriteLocked | tpm2.NVReadLocked
		read  = tpm2.NVOwnerRead | tpm2.NVPPRead | tpm2.NVAuthRead | tpm2.NVPolicyRead
		write = tpm2.NVOwnerWrite | tpm2.NVPPWrite | tpm2.NVAuthWrite | tpm2.NVPolicyWrite
	)
	return a&state == 0 && a&read != 0 && a&write != 0 && !a.Has(tpm2.NVClearSTClear|tpm2.NVWriteDefine)
}

// nvUndefineSpace is TPM2_NV_UndefineSpace (Part 3, 31.4).
func (e *Engine) nvUndefineSpace(c *call, _ *none, _ *none) tpm2.RC {
	x := c.indices[1]
	if x.Is(tpm2.NVPolicyDelete) {
		return tpm2.RCAttributes.H(2)
	}
	if c.handles[0] == tpm2.RHOwner && x.Is(tpm2.NVPlatformCreate) {
		return tpm2.RCNVAuthorization
	}
	e.state.nv.Delete(x.Public.Index)
	c.persist()
	return tpm2.RCSuccess
}
