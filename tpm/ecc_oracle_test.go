package tpm

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// newCryptKey makes a key outside of any TPM.
func newCryptKey(t *testing.T, template tpm2.Public) *crypt.Key {
	t.Helper()
	key, rc := crypt.CreateObject(&template, nil, nil, &crypt.Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	return key
}

// tpms are both TPMs of a pair.
func (p *pair) tpms() []struct {
	name string
	run  func([]byte) []byte
} {
	return []struct {
		name string
		run  func([]byte) []byte
	}{{"ours", p.execute}, {"swtpm", p.o.execute}}
}

// answer is the parameter area of an answer that must be good.
func answer(t *testing.T, what string, resp []byte) []byte {
	t.Helper()
	if code(resp) != tpm2.RCSuccess {
		t.Fatalf("%s: %v", what, code(resp))
	}
	if resp[1] == byte(tpm2.STNoSessions&0xFF) {
		return resp[headerSize:]
	}
	return params(t, resp[headerSize:])
}

// TestCurvesAsSwtpm compares what both say of curves, schemes and RSA sizes.
func TestCurvesAsSwtpm(t *testing.T) {
	p := startedPair(t)
	p.expect(tpm2.RCSuccess, "curves", capabilityCmd(tpm2.CapECCCurves, 0, 100))
	p.expect(tpm2.RCSuccess, "some curves", capabilityCmd(tpm2.CapECCCurves, 4, 3))
	p.expect(tpm2.RCSuccess, "algorithms", capabilityCmd(tpm2.CapAlgs, 0, 100))
	p.expect(tpm2.RCSuccess, "loaded curves", capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTLoadedCurves), 1))
	p.expect(tpm2.RCSuccess, "split signatures", capabilityCmd(tpm2.CapTPMProperties, uint32(tpm2.PTSplitMax), 1))
	for curve := range tpm2.ECCCurve(0x23) {
		p.same("ECC_Parameters", frame(tpm2.CCECCParameters, nil, nil, u16(uint16(curve))))
		p.same("EC_Ephemeral", frame(tpm2.CCECEphemeral, nil, nil, u16(uint16(curve)), []byte{0}))
		for scheme := tpm2.AlgRSASSA; scheme <= tpm2.AlgECMQV; scheme++ {
			p.same("TestParms", frame(tpm2.CCTestParms, nil, nil, u16(uint16(tpm2.AlgECC)), u16(uint16(tpm2.AlgNull)),
				wireScheme(schemeOf(scheme)), u16(uint16(curve)), u16(uint16(tpm2.AlgNull))))
		}
	}
	for _, bits := range []uint16{512, 1024, 1536, 2048, 3072, 4096} {
		p.same("TestParms", frame(tpm2.CCTestParms, nil, nil, u16(uint16(tpm2.AlgRSA)), u16(uint16(tpm2.AlgNull)),
			u16(uint16(tpm2.AlgNull)), u16(bits), u32(0)))
	}
	for alg := range tpm2.AlgID(0x100) {
		cmd := frame(tpm2.CCIncrementalSelfTest, nil, nil, u32(1), u16(uint16(alg)))
		if got, want := code(p.execute(cmd)), code(p.o.execute(cmd)); got != want {
			t.Errorf("IncrementalSelfTest of %v: %v, swtpm %v", alg, got, want)
		}
	}
}

func signCmd(key tpm2.Handle, digest []byte, scheme tpm2.Scheme) []byte {
	wire := wireScheme(scheme)
	if scheme.Alg == tpm2.AlgECDAA {
		wire = tpm2.Marshal((*tpm2.SigScheme)(&scheme))
	}
	return frame(tpm2.CCSign, []tpm2.Handle{key}, password(""), buf16(digest), wire, nullHashCheck)
}

func verifyCmd(key tpm2.Handle, digest, signature []byte) []byte {
	return frame(tpm2.CCVerifySignature, []tpm2.Handle{key}, nil, buf16(digest), signature)
}

