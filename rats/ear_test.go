package rats

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func sample() *AttestationResult {
	return &AttestationResult{
		Issuer:   "https://verifier.example",
		ID:       "r-1",
		IssuedAt: t0,
		Expires:  t0.Add(5 * time.Minute),
		Verifier: VerifierID{Developer: "ashlar", Build: "test"},
		Nonce:    Nonce("0123456789abcdef"),
		Submods: map[string]Appraisal{"tpm": {
			Status:      TierContraindicated,
			Vector:      Vector{InstanceIdentity: InstanceKnown, Configuration: ConfigUnsupported},
			PolicyIDs:   []string{"refvalues:sha256:00"},
			AttesterKey: []byte{1, 2, 3},
			Claims: []Claim{{Name: "event 3", Status: Fails, Expected: "quiet",
				Found: "quiet init=/bin/sh", Why: "the kernel command line differs"}},
		}},
	}
}

func signer(t *testing.T) *Signer {
	t.Helper()
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expect(s *Signer) Expect {
	e := Expect{Now: t0.Add(time.Minute), Issuer: "https://verifier.example", Nonce: Nonce("0123456789abcdef")}
	e.Keys = append(e.Keys, s.Public())
	return e
}

func TestSignVerify(t *testing.T) {
	s := signer(t)
	want := sample()
	token, err := s.Sign(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(token, expect(s))
	if err != nil {
		t.Fatal(err)
	}
	want.Profile = ProfileDeployed
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got.Status() != TierContraindicated || len(got.Submods["tpm"].Failed()) != 1 {
		t.Errorf("status %v, failed %v", got.Status(), got.Submods["tpm"].Failed())
	}
}

func TestVerifyRefuses(t *testing.T) {
	s, other := signer(t), signer(t)
	token, err := s.Sign(sample())
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	flip := func(i int) string {
		p := append([]string(nil), parts...)
		b := []byte(p[i])
		if i := len(b) / 2; b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
		p[i] = string(b)
		return strings.Join(p, ".")
	}
	none := "eyJhbGciOiJub25lIn0." + parts[1] + "."
	for _, c := range []struct {
		name, token, reason string
		change              func(*Expect)
	}{
		{"other verifier", token, "signature", func(e *Expect) { e.Keys[0] = other.Public() }},
		{"payload altered", flip(1), "signature", nil},
		{"signature altered", flip(2), "signature", nil},
		{"alg none", none, "malformed", nil},
		{"cut", token[:len(token)/2], "malformed", nil},
		{"empty", "", "malformed", nil},
		{"expired", token, "expired", func(e *Expect) { e.Now = t0.Add(time.Hour) }},
		{"too old", token, "expired", func(e *Expect) { e.MaxAge = time.Second; e.Now = t0.Add(2 * time.Minute) }},
		{"from the future", token, "not-yet", func(e *Expect) { e.Now = t0.Add(-time.Hour) }},
		{"other nonce", token, "nonce", func(e *Expect) { e.Nonce = Nonce("fedcba9876543210") }},
		{"other issuer", token, "issuer", func(e *Expect) { e.Issuer = "https://else.example" }},
		{"too long", strings.Repeat("a", MaxToken+1), "malformed", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := expect(s)
			if c.change != nil {
				c.change(&e)
			}
			_, err := Verify(c.token, e)
			var r *Refusal
			if !errors.As(err, &r) || r.Reason != c.reason {
				t.Errorf("got %v, want a refusal for %q", err, c.reason)
			}
		})
	}
}

func TestBothDialects(t *testing.T) {
	draft := `{"eat_profile":"tag:ietf.org,2026:rats/ear#03","iat":1666091373,"ear_status":"warning",
	 "ear_verifier_id":{"developer":"d","build":"b"},"eat_nonce":"MDEyMzQ1Njc4OWFiY2RlZg",
	 "submods":{"tpm":{"ear_status":"warning","ear_trustworthiness_vector":{"executables":33},
	 "ear_appraisal_policy_ids":["p1","p2"],"x":1}},"y":[2]}`
	r, err := ParseClaimsSet([]byte(draft))
	if err != nil {
		t.Fatal(err)
	}
	a := r.Submods["tpm"]
	if r.Status() != TierWarning || a.Vector[Executables] != 33 || len(a.PolicyIDs) != 2 ||
		string(r.Nonce) != "0123456789abcdef" || string(a.Extensions["x"]) != "1" || string(r.Extensions["y"]) != "[2]" {
		t.Errorf("draft dialect read as %+v", r)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"array":            `[]`,
		"no profile":       `{"iat":1,"ear.verifier-id":{},"submods":{"a":{"ear.status":"none"}}}`,
		"other profile":    `{"eat_profile":"x","iat":1,"ear.verifier-id":{},"submods":{"a":{"ear.status":"none"}}}`,
		"no submodule":     `{"eat_profile":"` + ProfileDeployed + `","iat":1,"ear.verifier-id":{},"submods":{}}`,
		"no status":        `{"eat_profile":"` + ProfileDeployed + `","iat":1,"ear.verifier-id":{},"submods":{"a":{}}}`,
		"unknown tier":     `{"eat_profile":"` + ProfileDeployed + `","iat":1,"ear.verifier-id":{},"submods":{"a":{"ear.status":"fine"}}}`,
		"unknown category": `{"eat_profile":"` + ProfileDeployed + `","iat":1,"ear.verifier-id":{},"submods":{"a":{"ear.status":"none","ear.trustworthiness-vector":{"x":2}}}}`,
		"value too large":  `{"eat_profile":"` + ProfileDeployed + `","iat":1,"ear.verifier-id":{},"submods":{"a":{"ear.status":"none","ear.trustworthiness-vector":{"hardware":128}}}}`,
		"both dialects":    `{"eat_profile":"` + ProfileDeployed + `","iat":1,"ear.verifier-id":{},"submods":{"a":{"ear.status":"none","ear_status":"affirming"}}}`,
		"no date":          `{"eat_profile":"` + ProfileDeployed + `","ear.verifier-id":{},"submods":{"a":{"ear.status":"none"}}}`,
	} {
		if r, err := ParseClaimsSet([]byte(doc)); err == nil {
			t.Errorf("%s: accepted as %+v", name, r)
		}
	}
}

func TestTiers(t *testing.T) {
	for v, want := range map[Value]Tier{-128: TierContraindicated, -97: TierContraindicated, -96: TierWarning,
		-33: TierWarning, -32: TierAffirming, -2: TierAffirming, -1: TierNone, 1: TierNone, 2: TierAffirming,
		31: TierAffirming, 32: TierWarning, 95: TierWarning, 96: TierContraindicated, 127: TierContraindicated} {
		if got := v.Tier(); got != want {
			t.Errorf("value %d: tier %v, want %v", v, got, want)
		}
	}
	if (Vector{Hardware: 2, Executables: 33}).Tier() != TierWarning || (Vector{Hardware: 0}).Tier() != TierNone {
		t.Error("a vector's tier is not its worst claim's")
	}
	// One part about which nothing is known keeps the whole from affirming.
	r := AttestationResult{Submods: map[string]Appraisal{"a": {Status: TierAffirming}, "b": {Status: TierNone}}}
	if r.Status() != TierNone {
		t.Errorf("status of affirming and none is %v", r.Status())
	}
}

func TestBindKey(t *testing.T) {
	n := Nonce("nonce")
	if !BindKey(n, nil).Equal(n) {
		t.Error("without a key the qualifying data is not the nonce")
	}
	a, b := BindKey(n, []byte("key a")), BindKey(n, []byte("key b"))
	if a.Equal(b) || a.Equal(n) || len(a) != 32 || BindKey(Nonce("nonc"), []byte("ekey a")).Equal(a) {
		t.Error("the binding does not tell keys and nonces apart")
	}
}

// evidenceDir gives the folder of real evidence, or skips.
func evidenceDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("ASHLAR_EVIDENCE")
	if dir == "" {
		t.Skip("ASHLAR_EVIDENCE is not set: no evidence of others to read")
	}
	return dir
}

