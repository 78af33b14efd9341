package sevsnp

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/internal/forge"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// TestProducts affirms each product, signer and version of the report.
func TestProducts(t *testing.T) {
	for cpu := range cpus {
		for _, vlek := range []bool{false, true} {
			for version := uint32(2); version <= 5; version++ {
				t.Run(fmt.Sprintf("%s, VLEK %v, version %d", cpu, vlek, version), func(t *testing.T) {
					s := newSoft(t, cpu, vlek, version)
					r := appraise(t, s.input())
					wantAffirmed(t, r)
					if want := s.line; version < 3 && r.Facts["product"] != want {
						t.Errorf("product %v", r.Facts["product"])
					}
					if tcb := r.Facts["reported_microcode"]; tcb != s.leafTCB[7] {
						t.Errorf("microcode %v", tcb)
					}
				})
			}
		}
	}
}

// TestEveryBit flips bits of the report and of each certificate and list: all that
// a signature covers, and the signatures.
func TestEveryBit(t *testing.T) {
	s := newSoft(t, "Milan", false, 5)
	in := s.input()
	in.Chains = scheme.NewChains(64)
	wantAffirmed(t, appraise(t, in))
	with := func(f func(again *scheme.Input, b []byte)) forge.Appraise {
		return func(b []byte) *scheme.Result {
			again := *in
			again.Files, again.Endorsements = slices.Clone(in.Files), slices.Clone(in.Endorsements)
			f(&again, b)
			return appraise(t, &again)
		}
	}
	n := forge.Flips(t, in.Files[0].Data, 0, ReportSize, with(func(again *scheme.Input, b []byte) { again.Files[0].Data = b }))
	for _, i := range []int{1, 2} {
		cert := in.Files[i].Data
		n += forge.Flips(t, cert, 0, len(cert), func(b []byte) *scheme.Result {
			r := with(func(again *scheme.Input, b []byte) { again.Files[i].Data = b })(b)
			if r.Verdict == scheme.Partial && len(r.Why()) > 0 {
				// It is a certificate of something else now, and the one that is
				// needed is missing: as good as refused.
				r.Fail(r.Reason, rats.Hardware, rats.HardwareUnknown, rats.Claim{Why: r.Why()[0]})
				r.Finish()
			}
			return r
		})
	}
	// A root or list that is not the root's own is none: nothing is affirmed.
	for i := range in.Endorsements {
		good := in.Endorsements[i].Data
		for at := range good {
			b := bytes.Clone(good)
			b[at] ^= 1 << (at % 8)
			if r := with(func(again *scheme.Input, b []byte) { again.Endorsements[i].Data = b })(b); r.Status == rats.TierAffirming || len(r.NotAffirmed()) == 0 {
				t.Errorf("byte %d of endorsement %d: %s, %s", at, i, r.Verdict, r.Status)
			}
			n++
		}
	}
	t.Logf("%d forgeries", n)
	if n < 2500 {
		t.Errorf("only %d forgeries", n)
	}
}

// TestCut refuses what is cut at any byte, and what is too long.
func TestCut(t *testing.T) {
	s := newSoft(t, "Turin", false, 5)
	in := s.input()
	good := in.Files[0].Data
	for n := range good {
		in.Files[0].Data = good[:n]
		if r := appraise(t, in); r.Verdict != scheme.Invalid || r.Reason != scheme.ReasonMalformed {
			t.Fatalf("cut at %d: %s (%s)", n, r.Verdict, r.Reason)
		}
	}
	for _, long := range [][]byte{append(bytes.Clone(good), 1), append(bytes.Clone(good), make([]byte, maxFile)...), bytes.Repeat(good, 2)} {
		in.Files[0].Data = long
		if r := appraise(t, in); r.Verdict != scheme.Invalid || r.Reason != scheme.ReasonMalformed {
			t.Errorf("%d bytes: %s (%s)", len(long), r.Verdict, r.Reason)
		}
	}
	in.Files = []scheme.File{file(good), file(good)}
	wantRefused(t, appraise(t, in), scheme.ReasonMalformed, "two reports")
	in.Files = []scheme.File{file(s.leaf.Raw)}
	wantRefused(t, appraise(t, in), scheme.ReasonMalformed, "no report")
}

