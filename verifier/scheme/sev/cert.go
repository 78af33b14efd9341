package sev

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // for the signatures
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Usage says what a key is for (AMD 55766, appendix C.1).
type Usage uint32

// The usages.
const (
	ARK  Usage = 0
	ASK  Usage = 0x13
	none Usage = 0x1000
	OCA  Usage = 0x1001
	PEK  Usage = 0x1002
	PDH  Usage = 0x1003
	CEK  Usage = 0x1004
)

// String names a usage.
func (u Usage) String() string {
	if s, ok := map[Usage]string{ARK: "ARK", ASK: "ASK", OCA: "OCA", PEK: "PEK", PDH: "PDH", CEK: "CEK"}[u]; ok {
		return s
	}
	return fmt.Sprintf("usage 0x%x", uint32(u))
}

// Algorithms of keys and signatures (appendix C.2): what, and with which digest.
const (
	algRSA    = 1
	algECDSA  = 2
	algECDH   = 3
	algSHA384 = 0x100 // added, for SHA-384 in place of SHA-256
)

// The layout of a platform's certificate (appendix C.3), and of an ECDSA
// signature in it: two numbers of 72 bytes, little endian.
const (
	certSize  = 2084
	keyAt     = 16
	bodySize  = keyAt + 1028
	sigSize   = 512
	component = 72
	curveP384 = 2
)

// The layout of AMD's own certificates, ASK and ARK (appendix B.1).
const (
	caKeyAt = 64
	maxCA   = caKeyAt + 3*512
)

// Certificate is one in AMD's own format: of a platform, or AMD's.
type Certificate struct {
	Usage Usage
	// Key is an *ecdsa.PublicKey or *rsa.PublicKey.
	Key crypto.PublicKey
	// Firmware is the version of the SEV API that made it; zero for AMD's.
	Major, Minor uint8

	raw    []byte
	body   []byte // what signatures cover
	id     [16]byte
	issuer [16]byte // of AMD's: who certified it
	algo   uint32
	sigs   []signature
}

type signature struct {
	usage Usage
	algo  uint32
	sig   []byte
}

// ParseCertificate decodes the certificate that b begins with, and gives the rest.
func ParseCertificate(b []byte) (c *Certificate, rest []byte, err error) {
	if len(b) < caKeyAt || binary.LittleEndian.Uint32(b) != 1 {
		return nil, nil, errors.New("it is no certificate of SEV's: version 1 is expected, and at least 64 bytes")
	}
	switch u := Usage(binary.LittleEndian.Uint32(b[8:])); u {
	case OCA, PEK, PDH, CEK:
		if len(b) < certSize {
			return nil, nil, fmt.Errorf("the certificate of the %s is cut: it has %d bytes, not %d", u, len(b), certSize)
		}
		c, err = parsePlatform(b[:certSize], u)
		return c, b[certSize:], err
	}
	return parseCA(b)
}

func parsePlatform(b []byte, u Usage) (*Certificate, error) {
	le := binary.LittleEndian
	c := &Certificate{Usage: u, Major: b[4], Minor: b[5], raw: b, body: b[:bodySize], algo: le.Uint32(b[12:])}
	var err error
	switch key := b[keyAt:bodySize]; c.algo &^ algSHA384 {
	case algECDSA, algECDH:
		c.Key, err = ecKey(key)
	case algRSA:
		c.Key, err = rsaKey(key[4:516], key[516:], le.Uint32(key))
	default:
		err = fmt.Errorf("its key's algorithm 0x%x is not known", c.algo)
	}
	if err != nil {
		return nil, fmt.Errorf("the certificate of the %s is not of its form: %w", u, err)
	}
	for at := bodySize; at < certSize; at += 8 + sigSize {
		s := signature{usage: Usage(le.Uint32(b[at:])), algo: le.Uint32(b[at+4:]), sig: b[at+8 : at+8+sigSize]}
		if s.usage == none || s.algo == 0 {
			if s.usage != none || s.algo != 0 || !zero(s.sig) {
				return nil, fmt.Errorf("the certificate of the %s has a signature that it does not name", u)
			}
			continue
		}
		c.sigs = append(c.sigs, s)
	}
	return c, nil
}

// ecKey decodes a point on P-384, the one curve that platforms use.
func ecKey(b []byte) (*ecdsa.PublicKey, error) {
	if binary.LittleEndian.Uint32(b) != curveP384 || !zero(b[4+2*component:]) {
		return nil, errors.New("its key is not on P-384, or something follows it")
	}
	x, y := number(b[4:4+component]), number(b[4+component:4+2*component])
	if x.BitLen() > 384 || y.BitLen() > 384 {
		return nil, errors.New("its key is no point on P-384")
	}
	point := append([]byte{4}, x.FillBytes(make([]byte, 48))...)
	point = append(point, y.FillBytes(make([]byte, 48))...)
	k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
	if err != nil {
		return nil, errors.New("its key is no point on P-384")
	}
	return k, nil
}

