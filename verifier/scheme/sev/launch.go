package sev

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Policy is a guest's policy (AMD 55766, chapter 3): flags, then the least
// version of the firmware.
type Policy uint32

// Flags of a Policy.
const (
	PolicyNoDebug      Policy = 1 << 0 // the host cannot decrypt the guest
	PolicyNoKeySharing Policy = 1 << 1
	PolicyES           Policy = 1 << 2 // SEV-ES is demanded
	PolicyNoSend       Policy = 1 << 3 // it cannot go to another platform
	PolicyDomain       Policy = 1 << 4 // only within its owner's domain
	PolicySEV          Policy = 1 << 5 // only to a platform that can SEV
)

// Firmware is what the platform's firmware says of itself with a measurement.
type Firmware struct{ Major, Minor, Build uint8 }

// Sizes.
const (
	keySize    = 16 // of TEK and TIK
	nonceSize  = 16
	digestSize = sha256.Size
)

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func le32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// measurement is what LAUNCH_MEASURE answers for a launch digest (section 6.5.1).
func measurement(tik []byte, f Firmware, p Policy, digest, nonce []byte) []byte {
	return mac(tik, []byte{4, f.Major, f.Minor, f.Build}, le32(uint32(p)), digest, nonce)
}

// derive is the KDF of SP 800-108 in counter mode as section 2.2.2 has it; at
// most one block.
func derive(key []byte, label string, context []byte) []byte {
	return mac(key, le32(1), []byte(label), []byte{0}, context, le32(keySize*8))[:keySize]
}

// Session is what the owner of a guest keeps of its launch. Its keys are secret.
type Session struct {
	TEK, TIK []byte // 16 bytes each
	Policy   Policy
}

// Launch is what the host is given to launch the guest: the owner's certificate
// and the sealed keys (sections 6.2.1 and 2.2.1).
type Launch struct {
	// Certificate is the owner's Diffie-Hellman key, as a certificate that nobody
	// signed ("godh"), 2,084 bytes.
	Certificate []byte
	// Blob is nonce, wrapped keys, IV and two MACs: 128 bytes ("session").
	Blob []byte
}

// NewSession makes keys for a launch and seals them for the platform of a chain
// that Build has verified.
func NewSession(c *Chain, p Policy) (*Session, *Launch, error) {
	peer, err := c.PDH.ecdhKey()
	if err != nil {
		return nil, nil, err
	}
	own, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	z, err := own.ECDH(peer)
	if err != nil {
		return nil, nil, err
	}
	random := make([]byte, 2*keySize+2*nonceSize)
	if _, err := rand.Read(random); err != nil {
		return nil, nil, err
	}
	s := &Session{TEK: random[:keySize], TIK: random[keySize : 2*keySize], Policy: p}
	blob, err := s.seal(z, random[2*keySize:2*keySize+nonceSize], random[2*keySize+nonceSize:])
	if err != nil {
		return nil, nil, err
	}
	clear(z)
	return s, &Launch{Certificate: ownerCertificate(own.PublicKey()), Blob: blob}, nil
}

// seal wraps the keys under what z gives.
func (s *Session) seal(z, nonce, iv []byte) ([]byte, error) {
	master := derive(z, "sev-master-secret", nonce)
	kek, kik := derive(master, "sev-kek", nil), derive(master, "sev-kik", nil)
	wrapped, err := ctr(kek, iv, append(slices.Clone(s.TEK), s.TIK...))
	if err != nil {
		return nil, err
	}
	return slices.Concat(nonce, wrapped, iv, mac(kik, wrapped), mac(s.TIK, le32(uint32(s.Policy)))), nil
}

func ctr(key, iv, b []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(b))
	cipher.NewCTR(block, iv).XORKeyStream(out, b)
	return out, nil
}

// ownerCertificate writes a key as the firmware takes it.
func ownerCertificate(k *ecdh.PublicKey) []byte {
	b := make([]byte, certSize)
	le := binary.LittleEndian
	le.PutUint32(b, 1)
	le.PutUint32(b[8:], uint32(PDH))
	le.PutUint32(b[12:], algECDH)
	le.PutUint32(b[keyAt:], curveP384)
	for i, at := range []int{keyAt + 4, keyAt + 4 + component} {
		c := slices.Clone(k.Bytes()[1+48*i : 49+48*i])
		slices.Reverse(c)
		copy(b[at:], c)
	}
	for _, at := range []int{bodySize, bodySize + 8 + sigSize} {
		le.PutUint32(b[at:], uint32(none))
	}
	return b
}

// maxSecret bounds a secret: what a page for it holds.
const maxSecret = 16 << 10

// Secret makes the packet that puts a secret into the guest (section 6.6): header
// (flags, IV, MAC: 52 bytes) and ciphertext. measure is the launch measurement,
// 32 bytes, that was found good: the packet is good for that launch alone.
func (s *Session) Secret(measure, secret []byte) (header, ciphertext []byte, err error) {
	if len(measure) != digestSize || len(secret) == 0 || len(secret) > maxSecret {
		return nil, nil, fmt.Errorf("a measurement of %d bytes and a secret of up to %d are needed", digestSize, maxSecret)
	}
	iv := make([]byte, nonceSize)
	if _, err := rand.Read(iv); err != nil {
		return nil, nil, err
	}
	if ciphertext, err = ctr(s.TEK, iv, secret); err != nil {
		return nil, nil, err
	}
	flags, size := le32(0), le32(uint32(len(secret)))
	return slices.Concat(flags, iv, mac(s.TIK, []byte{1}, flags, iv, size, size, ciphertext, measure)), ciphertext, nil
}

// report is what ATTESTATION answers (section 6.8.1).
type report struct {
	nonce, digest []byte
	policy        Policy
	signed        []byte
	sig           signature
}

// The layout of a report.
const (
	reportSize   = 0xd0
	reportSigned = 0x34
)

func parseReport(b []byte) (*report, error) {
	le := binary.LittleEndian
	if len(b) != reportSize {
		return nil, fmt.Errorf("the attestation report has %d bytes, not %d", len(b), reportSize)
	}
	r := &report{nonce: b[:16], digest: b[16:48], policy: Policy(le.Uint32(b[48:])), signed: b[:reportSigned],
		sig: signature{usage: Usage(le.Uint32(b[0x34:])), algo: le.Uint32(b[0x38:]), sig: b[0x40:]}}
	if r.sig.usage != PEK || r.sig.algo&^algSHA384 != algECDSA || !zero(b[0x3c:0x40]) {
		return nil, errors.New("the attestation report is not signed with ECDSA by a PEK")
	}
	return r, nil
}
