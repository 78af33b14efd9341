package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

const (
	bankSHA1   = tpm2.AlgSHA1
	bankSHA256 = tpm2.AlgSHA256
	bankSHA384 = tpm2.AlgSHA384
)

// TestSchemes appraises every signature scheme over one bank and several, and
// refuses each when a bit of message, signature or PCR values is flipped.
func TestSchemes(t *testing.T) {
	for _, signer := range []string{"p256", "p384", "rsassa", "pss"} {
		t.Run(signer, func(t *testing.T) {
			m := booted(t, signer, bankSHA256, bankSHA1, bankSHA384)
			if r := m.appraise(m.evidence(), nil); r.Verdict != scheme.Valid {
				t.Fatalf("%s: %v", r.Verdict, r.Why())
			}
			good := m.evidence()
			for name, b := range map[string][]byte{"message": good.Quotes[0].Message, "signature": good.Quotes[0].Signature} {
				for i := 0; i < len(b)*8; i += 7 {
					b[i/8] ^= 1 << (i % 8)
					if r := m.appraise(good, nil); r.Verdict != scheme.Invalid {
						t.Errorf("%s with bit %d flipped: %s", name, i, r.Verdict)
					}
					b[i/8] ^= 1 << (i % 8)
				}
				for _, n := range []int{0, 1, len(b) / 2, len(b) - 1} {
					cut := m.evidence()
					if name == "message" {
						cut.Quotes[0].Message = b[:n]
					} else {
						cut.Quotes[0].Signature = b[:n]
					}
					if r := m.appraise(cut, nil); r.Verdict != scheme.Invalid || len(r.Why()) == 0 {
						t.Errorf("%s cut to %d bytes: %s", name, n, r.Verdict)
					}
				}
				long := m.evidence()
				if name == "message" {
					long.Quotes[0] = m.sign(append(append([]byte(nil), b...), 0))
					long.Quotes[0].PCRs = good.Quotes[0].PCRs
				} else {
					long.Quotes[0].Signature = append(append([]byte(nil), long.Quotes[0].Signature...), 0)
				}
				if r := m.appraise(long, nil); r.Verdict != scheme.Invalid {
					t.Errorf("%s with a trailing byte: %s", name, r.Verdict)
				}
			}
		})
	}
}

func TestForgedPCRs(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	e := m.evidence()
	e.Quotes[0].PCRs[bankSHA256][4][0] ^= 1
	wantRefused(t, m.appraise(e, nil), scheme.ReasonPCRDigest, "not those that were quoted")
}

// TestSwappedBanks quotes two banks in one order and claims the other.
func TestSwappedBanks(t *testing.T) {
	m := booted(t, "p256", bankSHA256, bankSHA1)
	msg := m.evidence().Quotes[0].Message
	var at tpm2.Attest
	if err := tpm2.Unmarshal(msg, &at); err != nil {
		t.Fatal(err)
	}
	at.Quote.Select[0], at.Quote.Select[1] = at.Quote.Select[1], at.Quote.Select[0]
	e := m.evidence()
	e.Quotes[0].Message = tpm2.Marshal(&at)
	wantRefused(t, m.appraise(e, nil), scheme.ReasonSignature, "forged")
	e.Quotes[0] = m.sign(tpm2.Marshal(&at)) // even if the key signed it
	wantRefused(t, m.appraise(e, nil), scheme.ReasonPCRDigest, "not those that were quoted")
}

func TestReplayAndOtherKey(t *testing.T) {
	m, other := booted(t, "p256", bankSHA256), booted(t, "p256", bankSHA256)
	e := m.evidence()
	e.Quotes[0] = m.quote([]byte("an older nonce"))
	wantRefused(t, m.appraise(e, nil), scheme.ReasonNonce, "replay")
	e = m.evidence()
	e.Quotes[0] = other.quote(nonce)
	wantRefused(t, m.appraise(e, nil), scheme.ReasonSignature, "another key")
	// The evidence names its own key, and the caller demands another.
	k, err := identity.FromPublic(&m.ak)
	if err != nil {
		t.Fatal(err)
	}
	r := Appraise(Request{Evidence: other.evidence(), Key: k, Nonce: nonce, HasNonce: true, Time: time.Now()})
	wantRefused(t, r, scheme.ReasonWrongKey, "another attestation key")
	// Evidence that vouches for itself does not affirm.
	r = Appraise(Request{Evidence: other.evidence(), References: references(t, other), Nonce: nonce, HasNonce: true, Time: time.Now()})
	if r.Verdict != scheme.Valid || r.Status != rats.TierNone {
		t.Errorf("evidence under an unknown key: %s, %s", r.Verdict, r.Status)
	}
}

