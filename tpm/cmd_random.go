package tpm

import "github.com/ashlar-cloud/ashlar/tpm2"

// randomCommands are those of Part 3, 16.
var randomCommands = []command{
	define(command{cc: tpm2.CCGetRandom, readOnly: true}, (*Engine).getRandom),
	define(command{cc: tpm2.CCStirRandom, attrs: tpm2.CCAttrNV, readOnly: true}, (*Engine).stirRandom),
}

type getRandomIn struct{ bytesRequested tpm2.UINT16 }

// Walk visits the parameters.
func (p *getRandomIn) Walk(c *tpm2.Codec) { c.Param(&p.bytesRequested) }

type getRandomOut struct{ randomBytes tpm2.Digest }

// Walk visits the parameters.
func (p *getRandomOut) Walk(c *tpm2.Codec) { c.Param(&p.randomBytes) }

// getRandom is TPM2_GetRandom (Part 3, 16.1). It gives at most as many bytes
// as the largest digest has.
func (e *Engine) getRandom(_ *call, in *getRandomIn, out *getRandomOut) tpm2.RC {
	out.randomBytes = e.random(min(int(in.bytesRequested), tpm2.MaxDigestSize))
	return tpm2.RCSuccess
}

type stirRandomIn struct{ inData tpm2.SensitiveData }

// Walk visits the parameters.
func (p *stirRandomIn) Walk(c *tpm2.Codec) { c.Param(&p.inData) }

// stirRandom is TPM2_StirRandom (Part 3, 16.2). The generator is the host's,
// which seeds itself; what a guest adds could not make it better, so it is
// checked and goes nowhere.
func (e *Engine) stirRandom(*call, *stirRandomIn, *none) tpm2.RC { return tpm2.RCSuccess }
