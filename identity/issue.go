package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
	"unicode/utf8"
)

// CertificateKind is what a certificate says that a key of a TPM is.
type CertificateKind int

// The kinds: an Endorsement Key by its TPM (EK Credential Profile 2.5, 3.2),
// one by the platform it is in (Platform Certificate Profile 1.1), a key that
// attests and one that identifies a device from its making on (TPM 2.0 Keys for
// Device Identity and Attestation 1.0, 8).
const (
	EKCertificate CertificateKind = iota
	PlatformCertificate
	IAKCertificate
	IDevIDCertificate
)

// Limits on what is certified.
const (
	MaxAttribute = 1024     // bytes of one attribute
	maxSerial    = 20*8 - 1 // bits of a serial number (RFC 5280, 4.1.2.2)
)

var (
	oidSDA            = asn1.ObjectIdentifier{2, 5, 29, 9}
	oidSpecification  = asn1.ObjectIdentifier{2, 23, 133, 2, 16}
	oidPlatformMaker  = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 1}
	oidPlatformModel  = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 4}
	oidPlatformVer    = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 5}
	oidPlatformCert   = asn1.ObjectIdentifier{2, 23, 133, 8, 2} // tcg-kp-PlatformAttributeCertificate
	oidHardwareModule = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 4}
	oidTPM20          = asn1.ObjectIdentifier{2, 23, 133, 1, 2} // a TPM 2.0 as hardware
)

// PlatformInfo is what a platform certificate says about the machine.
type PlatformInfo struct{ Manufacturer, Model, Version string }

// SpecInfo is the specification that a TPM follows: "2.0", its level and its
// revision times 100.
type SpecInfo struct {
	Family          string
	Level, Revision uint32
}

// CertificateRequest is what is to be certified of a key that its owner need
// not sign with: an EK cannot.
type CertificateRequest struct {
	Kind    CertificateKind
	Key     crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	Subject []byte           // a Name in DER, of ParseName; nil for none
	Serial  *big.Int         // 0 to 2^159-1

	NotBefore time.Time
	NotAfter  time.Time // or NoExpiry

	TPM       TPMInfo      // for EKs
	Spec      SpecInfo     // for EKs
	Platform  PlatformInfo // for platforms
	TPMSerial string       // for IAKs and IDevIDs

	// Sign and Decrypt are what an EK is for. One of neither decrypts.
	Sign, Decrypt bool
}

// NoExpiry is the end of a certificate that has none (RFC 5280, 4.1.2.5).
func NoExpiry() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }

// IssueCertificate makes a certificate in DER, as swtpm_cert does: the TPM's attributes are
// in the critical subject alternative name and in the subject directory
// attributes. The issuer must have a subject key identifier, its certificate be
// of signer's key, and signer's key be RSA (SHA-256), ECDSA or Ed25519.
func IssueCertificate(random io.Reader, r *CertificateRequest, issuer *x509.Certificate, signer crypto.Signer) ([]byte, error) {
	if err := r.check(issuer, signer); err != nil {
		return nil, err
	}
	san, err := r.alternativeName()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          r.Serial,
		RawSubject:            r.Subject,
		NotBefore:             r.NotBefore,
		NotAfter:              r.NotAfter,
		KeyUsage:              r.usage(),
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{san},
	}
	switch r.Kind {
	case EKCertificate:
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidEKCert}
		spec, err := r.Spec.directoryAttributes()
		if err != nil {
			return nil, err
		}
		t.ExtraExtensions = append(t.ExtraExtensions, spec)
	case PlatformCertificate:
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidPlatformCert}
	}
	if t.RawSubject == nil {
		t.RawSubject = []byte{0x30, 0}
	}
	der, err := x509.CreateCertificate(random, t, issuer, r.Key, signer)
	if err != nil {
		return nil, fmt.Errorf("the certificate cannot be signed: %w", err)
	}
	return der, nil
}

func (r *CertificateRequest) check(issuer *x509.Certificate, signer crypto.Signer) error {
	switch r.Key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
	default:
		return errors.New("the key to be certified is neither an RSA nor an elliptic key")
	}
	type equaler interface{ Equal(crypto.PublicKey) bool }
	switch k, ok := signer.Public().(equaler); {
	case r.Serial == nil || r.Serial.Sign() < 0 || r.Serial.BitLen() > maxSerial:
		return errors.New("the serial number is negative or longer than 20 bytes")
	case !ok || !k.Equal(issuer.PublicKey):
		return errors.New("the issuer's certificate is for another key than the signing key")
	case len(issuer.SubjectKeyId) == 0:
		return errors.New("the issuer's certificate has no subject key identifier, by which the certificate would name it")
	}
	return nil
}

