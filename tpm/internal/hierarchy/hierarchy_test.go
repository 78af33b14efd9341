package hierarchy

import (
	"bytes"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// started is a new TPM's State after a TPM Reset, with everything set.
func started(t *testing.T) (*State, func(reset, resume bool)) {
	t.Helper()
	random := entropy.Replay(1)
	s, err := Manufacture(random)
	if err != nil {
		t.Fatal(err)
	}
	startup := func(reset, resume bool) {
		t.Helper()
		if err := s.Startup(reset, resume, random); err != nil {
			t.Fatal(err)
		}
	}
	startup(true, false)
	for _, h := range []*Hierarchy{&s.Owner, &s.Endorsement, &s.Platform, &s.Lockout} {
		h.Auth, h.PolicyAlg, h.Policy = tpm2.Digest("auth"), tpm2.AlgSHA256, make(tpm2.Digest, 32)
	}
	return &s, startup
}

func TestStartup(t *testing.T) {
	for _, c := range []struct {
		name          string
		reset, resume bool
	}{{"reset", true, false}, {"restart", false, false}, {"resume", false, true}} {
		s, startup := started(t)
		null, owner := s.Null.Proof, s.Owner.Proof
		s.Owner.Enabled, s.PlatformNV, s.Platform.Enabled = false, false, false
		startup(c.reset, c.resume)
		if renewed := !bytes.Equal(null, s.Null.Proof); renewed != c.reset {
			t.Errorf("%s: the null proof is new: %v", c.name, renewed)
		}
		if !bytes.Equal(owner, s.Owner.Proof) || string(s.Owner.Auth) != "auth" || s.Owner.PolicyAlg != tpm2.AlgSHA256 {
			t.Errorf("%s: the owner's changed", c.name)
		}
		if !s.Platform.Enabled || s.Owner.Enabled == c.resume || s.PlatformNV == c.resume {
			t.Errorf("%s: platform %v, owner %v, platform NV %v", c.name, s.Platform.Enabled, s.Owner.Enabled, s.PlatformNV)
		}
		if kept := string(s.Platform.Auth) == "auth" && s.Platform.PolicyAlg == tpm2.AlgSHA256; kept != c.resume {
			t.Errorf("%s: the platform's authorization is kept: %v", c.name, kept)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	s, _ := started(t)
	s.DisableClear, s.Endorsement.Enabled = true, false
	c := tpm2.NewEncoder(nil)
	s.WalkPermanent(&c)
	s.WalkState(&c)
	var r State
	d := tpm2.NewDecoder(c.Output())
	r.WalkPermanent(&d)
	r.WalkState(&d)
	if d.RC() != 0 || d.Remaining() != 0 {
		t.Fatal(d.RC(), d.Remaining())
	}
	again := tpm2.NewEncoder(nil)
	r.WalkPermanent(&again)
	r.WalkState(&again)
	if !bytes.Equal(again.Output(), c.Output()) || !r.DisableClear || r.Endorsement.Enabled || string(r.Lockout.Auth) != "auth" {
		t.Error("the state differs after a round trip")
	}
}

func TestDamagedState(t *testing.T) {
	s, _ := started(t)
	c := tpm2.NewEncoder(nil)
	s.WalkPermanent(&c)
	for n := range c.Output() {
		var r State
		d := tpm2.NewDecoder(c.Output()[:n])
		if r.WalkPermanent(&d); d.RC() == tpm2.RCSuccess {
			t.Fatalf("the first %d bytes are a state", n)
		}
	}
	for _, alg := range []tpm2.AlgID{tpm2.AlgNull, tpm2.AlgSHA384, tpm2.AlgSM3256} {
		h := Hierarchy{PolicyAlg: alg, Policy: make(tpm2.Digest, 32)}
		c := tpm2.NewEncoder(nil)
		if h.walkAuth(&c); c.RC() == tpm2.RCSuccess {
			t.Errorf("a policy of 32 bytes of %v is written", alg)
		}
	}
}

// TestShortSecrets refuses a seed or a proof that is cut: keys and contexts derive
// from them.
func TestShortSecrets(t *testing.T) {
	for _, n := range []int{0, 1, SeedSize - 1} {
		for which := range 8 {
			s, _ := started(t)
			h := []*Hierarchy{&s.Owner, &s.Endorsement, &s.Platform, &s.Null}[which/2]
			if h.Seed = h.Seed[:n]; which%2 == 1 {
				h.Seed, h.Proof = make([]byte, SeedSize), h.Proof[:n]
			}
			c := tpm2.NewEncoder(nil)
			s.WalkPermanent(&c)
			s.WalkState(&c)
			var r State
			d := tpm2.NewDecoder(c.Output())
			r.WalkPermanent(&d)
			if r.WalkState(&d); d.RC() == tpm2.RCSuccess {
				t.Errorf("a secret %d of %d bytes is taken", which, n)
			}
		}
	}
	// Before the first Startup there are none of the null hierarchy.
	var s, r State
	c := tpm2.NewEncoder(nil)
	s.Platform.PolicyAlg = tpm2.AlgNull
	s.WalkState(&c)
	d := tpm2.NewDecoder(c.Output())
	if r.WalkState(&d); d.RC() != tpm2.RCSuccess {
		t.Errorf("a state before Startup: %v", d.RC())
	}
}

func TestClear(t *testing.T) {
	s, _ := started(t)
	before := *s
	s.Owner.Enabled = false
	if err := s.Clear(entropy.Replay(2)); err != nil {
		t.Fatal(err)
	}
	if !s.Owner.Enabled || len(s.Owner.Auth)+len(s.Endorsement.Auth)+len(s.Lockout.Auth) != 0 ||
		s.Lockout.PolicyAlg != tpm2.AlgNull || len(s.Platform.Auth) == 0 {
		t.Errorf("after Clear: %+v", s)
	}
	if bytes.Equal(before.Owner.Seed, s.Owner.Seed) || !bytes.Equal(before.Endorsement.Seed, s.Endorsement.Seed) {
		t.Error("Clear renews the owner's seed, and no other")
	}
}
