package crypt

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Tests runs known-answer self-tests (Part 1, 12.3 and 12.4; Part 3, 10). The
// zero value is ready for use.
type Tests struct {
	// Fail, where it is set, is asked for each algorithm whether its test shall
	// fail: that is how a test of the engine reaches failure mode.
	Fail func(alg tpm2.AlgID) bool
}

// Run runs the test of one algorithm. An error means that the TPM must enter
// failure mode. An algorithm without a test, see TestableAlgs, passes.
func (t Tests) Run(alg tpm2.AlgID) error {
	for i := range knownAnswers {
		if k := &knownAnswers[i]; k.alg == alg {
			return t.run(k)
		}
	}
	return nil
}

func (t Tests) run(k *knownAnswer) error {
	got, err := k.compute()
	if err != nil {
		return fmt.Errorf("crypt: the self-test of %v stopped: %w", k.alg, err)
	}
	if t.Fail != nil && t.Fail(k.alg) {
		got[0] ^= 1
	}
	if !bytes.Equal(got, known(k.want)) {
		return fmt.Errorf("crypt: the self-test of %v gave a wrong answer", k.alg)
	}
	return nil
}

// TestableAlgs lists the algorithms that have a self-test, in ascending order:
// what IncrementalSelfTest's toDoList starts with.
func TestableAlgs() []tpm2.AlgID {
	algs := make([]tpm2.AlgID, len(knownAnswers))
	for i := range knownAnswers {
		algs[i] = knownAnswers[i].alg
	}
	return algs
}

// knownAnswer is the test of one algorithm: what compute gives must be want.
type knownAnswer struct {
	alg     tpm2.AlgID
	want    string // hexadecimal
	compute func() ([]byte, error)
}

// knownAnswers is in ascending order of algorithm.
var knownAnswers = [...]knownAnswer{
	{tpm2.AlgRSA, katRaw + katSHA256, katRSARaw},
	{tpm2.AlgTDES, katTDES + katTDESPlain, katMode(tpm2.AlgTDES, katTDESKey, tpm2.AlgECB, "", katTDESPlain)},
	{tpm2.AlgSHA1, katSHA1, katDigest(tpm2.AlgSHA1)},
	{tpm2.AlgHMAC, katHMAC, func() ([]byte, error) {
		return HMAC(tpm2.AlgSHA256, []byte("Jefe"), []byte("what do ya want "), []byte("for nothing?")), nil
	}},
	{tpm2.AlgAES, katAES256 + katAES256Plain, katMode(tpm2.AlgAES, katAES256Key, tpm2.AlgECB, "", katAES256Plain)},
	{tpm2.AlgXOR, katXOR, func() ([]byte, error) {
		data := append(bytes.Repeat([]byte("abc"), 13), 'a')
		XORObfuscate(tpm2.AlgSHA256, []byte("key"), []byte("contextU"), []byte("contextV"), data)
		return data, nil
	}},
	{tpm2.AlgSHA256, katSHA256, katDigest(tpm2.AlgSHA256)},
	{tpm2.AlgSHA384, katSHA384, katDigest(tpm2.AlgSHA384)},
	{tpm2.AlgSHA512, katSHA512, katDigest(tpm2.AlgSHA512)},
	{tpm2.AlgRSASSA, katRSASSA, katSignRSASSA},
	{tpm2.AlgRSAES, katMessage, katDecrypt(katRSAES, tpm2.RSADecryptScheme{Alg: tpm2.AlgRSAES})},
	{tpm2.AlgRSAPSS, katVerdicts, katVerifyPSS},
	{tpm2.AlgOAEP, katMessage,
		katDecrypt(katOAEP, tpm2.RSADecryptScheme{Alg: tpm2.AlgOAEP, Hash: tpm2.AlgSHA256})},
	{tpm2.AlgECDSA, katECDSA + katVerdicts, katSignECDSA},
	{tpm2.AlgECDH, katECDH, katAgree},
	{tpm2.AlgECDAA, katNonce + katECDAA, katSignECDAA},
	{tpm2.AlgSM2, katSM2 + katVerdicts, katSignSM2},
	{tpm2.AlgECSchnorr, katECSchnorr + katVerdicts, katSignECSchnorr},
	{tpm2.AlgKDF1SP80056A, katKDFe, func() ([]byte, error) {
		return KDFe(tpm2.AlgSHA256, []byte("z"), "LABEL", []byte("partyU"), []byte("partyV"), 384), nil
	}},
	{tpm2.AlgKDF1SP800108, katKDFa, func() ([]byte, error) {
		return KDFa(tpm2.AlgSHA256, []byte("key"), "LABEL", []byte("contextU"), []byte("contextV"), 384), nil
	}},
	{tpm2.AlgECC, katPrimaryScalar, func() ([]byte, error) {
		d := NewPrimaryDRBG(known(katPrimarySeed), SeedLatest, known(katPrimaryName), nil)
		k, err := DeriveECC(d, tpm2.CurveP384)
		if err != nil {
			return nil, err
		}
		return bytes.Clone(k.Scalar()), nil
	}},
	{tpm2.AlgCamellia, katCamellia + katCamelliaPlain,
		katMode(tpm2.AlgCamellia, katCamelliaKey, tpm2.AlgECB, "", katCamelliaPlain)},
	{tpm2.AlgCMAC, katCMAC, func() ([]byte, error) {
		mac, rc := NewCMAC(tpm2.AlgAES, known(katAESKey))
		if rc != tpm2.RCSuccess {
			return nil, rc
		}
		mac.Update(known(katAESPlain + katCMACRest))
		return mac.Sum(), nil
	}},
	{tpm2.AlgCTR, katAESCTR + katAESPlain, katMode(tpm2.AlgAES, katAESKey, tpm2.AlgCTR, katAESCounter, katAESPlain)},
	{tpm2.AlgOFB, katAESOFB + katAESPlain, katMode(tpm2.AlgAES, katAESKey, tpm2.AlgOFB, katAESIV, katAESPlain)},
	{tpm2.AlgCBC, katAESCBC + katAESPlain, katMode(tpm2.AlgAES, katAESKey, tpm2.AlgCBC, katAESIV, katAESPlain)},
	{tpm2.AlgCFB, katAESCFB + katAESPlain, katMode(tpm2.AlgAES, katAESKey, tpm2.AlgCFB, katAESIV, katAESPlain)},
	{tpm2.AlgECB, katAESECB + katAESPlain, katMode(tpm2.AlgAES, katAESKey, tpm2.AlgECB, "", katAESPlain)},
}

