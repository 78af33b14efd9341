package tpm

import (
	"bytes"
	"math/big"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestCommitmentIsUsedOnce signs by a commitment after Shutdown(STATE), and again
// after the power was cut: two signatures by one commitment give the key away.
// libtpms makes them.
func TestCommitmentIsUsedOnce(t *testing.T) {
	p := startedPair(t)
	key := newCryptKey(t, eccKey(signingKey, schemeOf(tpm2.AlgECDAA), tpm2.CurveP256))
	h := p.loadCryptKey(key, true)
	sign := func(i int) []byte {
		digest := tpm2.AlgSHA256.Digest([]byte{byte(i)})
		return signCmd(h, digest, tpm2.Scheme{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256})
	}
	for _, tpm := range p.tpms() {
		answer(t, tpm.name, tpm.run(commitCmd(h, tpm2.ECCPoint{}, nil, nil)))
		answer(t, tpm.name, tpm.run(frame(tpm2.CCECEphemeral, nil, nil, u16(uint16(tpm2.CurveP256)))))
		answer(t, tpm.name, tpm.run(shutdownCmd(tpm2.SUState)))
		answer(t, tpm.name, tpm.run(sign(1)))
	}
	p.cut()
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUState))
	p.loadCryptKey(key, true)
	if got, want := code(p.execute(sign(2))), code(p.o.execute(sign(2))); got != tpm2.RCValue || want != tpm2.RCSuccess {
		t.Errorf("a second signature: %v, swtpm %v", got, want)
	}
	// What was not used is good for one more.
	other := signCmd(h, make([]byte, 32), tpm2.Scheme{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256, Count: 1})
	for _, want := range []tpm2.RC{tpm2.RCSuccess, tpm2.RCValue} {
		if got, theirs := code(p.execute(other)), code(p.o.execute(other)); got != want || theirs != want {
			t.Errorf("the other commitment: %v, swtpm %v, want %v", got, theirs, want)
		}
	}
	p.cut()
	p.same("Startup", startupCmd(tpm2.SUClear))
	p.loadCryptKey(key, true)
	p.expect(tpm2.RCValue, "after TPM Reset", other)
}

// TestSM2BadKey: libtpms takes a signature for one by a key that is off its curve,
// of which only [s]G counts.
func TestSM2BadKey(t *testing.T) {
	p := startedPair(t)
	c, _ := crypt.CurveOf(tpm2.CurveSM2)
	key := newCryptKey(t, eccKey(signingKey, schemeOf(tpm2.AlgNull), c.ID))
	key.Public.NameAlg = tpm2.AlgNull
	key.Public.Point.Y = bytes.Clone(key.Public.Point.X)
	h := p.loadCryptKey(key, false)
	sig := tpm2.Signature{Alg: tpm2.AlgSM2, Hash: tpm2.AlgSHA256, R: c.Gx, S: []byte{1}}
	cmd := verifyCmd(h, make([]byte, 32), tpm2.Marshal(&sig))
	if got, want := code(p.execute(cmd)), code(p.o.execute(cmd)); got != tpm2.RCSignature.P(2) || want != tpm2.RCSuccess {
		t.Errorf("VerifySignature: %v, swtpm %v", got, want)
	}
}

// TestAnonymousAttestations: an attestation by ECDAA does not say whose it is, and
// its caller's data is signed with it. Its signature is held to s = r + H·d, with
// the point [r]G of the commitment.
func TestAnonymousAttestations(t *testing.T) {
	p := startedPair(t)
	c, _ := crypt.CurveOf(tpm2.CurveP256)
	key := newCryptKey(t, eccKey(signingKey, schemeOf(tpm2.AlgECDAA), c.ID))
	h := p.loadCryptKey(key, true)
	data := []byte("qualifying data")
	var n uint16
	for name, cmd := range map[string]func(scheme []byte) []byte{
		"Certify": func(s []byte) []byte { return frame(tpm2.CCCertify, []tpm2.Handle{h, h}, noAuths(2), buf16(data), s) },
		"Quote": func(s []byte) []byte {
			return frame(tpm2.CCQuote, []tpm2.Handle{h}, password(""), buf16(data), s, []byte{0, 0, 0, 1, 0, 11, 3, 1, 0, 0})
		},
		"GetTime": func(s []byte) []byte {
			return frame(tpm2.CCGetTime, []tpm2.Handle{tpm2.RHEndorsement, h}, noAuths(2), buf16(data), s)
		},
		"GetCommandAuditDigest": func(s []byte) []byte {
			return frame(tpm2.CCGetCommandAuditDigest, []tpm2.Handle{tpm2.RHEndorsement, h}, noAuths(2), buf16(data), s)
		},
	} {
		var attested [2]tpm2.Attest
		for i, tpm := range p.tpms() {
			commit := new(commitOut)
			decode(t, answer(t, name, tpm.run(commitCmd(h, tpm2.ECCPoint{}, nil, nil))), commit)
			n = uint16(commit.counter)
			scheme := tpm2.SigScheme{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256, Count: n}
			out := new(attestOut)
			decode(t, answer(t, name, tpm.run(cmd(tpm2.Marshal(&scheme)))), out)
			digest := tpm2.AlgSHA256.Digest(data, tpm2.AlgSHA256.Digest(out.attest))
			r := new(big.Int).SetBytes(tpm2.AlgSHA256.Digest(out.signature.R, digest))
			r.Mul(r, new(big.Int).SetBytes(key.Sensitive.Sensitive))
			r.Sub(new(big.Int).SetBytes(out.signature.S), r).Mod(r, new(big.Int).SetBytes(c.N))
			point, _ := crypt.CommitPublic(c.ID, r.FillBytes(make([]byte, 32)))
			if got, want := pointBytes(point), pointBytes(commit.e.ECCPoint); !bytes.Equal(got, want) {
				t.Errorf("%s, %s: the signature is not of the commitment", name, tpm.name)
			}
			if err := tpm2.Unmarshal(out.attest, &attested[i]); err != nil {
				t.Fatal(err)
			}
			a := &attested[i]
			if len(a.QualifiedSigner) != 0 || len(a.ExtraData) != 0 || len(a.Certify.QualifiedName) != 0 {
				t.Errorf("%s, %s: the attestation says whose it is: %+v", name, tpm.name, a)
			}
			// What is each TPM's own.
			a.ClockInfo, a.FirmwareVersion, a.Time, a.TimeFirmware = tpm2.ClockInfo{}, 0, tpm2.TimeInfo{}, 0
		}
		if got, want := tpm2.Marshal(&attested[0]), tpm2.Marshal(&attested[1]); !bytes.Equal(got, want) {
			t.Errorf("%s: attested %x, swtpm %x", name, got, want)
		}
	}
}
