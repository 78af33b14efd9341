package tpm

import "github.com/ashlar-cloud/ashlar/tpm2"

// testParmsCommands are those of Part 3, 30 that test parameters.
var testParmsCommands = []command{
	define(command{cc: tpm2.CCTestParms, readOnly: true}, (*Engine).testParms),
}

type testParmsIn struct{ parameters tpm2.PublicParms }

// Walk visits the parameter.
func (p *testParmsIn) Walk(c *tpm2.Codec) { c.Param(&p.parameters) }

// testParms is TPM2_TestParms (Part 3, 30.3): decoding the parameters has
// tested them.
func (e *Engine) testParms(*call, *testParmsIn, *none) tpm2.RC { return tpm2.RCSuccess }
