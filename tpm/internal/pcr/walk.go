package pcr

import "github.com/ashlar-cloud/ashlar/tpm2"

// WalkPermanent visits what outlives power: the allocation and the policy. The
// one in force is of use to who goes on without power off.
func (s *State) WalkPermanent(c *tpm2.Codec) {
	walkAllocation(c, &s.Next)
	c.HashAlg(&s.PolicyAlg, true)
	s.Policy.Walk(c)
	if len(s.Policy) != s.PolicyAlg.DigestSize() {
		c.Fail(tpm2.RCSize)
	}
	own(c, &s.Policy)
	walkAllocation(c, &s.Allocated)
}

// WalkState visits what Shutdown(STATE) saves besides.
func (s *State) WalkState(c *tpm2.Codec) {
	c.U64(&s.Counter)
	c.Bool(&s.locality3)
	c.Bool(&s.hcrtm)
	s.walkValues(c, true)
	s.Auth.Walk(c)
	own(c, &s.Auth)
}

// WalkVolatile visits what a suspended instance needs besides.
func (s *State) WalkVolatile(c *tpm2.Codec) {
	walkAllocation(c, &s.Allocated)
	c.Bool(&s.reallocated)
	walkBytes(c, s.crtm[:])
	s.walkValues(c, false)
}

func walkAllocation(c *tpm2.Codec, a *[Banks]tpm2.PCRSelect) {
	for i := range a {
		a[i].Walk(c)
		if a[i].Size != tpm2.PCRSelectSize {
			c.Fail(tpm2.RCValue)
		}
	}
}

// walkValues visits the PCRs that Shutdown(STATE) saves, or the others.
func (s *State) walkValues(c *tpm2.Codec, saved bool) {
	if c.Decoding() {
		for n := range s.values {
			s.renew(n)
		}
	}
	var none [setSize]byte // a PCR before any Startup
	for i := range banks {
		for n, set := range s.values {
			if set == nil {
				set = &none
			}
			if attributes[n].save == saved {
				walkBytes(c, banks[i].in(set))
			}
		}
	}
}

// walkBytes visits bytes in place.
func walkBytes(c *tpm2.Codec, b []byte) {
	p := b
	c.Raw(&p, len(b))
	if c.Decoding() {
		copy(b, p)
	}
}

// own copies a decoded digest, which aliases the input; nil stays of an empty one.
func own(c *tpm2.Codec, d *tpm2.Digest) {
	if c.Decoding() {
		*d = append(tpm2.Digest(nil), *d...)
	}
}
