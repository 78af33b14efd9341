package tpm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	x509name "crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// entry measures raw fields under a template's name, and extends all banks.
func (s *soft) entry(template string, fields ...string) {
	field := func(b []byte, text string) []byte {
		return append(binary.LittleEndian.AppendUint32(b, uint32(len(text))), text...)
	}
	var data []byte
	for _, f := range fields {
		data = field(data, f)
	}
	s.ima = append(binary.LittleEndian.AppendUint32(s.ima, imaPCR), tpm2.AlgSHA1.Digest(data)...)
	s.ima = field(field(s.ima, template), string(data))
	for _, alg := range s.banks {
		s.extend(alg, imaPCR, alg.Digest(data))
	}
}

// TestRenamedTemplate changes a program and renames its entry's template, which
// no PCR proves, so that its signature would be read as its digest.
func TestRenamedTemplate(t *testing.T) {
	good := "sha256:\x00" + string(bankSHA256.Digest([]byte("good")))
	evil := "sha256:\x00" + string(bankSHA256.Digest([]byte("evil")))
	m := booted(t, "p256", bankSHA256)
	m.entry("ima-sig", good, "/bin/x\x00", "")
	refs := references(t, m)
	for _, template := range []string{"ima-sig", "sig|n-ng|d-ngv2"} {
		bad := booted(t, "p256", bankSHA256)
		bad.entry(template, evil, "/bin/x\x00", "\x03\x02:"+good)
		wantRefused(t, bad.appraise(bad.evidence(), refs), scheme.ReasonFile, "/bin/x")
	}
	bad := booted(t, "p256", bankSHA256)
	bad.entry("no-such-template", evil, "/bin/x\x00", "")
	wantRefused(t, bad.appraise(bad.evidence(), refs), scheme.ReasonFile, "template is no-such-template")
	if _, err := MakeReferences([]*Evidence{bad.evidence()}, time.Now()); err == nil {
		t.Error("reference values were taken from an entry that tells no file")
	}
}

// TestFalseBootAggregate runs a program whose name is that of the kernel's
// summary, with that summary's digest in its signature.
func TestFalseBootAggregate(t *testing.T) {
	aggregate := func(m *soft) string {
		h := bankSHA256.New()
		for i := range 10 {
			h.Write(m.pcrs[bankSHA256][i])
		}
		return "sha256:\x00" + string(h.Sum(nil))
	}
	m := booted(t, "p256", bankSHA256)
	m.entry("ima-sig", aggregate(m), "boot_aggregate\x00", "")
	refs := references(t, m)
	if r := m.appraise(m.evidence(), refs); r.Status != rats.TierAffirming {
		t.Errorf("the true one: %v", r.Why())
	}
	evil := "sha256:\x00" + string(bankSHA256.Digest([]byte("evil")))
	for _, template := range []string{"ima-sig", "sig|n-ng|d-ngv2"} {
		bad := booted(t, "p256", bankSHA256)
		bad.entry(template, evil, "boot_aggregate\x00", "\x03\x02:"+aggregate(bad))
		wantRefused(t, bad.appraise(bad.evidence(), refs), scheme.ReasonFile, "IMA entry 3")
	}
}

// TestWeakerBankForIMA quotes PCR 10 in SHA-1 alone.
func TestWeakerBankForIMA(t *testing.T) {
	refs := references(t, booted(t, "p256", bankSHA256))
	m := booted(t, "p256", bankSHA256, bankSHA1)
	m.order[0].Clear(imaPCR)
	wantRefused(t, m.appraise(m.evidence(), refs), scheme.ReasonCoverage, "PCR 10 of bank sha256")
}

// TestIMAOff boots with IMA switched off and brings a log that nothing extended.
func TestIMAOff(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	refs := references(t, m)
	off := newSoft(t, "p256", bankSHA256)
	off.event(0, "firmware")
	off.event(4, "boot loader")
	off.event(8, "kernel_cmdline: quiet")
	off.file("/sbin/init", "init", false)
	wantRefused(t, off.appraise(off.evidence(), refs), scheme.ReasonCoverage, "IMA was off")
}

