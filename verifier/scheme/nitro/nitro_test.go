package nitro

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	gocose "github.com/veraison/go-cose"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/internal/forge"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// soft is a Nitro Security Module of the tests, with a root of its own.
type soft struct {
	root, leaf *x509.Certificate
	key        *ecdsa.PrivateKey
	now        time.Time
	doc        map[string]any
	alg        gocose.Algorithm
}

func newSoft(t testing.TB) *soft {
	t.Helper()
	s := &soft{now: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC), alg: gocose.AlgorithmES384}
	rootKey := generate(t)
	s.root = certify(t, "test root", s.now.Add(-time.Hour), 24*365*time.Hour, nil, rootKey, rootKey)
	s.key = generate(t)
	s.leaf = certify(t, "test enclave", s.now.Add(-time.Minute), 3*time.Hour, s.root, s.key, rootKey)
	spki, err := x509.MarshalPKIXPublicKey(&generate(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s.doc = map[string]any{
		"module_id": "i-0123-enc4567", "digest": "SHA384", "timestamp": uint64(s.now.UnixMilli()),
		"pcrs":        map[uint64][]byte{0: bytes.Repeat([]byte{1}, 48), 1: bytes.Repeat([]byte{2}, 48), 2: bytes.Repeat([]byte{3}, 48), 3: make([]byte, 48)},
		"certificate": s.leaf.Raw, "cabundle": [][]byte{s.root.Raw},
		"public_key": spki, "user_data": nil, "nonce": []byte("sixteen bytes of"),
	}
	return s
}

func generate(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func certify(t testing.TB, name string, from time.Time, life time.Duration, issuer *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: from.Add(life),
		IsCA: issuer == nil, BasicConstraintsValid: true}
	if issuer == nil {
		issuer = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// sign gives the document, and where its protected headers and payload end.
func (s *soft) sign(t testing.TB) []byte {
	t.Helper()
	payload, err := cbor.Marshal(s.doc)
	if err != nil {
		t.Fatal(err)
	}
	return s.signed(t, payload)
}

func (s *soft) signed(t testing.TB, payload []byte) []byte {
	t.Helper()
	signer, err := gocose.NewSigner(s.alg, crypto.Signer(s.key))
	if err != nil {
		t.Fatal(err)
	}
	m := gocose.UntaggedSign1Message{Payload: payload, Headers: gocose.Headers{Protected: gocose.ProtectedHeader{gocose.HeaderLabelAlgorithm: s.alg}}}
	if err := m.Sign(rand.Reader, nil, signer); err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// input vouches for the root of the tests and demands the document's own nonce.
func (s *soft) input(data []byte) *scheme.Input {
	return &scheme.Input{Files: []scheme.File{{Name: "doc", Data: data}},
		Endorsements: []scheme.File{{Name: "root", Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.root.Raw})}},
		References:   &scheme.File{Name: "good", Data: fmt.Appendf(nil, `{"format":"ashlar-claim-values","version":1,"kind":"nitro","oneOf":{"pcrs.0":["%s"]}}`, hex.EncodeToString(bytes.Repeat([]byte{1}, 48)))},
		Nonce:        rats.Nonce("sixteen bytes of"), HasNonce: true, Time: s.now.Add(time.Second), Chains: scheme.NewChains(4)}
}

// TestOwn affirms a document that is all right, and takes the key in it.
func TestOwn(t *testing.T) {
	s := newSoft(t)
	kind := &Kinds()[0]
	in := s.input(s.sign(t))
	r, err := kind.Appraise(in)
	if err != nil || kind.CheckOwn(in) != nil {
		t.Fatal(err, kind.CheckOwn(in))
	}
	if r.Verdict != scheme.Valid || r.Status != rats.TierAffirming || r.Reason != "" {
		t.Fatalf("%s, %s (%s): %v", r.Verdict, r.Status, r.Reason, r.Why())
	}
	if !bytes.Equal(r.AttesterKey, s.doc["public_key"].([]byte)) {
		t.Errorf("the attester's key is %x", r.AttesterKey)
	}
	in.Endorsements[0].Data = []byte("no certificate")
	if kind.CheckOwn(in) == nil {
		t.Error("an endorsement that cannot be read was not noticed")
	}
}

// TestForged wants each circumstance that makes a document bad refused, for its
// own reason.
func TestForged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*soft, *scheme.Input)
		reason scheme.Reason
		why    string
	}{
		"another nonce":  {func(_ *soft, in *scheme.Input) { in.Nonce = rats.Nonce("another nonce!!!") }, scheme.ReasonNonce, "replay"},
		"no nonce in it": {func(s *soft, _ *scheme.Input) { s.doc["nonce"] = nil }, scheme.ReasonNonce, "replay"},
		"old":            {func(_ *soft, in *scheme.Input) { in.Time = in.Time.Add(4 * time.Hour) }, scheme.ReasonExpired, "three hours"},
		"to come":        {func(s *soft, _ *scheme.Input) { s.doc["timestamp"] = uint64(s.now.Add(time.Hour).UnixMilli()) }, scheme.ReasonNonce, "clock"},
		"its own root":   {func(_ *soft, in *scheme.Input) { in.Endorsements = nil }, scheme.ReasonCertificate, "not that of AWS"},
		"another's root": {func(s *soft, in *scheme.Input) { in.Endorsements = s.another(t).Endorsements }, scheme.ReasonCertificate, "does not lead"},
		"another's key":  {func(s *soft, _ *scheme.Input) { s.key = generate(t) }, scheme.ReasonSignature, "altered"},
		"ES256":          {func(s *soft, _ *scheme.Input) { s.alg = gocose.AlgorithmES256 }, scheme.ReasonSignature, "ES384 is"},
		"other image": {func(s *soft, _ *scheme.Input) { s.doc["pcrs"].(map[uint64][]byte)[0][5] = 9 }, scheme.ReasonReference,
			"pcrs.0 is 01010101010901"},
		"no PCR":          {func(s *soft, _ *scheme.Input) { s.doc["pcrs"] = map[uint64][]byte{} }, scheme.ReasonMalformed, "pcrs"},
		"a short PCR":     {func(s *soft, _ *scheme.Input) { s.doc["pcrs"] = map[uint64][]byte{0: {1}} }, scheme.ReasonMalformed, "PCR 0 of 1 bytes"},
		"a PCR 32":        {func(s *soft, _ *scheme.Input) { s.doc["pcrs"] = map[uint64][]byte{32: make([]byte, 48)} }, scheme.ReasonMalformed, "PCR 32"},
		"a long nonce":    {func(s *soft, _ *scheme.Input) { s.doc["nonce"] = make([]byte, 513) }, scheme.ReasonMalformed, "nonce"},
		"no module":       {func(s *soft, _ *scheme.Input) { delete(s.doc, "module_id") }, scheme.ReasonMalformed, "no module_id"},
		"other digest":    {func(s *soft, _ *scheme.Input) { s.doc["digest"] = "SHA1" }, scheme.ReasonMalformed, "SHA384"},
		"no certificate":  {func(s *soft, _ *scheme.Input) { s.doc["certificate"] = []byte("x") }, scheme.ReasonCertificate, "cannot be read"},
		"a broken bundle": {func(s *soft, _ *scheme.Input) { s.doc["cabundle"] = [][]byte{{1}} }, scheme.ReasonCertificate, "bundle"},
		"a long bundle":   {func(s *soft, _ *scheme.Input) { s.doc["cabundle"] = make([][]byte, 17) }, scheme.ReasonMalformed, "cabundle"},
		"a word for time": {func(s *soft, _ *scheme.Input) { s.doc["timestamp"] = "now" }, scheme.ReasonMalformed, "timestamp"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSoft(t)
			in := s.input(nil)
			if c.change(s, in); s.alg == gocose.AlgorithmES256 {
				key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				s.key = key
			}
			in.Files[0].Data = s.sign(t)
			r := Appraise(in)
			if !forge.Refused(r) || r.Reason != c.reason || !strings.Contains(strings.Join(r.Why(), "\n"), c.why) {
				t.Errorf("%s, %s (%s): %v", r.Verdict, r.Status, r.Reason, r.Why())
			}
		})
	}
}