// TestECCSignaturesAsSwtpm signs on each TPM, on every curve by every scheme, and
// verifies on both; and compares how schemes are chosen.
func TestECCSignaturesAsSwtpm(t *testing.T) {
	p := startedPair(t)
	schemes := []tpm2.AlgID{tpm2.AlgNull, tpm2.AlgECDSA, tpm2.AlgECSchnorr, tpm2.AlgSM2, tpm2.AlgECDAA, tpm2.AlgECMQV, tpm2.AlgRSASSA}
	for _, curve := range nullProfile.impl.Curves {
		for i, own := range schemes[:5] {
			key := newCryptKey(t, eccKey(signingKey, schemeOf(own), curve))
			h := p.loadCryptKey(key, true)
			public := p.loadCryptKey(key, false)
			for k, want := range schemes {
				hash := tpm2.HashAlgs()[(i+k)%4]
				if own != tpm2.AlgNull && k%2 == 0 {
					hash = tpm2.AlgSHA256
				}
				scheme := tpm2.Scheme{Alg: want, Hash: hash}
				what := fmt.Sprintf("%v, %v key, %v with %v", curve, own, want, hash)
				digest := hash.Digest([]byte(what))
				cmd := signCmd(h, digest, scheme)
				got, theirs := p.execute(cmd), p.o.execute(cmd)
				if code(got) != code(theirs) || len(got) != len(theirs) {
					t.Errorf("%s: %v with %d bytes, swtpm %v with %d", what, code(got), len(got), code(theirs), len(theirs))
				}
				if code(got) != tpm2.RCSuccess {
					continue
				}
				for _, sig := range [][]byte{answer(t, what, got), answer(t, what, theirs)} {
					sig = sig[:len(sig):len(sig)]
					p.expect(tpm2.RCSuccess, what, verifyCmd(public, digest, sig))
					sig = bytes.Clone(sig)
					sig[len(sig)-1] ^= 1
					p.expect(tpm2.RCSignature.P(2), what+", altered", verifyCmd(public, digest, sig))
				}
			}
			p.flush(public)
			p.flush(h)
		}
	}
}

// TestHostileSignaturesAsSwtpm compares how signatures and keys that are none are
// refused.
func TestHostileSignaturesAsSwtpm(t *testing.T) {
	p := startedPair(t)
	// Not zero: by a key whose point is off the curve libtpms takes (x, 1) for an
	// SM2 signature of nothing, x the base point's.
	digest := bytes.Repeat([]byte{1}, 32)
	for _, curve := range nullProfile.impl.Curves {
		c, _ := crypt.CurveOf(curve)
		one := []byte{1}
		more := new(big.Int).Add(new(big.Int).SetBytes(c.N), big.NewInt(1)).Bytes()
		numbers := map[string][]byte{"empty": nil, "zero": make([]byte, 24), "one": one, "the order": c.N, "more": more,
			"80 bytes": bytes.Repeat([]byte{0xFF}, 80), "81 bytes": make([]byte, 81), "padded": append([]byte{0}, c.Gx...)}
		key := newCryptKey(t, eccKey(signingKey, schemeOf(tpm2.AlgNull), curve))
		bad := newCryptKey(t, eccKey(signingKey, schemeOf(tpm2.AlgNull), curve))
		bad.Public.NameAlg = tpm2.AlgNull
		bad.Public.Point.Y = bytes.Clone(bad.Public.Point.Y)
		bad.Public.Point.Y[0] ^= 1
		for _, h := range []tpm2.Handle{p.loadCryptKey(key, false), p.loadCryptKey(bad, false)} {
			for _, alg := range []tpm2.AlgID{tpm2.AlgECDSA, tpm2.AlgECSchnorr, tpm2.AlgSM2, tpm2.AlgECDAA, tpm2.AlgECMQV, tpm2.AlgRSASSA} {
				for name, r := range numbers {
					p.same(fmt.Sprintf("%v, %v, r %s", curve, alg, name), verifyCmd(h, digest, append(append(
						wireScheme(tpm2.Scheme{Alg: alg, Hash: tpm2.AlgSHA256})[:4], buf16(r)...), buf16(one)...)))
					p.same(fmt.Sprintf("%v, %v, s %s", curve, alg, name), verifyCmd(h, digest, append(append(
						wireScheme(tpm2.Scheme{Alg: alg, Hash: tpm2.AlgSHA256})[:4], buf16(one)...), buf16(r)...)))
				}
			}
		}
		p.flush(tpm2.TransientFirst)
		p.flush(tpm2.TransientFirst + 1)
	}
}

