// Package hierarchy holds the four hierarchies and the lockout authorization:
// their seeds, proofs, authorization values and policies (Part 1, 14).
package hierarchy

import (
	"io"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Sizes in bytes, those of the reference code built with SHA-512.
const (
	SeedSize  = 64
	ProofSize = 64
)

// Hierarchy is one of them. Slices are replaced, never changed in place, so
// that a copy of a State is a snapshot.
type Hierarchy struct {
	Auth      tpm2.Digest // without trailing zeros
	PolicyAlg tpm2.AlgID  // AlgNull without a policy
	Policy    tpm2.Digest
	Seed      []byte // not of lockout
	Proof     []byte // not of lockout
	Level     uint8  // of Seed, how primary keys derive from it (crypt.SeedLatest)
	Enabled   bool   // shEnable, ehEnable, phEnable; always true of null and lockout
}

// State is all of them.
type State struct {
	Owner, Endorsement, Platform, Null, Lockout Hierarchy
	// PlatformNV is phEnableNV.
	PlatformNV bool
	// DisableClear is set by TPM2_ClearControl.
	DisableClear bool
}

// Manufacture makes the state of a new TPM: fresh seeds and proofs, empty
// authorization values. An error is that of the generator.
func Manufacture(random io.Reader) (State, error) {
	var s State
	for _, h := range []*Hierarchy{&s.Owner, &s.Endorsement, &s.Platform, &s.Null, &s.Lockout} {
		h.PolicyAlg = tpm2.AlgNull
	}
	for _, h := range []*Hierarchy{&s.Owner, &s.Endorsement, &s.Platform} {
		if err := h.Renew(random); err != nil {
			return State{}, err
		}
	}
	return s, nil
}

// Renew gives the hierarchy a fresh seed and proof.
func (h *Hierarchy) Renew(random io.Reader) error {
	seed, proof := make([]byte, SeedSize), make([]byte, ProofSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return err
	}
	if _, err := io.ReadFull(random, proof); err != nil {
		return err
	}
	h.Seed, h.Proof, h.Level = seed, proof, crypt.SeedLatest
	return nil
}

// RenewProof gives the hierarchy a fresh proof and keeps its seed.
func (h *Hierarchy) RenewProof(random io.Reader) error {
	proof := make([]byte, ProofSize)
	if _, err := io.ReadFull(random, proof); err != nil {
		return err
	}
	h.Proof = proof
	return nil
}

// Clear does what TPM2_Clear does (Part 3, 24.6): a new seed and proofs, no
// authorization values, no policies, everything enabled. An error is that of
// the generator.
func (s *State) Clear(random io.Reader) error {
	if err := s.Owner.Renew(random); err != nil {
		return err
	}
	if err := s.Endorsement.RenewProof(random); err != nil {
		return err
	}
	s.Owner.Enabled, s.Endorsement.Enabled = true, true
	for _, h := range []*Hierarchy{&s.Owner, &s.Endorsement, &s.Lockout} {
		h.Auth, h.Policy, h.PolicyAlg = nil, nil, tpm2.AlgNull
	}
	return nil
}

// Startup does what TPM2_Startup does (Part 3, 9.3): a TPM Reset renews the
// null hierarchy, and everything but a TPM Resume enables the hierarchies and
// empties the platform's authorization.
func (s *State) Startup(reset, resume bool, random io.Reader) error {
	s.Null.Enabled, s.Lockout.Enabled = true, true
	if reset {
		if err := s.Null.Renew(random); err != nil {
			return err
		}
	}
	// phEnable is set at every Startup, resume or not.
	s.Platform.Enabled = true
	if !resume {
		s.Owner.Enabled, s.Endorsement.Enabled, s.PlatformNV = true, true, true
		s.Platform.Auth, s.Platform.Policy, s.Platform.PolicyAlg = nil, nil, tpm2.AlgNull
	}
	return nil
}

// Get gives the hierarchy of a permanent handle, or nil.
func (s *State) Get(h tpm2.Handle) *Hierarchy {
	switch h {
	case tpm2.RHOwner:
		return &s.Owner
	case tpm2.RHEndorsement:
		return &s.Endorsement
	case tpm2.RHPlatform:
		return &s.Platform
	case tpm2.RHNull:
		return &s.Null
	case tpm2.RHLockout:
		return &s.Lockout
	}
	return nil
}

// Proof gives a hierarchy's proof: that of null for any other handle, as
// HierarchyGetProof does.
func (s *State) Proof(h tpm2.Handle) []byte {
	switch h {
	case tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform:
		return s.Get(h).Proof
	}
	return s.Null.Proof
}

// WalkPermanent visits what outlives power.
func (s *State) WalkPermanent(c *tpm2.Codec) {
	for _, h := range []*Hierarchy{&s.Owner, &s.Endorsement, &s.Platform} {
		h.walkSecrets(c)
		if len(h.Seed) == 0 {
			c.Fail(tpm2.RCSize)
		}
	}
	for _, h := range []*Hierarchy{&s.Owner, &s.Endorsement, &s.Lockout} {
		h.walkAuth(c)
	}
	c.Bool(&s.DisableClear)
	for _, h := range []*Hierarchy{&s.Owner, &s.Endorsement, &s.Platform} {
		h.walkLevel(c)
	}
	if c.Decoding() { // until Startup, for who is suspended before it
		s.Platform.PolicyAlg = tpm2.AlgNull
	}
}

// WalkState visits what Shutdown(STATE) saves besides. The null hierarchy has no
// secrets before the first Startup.
func (s *State) WalkState(c *tpm2.Codec) {
	s.Null.walkSecrets(c)
	s.Null.walkLevel(c)
	s.Platform.walkAuth(c)
	for _, b := range []*bool{&s.Owner.Enabled, &s.Endorsement.Enabled, &s.Platform.Enabled, &s.PlatformNV} {
		c.Bool(b)
	}
	if c.Decoding() {
		s.Null.PolicyAlg = tpm2.AlgNull
		s.Null.Enabled, s.Lockout.Enabled = true, true
	}
}

// walkSecrets visits the seed and the proof: both or none.
func (h *Hierarchy) walkSecrets(c *tpm2.Codec) {
	(*tpm2.Digest)(&h.Seed).Walk(c)
	(*tpm2.Digest)(&h.Proof).Walk(c)
	if n := len(h.Seed); (n != 0 || len(h.Proof) != 0) && (n != SeedSize || len(h.Proof) != ProofSize) {
		c.Fail(tpm2.RCSize)
	}
}

func (h *Hierarchy) walkLevel(c *tpm2.Codec) {
	if c.U8(&h.Level); h.Level > crypt.SeedLatest {
		c.Fail(tpm2.RCValue)
	}
}

func (h *Hierarchy) walkAuth(c *tpm2.Codec) {
	h.Auth.Walk(c)
	c.HashAlg(&h.PolicyAlg, true)
	h.Policy.Walk(c)
	if n := h.PolicyAlg.DigestSize(); n != len(h.Policy) || n == 0 && h.PolicyAlg != tpm2.AlgNull {
		c.Fail(tpm2.RCHash)
	}
}