func (s *soft) another(t *testing.T) *scheme.Input { return newSoft(t).input(nil) }

// TestDebug wants an enclave that its host can read never affirmed, though its
// document holds.
func TestDebug(t *testing.T) {
	s := newSoft(t)
	s.doc["pcrs"] = map[uint64][]byte{0: make([]byte, 48), 1: make([]byte, 48), 2: make([]byte, 48), 3: make([]byte, 48)}
	in := s.input(s.sign(t))
	in.References = nil
	r := Appraise(in)
	if r.Verdict != scheme.Valid || r.Reason != scheme.ReasonDebug || r.Status != rats.TierContraindicated {
		t.Errorf("%s, %s (%s)", r.Verdict, r.Status, r.Reason)
	}
}

// TestEveryBit flips each bit of a document. The signature covers the protected
// headers and the payload; nothing covers the unprotected headers, of which no
// claim depends.
func TestEveryBit(t *testing.T) {
	s := newSoft(t)
	whole := s.sign(t)
	in := s.input(nil)
	appraise := func(b []byte) *scheme.Result {
		one := *in
		one.Files = []scheme.File{{Name: "doc", Data: b}}
		return Appraise(&one)
	}
	if r := appraise(whole); r.Status != rats.TierAffirming {
		t.Fatalf("%s: %v", r.Status, r.Why())
	}
	// 0x84, then the protected headers: h'a1013822'; then the unprotected: {}.
	const unprotected = 6
	if whole[unprotected] != 0xa0 {
		t.Fatalf("the unprotected headers begin with %x", whole[unprotected])
	}
	n := forge.Uncovered(t, whole, 0, unprotected+1, appraise)
	n += forge.Flips(t, whole, unprotected+1, len(whole), appraise)
	n += forge.Cuts(t, whole, appraise)
	t.Logf("%d forgeries were refused", n)
}

// TestTwice refuses a document that says a thing twice, or in a form that two
// readers could understand differently.
func TestTwice(t *testing.T) {
	s := newSoft(t)
	payload, err := cbor.Marshal(s.doc)
	if err != nil {
		t.Fatal(err)
	}
	extra, err := cbor.Marshal("nonce")
	if err != nil {
		t.Fatal(err)
	}
	extra = append(extra, 0x40)
	payload = append(append([]byte{payload[0] + 1}, payload[1:]...), extra...)
	r := Appraise(s.input(s.signed(t, payload)))
	if !forge.Refused(r) || r.Reason != scheme.ReasonMalformed {
		t.Errorf("%s (%s): %v", r.Verdict, r.Reason, r.Why())
	}
}

func FuzzAppraise(f *testing.F) {
	s := newSoft(f)
	whole := s.sign(f)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	in := s.input(nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		one := *in
		one.Files = []scheme.File{{Name: "doc", Data: b}}
		r := Appraise(&one)
		if r.Status == rats.TierAffirming && !bytes.Equal(b[7:], whole[7:]) {
			t.Errorf("a forgery was affirmed: %x", b)
		}
		if r.Verdict != scheme.Valid && len(r.Why()) == 0 {
			t.Error("refused without a reason")
		}
	})
}
