package tpm2

// NVPublic is a TPMS_NV_PUBLIC (Part 2, 13.5).
type NVPublic struct {
	Index      Handle
	NameAlg    AlgID
	Attributes NVAttributes
	AuthPolicy Digest
	DataSize   uint16 // bytes, at most MaxNVIndexSize
}

// Walk visits the fields: a handle outside the NV range is RCValue, a larger
// DataSize RCSize.
func (p *NVPublic) Walk(c *Codec) {
	c.U32((*uint32)(&p.Index))
	if p.Index.Type() != HTNVIndex {
		c.Fail(RCValue)
	}
	c.HashAlg(&p.NameAlg, false)
	p.Attributes.Walk(c)
	p.AuthPolicy.Walk(c)
	c.U16(&p.DataSize)
	if p.DataSize > MaxNVIndexSize {
		c.Fail(RCSize)
	}
}

// Name computes the Index's Name (Part 1, 16).
func (p *NVPublic) Name() Name {
	d := p.NameAlg.Digest(Marshal(p))
	return append(Name{byte(p.NameAlg >> 8), byte(p.NameAlg)}, d...)
}

// SizedNVPublic is a TPM2B_NV_PUBLIC (Part 2, 13.6).
type SizedNVPublic struct{ NVPublic }

// Walk visits the structure; a zero length is RCSize.
func (p *SizedNVPublic) Walk(c *Codec) { c.Sized(false, p.NVPublic.Walk) }

// NVPublic2 is a TPMT_NV_PUBLIC_2 (version 1.83, Part 2, 13.8): the public area
// of an Index of any handle type.
type NVPublic2 struct {
	HandleType HandleType
	NVPublic
	// Expanded is the upper half of a TPMA_NV_EXP, for HTExternalNV only.
	Expanded uint32
}

// nvExpandedReserved are the reserved bits of NVPublic2.Expanded.
const nvExpandedReserved = 0xFFFFFFF8

// Walk visits the fields: another handle type than of NV is RCSelector, a handle
// that is not of its type RCValue, a reserved attribute RCReservedBits, and a
// DataSize above MaxNVIndexSize RCSize.
func (p *NVPublic2) Walk(c *Codec) {
	c.U8((*uint8)(&p.HandleType))
	switch p.HandleType {
	case HTNVIndex, HTPermanentNV: // the same, in TCG's own code as well
		p.NVPublic.Walk(c)
	case HTExternalNV:
		p.walkExpanded(c)
	default:
		c.Fail(RCSelector)
	}
}

// walkExpanded visits a TPMS_NV_PUBLIC_EXP_ATTR.
func (p *NVPublic2) walkExpanded(c *Codec) {
	c.U32((*uint32)(&p.Index))
	if p.Index.Type() != HTExternalNV {
		c.Fail(RCValue)
	}
	c.HashAlg(&p.NameAlg, false)
	c.U32(&p.Expanded)
	if p.Expanded&nvExpandedReserved != 0 {
		c.Fail(RCReservedBits)
	}
	p.Attributes.Walk(c)
	p.AuthPolicy.Walk(c)
	c.U16(&p.DataSize)
	if p.DataSize > MaxNVIndexSize {
		c.Fail(RCSize)
	}
}

// SizedNVPublic2 is a TPM2B_NV_PUBLIC_2 (Part 2, 13.9).
type SizedNVPublic2 struct{ NVPublic2 }

// Walk visits the structure; a zero length is RCSize.
func (p *SizedNVPublic2) Walk(c *Codec) { c.Sized(false, p.NVPublic2.Walk) }

// Context is a TPMS_CONTEXT (Part 2, 14.5).
type Context struct {
	Sequence    uint64
	SavedHandle Handle
	Hierarchy   Hierarchy
	Blob        ContextData
}

// savedSessions bounds the session handles of a context to those that can be
// active (MAX_ACTIVE_SESSIONS).
const savedSessions = 64

// Walk visits the fields; a handle that TPMI_DH_SAVED does not allow is
// RCValue.
func (x *Context) Walk(c *Codec) {
	c.U64(&x.Sequence)
	c.U32((*uint32)(&x.SavedHandle))
	switch h := x.SavedHandle; {
	case h.IsSession() && h.Index() < savedSessions:
	case h >= TransientFirst && h <= TransientFirst+2:
	default:
		c.Fail(RCValue)
	}
	x.Hierarchy.Walk(c)
	x.Blob.Walk(c)
}
