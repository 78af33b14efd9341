package sev

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/internal/forge"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// TestKnownAnswers holds derivation, wrapping and MACs to figures that others
// publish for keys, nonce and IV of zeros (the tests of virtee's crate sev).
func TestKnownAnswers(t *testing.T) {
	zeros := make([]byte, 16)
	if got := hex.EncodeToString(derive(zeros, "sev-master-secret", zeros)); got != "ab4d269fcc62bedb4511d56c386ce706" {
		t.Errorf("master secret %s", got)
	}
	blob, err := (&Session{TEK: zeros, TIK: zeros}).seal(zeros, zeros, zeros)
	if err != nil {
		t.Fatal(err)
	}
	for want, got := range map[string][]byte{
		"2137bc7f9bb8bd7c3e55a576a15d3454b3856b8ba27afadf46dcfee9f02c02c4": blob[16:48],
		"3176c0752738bd9d5e86689534020f528c088f16238826b000b327dee6aeed7d": blob[64:96],
		"aa7855e13839dd767cd5da7c1ff5036540c9264b7a803029315e55375287b4af": blob[96:],
	} {
		if hex.EncodeToString(got) != want {
			t.Errorf("%x\nwant %s", got, want)
		}
	}
}

// input is a launch measurement with everything that lets it be affirmed.
func (s *soft) input() *scheme.Input {
	s.launch()
	return &scheme.Input{Files: []scheme.File{file(s.measure()), file(s.query())}, Endorsements: []scheme.File{file(s.chain())},
		Key: &scheme.File{Data: s.session.TIK}, References: values(s.t, map[string][]string{"launch_digest": {hex.EncodeToString(s.digest)}})}
}

