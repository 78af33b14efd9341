package identity

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Provision is a key as the maker of a TPM installs it: from what it is derived,
// where it stays, and where its certificate is.
type Provision struct {
	Kind      string      // "rsa2048" or another of KeyKinds
	Hierarchy tpm2.Handle // that of the primary key
	Template  tpm2.Public
	Handle    tpm2.Handle // where it is persistent
	CertIndex tpm2.Handle // NV Index of its certificate, 0 where it has none
	// TemplateIndex is the NV Index where the template of an EK is kept that
	// is none of the EK Credential Profile's, 0 for other keys.
	TemplateIndex tpm2.Handle
}

// PlatformCertIndex is the NV Index of the platform certificate (TCG TPM v2.0
// Provisioning Guidance, Table 2).
const PlatformCertIndex tpm2.Handle = 0x01C08000

// Persistent handles (TCG TPM v2.0 Provisioning Guidance, 7.8; TPM 2.0 Keys for
// Device Identity and Attestation, 7.8), and the NV Indices of certificates there.
const (
	srkHandle    tpm2.Handle = 0x81000001
	idevidHandle tpm2.Handle = 0x81020000
	iakHandle    tpm2.Handle = 0x81020001
	iakCert      tpm2.Handle = 0x01C90100
	idevidCert   tpm2.Handle = 0x01C90200
)

// EKUse is what an endorsement key may be used for besides its policy.
type EKUse uint8

// The uses. That of the EK Credential Profile is to decrypt credentials; a TPM
// with another EK is at odds with much software.
const (
	EKDecrypts EKUse = iota
	EKSigns
	EKSignsAndDecrypts
)

// keyKind is what the keys of one algorithm and size have in common in the
// profiles of TCG.
type keyKind struct {
	name, alias string
	bits        uint16 // RSA
	curve       tpm2.ECCCurve
	size        int // of unique in bytes
	hash        tpm2.AlgID
	aes         uint16
	// low tells templates of the EK Credential Profile's low range (B.3), whose
	// unique is zeros and whose policy is PolicyA, from those of the high range
	// (B.4), with an empty unique, userWithAuth and PolicyB.
	low                bool
	ek, cert, template tpm2.Handle
}

func keyKinds() []keyKind {
	return []keyKind{
		{name: "rsa2048", bits: 2048, size: 256, hash: tpm2.AlgSHA256, aes: 128, low: true,
			ek: 0x81010001, cert: 0x01C00002, template: 0x01C00004},
		{name: "rsa3072", bits: 3072, size: 384, hash: tpm2.AlgSHA384, aes: 256,
			ek: 0x8101001C, cert: 0x01C0001C, template: 0x01C0001D},
		{name: "rsa4096", bits: 4096, size: 512, hash: tpm2.AlgSHA384, aes: 256,
			ek: 0x8101001E, cert: 0x01C0001E, template: 0x01C0001F},
		{name: "secp256r1", alias: "ecc_nist_p256", curve: tpm2.CurveP256, size: 32, hash: tpm2.AlgSHA256, aes: 128, low: true,
			ek: 0x8101000A, cert: 0x01C0000A, template: 0x01C0000B},
		{name: "secp384r1", alias: "ecc_nist_p384", curve: tpm2.CurveP384, size: 48, hash: tpm2.AlgSHA384, aes: 256,
			ek: 0x81010016, cert: 0x01C00016, template: 0x01C00017},
		{name: "secp521r1", alias: "ecc_nist_p521", curve: tpm2.CurveP521, size: 66, hash: tpm2.AlgSHA512, aes: 256,
			ek: 0x81010018, cert: 0x01C00018, template: 0x01C00019},
	}
}

// KeyKinds lists the names of kinds of keys.
func KeyKinds() (names []string) {
	for _, k := range keyKinds() {
		names = append(names, k.name)
	}
	return names
}

