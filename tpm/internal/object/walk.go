package object

import "github.com/ashlar-cloud/ashlar/tpm2"

// WalkPermanent visits what outlives power: the persistent objects.
func (s *State) WalkPermanent(c *tpm2.Codec) {}

// WalkVolatile visits what a suspended instance needs besides.
func (s *State) WalkVolatile(c *tpm2.Codec) {}