func TestNotAQuote(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	at := tpm2.Attest{Type: tpm2.STAttestTime, QualifiedSigner: tpm2.Name("x"), ExtraData: tpm2.Data(nonce)}
	e := m.evidence()
	e.Quotes[0] = m.sign(tpm2.Marshal(&at))
	wantRefused(t, m.appraise(e, nil), scheme.ReasonMalformed, "not a quote")
	e = m.evidence()
	msg := append([]byte(nil), e.Quotes[0].Message...)
	msg[0] = 0
	e.Quotes[0] = m.sign(msg)
	wantRefused(t, m.appraise(e, nil), scheme.ReasonMalformed, "not what a TPM signs")
}

func TestKeyAttributes(t *testing.T) {
	for _, bit := range []tpm2.ObjectAttributes{tpm2.ObjRestricted, tpm2.ObjFixedTPM, tpm2.ObjSensitiveDataOrigin} {
		m := booted(t, "p256", bankSHA256)
		m.ak.Attributes &^= bit
		wantRefused(t, m.appraise(m.evidence(), nil), scheme.ReasonKeyAttributes, "attribute")
	}
}

func TestForgedLogs(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	e := m.evidence()
	at := bytes.Index(e.EventLog, bankSHA256.Digest([]byte("boot loader")))
	e.EventLog[at] ^= 1
	wantRefused(t, m.appraise(e, nil), scheme.ReasonLog, "PCR 4 of bank sha256")

	e = m.evidence()
	e.EventLog = e.EventLog[:len(e.EventLog)-5]
	wantRefused(t, m.appraise(e, nil), scheme.ReasonMalformed, "cut short")

	added := booted(t, "p256", bankSHA256)
	added.event(4, "an event that the TPM never saw")
	e = m.evidence()
	e.EventLog = added.events
	wantRefused(t, m.appraise(e, nil), scheme.ReasonLog, "an event that the TPM never saw")

	e = m.evidence()
	e.IMALog[len(e.IMALog)-20] ^= 1
	wantRefused(t, m.appraise(e, nil), scheme.ReasonIMA, "does not lead to the quoted PCR 10")

	e = m.evidence()
	e.IMALog = e.IMALog[:len(e.IMALog)-3]
	wantRefused(t, m.appraise(e, nil), scheme.ReasonMalformed, "IMA log")
}

// TestMovingPCR10 finds the prefix of a log that went on after the quote; what
// came after it neither helps nor harms.
func TestMovingPCR10(t *testing.T) {
	m := booted(t, "p256", bankSHA256, bankSHA1)
	e, refs := m.evidence(), references(t, m)
	m.file("/later", "later", true)
	e.IMALog = m.ima
	r := m.appraise(e, refs)
	if r.Verdict != scheme.Valid || r.Facts["ima_entries_at_quote"] != 2 || r.Facts["ima_entries_after"] != 3 {
		t.Errorf("%s %v: %v", r.Verdict, r.Facts["ima_entries_at_quote"], r.Why())
	}
	// Without PCR values the logs must tell them.
	e.Quotes[0].PCRs = nil
	r = m.appraise(e, refs)
	if r.Verdict != scheme.Valid || r.Status != rats.TierAffirming || r.Facts["ima_entries_at_quote"] != 2 {
		t.Errorf("without PCR values: %s %s: %v", r.Verdict, r.Status, r.Why())
	}
	e.EventLog = nil
	if r = m.appraise(e, nil); r.Verdict != scheme.Partial || r.Reason != scheme.ReasonPCRMissing {
		t.Errorf("without any PCR values: %s for %q", r.Verdict, r.Reason)
	}
}

