package tpm

import (
	"bytes"

	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Object identifiers in DER. Those of hash algorithms and of what signs with
// them differ in the last byte.
var (
	oidKeyUsage   = []byte("\x06\x03\x55\x1D\x0F")
	oidTPMAObject = []byte("\x06\x07\x67\x81\x05\x0A\x01\x01\x01") // TCG: the attributes of a key
	oidRSA        = []byte("\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01")
	oidMGF1       = []byte("\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x08")
	oidRSAPSS     = []byte("\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x0A")
	oidECC        = []byte("\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01")
)

// hashOIDs are a hash algorithm's, and of RSASSA and ECDSA with it.
type hashOIDs struct{ hash, rsassa, ecdsa []byte }

var oidsOfHash = map[tpm2.AlgID]hashOIDs{
	tpm2.AlgSHA1: {[]byte("\x06\x05\x2B\x0E\x03\x02\x1A"), []byte("\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x05"),
		[]byte("\x06\x07\x2A\x86\x48\xCE\x3D\x04\x01")},
	tpm2.AlgSHA256: sha2OIDs(1, 11, 2),
	tpm2.AlgSHA384: sha2OIDs(2, 12, 3),
	tpm2.AlgSHA512: sha2OIDs(3, 13, 4),
}

func sha2OIDs(hash, rsassa, ecdsa byte) hashOIDs {
	return hashOIDs{append([]byte("\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02"), hash),
		append([]byte("\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01"), rsassa),
		append([]byte("\x06\x08\x2A\x86\x48\xCE\x3D\x04\x03"), ecdsa)}
}

// oidsOfCurve are those of the curves that have one.
var oidsOfCurve = map[tpm2.ECCCurve][]byte{
	tpm2.CurveP192: []byte("\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x01"),
	tpm2.CurveP224: []byte("\x06\x05\x2B\x81\x04\x00\x21"),
	tpm2.CurveP256: []byte("\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07"),
	tpm2.CurveP384: []byte("\x06\x05\x2B\x81\x04\x00\x22"),
	tpm2.CurveP521: []byte("\x06\x05\x2B\x81\x04\x00\x23"),
	tpm2.CurveSM2:  []byte("\x06\x08\x2A\x81\x1C\xCF\x55\x01\x82\x2D"),
}

// partialCertificate is what the caller of CertifyX509 gives of a certificate,
// each part whole.
type partialCertificate struct {
	signature  []byte   // the AlgorithmIdentifier, nil where the TPM is to make it
	names      [][]byte // issuer, validity and subject
	extensions []byte
}

// parseCertificate takes a partial certificate apart: TPM_RC_SIZE where it is
// not one SEQUENCE, TPM_RC_VALUE for what is wrong inside.
func parseCertificate(b []byte) (p partialCertificate, rc tpm2.RC) {
	if len(b) == 0 {
		return p, tpm2.RCValue
	}
	rest, ok := onlyDER(b, derSequence)
	if !ok {
		return p, tpm2.RCSize
	}
	for len(rest) > 0 {
		var e derElement
		if e, rest, ok = cutDER(rest); !ok {
			return p, tpm2.RCValue
		}
		switch {
		case e.tag == derSequence:
			p.names = append(p.names, e.whole)
		case e.tag == derExtensions && p.extensions == nil:
			p.extensions = e.whole
		default:
			return p, tpm2.RCValue
		}
	}
	if p.extensions == nil || len(p.names) < 3 || len(p.names) > 4 {
		return p, tpm2.RCValue
	}
	if len(p.names) == 4 {
		p.signature, p.names = p.names[0], p.names[1:]
	}
	return p, tpm2.RCSuccess
}

// Bits of a KeyUsage (RFC 5280, 4.2.1.3), the first the most significant.
const (
	usageDigitalSignature = 1 << 31
	usageNonRepudiation   = 1 << 30
	usageKeyEncipherment  = 1 << 29
	usageDataEncipherment = 1 << 28
	usageKeyAgreement     = 1 << 27
	usageKeyCertSign      = 1 << 26
	usageCRLSign          = 1 << 25
	usageEncipherOnly     = 1 << 24
	usageDecipherOnly     = 1 << 23

	usageSign    = usageDigitalSignature | usageKeyCertSign | usageCRLSign
	usageDecrypt = usageKeyEncipherment | usageDataEncipherment | usageKeyAgreement | usageEncipherOnly | usageDecipherOnly
)

// checkExtensions checks that the extensions agree with the attributes of the
// key to be certified (X509ProcessExtensions): TPM_RC_ATTRIBUTES where they
// state others, TPM_RC_VALUE for a use that the attributes do not allow, where
// the use is missing, and for what is malformed. What must hold here is what a
// verifier reads, so that unlike in the reference code nothing may be left over
// in a structure.
func checkExtensions(b []byte, a tpm2.ObjectAttributes) tpm2.RC {
	list, ok := onlyDER(b, derExtensions)
	if ok {
		list, ok = onlyDER(list, derSequence)
	}
	if !ok {
		return tpm2.RCValue
	}
	stated, found, ok := extensionBits(list, oidTPMAObject)
	if !ok {
		return tpm2.RCValue
	}
	if found && stated != uint32(a) {
		return tpm2.RCAttributes
	}
	usage, found, ok := extensionBits(list, oidKeyUsage)
	switch {
	case !ok || !found,
		usage&usageSign != 0 && !a.Has(tpm2.ObjSign),
		usage&usageDecrypt != 0 && !a.Has(tpm2.ObjDecrypt),
		usage&usageNonRepudiation != 0 && !a.Has(tpm2.ObjFixedTPM),
		usage&usageKeyAgreement != 0 && !a.Has(tpm2.ObjRestricted):
		return tpm2.RCValue
	}
	return tpm2.RCSuccess
}

// extensionBits gives the BIT STRING that the first extension with an
// identifier has for its value.
func extensionBits(list, oid []byte) (bits uint32, found, ok bool) {
	for len(list) > 0 {
		var e derElement
		if e, list, ok = cutDER(list); !ok || e.tag != derSequence {
			return 0, false, false
		}
		if bytes.HasPrefix(e.content, oid) {
			bits, ok = valueBits(e.content[len(oid):])
			return bits, true, ok
		}
	}
	return 0, false, true
}

// valueBits reads the value of an extension, behind its identifier and what
// else comes before, such as whether it is critical.
func valueBits(b []byte) (bits uint32, ok bool) {
	for len(b) > 0 {
		var e derElement
		if e, b, ok = cutDER(b); !ok || len(e.content) == 0 {
			return 0, false
		}
		if e.tag == derOctetString {
			bits, ok = derBits(e.content)
			return bits, ok && len(b) == 0
		}
	}
	return 0, false
}

// signatureAlgorithm is the AlgorithmIdentifier of a signature by a key, nil
// where there is none (X509AddSigningAlgorithm).
func signatureAlgorithm(key *object.Object, scheme tpm2.SigScheme) []byte {
	oids, ok := oidsOfHash[scheme.Hash]
	switch {
	case !ok:
		return nil
	case key.Public.Type == tpm2.AlgRSA && scheme.Alg == tpm2.AlgRSASSA:
		return algorithmIdentifier(oids.rsassa)
	case key.Public.Type == tpm2.AlgRSA && scheme.Alg == tpm2.AlgRSAPSS:
		return pssAlgorithm(oids.hash, scheme.Hash, len(key.Public.Unique))
	case key.Public.Type == tpm2.AlgECC && scheme.Alg == tpm2.AlgECDSA:
		return der(derSequence, oids.ecdsa)
	}
	return nil
}

// algorithmIdentifier is an AlgorithmIdentifier with NULL for parameters.
func algorithmIdentifier(oid []byte) []byte { return der(derSequence, oid, []byte{derNull, 0}) }

// pssAlgorithm is that of RSASSA-PSS (RFC 4055, 3.1). All parameters have their
// defaults with SHA-1, where the reference code writes NULL.
func pssAlgorithm(oid []byte, alg tpm2.AlgID, modulusSize int) []byte {
	if alg == tpm2.AlgSHA1 {
		return algorithmIdentifier(oidRSAPSS)
	}
	hash := algorithmIdentifier(oid)
	salt := min(alg.DigestSize(), max(modulusSize-alg.DigestSize()-2, 0))
	return der(derSequence, oidRSAPSS, der(derSequence,
		der(derContext, hash),
		der(derContext+1, der(derSequence, oidMGF1, hash)),
		der(derContext+2, derUnsigned([]byte{byte(salt)}))))
}

// publicKeyInfo is a key's SubjectPublicKeyInfo, nil where it has none
// (X509AddPublicKey).
func publicKeyInfo(pub *tpm2.Public) []byte {
	switch pub.Type {
	case tpm2.AlgRSA:
		e := pub.Exponent
		if e == 0 {
			e = 65537
		}
		key := der(derSequence, derUnsigned(pub.Unique), derUnsigned([]byte{byte(e >> 24), byte(e >> 16), byte(e >> 8), byte(e)}))
		return der(derSequence, algorithmIdentifier(oidRSA), der(derBitString, []byte{0}, key))
	case tpm2.AlgECC:
		if curve := oidsOfCurve[pub.Curve]; curve != nil {
			point := der(derBitString, []byte{0, 4}, pub.Point.X, pub.Point.Y)
			return der(derSequence, der(derSequence, oidECC, curve), point)
		}
	}
	return nil
}
