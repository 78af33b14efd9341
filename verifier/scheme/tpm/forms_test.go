package tpm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/internal/oracle"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// TestPlainForms reads what tpm2_quote writes with --format plain and
// --pcrs_format values: a bare signature, bare PCR values.
func TestPlainForms(t *testing.T) {
	for _, signer := range []string{"p256", "rsassa"} {
		m := booted(t, signer, bankSHA1, bankSHA256)
		e := m.evidence()
		q := &e.Quotes[0]
		opts := crypto.SHA256
		sig, err := m.signer.Sign(rand.Reader, tpm2.AlgSHA256.Digest(q.Message), opts)
		if err != nil {
			t.Fatal(err)
		}
		var values []byte
		for _, r := range selected(m.order) {
			values = append(values, value(m.pcrs, r)...)
		}
		appraise := func(sig, values []byte) *scheme.Result {
			in := &Evidence{AK: e.AK}
			for _, f := range []scheme.File{{Name: "msg", Role: scheme.RoleAuto, Data: q.Message}, {Name: "sig", Role: scheme.RoleAuto, Data: sig}, {Name: "pcrs", Role: RolePCRs, Data: values}} {
				if err := in.Add(f.Name, f.Role, f.Data); err != nil {
					t.Fatal(err)
				}
			}
			return m.appraise(in, nil)
		}
		if r := appraise(sig, values); r.Verdict != scheme.Valid {
			t.Errorf("%s: %s: %v", signer, r.Verdict, r.Why())
		}
		sig[len(sig)/2] ^= 1
		if r := appraise(sig, values); r.Verdict != scheme.Invalid {
			t.Errorf("%s: an altered plain signature: %s", signer, r.Verdict)
		}
		sig[len(sig)/2] ^= 1
		if r := appraise(sig, values[:len(values)-1]); r.Reason != scheme.ReasonMalformed {
			t.Errorf("%s: a byte less of PCR values: %s for %q", signer, r.Verdict, r.Reason)
		}
		if r := appraise(sig, append(values, 0)); r.Reason != scheme.ReasonMalformed {
			t.Errorf("%s: a byte more of PCR values: %s for %q", signer, r.Verdict, r.Reason)
		}
	}
}

// TestStatedAttributes wants the attributes that only the evidence states to be
// called that.
func TestStatedAttributes(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	status := func(k *identity.Key) rats.ClaimStatus {
		r := Appraise(Request{Evidence: m.evidence(), Key: k, Nonce: nonce, HasNonce: true, Time: time.Now()})
		for _, c := range r.Claims {
			if c.Name == "attestation key attributes" {
				return c.Status
			}
		}
		return "missing"
	}
	full, err := identity.FromPublic(&m.ak)
	if err != nil {
		t.Fatal(err)
	}
	if s := status(full); s != rats.Holds {
		t.Errorf("with the public area given: %s", s)
	}
	if s := status(&identity.Key{Crypto: full.Crypto}); s != rats.Unchecked {
		t.Errorf("with the bare key given: %s", s)
	}
	if s := status(nil); s != rats.Unchecked {
		t.Errorf("with nothing given: %s", s)
	}
}

// TestFilesTold wants each single file told by its content.
func TestFilesTold(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	q := m.evidence().Quotes[0]
	for role, b := range map[scheme.Role][]byte{RoleQuote: q.Message, RoleSig: q.Signature, RoleEventLog: m.events, RoleIMA: m.ima,
		RoleKey: tpm2.Marshal(&m.ak)} {
		if got := new(Evidence).sniff(b); got != role {
			t.Errorf("%s was told as %q", role, got)
		}
	}
	e := &Evidence{}
	if err := e.Add("lone.pcrs", RolePCRs, []byte{1}); err == nil || !strings.Contains(err.Error(), "lone.pcrs") {
		t.Errorf("PCR values without a quote: %v", err)
	}
	if err := e.Add("huge", RoleIMA, make([]byte, MaxIMALog+1)); err == nil {
		t.Error("a log beyond the limit was taken")
	}
}

// TestRealReferences takes reference values from a real guest's first quote: its
// second, a moment later, has more files; the other guest has another boot.
func TestRealReferences(t *testing.T) {
	guest := func(name, quote string) *Evidence {
		e := &Evidence{}
		for _, f := range oracle.Read(t,
			"own/"+name+"/quote_"+quote+".msg", "own/"+name+"/quote_"+quote+".sig", "own/"+name+"/quote_"+quote+".pcrs",
			"own/"+name+"/ak_"+quote+".pub", "own/"+name+"/eventlog.bin", "own/"+name+"/ima_after_"+quote+".bin",
			"own/"+name+"/cmdline.txt") {
			if f.Name == "cmdline.txt" {
				e.CommandLine = string(bytes.TrimSpace(f.Data))
				continue
			}
			if err := e.Add(f.Name, f.Role, f.Data); err != nil {
				t.Fatal(err)
			}
		}
		return e
	}
	first := guest("kernel-crb", "rsa")
	refs, err := MakeReferences([]*Evidence{first}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	line := ""
	for _, ev := range refs.Boots[0].Events {
		if ev.Stage == "command line" {
			line = ev.What
		}
	}
	if !strings.Contains(line, first.CommandLine) {
		t.Errorf("the command line is explained as %q", line)
	}
	// The earlier quote covers a part of the same files.
	if r := Appraise(Request{Evidence: guest("kernel-crb", "ecc"), References: refs, Time: time.Now()}); r.Verdict != scheme.Valid {
		t.Errorf("the same boot: %s: %v", r.Verdict, r.Why())
	}
	early, err := MakeReferences([]*Evidence{guest("kernel-crb", "ecc")}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := Appraise(Request{Evidence: first, References: early, Time: time.Now()})
	if r.Verdict != scheme.Invalid || r.Reason != scheme.ReasonFile || len(r.Why()) > 9 {
		t.Errorf("files that came later: %s for %q: %v", r.Verdict, r.Reason, r.Why())
	}
	r = Appraise(Request{Evidence: guest("uki-sb-crb", "rsa"), References: refs, Time: time.Now()})
	if r.Verdict != scheme.Invalid || r.Reason != scheme.ReasonEvent {
		t.Errorf("another boot: %s for %q", r.Verdict, r.Reason)
	}
}
