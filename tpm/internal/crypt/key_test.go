package crypt

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"sync/atomic"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// loadCase alters a good object before it is loaded as parameters 2 and 1.
type loadCase struct {
	name  string
	alter func(p *tpm2.Public, s *tpm2.Sensitive)
	want  tpm2.RC
}

func checkLoads(t *testing.T, key *Key, cases []loadCase) {
	t.Helper()
	for _, c := range cases {
		p, s := key.Public.Clone(), key.Sensitive.Clone()
		c.alter(&p, &s)
		if _, rc := NewKey(&p, &s, 2, 1); rc != c.want {
			t.Errorf("%v, %s: %v, want %v", p.Type, c.name, rc, c.want)
		}
	}
}

var loadAnyCases = []loadCase{
	{"unaltered", func(*tpm2.Public, *tpm2.Sensitive) {}, tpm2.RCSuccess},
	{"of two types", func(p *tpm2.Public, s *tpm2.Sensitive) { s.Type ^= 1 }, tpm2.RCType.P(1)},
	{"long authValue", func(p *tpm2.Public, s *tpm2.Sensitive) { s.AuthValue = make([]byte, 33) }, tpm2.RCSize.P(1)},
}

func TestLoadRSA(t *testing.T) {
	key := newTestKey(t, ekRSA(t))
	other := newTestKey(t, ekRSA(t))
	checkLoads(t, key, append([]loadCase{
		{"short modulus", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Unique = p.Unique[1:] }, tpm2.RCKey.P(2)},
		{"small modulus", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Unique[0] = 0x7F }, tpm2.RCKey.P(2)},
		{"no modulus", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Unique, p.KeyBits = nil, 0 }, tpm2.RCKey.P(2)},
		{"exponent 3", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Exponent = 3 }, tpm2.RCValue.P(2)},
		{"even exponent", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Exponent = 65538 }, tpm2.RCBinding},
		{"short prime", func(p *tpm2.Public, s *tpm2.Sensitive) { s.Sensitive = s.Sensitive[1:] }, tpm2.RCKeySize.P(1)},
		{"small prime", func(p *tpm2.Public, s *tpm2.Sensitive) { s.Sensitive[0] = 1 }, tpm2.RCKeySize.P(1)},
		{"another's prime", func(p *tpm2.Public, s *tpm2.Sensitive) { s.Sensitive = other.Sensitive.Sensitive }, tpm2.RCBinding},
		{"another's modulus", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Unique = other.Public.Unique }, tpm2.RCBinding},
		{"long seed", func(p *tpm2.Public, s *tpm2.Sensitive) { s.SeedValue = make([]byte, 33) }, tpm2.RCSize.P(1)},
		{"short seed", func(p *tpm2.Public, s *tpm2.Sensitive) { s.SeedValue = make([]byte, 15) }, tpm2.RCSize.P(1)},
		{"the other prime", func(p *tpm2.Public, s *tpm2.Sensitive) {
			n, prime := new(big.Int).SetBytes(p.Unique), new(big.Int).SetBytes(s.Sensitive)
			s.Sensitive = n.Quo(n, prime).Bytes()
		}, tpm2.RCSuccess},
	}, loadAnyCases...))
}

