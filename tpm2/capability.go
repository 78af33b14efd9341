package tpm2

// AlgProperty is a TPMS_ALG_PROPERTY (Part 2, 10.8.1).
type AlgProperty struct {
	Alg        AlgID
	Properties AlgAttributes
}

// Walk visits the fields.
func (p *AlgProperty) Walk(c *Codec) { p.Alg.Walk(c); c.U32((*uint32)(&p.Properties)) }

// TaggedProperty is a TPMS_TAGGED_PROPERTY (Part 2, 10.8.2).
type TaggedProperty struct {
	Property PT
	Value    uint32
}

// Walk visits the fields.
func (p *TaggedProperty) Walk(c *Codec) { c.U32((*uint32)(&p.Property)); c.U32(&p.Value) }

// TaggedPCRSelect is a TPMS_TAGGED_PCR_SELECT (Part 2, 10.8.3).
type TaggedPCRSelect struct {
	Tag PTPCR
	PCRSelect
}

// Walk visits the fields.
func (p *TaggedPCRSelect) Walk(c *Codec) { c.U32((*uint32)(&p.Tag)); p.PCRSelect.Walk(c) }

// TaggedPolicy is a TPMS_TAGGED_POLICY (Part 2, 10.8.4). A hierarchy without
// a policy has Hash AlgNull and no digest.
type TaggedPolicy struct {
	Handle Handle
	Hash   AlgID
	Digest []byte
}

// Walk visits the fields.
func (p *TaggedPolicy) Walk(c *Codec) {
	p.Handle.Walk(c)
	c.HashAlg(&p.Hash, true)
	c.Raw(&p.Digest, p.Hash.DigestSize())
}

// ACTData is a TPMS_ACT_DATA (Part 2, 10.8.5): an authenticated countdown timer.
type ACTData struct {
	Handle     Handle
	Timeout    uint32 // seconds
	Attributes uint32 // TPMA_ACT
}

// Attributes of an authenticated countdown timer (TPMA_ACT; Part 2, 8.12).
const (
	ACTSignaled         = 1 << 0 // it has run out
	ACTPreserveSignaled = 1 << 1 // it had before the last TPM Reset or Restart
)

// Walk visits the fields.
func (a *ACTData) Walk(c *Codec) { a.Handle.Walk(c); c.U32(&a.Timeout); c.U32(&a.Attributes) }

// CapabilityData is a TPMS_CAPABILITY_DATA (Part 2, 10.10.2): the list that
// Cap selects.
type CapabilityData struct {
	Cap           Cap
	Algs          []AlgProperty
	Handles       HandleList
	Commands      CCAttributesList // CapCommands
	CCs           CCList           // CapPPCommands, CapAuditCommands
	PCRs          PCRSelectionList
	Properties    []TaggedProperty
	PCRProperties []TaggedPCRSelect
	Curves        []ECCCurve
	Policies      []TaggedPolicy
	ACTs          []ACTData
}

// Walk visits the list.
func (d *CapabilityData) Walk(c *Codec) {
	d.Cap.Walk(c)
	switch d.Cap {
	case CapAlgs:
		List[AlgProperty](c, &d.Algs, maxCapabilityList)
	case CapHandles:
		d.Handles.Walk(c)
	case CapCommands:
		d.Commands.Walk(c)
	case CapPPCommands, CapAuditCommands:
		d.CCs.Walk(c)
	case CapPCRs:
		d.PCRs.Walk(c)
	case CapTPMProperties:
		List[TaggedProperty](c, &d.Properties, maxCapabilityList)
	case CapPCRProperties:
		List[TaggedPCRSelect](c, &d.PCRProperties, maxCapabilityList)
	case CapECCCurves:
		List[ECCCurve](c, &d.Curves, maxCapabilityList)
	case CapAuthPolicies:
		List[TaggedPolicy](c, &d.Policies, maxCapabilityList)
	case CapACT:
		List[ACTData](c, &d.ACTs, maxCapabilityList)
	default:
		c.Fail(RCValue)
	}
}
