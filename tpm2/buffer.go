package tpm2

// The TPM2B types of bytes, each with its limit in bytes (Part 2, 10.4, 10.5,
// 11.1 to 11.4, 12.3 and 14).
type (
	// Digest is a TPM2B_DIGEST, TPM2B_NONCE, TPM2B_AUTH or TPM2B_OPERAND: at
	// most 64 bytes.
	Digest []byte
	// Data is a TPM2B_DATA: at most 66 bytes, a TPMT_HA.
	Data []byte
	// Name is a TPM2B_NAME: a nameAlg and its digest, or a handle; at most 68
	// bytes, a TPMU_NAME as C aligns it.
	Name []byte
	// MaxBuffer is a TPM2B_MAX_BUFFER, TPM2B_MAX_NV_BUFFER or TPM2B_EVENT: at
	// most 1,024 bytes.
	MaxBuffer []byte
	// IV is a TPM2B_IV: at most 16 bytes.
	IV []byte
	// Timeout is a TPM2B_TIMEOUT: at most 8 bytes.
	Timeout []byte
	// RSAPublicKey is a TPM2B_PUBLIC_KEY_RSA: at most a modulus.
	RSAPublicKey []byte
	// ECCParameter is a TPM2B_ECC_PARAMETER: at most 80 bytes (BN P-638).
	ECCParameter []byte
	// SensitiveData is a TPM2B_SENSITIVE_DATA: at most 128 bytes.
	SensitiveData []byte
	// EncryptedSecret is a TPM2B_ENCRYPTED_SECRET: at most a modulus or a
	// TPMS_ECC_POINT.
	EncryptedSecret []byte
	// IDObject is a TPM2B_ID_OBJECT: at most 132 bytes.
	IDObject []byte
	// Private is a TPM2B_PRIVATE: at most Implementation.MaxPrivate bytes.
	Private []byte
	// ContextData is a TPM2B_CONTEXT_DATA: at most 5,120 bytes.
	ContextData []byte
)

// Limits of the TPM2B types, in bytes.
const (
	maxData            = 2 + MaxDigestSize
	maxName            = maxData + 2
	maxIV              = 16
	maxTimeout         = 8
	maxECCParameter    = 80
	maxIDObject        = 2 + MaxDigestSize + 2 + MaxDigestSize
	maxContextData     = 5120
	maxDigestList      = 8   // TPML_DIGEST
	maxDigestValues    = 16  // TPML_DIGEST_VALUES as a verifier reads it
	maxCCList          = 254 // TPML_CC: MAX_CAP_CC
	maxAlgList         = 64  // TPML_ALG
	maxCapabilityList  = 254 // handles, properties: what fits MaxCapBufferSize
	minPCRSelect       = 3   // bytes of a PCR bitmap
	maxPCRSelectStored = 4
)

// Walk visits the bytes.
func (b *Digest) Walk(c *Codec) { c.Buffer((*[]byte)(b), MaxDigestSize) }

// Walk visits the bytes.
func (b *Data) Walk(c *Codec) { c.Buffer((*[]byte)(b), maxData) }

// Walk visits the bytes.
func (b *Name) Walk(c *Codec) { c.Buffer((*[]byte)(b), maxName) }

// Walk visits the bytes.
func (b *MaxBuffer) Walk(c *Codec) { c.Buffer((*[]byte)(b), MaxBufferSize) }

// Walk visits the bytes.
func (b *IV) Walk(c *Codec) { c.Buffer((*[]byte)(b), maxIV) }

// Walk visits the bytes.
func (b *Timeout) Walk(c *Codec) { c.Buffer((*[]byte)(b), maxTimeout) }

// Walk visits the bytes.
func (b *RSAPublicKey) Walk(c *Codec) { c.Buffer((*[]byte)(b), c.Accepts().MaxRSABytes) }

// Walk visits the bytes.
func (b *ECCParameter) Walk(c *Codec) { c.Buffer((*[]byte)(b), maxECCParameter) }

// Walk visits the bytes.
func (b *SensitiveData) Walk(c *Codec) { c.Buffer((*[]byte)(b), MaxSymDataSize) }

// Walk visits the bytes.
func (b *EncryptedSecret) Walk(c *Codec) { c.Buffer((*[]byte)(b), c.Accepts().MaxRSABytes) }

// Walk visits the bytes.
func (b *IDObject) Walk(c *Codec) { c.Buffer((*[]byte)(b), maxIDObject) }

// Walk visits the bytes.
func (b *Private) Walk(c *Codec) { c.Buffer((*[]byte)(b), c.Accepts().MaxPrivate()) }

// Walk visits the bytes.
func (b *ContextData) Walk(c *Codec) { c.Buffer((*[]byte)(b), maxContextData) }

// DigestList is a TPML_DIGEST: at most 8 digests (Part 2, 10.9.4).
type DigestList []Digest

// Walk visits the digests.
func (l *DigestList) Walk(c *Codec) { List[Digest](c, (*[]Digest)(l), maxDigestList) }

// PolicyBranches is the TPML_DIGEST of PolicyOR: 2 to 8 digests.
type PolicyBranches []Digest

// Walk visits the digests; fewer than two are RCSize.
func (l *PolicyBranches) Walk(c *Codec) { ListRange[Digest](c, (*[]Digest)(l), 2, maxDigestList) }

// HandleList is a TPML_HANDLE (Part 2, 10.9.3).
type HandleList []Handle

// Walk visits the handles.
func (l *HandleList) Walk(c *Codec) { List[Handle](c, (*[]Handle)(l), maxCapabilityList) }

// CCList is a TPML_CC (Part 2, 10.9.1).
type CCList []CC

// Walk visits the command codes.
func (l *CCList) Walk(c *Codec) { List[CC](c, (*[]CC)(l), maxCCList) }

// CCAttributesList is a TPML_CCA (Part 2, 10.9.2).
type CCAttributesList []CCAttributes

// Walk visits the attributes.
func (l *CCAttributesList) Walk(c *Codec) {
	List[CCAttributes](c, (*[]CCAttributes)(l), maxCCList)
}

// Walk visits an algorithm identifier, any of them.
func (a *AlgID) Walk(c *Codec) { c.U16((*uint16)(a)) }

// AlgList is a TPML_ALG (Part 2, 10.9.3).
type AlgList []AlgID

// Walk visits the identifiers.
func (l *AlgList) Walk(c *Codec) { List[AlgID](c, (*[]AlgID)(l), maxAlgList) }

// UINT16, UINT32, UINT64 and YesNo are parameters of the basic types.
type (
	// UINT16 is a parameter of two bytes.
	UINT16 uint16
	// UINT32 is a parameter of four bytes.
	UINT32 uint32
	// UINT64 is a parameter of eight bytes.
	UINT64 uint64
	// YesNo is a TPMI_YES_NO.
	YesNo bool
)

// Walk visits the value.
func (v *UINT16) Walk(c *Codec) { c.U16((*uint16)(v)) }

// Walk visits the value.
func (v *UINT32) Walk(c *Codec) { c.U32((*uint32)(v)) }

// Walk visits the value.
func (v *UINT64) Walk(c *Codec) { c.U64((*uint64)(v)) }

// Walk visits the value; neither 0 nor 1 is RCValue.
func (v *YesNo) Walk(c *Codec) { c.Bool((*bool)(v)) }