// findKind finds a kind by its name or, for elliptic curves, that of swtpm_setup,
// in upper or lower case.
func findKind(name string) (keyKind, error) {
	kinds := keyKinds()
	i := slices.IndexFunc(kinds, func(k keyKind) bool {
		return strings.EqualFold(name, k.name) || k.alias != "" && strings.EqualFold(name, k.alias)
	})
	if i < 0 {
		return keyKind{}, fmt.Errorf("key algorithm %s is not supported: it is one of %s", name, strings.Join(KeyKinds(), ", "))
	}
	return kinds[i], nil
}

// key is the template of a key of this kind with attributes that a TPM makes and
// keeps; unique is left empty.
func (k *keyKind) key(more tpm2.ObjectAttributes, policy []byte) tpm2.Public {
	p := tpm2.Public{
		PublicParms: tpm2.PublicParms{Type: tpm2.AlgRSA, KeyBits: k.bits,
			Symmetric: tpm2.SymDef{Alg: tpm2.AlgNull}, Scheme: tpm2.Scheme{Alg: tpm2.AlgNull}},
		NameAlg:    k.hash,
		Attributes: tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjSensitiveDataOrigin | more,
		AuthPolicy: policy,
	}
	if k.curve != tpm2.CurveNone {
		p.Type, p.Curve, p.KDF = tpm2.AlgECC, k.curve, tpm2.Scheme{Alg: tpm2.AlgNull}
	}
	return p
}

// storage makes a template one of a storage key.
func (k *keyKind) storage(p *tpm2.Public) {
	p.Symmetric = tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: k.aes, Mode: tpm2.AlgCFB}
}

// setUnique sets unique to x, and y of a point.
func setUnique(p *tpm2.Public, x, y []byte) {
	if p.Type == tpm2.AlgECC {
		p.Point = tpm2.ECCPoint{X: x, Y: y}
		return
	}
	p.Unique = x
}

// EK is an endorsement key of a kind (EK Credential Profile 2.0, B.3 and B.4).
func EK(kind string, use EKUse) (Provision, error) {
	k, err := findKind(kind)
	if err != nil {
		return Provision{}, err
	}
	attributes := tpm2.ObjAdminWithPolicy
	if !k.low {
		attributes |= tpm2.ObjUserWithAuth
	}
	made := Provision{Kind: k.name, Hierarchy: tpm2.RHEndorsement, Handle: k.ek, CertIndex: k.cert, TemplateIndex: k.template}
	switch use {
	case EKSigns:
		attributes |= tpm2.ObjSign
	case EKSignsAndDecrypts:
		attributes |= tpm2.ObjSign | tpm2.ObjDecrypt
	default:
		attributes |= tpm2.ObjRestricted | tpm2.ObjDecrypt
		made.TemplateIndex = 0
	}
	made.Template = k.key(attributes, ekPolicy(k.low, k.hash))
	if use == EKDecrypts {
		k.storage(&made.Template)
	}
	if k.low {
		zeros := make([]byte, k.size)
		setUnique(&made.Template, zeros, zeros)
	}
	return made, nil
}

// SRK is a storage root key of a kind (TCG TPM v2.0 Provisioning Guidance, 7.5.1).
func SRK(kind string) (Provision, error) {
	k, err := findKind(kind)
	if err != nil {
		return Provision{}, err
	}
	made := Provision{Kind: k.name, Hierarchy: tpm2.RHOwner, Handle: srkHandle,
		Template: k.key(tpm2.ObjUserWithAuth|tpm2.ObjNoDA|tpm2.ObjRestricted|tpm2.ObjDecrypt, nil)}
	k.storage(&made.Template)
	zeros := make([]byte, k.size)
	setUnique(&made.Template, zeros, zeros)
	return made, nil
}

// IAK is an initial attestation key of a kind (TPM 2.0 Keys for Device Identity
// and Attestation, 7.3.4).
func IAK(kind string) (Provision, error) {
	return device(kind, "IAK", iakHandle, iakCert, tpm2.ObjRestricted, iakPolicies)
}

// IDevID is an initial device identity of a kind (the same, 7.3.4).
func IDevID(kind string) (Provision, error) {
	return device(kind, "IDEVID", idevidHandle, idevidCert, 0, idevidPolicies)
}