func rsaKey(exponent, modulus []byte, bits uint32) (*rsa.PublicKey, error) {
	n, e := number(modulus), number(exponent)
	if bits != 2048 && bits != 4096 || n.BitLen() != int(bits) || e.BitLen() > 31 || e.Cmp(big.NewInt(65537)) < 0 {
		return nil, errors.New("its RSA key is none of 2,048 or 4,096 bits")
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

func parseCA(b []byte) (*Certificate, []byte, error) {
	le := binary.LittleEndian
	c := &Certificate{Usage: Usage(le.Uint32(b[36:])), id: [16]byte(b[4:]), issuer: [16]byte(b[20:])}
	bits := le.Uint32(b[60:])
	size := int(bits / 8)
	if c.Usage != ARK && c.Usage != ASK || le.Uint32(b[56:]) != bits || bits != 2048 && bits != 4096 || !zero(b[40:56]) {
		return nil, nil, errors.New("it is no certificate of SEV's: it is of no usage that is known")
	}
	if len(b) < caKeyAt+3*size {
		return nil, nil, fmt.Errorf("the certificate of the %s is cut", c.Usage)
	}
	var err error
	if c.Key, err = rsaKey(b[caKeyAt:caKeyAt+size], b[caKeyAt+size:caKeyAt+2*size], bits); err != nil {
		return nil, nil, fmt.Errorf("the certificate of the %s is not of its form: %w", c.Usage, err)
	}
	c.algo = algRSA
	if bits == 4096 {
		c.algo |= algSHA384
	}
	c.raw, c.body = b[:caKeyAt+3*size], b[:caKeyAt+2*size]
	c.sigs = []signature{{usage: ARK, algo: c.algo, sig: b[caKeyAt+2*size : caKeyAt+3*size]}}
	return c, b[caKeyAt+3*size:], nil
}

// number reads a number, little endian.
func number(b []byte) *big.Int {
	be := bytes.Clone(b)
	slices.Reverse(be)
	return new(big.Int).SetBytes(be)
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// verify checks a signature over a message.
func (c *Certificate) verify(msg []byte, s signature) error {
	h := crypto.SHA256
	if s.algo&algSHA384 != 0 {
		h = crypto.SHA384
	}
	d := h.New()
	d.Write(msg)
	digest := d.Sum(nil)
	switch k := c.Key.(type) {
	case *rsa.PublicKey:
		n := k.Size()
		if s.algo&^algSHA384 != algRSA || len(s.sig) < n || !zero(s.sig[n:]) {
			break
		}
		be := bytes.Clone(s.sig[:n])
		slices.Reverse(be)
		return rsa.VerifyPSS(k, h, digest, be, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	case *ecdsa.PublicKey:
		if s.algo&^algSHA384 != algECDSA || !zero(s.sig[2*component:]) {
			break
		}
		if ecdsa.Verify(k, digest, number(s.sig[:component]), number(s.sig[component:2*component])) {
			return nil
		}
	}
	return errors.New("the signature does not hold")
}

// certifies tells whether c has signed another certificate.
func (c *Certificate) certifies(o *Certificate) bool {
	for _, s := range o.sigs {
		if s.usage == c.Usage && c.verify(o.body, s) == nil {
			return true
		}
	}
	return false
}

// ecdhKey is the key of a PDH for an agreement.
func (c *Certificate) ecdhKey() (*ecdh.PublicKey, error) {
	k, ok := c.Key.(*ecdsa.PublicKey)
	if !ok || c.Usage != PDH {
		return nil, errors.New("it is no PDH: its key agrees on nothing")
	}
	return k.ECDH()
}

// roots are AMD's ARKs by the SHA-256 of what their signature covers: that of the
// Naples' ARK is missing in the copy that AMD hands out.
var roots = map[string]string{
	"8efddcaaf84990cf6354d93637be270220cf15797332b3d918c3b8cc77349f31": "Naples",
	"ae2456af6c6ad234badd6c75e58915be61568286766083853bf668e6e23977c3": "Rome",
	"263b13fd3170c6ffbb0b4f01f09848dc08a8dc1e9637d47e42cbe6c135e4af12": "Milan",
	"973df6265e1b40cf8883305c1f6a6cd254979446acb40bd396946b2f19e751e9": "Genoa",
	"89327696f8082b20f5a588565adc26d478e1c6d56153c1de656e63396b8f8e20": "Turin",
}

// rootOf names the product line of an ARK of AMD's, empty if it is none.
func rootOf(c *Certificate) string {
	sum := sha256.Sum256(c.body)
	return roots[hex.EncodeToString(sum[:])]
}
