package tpm2

// Handle is a TPM_HANDLE (Part 2, 7). Its most significant byte is the handle
// type.
type Handle uint32

// HandleType is a TPM_HT (Part 2, 7.2).
type HandleType uint8

// Handle types.
const (
	HTPCR           HandleType = 0x00
	HTNVIndex       HandleType = 0x01
	HTHMACSession   HandleType = 0x02 // also "loaded session" in GetCapability
	HTPolicySession HandleType = 0x03 // also "saved session" in GetCapability
	HTExternalNV    HandleType = 0x11
	HTPermanentNV   HandleType = 0x12
	HTPermanent     HandleType = 0x40
	HTTransient     HandleType = 0x80
	HTPersistent    HandleType = 0x81
	HTAC            HandleType = 0x90
)

// Permanent handles (TPM_RH and TPM_RS, Part 2, 7.4) and the first handles of
// each range (TPM_HC, Part 2, 7.5).
const (
	RHOwner       Handle = 0x40000001
	RHNull        Handle = 0x40000007
	RHUnassigned  Handle = 0x40000008
	RHACT0        Handle = 0x40000110 // the first authenticated countdown timer
	RHACTF        Handle = 0x4000011F // the last
	RSPW          Handle = 0x40000009
	RHLockout     Handle = 0x4000000A
	RHEndorsement Handle = 0x4000000B
	RHPlatform    Handle = 0x4000000C
	RHPlatformNV  Handle = 0x4000000D

	PCRFirst           Handle = 0x00000000
	NVIndexFirst       Handle = 0x01000000
	NVIndexLast        Handle = 0x01FFFFFF
	HMACSessionFirst   Handle = 0x02000000
	PolicySessionFirst Handle = 0x03000000
	PermanentFirst     Handle = 0x40000000
	TransientFirst     Handle = 0x80000000
	PersistentFirst    Handle = 0x81000000
	PersistentLast     Handle = 0x81FFFFFF
	PlatformPersistent Handle = 0x81800000 // first persistent handle of the platform
)

// Type is the handle's most significant byte.
func (h Handle) Type() HandleType { return HandleType(h >> 24) }

// Index is the handle without its type: 24 bits.
func (h Handle) Index() int { return int(h & 0xFFFFFF) }

// IsSession reports whether h is in the HMAC or policy session range.
func (h Handle) IsSession() bool {
	return h.Type() == HTHMACSession || h.Type() == HTPolicySession
}

// Walk visits the handle.
func (h *Handle) Walk(c *Codec) { c.U32((*uint32)(h)) }

// ST is a TPM_ST, a structure tag (Part 2, 6.9).
type ST uint16

// Structure tags.
const (
	STRspCommand         ST = 0x00C4
	STNull               ST = 0x8000
	STNoSessions         ST = 0x8001
	STSessions           ST = 0x8002
	STAttestNV           ST = 0x8014
	STAttestCommandAudit ST = 0x8015
	STAttestSessionAudit ST = 0x8016
	STAttestCertify      ST = 0x8017
	STAttestQuote        ST = 0x8018
	STAttestTime         ST = 0x8019
	STAttestCreation     ST = 0x801A
	STAttestNVDigest     ST = 0x801C
	STCreation           ST = 0x8021
	STVerified           ST = 0x8022
	STAuthSecret         ST = 0x8023
	STHashCheck          ST = 0x8024
	STAuthSigned         ST = 0x8025
	STFUManifest         ST = 0x8029
)

// Walk visits a tag; one that no command has anywhere is RCValue.
func (s *ST) Walk(c *Codec) {
	c.U16((*uint16)(s))
	switch *s {
	case STRspCommand, STNull, STNoSessions, STSessions, STAttestNV, STAttestCommandAudit,
		STAttestSessionAudit, STAttestCertify, STAttestQuote, STAttestTime, STAttestCreation,
		STCreation, STVerified, STAuthSecret, STHashCheck, STAuthSigned:
	default:
		c.Fail(RCValue)
	}
}

