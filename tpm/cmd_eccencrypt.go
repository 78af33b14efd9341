package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// eccEncryptCommands are those of version 1.83, Part 3, 14.8 and 14.9.
var eccEncryptCommands = []command{
	define(command{cc: tpm2.CCECCEncrypt, readOnly: true,
		handles: []handle{{"keyHandle", anObject, authNone}},
	}, (*Engine).eccEncrypt),
	define(command{cc: tpm2.CCECCDecrypt, readOnly: true,
		handles: []handle{{"keyHandle", anObject, authUser}},
	}, (*Engine).eccDecrypt),
}

type eccEncryptIn struct {
	plainText tpm2.MaxBuffer
	scheme    tpm2.KDFScheme
}

// Walk visits the parameters.
func (p *eccEncryptIn) Walk(c *tpm2.Codec) { c.Param(&p.plainText); c.Param(&p.scheme) }

// eccCipherText is a message that is encrypted to an ECC key.
type eccCipherText struct {
	c1 tpm2.SizedECCPoint
	c2 tpm2.MaxBuffer
	c3 tpm2.Digest
}

// Walk visits the parameters.
func (p *eccCipherText) Walk(c *tpm2.Codec) { c.Param(&p.c1); c.Param(&p.c2); c.Param(&p.c3) }

// eccEncrypt is TPM2_ECC_Encrypt.
func (e *Engine) eccEncrypt(c *call, in *eccEncryptIn, out *eccCipherText) tpm2.RC {
	o := c.objects[0]
	if !hasType(o, tpm2.AlgECC) {
		return tpm2.RCKey.H(1)
	}
	scheme, rc := crypt.SelectKDF(o.Key, in.scheme)
	if rc != tpm2.RCSuccess {
		return rc.P(2)
	}
	out.c1.ECCPoint, out.c2, out.c3, rc = crypt.ECCEncrypt(o.Key, scheme, in.plainText, e.cfg.Entropy)
	return rc
}

type eccDecryptIn struct {
	eccCipherText
	scheme tpm2.KDFScheme
}

// Walk visits the parameters.
func (p *eccDecryptIn) Walk(c *tpm2.Codec) { p.eccCipherText.Walk(c); c.Param(&p.scheme) }

type eccDecryptOut struct{ plainText tpm2.MaxBuffer }

// Walk visits the parameters.
func (p *eccDecryptOut) Walk(c *tpm2.Codec) { c.Param(&p.plainText) }

// eccDecrypt is TPM2_ECC_Decrypt.
func (e *Engine) eccDecrypt(c *call, in *eccDecryptIn, out *eccDecryptOut) tpm2.RC {
	o := c.objects[0]
	if !hasType(o, tpm2.AlgECC) {
		return tpm2.RCKey.H(1)
	}
	if o.Is(tpm2.ObjRestricted) || !o.Is(tpm2.ObjDecrypt) {
		return tpm2.RCAttributes.H(1)
	}
	scheme, rc := crypt.SelectKDF(o.Key, in.scheme)
	if rc != tpm2.RCSuccess {
		return rc.P(4)
	}
	out.plainText, rc = crypt.ECCDecrypt(o.Key, scheme, in.c1.ECCPoint, in.c2, in.c3)
	return rc
}