// TestForgeries: what is signed well, and lies.
func TestForgeries(t *testing.T) {
	for name, c := range map[string]struct {
		forge  func(s *soft, in *scheme.Input)
		reason scheme.Reason
		text   string
	}{
		"replay":         {func(s *soft, in *scheme.Input) { in.Nonce = rats.Nonce("another nonce") }, scheme.ReasonNonce, "replay"},
		"longer nonce":   {func(s *soft, in *scheme.Input) { in.Nonce = append(nonce[:len(nonce):len(nonce)], 1) }, scheme.ReasonNonce, "replay"},
		"shorter nonce":  {func(s *soft, in *scheme.Input) { in.Nonce = nonce[:len(nonce)-1] }, scheme.ReasonNonce, "replay"},
		"oversize nonce": {func(s *soft, in *scheme.Input) { in.Nonce = make([]byte, 65) }, scheme.ReasonNonce, "replay"},
		"other key": {func(s *soft, in *scheme.Input) { s.key = newKey(s.t); in.Files[0] = file(s.report()) },
			scheme.ReasonSignature, "another key"},
		"other root": {func(s *soft, in *scheme.Input) {
			other := newSoft(s.t, "Milan", false, 3)
			in.Endorsements = []scheme.File{file(other.root.Raw)}
		}, scheme.ReasonCertificate, "does not lead to a root"},
		"root of its own": {func(s *soft, in *scheme.Input) {
			in.Files = append(in.Files, in.Endorsements[0])
			in.Endorsements = nil
		}, "", ""},
		"expired": {func(s *soft, in *scheme.Input) { in.Time = now.AddDate(8, 0, 0) }, scheme.ReasonExpired, "expired"},
		"early":   {func(s *soft, in *scheme.Input) { in.Time = now.AddDate(0, -2, 0) }, scheme.ReasonExpired, "not yet valid"},
		"revoked": {func(s *soft, in *scheme.Input) {
			s.revoked = []x509.RevocationListEntry{{SerialNumber: s.ask.SerialNumber, RevocationTime: now.AddDate(0, 0, -5)}}
			in.Endorsements[1] = file(s.crl(now.AddDate(0, 0, -3)))
		}, scheme.ReasonRevoked, "revoked SEV-Milan on 2026-10-27"},
		"revoked, says the host": {func(s *soft, in *scheme.Input) {
			s.revoked = []x509.RevocationListEntry{{SerialNumber: s.ask.SerialNumber, RevocationTime: now.AddDate(0, 0, -5)}}
			in.Files = append(in.Files, file(s.crl(now.AddDate(0, 0, -3))))
		}, scheme.ReasonRevoked, "revoked SEV-Milan"},
		"revoked, and the host has an old list": {func(s *soft, in *scheme.Input) {
			in.Files = append(in.Files, file(s.crl(now.AddDate(0, 0, -100))))
			s.revoked = []x509.RevocationListEntry{{SerialNumber: s.ask.SerialNumber, RevocationTime: now.AddDate(0, 0, -5)}}
			in.Endorsements[1] = file(s.crl(now.AddDate(0, 0, -3)))
		}, scheme.ReasonRevoked, "revoked SEV-Milan"},
		"other chip": {func(s *soft, in *scheme.Input) { s.raw[0x1a0] ^= 1; in.Files[0] = file(s.report()) },
			scheme.ReasonCertificate, "another chip"},
		"other TCB": {func(s *soft, in *scheme.Input) {
			s.setTCB(TCB{4, 0, 0, 0, 0, 0, 0x17, 0xdb})
			in.Files[0] = file(s.report())
		},
			scheme.ReasonTCBNoMatch, "not the one that the certificate is for"},
		"reported above current": {func(s *soft, in *scheme.Input) { s.raw[0x38+6]--; in.Files[0] = file(s.report()) },
			scheme.ReasonTCBNoMatch, "above what the platform runs: snp 24"},
		"other product": {func(s *soft, in *scheme.Input) { s.raw[0x189] = 0x11; in.Files[0] = file(s.report()) },
			scheme.ReasonCertificate, "the report is of a Genoa, and the certificate for Milan"},
		"unknown processor": {func(s *soft, in *scheme.Input) { s.raw[0x188] = 0x1b; in.Files[0] = file(s.report()) },
			scheme.ReasonCertificate, "not known here"},
		"certificate of another product": {func(s *soft, in *scheme.Input) { s.leafName = "Genoa"; s.recertify(in) },
			scheme.ReasonCertificate, "the certificate is for Genoa, and its issuer is that of Milan"},
		"VLEK's issuer": {func(s *soft, in *scheme.Input) { s.askName = "SEV-VLEK-Milan"; s.recertify(in) }, scheme.ReasonCertificate, "the certificate is for Milan, and its issuer is that of VLEK-Milan"},
		"other leaf":    {func(s *soft, in *scheme.Input) { s.leafCN = "SEV-XXXX"; s.recertify(in) }, scheme.ReasonCertificate, "neither for SEV-VCEK"},
		"no chip":       {func(s *soft, in *scheme.Input) { s.leafHWID = make([]byte, 8); s.recertify(in) }, scheme.ReasonCertificate, "hardware identity of 8 bytes"},
		"unsigned": {func(s *soft, in *scheme.Input) {
			s.raw[0x48] = signerNone << keySignerAt
			in.Files[0] = file(s.report())
		},
			scheme.ReasonSignature, "not signed"},
		"signed with a VLEK": {func(s *soft, in *scheme.Input) {
			s.raw[0x48] = signerVLEK << keySignerAt
			in.Files[0] = file(s.report())
		},
			scheme.ReasonCertificate, "another kind of key"},
		"algorithm": {func(s *soft, in *scheme.Input) { s.raw[0x34] = 2; in.Files[0] = file(s.report()) }, scheme.ReasonAlgorithm, "algorithm is 2"},
		"version":   {func(s *soft, in *scheme.Input) { s.raw[0] = 6; in.Files[0] = file(s.report()) }, scheme.ReasonMalformed, "version 6"},
		"measurement": {func(s *soft, in *scheme.Input) { s.raw[0x90]++; in.Files[0] = file(s.report()) },
			scheme.ReasonReference, "not among the 1 reference values"},
		"references of another kind": {func(s *soft, in *scheme.Input) {
			in.References = &scheme.File{Data: bytes.Replace(in.References.Data, []byte(KindName), []byte("tdx"), 1)}
		}, scheme.ReasonMalformed, `for kind "tdx"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSoft(t, "Milan", false, 3)
			in := s.input()
			c.forge(s, in)
			r := appraise(t, in)
			if c.reason != "" {
				wantRefused(t, r, c.reason, c.text)
			} else if r.Verdict != scheme.Partial || r.Status == rats.TierAffirming || !strings.Contains(strings.Join(r.Why(), " "), "nobody vouches") {
				t.Errorf("%s, %s: %v", r.Verdict, r.Status, r.Why())
			}
		})
	}
}

// recertify makes the chain anew, and puts it in an input.
func (s *soft) recertify(in *scheme.Input) {
	s.certify()
	*in = *s.input()
}

// TestNotAffirmed: what holds, and is not to be trusted without more.
func TestNotAffirmed(t *testing.T) {
	for name, c := range map[string]struct {
		alter  func(s *soft, in *scheme.Input)
		reason scheme.Reason
		status rats.Tier
		text   string
	}{
		"debug": {func(s *soft, in *scheme.Input) { s.raw[0xa] |= 8 }, scheme.ReasonDebug, rats.TierContraindicated, "read and change its memory"},
		"migration agent": {func(s *soft, in *scheme.Input) { s.raw[0x160] = 0 }, scheme.ReasonMigration, rats.TierContraindicated,
			"give the agent's report"},
		"no nonce": {func(s *soft, in *scheme.Input) { in.HasNonce = false }, "", rats.TierNone, "old one"},
		"no list":  {func(s *soft, in *scheme.Input) { in.Endorsements = in.Endorsements[:1] }, "", rats.TierNone, "no revocation list"},
		"the host's list": {func(s *soft, in *scheme.Input) {
			in.Files, in.Endorsements = append(in.Files, in.Endorsements[1]), in.Endorsements[:1]
		}, "", rats.TierNone, "no revocation list"},
		"old list":        {func(s *soft, in *scheme.Input) { in.Endorsements[1] = file(s.crl(now.AddDate(-2, 0, 0))) }, "", rats.TierNone, "fetch the one of today"},
		"no references":   {func(s *soft, in *scheme.Input) { in.References = nil }, "", rats.TierNone, "no reference values"},
		"host's report":   {func(s *soft, in *scheme.Input) { binary.LittleEndian.PutUint32(s.raw[0x30:], hostVMPL) }, "", rats.TierNone, "the host asked"},
		"unknown policy":  {func(s *soft, in *scheme.Input) { s.raw[0xf] = 0x80 }, "", rats.TierNone, "bits that are not known"},
		"host data alone": {func(s *soft, in *scheme.Input) { in.References = values(s.t, map[string][]string{"guest_svn": {"7"}}) }, "", rats.TierNone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSoft(t, "Genoa", false, 3)
			in := s.input()
			c.alter(s, in)
			in.Files[0] = file(s.report())
			r := appraise(t, in)
			if r.Verdict != scheme.Valid || r.Reason != c.reason || r.Status != c.status || !strings.Contains(strings.Join(r.NotAffirmed(), " "), c.text) {
				t.Errorf("%s (%s), %s: %v", r.Verdict, r.Reason, r.Status, r.NotAffirmed())
			}
		})
	}
}

// TestAffirmed: what may differ without harm.
func TestAffirmed(t *testing.T) {
	for name, alter := range map[string]func(s *soft, in *scheme.Input){
		"hidden chip": func(s *soft, in *scheme.Input) { clear(s.raw[0x1a0:0x1e0]) },
		"provisional": func(s *soft, in *scheme.Input) { s.raw[0x38+6]++ },
		"named agent": func(s *soft, in *scheme.Input) {
			s.raw[0x160] = 0
			in.References = values(s.t, map[string][]string{"measurement": {strings.Repeat("6d", 48)}, "report_id_ma": {"00" + strings.Repeat("ff", 31)}})
		},
		"chain at the end": func(s *soft, in *scheme.Input) { in.Time = s.leafEnd },
		"stepping in name": func(s *soft, in *scheme.Input) { s.leafName = "Genoa-B1"; s.recertify(in) },
		"another's certificate beside it": func(s *soft, in *scheme.Input) {
			other := newSoft(s.t, "Genoa", false, 3)
			in.Files = append([]scheme.File{{}, file(other.leaf.Raw), file(other.ask.Raw)}, in.Files[1:]...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSoft(t, "Genoa", false, 3)
			in := s.input()
			alter(s, in)
			if name == "chain at the end" {
				in.Endorsements[1] = file(s.crl(in.Time.AddDate(0, 0, -1)))
			}
			in.Files[0] = file(s.report())
			wantAffirmed(t, appraise(t, in))
		})
	}
}

// TestRSA follows a chain signed as AMD's is, by RSA-PSS with SHA-384.
func TestRSA(t *testing.T) {
	s := newSoft(t, "Milan", false, 3)
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.rootKey = k
	root, ask := ca("ARK-Milan", 1), ca("SEV-Milan", 2)
	root.SignatureAlgorithm, ask.SignatureAlgorithm = x509.SHA384WithRSAPSS, x509.SHA384WithRSAPSS
	s.root = s.issue(root, nil, k.Public(), k)
	s.ask = s.issue(ask, s.root, s.askKey.Public(), k)
	wantAffirmed(t, appraise(t, s.input()))
}

// TestNothingCovers lists what no signature covers, and wants that it changes
// nothing in the result.
func TestNothingCovers(t *testing.T) {
	s := newSoft(t, "Milan", false, 3)
	want := fmt.Sprint(appraise(t, s.input()).Claims)
	vcek, ask := guid(must(t, "63da758de6644564adc5f4b93be8accd")), guid(must(t, "4ab7b379bbac4fe4a02f05aef327c782"))
	for name, b := range map[string][]byte{
		"order of a certificate table": append(s.report(), table(tableRow{ask, s.ask.Raw}, tableRow{vcek, s.leaf.Raw})...),
		"GUID of a certificate":        append(s.report(), table(tableRow{ask, s.leaf.Raw}, tableRow{vcek, s.ask.Raw})...),
		"entry of an unknown GUID":     append(s.report(), table(tableRow{guid{1}, []byte("x")}, tableRow{vcek, s.leaf.Raw}, tableRow{ask, s.ask.Raw})...),
		"zeros after the table":        append(append(s.report(), table(tableRow{vcek, s.leaf.Raw}, tableRow{ask, s.ask.Raw})...), make([]byte, 512)...),
	} {
		in := s.input()
		in.Files = []scheme.File{{Name: "a name", Data: b}}
		if got := fmt.Sprint(appraise(t, in).Claims); got != want {
			t.Errorf("%s changes the result:\n%s\n%s", name, got, want)
		}
	}
	// The signature itself: (r, n−s) is as good as (r, s), and says the same.
	b := s.report()
	n, _ := new(big.Int).SetString("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
	v, _ := littleEndian(b[signedSize+componentSize : signedSize+2*componentSize])
	be := n.Sub(n, v).FillBytes(make([]byte, componentSize))
	for i, x := range be {
		b[signedSize+2*componentSize-1-i] = x
	}
	in := s.input()
	in.Files[0] = file(b)
	if got := fmt.Sprint(appraise(t, in).Claims); got != want {
		t.Errorf("the other signature: %s", got)
	}
}
