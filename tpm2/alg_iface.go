package tpm2

// The TPMI types of algorithms (Part 2, 9.27 to 9.35), each with the response
// code that a wrong one gets.

// HashAlg walks a TPMI_ALG_HASH; AlgNull passes where null is set. Another
// algorithm is RCHash.
func (c *Codec) HashAlg(a *AlgID, null bool) { c.alg(a, c.Accepts().Hashes, null, RCHash) }

// alg walks an algorithm identifier out of a set, else rc.
func (c *Codec) alg(a *AlgID, set []AlgID, null bool, rc RC) {
	c.U16((*uint16)(a))
	if c.mode == modeEncode || c.rc != RCSuccess {
		return
	}
	if *a == AlgNull && null || has(set, *a) {
		return
	}
	c.Fail(rc)
}

// HashID is a parameter of type TPMI_ALG_HASH.
type HashID AlgID

// Walk visits the identifier; one that is not implemented is RCHash.
func (h *HashID) Walk(c *Codec) { c.HashAlg((*AlgID)(h), false) }

// HashIDOrNull is a parameter of type TPMI_ALG_HASH+.
type HashIDOrNull AlgID

// Walk visits the identifier; one that is not implemented is RCHash.
func (h *HashIDOrNull) Walk(c *Codec) { c.HashAlg((*AlgID)(h), true) }

// CipherModeOrNull is a parameter of type TPMI_ALG_CIPHER_MODE+ (RCMode): a mode
// that encrypts.
type CipherModeOrNull AlgID

// Walk visits the identifier.
func (m *CipherModeOrNull) Walk(c *Codec) {
	c.alg((*AlgID)(m), c.Accepts().SymModes, true, RCMode)
	if AlgID(*m) == AlgCMAC {
		c.Fail(RCMode)
	}
}

// Hierarchy is a TPMI_RH_HIERARCHY+ inside a structure: owner, endorsement,
// platform or null, else RCValue (Part 2, 9.13).
type Hierarchy Handle

// Walk visits the handle.
func (h *Hierarchy) Walk(c *Codec) {
	c.U32((*uint32)(h))
	switch Handle(*h) {
	case RHOwner, RHEndorsement, RHPlatform, RHNull:
	default:
		c.Fail(RCValue)
	}
}

// Walk visits a TPMI_ECC_CURVE; a curve that is not implemented is RCCurve.
func (e *ECCCurve) Walk(c *Codec) {
	c.U16((*uint16)(e))
	if c.mode == modeDecode && c.rc == RCSuccess && !has(c.Accepts().Curves, *e) {
		c.Fail(RCCurve)
	}
}

// SymDef is a TPMT_SYM_DEF or TPMT_SYM_DEF_OBJECT (Part 2, 11.1.6, 11.1.7).
// For XOR, KeyBits holds the hash algorithm and there is no mode.
type SymDef struct {
	Alg     AlgID
	KeyBits uint16
	Mode    AlgID
}

// Hash is the hash algorithm of an XOR obfuscation.
func (s *SymDef) Hash() AlgID { return AlgID(s.KeyBits) }

// Walk visits a TPMT_SYM_DEF+, as a session has: null and XOR pass.
func (s *SymDef) Walk(c *Codec) { s.walk(c, true, true) }

func (s *SymDef) walk(c *Codec, null, xor bool) {
	c.U16((*uint16)(&s.Alg))
	if c.rc != RCSuccess {
		return
	}
	switch {
	case s.Alg == AlgNull && null:
		return
	case s.Alg == AlgXOR && xor:
		a := AlgID(s.KeyBits)
		c.HashAlg(&a, false)
		s.KeyBits = uint16(a)
		return
	}
	cipher := c.Accepts().Cipher(s.Alg)
	if cipher == nil {
		c.Fail(RCSymmetric)
		return
	}
	c.U16(&s.KeyBits)
	if c.mode == modeDecode && c.rc == RCSuccess && !has(cipher.KeyBits, s.KeyBits) {
		c.Fail(RCValue)
	}
	c.alg(&s.Mode, c.Accepts().SymModes, true, RCMode)
}

// SymDefObject is a parameter of type TPMT_SYM_DEF_OBJECT+.
type SymDefObject SymDef

// Walk visits a TPMT_SYM_DEF_OBJECT+: null passes, XOR does not.
func (s *SymDefObject) Walk(c *Codec) { (*SymDef)(s).walk(c, true, false) }

