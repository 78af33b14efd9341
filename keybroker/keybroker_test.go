package keybroker

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
)

var (
	now    = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	nonce  = rats.Nonce("the nonce of this exchange")
	secret = []byte("correct horse battery staple")
)

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := rats.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// result signs a result that affirms; change may spoil it first.
func result(t *testing.T, verifier, attester *ecdsa.PrivateKey, change func(*rats.AttestationResult, *rats.Appraisal)) string {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(&attester.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	a := rats.Appraisal{Status: rats.TierAffirming, PolicyIDs: []string{"policy-1"}, AttesterKey: spki}
	r := &rats.AttestationResult{Issuer: "v", IssuedAt: now, Expires: now.Add(5 * time.Minute), Nonce: nonce}
	if change != nil {
		change(r, &a)
	}
	r.Submods = map[string]rats.Appraisal{"tpm": a}
	s, err := rats.NewSigner(verifier)
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.Sign(r)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func broker(t *testing.T) *Broker {
	t.Helper()
	b, err := Open(filepath.Join(t.TempDir(), "secrets"))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put("disk", secret, Rule{PolicyID: "policy-1"}); err != nil {
		t.Fatal(err)
	}
	return b
}

func trust(v *ecdsa.PrivateKey) Trust {
	return Trust{Keys: []*ecdsa.PublicKey{&v.PublicKey}, Issuer: "v", Nonce: nonce, Now: now.Add(time.Minute)}
}

func TestRelease(t *testing.T) {
	b, v, att := broker(t), key(t), key(t)
	sealed, err := b.Release("disk", result(t, v, att, nil), trust(v))
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenSealed(sealed, att)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("opened %q: %v", got, err)
	}
	if _, err := OpenSealed(sealed, key(t)); err == nil {
		t.Error("another key opens the secret")
	}
	if _, err := OpenSealed(sealed[:len(sealed)-4]+"AAAA", att); err == nil {
		t.Error("an altered sealed secret opens")
	}
}

func TestRefuse(t *testing.T) {
	b, v, att := broker(t), key(t), key(t)
	type change = func(*rats.AttestationResult, *rats.Appraisal)
	for _, c := range []struct {
		name, reason string
		result       change
		trust        func(*Trust)
	}{
		{"contraindicated", "not-affirming", func(_ *rats.AttestationResult, a *rats.Appraisal) {
			a.Status = rats.TierContraindicated
			a.Claims = []rats.Claim{{Name: "file", Status: rats.Fails, Why: "file /bin/evil is unlisted"}}
		}, nil},
		{"warning", "not-affirming", func(_ *rats.AttestationResult, a *rats.Appraisal) { a.Status = rats.TierWarning }, nil},
		{"none", "not-affirming", func(_ *rats.AttestationResult, a *rats.Appraisal) { a.Status = rats.TierNone }, nil},
		{"vector", "not-affirming", func(_ *rats.AttestationResult, a *rats.Appraisal) {
			a.Vector = rats.Vector{rats.Executables: rats.ExecutablesContra}
		}, nil},
		{"other policy", "policy", func(_ *rats.AttestationResult, a *rats.Appraisal) { a.PolicyIDs = []string{"policy-2"} }, nil},
		{"no key", "no-key", func(_ *rats.AttestationResult, a *rats.Appraisal) { a.AttesterKey = nil }, nil},
		{"bad key", "no-key", func(_ *rats.AttestationResult, a *rats.Appraisal) { a.AttesterKey = []byte{1} }, nil},
		{"other nonce", "nonce", func(r *rats.AttestationResult, _ *rats.Appraisal) { r.Nonce = rats.Nonce("another nonce") }, nil},
		{"other issuer", "issuer", func(r *rats.AttestationResult, _ *rats.Appraisal) { r.Issuer = "w" }, nil},
		{"expired", "expired", nil, func(t *Trust) { t.Now = now.Add(time.Hour) }},
		{"old, says it lasts", "expired", func(r *rats.AttestationResult, _ *rats.Appraisal) { r.Expires = now.Add(24 * time.Hour) },
			func(t *Trust) { t.Now = now.Add(time.Hour) }},
		{"other verifier", "signature", nil, func(tr *Trust) { tr.Keys = []*ecdsa.PublicKey{&key(t).PublicKey} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := trust(v)
			if c.trust != nil {
				c.trust(&tr)
			}
			sealed, err := b.Release("disk", result(t, v, att, c.result), tr)
			var r *Refusal
			if sealed != "" || !errors.As(err, &r) || r.Reason != c.reason {
				t.Errorf("got %v, want a refusal for %q", err, c.reason)
			}
			if c.name == "contraindicated" && !strings.Contains(err.Error(), "/bin/evil") {
				t.Errorf("the refusal does not name the file: %v", err)
			}
		})
	}
	tr := trust(v)
	tr.Nonce = nil
	if _, err := b.Release("disk", result(t, v, att, nil), tr); err == nil {
		t.Error("released without a nonce")
	}
}

func TestStore(t *testing.T) {
	b, v, att := broker(t), key(t), key(t)
	ear := result(t, v, att, nil)
	path := filepath.Join(b.dir, "disk.secret")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, secret) {
		t.Error("the secret lies in clear")
	}
	for _, f := range []string{"kek", "disk.secret"} {
		if info, err := os.Stat(filepath.Join(b.dir, f)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, info.Mode(), err)
		}
	}
	// A rule that is taken out of the file must not let the secret go.
	loose := bytes.Replace(raw, []byte(`{"policyID":"policy-1"}`), []byte(`{}`), 1)
	for name, content := range map[string][]byte{"rule exchanged": loose, "cut": raw[:len(raw)/2], "empty": {}} {
		if bytes.Equal(content, raw) {
			t.Fatal("the test changes nothing")
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if sealed, err := b.Release("disk", ear, trust(v)); err == nil {
			t.Errorf("%s: released %q", name, sealed)
		}
	}
	for _, bad := range []string{"", "../x", "..", "x\n", "x\x00", "A", "a/b", ".x", strings.Repeat("a", 65)} {
		if err := b.Put(bad, secret, Rule{}); err == nil {
			t.Errorf("the name %q was taken", bad)
		}
	}
	if err := b.Put("big", make([]byte, MaxSecret+1), Rule{}); err == nil {
		t.Error("a secret beyond the limit was taken")
	}
	if _, err := b.Release("none", ear, trust(v)); err == nil {
		t.Error("a secret that is not there was released")
	}
}

func TestOpenAgain(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put("x", secret, Rule{}); err != nil {
		t.Fatal(err)
	}
	if b, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	if _, got, err := b.load("x"); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%q %v", got, err)
	}
	kek := filepath.Join(dir, "kek")
	if err := os.Chmod(kek, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a key that others can read was taken")
	}
	if err := os.Chmod(kek, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kek, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a key of 5 bytes was taken")
	}
}

func FuzzOpenSealed(f *testing.F) {
	f.Add("a.b.c.d.e")
	f.Add("eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00ifQ.AA.AA.AA.AA")
	k, err := rats.GenerateKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := OpenSealed(s, k); err == nil {
			t.Error("something opened that nobody sealed")
		}
	})
}
