package object

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// The checks of a public area that the object commands share, in the order of
// the reference code, since it decides which of several errors a caller sees.
// Their codes come without a parameter number, which the command puts on.

// CheckCreate checks a template for creation (CreateChecks): parent is nil for
// a primary object, dataSize the length of the caller's sensitive data.
//
// It gives TPM_RC_ATTRIBUTES where sensitiveDataOrigin does not agree with the
// data or the type, and what CheckAttributes gives.
func CheckCreate(parent *Object, pub *tpm2.Public, dataSize int) tpm2.RC {
	a := pub.Attributes
	origin := a.Has(tpm2.ObjSensitiveDataOrigin)
	if !origin && dataSize == 0 || origin && dataSize != 0 && parent != nil {
		return tpm2.RCAttributes
	}
	switch pub.Type {
	case tpm2.AlgKeyedHash, tpm2.AlgSymCipher:
		// The TPM does not make up the content of a data object.
		data := pub.Type == tpm2.AlgKeyedHash && a&(tpm2.ObjSign|tpm2.ObjDecrypt) == 0
		// A parent whose secret the caller knows must not seem the TPM's own.
		known := !origin && a.Has(tpm2.ObjRestricted) && a&(tpm2.ObjFixedParent|tpm2.ObjFixedTPM) != 0
		if data && origin || known {
			return tpm2.RCAttributes
		}
	default:
		if !origin {
			return tpm2.RCAttributes
		}
	}
	return CheckAttributes(parent, pub)
}

// CheckAttributes checks a public area and that it suits the parent, nil for a
// primary or external object (PublicAttributesValidation).
//
// It gives TPM_RC_HASH for a null nameAlg, TPM_RC_SIZE for an authPolicy that
// is no digest of it, TPM_RC_ATTRIBUTES for attributes that do not fit each
// other or the parent's, and what CheckScheme gives.
func CheckAttributes(parent *Object, pub *tpm2.Public) tpm2.RC {
	a := pub.Attributes
	if pub.NameAlg == tpm2.AlgNull {
		return tpm2.RCHash
	}
	if n := len(pub.AuthPolicy); n != 0 && n != pub.NameAlg.DigestSize() {
		return tpm2.RCSize
	}
	fixedTPM := a.Has(tpm2.ObjFixedTPM)
	encrypted := a.Has(tpm2.ObjEncryptedDuplication)
	if parent == nil || parent.Is(tpm2.ObjFixedTPM) {
		if a.Has(tpm2.ObjFixedParent) != fixedTPM {
			return tpm2.RCAttributes
		}
	} else if fixedTPM {
		return tpm2.RCAttributes
	}
	if a.Has(tpm2.ObjSign) == a.Has(tpm2.ObjDecrypt) {
		if a.Has(tpm2.ObjRestricted) || pub.Type != tpm2.AlgKeyedHash && !a.Has(tpm2.ObjSign) {
			return tpm2.RCAttributes
		}
	}
	if fixedTPM && encrypted {
		return tpm2.RCAttributes
	}
	// What protects a parent's duplicates must protect its children's too.
	if parent != nil && !parent.Is(tpm2.ObjFixedTPM) && encrypted != parent.Is(tpm2.ObjEncryptedDuplication) {
		return tpm2.RCAttributes
	}
	// A derived object stays where its parent is: its secrets are nobody's else.
	if parent != nil && parent.IsDerivation() && (fixedTPM != parent.Is(tpm2.ObjFixedTPM) || !a.Has(tpm2.ObjFixedParent)) {
		return tpm2.RCAttributes
	}
	return CheckScheme(parent, pub)
}

// CheckScheme checks a public area's schemes and symmetric algorithm
// (SchemeChecks): TPM_RC_SCHEME, TPM_RC_SYMMETRIC, TPM_RC_KDF, and TPM_RC_HASH
// where a parent that stays below its own has another nameAlg.
func CheckScheme(parent *Object, pub *tpm2.Public) tpm2.RC {
	switch pub.Type {
	case tpm2.AlgKeyedHash:
		return checkKeyedHash(pub)
	case tpm2.AlgSymCipher:
		if pub.Attributes.Has(tpm2.ObjDecrypt) && pub.Symmetric.Mode == tpm2.AlgCMAC {
			return tpm2.RCScheme // a MAC does not decrypt
		}
	case tpm2.AlgRSA, tpm2.AlgECC:
		if rc := checkAsymmetric(pub); rc != tpm2.RCSuccess {
			return rc
		}
	}
	if !pub.Attributes.Has(tpm2.ObjRestricted | tpm2.ObjDecrypt) {
		return tpm2.RCSuccess
	}
	// A parent: it protects its children with the symmetric algorithm.
	if pub.Symmetric.Alg == tpm2.AlgNull {
		return tpm2.RCSymmetric
	}
	if parent != nil && pub.Attributes.Has(tpm2.ObjFixedParent) {
		if pub.NameAlg != parent.Public.NameAlg {
			return tpm2.RCHash
		}
		if pub.Symmetric != parent.Public.Symmetric {
			return tpm2.RCSymmetric
		}
	}
	return tpm2.RCSuccess
}

func checkKeyedHash(pub *tpm2.Public) tpm2.RC {
	sign, decrypt := pub.Attributes.Has(tpm2.ObjSign), pub.Attributes.Has(tpm2.ObjDecrypt)
	want := tpm2.AlgNull // both or neither
	switch {
	case sign && !decrypt:
		want = tpm2.AlgHMAC
	case decrypt && !sign:
		want = tpm2.AlgXOR
	}
	if pub.Scheme.Alg != want {
		return tpm2.RCScheme
	}
	// A derivation parent has but one key derivation function.
	if want == tpm2.AlgXOR && pub.Attributes.Has(tpm2.ObjRestricted) && pub.Scheme.KDF != tpm2.AlgKDF1SP800108 {
		return tpm2.RCScheme
	}
	return tpm2.RCSuccess
}

func checkAsymmetric(pub *tpm2.Public) tpm2.RC {
	a, scheme := pub.Attributes, pub.Scheme.Alg
	sign, decrypt, restricted := a.Has(tpm2.ObjSign), a.Has(tpm2.ObjDecrypt), a.Has(tpm2.ObjRestricted)
	// A scheme must be of the one thing that the key is for; only a restricted
	// signing key needs one, and a parent must have none.
	valid := scheme == tpm2.AlgNull
	switch {
	case sign == decrypt:
	case sign:
		valid = valid && !restricted || crypt.IsSignScheme(pub.Type, scheme)
	case !restricted:
		valid = valid || isDecrypting(pub.Type, scheme)
	}
	if !valid {
		return tpm2.RCScheme
	}
	if !(restricted && decrypt) && pub.Symmetric.Alg != tpm2.AlgNull {
		return tpm2.RCSymmetric
	}
	if pub.Type == tpm2.AlgECC && pub.KDF.Alg != tpm2.AlgNull {
		return tpm2.RCKDF
	}
	return tpm2.RCSuccess
}

func isDecrypting(kind, scheme tpm2.AlgID) bool {
	switch scheme {
	case tpm2.AlgRSAES, tpm2.AlgOAEP:
		return kind == tpm2.AlgRSA
	case tpm2.AlgECDH, tpm2.AlgSM2, tpm2.AlgECMQV:
		return kind == tpm2.AlgECC
	}
	return false
}