// onCurve finds a point of a curve with the x that Commit makes of s2.
func onCurve(t *testing.T, key *crypt.Key) (s2 []byte, p2 tpm2.ECCPoint) {
	t.Helper()
	c, _ := crypt.CurveOf(key.Public.Curve)
	prime := new(big.Int).SetBytes(c.P)
	for i := range byte(255) {
		s2 = []byte{i}
		p2, rc := crypt.CommitPoint(key, s2, nil)
		if rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		x := new(big.Int).SetBytes(p2.X)
		y2 := new(big.Int).Exp(x, big.NewInt(3), prime)
		y2.Add(y2, x.Mul(x, new(big.Int).SetBytes(c.A))).Add(y2, new(big.Int).SetBytes(c.B))
		if y := new(big.Int).ModSqrt(y2.Mod(y2, prime), prime); y != nil {
			p2.Y = y.FillBytes(make([]byte, len(c.P)))
			return s2, p2
		}
	}
	t.Fatal("no point")
	return nil, p2
}

func pointBytes(p tpm2.ECCPoint) []byte { return buf16(tpm2.Marshal(&p)) }

func commitCmd(key tpm2.Handle, p1 tpm2.ECCPoint, s2, y2 []byte) []byte {
	return frame(tpm2.CCCommit, []tpm2.Handle{key}, password(""), pointBytes(p1), buf16(s2), buf16(y2))
}

// commitment checks the points of a commitment, by the r that an ECDAA signature
// with it gives away to who knows the private key: r = s - H(k, digest)·d. It
// gives r and the commitment's number.
func commitment(t *testing.T, what string, run func([]byte) []byte, h tpm2.Handle, key *crypt.Key, p1, p2 *tpm2.ECCPoint, s2 []byte) ([]byte, uint16) {
	t.Helper()
	c, _ := crypt.CurveOf(key.Public.Curve)
	var given tpm2.ECCPoint
	if p1 != nil {
		given = *p1
	}
	var y2 []byte
	if p2 != nil {
		y2 = p2.Y
	}
	made := new(commitOut)
	decode(t, answer(t, what, run(commitCmd(h, given, s2, y2))), made)
	digest := tpm2.AlgSHA256.Digest([]byte(what))
	scheme := tpm2.Scheme{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256, Count: uint16(made.counter)}
	cmd := signCmd(h, digest, scheme)
	var sig tpm2.Signature
	if err := tpm2.Unmarshal(answer(t, what, run(cmd)), &sig); err != nil {
		t.Fatal(err)
	}
	if got := code(run(cmd)); got != tpm2.RCValue {
		t.Errorf("%s: a second signature by one commitment: %v", what, got)
	}
	n := new(big.Int).SetBytes(c.N)
	r := new(big.Int).SetBytes(tpm2.AlgSHA256.Digest(sig.R, digest))
	r.Mul(r, new(big.Int).SetBytes(key.Sensitive.Sensitive))
	r.Sub(new(big.Int).SetBytes(sig.S), r).Mod(r, n)
	secret := r.FillBytes(make([]byte, len(c.N)))
	k, l, e, rc := crypt.Commit(key, p1, p2, secret)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	for name, points := range map[string][2]tpm2.ECCPoint{"K": {made.k.ECCPoint, k}, "L": {made.l.ECCPoint, l}, "E": {made.e.ECCPoint, e}} {
		if got, want := pointBytes(points[0]), pointBytes(points[1]); !bytes.Equal(got, want) {
			t.Errorf("%s: %s is %x, want %x", what, name, got, want)
		}
	}
	return secret, uint16(made.counter)
}