const (
	katMessage  = "6b6e6f776e20616e73776572" // "known answer"
	katVerdicts = "0100"                     // the good signature passes, the bad one does not
)

// known decodes a vector.
func known(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("crypt: a self-test vector is not hexadecimal")
	}
	return b
}

func katDigest(alg tpm2.AlgID) func() ([]byte, error) {
	return func() ([]byte, error) { return alg.Digest([]byte("abc")), nil }
}

// katMode gives the ciphertext of plain, and what that decrypts to.
func katMode(alg tpm2.AlgID, key string, mode tpm2.AlgID, iv, plain string) func() ([]byte, error) {
	return func() ([]byte, error) {
		data := known(plain)
		if rc := Encrypt(alg, known(key), mode, known(iv), data); rc != tpm2.RCSuccess {
			return nil, rc
		}
		out := bytes.Clone(data)
		if rc := Decrypt(alg, known(key), mode, known(iv), data); rc != tpm2.RCSuccess {
			return nil, rc
		}
		return append(out, data...), nil
	}
}

// katKey is the RSA key of the tests.
func katKey() (*Key, error) {
	public := tpm2.Public{
		PublicParms: tpm2.PublicParms{
			Type: tpm2.AlgRSA, KeyBits: 2048,
			Symmetric: tpm2.SymDef{Alg: tpm2.AlgNull}, Scheme: tpm2.Scheme{Alg: tpm2.AlgNull},
		},
		NameAlg: tpm2.AlgSHA256, Unique: known(katModulus),
	}
	key, rc := NewKey(&public, &tpm2.Sensitive{Type: tpm2.AlgRSA, Sensitive: known(katPrime)}, 0, 0)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	return key, nil
}

func katRSARaw() ([]byte, error) {
	key, err := katKey()
	if err != nil {
		return nil, err
	}
	null := tpm2.RSADecryptScheme{Alg: tpm2.AlgNull}
	out, rc := RSAEncrypt(key, null, nil, known(katSHA256), nil)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	back, rc := RSADecrypt(key, null, nil, out)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	return append(out, back[len(back)-32:]...), nil
}

func katSignRSASSA() ([]byte, error) {
	key, err := katKey()
	if err != nil {
		return nil, err
	}
	scheme := tpm2.SigScheme{Alg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA256}
	sig, rc := SignDigest(key, scheme, known(katSHA256), nil)
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	return sig.RSA, nil
}