// SU is a TPM_SU, the kind of Startup and Shutdown (Part 2, 6.10).
type SU uint16

// Startup types.
const (
	SUClear SU = 0x0000
	SUState SU = 0x0001
)

// Walk visits a startup type; an unknown one is RCValue.
func (s *SU) Walk(c *Codec) {
	c.U16((*uint16)(s))
	if *s > SUState {
		c.Fail(RCValue)
	}
}

// SE is a TPM_SE, a session type (Part 2, 6.11).
type SE uint8

// Session types.
const (
	SEHMAC   SE = 0x00
	SEPolicy SE = 0x01
	SETrial  SE = 0x03
)

// Walk visits a session type; an unknown one is RCValue.
func (s *SE) Walk(c *Codec) {
	c.U8((*uint8)(s))
	if *s != SEHMAC && *s != SEPolicy && *s != SETrial {
		c.Fail(RCValue)
	}
}

// EO is a TPM_EO, a comparison (Part 2, 6.8).
type EO uint16

// Comparisons of operand A (the NV data) with operand B.
const (
	EOEq         EO = 0x0000
	EONeq        EO = 0x0001
	EOSignedGT   EO = 0x0002
	EOUnsignedGT EO = 0x0003
	EOSignedLT   EO = 0x0004
	EOUnsignedLT EO = 0x0005
	EOSignedGE   EO = 0x0006
	EOUnsignedGE EO = 0x0007
	EOSignedLE   EO = 0x0008
	EOUnsignedLE EO = 0x0009
	EOBitSet     EO = 0x000A
	EOBitClear   EO = 0x000B
)

// Walk visits a comparison; an unknown one is RCValue.
func (o *EO) Walk(c *Codec) {
	c.U16((*uint16)(o))
	if *o > EOBitClear {
		c.Fail(RCValue)
	}
}

// Cap is a TPM_CAP, what GetCapability is asked for (Part 2, 6.12).
type Cap uint32

// Capabilities.
const (
	CapAlgs          Cap = 0x0
	CapHandles       Cap = 0x1
	CapCommands      Cap = 0x2
	CapPPCommands    Cap = 0x3
	CapAuditCommands Cap = 0x4
	CapPCRs          Cap = 0x5
	CapTPMProperties Cap = 0x6
	CapPCRProperties Cap = 0x7
	CapECCCurves     Cap = 0x8
	CapAuthPolicies  Cap = 0x9
	CapACT           Cap = 0xA
	CapVendor        Cap = 0x100
)

// Walk visits a capability; an unknown one is RCValue.
func (p *Cap) Walk(c *Codec) {
	c.U32((*uint32)(p))
	if *p > CapACT && *p != CapVendor {
		c.Fail(RCValue)
	}
}

// PT is a TPM_PT, a property tag (Part 2, 6.13).
type PT uint32

