package tpm

import (
	"bytes"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// ecdhCommands are those of Part 3, 14, for elliptic curves.
var ecdhCommands = []command{
	define(command{cc: tpm2.CCECDHKeyGen, readOnly: true,
		handles: []handle{{"keyHandle", anObject, authNone}},
	}, (*Engine).ecdhKeyGen),
	define(command{cc: tpm2.CCECDHZGen, readOnly: true,
		handles: []handle{{"keyHandle", anObject, authUser}},
	}, (*Engine).ecdhZGen),
	define(command{cc: tpm2.CCECCParameters, readOnly: true}, (*Engine).eccParameters),
}

type ecdhKeyGenOut struct{ zPoint, pubPoint tpm2.SizedECCPoint }

// Walk visits the parameters.
func (p *ecdhKeyGenOut) Walk(c *tpm2.Codec) {
	c.Param(&p.zPoint)
	c.Param(&p.pubPoint)
}

// ecdhKeyGen is TPM2_ECDH_KeyGen (Part 3, 14.4).
func (e *Engine) ecdhKeyGen(c *call, _ *none, out *ecdhKeyGenOut) tpm2.RC {
	o := c.objects[0]
	if !hasType(o, tpm2.AlgECC) {
		return tpm2.RCKey.H(1)
	}
	public, shared, rc := crypt.Ephemeral(o.Key, e.cfg.Entropy)
	if rc == tpm2.RCECCPoint {
		return tpm2.RCKey.H(1)
	}
	out.pubPoint.ECCPoint, out.zPoint.ECCPoint = public, shared
	return rc
}

// pointParam is a point, of a command or of its response.
type pointParam struct{ point tpm2.SizedECCPoint }

// Walk visits the parameters.
func (p *pointParam) Walk(c *tpm2.Codec) { c.Param(&p.point) }

// ecdhZGen is TPM2_ECDH_ZGen (Part 3, 14.5).
func (e *Engine) ecdhZGen(c *call, in *pointParam, out *pointParam) tpm2.RC {
	o := c.objects[0]
	if !hasType(o, tpm2.AlgECC) {
		return tpm2.RCKey.H(1)
	}
	if o.Is(tpm2.ObjRestricted) || !o.Is(tpm2.ObjDecrypt) {
		return tpm2.RCAttributes.H(1)
	}
	if s := o.Public.Scheme.Alg; s != tpm2.AlgECDH && s != tpm2.AlgNull {
		return tpm2.RCScheme.H(1)
	}
	var rc tpm2.RC
	out.point.ECCPoint, rc = crypt.Multiply(o.Key, in.point.ECCPoint)
	return rc.P(1)
}

type eccParametersIn struct{ curve tpm2.ECCCurve }

// Walk visits the parameters.
func (p *eccParametersIn) Walk(c *tpm2.Codec) { c.Param(&p.curve) }

// eccDetail is a TPMS_ALGORITHM_DETAIL_ECC (Part 2, 11.2.5.9).
type eccDetail struct {
	curve      tpm2.ECCCurve
	keySize    tpm2.UINT16
	kdf        tpm2.Scheme
	sign       tpm2.AlgID
	parameters [7]tpm2.ECCParameter // p, a, b, gX, gY, n, h
}

// Walk visits the parameters.
func (p *eccDetail) Walk(c *tpm2.Codec) {
	c.Param(&p.curve)
	p.keySize.Walk(c)
	c.U16((*uint16)(&p.kdf.Alg))
	if p.kdf.Alg != tpm2.AlgNull {
		c.U16((*uint16)(&p.kdf.Hash))
	}
	c.U16((*uint16)(&p.sign))
	for i := range p.parameters {
		p.parameters[i].Walk(c)
	}
}

// eccParameters is TPM2_ECC_Parameters (Part 3, 14.6). No curve comes with a
// signing scheme.
func (e *Engine) eccParameters(_ *call, in *eccParametersIn, out *eccDetail) tpm2.RC {
	c, ok := crypt.CurveOf(in.curve)
	if !ok {
		return tpm2.RCValue.P(1)
	}
	out.curve, out.keySize = in.curve, tpm2.UINT16(c.Bits)
	if c.Hash != tpm2.AlgNull {
		out.kdf = tpm2.Scheme{Alg: tpm2.AlgKDF1SP80056A, Hash: c.Hash}
	} else {
		out.kdf.Alg = tpm2.AlgNull
	}
	out.sign = tpm2.AlgNull
	for i, n := range [][]byte{c.P, c.A, c.B, c.Gx, c.Gy, c.N, {1}} {
		out.parameters[i] = n
	}
	if len(bytes.Trim(c.A, "\x00")) == 0 {
		out.parameters[1] = tpm2.ECCParameter{0} // not padded, unlike other numbers
	}
	return tpm2.RCSuccess
}