// TestPeersResults reads every claims set of kind ear in the evidence, compares
// the facts stated about it, and signs it with the key pair beside it.
func TestPeersResults(t *testing.T) {
	dir := evidenceDir(t)
	all, err := os.ReadFile(filepath.Join(dir, "expected.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, line := range strings.Split(strings.TrimSpace(string(all)), "\n") {
		var item struct {
			ID, Kind string
			Files    []string
			Facts    struct {
				Profile string           `json:"eat_profile"`
				IAT     int64            `json:"iat"`
				EXP     int64            `json:"exp"`
				Submods map[string]Tier  `json:"submods"`
				Vector  map[string]Value `json:"trustworthiness_vector"`
				Key     string           `json:"key_attestation"`
			}
		}
		if err := json.Unmarshal([]byte(line), &item); err != nil || item.Kind != "ear" {
			continue // the submods of other kinds have other types
		}
		n++
		t.Run(item.ID, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join(dir, item.Files[0]))
			if err != nil {
				t.Fatal(err)
			}
			r, err := ParseClaimsSet(b)
			if err != nil {
				t.Fatal(err)
			}
			f := item.Facts
			if r.Profile != f.Profile || r.IssuedAt.Unix() != f.IAT || (f.EXP != 0 && r.Expires.Unix() != f.EXP) {
				t.Errorf("read as %+v", r)
			}
			for name, tier := range f.Submods {
				a := r.Submods[name]
				if a.Status != tier || (f.Key == "present") != (len(a.AttesterKey) > 0) {
					t.Errorf("submodule %s: %+v", name, a)
				}
				for c, v := range f.Vector {
					if a.Vector[Category(c)] != v {
						t.Errorf("%s: %d, want %d", c, a.Vector[Category(c)], v)
					}
				}
			}
			resign(t, dir, r)
		})
	}
	if n != 6 {
		t.Errorf("%d results of kind ear found, want 6", n)
	}
}