func katDecrypt(ciphertext string, scheme tpm2.RSADecryptScheme) func() ([]byte, error) {
	return func() ([]byte, error) {
		key, err := katKey()
		if err != nil {
			return nil, err
		}
		out, rc := RSADecrypt(key, scheme, []byte("KAT\x00"), known(ciphertext))
		if rc != tpm2.RCSuccess {
			return nil, rc
		}
		return out, nil
	}
}

func katVerifyPSS() ([]byte, error) {
	key, err := katKey()
	if err != nil {
		return nil, err
	}
	sig := tpm2.Signature{Alg: tpm2.AlgRSAPSS, Hash: tpm2.AlgSHA256, RSA: known(katRSAPSS)}
	return verdicts(key, known(katSHA256), &sig), nil
}

// verdicts are those on a good signature, and on the same over another digest.
func verdicts(key *Key, digest []byte, sig *tpm2.Signature) []byte {
	out := []byte{0, 0}
	for i := range out {
		if VerifySignature(key, digest, sig) == tpm2.RCSuccess {
			out[i] = 1
		}
		digest = bytes.Clone(digest)
		digest[0] ^= 1
	}
	return out
}

// katECC is a key of the tests.
func katECC(curve tpm2.ECCCurve, scalar string) (*Key, error) {
	private, err := NewECCPrivate(curve, known(scalar))
	if err != nil {
		return nil, err
	}
	key := &Key{Public: tpm2.Public{
		PublicParms: tpm2.PublicParms{Type: tpm2.AlgECC, Curve: curve},
		NameAlg:     tpm2.AlgSHA256,
	}, Sensitive: new(tpm2.Sensitive)}
	key.setECC(private)
	return key, nil
}

func katSignECDSA() ([]byte, error) {
	key, err := katECC(tpm2.CurveP256, katECDSAScalar)
	if err != nil {
		return nil, err
	}
	digest := tpm2.AlgSHA256.Digest([]byte("sample"))
	// Without a random source the standard library signs as RFC 6979 says.
	der, err := key.ecc.sign.Sign(nil, digest, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var parsed struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &parsed); err != nil || len(rest) != 0 {
		return nil, errors.New("the signature is not one in ASN.1")
	}
	sig := tpm2.Signature{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256, R: parsed.R.Bytes(), S: parsed.S.Bytes()}
	return append(append(bytes.Clone(sig.R), sig.S...), verdicts(key, digest, &sig)...), nil
}

func katAgree() ([]byte, error) {
	key, err := katECC(tpm2.CurveP256, katECDHScalar)
	if err != nil {
		return nil, err
	}
	z, rc := Multiply(key, tpm2.ECCPoint{X: known(katECDHPeerX), Y: known(katECDHPeerY)})
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	return z.X, nil
}

// zeroReader makes every scalar that is drawn 1.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func katSignECDAA() ([]byte, error) {
	key, err := katECC(tpm2.CurveBNP256, katECDSAScalar)
	if err != nil {
		return nil, err
	}
	sig, rc := SignECDAA(key, tpm2.AlgSHA256, known(katECDHScalar), known(katSHA256), zeroReader{})
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	return append(sig.R, sig.S...), nil
}

func katSignECSchnorr() ([]byte, error) {
	key, err := katECC(tpm2.CurveBNP256, katECDSAScalar)
	if err != nil {
		return nil, err
	}
	scheme := tpm2.SigScheme{Alg: tpm2.AlgECSchnorr, Hash: tpm2.AlgSHA256}
	sig, rc := SignDigest(key, scheme, known(katSHA256), zeroReader{})
	if rc != tpm2.RCSuccess {
		return nil, rc
	}
	return append(append(bytes.Clone(sig.R), sig.S...), verdicts(key, known(katSHA256), &sig)...), nil
}

func katSignSM2() ([]byte, error) {
	key, err := katECC(tpm2.CurveSM2, katSM2Scalar)
	if err != nil {
		return nil, err
	}
	ephemeral, err := NewECCPrivate(tpm2.CurveSM2, known(katSM2Nonce))
	if err != nil {
		return nil, err
	}
	c := key.ecc.curve
	r, s := c.signSM2(c.scalar(ephemeral.d), c.scalar(key.ecc.d), ephemeral.x, known(katSM2Digest))
	sig := tpm2.Signature{Alg: tpm2.AlgSM2, Hash: tpm2.AlgSHA256, R: r.Bytes(c.order), S: s.Bytes(c.order)}
	return append(append(bytes.Clone(sig.R), sig.S...), verdicts(key, known(katSM2Digest), &sig)...), nil
}
