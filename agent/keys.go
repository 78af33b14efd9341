package agent

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ashlar-cloud/ashlar/identity"
)

// Handles of the TCG EK Credential Profile (2.2.1.4) and the provisioning
// guidance.
const (
	nvRSACert    = 0x01C00002 // certificate of the RSA 2048 EK, template L-1
	nvECCCert    = 0x01C0000A // certificate of the P-256 EK, template L-2
	persistedRSA = 0x81010001 // where provisioning keeps the RSA EK
)

// maxNVCert is the most bytes of a certificate in NV.
const maxNVCert = 4096

// loaded is a key in the TPM.
type loaded struct {
	handle    tpm2.TPMHandle
	name      tpm2.TPM2BName
	public    []byte // TPM2B_PUBLIC
	transient bool
}

// akTemplate is a restricted ECDSA P-256 signing key. Its unique field tells it
// apart from other primary keys; the same template gives the same key.
func akTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA,
				&tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256,
			KDF:     tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: []byte("ashlar attestation key 1")},
			Y: tpm2.TPM2BECCParameter{},
		}),
	}
}

// primary derives a primary key of the endorsement hierarchy.
func primary(t transport.TPM, what string, template tpm2.TPMTPublic) (*loaded, error) {
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(template),
	}.Execute(t)
	if errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth) {
		return nil, fmt.Errorf("cannot derive the %s: the endorsement hierarchy has an authorization value, which is not supported", what)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot derive the %s: %w", what, err)
	}
	return &loaded{handle: rsp.ObjectHandle, name: rsp.Name, public: tpm2.Marshal(rsp.OutPublic), transient: true}, nil
}

// flush takes a key out of the TPM's memory again.
func (k *loaded) flush(t transport.TPM) {
	if k != nil && k.transient {
		// A key that stays is a nuisance, not a failure of what was collected.
		_, _ = tpm2.FlushContext{FlushHandle: k.handle}.Execute(t)
	}
}

// endorsementKey gives the EK that has a certificate, and that certificate;
// without one the P-256 EK, or the RSA EK of a TPM that has no elliptic curves.
func endorsementKey(t transport.TPM) (*loaded, [][]byte, error) {
	eccCert, rsaCert := readCert(t, nvECCCert), readCert(t, nvRSACert)
	if eccCert != nil || rsaCert == nil {
		ek, err := primary(t, "endorsement key", tpm2.ECCEKTemplate)
		if err == nil {
			return ek, list(eccCert), nil
		}
		if eccCert != nil {
			return nil, nil, err
		}
	}
	if ek := persisted(t, persistedRSA, rsaCert); ek != nil {
		return ek, list(rsaCert), nil
	}
	ek, err := primary(t, "endorsement key", tpm2.RSAEKTemplate)
	return ek, list(rsaCert), err
}

func list(cert []byte) [][]byte {
	if cert == nil {
		return nil
	}
	return [][]byte{cert}
}

// persisted gives a key that is kept in the TPM, if it is the certificate's.
func persisted(t transport.TPM, handle tpm2.TPMHandle, cert []byte) *loaded {
	rsp, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(t)
	if err != nil {
		return nil
	}
	public := tpm2.Marshal(rsp.OutPublic)
	certs, err1 := identity.ParseCertificates(cert)
	key, err2 := identity.ParseKey(public)
	if err1 != nil || err2 != nil || !key.Equal(&identity.Key{Crypto: certs[0].PublicKey}) {
		return nil
	}
	return &loaded{handle: handle, name: rsp.Name, public: public}
}

// readCert reads a certificate from NV, nil if there is none that can be read.
func readCert(t transport.TPM, index tpm2.TPMHandle) []byte {
	pub, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t)
	if err != nil {
		return nil
	}
	contents, err := pub.NVPublic.Contents()
	if err != nil || contents.DataSize > maxNVCert {
		return nil
	}
	var cert []byte
	const chunk = 512 // every TPM reads as much at once (MAX_NV_BUFFER_SIZE)
	for len(cert) < int(contents.DataSize) {
		n := min(chunk, int(contents.DataSize)-len(cert))
		rsp, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: index, Name: pub.NVName, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: pub.NVName},
			Size:       uint16(n), Offset: uint16(len(cert)),
		}.Execute(t)
		if err != nil || len(rsp.Data.Buffer) == 0 {
			return nil
		}
		cert = append(cert, rsp.Data.Buffer...)
	}
	var der asn1.RawValue // filler may follow it
	if _, err := asn1.Unmarshal(cert, &der); err != nil {
		return nil
	}
	return bytes.Clone(der.FullBytes)
}

// activate opens a credential (Part 3, 12.5). The EK's policy is PolicySecret
// of the endorsement hierarchy (EK Credential Profile, B.6.2).
func activate(t transport.TPM, ek, ak *loaded, c *identity.Credential) ([]byte, error) {
	if len(c.Blob) < 2 || len(c.Secret) < 2 {
		return nil, newChallengeError("the challenge's credential is cut short: have a new challenge made")
	}
	secret := tpm2.PolicySecret{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}}
	rsp, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: ak.handle, Name: ak.name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle: tpm2.AuthHandle{Handle: ek.handle, Name: ek.name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16,
			func(t transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
				secret.PolicySession, secret.NonceTPM = session, nonce
				_, err := secret.Execute(t)
				return err
			})},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.Blob[2:]},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.Secret[2:]},
	}.Execute(t)
	if err != nil {
		return nil, newChallengeError("the TPM does not open the challenge: it was made for another TPM, or another attestation key (%w)", err)
	}
	return rsp.CertInfo.Buffer, nil
}