func TestLoadECC(t *testing.T) {
	key := newTestKey(t, ekECC(t))
	other := newTestKey(t, ekECC(t))
	curve, _ := CurveOf(tpm2.CurveP256)
	checkLoads(t, key, append([]loadCase{
		{"scalar 0", func(p *tpm2.Public, s *tpm2.Sensitive) { clear(s.Sensitive) }, tpm2.RCKeySize},
		{"scalar of the order", func(p *tpm2.Public, s *tpm2.Sensitive) { s.Sensitive = curve.N }, tpm2.RCKeySize},
		{"long scalar", func(p *tpm2.Public, s *tpm2.Sensitive) {
			s.Sensitive = append([]byte{1}, s.Sensitive...)
		}, tpm2.RCKeySize},
		{"leading zero", func(p *tpm2.Public, s *tpm2.Sensitive) {
			s.Sensitive = append([]byte{0}, s.Sensitive...)
		}, tpm2.RCSuccess},
		{"unknown curve", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Curve = 6 }, tpm2.RCKeySize},
		{"another's point", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Point = other.Public.Point }, tpm2.RCBinding},
		{"another's point without nameAlg", func(p *tpm2.Public, s *tpm2.Sensitive) {
			p.Point, p.NameAlg = other.Public.Point, tpm2.AlgNull
		}, tpm2.RCSuccess},
	}, loadAnyCases...))

	for _, c := range []struct {
		name  string
		alter func(p *tpm2.Public)
		want  tpm2.RC
	}{
		{"unaltered", func(*tpm2.Public) {}, tpm2.RCSuccess},
		{"off the curve", func(p *tpm2.Public) { p.Point.Y[31] ^= 1 }, tpm2.RCECCPoint.P(2)},
		{"off the curve without nameAlg", func(p *tpm2.Public) { p.Point.Y[31] ^= 1; p.NameAlg = tpm2.AlgNull }, tpm2.RCSuccess},
		{"infinity", func(p *tpm2.Public) { clear(p.Point.X); clear(p.Point.Y) }, tpm2.RCECCPoint.P(2)},
		{"short x", func(p *tpm2.Public) { p.Point.X = p.Point.X[1:] }, tpm2.RCKey.P(2)},
	} {
		p := key.Public.Clone()
		c.alter(&p)
		k, rc := NewKey(&p, nil, 2, 1)
		if rc != c.want {
			t.Errorf("public area alone, %s: %v, want %v", c.name, rc, c.want)
		}
		if rc == tpm2.RCSuccess && k.Private() {
			t.Errorf("%s: a public area makes a private key", c.name)
		}
	}
}

func TestLoadSymmetric(t *testing.T) {
	cases := primaryCases(t)
	checkLoads(t, newTestKey(t, cases[16].public), append([]loadCase{
		{"short key", func(p *tpm2.Public, s *tpm2.Sensitive) { s.Sensitive = s.Sensitive[1:] }, tpm2.RCKeySize.P(1)},
		{"altered key", func(p *tpm2.Public, s *tpm2.Sensitive) { s.Sensitive[0] ^= 1 }, tpm2.RCBinding},
		{"altered seed", func(p *tpm2.Public, s *tpm2.Sensitive) { s.SeedValue[0] ^= 1 }, tpm2.RCBinding},
		{"short seed", func(p *tpm2.Public, s *tpm2.Sensitive) { s.SeedValue = s.SeedValue[1:] }, tpm2.RCKeySize.P(1)},
	}, loadAnyCases...))
	hmac := keyedHash(attrsPrimary|tpm2.ObjSign, tpm2.Scheme{Alg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA256})
	checkLoads(t, newTestKey(t, hmac), append([]loadCase{
		{"long key", func(p *tpm2.Public, s *tpm2.Sensitive) { s.Sensitive = make([]byte, 65) }, tpm2.RCKeySize.P(1)},
		{"unknown scheme", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Scheme.Alg = tpm2.AlgCMAC }, tpm2.RCScheme.P(2)},
		{"altered unique", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Unique[3] ^= 1 }, tpm2.RCBinding},
		{"no nameAlg", func(p *tpm2.Public, s *tpm2.Sensitive) { p.Unique[3] ^= 1; p.NameAlg = tpm2.AlgNull }, tpm2.RCSuccess},
	}, loadAnyCases...))
	p := newTestKey(t, hmac).Public
	p.Unique = p.Unique[1:]
	if _, rc := NewKey(&p, nil, 2, 1); rc != tpm2.RCKey.P(2) {
		t.Errorf("public area alone with a short unique: %v", rc)
	}
}

