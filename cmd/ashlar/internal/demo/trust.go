package demo

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ashlar-cloud/ashlar/cmd/ashlar/internal/guest"
	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/keybroker"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

// The files that all boots share, in the demo's directory.
const (
	fileEK          = "ek.pub"       // TPM2B_PUBLIC, endorsed by the host at the first boot
	fileVerifierKey = "verifier.pem" // the key that checks the verifier's results
	fileReferences  = "reference-values.json"
	dirBroker       = "broker"
)

// Paths in the guest.
const (
	guestIdentity  = guest.Dir + "/identity.json"
	guestChallenge = guest.Dir + "/challenge.json"
	guestBundle    = guest.Dir + "/bundle.json"
	guestKey       = guest.Dir + "/attester.key"
	guestSealed    = guest.Dir + "/secret.jwe"
)

const (
	issuer     = "ashlar demo"
	secretName = "disk-key"
)

// trust is the side that the guest has to convince: a verifier, which knows the
// guest's TPM and the reference values, and a key broker, which believes the verifier.
type trust struct {
	dir      string
	key      *ecdsa.PublicKey // the verifier's
	verifier *verifier.Verifier
	broker   *keybroker.Broker
	secret   string
	ek       []byte // endorsed at the first boot
	refs     []byte // from the first boot
}

// newTrust makes the verifier's key, the broker and its secret, all in dir.
func newTrust(dir string) (*trust, error) {
	private, err := rats.GenerateKey()
	if err != nil {
		return nil, err
	}
	signer, err := rats.NewSigner(private)
	if err != nil {
		return nil, err
	}
	_, public, err := rats.MarshalPrivateKey(private)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, fileVerifierKey), public, 0o644); err != nil {
		return nil, err
	}
	broker, err := keybroker.Open(filepath.Join(dir, dirBroker))
	if err != nil {
		return nil, err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	return &trust{
		dir: dir, key: &private.PublicKey, broker: broker,
		verifier: verifier.New(signer, verifier.Options{Issuer: issuer}),
		secret:   "the disk's key is " + hex.EncodeToString(random),
	}, nil
}

// attest lets a running guest prove what it booted, appraises the proof and fills in
// what it shows. The first boot gives the reference values; the later ones are
// compared with them and ask for the secret.
func (t *trust) attest(ctx context.Context, m *guest.Machine, b *boot, dir string, tell *teller) error {
	session, err := t.collect(ctx, m, b, dir, tell)
	if err != nil {
		return err
	}
	out, err := t.appraise(session)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, fileResult), []byte(out.EAR+"\n"), 0o644); err != nil {
		return err
	}
	b.PCRs, b.Measured, b.Reasons = out.Appraisal.PCRs, out.Appraisal.Measurements, out.Appraisal.Why()
	if t.refs == nil {
		return t.adopt(session, out, b, tell)
	}
	b.Verdict = out.Result.Status().String()
	if b.Verdict == verdictAffirming {
		tell.table(b)
	}
	tell.verdict(b)
	return t.release(ctx, m, out, session, b, tell)
}

// session is one exchange of challenge and evidence with the guest.
type session struct {
	nonce     rats.Nonce
	challenge *identity.Challenge
	bundle    []byte
	evidence  *tpm.Evidence
}

// collect asks the guest who it is, challenges it, and keeps what it answers.
func (t *trust) collect(ctx context.Context, m *guest.Machine, b *boot, dir string, tell *teller) (*session, error) {
	text, err := fetch(ctx, m, guest.Attester+" evidence identity -o "+guestIdentity, guestIdentity)
	if err != nil {
		return nil, err
	}
	doc, ek, ak, err := identity.ParseDocument(text)
	if err != nil {
		return nil, fmt.Errorf("the guest's identity: %w", err)
	}
	if t.ek == nil {
		// This host made the TPM just now, so it may vouch for its endorsement key.
		t.ek = doc.EKPublic
		if err := os.WriteFile(filepath.Join(t.dir, fileEK), t.ek, 0o644); err != nil {
			return nil, err
		}
	}
	nonce, err := rats.NewNonce(nil)
	if err != nil {
		return nil, err
	}
	message, state, err := identity.Issue(ek, ak, nonce, time.Now())
	if err != nil {
		return nil, err
	}
	tell.step("identity", "endorsement key %s, attestation key %s; nonce %s", shortName(ek.Name()), shortName(ak.Name()), shorten(hex.EncodeToString(nonce), 12))
	request, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	if err := m.Put(ctx, guestChallenge, request); err != nil {
		return nil, err
	}
	s := &session{nonce: nonce, challenge: &identity.Challenge{Secret: state.Secret, EKName: ek.Name(), AKName: ak.Name()}}
	s.bundle, err = fetch(ctx, m, fmt.Sprintf("%s evidence collect --challenge %s --key-out %s -o %s",
		guest.Attester, guestChallenge, guestKey, guestBundle), guestBundle)
	if err != nil {
		return nil, err
	}
	if s.evidence, err = tpm.ParseBundle(s.bundle); err != nil {
		return nil, fmt.Errorf("the guest's evidence: %w", err)
	}
	b.EventLog, b.IMA = filepath.Join(dir, fileEventLog), filepath.Join(dir, fileIMA)
	b.Quote, b.Nonce = filepath.Join(dir, fileMessage), hex.EncodeToString(nonce)
	b.Qualifying = hex.EncodeToString(rats.BindKey(nonce, s.evidence.AttesterKey))
	tell.step("quote", "the TPM signed its PCRs under this nonce; the secret of the credential came back with it")
	return s, saveEvidence(dir, s.bundle, s.evidence, b.Qualifying)
}

