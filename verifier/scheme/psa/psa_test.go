package psa

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/internal/forge"
	"github.com/ashlar-cloud/ashlar/verifier/internal/softcose"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// soft is a device of the tests.
type soft struct {
	key    *ecdsa.PrivateKey
	claims map[int64]any
}

var nonce = rats.Nonce(bytes.Repeat([]byte{5}, 32))

func newSoft(t testing.TB, profile string) *soft {
	n, err := numbersOf(profile)
	if err != nil {
		t.Fatal(err)
	}
	parts := []map[int64]any{{1: "BL", 2: bytes.Repeat([]byte{0xb1}, 32), 4: "1.2", 5: bytes.Repeat([]byte{0x51}, 32)},
		{2: bytes.Repeat([]byte{0xb2}, 48)}}
	s := &soft{softcose.Key(t, elliptic.P256()), map[int64]any{n.profile: profile, n.nonce: []byte(nonce),
		n.instance: append([]byte{1}, bytes.Repeat([]byte{7}, 32)...), n.implementation: bytes.Repeat([]byte{9}, 32),
		n.lifecycle: 0x3001, n.components: parts, n.client: -4, n.seed: bytes.Repeat([]byte{8}, 32)}}
	return s
}

func (s *soft) token(t testing.TB) []byte {
	return softcose.Sign(t, s.key, softcose.Encode(t, s.claims))
}

const goodValues = `{"format":"ashlar-claim-values","version":1,"kind":"psa","oneOf":{
	"components.BL":["b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1"],"lifecycle_state":["secured"]}}`

func (s *soft) input(t testing.TB, token []byte) *scheme.Input {
	return &scheme.Input{Files: []scheme.File{{Name: "token", Data: token}}, Endorsements: []scheme.File{softcose.Public(t, s.key)},
		References: &scheme.File{Name: "good", Data: []byte(goodValues)}, Nonce: nonce, HasNonce: true}
}

