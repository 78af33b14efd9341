package tpm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// FuzzAdd gives any bytes as a file of evidence, and appraises what comes of it.
func FuzzAdd(f *testing.F) {
	m := booted(&testing.T{}, "p256", bankSHA256)
	q := m.evidence().Quotes[0]
	for _, seed := range [][]byte{q.Message, q.Signature, m.events, m.ima,
		[]byte(`{"format":"ashlar-tpm-evidence","version":1,"nonce":"00","akPublic":"","quotes":[]}`),
		[]byte(`{"type":"evidence/1","quote":"/1RDRw==","algorithm":"11","pcrs":{"0":"AA=="}}`),
		[]byte(`{"ak_tpm2b_public_b64":"AAA=","message_b64":"/1RDRw=="}`),
		[]byte(`{"Static":{"TPMVersion":2},"AK":{"Public":"AAA="}}`),
		{0x0a, 2, 0, 1, 0x12, 0}, []byte("10 00 ima-ng sha256:00 /x\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, role := range []scheme.Role{scheme.RoleAuto, RolePCRs, RoleSig} {
			e := &Evidence{}
			if role != scheme.RoleAuto {
				e.Quotes = []Quote{{Message: q.Message, Signature: q.Signature}}
			}
			if e.Add("x", role, b) != nil {
				continue
			}
			r := Appraise(Request{Evidence: e, Nonce: nonce, HasNonce: true, Time: time.Now()})
			if r.Status == rats.TierAffirming {
				t.Error("any bytes are affirmed")
			}
			if r.Verdict != scheme.Valid && len(r.Why()) == 0 {
				t.Errorf("%s without a reason", r.Verdict)
			}
		}
		if p, err := RecordedPCRs("x", b); err == nil {
			if _, err := json.Marshal(p); err != nil {
				t.Errorf("PCR values that cannot be written: %v", err)
			}
		}
	})
}

// FuzzParseReferences gives any bytes as reference values, and compares with
// what is taken.
func FuzzParseReferences(f *testing.F) {
	m := booted(&testing.T{}, "p256", bankSHA256)
	refs, err := MakeReferences([]*Evidence{m.evidence()}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(refs)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":"ashlar-reference-values","version":1,"bank":"sha256","boots":[{"events":[]}]}`))
	e := m.evidence()
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReferences(b)
		if err != nil {
			return
		}
		if res := m.appraise(e, r); res.Verdict != scheme.Valid && len(res.Why()) == 0 {
			t.Errorf("%s without a reason", res.Verdict)
		}
	})
}

// FuzzAppraise alters each part of good evidence at will. What is affirmed must be
// the message that was signed, and exactly the measurements of the references.
func FuzzAppraise(f *testing.F) {
	m := booted(&testing.T{}, "p256", bankSHA256)
	good := m.evidence()
	refs := references(&testing.T{}, m)
	q := good.Quotes[0]
	f.Add(q.Message, q.Signature, good.EventLog, good.IMALog, []byte(nil), "quiet")
	f.Add(q.Message, q.Signature, good.EventLog, good.IMALog[:len(good.IMALog)/2], []byte{0x30}, "")
	f.Fuzz(func(t *testing.T, msg, sig, events, ima, key []byte, line string) {
		e := &Evidence{Quotes: []Quote{{Message: msg, Signature: sig}}, AK: good.AK, EventLog: events, IMALog: ima,
			AttesterKey: key, CommandLine: line}
		r := m.appraise(e, refs)
		if r.Verdict != scheme.Valid && len(r.Why()) == 0 {
			t.Errorf("%s without a reason", r.Verdict)
		}
		if r.Status != rats.TierAffirming {
			return
		}
		if !bytes.Equal(msg, q.Message) || len(key) > 0 {
			t.Error("a message that nobody signed is affirmed")
		}
		var digests []string
		for _, x := range r.Measurements {
			digests = append(digests, fmt.Sprint(x.PCR, bare(x.Digest)))
		}
		var want []string
		for _, x := range refs.Boots[0].Events {
			want = append(want, fmt.Sprint(x.PCR, x.Digest))
		}
		for _, x := range refs.Files {
			want = append(want, fmt.Sprint(imaPCR, bare(x.Digest)))
		}
		slices.Sort(digests) // only the order within a PCR is proven
		slices.Sort(want)
		if !slices.Equal(digests, want) {
			t.Errorf("affirmed: %v", digests)
		}
	})
}
