package tpm

import (
	"crypto/elliptic"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// A panic in the engine is failure mode until the next power cycle. What a guest
// can send must never cause one: these are keys that no TPM makes and that
// LoadExternal takes.

// alive fails the test if the TPM has entered failure mode.
func (r *rig) alive(what string) {
	r.t.Helper()
	if r.e.failed {
		r.t.Fatalf("%s put the TPM in failure mode", what)
	}
}

// namelessECC is a key without a nameAlg, and its private part: 1, so that the
// public point is the base point.
func namelessECC(attrs tpm2.ObjectAttributes) (*tpm2.Public, *tpm2.Sensitive) {
	pub := eccKey(attrs, schemeOf(tpm2.AlgNull), tpm2.CurveP256)
	pub.NameAlg = tpm2.AlgNull
	g := elliptic.P256().Params()
	pub.Point = tpm2.ECCPoint{X: g.Gx.FillBytes(make([]byte, 32)), Y: g.Gy.FillBytes(make([]byte, 32))}
	return &pub, &tpm2.Sensitive{Type: tpm2.AlgECC, Sensitive: append(make([]byte, 31), 1)}
}

// TestSecretsForKeysWithoutNameAlg: the nameAlg says how long a seed is, so that
// there can be none without it. swtpm takes an empty one, which protects
// nothing.
func TestSecretsForKeysWithoutNameAlg(t *testing.T) {
	r := newRig(t, true)
	parent, _ := namelessECC(tpm2.ObjRestricted | tpm2.ObjDecrypt | tpm2.ObjUserWithAuth)
	parent.Symmetric = tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
	if rc := code(r.execute(loadExternalCmd(parent, nil, tpm2.RHNull))); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	r.must(tpm2.RCKey, tpm2.CCMakeCredential, []tpm2.Handle{tpm2.TransientFirst}, nil, buf16(nil), buf16(nil))

	key, sens := namelessECC(tpm2.ObjDecrypt | tpm2.ObjUserWithAuth)
	if rc := code(r.execute(loadExternalCmd(key, sens, tpm2.RHNull))); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	salt := tpm2.Marshal(&tpm2.SizedECCPoint{ECCPoint: key.Point})
	r.must(tpm2.RCValue.P(2), tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.TransientFirst + 1, tpm2.RHNull}, nil,
		buf16(make([]byte, 16)), salt, []byte{0}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
	r.alive("a key without a nameAlg")
}

// oddNumber is a number of exactly so many bits, odd or prime.
func oddNumber(rnd *rand.Rand, bits int, prime bool) *big.Int {
	b := make([]byte, (bits+7)/8)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	n := new(big.Int).SetBytes(b)
	n.SetBit(n, 0, 1)
	for i := n.BitLen(); i >= bits; i-- {
		n.SetBit(n, i, 0)
	}
	n.SetBit(n, bits-1, 1)
	for prime && !n.ProbablyPrime(10) {
		n.Add(n, big.NewInt(2))
	}
	return n
}

// TestRSAKeysOfOddPrimes loads RSA keys whose second prime is longer than the
// first, whose primes are not, or are even, and uses what is taken.
func TestRSAKeysOfOddPrimes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 3))
	// The lowest 1024-bit prime leaves room for a second one of 1025 bits.
	low := oddNumber(rnd, 1024, false)
	low.SetBit(new(big.Int), 1023, 1)
	for low.SetBit(low, 0, 1); !low.ProbablyPrime(10); low.Add(low, big.NewInt(2)) {
	}
	long := oddNumber(rnd, 1025, false)
	for i := range 64 { // far enough below 2^1025
		long.SetBit(long, 1023-i, 0)
	}
	for !long.ProbablyPrime(10) {
		long.Add(long, big.NewInt(2))
	}
	even := new(big.Int).SetBit(oddNumber(rnd, 1024, false), 0, 0)
	high := oddNumber(rnd, 1024, true)
	for high.Bit(1022) == 0 {
		high = oddNumber(rnd, 1024, true)
	}
	composite := new(big.Int).Mul(oddNumber(rnd, 512, true), oddNumber(rnd, 512, true))
	for composite.BitLen() < 1024 || composite.Bit(1022) == 0 {
		composite.Mul(oddNumber(rnd, 512, true), oddNumber(rnd, 512, true))
	}
	used := 0
	for _, c := range []struct {
		name     string
		p, q     *big.Int
		exponent uint32
	}{
		{"a longer second prime", low, long, 0},
		{"a composite", composite, high, 0},
		{"a composite cofactor", high, composite, 0},
		{"an even prime", even, high, 0},
		{"the same prime twice", high, high, 0},
		{"the largest exponent", low, long, 0xFFFFFFFF},
		{"an even exponent", low, long, 0xFFFFFFFE},
		{"an exponent of 32 bits", high, long, 0x80000001},
	} {
		r := newRig(t, true)
		pub := rsaKey(tpm2.ObjDecrypt|tpm2.ObjSign|tpm2.ObjUserWithAuth, schemeOf(tpm2.AlgNull))
		n := new(big.Int).Mul(c.p, c.q)
		pub.Unique, pub.Exponent = n.Bytes(), c.exponent
		sens := &tpm2.Sensitive{Type: tpm2.AlgRSA, Sensitive: c.p.FillBytes(make([]byte, 128))}
		rc := code(r.execute(loadExternalCmd(&pub, sens, tpm2.RHNull)))
		r.alive(c.name)
		if rc != tpm2.RCSuccess {
			t.Logf("%s: %v", c.name, rc)
			if code(r.execute(loadExternalCmd(&pub, nil, tpm2.RHNull))) != tpm2.RCSuccess {
				continue
			}
		}
		used++
		r.useRSA(c.name)
	}
	if used < 4 {
		t.Errorf("only %d of the keys were used", used)
	}
}

// useRSA uses the first loaded object for everything that an RSA key is for.
func (r *rig) useRSA(what string) {
	r.t.Helper()
	key := []tpm2.Handle{tpm2.TransientFirst}
	data := make([]byte, 256)
	for i := range data {
		data[i] = 0x55
	}
	null, sha256 := u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256))
	for _, alg := range []tpm2.AlgID{tpm2.AlgNull, tpm2.AlgRSAES, tpm2.AlgOAEP} {
		scheme := u16(uint16(alg))
		if alg == tpm2.AlgOAEP {
			scheme = append(scheme, sha256...)
		}
		r.run(tpm2.CCRSADecrypt, key, password(""), buf16(data), scheme, buf16(nil))
		r.alive(what + ": RSA_Decrypt, " + alg.String())
		r.run(tpm2.CCRSAEncrypt, key, nil, buf16(data[:32]), scheme, buf16(nil))
		r.alive(what + ": RSA_Encrypt, " + alg.String())
	}
	ticket := append(append(u16(uint16(tpm2.STHashCheck)), u32(uint32(tpm2.RHNull))...), null...)
	copy(ticket[6:], []byte{0, 0})
	for _, alg := range []tpm2.AlgID{tpm2.AlgRSASSA, tpm2.AlgRSAPSS} {
		scheme := append(u16(uint16(alg)), sha256...)
		r.run(tpm2.CCSign, key, password(""), buf16(data[:32]), scheme, ticket)
		r.alive(what + ": Sign, " + alg.String())
		r.run(tpm2.CCVerifySignature, key, nil, buf16(data[:32]), scheme, buf16(data))
		r.alive(what + ": VerifySignature, " + alg.String())
	}
}