// TestOwn affirms a token of each profile that is all right.
func TestOwn(t *testing.T) {
	for _, profile := range []string{ProfileIoT1, Profile2, ProfileRFC9783} {
		s := newSoft(t, profile)
		in := s.input(t, s.token(t))
		if err := Kinds()[0].CheckOwn(in); err != nil {
			t.Fatal(err)
		}
		if r := Appraise(in); r.Verdict != scheme.Valid || r.Status != rats.TierAffirming {
			t.Errorf("%s: %s, %s (%s): %v", profile, r.Verdict, r.Status, r.Reason, r.Why())
		}
		in.Nonce, in.References = nonce[:20], nil
		if r := Appraise(in); r.Reason != scheme.ReasonNonce {
			t.Errorf("%s: a part of the nonce was taken for it", profile)
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
		"another nonce":  {func(_ *soft, in *scheme.Input) { in.Nonce = rats.Nonce("another") }, scheme.ReasonNonce, "replay"},
		"an empty nonce": {func(_ *soft, in *scheme.Input) { in.Nonce = nil }, scheme.ReasonNonce, "replay"},
		"another's key": {func(_ *soft, in *scheme.Input) {
			in.Endorsements[0] = softcose.Public(t, softcose.Key(t, elliptic.P256()))
		}, scheme.ReasonSignature, "none of the 1 keys"},
		"a key of P-384": {func(_ *soft, in *scheme.Input) {
			in.Endorsements[0] = softcose.Public(t, softcose.Key(t, elliptic.P384()))
		}, scheme.ReasonSignature, "none of the 1 keys"},
		"no key":              {func(_ *soft, in *scheme.Input) { in.Endorsements[0].Data = []byte("x") }, scheme.ReasonMalformed, "endorses no device"},
		"other software":      {func(s *soft, _ *scheme.Input) { s.claims[2399].([]map[int64]any)[0][2] = bytes.Repeat([]byte{1}, 32) }, scheme.ReasonReference, "components.BL is 0101"},
		"a short measurement": {func(s *soft, _ *scheme.Input) { s.claims[2399].([]map[int64]any)[0][2] = []byte{1} }, scheme.ReasonMalformed, "measurement of 1 bytes"},
		"a short signer":      {func(s *soft, _ *scheme.Input) { s.claims[2399].([]map[int64]any)[0][5] = []byte{1} }, scheme.ReasonMalformed, "signer ID of 1 bytes"},
		"no software":         {func(s *soft, _ *scheme.Input) { delete(s.claims, 2399) }, scheme.ReasonMalformed, "lacks the claim 2399"},
		"no nonce":            {func(s *soft, _ *scheme.Input) { delete(s.claims, 10) }, scheme.ReasonMalformed, "lacks the claim 10"},
		"a short instance":    {func(s *soft, _ *scheme.Input) { s.claims[256] = []byte{1, 2} }, scheme.ReasonMalformed, "instance ID"},
		"a short root":        {func(s *soft, _ *scheme.Input) { s.claims[2396] = []byte{1, 2} }, scheme.ReasonMalformed, "implementation ID"},
		"a long seed":         {func(s *soft, _ *scheme.Input) { s.claims[2397] = make([]byte, 33) }, scheme.ReasonMalformed, "boot seed"},
		"no such profile":     {func(s *soft, _ *scheme.Input) { s.claims[265] = "mine" }, scheme.ReasonMalformed, "not one that is known"},
		"a text for a number": {func(s *soft, _ *scheme.Input) { s.claims[2395] = "secured" }, scheme.ReasonMalformed, "claim 2395 is malformed"},
		"a platform": {func(s *soft, _ *scheme.Input) {
			s.claims[265] = ProfileCCAPlatform
			s.claims[2401] = []byte{1}
			s.claims[2402] = "sha-256"
		}, scheme.ReasonMalformed, "kind cca"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSoft(t, Profile2)
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

// TestLifecycle affirms only a secured device.
func TestLifecycle(t *testing.T) {
	for number, want := range map[int]scheme.Reason{0: scheme.ReasonLifecycle, 0x1000: scheme.ReasonLifecycle, 0x2fff: scheme.ReasonLifecycle,
		0x3000: "", 0x30ff: "", 0x3100: scheme.ReasonLifecycle, 0x4000: scheme.ReasonDebug, 0x50ff: scheme.ReasonDebug, 0x6000: scheme.ReasonLifecycle,
		0x7000: scheme.ReasonLifecycle, 0xffff: scheme.ReasonLifecycle} {
		s := newSoft(t, Profile2)
		s.claims[2395] = number
		in := s.input(t, s.token(t))
		in.References.Data = []byte(strings.Replace(goodValues, `,"lifecycle_state":["secured"]`, "", 1))
		r := Appraise(in)
		if r.Verdict != scheme.Valid || r.Reason != want || (r.Status == rats.TierAffirming) != (want == "") {
			t.Errorf("0x%04x: %s, %s (%s)", number, r.Verdict, r.Status, r.Reason)
		}
	}
}

// TestEveryBit flips each bit of a token; only the unprotected headers are covered
// by nothing.
func TestEveryBit(t *testing.T) {
	s := newSoft(t, Profile2)
	whole := s.token(t)
	appraise := func(b []byte) *scheme.Result { return Appraise(s.input(t, b)) }
	// The tag and 0x84, the protected headers h'a10126', then the unprotected: {}.
	const unprotected = 6
	if whole[unprotected] != 0xa0 {
		t.Fatalf("the unprotected headers begin with %x", whole[unprotected])
	}
	n := forge.Uncovered(t, whole, 0, unprotected+1, appraise)
	n += forge.Flips(t, whole, unprotected+1, len(whole), appraise)
	n += forge.Cuts(t, whole, appraise)
	t.Logf("%d forgeries were refused", n)
}

func FuzzAppraise(f *testing.F) {
	s := newSoft(f, Profile2)
	whole := s.token(f)
	f.Add(whole)
	f.Add(newSoft(f, ProfileIoT1).token(f))
	in := s.input(f, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		one := *in
		one.Files = []scheme.File{{Name: "token", Data: b}}
		r := Appraise(&one)
		if r.Status == rats.TierAffirming && !bytes.Equal(b[7:], whole[7:]) {
			t.Errorf("a forgery was affirmed: %x", b)
		}
		if r.Verdict != scheme.Valid && len(r.Why()) == 0 {
			t.Error("refused without a reason")
		}
	})
}
