package nv

import "github.com/ashlar-cloud/ashlar/tpm2"

// Startup is TPM2_Startup.
func (s *State) Startup(reset, resume, orderly bool) {}

// WalkPermanent visits what outlives power.
func (s *State) WalkPermanent(c *tpm2.Codec) {}

// WalkState visits what Shutdown(STATE) saves besides.
func (s *State) WalkState(c *tpm2.Codec) {}