// Fixed and variable properties.
const (
	PTFixed             PT = 0x100
	PTFamilyIndicator   PT = PTFixed + 0
	PTLevel             PT = PTFixed + 1
	PTRevision          PT = PTFixed + 2
	PTDayOfYear         PT = PTFixed + 3
	PTYear              PT = PTFixed + 4
	PTManufacturer      PT = PTFixed + 5
	PTVendorString1     PT = PTFixed + 6
	PTVendorString2     PT = PTFixed + 7
	PTVendorString3     PT = PTFixed + 8
	PTVendorString4     PT = PTFixed + 9
	PTVendorTPMType     PT = PTFixed + 10
	PTFirmwareVersion1  PT = PTFixed + 11
	PTFirmwareVersion2  PT = PTFixed + 12
	PTInputBuffer       PT = PTFixed + 13
	PTHRTransientMin    PT = PTFixed + 14
	PTHRPersistentMin   PT = PTFixed + 15
	PTHRLoadedMin       PT = PTFixed + 16
	PTActiveSessionsMax PT = PTFixed + 17
	PTPCRCount          PT = PTFixed + 18
	PTPCRSelectMin      PT = PTFixed + 19
	PTContextGapMax     PT = PTFixed + 20
	PTNVCountersMax     PT = PTFixed + 22
	PTNVIndexMax        PT = PTFixed + 23
	PTMemory            PT = PTFixed + 24
	PTClockUpdate       PT = PTFixed + 25
	PTContextHash       PT = PTFixed + 26
	PTContextSym        PT = PTFixed + 27
	PTContextSymSize    PT = PTFixed + 28
	PTOrderlyCount      PT = PTFixed + 29
	PTMaxCommandSize    PT = PTFixed + 30
	PTMaxResponseSize   PT = PTFixed + 31
	PTMaxDigest         PT = PTFixed + 32
	PTMaxObjectContext  PT = PTFixed + 33
	PTMaxSessionContext PT = PTFixed + 34
	PTPSFamilyIndicator PT = PTFixed + 35
	PTPSLevel           PT = PTFixed + 36
	PTPSRevision        PT = PTFixed + 37
	PTPSDayOfYear       PT = PTFixed + 38
	PTPSYear            PT = PTFixed + 39
	PTSplitMax          PT = PTFixed + 40
	PTTotalCommands     PT = PTFixed + 41
	PTLibraryCommands   PT = PTFixed + 42
	PTVendorCommands    PT = PTFixed + 43
	PTNVBufferMax       PT = PTFixed + 44
	PTModes             PT = PTFixed + 45
	PTMaxCapBuffer      PT = PTFixed + 46
	PTFirmwareSVN       PT = PTFixed + 47 // version 1.83
	PTFirmwareMaxSVN    PT = PTFixed + 48 // version 1.83

	PTVar               PT = 0x200
	PTPermanent         PT = PTVar + 0
	PTStartupClear      PT = PTVar + 1
	PTHRNVIndex         PT = PTVar + 2
	PTHRLoaded          PT = PTVar + 3
	PTHRLoadedAvail     PT = PTVar + 4
	PTHRActive          PT = PTVar + 5
	PTHRActiveAvail     PT = PTVar + 6
	PTHRTransientAvail  PT = PTVar + 7
	PTHRPersistent      PT = PTVar + 8
	PTHRPersistentAvail PT = PTVar + 9
	PTNVCounters        PT = PTVar + 10
	PTNVCountersAvail   PT = PTVar + 11
	PTAlgorithmSet      PT = PTVar + 12
	PTLoadedCurves      PT = PTVar + 13
	PTLockoutCounter    PT = PTVar + 14
	PTMaxAuthFail       PT = PTVar + 15
	PTLockoutInterval   PT = PTVar + 16
	PTLockoutRecovery   PT = PTVar + 17
	PTNVWriteRecovery   PT = PTVar + 18
	PTAuditCounter0     PT = PTVar + 19
	PTAuditCounter1     PT = PTVar + 20
)

// PTPCR is a TPM_PT_PCR, a property of PCRs (Part 2, 6.14).
type PTPCR uint32

// PCR properties.
const (
	PTPCRSave      PTPCR = 0x00
	PTPCRExtendL0  PTPCR = 0x01
	PTPCRResetL0   PTPCR = 0x02
	PTPCRNoIncr    PTPCR = 0x11
	PTPCRDRTMReset PTPCR = 0x12
	PTPCRPolicy    PTPCR = 0x13
	PTPCRAuth      PTPCR = 0x14
)

// Values and limits of the structures, in bytes unless said otherwise.
const (
	GeneratedValue   = 0xFF544347 // TPM_GENERATED_VALUE (Part 2, 6.2)
	PCRCount         = 24         // PCRs implemented
	PCRSelectSize    = 3          // bytes of a PCR bitmap
	MaxBufferSize    = 1024       // bytes: MAX_DIGEST_BUFFER, MAX_NV_BUFFER_SIZE, event data
	MaxSymDataSize   = 128        // bytes: MAX_SYM_DATA, data of a sealed object
	MaxNVIndexSize   = 2048       // bytes
	MaxCapBufferSize = 1024       // bytes of a GetCapability answer
)