// TestCommitAsSwtpm commits and signs on both TPMs, on every curve.
func TestCommitAsSwtpm(t *testing.T) {
	p := startedPair(t)
	for _, curve := range nullProfile.impl.Curves {
		key := newCryptKey(t, eccKey(signingKey, schemeOf(tpm2.AlgECDAA), curve))
		h := p.loadCryptKey(key, true)
		s2, p2 := onCurve(t, key)
		base := key.Public.Point
		for _, tpm := range p.tpms() {
			for name, points := range map[string][2]*tpm2.ECCPoint{
				"nothing": {}, "P1": {&base}, "P2": {nil, &p2}, "both": {&base, &p2},
			} {
				s := s2
				if points[1] == nil {
					s = nil
				}
				commitment(t, fmt.Sprintf("%s, %v, %s", tpm.name, curve, name), tpm.run, h, key, points[0], points[1], s)
			}
		}
		none := tpm2.ECCPoint{}
		off := tpm2.ECCPoint{X: p2.X, Y: p2.X}
		p.same("off the curve", commitCmd(h, off, nil, nil))
		p.same("half a point", commitCmd(h, tpm2.ECCPoint{X: p2.X}, nil, nil))
		p.same("P2 off the curve", commitCmd(h, none, s2, p2.X))
		p.same("no y2", commitCmd(h, none, s2, nil))
		p.same("no s2", commitCmd(h, none, nil, p2.Y))
		p.same("both off", commitCmd(h, off, s2, p2.X))
		c, _ := crypt.CurveOf(curve)
		above := new(big.Int).Add(new(big.Int).SetBytes(p2.Y), new(big.Int).SetBytes(c.P)).Bytes()
		if len(above) <= 80 {
			for name, cmd := range map[string][]byte{"y2": commitCmd(h, none, s2, above),
				"P1": commitCmd(h, tpm2.ECCPoint{X: p2.X, Y: above}, nil, nil)} {
				if got, want := code(p.execute(cmd)), code(p.o.execute(cmd)); got != want {
					t.Errorf("%v, %s above p: %v, swtpm %v", curve, name, got, want)
				}
			}
		}
		p.flush(h)
		public := p.loadCryptKey(key, false)
		p.same("public only", commitCmd(public, none, s2, p2.Y))
		p.flush(public)
	}
	for _, template := range []tpm2.Public{rsaKey(signingKey, schemeOf(tpm2.AlgRSASSA)),
		eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), eccKey(signingKey, tpm2.Scheme{Alg: tpm2.AlgNull}, tpm2.CurveP256)} {
		h := p.loadKey(template, nil)
		p.same("another key", commitCmd(h, tpm2.ECCPoint{}, nil, nil))
		p.same("ECDAA", signCmd(h, make([]byte, 32), schemeOf(tpm2.AlgECDAA)))
		p.flush(h)
	}
}