func device(kind, unique string, handle, cert tpm2.Handle, more tpm2.ObjectAttributes, policies string) (Provision, error) {
	k, err := findKind(kind)
	if err != nil {
		return Provision{}, err
	}
	made := Provision{Kind: k.name, Hierarchy: tpm2.RHEndorsement, Handle: handle, CertIndex: cert,
		Template: k.key(tpm2.ObjUserWithAuth|tpm2.ObjAdminWithPolicy|tpm2.ObjSign|more, published(policies, k.hash))}
	switch {
	case k.curve != tpm2.CurveNone:
		made.Template.Scheme = tpm2.Scheme{Alg: tpm2.AlgECDSA, Hash: k.hash}
	case more&tpm2.ObjRestricted != 0: // only a restricted key must have a scheme
		made.Template.Scheme = tpm2.Scheme{Alg: tpm2.AlgRSAPSS, Hash: k.hash}
	}
	setUnique(&made.Template, []byte(unique), nil)
	return made, nil
}

// ekPolicy computes PolicyA of the EK Credential Profile (B.6.2), which asks for
// the endorsement hierarchy's authorization, or PolicyB (B.6.5), which takes that
// or what the NV Index of PolicyC says.
func ekPolicy(low bool, hash tpm2.AlgID) tpm2.Digest {
	extend := func(cc tpm2.CC, arg []byte) []byte {
		return hash.Digest(make([]byte, hash.DigestSize()), tpm2.Marshal(&cc), arg)
	}
	endorsement := tpm2.RHEndorsement
	a := hash.Digest(extend(tpm2.CCPolicySecret, tpm2.Marshal(&endorsement))) // with an empty policyRef
	if low {
		return a
	}
	index := tpm2.NVPublic{Index: policyIndex, NameAlg: hash, Attributes: policyIndexAttributes, AuthPolicy: a,
		DataSize: uint16(2 + hash.DigestSize())}
	switch hash {
	case tpm2.AlgSHA384:
		index.Index++
	case tpm2.AlgSHA512:
		index.Index += 2
	}
	return extend(tpm2.CCPolicyOR, append(slices.Clone(a), extend(tpm2.CCPolicyAuthorizeNV, index.Name())...))
}

// The NV Index of PolicyC for SHA-256 (EK Credential Profile 2.0, B.6.3); those
// for SHA-384 and SHA-512 follow it.
const (
	policyIndex           tpm2.Handle = 0x01C07F01
	policyIndexAttributes             = tpm2.NVAttributes(0x220F1008)
)

// Policies for SHA-256, SHA-384 and SHA-512, as TCG publishes them (TPM 2.0 Keys
// for Device Identity and Attestation, 7.3.4.3).
const (
	iakPolicies = "5437182326e414fca797d5f174615a1641f61255797c3a2b22c21d120b2d1e07" +
		"129d94ebf84556652c6eef43bbb757512ac87e52be7b349ca6ce4d826f749fcf672f51716c5cbb605f313bf345aab312" +
		"8060d1fb31716a29e48a6e5fece088bcfc1b278fc162255e81c3eca3544cd44af94410c3715d561cccd9e39a6cb2646d" +
		"43535bb54ea88710deb5f7836bd9b586"
	idevidPolicies = "ad6b3a2284fd698a0710bf5cc1b9bdf15e2532e3f601fa4b93a6a8fa8de579ea" +
		"4db1aa836d0b5615df6ee53a40ef70c61c217f4303d44695925972bc927006cfa5cbdf6dc18c4dbe329b2f1542c3dd33" +
		"7dd7500fd6c1b94f97a6af910da147301ef28f662fee06f225a4ccadda3b4e6b38e66b2f3ad5dee1a0503cd2daedb1e6" +
		"8cfe4f84b03a8cd22bb6a976f071a72f"
)

// published cuts the policy for a hash algorithm out of the list.
func published(policies string, hash tpm2.AlgID) tpm2.Digest {
	b, err := hex.DecodeString(policies)
	if err != nil {
		panic(err) // a constant
	}
	switch hash {
	case tpm2.AlgSHA256:
		return b[:32]
	case tpm2.AlgSHA384:
		return b[32:80]
	}
	return b[80:144]
}
