package tpm2

// ECCPoint is a TPMS_ECC_POINT (Part 2, 11.2.5.2), big-endian coordinates.
type ECCPoint struct{ X, Y ECCParameter }

// Walk visits the coordinates.
func (p *ECCPoint) Walk(c *Codec) { p.X.Walk(c); p.Y.Walk(c) }

// SizedECCPoint is a TPM2B_ECC_POINT.
type SizedECCPoint struct{ ECCPoint }

// Walk visits the point; a zero length is RCSize.
func (p *SizedECCPoint) Walk(c *Codec) { c.Sized(false, p.ECCPoint.Walk) }

// PublicParms is a TPMU_PUBLIC_PARMS with its selector (Part 2, 12.2.3):
// which fields are there depends on Type.
type PublicParms struct {
	Type AlgID // AlgKeyedHash, AlgSymCipher, AlgRSA or AlgECC

	Symmetric SymDef // SymCipher; of RSA and ECC storage keys, else null
	Scheme    Scheme // KeyedHash, RSA and ECC
	KeyBits   uint16 // RSA: bits of the modulus
	Exponent  uint32 // RSA: 0 stands for 65537
	Curve     ECCCurve
	KDF       Scheme // ECC
}

// Walk visits a TPMT_PUBLIC_PARMS.
func (p *PublicParms) Walk(c *Codec) { p.walkType(c); p.walkParms(c) }

func (p *PublicParms) walkType(c *Codec) {
	c.U16((*uint16)(&p.Type))
	switch p.Type {
	case AlgRSA, AlgECC, AlgKeyedHash, AlgSymCipher:
	default:
		c.Fail(RCType)
	}
}

func (p *PublicParms) walkParms(c *Codec) {
	if c.rc != RCSuccess {
		return
	}
	impl := c.Accepts()
	switch p.Type {
	case AlgKeyedHash:
		(*KeyedHashScheme)(&p.Scheme).Walk(c)
	case AlgSymCipher:
		p.Symmetric.walk(c, false, false)
	case AlgRSA:
		p.Symmetric.walk(c, true, false)
		p.Scheme.walkOf(c, impl.RSASchemes, RCValue)
		c.U16(&p.KeyBits)
		if c.mode == modeDecode && c.rc == RCSuccess && !has(impl.RSABits, p.KeyBits) {
			c.Fail(RCValue)
		}
		c.U32(&p.Exponent)
	case AlgECC:
		p.Symmetric.walk(c, true, false)
		p.Scheme.walkOf(c, impl.ECCSchemes, RCScheme)
		p.Curve.Walk(c)
		p.KDF.walkOf(c, kdfs[:], RCKDF)
	}
}

// Public is a TPMT_PUBLIC (Part 2, 12.2.4): an object's public area.
type Public struct {
	PublicParms
	NameAlg    AlgID
	Attributes ObjectAttributes
	AuthPolicy Digest
	// Unique is the TPMU_PUBLIC_ID: the modulus of an RSA key, the digest of a
	// keyed-hash or symmetric object. An ECC key has Point instead.
	Unique []byte
	Point  ECCPoint
}

// Walk visits the area; a null nameAlg is RCHash.
func (p *Public) Walk(c *Codec) { p.walk(c, false) }

func (p *Public) walk(c *Codec, nullName bool) {
	p.walkHead(c, nullName)
	if c.rc != RCSuccess {
		return
	}
	switch p.Type {
	case AlgRSA:
		(*RSAPublicKey)(&p.Unique).Walk(c)
	case AlgECC:
		p.Point.Walk(c)
	default:
		(*Digest)(&p.Unique).Walk(c)
	}
}

// walkHead visits what comes before unique.
func (p *Public) walkHead(c *Codec, nullName bool) {
	p.walkType(c)
	c.HashAlg(&p.NameAlg, nullName)
	p.Attributes.Walk(c)
	p.AuthPolicy.Walk(c)
	p.walkParms(c)
}

// PublicOrNull is a TPMT_PUBLIC+: nameAlg may be null.
type PublicOrNull Public

// Walk visits the area.
func (p *PublicOrNull) Walk(c *Codec) { (*Public)(p).walk(c, true) }

// Name computes the object's Name: nameAlg and the digest of the public area
// (Part 1, 16). It is empty where nameAlg is null.
func (p *Public) Name() Name {
	if _, ok := p.NameAlg.Hash(); !ok {
		return Name{}
	}
	d := p.NameAlg.Digest(Marshal(p))
	return append(Name{byte(p.NameAlg >> 8), byte(p.NameAlg)}, d...)
}

// Clone copies the area and everything it points to.
func (p *Public) Clone() Public {
	q := *p
	q.AuthPolicy = clone(p.AuthPolicy)
	q.Unique = clone(p.Unique)
	q.Point.X, q.Point.Y = clone(p.Point.X), clone(p.Point.Y)
	return q
}

// clone copies b, keeping nil and empty apart from each other.
func clone[B ~[]byte](b B) B {
	if b == nil {
		return nil
	}
	return append(make(B, 0, len(b)), b...)
}

// SizedPublic is a TPM2B_PUBLIC (Part 2, 12.2.5).
type SizedPublic struct{ Public }

// Walk visits the area; a zero length is RCSize.
func (p *SizedPublic) Walk(c *Codec) { c.Sized(false, p.Public.Walk) }

