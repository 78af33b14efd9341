package crypt

import (
	"bytes"
	"crypto/rand"
	"io"
	"testing"
	"testing/iotest"

	"filippo.io/bigmod"

	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestECCVectors are published signatures with the nonce that gave them: RFC
// 6979, A.2.3 (P-192, SHA-256, "sample") and GB/T 32918.5, A.2.
func TestECCVectors(t *testing.T) {
	for _, v := range []struct {
		curve               tpm2.ECCCurve
		d, x, y, k, e, r, s string
		sign                func(c *Curve, k, d *bigmod.Nat, x, digest []byte) (r, s *bigmod.Nat)
		scheme              tpm2.AlgID
	}{
		{
			tpm2.CurveP192, "6fab034934e4c0fc9ae67f5b5659a9d7d1fefd187ee09fd4",
			"ac2c77f529f91689fea0ea5efec7f210d8eea0b9e047ed56", "3bc723e57670bd4887ebc732c523063d0a7c957bc97c1c43",
			"32b1b6d7d42a05cb449065727a84804fb1a3e34d8f261496",
			"af2bdbe1aa9b6ec1e2ade1d694f41fc71a831d0268e9891562113d8a62add1bf",
			"4b0b8ce98a92866a2820e20aa6b75b56382e0f9bfd5ecb55", "ccdb006926ea9565cbadc840829d8c384e06de1f1e381b85",
			(*Curve).signECDSA, tpm2.AlgECDSA,
		},
		{
			tpm2.CurveSM2, katSM2Scalar,
			"09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020",
			"ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13",
			katSM2Nonce,
			katSM2Digest,
			katSM2[:64],
			katSM2[64:],
			(*Curve).signSM2, tpm2.AlgSM2,
		},
	} {
		c, _ := CurveOf(v.curve)
		private, err := NewECCPrivate(v.curve, known(v.d))
		if err != nil {
			t.Fatal(err)
		}
		if x, y := private.Point(); !bytes.Equal(x, known(v.x)) || !bytes.Equal(y, known(v.y)) {
			t.Errorf("%v: the point is %x, %x", v.curve, x, y)
		}
		ephemeral, err := NewECCPrivate(v.curve, known(v.k))
		if err != nil {
			t.Fatal(err)
		}
		r, s := v.sign(c, c.scalar(ephemeral.d), c.scalar(private.d), ephemeral.x, known(v.e))
		if !bytes.Equal(r.Bytes(c.order), known(v.r)) || !bytes.Equal(s.Bytes(c.order), known(v.s)) {
			t.Errorf("%v: signed %x, %x", v.curve, r.Bytes(c.order), s.Bytes(c.order))
		}
		key := &Key{Public: tpm2.Public{PublicParms: tpm2.PublicParms{Type: tpm2.AlgECC, Curve: v.curve}}}
		key.setECC(private)
		sig := tpm2.Signature{Alg: v.scheme, Hash: tpm2.AlgSHA256, R: known(v.r), S: known(v.s)}
		if got := verdicts(key, known(v.e), &sig); !bytes.Equal(got, known(katVerdicts)) {
			t.Errorf("%v: verdicts %x", v.curve, got)
		}
	}
}

// eccSchemes are those whose signatures can be verified.
var eccSchemes = []tpm2.AlgID{tpm2.AlgECDSA, tpm2.AlgECSchnorr, tpm2.AlgSM2}

// TestECCSchemes signs and verifies on every curve, by every scheme and hash.
func TestECCSchemes(t *testing.T) {
	for _, c := range curves() {
		key := newTestKey(t, signing(storage(tpm2.AlgECC, 0, c.ID, tpm2.AlgSHA256, 128), tpm2.AlgNull, 0))
		for _, alg := range eccSchemes {
			for _, hash := range tpm2.HashAlgs() {
				if c.Bits > 500 && hash != tpm2.AlgSHA512 {
					continue // they are slow
				}
				digest := hash.Digest([]byte("a message"))
				sig, rc := SignDigest(key, tpm2.SigScheme{Alg: alg, Hash: hash}, digest, rand.Reader)
				must(t, rc)
				if len(sig.R) != c.size() || len(sig.S) != c.size() {
					t.Errorf("%v, %v: a signature of %d and %d bytes", c.ID, alg, len(sig.R), len(sig.S))
				}
				if got := verdicts(key, digest, &sig); !bytes.Equal(got, known(katVerdicts)) {
					t.Errorf("%v, %v, %v: verdicts %x", c.ID, alg, hash, got)
				}
			}
		}
	}
}

// TestHostileSignatures are refused, by every scheme on every curve.
func TestHostileSignatures(t *testing.T) {
	for _, c := range curves() {
		key := newTestKey(t, signing(storage(tpm2.AlgECC, 0, c.ID, tpm2.AlgSHA256, 128), tpm2.AlgNull, 0))
		digest := tpm2.AlgSHA256.Digest([]byte("a message"))
		for _, alg := range eccSchemes {
			good, rc := SignDigest(key, tpm2.SigScheme{Alg: alg, Hash: tpm2.AlgSHA256}, digest, rand.Reader)
			must(t, rc)
			for name, alter := range map[string]func(s *tpm2.Signature){
				"no r":           func(s *tpm2.Signature) { s.R = nil },
				"no s":           func(s *tpm2.Signature) { s.S = nil },
				"r = 0":          func(s *tpm2.Signature) { s.R = make([]byte, c.size()) },
				"s = 0":          func(s *tpm2.Signature) { s.S = make([]byte, c.size()) },
				"r = n":          func(s *tpm2.Signature) { s.R = c.N },
				"s = n":          func(s *tpm2.Signature) { s.S = c.N },
				"r of 80 bytes":  func(s *tpm2.Signature) { s.R = bytes.Repeat([]byte{0xFF}, 80) },
				"s of 81 bytes":  func(s *tpm2.Signature) { s.S = bytes.Repeat([]byte{0xFF}, 81) },
				"r and s change": func(s *tpm2.Signature) { s.R, s.S = s.S, s.R },
				"r + s = n": func(s *tpm2.Signature) {
					s.R = c.product(c.scalar(s.S), c.scalar(minusOne(c.N))).Bytes(c.order)
				},
			} {
				sig := good
				alter(&sig)
				if rc := VerifySignature(key, digest, &sig); rc != tpm2.RCSignature {
					t.Errorf("%v, %v, %s: %v", c.ID, alg, name, rc)
				}
			}
			long := good
			long.R, long.S = append([]byte{0}, long.R...), append([]byte{0, 0}, long.S...)
			must(t, VerifySignature(key, digest, &long))
		}
		ecdaa := tpm2.Signature{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256, R: []byte{1}, S: []byte{1}}
		if rc := VerifySignature(key, digest, &ecdaa); rc != tpm2.RCScheme {
			t.Errorf("%v, ECDAA: %v", c.ID, rc)
		}
	}
}

// TestSM2LastKey is about the one private key that SM2 cannot sign with: 1 + d
// has no inverse.
func TestSM2LastKey(t *testing.T) {
	c, _ := CurveOf(tpm2.CurveSM2)
	private, err := NewECCPrivate(c.ID, minusOne(c.N))
	if err != nil {
		t.Fatal(err)
	}
	key := &Key{Public: tpm2.Public{PublicParms: tpm2.PublicParms{Type: tpm2.AlgECC, Curve: c.ID}}, Sensitive: new(tpm2.Sensitive)}
	key.setECC(private)
	scheme := tpm2.SigScheme{Alg: tpm2.AlgSM2, Hash: tpm2.AlgSHA256}
	if _, rc := SignDigest(key, scheme, make([]byte, 32), rand.Reader); rc != tpm2.RCNoResult {
		t.Errorf("signed: %v", rc)
	}
}

// TestECDAA holds a signature to the equation that its verifier checks: [s]P is
// [r]P + [H(nonce, digest)]([d]P).
func TestECDAA(t *testing.T) {
	for _, id := range []tpm2.ECCCurve{tpm2.CurveP256, tpm2.CurveBNP256} {
		c, _ := CurveOf(id)
		key := newTestKey(t, signing(storage(tpm2.AlgECC, 0, id, tpm2.AlgSHA256, 128), tpm2.AlgNull, 0))
		digest := tpm2.AlgSHA1.Digest([]byte("a message"))
		r, err := c.drawScalar(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		sig, rc := SignECDAA(key, tpm2.AlgSHA1, r, digest, rand.Reader)
		must(t, rc)
		if sig.Alg != tpm2.AlgECDAA || sig.R[0] == 0 {
			t.Errorf("%v: %+v", id, sig)
		}
		h := c.scalar(tpm2.AlgSHA1.Digest(sig.R, digest)).Bytes(c.order)
		left, _ := c.group.multiply(nil, sig.S)
		commitment, _ := c.group.multiply(nil, r)
		public, _ := c.encode(&key.Public.Point)
		proof, _ := c.group.multiply(public, h)
		if !bytes.Equal(left, c.group.add(commitment, proof)) {
			t.Errorf("%v: the signature does not hold", id)
		}
		if _, rc := SignDigest(key, tpm2.SigScheme{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA1}, digest, rand.Reader); rc != tpm2.RCScheme {
			t.Errorf("%v: without a commitment: %v", id, rc)
		}
	}
}

// TestNumbersWiped: numbers are wiped after their use, and neither the key nor the
// commitment that they were made of is.
func TestNumbersWiped(t *testing.T) {
	for _, c := range curves() {
		key := newTestKey(t, signing(storage(tpm2.AlgECC, 0, c.ID, tpm2.AlgSHA256, 128), tpm2.AlgNull, 0))
		secret, r := bytes.Clone(key.ecc.d), bytes.Repeat([]byte{1}, c.size())
		digest := make([]byte, 32)
		for _, alg := range eccSchemes {
			_, rc := SignDigest(key, tpm2.SigScheme{Alg: alg, Hash: tpm2.AlgSHA256}, digest, rand.Reader)
			must(t, rc)
		}
		_, rc := SignECDAA(key, tpm2.AlgSHA256, r, digest, rand.Reader)
		must(t, rc)
		_, _, rc = TwoPhase(key, tpm2.AlgECMQV, r, key.Public.Point, key.Public.Point)
		must(t, rc)
		if !bytes.Equal(key.ecc.d, secret) || !bytes.Equal(r, bytes.Repeat([]byte{1}, c.size())) {
			t.Errorf("%v: the key or the commitment was altered", c.ID)
		}
		a, b := c.scalar(secret), c.scalar(r)
		if wipe(a, b); a.IsZero() == 0 || b.IsZero() == 0 {
			t.Errorf("%v: a number is left", c.ID)
		}
	}
}

// TestEphemeral draws from the source that it is given, on every curve, and gives
// what the key agrees on with the point.
func TestEphemeral(t *testing.T) {
	for _, c := range curves() {
		key := newTestKey(t, signing(storage(tpm2.AlgECC, 0, c.ID, tpm2.AlgSHA256, 128), tpm2.AlgNull, 0))
		public, shared, rc := Ephemeral(key, entropy.Replay(1))
		must(t, rc)
		again, _, rc := Ephemeral(key, entropy.Replay(1))
		must(t, rc)
		agreed, rc := Multiply(key, public)
		must(t, rc)
		if !bytes.Equal(agreed.X, shared.X) || !bytes.Equal(agreed.Y, shared.Y) || !bytes.Equal(again.X, public.X) {
			t.Errorf("%v: %x and %x, of %x and %x", c.ID, agreed, shared, public, again)
		}
		if _, _, rc := Ephemeral(key, iotest.ErrReader(io.ErrUnexpectedEOF)); rc != tpm2.RCNoResult {
			t.Errorf("%v: without a source: %v", c.ID, rc)
		}
	}
}

// FuzzECCSignature verifies any signature over any digest on every curve.
func FuzzECCSignature(f *testing.F) {
	var keys []*Key
	for i, c := range curves() {
		key := newTestKey(f, signing(storage(tpm2.AlgECC, 0, c.ID, tpm2.AlgSHA256, 128), tpm2.AlgNull, 0))
		keys = append(keys, key)
		f.Add(uint8(i), uint8(i), c.N, c.Gx, make([]byte, 32))
	}
	f.Fuzz(func(t *testing.T, which, scheme uint8, r, s, digest []byte) {
		key := keys[int(which)%len(keys)]
		sig := tpm2.Signature{Alg: eccSchemes[int(scheme)%len(eccSchemes)], Hash: tpm2.AlgSHA256, R: r, S: s}
		if rc := VerifySignature(key, digest, &sig); rc == tpm2.RCSuccess {
			t.Errorf("%v: a forgery: %+v over %x", key.Public.Curve, sig, digest)
		}
	})
}