// fetch runs a command in the guest that writes a file, and gets that file.
func fetch(ctx context.Context, m *guest.Machine, command, file string) ([]byte, error) {
	status, out, err := m.Run(ctx, command)
	if err != nil {
		return nil, err
	}
	if status != 0 {
		return nil, fmt.Errorf("in the guest, %s ended with status %d: %s", command, status, strings.TrimSpace(string(out)))
	}
	return m.Get(ctx, file)
}

// shortName shows the beginning of a TPM object's Name without its algorithm.
func shortName(name []byte) string { return shorten(hex.EncodeToString(name[min(len(name), 2):]), 12) }

func (t *trust) appraise(s *session) (*verifier.Outcome, error) {
	var references []rats.ReferenceValue
	if t.refs != nil {
		references = []rats.ReferenceValue{{Type: rats.TypeReferenceValues, Data: t.refs}}
	}
	return t.verifier.Appraise(
		rats.Evidence{Type: rats.TypeTPMEvidence, Data: s.bundle},
		[]rats.Endorsement{{Type: rats.TypePublicKey, Data: t.ek}},
		references,
		verifier.Session{Nonce: s.nonce, Challenge: s.challenge, Now: time.Now()})
}

// adopt takes the reference values from the first boot, whose evidence must hold by
// itself, and puts the secret into the broker under them.
func (t *trust) adopt(s *session, out *verifier.Outcome, b *boot, tell *teller) error {
	if out.Appraisal.Verdict != scheme.Valid {
		return fmt.Errorf("its evidence does not hold: %s", strings.Join(out.Appraisal.Why(), "; "))
	}
	refs, err := tpm.MakeReferences([]*tpm.Evidence{s.evidence}, time.Now())
	if err != nil {
		return err
	}
	if t.refs, err = json.MarshalIndent(refs, "", "  "); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(t.dir, fileReferences), t.refs, 0o644); err != nil {
		return err
	}
	if err := t.broker.Put(secretName, []byte(t.secret), keybroker.Rule{PolicyID: tpm.ReferencesID(t.refs)}); err != nil {
		return err
	}
	b.Verdict = verdictReference
	tell.step("verdict", "REFERENCE: the evidence holds; %d events and %d files are the reference values from now on",
		len(refs.Boots[0].Events), len(refs.Files))
	return nil
}

// release asks the broker for the secret with the verifier's result. Where the broker
// gives it, the guest must be able to open it.
func (t *trust) release(ctx context.Context, m *guest.Machine, out *verifier.Outcome, s *session, b *boot, tell *teller) error {
	sealed, err := t.broker.Release(secretName, out.EAR, keybroker.Trust{
		Keys: []*ecdsa.PublicKey{t.key}, Issuer: issuer, Nonce: s.nonce, Now: time.Now(),
	})
	var refusal *keybroker.Refusal
	if errors.As(err, &refusal) {
		tell.step("secret", "REFUSED by the key broker: %s", refusal.Reason)
		return nil
	}
	if err != nil {
		return err
	}
	if err := m.Put(ctx, guestSealed, []byte(sealed)); err != nil {
		return err
	}
	status, opened, err := m.Run(ctx, fmt.Sprintf("%s secret open --key %s %s", guest.Attester, guestKey, guestSealed))
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(opened)); status != 0 || got != t.secret {
		return fmt.Errorf("the guest could not open its secret (status %d): %s", status, got)
	}
	b.SecretReleased = true
	tell.step("secret", "RELEASED, sealed to a key that never left the guest; the guest opens it: %q", opened)
	return nil
}