// SizedPublicOrNull is a TPM2B_PUBLIC+: nameAlg may be null.
type SizedPublicOrNull struct{ Public }

// Walk visits the area; a zero length is RCSize.
func (p *SizedPublicOrNull) Walk(c *Codec) {
	c.Sized(false, (*PublicOrNull)(&p.Public).Walk)
}

// Template is a TPM2B_TEMPLATE (Part 2, 12.2.6), in its wire form, since the
// parent says what is in it: a TPMT_PUBLIC, or the DerivedTemplate of a derived
// object. At most Implementation.MaxTemplate bytes.
type Template []byte

// Walk visits the bytes.
func (t *Template) Walk(c *Codec) { c.Buffer((*[]byte)(t), c.Accepts().MaxTemplate()) }

// DerivedTemplate is a TPMT_TEMPLATE with the unique of a derived object: what
// it is derived by.
type DerivedTemplate struct {
	Public
	Derive
}

// Walk visits the template; a null nameAlg is RCHash.
func (t *DerivedTemplate) Walk(c *Codec) { t.Public.walkHead(c, false); t.Derive.Walk(c) }

// Derive is a TPMS_DERIVE (Part 2, 11.1.11): by what an object is derived from
// its parent, at most 32 bytes each.
type Derive struct{ Label, Context []byte }

// maxLabel is the length in bytes of the largest TPM2B_LABEL.
const maxLabel = 32

// Walk visits the fields.
func (d *Derive) Walk(c *Codec) { c.Buffer(&d.Label, maxLabel); c.Buffer(&d.Context, maxLabel) }

// Sensitive is a TPMT_SENSITIVE (Part 2, 12.3.2.4).
type Sensitive struct {
	Type      AlgID
	AuthValue Digest
	SeedValue Digest
	// Sensitive is the TPMU_SENSITIVE_COMPOSITE: one prime of an RSA key, the
	// private scalar of an ECC key, the bits of a keyed-hash object or of a
	// symmetric key.
	Sensitive []byte
}

// maxSymKey is the length in bytes of the largest symmetric key (AES-256).
const maxSymKey = 32

// Walk visits the area.
func (s *Sensitive) Walk(c *Codec) {
	c.U16((*uint16)(&s.Type))
	switch s.Type {
	case AlgRSA, AlgECC, AlgKeyedHash, AlgSymCipher:
	default:
		c.Fail(RCType)
	}
	s.AuthValue.Walk(c)
	s.SeedValue.Walk(c)
	if c.rc != RCSuccess {
		return
	}
	switch s.Type {
	case AlgRSA:
		c.Buffer(&s.Sensitive, c.Accepts().MaxRSABytes/2)
	case AlgECC:
		c.Buffer(&s.Sensitive, maxECCParameter)
	case AlgKeyedHash:
		c.Buffer(&s.Sensitive, MaxSymDataSize)
	case AlgSymCipher:
		c.Buffer(&s.Sensitive, maxSymKey)
	}
}

// Clone copies the area and everything it points to.
func (s *Sensitive) Clone() Sensitive {
	return Sensitive{s.Type, clone(s.AuthValue), clone(s.SeedValue), clone(s.Sensitive)}
}

// Wipe overwrites the secrets.
func (s *Sensitive) Wipe() {
	clear(s.AuthValue)
	clear(s.SeedValue)
	clear(s.Sensitive)
}

// SizedSensitive is a TPM2B_SENSITIVE; it may be absent (LoadExternal of a
// public area alone).
type SizedSensitive struct {
	Present bool
	Sensitive
}

// Walk visits the area, if there is one.
func (s *SizedSensitive) Walk(c *Codec) {
	if c.mode == modeEncode && !s.Present {
		c.Absent()
		return
	}
	s.Present = c.Sized(true, s.Sensitive.Walk)
}

// SensitiveCreate is a TPM2B_SENSITIVE_CREATE (Part 2, 11.1.16).
type SensitiveCreate struct {
	UserAuth Digest
	Data     SensitiveData
}

// Walk visits the structure; a zero length is RCSize.
func (s *SensitiveCreate) Walk(c *Codec) {
	c.Sized(false, func(c *Codec) { s.UserAuth.Walk(c); s.Data.Walk(c) })
}

// Signature is a TPMT_SIGNATURE (Part 2, 11.3.4).
type Signature struct {
	Alg  AlgID
	Hash AlgID  // not for the null signature
	RSA  []byte // RSASSA and RSAPSS
	R, S []byte // the elliptic-curve schemes
	HMAC []byte // of Hash's digest size
}

// Walk visits the signature; a scheme that is not one is RCScheme.
func (s *Signature) Walk(c *Codec) {
	c.U16((*uint16)(&s.Alg))
	// A TPM gives a null signature where there is no key, but takes none.
	if s.Alg == AlgNull && c.impl == nil {
		return
	}
	if c.rc == RCSuccess && !s.Alg.isSigning(c.Accepts()) {
		c.Fail(RCScheme)
	}
	c.HashAlg(&s.Hash, false)
	if c.rc != RCSuccess {
		return
	}
	switch s.Alg {
	case AlgRSASSA, AlgRSAPSS:
		(*RSAPublicKey)(&s.RSA).Walk(c)
	case AlgHMAC:
		c.Raw(&s.HMAC, s.Hash.DigestSize())
	default:
		(*ECCParameter)(&s.R).Walk(c)
		(*ECCParameter)(&s.S).Walk(c)
	}
}
