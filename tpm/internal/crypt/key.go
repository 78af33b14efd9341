package crypt

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"math/big"
	"sync"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Key is the cryptographic part of a loaded object: its public area, its
// sensitive area where that is loaded, and both parsed once, ready for use. A
// Key does not change after it is made, save that its owner may set
// Sensitive.AuthValue.
type Key struct {
	Public    tpm2.Public
	Sensitive *tpm2.Sensitive // nil where only the public area is loaded

	rsaPublic *rsa.PublicKey
	rsa       *RSAPrivate // of a loaded key nil until its first use: ask privateRSA
	rsaOnce   sync.Once
	// eccPublic is nil where the point is not on the curve, and on a curve that
	// the standard library has not.
	eccPublic *ecdsa.PublicKey
	ecc       *ECCPrivate

	// restore parses a restored key, once, and tells whether it is one; nil of
	// any other.
	restore func() bool
}

// RestoreKey is NewKey for areas that NewKey or CreateObject gave, and that
// were kept where nobody could alter them: they are checked and parsed only
// when the key is first used, so that loading a context and starting up with
// many persistent keys are cheap. Where they make no key after all, every use
// gives TPM_RC_FAILURE. Both areas are copied; sens is nil for a public area
// alone.
func RestoreKey(pub *tpm2.Public, sens *tpm2.Sensitive) *Key {
	k := &Key{Public: pub.Clone()}
	if sens != nil {
		s := sens.Clone()
		k.Sensitive = &s
	}
	k.restore = sync.OnceValue(func() bool { return k.load(blamer{}) == tpm2.RCSuccess })
	return k
}

// ready makes sure that a restored key is parsed, and tells whether it is
// usable. What uses the parsed parts asks it first.
func (k *Key) ready() bool { return k.restore == nil || k.restore() }

// NewKey checks the key material of an object and makes it ready for use. Both
// areas are copied; sens is nil for a public area alone. It does not check what
// attributes and schemes mean; that is the object commands' business.
//
// publicParam and sensitiveParam are the numbers of the parameters to blame, 0
// for none. Codes: TPM_RC_TYPE where the two areas' types differ, TPM_RC_KEY
// and TPM_RC_VALUE for a public part that is no key, TPM_RC_ECC_POINT for a
// point off its curve, TPM_RC_KEY_SIZE and TPM_RC_SIZE for a sensitive part
// of a wrong size, TPM_RC_SCHEME, and TPM_RC_BINDING where the two are not of
// one key. A null nameAlg waives the checks of the binding, except for RSA.
func NewKey(pub *tpm2.Public, sens *tpm2.Sensitive, publicParam, sensitiveParam int) (*Key, tpm2.RC) {
	k := &Key{Public: pub.Clone()}
	blame := blamer{public: publicParam, sensitive: sensitiveParam}
	if sens != nil {
		s := sens.Clone()
		k.Sensitive = &s
		if pub.Type != s.Type {
			return nil, blame.onSensitive(tpm2.RCType)
		}
		if size := pub.NameAlg.DigestSize(); size > 0 && len(s.AuthValue) > size {
			return nil, blame.onSensitive(tpm2.RCSize)
		}
	}
	if rc := k.load(blame); rc != tpm2.RCSuccess {
		return nil, rc
	}
	return k, tpm2.RCSuccess
}

// load checks and parses the areas.
func (k *Key) load(blame blamer) (rc tpm2.RC) {
	switch k.Public.Type {
	case tpm2.AlgRSA:
		rc = k.loadRSA(blame)
	case tpm2.AlgECC:
		rc = k.loadECC(blame)
	default:
		rc = k.loadSymmetric(blame)
	}
	if rc == tpm2.RCSuccess {
		rc = k.checkSeed(blame)
	}
	return rc
}

// blamer puts parameter numbers on codes.
type blamer struct{ public, sensitive int }

func (b blamer) onPublic(rc tpm2.RC) tpm2.RC    { return onParam(rc, b.public) }
func (b blamer) onSensitive(rc tpm2.RC) tpm2.RC { return onParam(rc, b.sensitive) }

func onParam(rc tpm2.RC, n int) tpm2.RC {
	if n == 0 {
		return rc
	}
	return rc.P(n)
}

func (k *Key) loadRSA(blame blamer) tpm2.RC {
	p := &k.Public
	if len(p.Unique) != int(p.KeyBits)/8 || len(p.Unique) == 0 || p.Unique[0] < 0x80 {
		return blame.onPublic(tpm2.RCKey)
	}
	if p.Exponent != 0 && p.Exponent < 7 {
		return blame.onPublic(tpm2.RCValue)
	}
	k.setRSAPublic()
	if k.Sensitive == nil {
		return tpm2.RCSuccess
	}
	_, _, rc := factorRSA(p.Unique, k.Sensitive.Sensitive, p.Exponent)
	if rc == tpm2.RCKeySize {
		return blame.onSensitive(rc)
	}
	return rc
}

// privateRSA is the private key, whose CRT values are computed at the first
// use: that takes ten times as long as the rest of a load, and a key that is
// only a parent, or is loaded to be certified, never needs them. It is nil
// where there is none, or where what passed the checks of the load makes none.
func (k *Key) privateRSA() *RSAPrivate {
	k.rsaOnce.Do(func() {
		if k.rsa == nil && k.Public.Type == tpm2.AlgRSA && k.Private() {
			k.rsa, _ = LoadRSA(k.Public.Unique, k.Sensitive.Sensitive, k.Public.Exponent)
		}
	})
	return k.rsa
}

