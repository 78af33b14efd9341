package identity

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

// NewAuthority makes the certificate of a CA that may sign certificates and
// does not expire, in DER: of key, by parent and its key, or self-signed where
// parent is nil. random is for the serial number and the signature.
func NewAuthority(random io.Reader, commonName string, key crypto.Signer, parent *x509.Certificate, parentKey crypto.Signer, at time.Time) ([]byte, error) {
	if commonName == "" || len(commonName) > MaxAttribute {
		return nil, fmt.Errorf("the CA's name is empty or longer than %d bytes", MaxAttribute)
	}
	serial, err := rand.Int(random, new(big.Int).Lsh(big.NewInt(1), maxSerial))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             at,
		NotAfter:              NoExpiry(),
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	if parent == nil {
		parent, parentKey = t, key
	} else if !parent.IsCA {
		return nil, errors.New("the issuer's certificate is not a CA's")
	}
	return x509.CreateCertificate(random, t, parent, key.Public(), parentKey)
}