func TestCreateRefusals(t *testing.T) {
	symKey := withoutOrigin(primaryCases(t)[17].public)
	hmac := withoutOrigin(keyedHash(attrsPrimary|tpm2.ObjSign, tpm2.Scheme{Alg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA1}))
	evenExponent, smallExponent, bits := ekRSA(t), ekRSA(t), ekRSA(t)
	evenExponent.Exponent, smallExponent.Exponent, bits.KeyBits = 65538, 17, 1536
	curve := ekECC(t)
	curve.Curve = 6
	good := &Source{Random: rand.Reader}
	for _, c := range []struct {
		name   string
		public tpm2.Public
		data   []byte
		src    *Source
		want   tpm2.RC
	}{
		{"even exponent", evenExponent, nil, good, tpm2.RCRange},
		{"small exponent", smallExponent, nil, good, tpm2.RCRange},
		{"1536 bits", bits, nil, good, tpm2.RCValue},
		{"no curve", curve, nil, good, tpm2.RCCurve},
		{"short AES key", symKey, make([]byte, 16), good, tpm2.RCKeySize},
		{"long HMAC key", hmac, make([]byte, 65), good, tpm2.RCSize},
		{"canceled", ekRSA(t), nil, &Source{Random: rand.Reader, Cancel: func() bool { return true }}, tpm2.RCCanceled},
		{"RSA without entropy", ekRSA(t), nil, &Source{Random: brokenRandom{}}, tpm2.RCNoResult},
		{"HMAC without entropy", keyedHash(attrsPrimary|tpm2.ObjSign, hmac.Scheme), nil, &Source{Random: brokenRandom{}}, tpm2.RCNoResult},
		{"unknown type", tpm2.Public{PublicParms: tpm2.PublicParms{Type: tpm2.AlgAES}}, nil, good, tpm2.RCType},
	} {
		k, rc := CreateObject(&c.public, nil, c.data, c.src)
		if rc != c.want || k != nil {
			t.Errorf("%s: %v, %v; want %v", c.name, k, rc, c.want)
		}
	}
}

func TestCreateTakesWhatIsGiven(t *testing.T) {
	template := withoutOrigin(keyedHash(attrsPrimary, tpm2.Scheme{Alg: tpm2.AlgNull}))
	auth, data := []byte("auth"), []byte("data")
	k, rc := CreateObject(&template, auth, data, &Source{Random: rand.Reader})
	must(t, rc)
	if !bytes.Equal(k.Sensitive.AuthValue, auth) || !bytes.Equal(k.Sensitive.Sensitive, data) {
		t.Errorf("created with %q and %q", k.Sensitive.AuthValue, k.Sensitive.Sensitive)
	}
	if len(template.Unique) != 0 {
		t.Error("CreateObject alters the template")
	}
	seed := bytes.Clone(k.Sensitive.SeedValue)
	k.Wipe()
	if bytes.Equal(seed, k.Sensitive.SeedValue) {
		t.Error("Wipe leaves the seed")
	}
}

// TestSearchesAgree: the key must not depend on how many processors look for it.
func TestSearchesAgree(t *testing.T) {
	seed := []byte("any seed")
	var want *big.Int
	for _, workers := range []int{1, 2, 3, 7} {
		s := newPrimeSearch(NewPrimaryDRBG(seed, SeedLatest, nil, nil), 1024, DefaultExponent, nil)
		s.workers = workers
		p, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		after := make([]byte, 32)
		s.random.Read(after)
		got := new(big.Int).SetBytes(append(p.Bytes(), after...))
		if want == nil {
			want = got
		}
		if !p.ProbablyPrime(20) || got.Cmp(want) != 0 {
			t.Errorf("%d workers find %x, want %x", workers, got, want)
		}
	}
}

func TestCancelReachesARunningSearch(t *testing.T) {
	// In the sieve, in the first rounds, and in those that a probable prime must
	// still pass.
	for _, after := range []int64{1, 2, 20, 40, 80, 160} {
		var asked atomic.Int64
		cancel := func() bool { return asked.Add(1) > after }
		d := NewPrimaryDRBG([]byte("cancel"), SeedLatest, nil, nil)
		if _, err := DeriveRSA(d, 3072, 0, cancel); err != ErrCanceled {
			t.Errorf("canceled at question %d: %v", after, err)
		}
	}
}

func TestMillerRabin(t *testing.T) {
	witness := func(n int64) []byte { return big.NewInt(n).FillBytes(make([]byte, 8)) }
	for n := int64(1_000_001); n < 1_002_001; n += 2 {
		prime := big.NewInt(n).ProbablyPrime(0)
		got := true
		for _, b := range []int64{2, 3, 5, 7} { // decisive for numbers this small
			got = got && millerRabin(big.NewInt(n).Bytes(), witness(b))
		}
		if got != prime {
			t.Errorf("millerRabin(%d) = %v", n, got)
		}
	}
}