// TestHostileText puts terminal escapes where a path, a digest's algorithm and
// an event's text are.
func TestHostileText(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	refs := references(t, m)
	m.entry("ima-ng", "sha\x1b]0;x\x07:\x00"+strings.Repeat("d", 32), "/bin/\x1b[2J\u009b\u202e\x00")
	m.event(4, "\x1b[31mevil\u009b\x00")
	r := m.appraise(m.evidence(), refs)
	text := fmt.Sprint(r.Claims, r.Measurements, r.Why())
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e }); i >= 0 {
		t.Errorf("%q reaches people", text[max(0, i-40):i+10])
	}
	wantRefused(t, r, scheme.ReasonEvent, "PCR 4")
}

func TestEmptyNonce(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	e, refs := m.evidence(), references(t, m)
	e.Quotes[0] = m.quote(nil)
	k, err := identity.FromPublic(&m.ak)
	if err != nil {
		t.Fatal(err)
	}
	r := Appraise(Request{Evidence: e, Keys: []*identity.Key{k}, References: refs, HasNonce: true, Time: time.Now()})
	if r.Verdict != scheme.Valid || r.Status != rats.TierNone || r.AttesterKey != nil {
		t.Errorf("a quote under no nonce: %s, %s", r.Verdict, r.Status)
	}
}

// TestStrongerBankBeside quotes a bank more than the reference values know.
func TestStrongerBankBeside(t *testing.T) {
	refs := references(t, booted(t, "p256", bankSHA256))
	m := booted(t, "p256", bankSHA256, bankSHA384)
	if r := m.appraise(m.evidence(), refs); r.Status != rats.TierAffirming {
		t.Errorf("%s: %v", r.Status, r.Why())
	}
}

// TestKeyBesideQuote gives the key as a file of the evidence: it checks the
// signature, but whoever sent it vouches only for himself.
func TestKeyBesideQuote(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	refs, err := json.Marshal(references(t, m))
	if err != nil {
		t.Fatal(err)
	}
	e := m.evidence()
	key := scheme.File{Name: "ak.pub", Data: tpm2.Marshal(&tpm2.SizedPublic{Public: m.ak})}
	in := &scheme.Input{Files: []scheme.File{{Name: "msg", Data: e.Quotes[0].Message}, {Name: "sig", Data: e.Quotes[0].Signature},
		{Name: "log", Data: e.EventLog}, {Name: "ima", Data: e.IMALog}, key},
		References: &scheme.File{Name: "refs", Data: refs}, Nonce: nonce, HasNonce: true, Time: time.Now()}
	r, err := appraiseAs(KindQuote, in)
	if err != nil || r.Verdict != scheme.Valid || r.Status != rats.TierNone {
		t.Errorf("a key that nobody vouches for: %v %s %s %v", err, r.Verdict, r.Status, r.Why())
	}
	in.Endorsements = []scheme.File{key}
	if r, err = appraiseAs(KindQuote, in); err != nil || r.Status != rats.TierAffirming {
		t.Errorf("the same, endorsed: %v %s %v", err, r.Status, r.Why())
	}
}

// TestCertificateForOtherUse shows an AK with a certificate of a trusted CA that
// was made for a web server.
func TestCertificateForOtherUse(t *testing.T) {
	ca := newSoft(t, "p256")
	m := booted(t, "p256", bankSHA256)
	root := certificate(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, ca.signer, ca.signer.Public())
	refs := references(t, m)
	for name, c := range map[string]struct {
		template x509.Certificate
		status   rats.Tier
	}{
		"web server":       {x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, rats.TierContraindicated},
		"key encipherment": {x509.Certificate{KeyUsage: x509.KeyUsageKeyEncipherment, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}}}, rats.TierContraindicated},
		"CA":               {x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}, rats.TierContraindicated},
		"AK":               {x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}}, rats.TierAffirming},
	} {
		e := m.evidence()
		e.AKCertificate = certificate(t, &c.template, root, ca.signer, m.signer.Public())
		r := Appraise(Request{Evidence: e, Certificates: []*x509.Certificate{root}, References: refs, Nonce: nonce, HasNonce: true, Time: time.Now()})
		if r.Status != c.status {
			t.Errorf("%s: %s: %v", name, r.Status, r.Why())
		}
	}
}