func (k *Key) setRSAPublic() {
	k.rsaPublic = &rsa.PublicKey{
		N: new(big.Int).SetBytes(k.Public.Unique),
		E: int(publicExponent(k.Public.Exponent)),
	}
}

func (k *Key) loadECC(blame blamer) tpm2.RC {
	p := &k.Public
	c, ok := CurveOf(p.Curve)
	if k.Sensitive == nil {
		if !ok || len(p.Point.X) != c.size() || len(p.Point.Y) != c.size() {
			return blame.onPublic(tpm2.RCKey)
		}
		k.setECCPublic(c)
		if k.eccPublic == nil && p.NameAlg != tpm2.AlgNull && !c.OnCurve(&p.Point) {
			return blame.onPublic(tpm2.RCECCPoint)
		}
		return tpm2.RCSuccess
	}
	private, err := NewECCPrivate(p.Curve, k.Sensitive.Sensitive)
	if err != nil {
		return tpm2.RCKeySize
	}
	k.ecc = private
	k.setECCPublic(c)
	if p.NameAlg == tpm2.AlgNull {
		return tpm2.RCSuccess
	}
	x, okX := fit(p.Point.X, c.size())
	y, okY := fit(p.Point.Y, c.size())
	if !okX || !okY || string(x) != string(private.x) || string(y) != string(private.y) {
		return tpm2.RCBinding
	}
	return tpm2.RCSuccess
}

func (k *Key) setECCPublic(c *Curve) {
	if c.std == nil {
		return
	}
	var err error
	point, _ := uncompressed(c.size(), &k.Public.Point)
	if k.eccPublic, err = ecdsa.ParseUncompressedPublicKey(c.std, point); err == nil {
		return
	}
	if point, ok := c.encode(&k.Public.Point); ok { // with what it is modulo p
		k.eccPublic, _ = ecdsa.ParseUncompressedPublicKey(c.std, point)
	}
}

func (k *Key) loadSymmetric(blame blamer) tpm2.RC {
	p := &k.Public
	size := p.NameAlg.DigestSize()
	if k.Sensitive == nil {
		if len(p.Unique) != size {
			return blame.onPublic(tpm2.RCKey)
		}
		return tpm2.RCSuccess
	}
	if rc := k.checkSymmetricSize(blame); rc != tpm2.RCSuccess || p.NameAlg == tpm2.AlgNull {
		return rc
	}
	if len(k.Sensitive.SeedValue) != size {
		return blame.onSensitive(tpm2.RCKeySize)
	}
	if !Equal(p.Unique, SymmetricUnique(p, k.Sensitive)) {
		return tpm2.RCBinding
	}
	return tpm2.RCSuccess
}

func (k *Key) checkSymmetricSize(blame blamer) tpm2.RC {
	bits := len(k.Sensitive.Sensitive)
	if k.Public.Type == tpm2.AlgSymCipher {
		if bits != int(k.Public.Symmetric.KeyBits+7)/8 {
			return blame.onSensitive(tpm2.RCKeySize)
		}
		if k.Public.Symmetric.Alg == tpm2.AlgTDES && !tdesKey(k.Sensitive.Sensitive) {
			return blame.onSensitive(tpm2.RCKey)
		}
		return tpm2.RCSuccess
	}
	limit := tpm2.MaxSymDataSize
	switch k.Public.Scheme.Alg {
	case tpm2.AlgHMAC, tpm2.AlgXOR:
		limit = k.Public.Scheme.Hash.BlockSize()
	case tpm2.AlgNull:
	default:
		return blame.onPublic(tpm2.RCScheme)
	}
	if bits > limit {
		return blame.onSensitive(tpm2.RCKeySize)
	}
	return tpm2.RCSuccess
}

// checkSeed checks the seed of a parent, from which its children's protection
// is derived.
func (k *Key) checkSeed(blame blamer) tpm2.RC {
	const parent = tpm2.ObjRestricted | tpm2.ObjDecrypt
	if k.Sensitive == nil || k.Public.NameAlg == tpm2.AlgNull || !k.Public.Attributes.Has(parent) {
		return tpm2.RCSuccess
	}
	size := k.Public.NameAlg.DigestSize()
	if n := len(k.Sensitive.SeedValue); n < size/2 || n > size {
		return blame.onSensitive(tpm2.RCSize)
	}
	return tpm2.RCSuccess
}

// SymmetricUnique is the unique field of a keyed-hash or symmetric object: a
// digest that binds the public to the sensitive area (Part 1, 27.5.3.2), by an
// HMAC for parents and a hash for the rest.
func SymmetricUnique(pub *tpm2.Public, sens *tpm2.Sensitive) []byte {
	if pub.Attributes.Has(tpm2.ObjRestricted | tpm2.ObjDecrypt) {
		return HMAC(pub.NameAlg, sens.SeedValue, sens.Sensitive)
	}
	return pub.NameAlg.Digest(sens.SeedValue, sens.Sensitive)
}

// Private reports whether the sensitive area is loaded.
func (k *Key) Private() bool { return k.Sensitive != nil }

// Wipe overwrites the sensitive area. The key must not be used afterwards.
func (k *Key) Wipe() {
	if k.Sensitive != nil {
		k.Sensitive.Wipe()
	}
	if k.ecc != nil {
		clear(k.ecc.d)
	}
	if k.rsa != nil {
		clear(k.rsa.prime)
	}
	k.rsa, k.ecc, k.restore = nil, nil, nil
}
