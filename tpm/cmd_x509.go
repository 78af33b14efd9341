package tpm

import "github.com/ashlar-cloud/ashlar/tpm2"

// x509Commands is the one of Part 3, 18 that makes a certificate.
var x509Commands = []command{
	define(command{cc: tpm2.CCCertifyX509, readOnly: true, handles: []handle{
		{"objectHandle", anObject, authAdmin}, {"signHandle", anObjectOrNull, authUser},
	}}, (*Engine).certifyX509),
}

type certifyX509In struct {
	reserved           tpm2.Data
	scheme             tpm2.SigScheme
	partialCertificate tpm2.MaxBuffer
}

// Walk visits the parameters.
func (p *certifyX509In) Walk(c *tpm2.Codec) {
	c.Param(&p.reserved)
	c.Param(&p.scheme)
	c.Param(&p.partialCertificate)
}

type certifyX509Out struct {
	added     tpm2.MaxBuffer // what the TPM has added to the certificate
	tbsDigest tpm2.Digest
	signature tpm2.Signature
}

// Walk visits the parameters.
func (p *certifyX509Out) Walk(c *tpm2.Codec) {
	c.Param(&p.added)
	c.Param(&p.tbsDigest)
	c.Param(&p.signature)
}

// maxSerial is the length in bytes of a certificate's serial number
// (SIZE_OF_X509_SERIAL_NUMBER).
const maxSerial = 20

// certifyX509 is TPM2_CertifyX509 (Part 3, 18.8). As in libtpms, codes have the
// two handles' numbers the wrong way round. Where it would crash or fail, no signer
// and one without a Name, the key is none that can sign.
func (e *Engine) certifyX509(c *call, in *certifyX509In, out *certifyX509Out) tpm2.RC {
	key, signer := c.objects[0], c.objects[1]
	const keyHandle, signHandle = 2, 1
	if len(in.reserved) != 0 {
		return tpm2.RCSize.P(1)
	}
	if signer == nil || !maySign(signer) {
		return tpm2.RCKey.H(signHandle)
	}
	scheme, rc := selectScheme(signer, in.scheme)
	if rc != tpm2.RCSuccess {
		return tpm2.RCScheme.P(2)
	}
	var info []byte
	if key.Sequence == nil {
		info = publicKeyInfo(&key.Public)
	}
	if info == nil {
		return tpm2.RCAsymmetric.H(keyHandle)
	}
	partial, rc := parseCertificate(in.partialCertificate)
	if rc != tpm2.RCSuccess {
		return rc.P(3)
	}
	algorithm := partial.signature
	if algorithm == nil {
		if algorithm = signatureAlgorithm(signer, scheme); algorithm == nil {
			return tpm2.RCScheme.H(signHandle)
		}
	}
	switch rc := checkExtensions(partial.extensions, key.Public.Attributes); rc {
	case tpm2.RCSuccess:
	case tpm2.RCAttributes:
		return rc.H(keyHandle)
	default:
		return rc.P(3)
	}
	if len(signer.Name) == 0 {
		return tpm2.RCKey.H(signHandle)
	}
	names := partial.names
	serial := signer.Public.NameAlg.Digest(algorithm, names[0], names[1], names[2], info, partial.extensions, signer.Name, key.Name)
	head := append(der(derContext, derUnsigned([]byte{2})), derUnsigned(serial[:maxSerial])...) // version 3
	if partial.signature == nil {
		out.added = der(derSequence, head, algorithm, info)
	} else {
		out.added = der(derSequence, head, info)
	}
	out.tbsDigest = scheme.Hash.Digest(der(derSequence, head, algorithm, names[0], names[1], names[2], info, partial.extensions))
	out.signature, rc = e.signDigest(c, signer.Key, scheme, out.tbsDigest)
	return rc
}
