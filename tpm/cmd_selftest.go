package tpm

import (
	"math/bits"
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// selfTestCommands are those of Part 3, 10.
var selfTestCommands = []command{
	define(command{cc: tpm2.CCSelfTest, attrs: tpm2.CCAttrNV, readOnly: true}, (*Engine).selfTest),
	define(command{cc: tpm2.CCIncrementalSelfTest, attrs: tpm2.CCAttrNV, readOnly: true}, (*Engine).incrementalSelfTest),
	define(command{cc: tpm2.CCGetTestResult, readOnly: true}, (*Engine).getTestResult),
}

// testable are the algorithms that have a test, in ascending order.
var testable = crypt.TestableAlgs()

// algSet is a set of testable algorithms: bit i stands for testable[i].
type algSet uint32

func setOf(algs ...tpm2.AlgID) (s algSet) {
	for _, alg := range algs {
		if i := slices.Index(testable, alg); i >= 0 {
			s |= 1 << i
		}
	}
	return s
}

// list gives the set's algorithms in ascending order.
func (s algSet) list() (algs tpm2.AlgList) {
	for i, alg := range testable {
		if s&(1<<i) != 0 {
			algs = append(algs, alg)
		}
	}
	return algs
}

// selfTest is what has been tested since _TPM_Init. A test that fails is not
// recorded here: it puts the TPM in failure mode.
type selfTest struct{ passed algSet }

// basicAlgs are what every TPM uses from its first command on: Startup tests
// them.
var basicAlgs = setOf(tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512,
	tpm2.AlgHMAC, tpm2.AlgAES, tpm2.AlgCFB, tpm2.AlgXOR, tpm2.AlgKDF1SP800108)

// What keys of a type are used with. It is tested before the first such key is
// made, loaded or used.
var (
	rsaAlgs = setOf(tpm2.AlgRSA, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgRSAES, tpm2.AlgOAEP)
	eccAlgs = setOf(tpm2.AlgECC, tpm2.AlgECDSA, tpm2.AlgECDH, tpm2.AlgKDF1SP80056A)
	symAlgs = setOf(tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgECB, tpm2.AlgCMAC)
)

// Walk visits the algorithms that have passed, by identifier. One that this
// program has no test for is dropped.
func (t *selfTest) Walk(c *tpm2.Codec) {
	list := t.passed.list()
	list.Walk(c)
	if c.Decoding() {
		t.passed = setOf(list...)
	}
}

// require tests algorithms that have not been since _TPM_Init, before they are
// used (Part 1, 12.3). A test that fails ends in failure mode.
func (e *Engine) require(algs algSet) {
	for missing := algs &^ e.state.test.passed; missing != 0; missing &= missing - 1 {
		e.runTest(bits.TrailingZeros32(uint32(missing)))
	}
}

// requireKey tests what a key of this kind is used with: a parent protects its
// children with a cipher.
func (e *Engine) requireKey(p *tpm2.PublicParms) {
	algs := setOf(p.Symmetric.Alg, p.Scheme.Alg)
	switch p.Type {
	case tpm2.AlgRSA:
		algs |= rsaAlgs
	case tpm2.AlgECC:
		algs |= eccAlgs
	case tpm2.AlgSymCipher:
		algs |= symAlgs
	}
	e.require(algs)
}

// requireFor tests what a command's objects are used with.
func (e *Engine) requireFor(objects []*object.Object) {
	for _, o := range objects {
		if o != nil && o.Key != nil {
			e.requireKey(&o.Public.PublicParms)
		}
	}
}

// runTest tests one algorithm. A failure is found by Execute, which puts the
// TPM in failure mode.
func (e *Engine) runTest(i int) {
	if err := e.tests.Run(testable[i]); err != nil {
		panic(err)
	}
	e.state.test.passed |= 1 << i
}

type selfTestIn struct{ full tpm2.YesNo }

// Walk visits the parameters.
func (p *selfTestIn) Walk(c *tpm2.Codec) { c.Param(&p.full) }

// selfTest is TPM2_SelfTest (Part 3, 10.2). It answers when all tests are
// done, so TPM_RC_TESTING is never seen; a canceled one goes on at the next
// SelfTest(NO).
func (e *Engine) selfTest(c *call, in *selfTestIn, _ *none) tpm2.RC {
	if in.full {
		e.state.test = selfTest{}
	}
	for i := range testable {
		if e.state.test.passed&(1<<i) != 0 {
			continue
		}
		if c.canceled() {
			return tpm2.RCCanceled
		}
		e.runTest(i)
	}
	return tpm2.RCSuccess
}

type incrementalSelfTestIn struct{ toTest tpm2.AlgList }

// Walk visits the parameters.
func (p *incrementalSelfTestIn) Walk(c *tpm2.Codec) { c.Param(&p.toTest) }

type incrementalSelfTestOut struct{ toDo tpm2.AlgList }

// Walk visits the parameters.
func (p *incrementalSelfTestOut) Walk(c *tpm2.Codec) { c.Param(&p.toDo) }

// incrementalSelfTest is TPM2_IncrementalSelfTest (Part 3, 10.3). The
// algorithms named are tested again even if they have been before; one that is
// only a name for the use of others has no test.
func (e *Engine) incrementalSelfTest(c *call, in *incrementalSelfTestIn, out *incrementalSelfTestOut) tpm2.RC {
	known := e.profile.algorithms()
	for _, alg := range in.toTest {
		if !slices.ContainsFunc(known, func(p tpm2.AlgProperty) bool { return p.Alg == alg }) {
			return tpm2.RCValue.P(1)
		}
	}
	toTest := setOf(in.toTest...)
	for i := range testable {
		if toTest&(1<<i) == 0 {
			continue
		}
		if c.canceled() {
			return tpm2.RCCanceled
		}
		e.runTest(i)
	}
	out.toDo = (^e.state.test.passed).list()
	return tpm2.RCSuccess
}

type getTestResultOut struct {
	outData    tpm2.MaxBuffer
	testResult tpm2.UINT32 // a TPM_RC
}

// Walk visits the parameters.
func (p *getTestResultOut) Walk(c *tpm2.Codec) { c.Param(&p.outData); c.Param(&p.testResult) }

// getTestResult is TPM2_GetTestResult (Part 3, 10.4). A TPM that runs it has
// not failed: executeFailed answers for one that has.
func (e *Engine) getTestResult(_ *call, _ *none, out *getTestResultOut) tpm2.RC {
	out.testResult = tpm2.UINT32(tpm2.RCSuccess)
	return tpm2.RCSuccess
}