// TestMeasurement affirms a launch, in each form, and puts a secret into it.
func TestMeasurement(t *testing.T) {
	s := newSoft(t)
	in := s.input()
	m := base64.StdEncoding.EncodeToString(s.measure())
	virsh := fmt.Sprintf("sev-measurement: %s\nsev-api-major  : %d\nsev-api-minor  : %d\nsev-build-id   : %d\nsev-policy     : %d\n", m, s.fw.Major, s.fw.Minor, s.fw.Build, s.policy)
	for name, files := range map[string][][]byte{
		"binary":      {s.measure(), s.query()},
		"base64":      {[]byte(m + "\n"), s.query()},
		"QEMU's":      {fmt.Appendf(nil, `{"return":{"data":%q}}`, m), s.query()},
		"virsh's":     {[]byte(virsh)},
		"hexadecimal": {[]byte(hex.EncodeToString(s.measure())), s.query()},
	} {
		in.Files = nil
		for _, f := range files {
			in.Files = append(in.Files, file(f))
		}
		r := appraise(t, in)
		if r.Verdict != scheme.Valid || r.Status != rats.TierAffirming || r.Facts["launch_digest"] != hex.EncodeToString(s.digest) {
			t.Errorf("%s: %s (%s), %s: %v %v", name, r.Verdict, r.Reason, r.Status, r.Why(), r.NotAffirmed())
		}
	}
	header, ciphertext, err := s.session.Secret(s.measure()[:digestSize], []byte("a secret"))
	if err != nil {
		t.Fatal(err)
	}
	// What the firmware does with it.
	flags, iv, tag := header[:4], header[4:20], header[20:]
	size := le32(uint32(len(ciphertext)))
	if plain, err := ctr(s.session.TEK, iv, ciphertext); err != nil || string(plain) != "a secret" ||
		!slices.Equal(tag, mac(s.session.TIK, []byte{1}, flags, iv, size, size, ciphertext, s.measure()[:digestSize])) {
		t.Errorf("the firmware would refuse the secret: %q, %v", plain, err)
	}
	for _, bad := range [][2]int{{31, 8}, {32, 0}, {32, maxSecret + 1}} {
		if _, _, err := s.session.Secret(make([]byte, bad[0]), make([]byte, bad[1])); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// TestEveryBit flips bits of measurement, key, report and certificates that a
// digest or signature covers, and cuts them; the host lies about what it says.
func TestEveryBit(t *testing.T) {
	s := newSoft(t)
	in := s.input()
	in.Endorsements = nil
	report := &scheme.Input{Files: []scheme.File{file(s.attest(nil))}, Endorsements: []scheme.File{file(s.chain())}}
	if r := appraise(t, report); r.Verdict != scheme.Valid {
		t.Fatal(r.Why())
	}
	with := func(in *scheme.Input, f func(again *scheme.Input, b []byte)) forge.Appraise {
		return func(b []byte) *scheme.Result {
			again := *in
			again.Files = slices.Clone(in.Files)
			f(&again, b)
			return appraise(t, &again)
		}
	}
	measure := with(in, func(again *scheme.Input, b []byte) { again.Files[0].Data = b })
	attest := with(report, func(again *scheme.Input, b []byte) { again.Files[0].Data = b })
	n := forge.Flips(t, s.measure(), 0, measureSize, measure) + forge.Cuts(t, s.measure(), measure)
	n += forge.Flips(t, in.Key.Data, 0, keySize, with(in, func(again *scheme.Input, b []byte) { again.Key = &scheme.File{Data: b} }))
	b := report.Files[0].Data
	n += forge.Flips(t, b, 0, reportSize, attest)
	for cut := range b { // to 48 bytes it could be a measurement, which nothing authenticates
		if r := attest(b[:cut]); r.Verdict == scheme.Valid || len(r.Why()) == 0 {
			t.Errorf("cut to %d bytes: %s", cut, r.Verdict)
		}
	}
	chain := with(report, func(again *scheme.Input, b []byte) { again.Endorsements = []scheme.File{file(b)} })
	certs := report.Endorsements[0].Data
	for at := 0; at+37 < len(certs); at += 37 { // of the certificates, some bytes
		n += forge.Flips(t, certs, at, at+1, chain)
	}
	t.Logf("%d forgeries", n)
	if n < 550 {
		t.Errorf("only %d forgeries", n)
	}
	for _, bad := range []Firmware{{0, 49, 3}, {1, 48, 3}, {1, 49, 4}} {
		lies := *s
		lies.fw = bad
		in.Files[1] = file(lies.query())
		if r := appraise(t, in); r.Verdict != scheme.Invalid || r.Reason != scheme.ReasonReference {
			t.Errorf("a lie about the firmware %v: %s", bad, r.Verdict)
		}
	}
	for bit := range 32 {
		lies := *s
		lies.policy ^= 1 << bit
		in.Files[1] = file(lies.query())
		if r := appraise(t, in); r.Verdict != scheme.Invalid || r.Reason != scheme.ReasonReference {
			t.Errorf("a lie about bit %d of the policy: %s", bit, r.Verdict)
		}
	}
}

// TestReport appraises what the firmware signed with the PEK.
func TestReport(t *testing.T) {
	nonce := rats.Nonce("a nonce of 16 b.")
	for name, c := range map[string]struct {
		alter   func(s *soft, in *scheme.Input)
		verdict scheme.Verdict
		reason  scheme.Reason
		status  rats.Tier
		text    string
	}{
		"good":        {func(*soft, *scheme.Input) {}, scheme.Valid, "", rats.TierAffirming, ""},
		"short nonce": {func(s *soft, in *scheme.Input) { in.Nonce = nonce[:8]; in.Files[0] = file(s.attest(nonce[:8])) }, scheme.Valid, "", rats.TierAffirming, ""},
		"replay":      {func(s *soft, in *scheme.Input) { in.Nonce = nonce[:15] }, scheme.Invalid, scheme.ReasonNonce, rats.TierContraindicated, "replay"},
		"long nonce":  {func(s *soft, in *scheme.Input) { in.Nonce = append(nonce[:16:16], 0) }, scheme.Invalid, scheme.ReasonNonce, rats.TierContraindicated, "16 bytes"},
		"no nonce":    {func(s *soft, in *scheme.Input) { in.HasNonce = false }, scheme.Valid, "", rats.TierNone, "old one"},
		"debug": {func(s *soft, in *scheme.Input) { s.policy &^= PolicyNoDebug; in.Files[0] = file(s.attest(nonce)) }, scheme.Valid, scheme.ReasonDebug,
			rats.TierContraindicated, "read and change"},
		"key sharing": {func(s *soft, in *scheme.Input) { s.policy &^= PolicyNoKeySharing; in.Files[0] = file(s.attest(nonce)) }, scheme.Valid, "", rats.TierNone, "other guests"},
		"other digest": {func(s *soft, in *scheme.Input) { s.digest[0]++; in.Files[0] = file(s.attest(nonce)) }, scheme.Invalid, scheme.ReasonReference,
			rats.TierContraindicated, "launch_digest is"},
		"no chain": {func(s *soft, in *scheme.Input) { in.Endorsements = nil }, scheme.Partial, scheme.ReasonNoKey, rats.TierNone, "give the platform's certificates"},
		"root of its own": {func(s *soft, in *scheme.Input) {
			in.Files = append(in.Files, in.Endorsements[0])
			in.Endorsements = nil
		}, scheme.Invalid,
			scheme.ReasonCertificate, rats.TierContraindicated, "nobody vouches"},
		"other platform": {func(s *soft, in *scheme.Input) { in.Files[0] = file(newSoft(s.t).attest(nonce)) }, scheme.Invalid, scheme.ReasonSignature,
			rats.TierContraindicated, "another key"},
		"two platforms": {func(s *soft, in *scheme.Input) { in.Files = append(in.Files, file(newSoft(s.t).PEK)) }, scheme.Invalid, scheme.ReasonCertificate,
			rats.TierContraindicated, "two certificates of a PEK"},
		"no CEK": {func(s *soft, in *scheme.Input) {
			in.Endorsements[0] = file(slices.Concat(s.PDH, s.PEK, s.OCA, s.ASK, s.ARK))
		}, scheme.Partial, scheme.ReasonNoKey, rats.TierNone, "give the platform's"},
		"PEK without CEK": {func(s *soft, in *scheme.Input) {
			s.PEK = s.platform(PEK, s.pek, signer{OCA, s.oca})
			in.Endorsements[0] = file(s.chain())
		}, scheme.Invalid, scheme.ReasonCertificate, rats.TierContraindicated, "PEK is not signed by the CEK"},
		"signature under another name": {func(s *soft, in *scheme.Input) {
			s.PEK = s.platform(PEK, s.pek, signer{OCA, s.oca}, signer{OCA, s.cek})
			in.Endorsements[0] = file(s.chain())
		}, scheme.Invalid, scheme.ReasonCertificate, rats.TierContraindicated, "PEK is not signed by the CEK"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSoft(t)
			in := &scheme.Input{Files: []scheme.File{file(s.attest(nonce))}, Endorsements: []scheme.File{file(s.chain())}, Nonce: nonce, HasNonce: true,
				References: values(t, map[string][]string{"launch_digest": {hex.EncodeToString(s.digest)}})}
			c.alter(s, in)
			r := appraise(t, in)
			if why := strings.Join(append(r.Why(), r.NotAffirmed()...), " "); r.Verdict != c.verdict || r.Reason != c.reason || r.Status != c.status || !strings.Contains(why, c.text) {
				t.Errorf("%s (%s), %s: %s", r.Verdict, r.Reason, r.Status, why)
			}
		})
	}
}

// TestNotJudged: what lacks, and what a stranger to the launch can say.
func TestNotJudged(t *testing.T) {
	for name, c := range map[string]struct {
		alter  func(in *scheme.Input)
		reason scheme.Reason
		text   string
	}{
		"no TIK":        {func(in *scheme.Input) { in.Key = nil }, scheme.ReasonNoKey, "--key"},
		"no references": {func(in *scheme.Input) { in.References = nil }, scheme.ReasonCoverage, "launch_digest"},
		"no state":      {func(in *scheme.Input) { in.Files = in.Files[:1] }, scheme.ReasonCoverage, "query-sev"},
	} {
		in := newSoft(t).input()
		c.alter(in)
		if r := appraise(t, in); r.Verdict != scheme.Partial || r.Reason != c.reason || !strings.Contains(strings.Join(r.Why(), " "), c.text) {
			t.Errorf("%s: %s (%s): %v", name, r.Verdict, r.Reason, r.Why())
		}
	}
	s := newSoft(t)
	in := s.input()
	in.Files, in.Endorsements = append(in.Files, in.Endorsements[0]), []scheme.File{file(s.ARK)}
	if r := appraise(t, in); r.Verdict != scheme.Valid || r.Status != rats.TierNone || !strings.Contains(strings.Join(r.NotAffirmed(), " "), "sealed for") {
		t.Errorf("%s, %s: %v", r.Verdict, r.Status, r.NotAffirmed())
	}
}

// TestRefused: what is not evidence, and what contradicts itself.
func TestRefused(t *testing.T) {
	s := newSoft(t)
	good := s.input()
	other := *s
	other.fw.Build++
	for want, files := range map[string][][]byte{
		"neither a launch measurement":   {[]byte("x")},
		"neither":                        {s.query()},
		"second measurement":             {s.measure(), append(s.measure()[:40], make([]byte, 8)...)},
		"two kinds of evidence":          {s.measure(), s.attest(nil)},
		"differ in the version":          {s.measure(), s.query(), other.query()},
		"without data":                   {[]byte(`{"x":1}`)},
		"answer of QEMU's":               {[]byte(`{"data":`)},
		"at most":                        {make([]byte, maxFile+1)},
		"not signed with ECDSA by a PEK": {alter(s.attest(nil), 0x38, 9)},
		"no point on P-384":              {alter(s.PEK, keyAt+4, 1, 2, 3)},
		"does not name":                  {alter(s.PDH, bodySize+8+sigSize+8, 1)},
	} {
		in := *good
		in.Files = nil
		for _, f := range files {
			in.Files = append(in.Files, file(f))
		}
		if r := appraise(t, &in); r.Verdict != scheme.Invalid || r.Reason != scheme.ReasonMalformed || !strings.Contains(strings.Join(r.Why(), " "), want) {
			t.Errorf("%q: %s (%s): %v", want, r.Verdict, r.Reason, r.Why())
		}
	}
	for _, bad := range []func(in *scheme.Input){
		func(in *scheme.Input) { in.Key = &scheme.File{Data: []byte("short")} },
		func(in *scheme.Input) { in.References = values(t, map[string][]string{"launch_digest": {"xx"}}) },
		func(in *scheme.Input) { in.Endorsements = []scheme.File{file(s.measure())} },
	} {
		in := *good
		bad(&in)
		if CheckOwn(&in) == nil {
			t.Error("a bad endorsement, key or value was taken")
		}
	}
	if err := CheckOwn(good); err != nil {
		t.Error(err)
	}
}

func alter(b []byte, at int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], with)
	return b
}

// FuzzAppraise looks for evidence that does harm, or that holds and is not the
// platform's.
func FuzzAppraise(f *testing.F) {
	s := newSoft(f)
	in := s.input()
	for _, seed := range [][]byte{s.measure(), s.query(), s.attest(nil), s.PDH, s.ASK, []byte("sev-measurement: x\nsev-policy : 1\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		again := *in
		again.Files = []scheme.File{file(b)}
		if r := appraise(t, &again); r.Verdict != scheme.Valid && len(r.Why()) == 0 {
			t.Error("refused without a reason")
		}
	})
}
