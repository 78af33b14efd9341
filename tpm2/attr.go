package tpm2

// ObjectAttributes is a TPMA_OBJECT (Part 2, 8.3).
type ObjectAttributes uint32

// Object attributes.
const (
	ObjFixedTPM             ObjectAttributes = 1 << 1
	ObjSTClear              ObjectAttributes = 1 << 2
	ObjFixedParent          ObjectAttributes = 1 << 4
	ObjSensitiveDataOrigin  ObjectAttributes = 1 << 5
	ObjUserWithAuth         ObjectAttributes = 1 << 6
	ObjAdminWithPolicy      ObjectAttributes = 1 << 7
	ObjNoDA                 ObjectAttributes = 1 << 10
	ObjEncryptedDuplication ObjectAttributes = 1 << 11
	ObjRestricted           ObjectAttributes = 1 << 16
	ObjDecrypt              ObjectAttributes = 1 << 17
	ObjSign                 ObjectAttributes = 1 << 18 // sign or encrypt
	ObjX509Sign             ObjectAttributes = 1 << 19

	objReserved = ^(ObjFixedTPM | ObjSTClear | ObjFixedParent | ObjSensitiveDataOrigin |
		ObjUserWithAuth | ObjAdminWithPolicy | ObjNoDA | ObjEncryptedDuplication |
		ObjRestricted | ObjDecrypt | ObjSign | ObjX509Sign)
)

// Has reports whether all bits of f are set.
func (a ObjectAttributes) Has(f ObjectAttributes) bool { return a&f == f }

// Walk visits the attributes; a reserved bit is RCReservedBits.
func (a *ObjectAttributes) Walk(c *Codec) {
	c.U32((*uint32)(a))
	if *a&objReserved != 0 {
		c.Fail(RCReservedBits)
	}
}

// SessionAttributes is a TPMA_SESSION (Part 2, 8.4).
type SessionAttributes uint8

// Session attributes.
const (
	SessionContinue       SessionAttributes = 1 << 0
	SessionAuditExclusive SessionAttributes = 1 << 1
	SessionAuditReset     SessionAttributes = 1 << 2
	SessionDecrypt        SessionAttributes = 1 << 5
	SessionEncrypt        SessionAttributes = 1 << 6
	SessionAudit          SessionAttributes = 1 << 7
	sessionReserved       SessionAttributes = 1<<3 | 1<<4
)

// Has reports whether all bits of f are set.
func (a SessionAttributes) Has(f SessionAttributes) bool { return a&f == f }

// Walk visits the attributes; a reserved bit is RCReservedBits.
func (a *SessionAttributes) Walk(c *Codec) {
	c.U8((*uint8)(a))
	if *a&sessionReserved != 0 {
		c.Fail(RCReservedBits)
	}
}

// NVAttributes is a TPMA_NV (Part 2, 13.4).
type NVAttributes uint32

// NV Index attributes.
const (
	NVPPWrite        NVAttributes = 1 << 0
	NVOwnerWrite     NVAttributes = 1 << 1
	NVAuthWrite      NVAttributes = 1 << 2
	NVPolicyWrite    NVAttributes = 1 << 3
	NVTypeMask       NVAttributes = 0xF << 4
	NVPolicyDelete   NVAttributes = 1 << 10
	NVWriteLocked    NVAttributes = 1 << 11
	NVWriteAll       NVAttributes = 1 << 12
	NVWriteDefine    NVAttributes = 1 << 13
	NVWriteSTClear   NVAttributes = 1 << 14
	NVGlobalLock     NVAttributes = 1 << 15
	NVPPRead         NVAttributes = 1 << 16
	NVOwnerRead      NVAttributes = 1 << 17
	NVAuthRead       NVAttributes = 1 << 18
	NVPolicyRead     NVAttributes = 1 << 19
	NVNoDA           NVAttributes = 1 << 25
	NVOrderly        NVAttributes = 1 << 26
	NVClearSTClear   NVAttributes = 1 << 27
	NVReadLocked     NVAttributes = 1 << 28
	NVWritten        NVAttributes = 1 << 29
	NVPlatformCreate NVAttributes = 1 << 30
	NVReadSTClear    NVAttributes = 1 << 31
	nvReserved       NVAttributes = 0x3<<8 | 0x1F<<20
)

// NVType is a TPM_NT, the kind of an NV Index (Part 2, 13.2).
type NVType uint8

// Kinds of NV Index.
const (
	NTOrdinary NVType = 0x0
	NTCounter  NVType = 0x1
	NTBits     NVType = 0x2
	NTExtend   NVType = 0x4
	NTPinFail  NVType = 0x8
	NTPinPass  NVType = 0x9
)

// Has reports whether all bits of f are set.
func (a NVAttributes) Has(f NVAttributes) bool { return a&f == f }

// Type is the kind of Index.
func (a NVAttributes) Type() NVType { return NVType(a & NVTypeMask >> 4) }

// Walk visits the attributes; a reserved bit is RCReservedBits.
func (a *NVAttributes) Walk(c *Codec) {
	c.U32((*uint32)(a))
	if *a&nvReserved != 0 {
		c.Fail(RCReservedBits)
	}
}

// Locality is a TPMA_LOCALITY (Part 2, 8.5): a bit for each of localities 0
// to 4, or the number of an extended locality from 32 on.
type Locality uint8

// Walk visits the locality.
func (l *Locality) Walk(c *Codec) { c.U8((*uint8)(l)) }

// LocalityBit is the TPMA_LOCALITY of locality number n.
func LocalityBit(n uint8) Locality {
	if n > 4 {
		return Locality(n)
	}
	return 1 << n
}

// AlgAttributes is a TPMA_ALGORITHM (Part 2, 8.2).
type AlgAttributes uint32

// Algorithm attributes.
const (
	AlgAsymmetric AlgAttributes = 1 << 0
	AlgSymmetric  AlgAttributes = 1 << 1
	AlgIsHash     AlgAttributes = 1 << 2
	AlgIsObject   AlgAttributes = 1 << 3
	AlgSigning    AlgAttributes = 1 << 8
	AlgEncrypting AlgAttributes = 1 << 9
	AlgMethod     AlgAttributes = 1 << 10
)

// CCAttributes is a TPMA_CC (Part 2, 8.9).
type CCAttributes uint32

// Command attributes.
const (
	CCAttrNV        CCAttributes = 1 << 22
	CCAttrExtensive CCAttributes = 1 << 23
	CCAttrFlushed   CCAttributes = 1 << 24
	CCAttrRHandle   CCAttributes = 1 << 28
	CCAttrVendor    CCAttributes = 1 << 29
)

// Walk visits the attributes.
func (a *CCAttributes) Walk(c *Codec) { c.U32((*uint32)(a)) }
