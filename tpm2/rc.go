package tpm2

import "fmt"

// RC is a TPM_RC, a response code (Part 2, 6.6). Zero is success. As an error
// it names the code and the handle, session or parameter it belongs to.
type RC uint32

const (
	rcVer1 RC = 0x100
	rcFmt1 RC = 0x080
	rcWarn RC = 0x900
	rcP    RC = 0x040
	rcS    RC = 0x800
)

// Response codes (Part 2, Table 17).
const (
	RCSuccess         RC = 0x000
	RCBadTag          RC = 0x01E
	RCInitialize      RC = rcVer1 + 0x000
	RCFailure         RC = rcVer1 + 0x001
	RCSequence        RC = rcVer1 + 0x003
	RCPrivate         RC = rcVer1 + 0x00B
	RCHMAC            RC = rcVer1 + 0x019
	RCDisabled        RC = rcVer1 + 0x020
	RCExclusive       RC = rcVer1 + 0x021
	RCAuthType        RC = rcVer1 + 0x024
	RCAuthMissing     RC = rcVer1 + 0x025
	RCPolicy          RC = rcVer1 + 0x026
	RCPCR             RC = rcVer1 + 0x027
	RCPCRChanged      RC = rcVer1 + 0x028
	RCUpgrade         RC = rcVer1 + 0x02D
	RCTooManyContexts RC = rcVer1 + 0x02E
	RCAuthUnavailable RC = rcVer1 + 0x02F
	RCReboot          RC = rcVer1 + 0x030
	RCUnbalanced      RC = rcVer1 + 0x031
	RCCommandSize     RC = rcVer1 + 0x042
	RCCommandCode     RC = rcVer1 + 0x043
	RCAuthSize        RC = rcVer1 + 0x044
	RCAuthContext     RC = rcVer1 + 0x045
	RCNVRange         RC = rcVer1 + 0x046
	RCNVSize          RC = rcVer1 + 0x047
	RCNVLocked        RC = rcVer1 + 0x048
	RCNVAuthorization RC = rcVer1 + 0x049
	RCNVUninitialized RC = rcVer1 + 0x04A
	RCNVSpace         RC = rcVer1 + 0x04B
	RCNVDefined       RC = rcVer1 + 0x04C
	RCBadContext      RC = rcVer1 + 0x050
	RCCPHash          RC = rcVer1 + 0x051
	RCParent          RC = rcVer1 + 0x052
	RCNeedsTest       RC = rcVer1 + 0x053
	RCNoResult        RC = rcVer1 + 0x054
	RCSensitive       RC = rcVer1 + 0x055
	RCReadOnly        RC = rcVer1 + 0x056

	RCAsymmetric   RC = rcFmt1 + 0x001
	RCAttributes   RC = rcFmt1 + 0x002
	RCHash         RC = rcFmt1 + 0x003
	RCValue        RC = rcFmt1 + 0x004
	RCHierarchy    RC = rcFmt1 + 0x005
	RCKeySize      RC = rcFmt1 + 0x007
	RCMGF          RC = rcFmt1 + 0x008
	RCMode         RC = rcFmt1 + 0x009
	RCType         RC = rcFmt1 + 0x00A
	RCHandle       RC = rcFmt1 + 0x00B
	RCKDF          RC = rcFmt1 + 0x00C
	RCRange        RC = rcFmt1 + 0x00D
	RCAuthFail     RC = rcFmt1 + 0x00E
	RCNonce        RC = rcFmt1 + 0x00F
	RCPP           RC = rcFmt1 + 0x010
	RCScheme       RC = rcFmt1 + 0x012
	RCSize         RC = rcFmt1 + 0x015
	RCSymmetric    RC = rcFmt1 + 0x016
	RCTag          RC = rcFmt1 + 0x017
	RCSelector     RC = rcFmt1 + 0x018
	RCInsufficient RC = rcFmt1 + 0x01A
	RCSignature    RC = rcFmt1 + 0x01B
	RCKey          RC = rcFmt1 + 0x01C
	RCPolicyFail   RC = rcFmt1 + 0x01D
	RCIntegrity    RC = rcFmt1 + 0x01F
	RCTicket       RC = rcFmt1 + 0x020
	RCReservedBits RC = rcFmt1 + 0x021
	RCBadAuth      RC = rcFmt1 + 0x022
	RCExpired      RC = rcFmt1 + 0x023
	RCPolicyCC     RC = rcFmt1 + 0x024
	RCBinding      RC = rcFmt1 + 0x025
	RCCurve        RC = rcFmt1 + 0x026
	RCECCPoint     RC = rcFmt1 + 0x027

	RCContextGap     RC = rcWarn + 0x001
	RCObjectMemory   RC = rcWarn + 0x002
	RCSessionMemory  RC = rcWarn + 0x003
	RCMemory         RC = rcWarn + 0x004
	RCSessionHandles RC = rcWarn + 0x005
	RCObjectHandles  RC = rcWarn + 0x006
	RCLocality       RC = rcWarn + 0x007
	RCYielded        RC = rcWarn + 0x008
	RCCanceled       RC = rcWarn + 0x009
	RCTesting        RC = rcWarn + 0x00A
	RCReferenceH0    RC = rcWarn + 0x010
	RCReferenceS0    RC = rcWarn + 0x018
	RCNVRate         RC = rcWarn + 0x020
	RCLockout        RC = rcWarn + 0x021
	RCRetry          RC = rcWarn + 0x022
	RCNVUnavailable  RC = rcWarn + 0x023
)

