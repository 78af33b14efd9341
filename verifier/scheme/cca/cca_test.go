package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	gocose "github.com/veraison/go-cose"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/internal/forge"
	"github.com/ashlar-cloud/ashlar/verifier/internal/softcose"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/psa"
)

// soft is a platform of the tests with a Realm.
type soft struct {
	platformKey, realmKey *ecdsa.PrivateKey
	platform, realm       map[int64]any
}

func newSoft(t testing.TB) *soft {
	s := &soft{platformKey: softcose.Key(t, elliptic.P384()), realmKey: softcose.Key(t, elliptic.P384())}
	point, err := s.realmKey.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	measured := bytes.Repeat([]byte{6}, 32)
	s.realm = map[int64]any{10: bytes.Repeat([]byte{5}, 64), 44235: make([]byte, 64), 44236: "sha-256", 44237: point, 44238: measured,
		44239: [][]byte{measured, measured, measured, measured}, 44240: "sha-256"}
	s.platform = map[int64]any{265: psa.ProfileCCALegacy, 256: append([]byte{1}, make([]byte, 32)...), 2396: make([]byte, 32), 2395: 0x3000,
		2399: []map[int64]any{{1: "RMM", 2: measured, 5: measured}}, 2401: []byte{0xcf}, 2402: "sha-256"}
	s.bind(point)
	return s
}

func (s *soft) bind(key []byte) {
	sum := sha256.Sum256(key)
	s.platform[10] = sum[:]
}

func (s *soft) token(t testing.TB) []byte {
	return softcose.Encode(t, cbor.Tag{Number: tagCollection, Content: map[int64][]byte{
		keyPlatform: softcose.Sign(t, s.platformKey, softcose.Encode(t, s.platform)),
		keyRealm:    softcose.Sign(t, s.realmKey, softcose.Encode(t, s.realm)),
	}})
}

const goodValues = `{"format":"ashlar-claim-values","version":1,"kind":"cca","oneOf":{
	"rim":["0606060606060606060606060606060606060606060606060606060606060606"],
	"components.RMM":["0606060606060606060606060606060606060606060606060606060606060606"]}}`

func (s *soft) input(t testing.TB, token []byte) *scheme.Input {
	return &scheme.Input{Files: []scheme.File{{Name: "token", Data: token}}, Endorsements: []scheme.File{softcose.Public(t, s.platformKey)},
		References: &scheme.File{Name: "good", Data: []byte(goodValues)}, Nonce: bytes.Repeat([]byte{5}, 64), HasNonce: true}
}