func TestBoundKey(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	spki := func() []byte {
		k, err := rats.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		return pkix(t, &k.PublicKey)
	}
	key := spki()
	e := m.evidence()
	e.AttesterKey = key
	e.Quotes[0] = m.quote(rats.BindKey(nonce, key))
	r := m.appraise(e, references(t, m))
	if r.Status != rats.TierAffirming || !bytes.Equal(r.AttesterKey, key) {
		t.Errorf("%s: %v", r.Status, r.Why())
	}
	e.AttesterKey = spki() // an attacker's own
	wantRefused(t, m.appraise(e, nil), scheme.ReasonNonce, "key was exchanged")
	e.AttesterKey = nil
	wantRefused(t, m.appraise(e, nil), scheme.ReasonNonce, "replay")
	e = m.evidence() // a quote that binds no key, and a key put beside it
	e.AttesterKey = key
	wantRefused(t, m.appraise(e, nil), scheme.ReasonNonce, "key was exchanged")
}

func pkix(t *testing.T, k *ecdsa.PublicKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReferences(t *testing.T) {
	good := booted(t, "p256", bankSHA256)
	refs := references(t, good)
	r := good.appraise(good.evidence(), refs)
	if r.Status != rats.TierAffirming || len(r.Measurements) != 5 {
		t.Fatalf("the same boot: %s, %d measurements: %v", r.Status, len(r.Measurements), r.Why())
	}
	for _, m := range r.Measurements {
		if m.Listing != scheme.Listed {
			t.Errorf("%s is %q", m.What, m.Listing)
		}
	}
	build := func(change func(*soft)) *scheme.Result {
		m := newSoft(t, "p256", bankSHA256)
		change(m)
		return m.appraise(m.evidence(), refs)
	}
	usual := func(m *soft) {
		m.event(0, "firmware")
		m.event(4, "boot loader")
		m.file("/sbin/init", "init", true)
		m.file("/bin/sh", "sh", true)
	}
	r = build(func(m *soft) { usual(m); m.event(8, "kernel_cmdline: quiet init=/bin/sh") })
	wantRefused(t, r, scheme.ReasonEvent, "init=/bin/sh")
	if r.Vector[rats.Configuration].Tier() != rats.TierContraindicated {
		t.Errorf("a changed command line gives the vector %v", r.Vector)
	}
	if why := r.Why(); len(why) != 1 || !strings.Contains(why[0], "event 3 in PCR 8") || !strings.Contains(why[0], "expected") {
		t.Errorf("the reasons: %q", why)
	}
	wantRefused(t, build(usual), scheme.ReasonEvent, "missing in PCR 8")
	r = build(func(m *soft) { usual(m); m.event(8, "kernel_cmdline: quiet"); m.event(8, "one more") })
	wantRefused(t, r, scheme.ReasonEvent, "one more")
	r = build(func(m *soft) { usual(m); m.event(8, "kernel_cmdline: quiet"); m.file("/tmp/evil", "evil", true) })
	wantRefused(t, r, scheme.ReasonFile, "/tmp/evil")
	r = build(func(m *soft) { usual(m); m.event(8, "kernel_cmdline: quiet"); m.file("/bin/sh", "another shell", true) })
	wantRefused(t, r, scheme.ReasonFile, "/bin/sh is not the one")
	r = build(func(m *soft) {
		usual(m)
		m.event(8, "kernel_cmdline: quiet")
		m.extend(bankSHA256, 12, make([]byte, 32)) // measured, and in no log
	})
	wantRefused(t, r, scheme.ReasonEvent, "PCR 12")
}

// TestReferencesOfBoots takes either of two boots, PCR by PCR.
func TestReferencesOfBoots(t *testing.T) {
	one, two := booted(t, "p256", bankSHA256), newSoft(t, "p256", bankSHA256)
	two.event(0, "newer firmware")
	two.event(4, "boot loader")
	two.event(8, "kernel_cmdline: quiet")
	two.file("/sbin/init", "newer init", true)
	refs := references(t, one, two)
	for _, m := range []*soft{one, two} {
		if r := m.appraise(m.evidence(), refs); r.Status != rats.TierAffirming {
			t.Errorf("%s: %v", r.Status, r.Why())
		}
	}
}

func TestCoverage(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	refs := references(t, m)
	m.order[0].Clear(8)
	wantRefused(t, m.appraise(m.evidence(), refs), scheme.ReasonCoverage, "PCR 8 is not in the quote")
	m.order[0].Set(8)
	e := m.evidence()
	e.IMALog = nil
	wantRefused(t, m.appraise(e, refs), scheme.ReasonCoverage, "no IMA log")
	e = m.evidence()
	e.EventLog = nil
	wantRefused(t, m.appraise(e, refs), scheme.ReasonCoverage, "does not prove both")
	weak := booted(t, "p256", bankSHA1)
	wantRefused(t, weak.appraise(weak.evidence(), refs), scheme.ReasonCoverage, "bank sha256")
}

// TestQuotesOfTwoBoots mixes quotes from before and after a reboot.
func TestQuotesOfTwoBoots(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	e := m.evidence()
	var at tpm2.Attest
	if err := tpm2.Unmarshal(e.Quotes[0].Message, &at); err != nil {
		t.Fatal(err)
	}
	at.ClockInfo.ResetCount++
	e.Quotes = append(e.Quotes, m.sign(tpm2.Marshal(&at)))
	wantRefused(t, m.appraise(e, nil), scheme.ReasonMalformed, "not of one boot")
	if r := Appraise(Request{Evidence: &Evidence{}, Time: time.Now()}); r.Verdict != scheme.Invalid {
		t.Errorf("no quote at all: %s", r.Verdict)
	}
}

// TestSmuggledKey puts a certificate for the attacker's key inside the evidence,
// where only the caller's endorsements may vouch.
func TestSmuggledKey(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	e := m.evidence()
	e.intermediates = []*x509.Certificate{{PublicKey: m.signer.Public()}}
	r := Appraise(Request{Evidence: e, References: references(t, m), Nonce: nonce, HasNonce: true, Time: time.Now()})
	if r.Verdict != scheme.Valid || r.Status != rats.TierNone {
		t.Error("evidence that vouches for itself is affirmed")
	}
}

// TestActivation affirms an AK that answered the challenge in the TPM of an
// endorsed EK, and nothing less.
func TestActivation(t *testing.T) {
	m := booted(t, "p256", bankSHA256)
	ek := newSoft(t, "p256").ak // some key with an EK's attributes
	ek.Attributes = tpm2.ObjRestricted | tpm2.ObjDecrypt | tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjSensitiveDataOrigin
	ek.Symmetric = tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
	ek.Scheme = tpm2.Scheme{Alg: tpm2.AlgNull}
	challenge, _, err := identity.NewChallenge(&ek, &m.ak)
	if err != nil {
		t.Fatal(err)
	}
	ekKey, err := identity.FromPublic(&ek)
	if err != nil {
		t.Fatal(err)
	}
	refs := references(t, m)
	appraise := func(secret []byte, keys ...*identity.Key) *scheme.Result {
		e := m.evidence()
		e.EK, e.ActivationSecret = &ek, secret
		return Appraise(Request{Evidence: e, Keys: keys, Challenge: challenge, References: refs, Nonce: nonce, HasNonce: true, Time: time.Now()})
	}
	if r := appraise(challenge.Secret, ekKey); r.Status != rats.TierAffirming || r.Vector[rats.Hardware] != rats.NoClaim {
		t.Errorf("an endorsed EK: %s %v: %v", r.Status, r.Vector, r.Why())
	}
	if r := appraise(challenge.Secret); r.Verdict != scheme.Valid || r.Status != rats.TierNone {
		t.Errorf("an EK that nobody endorses: %s, %s", r.Verdict, r.Status)
	}
	wantRefused(t, appraise(make([]byte, identity.SecretSize), ekKey), scheme.ReasonActivation, "not the one that was sent")
	wantRefused(t, appraise(nil, ekKey), scheme.ReasonActivation, "not the one that was sent")
}

// TestReferencesWithoutLogs compares PCR values where a machine has no logs.
func TestReferencesWithoutLogs(t *testing.T) {
	m := newSoft(t, "p256", bankSHA256)
	bare := func() *Evidence {
		e := m.evidence()
		e.EventLog, e.IMALog = nil, nil
		return e
	}
	m.extend(bankSHA256, 4, make([]byte, 32))
	refs, err := MakeReferences([]*Evidence{bare()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if r := m.appraise(bare(), refs); r.Status != rats.TierAffirming {
		t.Errorf("the same values: %s: %v", r.Status, r.Why())
	}
	m.order[0].Clear(4)
	wantRefused(t, m.appraise(bare(), refs), scheme.ReasonCoverage, "PCR 4 has a reference value")
	m.order[0].Set(4)
	m.extend(bankSHA256, 4, make([]byte, 32))
	wantRefused(t, m.appraise(bare(), refs), scheme.ReasonEvent, "PCR 4 has a value")
}
