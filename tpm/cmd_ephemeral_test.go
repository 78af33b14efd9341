package tpm

import (
	"bytes"
	"math/big"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestCommitmentsOfKeysWithoutNames signs by a commitment of EC_Ephemeral, or of
// one key, with another key whose private part is known. Such a signature gives
// the commitment's secret away, which must be of no use: not the ephemeral
// private key, nor what the first key will sign by.
func TestCommitmentsOfKeysWithoutNames(t *testing.T) {
	r := fullRig(t, true)
	pub := eccKey(tpm2.ObjUserWithAuth|tpm2.ObjNoDA|tpm2.ObjSign, schemeOf(tpm2.AlgECDAA), tpm2.CurveP256)
	pub.NameAlg = tpm2.AlgNull
	load := func(d byte) tpm2.Handle {
		t.Helper()
		key, err := crypt.NewECCPrivate(tpm2.CurveP256, []byte{d})
		if err != nil {
			t.Fatal(err)
		}
		pub.Point.X, pub.Point.Y = key.Point()
		resp := r.execute(loadExternalCmd(&pub, &tpm2.Sensitive{Type: tpm2.AlgECC, Sensitive: key.Scalar()}, tpm2.RHNull))
		return tpm2.TransientFirst + tpm2.Handle(answer(t, "LoadExternal", resp)[3])
	}
	const known = 5
	one, other := load(3), load(known)
	digest := make([]byte, 32)
	// secret is what a signature with the known key gives away.
	secret := func(n uint16) []byte {
		t.Helper()
		var sig tpm2.Signature
		scheme := tpm2.Scheme{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256, Count: n}
		if err := tpm2.Unmarshal(answer(t, "Sign", r.execute(signCmd(other, digest, scheme))), &sig); err != nil {
			t.Fatal(err)
		}
		c, _ := crypt.CurveOf(tpm2.CurveP256)
		v := new(big.Int).SetBytes(tpm2.AlgSHA256.Digest(sig.R, digest))
		v.Mul(v, big.NewInt(known)).Sub(new(big.Int).SetBytes(sig.S), v).Mod(v, new(big.Int).SetBytes(c.N))
		return v.FillBytes(make([]byte, len(c.N)))
	}
	differ := func(what string, n uint16, made tpm2.ECCPoint) {
		t.Helper()
		guess, rc := crypt.CommitPublic(tpm2.CurveP256, secret(n))
		if rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		if bytes.Equal(guess.X, made.X) {
			t.Errorf("%s: another key's signature gives the secret away", what)
		}
	}
	made := ephemeral(t, r.execute, tpm2.CurveP256)
	differ("EC_Ephemeral", uint16(made.counter), made.q.ECCPoint)
	commit := new(commitOut)
	decode(t, answer(t, "Commit", r.execute(commitCmd(one, tpm2.ECCPoint{}, nil, nil))), commit)
	differ("Commit", uint16(commit.counter), commit.e.ECCPoint)
}
