package sevsnp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
)

// Sizes of an ATTESTATION_REPORT (AMD 56860, table 23).
const (
	ReportSize    = 0x4a0
	signedSize    = 0x2a0
	minVersion    = 2
	maxVersion    = 5
	algP384       = 1  // ECDSA P-384 with SHA-384, the one algorithm (chapter 10)
	componentSize = 72 // of a signature's R and S, little endian
)

// TCB is a TCB_VERSION as it stands in the report (table 3). Which byte is what
// depends on the product line.
type TCB [8]byte

// Report is an ATTESTATION_REPORT, decoded. Fields that a version lacks are zero.
type Report struct {
	Version, GuestSVN                                uint32
	Policy                                           Policy
	FamilyID, ImageID                                [16]byte
	VMPL, SignatureAlg                               uint32
	CurrentTCB, ReportedTCB, CommittedTCB, LaunchTCB TCB
	PlatformInfo                                     uint64
	KeyInfo                                          uint32
	ReportData                                       [64]byte
	Measurement, IDKeyDigest, AuthorKeyDigest        [48]byte
	HostData, ReportID, ReportIDMA                   [32]byte
	Family, Model, Stepping                          uint8 // from version 3
	ChipID                                           [64]byte
	Current, Committed                               [3]uint8 // build, minor, major
	LaunchMitigations, CurrentMitigations            uint64   // from version 5
	signed                                           []byte
	r, s                                             *big.Int
}

// Policy is a guest's policy (table 10).
type Policy uint64

// Bits of a Policy.
const (
	PolicySMT              Policy = 1 << 16 // threads may share a core
	policyOne              Policy = 1 << 17 // always set
	PolicyMigrationAgent   Policy = 1 << 18 // a migration agent may be associated
	PolicyDebug            Policy = 1 << 19 // the host may decrypt the guest
	PolicySingleSocket     Policy = 1 << 20
	PolicyCXL              Policy = 1 << 21 // CXL devices may hold its memory
	PolicyAES256XTS        Policy = 1 << 22 // demanded of memory encryption
	PolicyRAPLDisabled     Policy = 1 << 23 // demanded of the platform
	PolicyCiphertextHiding Policy = 1 << 24 // demanded of the platform
	PolicyPageSwapDisabled Policy = 1 << 25
	policyKnown                   = 1<<26 - 1
)

// Bits of PLATFORM_INFO.
const (
	platformSMT              = 1 << 0
	platformTSME             = 1 << 1
	platformECC              = 1 << 2
	platformRAPLDisabled     = 1 << 3
	platformCiphertextHiding = 1 << 4
	platformAliasCheck       = 1 << 5
	platformTIO              = 1 << 7
)

// Bits of KEY_INFO.
const (
	keyAuthor   = 1 << 0 // the author key's digest is in the report
	keyMasked   = 1 << 1 // the platform does not sign with the VCEK
	keySignerAt = 2      // three bits: who signed
)

// Who signed, in KEY_INFO.
const (
	signerVCEK = 0
	signerVLEK = 1
	signerNone = 7
)

func (r *Report) signer() uint32 { return r.KeyInfo >> keySignerAt & 7 }

// ParseReport decodes a report of ReportSize bytes. It refuses versions that are
// not known and a signature that is not of its form: what surrounds R and S is
// covered by nothing, and must be zero.
func ParseReport(b []byte) (*Report, error) {
	if len(b) != ReportSize {
		return nil, fmt.Errorf("the report has %d bytes: an SEV-SNP attestation report has %d", len(b), ReportSize)
	}
	le := binary.LittleEndian
	r := &Report{Version: le.Uint32(b), GuestSVN: le.Uint32(b[4:]), Policy: Policy(le.Uint64(b[8:])),
		VMPL: le.Uint32(b[0x30:]), SignatureAlg: le.Uint32(b[0x34:]), PlatformInfo: le.Uint64(b[0x40:]),
		KeyInfo: le.Uint32(b[0x48:]), Current: [3]byte(b[0x1e8:]), Committed: [3]byte(b[0x1ec:]), signed: b[:signedSize]}
	if r.Version < minVersion || r.Version > maxVersion {
		return nil, fmt.Errorf("the report is of version %d: versions %d to %d are known here", r.Version, minVersion, maxVersion)
	}
	for at, field := range map[int][]byte{0x10: r.FamilyID[:], 0x20: r.ImageID[:], 0x38: r.CurrentTCB[:],
		0x50: r.ReportData[:], 0x90: r.Measurement[:], 0xc0: r.HostData[:], 0xe0: r.IDKeyDigest[:], 0x110: r.AuthorKeyDigest[:],
		0x140: r.ReportID[:], 0x160: r.ReportIDMA[:], 0x180: r.ReportedTCB[:], 0x1a0: r.ChipID[:], 0x1e0: r.CommittedTCB[:],
		0x1f0: r.LaunchTCB[:]} {
		copy(field, b[at:])
	}
	if r.Version >= 3 {
		r.Family, r.Model, r.Stepping = b[0x188], b[0x189], b[0x18a]
	}
	if r.Version >= 5 {
		r.LaunchMitigations, r.CurrentMitigations = le.Uint64(b[0x1f8:]), le.Uint64(b[0x200:])
	}
	if r.Policy&policyOne == 0 || r.VMPL > 3 && r.VMPL != 0xffffffff {
		return nil, errors.New("the report is not what an AMD Secure Processor signs: bit 17 of its policy is 0, or its VMPL is above 3")
	}
	return r, r.signature(b[signedSize:])
}

// signature decodes what follows the signed part.
func (r *Report) signature(b []byte) error {
	var ok [3]bool
	r.r, ok[0] = littleEndian(b[:componentSize])
	r.s, ok[1] = littleEndian(b[componentSize : 2*componentSize])
	_, ok[2] = littleEndian(b[2*componentSize:])
	if !ok[0] || !ok[1] || !zero(b[2*componentSize:]) {
		return errors.New("the report's signature is not of its form: what follows its numbers is not zero")
	}
	return nil
}

// littleEndian gives a number of at most 48 bytes.
func littleEndian(b []byte) (*big.Int, bool) {
	be := bytes.Clone(b)
	for i, j := 0, len(be)-1; i < j; i, j = i+1, j-1 {
		be[i], be[j] = be[j], be[i]
	}
	n := new(big.Int).SetBytes(be)
	return n, n.BitLen() <= 384
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// verify checks the signature.
func (r *Report) verify(key *ecdsa.PublicKey) bool {
	digest := sha512.Sum384(r.signed)
	return ecdsa.Verify(key, digest[:], r.r, r.s)
}
