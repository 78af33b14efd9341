package crypt

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

func benchmarkPrimary(b *testing.B, public tpm2.Public) {
	seed := make([]byte, 64)
	var i uint64
	for b.Loop() {
		i++
		binary.BigEndian.PutUint64(seed, i)
		src := &Source{Primary: NewPrimaryDRBG(seed, SeedLatest, public.Name(), nil)}
		if _, rc := CreateObject(&public, nil, nil, src); rc != tpm2.RCSuccess {
			b.Fatal(rc)
		}
	}
}

func BenchmarkPrimaryRSA2048(b *testing.B) { benchmarkPrimary(b, ekRSA(b)) }
func BenchmarkPrimaryRSA3072(b *testing.B) {
	benchmarkPrimary(b, storage(tpm2.AlgRSA, 3072, 0, tpm2.AlgSHA384, 256))
}
func BenchmarkPrimaryP256(b *testing.B) { benchmarkPrimary(b, ekECC(b)) }
func BenchmarkPrimaryP384(b *testing.B) {
	benchmarkPrimary(b, storage(tpm2.AlgECC, 0, tpm2.CurveP384, tpm2.AlgSHA384, 256))
}

// BenchmarkStdGenerateRSA2048 is what GenerateRSA is measured against.
func BenchmarkStdGenerateRSA2048(b *testing.B) {
	for b.Loop() {
		if _, err := rsa.GenerateKey(rand.Reader, 2048); err != nil {
			b.Fatal(err)
		}
	}
}

func newTestKey(tb testing.TB, public tpm2.Public) *Key {
	tb.Helper()
	k, rc := CreateObject(&public, nil, nil, &Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		tb.Fatal(rc)
	}
	return k
}

func benchmarkSign(b *testing.B, public tpm2.Public) {
	k := newTestKey(b, public)
	scheme := tpm2.SigScheme(public.Scheme)
	digest := sha256.Sum256(nil)
	for b.Loop() {
		if _, rc := SignDigest(k, scheme, digest[:], rand.Reader); rc != tpm2.RCSuccess {
			b.Fatal(rc)
		}
	}
}

func BenchmarkSignRSASSA2048(b *testing.B) {
	benchmarkSign(b, signing(ekRSA(b), tpm2.AlgRSASSA, tpm2.AlgSHA256))
}
func BenchmarkSignRSAPSS2048(b *testing.B) {
	benchmarkSign(b, signing(ekRSA(b), tpm2.AlgRSAPSS, tpm2.AlgSHA256))
}
func BenchmarkSignP256(b *testing.B) {
	benchmarkSign(b, signing(ekECC(b), tpm2.AlgECDSA, tpm2.AlgSHA256))
}

func BenchmarkLoadRSA2048(b *testing.B) { benchmarkLoad(b, ekRSA(b)) }
func BenchmarkLoadP256(b *testing.B)    { benchmarkLoad(b, ekECC(b)) }

func benchmarkLoad(b *testing.B, public tpm2.Public) {
	k := newTestKey(b, public)
	for b.Loop() {
		if _, rc := NewKey(&k.Public, k.Sensitive, 0, 0); rc != tpm2.RCSuccess {
			b.Fatal(rc)
		}
	}
}

func BenchmarkKDFa(b *testing.B) {
	key, nonce := make([]byte, 32), make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		KDFa(tpm2.AlgSHA256, key, LabelCFB, nonce, nonce, 256)
	}
}

func BenchmarkEncryptParameter(b *testing.B) {
	key, nonce, data := make([]byte, 32), make([]byte, 32), make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		EncryptParameter(tpm2.AlgSHA256, key, nonce, nonce, tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128}, data)
	}
}

func BenchmarkCamellia(b *testing.B) {
	c := newCamellia(make([]byte, 32))
	var block [16]byte
	for b.Loop() {
		c.Encrypt(block[:], block[:])
	}
}