// TestOwn affirms a token that is all right, with either form of the realm's key.
func TestOwn(t *testing.T) {
	s := newSoft(t)
	k, err := gocose.NewKeyFromPublic(&s.realmKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := k.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(){
		"point":    func() {},
		"COSE_Key": func() { s.realm[44237] = encoded; s.realm[265] = ProfileRealm; s.bind(encoded) },
	} {
		change()
		in := s.input(t, s.token(t))
		if err := Kinds()[0].CheckOwn(in); err != nil {
			t.Fatal(err)
		}
		if r := Appraise(in); r.Verdict != scheme.Valid || r.Status != rats.TierAffirming {
			t.Errorf("%s: %s, %s (%s): %v", name, r.Verdict, r.Status, r.Reason, r.Why())
		}
	}
}

// TestForged wants each circumstance that makes a token bad refused, for its own
// reason.
func TestForged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*soft, *scheme.Input)
		reason scheme.Reason
		why    string
	}{
		"another nonce":        {func(_ *soft, in *scheme.Input) { in.Nonce = bytes.Repeat([]byte{4}, 64) }, scheme.ReasonNonce, "replay"},
		"another platform":     {func(s *soft, _ *scheme.Input) { s.platformKey = softcose.Key(t, elliptic.P384()) }, scheme.ReasonSignature, "none of the 1 keys"},
		"another realm":        {func(s *soft, _ *scheme.Input) { s.realmKey = softcose.Key(t, elliptic.P384()) }, scheme.ReasonSignature, "not signed by the key in it"},
		"two that are not one": {func(s *soft, _ *scheme.Input) { s.realm, s.realmKey = newSoft(t).swap() }, scheme.ReasonBinding, "do not belong together"},
		"other contents":       {func(s *soft, _ *scheme.Input) { s.realm[44238] = make([]byte, 32) }, scheme.ReasonReference, "rim is 00"},
		"another manager":      {func(s *soft, _ *scheme.Input) { s.platform[2399].([]map[int64]any)[0][2] = make([]byte, 32) }, scheme.ReasonReference, "components.RMM is 00"},
		"no platform config":   {func(s *soft, _ *scheme.Input) { delete(s.platform, 2401) }, scheme.ReasonMalformed, "lacks the claim 2401"},
		"a PSA token":          {func(s *soft, _ *scheme.Input) { s.platform[265] = psa.Profile2; s.platform[2394] = 1 }, scheme.ReasonMalformed, "none of CCA"},
		"a short challenge":    {func(s *soft, _ *scheme.Input) { s.realm[10] = make([]byte, 32) }, scheme.ReasonMalformed, "64 are expected"},
		"three measurements":   {func(s *soft, _ *scheme.Input) { s.realm[44239] = make([][]byte, 3) }, scheme.ReasonMalformed, "4 are expected"},
		"sizes that differ":    {func(s *soft, _ *scheme.Input) { s.realm[44239].([][]byte)[2] = make([]byte, 48) }, scheme.ReasonMalformed, "and the initial one 32"},
		"no such profile":      {func(s *soft, _ *scheme.Input) { s.realm[265] = "mine" }, scheme.ReasonMalformed, "not one that is known"},
		"no such hash":         {func(s *soft, _ *scheme.Input) { s.realm[44240] = "md5" }, scheme.ReasonBinding, "md5"},
		"no key":               {func(s *soft, _ *scheme.Input) { s.realm[44237] = []byte{4}; s.bind([]byte{4}) }, scheme.ReasonSignature, "COSE_Key"},
		"a point off P-384":    {func(s *soft, _ *scheme.Input) { s.realm[44237].([]byte)[50] ^= 1; s.bind(s.realm[44237].([]byte)) }, scheme.ReasonSignature, "no point"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSoft(t)
			in := s.input(t, nil)
			c.change(s, in)
			in.Files[0].Data = s.token(t)
			r := Appraise(in)
			if !forge.Refused(r) || r.Reason != c.reason || !strings.Contains(strings.Join(r.Why(), "\n"), c.why) {
				t.Errorf("%s, %s (%s): %v", r.Verdict, r.Status, r.Reason, r.Why())
			}
		})
	}
}

func (s *soft) swap() (map[int64]any, *ecdsa.PrivateKey) { return s.realm, s.realmKey }

// TestEveryBit flips each bit of a token; only the unprotected headers of its two
// messages are covered by nothing.
func TestEveryBit(t *testing.T) {
	s := newSoft(t)
	whole := s.token(t)
	appraise := func(b []byte) *scheme.Result { return Appraise(s.input(t, b)) }
	// Each message begins with its tag and 0x84, then the protected headers,
	// h'a1013822', then the unprotected: {}.
	begin := []byte{0xd2, 0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0}
	first := bytes.Index(whole, begin)
	second := bytes.LastIndex(whole, begin)
	if first < 0 || second == first {
		t.Fatal("the messages do not begin as expected")
	}
	covered := func(from, to int) int { return forge.Flips(t, whole, from, to, appraise) }
	n := covered(0, first) + covered(first+len(begin), second) + covered(second+len(begin), len(whole))
	n += forge.Uncovered(t, whole, first, first+len(begin), appraise) + forge.Uncovered(t, whole, second, second+len(begin), appraise)
	n += forge.Cuts(t, whole, appraise)
	t.Logf("%d forgeries were refused", n)
}

func FuzzAppraise(f *testing.F) {
	s := newSoft(f)
	whole := s.token(f)
	f.Add(whole)
	f.Add(whole[:300])
	in := s.input(f, nil)
	real, err := ParseToken(whole)
	if err != nil {
		f.Fatal(err)
	}
	good := func(b []byte) bool {
		t, err := ParseToken(b)
		return err == nil && bytes.Equal(t.Realm.Payload, real.Realm.Payload) && bytes.Equal(t.Platform.Payload, real.Platform.Payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		one := *in
		one.Files = []scheme.File{{Name: "token", Data: b}}
		r := Appraise(&one)
		if r.Status == rats.TierAffirming && !good(b) {
			t.Errorf("a forgery was affirmed: %x", b)
		}
		if r.Verdict != scheme.Valid && len(r.Why()) == 0 {
			t.Error("refused without a reason")
		}
	})
}