func certificate(t *testing.T, template, parent *x509.Certificate, by crypto.Signer, key crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.Subject = big.NewInt(1), x509name.Name{CommonName: fmt.Sprint("test ", template.IsCA)}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestWeakKeys shows AKs whose Name or modulus can be had by others.
func TestWeakKeys(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	m.ak.NameAlg = tpm2.AlgSHA1
	wantRefused(t, m.appraise(m.evidence(), nil), scheme.ReasonKeyAttributes, "name algorithm")
}

// TestEmptyReferences wants nothing compared with lists that list nothing.
func TestEmptyReferences(t *testing.T) {
	head := `{"format":"ashlar-reference-values","version":1,"bank":"sha256",`
	zero := strings.Repeat("0", 64)
	for _, body := range []string{
		`"boots":[]}`, `"boots":[{}]}`, `"boots":[{"events":[],"pcrs":{}}]}`,
		`"boots":[{"pcrs":{"00":"` + zero + `"}}]}`, `"boots":[{"pcrs":{"24":"` + zero + `"}}]}`,
		`"boots":[{"pcrs":{"0":"` + zero + `"}}],"files":[{"path":"","digest":":"}]}`,
		`"boots":[{"pcrs":{"0":"` + zero + `"}}],"files":[{"path":"/x","digest":"sha256"}]}`,
	} {
		if _, err := ParseReferences([]byte(head + body)); err == nil {
			t.Errorf("taken: %s", body)
		}
	}
	m := newSoft(t, "p256", bankSHA256)
	for i := range numPCRs {
		if i != 16 {
			m.order[0].Clear(i)
		}
	}
	e := m.evidence()
	e.EventLog = nil
	if _, err := MakeReferences([]*Evidence{e}, time.Now()); err == nil {
		t.Error("reference values were taken from a quote of PCR 16 alone, which anyone may reset")
	}
}

// TestSearchIsBounded selects a bank sixteen times over and gives no PCR values,
// so that the logs must tell them, with a violation to have three modes.
func TestSearchIsBounded(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	for len(m.order) < 16 {
		m.order = append(m.order, m.order[0])
	}
	e := m.evidence()
	e.Quotes[0].PCRs = nil
	e.IMALog = append(append([]byte{10, 0, 0, 0}, make([]byte, 20)...), e.IMALog[24:]...)
	done := make(chan *scheme.Result, 1)
	go func() { done <- m.appraise(e, nil) }()
	select {
	case r := <-done:
		wantRefused(t, r, scheme.ReasonMalformed, "twice")
	case <-time.After(5 * time.Second):
		t.Fatal("the search has no end")
	}
}

// TestBundleOfManyNothings wants a bundle of small elements without number to be
// refused before they take memory.
func TestBundleOfManyNothings(t *testing.T) {
	for _, field := range []string{`"quotes":[{}`, `"ekCertificates":[""`} {
		text := `{"format":"ashlar-tpm-evidence","version":1,` + field + strings.Repeat(","+field[strings.Index(field, "[")+1:], 1<<20) + `]}`
		var before, after runtime.MemStats
		b := []byte(text)
		runtime.ReadMemStats(&before)
		if _, err := ParseBundle(b); err == nil {
			t.Fatal("taken")
		}
		runtime.ReadMemStats(&after)
		alloc := after.TotalAlloc - before.TotalAlloc
		if alloc > uint64(3*len(text)) {
			t.Errorf("%s: %d bytes for a file of %d", field, alloc, len(text))
		}
	}
	many := `{"sha256":{"0":"` + strings.Repeat("00", 32) + `"` + strings.Repeat(`,"1":""`, 1<<16) + `}}`
	var p eventlog.PCRs
	if err := json.Unmarshal([]byte(many), &p); err == nil {
		t.Error("PCR values without number were taken")
	}
}

// TestWordsOfTheLog wants words that no digest proves to be marked as the log's.
func TestWordsOfTheLog(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	refs := references(t, m)
	bad := newSoft(t, "p256", bankSHA256)
	bad.event(0, "firmware")
	bad.event(4, "boot loader")
	bad.event(8, "kernel_cmdline: evil=1")
	bad.file("/sbin/init", "init", true)
	bad.file("/bin/sh", "sh", true)
	e := bad.evidence()
	proven := bad.appraise(e, refs)
	if why := proven.Why()[0]; strings.Contains(why, "the log calls") {
		t.Errorf("proven words are doubted: %s", why)
	}
	e.EventLog = bytes.Replace(e.EventLog, []byte("evil=1"), []byte("quiet "), 1) // the digest stays
	r := bad.appraise(e, refs)
	wantRefused(t, r, scheme.ReasonEvent, "what the log calls")
	for _, x := range r.Measurements {
		if x.PCR == 8 && x.Data != "stated" || x.PCR == 4 && x.Data != "proved" {
			t.Errorf("%s is %q", x.What, x.Data)
		}
	}
}
