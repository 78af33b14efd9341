package identity

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limits on certificates.
const (
	MaxCertificate  = 16 << 10 // bytes of one in DER
	MaxCertificates = 512      // in one file
	maxPath         = 8        // length of a path that is followed
)

var (
	oidSAN          = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidEKCert       = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	oidAKCert       = asn1.ObjectIdentifier{2, 23, 133, 8, 3} // tcg-kp-AIKCertificate
	oidManufacturer = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidModel        = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidVersion      = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
)

// TPMInfo is what an EK certificate says about its TPM (EK Credential Profile,
// 3.1.2): "id:" and the vendor's four letters in hexadecimal, part number,
// firmware version.
type TPMInfo struct{ Manufacturer, Model, Version string }

// ParseCertificates reads certificates: one in DER, or any number in PEM.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	if !bytes.Contains(b, []byte("-----BEGIN")) {
		c, err := parseCertificate(b)
		if err != nil {
			return nil, err
		}
		return []*x509.Certificate{c}, nil
	}
	var list []*x509.Certificate
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		b = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := parseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if list = append(list, c); len(list) > MaxCertificates {
			return nil, fmt.Errorf("more than %d certificates in one file", MaxCertificates)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("there is no certificate in the file")
	}
	return list, nil
}

// parseCertificate takes one certificate. An EK certificate read from NV may
// have filler after it, which the length in the DER tells apart.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, fmt.Errorf("a certificate of %d bytes: at most %d are read", len(der), MaxCertificate)
	}
	var whole asn1.RawValue
	rest, err := asn1.Unmarshal(der, &whole)
	if err != nil || len(bytes.Trim(rest, "\x00\xff")) != 0 {
		return nil, errors.New("not a certificate: its DER is cut or something follows it")
	}
	c, err := x509.ParseCertificate(whole.FullBytes)
	if err != nil {
		return nil, fmt.Errorf("not a certificate that can be read: %w", err)
	}
	return c, nil
}

// Chain says why a certificate does not lead to one of the trusted ones at a
// time, nil if it does. A trusted certificate need not be self-signed, but only
// a CA's is one to lead to.
func Chain(leaf *x509.Certificate, trusted, others []*x509.Certificate, at time.Time) error {
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	n := 0
	for _, c := range trusted {
		if c.IsCA {
			roots.AddCert(c)
			n++
		}
	}
	if n == 0 {
		return errors.New("no CA certificate is trusted: give the TPM maker's as an endorsement")
	}
	for _, c := range others {
		inter.AddCert(c)
	}
	probe := *leaf
	probe.UnhandledCriticalExtensions = unhandled(leaf)
	paths, err := probe.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter,
		CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("the certificate of %q does not lead to a trusted CA: %w", leaf.Issuer, err)
	}
	if len(paths[0]) > maxPath {
		return fmt.Errorf("the certificate's path is longer than %d", maxPath)
	}
	return nil
}

// unhandled leaves out the subject alternative name, which is critical in an EK
// certificate with an empty subject and holds the TPM's attributes, read here.
func unhandled(c *x509.Certificate) []asn1.ObjectIdentifier {
	return slices.DeleteFunc(slices.Clone(c.UnhandledCriticalExtensions),
		func(o asn1.ObjectIdentifier) bool { return o.Equal(oidSAN) })
}

// CheckEKCertificate says what in a certificate does not fit the EK Credential
// Profile (3.2) or its key, nil if everything does. What the profile demands and
// real makers leave out (Google's newer certificates have neither the extended
// key usage nor the TPM's attributes) may be absent, not wrong. The path is
// Chain's matter.
func CheckEKCertificate(c *x509.Certificate, ek *Key) error {
	switch {
	case !ek.Equal(&Key{Crypto: c.PublicKey}):
		return errors.New("the EK certificate is for another key than the endorsement key")
	case c.Version != 3:
		return fmt.Errorf("the EK certificate is of version %d, not 3", c.Version)
	case c.IsCA:
		return errors.New("the EK certificate is a CA's")
	case c.KeyUsage != 0 && c.KeyUsage&(x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement) == 0:
		return errors.New("the EK certificate does not allow key encipherment or key agreement")
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.ContainsFunc(c.UnknownExtKeyUsage, oidEKCert.Equal):
		return errors.New("the EK certificate has extended key usages and tcg-kp-EKCertificate is not among them")
	}
	_, err := EKInfo(c)
	return err
}

// CheckAKCertificate says why a certificate is not for an AK, nil if it may be
// one: a CA that certifies other things too, such as web servers, must not be
// taken to vouch for their keys as AKs. Google marks its AKs' certificates, for
// digital signatures, as those of EKs; without any usage it is the CA's word.
func CheckAKCertificate(c *x509.Certificate) error {
	switch {
	case c.IsCA:
		return errors.New("the AK certificate is a CA's")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("the AK certificate does not allow digital signatures")
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.ContainsFunc(c.UnknownExtKeyUsage, oidAKCert.Equal) &&
		!slices.ContainsFunc(c.UnknownExtKeyUsage, oidEKCert.Equal):
		return errors.New("the AK certificate has extended key usages and tcg-kp-AIKCertificate is not among them: it is for something else")
	}
	return nil
}

// EKInfo reads the TPM's attributes from the subject alternative name.
func EKInfo(c *x509.Certificate) (TPMInfo, error) {
	var info TPMInfo
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) != 0 {
			return info, errors.New("the subject alternative name is malformed")
		}
		for _, n := range names {
			if n.Class != asn1.ClassContextSpecific || n.Tag != 4 { // directoryName
				continue
			}
			if err := info.read(n.Bytes); err != nil {
				return info, err
			}
		}
	}
	return info, nil
}

func (i *TPMInfo) read(der []byte) error {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) != 0 {
		return errors.New("the directory name in the subject alternative name is malformed")
	}
	for _, set := range rdns {
		for _, a := range set {
			text, ok := a.Value.(string)
			switch {
			case !ok:
			case a.Type.Equal(oidManufacturer):
				i.Manufacturer = text
			case a.Type.Equal(oidModel):
				i.Model = text
			case a.Type.Equal(oidVersion):
				i.Version = text
			}
		}
	}
	return nil
}