// TestCommitmentsAsSwtpm finds swtpm's nonce in the state that it saves: from the
// same nonce come the same secrets.
func TestCommitmentsAsSwtpm(t *testing.T) {
	p := startedPair(t)
	for i, curve := range nullProfile.impl.Curves {
		key := newCryptKey(t, eccKey(signingKey, schemeOf(tpm2.AlgECDAA), curve))
		h := p.loadCryptKey(key, true)
		secret, n := commitment(t, "swtpm", p.o.execute, h, key, nil, nil, nil)
		if int(n) != i {
			t.Fatalf("commitment %d has the number %d", i, n)
		}
		p.flush(h)
		p.o.execute(shutdownCmd(tpm2.SUState))
		state, err := os.ReadFile(filepath.Join(p.o.dir, "tpm2-00.permall"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for at := bytes.Index(state, []byte{0, nonceSize}); at >= 0 && at+2+nonceSize <= len(state) && !found; at++ {
			if state[at] == 0 && state[at+1] == nonceSize {
				r, ok := crypt.CommitmentSecret(curve, state[at+2:at+2+nonceSize], key.Public.Name(), uint64(n))
				found = ok && bytes.Equal(r, secret)
			}
		}
		if !found {
			t.Errorf("%v: no nonce in swtpm's state gives its secret", curve)
		}
	}
}

// ephemeral makes an ephemeral point on a TPM.
func ephemeral(t *testing.T, run func([]byte) []byte, curve tpm2.ECCCurve) *ecEphemeralOut {
	t.Helper()
	out := new(ecEphemeralOut)
	decode(t, answer(t, "EC_Ephemeral", run(frame(tpm2.CCECEphemeral, nil, nil, u16(uint16(curve))))), out)
	return out
}

func zGen2Cmd(key tpm2.Handle, static, passing tpm2.ECCPoint, scheme tpm2.AlgID, n uint16) []byte {
	return frame(tpm2.CCZGen2Phase, []tpm2.Handle{key}, password(""), pointBytes(static), pointBytes(passing),
		u16(uint16(scheme)), u16(n))
}

// TestTwoPhaseAsSwtpm exchanges keys between the two TPMs, on every curve. MQV
// puts libtpms in failure mode: there both parties are ours.
func TestTwoPhaseAsSwtpm(t *testing.T) {
	p := startedPair(t)
	for _, curve := range nullProfile.impl.Curves {
		for _, scheme := range []tpm2.AlgID{tpm2.AlgECDH, tpm2.AlgSM2, tpm2.AlgECMQV} {
			what := fmt.Sprintf("%v, %v", curve, scheme)
			a := newCryptKey(t, eccKey(usable|tpm2.ObjDecrypt, schemeOf(tpm2.AlgNull), curve))
			b := newCryptKey(t, eccKey(usable|tpm2.ObjDecrypt, schemeOf(scheme), curve))
			ha, hb := p.loadCryptKey(a, true), p.loadCryptKey(b, true)
			other := p.o.execute
			// There the product of SM2's is too long for its number.
			long := scheme == tpm2.AlgSM2 && (curve == tpm2.CurveP521 || curve == tpm2.CurveBNP638)
			if scheme == tpm2.AlgECMQV || long {
				other = p.execute
			}
			ea, eb := ephemeral(t, p.execute, curve), ephemeral(t, other, curve)
			za, zb := new(zGen2PhaseOut), new(zGen2PhaseOut)
			cmd := zGen2Cmd(ha, b.Public.Point, eb.q.ECCPoint, scheme, uint16(ea.counter))
			decode(t, answer(t, what, p.execute(cmd)), za)
			decode(t, answer(t, what, other(zGen2Cmd(hb, a.Public.Point, ea.q.ECCPoint, scheme, uint16(eb.counter)))), zb)
			if got, want := tpm2.Marshal(za), tpm2.Marshal(zb); !bytes.Equal(got, want) {
				t.Errorf("%s: we have %x, the other %x", what, got, want)
			}
			if got := code(p.execute(cmd)); got != tpm2.RCValue.P(4) {
				t.Errorf("%s: a second time: %v", what, got)
			}
			p.flush(ha)
			p.flush(hb)
		}
	}
}

// TestTwoPhaseRefusalsAsSwtpm compares what ZGen_2Phase refuses.
func TestTwoPhaseRefusalsAsSwtpm(t *testing.T) {
	p := startedPair(t)
	for _, curve := range nullProfile.impl.Curves {
		p.execute(frame(tpm2.CCECEphemeral, nil, nil, u16(uint16(curve))))
		p.o.execute(frame(tpm2.CCECEphemeral, nil, nil, u16(uint16(curve))))
		key := newCryptKey(t, eccKey(usable|tpm2.ObjDecrypt, schemeOf(tpm2.AlgECDH), curve))
		h := p.loadCryptKey(key, true)
		good := key.Public.Point
		off := tpm2.ECCPoint{X: good.X, Y: good.X}
		c, _ := crypt.CurveOf(curve)
		above := good
		above.X = new(big.Int).Add(new(big.Int).SetBytes(good.X), new(big.Int).SetBytes(c.P)).Bytes()
		p.same("static off", zGen2Cmd(h, off, good, tpm2.AlgECDH, 0))
		p.same("ephemeral off", zGen2Cmd(h, good, off, tpm2.AlgECDH, 0))
		p.same("empty", zGen2Cmd(h, tpm2.ECCPoint{}, good, tpm2.AlgECDH, 0))
		p.same("number", zGen2Cmd(h, good, good, tpm2.AlgECDH, 100))
		p.same("number of a later round", zGen2Cmd(h, good, good, tpm2.AlgECDH, 128))
		p.same("number of an earlier round", zGen2Cmd(h, good, good, tpm2.AlgECDH, 0xFF80))
		if len(above.X) <= 80 {
			static, passing := zGen2Cmd(h, above, good, tpm2.AlgECDH, 100), zGen2Cmd(h, good, above, tpm2.AlgECDH, 100)
			p.expect(tpm2.RCValue.P(4), "static above p", static)
			p.expect(tpm2.RCValue.P(4), "ephemeral above p", passing)
		}
		for scheme := tpm2.AlgNull; scheme <= tpm2.AlgECMQV; scheme++ {
			if scheme != tpm2.AlgECDH {
				p.same(scheme.String(), zGen2Cmd(h, good, good, scheme, 0))
			}
		}
		p.flush(h)
	}
	null := tpm2.Scheme{Alg: tpm2.AlgNull}
	for _, template := range []tpm2.Public{rsaKey(usable|tpm2.ObjDecrypt, null), eccKey(signingKey, null, tpm2.CurveP256),
		storageKey(eccKey(0, null, tpm2.CurveP256))} {
		for _, tpm := range p.tpms() {
			if rc := code(tpm.run(createPrimaryCmd(tpm2.RHOwner, &template, ""))); rc != tpm2.RCSuccess {
				t.Fatalf("%s: CreatePrimary: %v", tpm.name, rc)
			}
		}
		p.same("another key", zGen2Cmd(tpm2.TransientFirst, tpm2.ECCPoint{}, tpm2.ECCPoint{}, tpm2.AlgECDH, 0))
		p.flush(tpm2.TransientFirst)
	}
}

// TestCommitmentRounds commits more often than there is room, and signs by old
// commitments and by the newest.
func TestCommitmentRounds(t *testing.T) {
	p := startedPair(t)
	key := newCryptKey(t, eccKey(signingKey, schemeOf(tpm2.AlgECDAA), tpm2.CurveP256))
	h := p.loadCryptKey(key, true)
	for i := range 300 {
		for _, tpm := range p.tpms() {
			out := new(ecEphemeralOut)
			cmd := frame(tpm2.CCECEphemeral, nil, nil, u16(uint16(tpm2.CurveP256)))
			if decode(t, answer(t, tpm.name, tpm.run(cmd)), out); int(out.counter) != i {
				t.Fatalf("%s: commitment %d has the number %d", tpm.name, i, out.counter)
			}
		}
		if i%37 != 0 {
			continue
		}
		for n := i - 260; n < i+130; n += 13 {
			scheme := tpm2.Scheme{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256, Count: uint16(n)}
			cmd := signCmd(h, make([]byte, 32), scheme)
			if got, want := code(p.execute(cmd)), code(p.o.execute(cmd)); got != want {
				t.Errorf("after %d, commitment %d: %v, swtpm %v", i, n, got, want)
			}
		}
	}
}
