package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// asymmetricCommands are those of Part 3, 14.
var asymmetricCommands = []command{
	define(command{cc: tpm2.CCRSAEncrypt, readOnly: true,
		handles: []handle{{"keyHandle", anObject, authNone}},
	}, (*Engine).rsaEncrypt),
	define(command{cc: tpm2.CCRSADecrypt, readOnly: true,
		handles: []handle{{"keyHandle", anObject, authUser}},
	}, (*Engine).rsaDecrypt),
}

// hasType reports whether an object is a key of a type. A sequence is not.
func hasType(o *object.Object, alg tpm2.AlgID) bool { return o.Key != nil && o.Public.Type == alg }

// labelIsFormed reports whether a label is empty or ends with a zero byte.
func labelIsFormed(label []byte) bool { return len(label) == 0 || label[len(label)-1] == 0 }

// rsaIn is what RSA_Encrypt and RSA_Decrypt have in common.
type rsaIn struct {
	data   tpm2.RSAPublicKey // message or cipherText
	scheme tpm2.RSADecryptScheme
	label  tpm2.Data
}

// Walk visits the parameters.
func (p *rsaIn) Walk(c *tpm2.Codec) { c.Param(&p.data); c.Param(&p.scheme); c.Param(&p.label) }

type rsaOut struct{ data tpm2.RSAPublicKey } // outData or message

// Walk visits the parameters.
func (p *rsaOut) Walk(c *tpm2.Codec) { c.Param(&p.data) }

// rsaEncrypt is TPM2_RSA_Encrypt (Part 3, 14.2).
func (e *Engine) rsaEncrypt(c *call, in *rsaIn, out *rsaOut) tpm2.RC {
	key := c.objects[0]
	switch {
	case !hasType(key, tpm2.AlgRSA):
		return tpm2.RCKey.H(1)
	case !key.Is(tpm2.ObjDecrypt):
		return tpm2.RCAttributes.H(1)
	case !labelIsFormed(in.label):
		return tpm2.RCValue.P(3)
	}
	scheme, rc := crypt.SelectDecryptScheme(key.Key, in.scheme)
	if rc != tpm2.RCSuccess {
		return tpm2.RCScheme.P(2)
	}
	if rc = e.mayDecryptWith(scheme); rc != tpm2.RCSuccess {
		return rc
	}
	out.data, rc = crypt.RSAEncrypt(key.Key, scheme, in.label, in.data, e.cfg.Entropy)
	return rc
}

// rsaDecrypt is TPM2_RSA_Decrypt (Part 3, 14.3).
func (e *Engine) rsaDecrypt(c *call, in *rsaIn, out *rsaOut) tpm2.RC {
	key := c.objects[0]
	switch {
	case !hasType(key, tpm2.AlgRSA):
		return tpm2.RCKey.H(1)
	case key.Is(tpm2.ObjRestricted) || !key.Is(tpm2.ObjDecrypt):
		return tpm2.RCAttributes.H(1)
	case !labelIsFormed(in.label):
		return tpm2.RCValue.P(3)
	}
	scheme, rc := crypt.SelectDecryptScheme(key.Key, in.scheme)
	if rc != tpm2.RCSuccess {
		return tpm2.RCScheme.P(2)
	}
	if rc = e.mayDecryptWith(scheme); rc != tpm2.RCSuccess {
		return rc
	}
	out.data, rc = crypt.RSADecrypt(key.Key, scheme, in.label, in.data)
	return rc
}