// P marks a format-one code as that of parameter n (1 to 15). Other codes,
// and codes already marked, pass unchanged.
func (r RC) P(n int) RC {
	if !r.bare() {
		return r
	}
	return r | rcP | RC(n&0xF)<<8
}

// H marks a format-one code as that of handle n (1 to 7).
func (r RC) H(n int) RC {
	if !r.bare() {
		return r
	}
	return r | RC(n&0x7)<<8
}

// S marks a format-one code as that of session n (1 to 7).
func (r RC) S(n int) RC {
	if !r.bare() {
		return r
	}
	return r | rcS | RC(n&0x7)<<8
}

// bare reports whether r is a format-one code without a number.
func (r RC) bare() bool { return r&rcFmt1 != 0 && r&^0xBF == 0 }

// Base strips a format-one code's handle, session or parameter number.
func (r RC) Base() RC {
	if r&rcFmt1 != 0 {
		return r & 0xBF
	}
	return r
}

var rcNames = map[RC]string{
	RCSuccess: "SUCCESS", RCBadTag: "BAD_TAG", RCInitialize: "INITIALIZE", RCFailure: "FAILURE",
	RCSequence: "SEQUENCE", RCPrivate: "PRIVATE", RCHMAC: "HMAC", RCDisabled: "DISABLED",
	RCExclusive: "EXCLUSIVE", RCAuthType: "AUTH_TYPE", RCAuthMissing: "AUTH_MISSING",
	RCPolicy: "POLICY", RCPCR: "PCR", RCPCRChanged: "PCR_CHANGED", RCUpgrade: "UPGRADE",
	RCTooManyContexts: "TOO_MANY_CONTEXTS", RCAuthUnavailable: "AUTH_UNAVAILABLE",
	RCReboot: "REBOOT", RCUnbalanced: "UNBALANCED", RCCommandSize: "COMMAND_SIZE",
	RCCommandCode: "COMMAND_CODE", RCAuthSize: "AUTHSIZE", RCAuthContext: "AUTH_CONTEXT",
	RCNVRange: "NV_RANGE", RCNVSize: "NV_SIZE", RCNVLocked: "NV_LOCKED",
	RCNVAuthorization: "NV_AUTHORIZATION", RCNVUninitialized: "NV_UNINITIALIZED",
	RCNVSpace: "NV_SPACE", RCNVDefined: "NV_DEFINED", RCBadContext: "BAD_CONTEXT",
	RCCPHash: "CPHASH", RCParent: "PARENT", RCNeedsTest: "NEEDS_TEST", RCNoResult: "NO_RESULT",
	RCSensitive: "SENSITIVE", RCReadOnly: "READ_ONLY",
	RCAsymmetric: "ASYMMETRIC", RCAttributes: "ATTRIBUTES", RCHash: "HASH", RCValue: "VALUE",
	RCHierarchy: "HIERARCHY", RCKeySize: "KEY_SIZE", RCMGF: "MGF", RCMode: "MODE",
	RCType: "TYPE", RCHandle: "HANDLE", RCKDF: "KDF", RCRange: "RANGE", RCAuthFail: "AUTH_FAIL",
	RCNonce: "NONCE", RCPP: "PP", RCScheme: "SCHEME", RCSize: "SIZE", RCSymmetric: "SYMMETRIC",
	RCTag: "TAG", RCSelector: "SELECTOR", RCInsufficient: "INSUFFICIENT",
	RCSignature: "SIGNATURE", RCKey: "KEY", RCPolicyFail: "POLICY_FAIL",
	RCIntegrity: "INTEGRITY", RCTicket: "TICKET", RCReservedBits: "RESERVED_BITS",
	RCBadAuth: "BAD_AUTH", RCExpired: "EXPIRED", RCPolicyCC: "POLICY_CC",
	RCBinding: "BINDING", RCCurve: "CURVE", RCECCPoint: "ECC_POINT",
	RCContextGap: "CONTEXT_GAP", RCObjectMemory: "OBJECT_MEMORY",
	RCSessionMemory: "SESSION_MEMORY", RCMemory: "MEMORY", RCSessionHandles: "SESSION_HANDLES",
	RCObjectHandles: "OBJECT_HANDLES", RCLocality: "LOCALITY", RCYielded: "YIELDED",
	RCCanceled: "CANCELED", RCTesting: "TESTING", RCNVRate: "NV_RATE", RCLockout: "LOCKOUT",
	RCRetry: "RETRY", RCNVUnavailable: "NV_UNAVAILABLE",
}

// Error says the code in the specification's words, with its number and what
// it belongs to.
func (r RC) Error() string {
	if r >= RCReferenceH0 && r < RCReferenceH0+7 {
		return fmt.Sprintf("TPM_RC_REFERENCE_H%d (0x%x)", r-RCReferenceH0, uint32(r))
	}
	if r >= RCReferenceS0 && r < RCReferenceS0+7 {
		return fmt.Sprintf("TPM_RC_REFERENCE_S%d (0x%x)", r-RCReferenceS0, uint32(r))
	}
	name, ok := rcNames[r.Base()]
	if !ok {
		return fmt.Sprintf("TPM_RC 0x%x", uint32(r))
	}
	of := ""
	if n := r >> 8; r&rcFmt1 != 0 && n != 0 {
		switch {
		case r&rcP != 0:
			of = fmt.Sprintf(", parameter %d", n&0xF)
		case n&0x8 != 0:
			of = fmt.Sprintf(", session %d", n&0x7)
		default:
			of = fmt.Sprintf(", handle %d", n&0x7)
		}
	}
	return fmt.Sprintf("TPM_RC_%s (0x%x%s)", name, uint32(r), of)
}