// Scheme is any of the TPMT scheme structures: an algorithm, and a hash
// algorithm where it has one (Part 2, 11.2). ECDAA has a count besides, XOR a
// key derivation function.
type Scheme struct {
	Alg   AlgID
	Hash  AlgID
	Count uint16 // ECDAA only
	KDF   AlgID  // XOR only
}

// details walks the TPMU part that Alg selects.
func (s *Scheme) details(c *Codec) {
	if c.rc != RCSuccess {
		return
	}
	switch s.Alg {
	case AlgRSASSA, AlgRSAPSS, AlgOAEP, AlgECDSA, AlgSM2, AlgECSchnorr, AlgECDH, AlgECMQV, AlgHMAC,
		AlgMGF1, AlgKDF1SP80056A, AlgKDF2, AlgKDF1SP800108:
		c.HashAlg(&s.Hash, false)
	case AlgECDAA:
		c.HashAlg(&s.Hash, false)
		c.U16(&s.Count)
	case AlgXOR:
		c.HashAlg(&s.Hash, false)
		c.alg(&s.KDF, kdfs[:], true, RCKDF)
	}
}

var kdfs = [...]AlgID{AlgMGF1, AlgKDF1SP80056A, AlgKDF2, AlgKDF1SP800108}

func (s *Scheme) walkOf(c *Codec, set []AlgID, rc RC) {
	c.alg(&s.Alg, set, true, rc)
	s.details(c)
}

// SigScheme is a TPMT_SIG_SCHEME+ (Part 2, 11.2.1.5); another one is RCScheme.
type SigScheme Scheme

var sigSchemes = [...]AlgID{AlgHMAC, AlgRSASSA, AlgRSAPSS, AlgECDSA, AlgECDAA, AlgSM2, AlgECSchnorr}

// Walk visits the scheme.
func (s *SigScheme) Walk(c *Codec) {
	c.U16((*uint16)(&s.Alg))
	if c.rc == RCSuccess && s.Alg != AlgNull && !s.Alg.isSigning(c.Accepts()) {
		c.Fail(RCScheme)
	}
	(*Scheme)(s).details(c)
}

// isSigning reports whether a is a signature scheme that impl accepts.
func (a AlgID) isSigning(impl *Implementation) bool {
	return has(sigSchemes[:], a) &&
		(a == AlgHMAC || has(impl.RSASchemes, a) || has(impl.ECCSchemes, a))
}

// RSADecryptScheme is a TPMT_RSA_DECRYPT+ (Part 2, 11.2.4.4); another one is
// RCValue.
type RSADecryptScheme Scheme

var rsaDecryptSchemes = [...]AlgID{AlgRSAES, AlgOAEP}

// Walk visits the scheme.
func (s *RSADecryptScheme) Walk(c *Codec) {
	(*Scheme)(s).walkOf(c, rsaDecryptSchemes[:], RCValue)
}

// KeyedHashScheme is a TPMT_KEYEDHASH_SCHEME+ (Part 2, 11.1.19).
type KeyedHashScheme Scheme

var keyedHashSchemes = [...]AlgID{AlgHMAC, AlgXOR}

// Walk visits the scheme; neither HMAC, XOR nor null is RCValue.
func (s *KeyedHashScheme) Walk(c *Codec) {
	(*Scheme)(s).walkOf(c, keyedHashSchemes[:], RCValue)
}

// KDFScheme is a TPMT_KDF_SCHEME+ (Part 2, 11.2.3.3).
type KDFScheme Scheme

// Walk visits the scheme; another one is RCKDF.
func (s *KDFScheme) Walk(c *Codec) { (*Scheme)(s).walkOf(c, kdfs[:], RCKDF) }

// KeyExchange is a TPMI_ECC_KEY_EXCHANGE (Part 2, 11.2.5.6): how two parties
// agree on a secret in two phases.
type KeyExchange AlgID

// Walk visits the scheme; another one, or one that is not implemented, is
// RCScheme.
func (k *KeyExchange) Walk(c *Codec) {
	c.alg((*AlgID)(k), c.Accepts().ECCSchemes, false, RCScheme)
	switch AlgID(*k) {
	case AlgECDH, AlgECMQV, AlgSM2:
	default:
		c.Fail(RCScheme)
	}
}