// usage is what the key may be used for. A TPM makes RSA keys encipher, and
// elliptic ones agree.
func (r *CertificateRequest) usage() x509.KeyUsage {
	if r.Kind == IAKCertificate || r.Kind == IDevIDCertificate {
		return x509.KeyUsageDigitalSignature
	}
	var usage x509.KeyUsage
	if r.Sign {
		usage = x509.KeyUsageDigitalSignature
	}
	if r.Sign && !r.Decrypt {
		return usage
	}
	if _, elliptic := r.Key.(*ecdsa.PublicKey); elliptic {
		return usage | x509.KeyUsageKeyAgreement
	}
	return usage | x509.KeyUsageKeyEncipherment
}

// An attribute is one of a directory name.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

func utf8Attribute(id asn1.ObjectIdentifier, s string) (attribute, error) {
	if len(s) > MaxAttribute || !utf8.ValidString(s) {
		return attribute{}, fmt.Errorf("an attribute of the certificate is not UTF-8 or longer than %d bytes", MaxAttribute)
	}
	return attribute{id, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(s)}}, nil
}

// name encodes a directory name of sets of one attribute.
func name(list ...attribute) ([]byte, error) {
	var sets []asn1.RawValue
	for _, a := range list {
		der, err := asn1.MarshalWithParams([]attribute{a}, "set")
		if err != nil {
			return nil, err
		}
		sets = append(sets, asn1.RawValue{FullBytes: der})
	}
	return asn1.Marshal(sets)
}

// alternativeName is the subject alternative name: one directory name.
func (r *CertificateRequest) alternativeName() (pkix.Extension, error) {
	var ids [3]asn1.ObjectIdentifier
	var values [3]string
	switch r.Kind {
	case EKCertificate:
		ids = [3]asn1.ObjectIdentifier{oidManufacturer, oidModel, oidVersion}
		values = [3]string{r.TPM.Manufacturer, r.TPM.Model, r.TPM.Version}
	case PlatformCertificate:
		ids = [3]asn1.ObjectIdentifier{oidPlatformMaker, oidPlatformModel, oidPlatformVer}
		values = [3]string{r.Platform.Manufacturer, r.Platform.Model, r.Platform.Version}
	case IAKCertificate, IDevIDCertificate:
		return r.hardwareModule()
	default:
		return pkix.Extension{}, fmt.Errorf("there is no kind %d of certificates", r.Kind)
	}
	var list []attribute
	for i, id := range ids {
		a, err := utf8Attribute(id, values[i])
		if err != nil {
			return pkix.Extension{}, err
		}
		list = append(list, a)
	}
	return directoryName(true, list...)
}

// hardwareModule names the TPM by its serial number, as swtpm does: RFC 4108's
// hardwareModuleName stands as an attribute of a directory name.
func (r *CertificateRequest) hardwareModule() (pkix.Extension, error) {
	if r.TPMSerial == "" || len(r.TPMSerial) > MaxAttribute {
		return pkix.Extension{}, fmt.Errorf("the TPM's serial number is empty or longer than %d bytes", MaxAttribute)
	}
	module, err := asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Serial []byte
	}{oidTPM20, []byte(r.TPMSerial)})
	if err != nil {
		return pkix.Extension{}, err
	}
	return directoryName(false, attribute{oidHardwareModule, asn1.RawValue{FullBytes: module}})
}

func directoryName(critical bool, list ...attribute) (pkix.Extension, error) {
	der, err := name(list...)
	if err != nil {
		return pkix.Extension{}, err
	}
	// GeneralName's directoryName is a CHOICE, so its tag is explicit.
	value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: der}})
	return pkix.Extension{Id: oidSAN, Critical: critical, Value: value}, err
}

// directoryAttributes says which specification the TPM follows.
func (s *SpecInfo) directoryAttributes() (pkix.Extension, error) {
	if len(s.Family) > MaxAttribute || !utf8.ValidString(s.Family) {
		return pkix.Extension{}, fmt.Errorf("the specification's family is not UTF-8 or longer than %d bytes", MaxAttribute)
	}
	type specification struct {
		Family          string `asn1:"utf8"`
		Level, Revision int64
	}
	type attributes struct {
		Type   asn1.ObjectIdentifier
		Values []specification `asn1:"set"`
	}
	value, err := asn1.Marshal([]attributes{{oidSpecification,
		[]specification{{s.Family, int64(s.Level), int64(s.Revision)}}}})
	return pkix.Extension{Id: oidSDA, Value: value}, err
}

// StoredCertificate puts the header before a certificate that a PC Client
// TPM 1.2 keeps in its NV (PC Client Implementation Specification 1.21, 7.4.5):
// TCG_PCCLIENT_STORED_CERT, of a full certificate. It holds 64 KiB at most.
func StoredCertificate(cert []byte) ([]byte, error) {
	n := len(cert) + 2
	if n > 1<<16-1 {
		return nil, fmt.Errorf("a certificate of %d bytes is too long for a TPM's NV", len(cert))
	}
	return bytes.Join([][]byte{{0x10, 0x01, 0, byte(n >> 8), byte(n), 0x10, 0x02}, cert}, nil), nil
}
