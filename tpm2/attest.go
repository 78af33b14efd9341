package tpm2

// ClockInfo is a TPMS_CLOCK_INFO (Part 2, 10.11.1).
type ClockInfo struct {
	Clock        uint64 // milliseconds powered, over the TPM's life
	ResetCount   uint32
	RestartCount uint32
	Safe         bool
}

// Walk visits the fields.
func (i *ClockInfo) Walk(c *Codec) {
	c.U64(&i.Clock)
	c.U32(&i.ResetCount)
	c.U32(&i.RestartCount)
	c.Bool(&i.Safe)
}

// TimeInfo is a TPMS_TIME_INFO (Part 2, 10.11.6).
type TimeInfo struct {
	Time uint64 // milliseconds since the last _TPM_Init
	ClockInfo
}

// Walk visits the fields.
func (i *TimeInfo) Walk(c *Codec) { c.U64(&i.Time); i.ClockInfo.Walk(c) }

// Attest is a TPMS_ATTEST (Part 2, 10.12.12). Which of the last fields are
// there depends on Type.
type Attest struct {
	Type            ST // one of STAttest…
	QualifiedSigner Name
	ExtraData       Data
	ClockInfo       ClockInfo
	FirmwareVersion uint64

	Quote    QuoteInfo    // STAttestQuote
	Certify  CertifyInfo  // STAttestCertify
	Creation CreationInfo // STAttestCreation
	Time     TimeInfo     // STAttestTime
	// TimeFirmware is the firmware version that the time attestation repeats.
	TimeFirmware uint64
	NV           NVCertifyInfo
	Digest       Digest // STAttestSessionAudit and STAttestCommandAudit
	Audit        AuditInfo
}

// QuoteInfo is a TPMS_QUOTE_INFO.
type QuoteInfo struct {
	Select PCRSelectionList
	Digest Digest
}

// CertifyInfo is a TPMS_CERTIFY_INFO.
type CertifyInfo struct{ Name, QualifiedName Name }

// CreationInfo is a TPMS_CREATION_INFO.
type CreationInfo struct {
	ObjectName   Name
	CreationHash Digest
}

// NVCertifyInfo is a TPMS_NV_CERTIFY_INFO or TPMS_NV_DIGEST_CERTIFY_INFO.
type NVCertifyInfo struct {
	IndexName Name
	Offset    uint16
	Contents  MaxBuffer
	Digest    Digest
}

// AuditInfo holds the fields of the two audit attestations besides the digest.
type AuditInfo struct {
	Counter       uint64 // command audit
	Alg           AlgID
	CommandDigest Digest
	Exclusive     bool // session audit
}

// Walk visits the structure: another magic than TPM_GENERATED_VALUE is
// RCValue, an unknown type RCSelector.
func (a *Attest) Walk(c *Codec) {
	magic := uint32(GeneratedValue)
	c.U32(&magic)
	if magic != GeneratedValue {
		c.Fail(RCValue)
	}
	c.U16((*uint16)(&a.Type))
	a.QualifiedSigner.Walk(c)
	a.ExtraData.Walk(c)
	a.ClockInfo.Walk(c)
	c.U64(&a.FirmwareVersion)
	switch a.Type {
	case STAttestQuote:
		a.Quote.Select.Walk(c)
		a.Quote.Digest.Walk(c)
	case STAttestCertify:
		a.Certify.Name.Walk(c)
		a.Certify.QualifiedName.Walk(c)
	case STAttestCreation:
		a.Creation.ObjectName.Walk(c)
		a.Creation.CreationHash.Walk(c)
	case STAttestTime:
		a.Time.Walk(c)
		c.U64(&a.TimeFirmware)
	case STAttestNV:
		a.NV.IndexName.Walk(c)
		c.U16(&a.NV.Offset)
		a.NV.Contents.Walk(c)
	case STAttestNVDigest:
		a.NV.IndexName.Walk(c)
		a.NV.Digest.Walk(c)
	case STAttestSessionAudit:
		c.Bool(&a.Audit.Exclusive)
		a.Digest.Walk(c)
	case STAttestCommandAudit:
		c.U64(&a.Audit.Counter)
		c.U16((*uint16)(&a.Audit.Alg))
		a.Digest.Walk(c)
		a.Audit.CommandDigest.Walk(c)
	default:
		c.Fail(RCSelector)
	}
}

// SizedAttest is a TPM2B_ATTEST in its wire form: what was signed.
type SizedAttest []byte

// maxAttest is the length in bytes of the largest TPMS_ATTEST.
const maxAttest = 2048

// Walk visits the bytes.
func (a *SizedAttest) Walk(c *Codec) { c.Buffer((*[]byte)(a), maxAttest) }

// CreationData is a TPMS_CREATION_DATA (Part 2, 15.1).
type CreationData struct {
	PCRSelect           PCRSelectionList
	PCRDigest           Digest
	Locality            Locality
	ParentNameAlg       AlgID
	ParentName          Name
	ParentQualifiedName Name
	OutsideInfo         Data
}

// Walk visits the fields.
func (d *CreationData) Walk(c *Codec) {
	d.PCRSelect.Walk(c)
	d.PCRDigest.Walk(c)
	d.Locality.Walk(c)
	c.U16((*uint16)(&d.ParentNameAlg))
	d.ParentName.Walk(c)
	d.ParentQualifiedName.Walk(c)
	d.OutsideInfo.Walk(c)
}

// SizedCreationData is a TPM2B_CREATION_DATA.
type SizedCreationData struct{ CreationData }

// Walk visits the structure.
func (d *SizedCreationData) Walk(c *Codec) { c.Sized(false, d.CreationData.Walk) }

// Ticket is any of the TPMT_TK structures (Part 2, 10.7): which tag is right
// depends on the parameter, and another one is RCTag.
type Ticket struct {
	Tag       ST
	Hierarchy Hierarchy
	Digest    Digest
}

func (t *Ticket) walk(c *Codec, tag, other ST) {
	t.Tag.Walk(c)
	if t.Tag != tag && t.Tag != other {
		c.Fail(RCTag)
	}
	t.Hierarchy.Walk(c)
	t.Digest.Walk(c)
}

// CreationTicket is a TPMT_TK_CREATION.
type CreationTicket Ticket

// Walk visits the ticket.
func (t *CreationTicket) Walk(c *Codec) { (*Ticket)(t).walk(c, STCreation, STCreation) }

// VerifiedTicket is a TPMT_TK_VERIFIED.
type VerifiedTicket Ticket

// Walk visits the ticket.
func (t *VerifiedTicket) Walk(c *Codec) { (*Ticket)(t).walk(c, STVerified, STVerified) }

// HashCheckTicket is a TPMT_TK_HASHCHECK.
type HashCheckTicket Ticket

// Walk visits the ticket.
func (t *HashCheckTicket) Walk(c *Codec) { (*Ticket)(t).walk(c, STHashCheck, STHashCheck) }

// AuthTicket is a TPMT_TK_AUTH.
type AuthTicket Ticket

// Walk visits the ticket.
func (t *AuthTicket) Walk(c *Codec) { (*Ticket)(t).walk(c, STAuthSigned, STAuthSecret) }