func resign(t *testing.T, dir string, r *AttestationResult) {
	t.Helper()
	priv, err := os.ReadFile(filepath.Join(dir, "formats/ear/skey.json"))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := os.ReadFile(filepath.Join(dir, "formats/ear/pkey.json"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParsePrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(k)
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.Sign(r)
	if err != nil {
		t.Fatal(err)
	}
	e := Expect{Now: r.IssuedAt}
	pk, err := ParsePublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	e.Keys = append(e.Keys, pk)
	got, err := Verify(token, e)
	if err != nil {
		t.Fatal(err)
	}
	if was, is := compact(t, r.Submods), compact(t, got.Submods); was != is {
		t.Errorf("signed and read again: %s\nwant %s", clip(is, 300), clip(was, 300))
	}
}

func compact(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestKeys(t *testing.T) {
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	priv, pub, err := MarshalPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	k2, err := ParsePrivateKey(priv)
	if err != nil || !k2.Equal(k) {
		t.Errorf("private key read back: %v", err)
	}
	p2, err := ParsePublicKey(pub)
	if err != nil || !p2.Equal(&k.PublicKey) {
		t.Errorf("public key read back: %v", err)
	}
	for _, bad := range []string{"", "{}", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", string(priv)} {
		if _, err := ParsePublicKey([]byte(bad)); err == nil {
			t.Errorf("accepted as a public key: %q", clip(bad, 30))
		}
	}
	if _, err := NewSigner(nil); err == nil {
		t.Error("a signer without a key")
	}
}

func FuzzParseClaimsSet(f *testing.F) {
	b, err := json.Marshal(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"eat_profile":"tag:ietf.org,2026:rats/ear#03","iat":1,"ear_verifier_id":{},"submods":{"a":{"ear_status":2}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseClaimsSet(b)
		if err != nil {
			return
		}
		if n := len(r.Submods); n == 0 || n > MaxSubmods {
			t.Errorf("%d submodules", n)
		}
		if r.Profile == ProfileDraft03 {
			r.Profile = ProfileDeployed
		}
		if len(r.Extensions) == 0 {
			if _, err := json.Marshal(r); err != nil {
				t.Errorf("read but not written: %v", err)
			}
		}
	})
}

// FuzzVerify gives any text as a token, under a key that never signed it.
func FuzzVerify(f *testing.F) {
	k, err := GenerateKey()
	if err != nil {
		f.Fatal(err)
	}
	other, err := GenerateKey()
	if err != nil {
		f.Fatal(err)
	}
	s, err := NewSigner(other)
	if err != nil {
		f.Fatal(err)
	}
	token, err := s.Sign(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add("eyJhbGciOiJIUzI1NiJ9.e30.AA")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		_, err := Verify(token, Expect{Keys: []*ecdsa.PublicKey{&k.PublicKey}, Now: t0})
		var no *Refusal
		if !errors.As(err, &no) || no.Why == "" {
			t.Errorf("got %v, want a refusal", err)
		}
	})
}
