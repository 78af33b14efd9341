package nv

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// maxIndices is the number of Indices that there can be room for.
const maxIndices = space / indexSize

// WalkPermanent visits what outlives power: all of it, the orderly Indices as
// they are at the time, which is no older than they may be after a power loss.
func (s *State) WalkPermanent(c *tpm2.Codec) {
	c.U64(&s.maxCount)
	n := uint32(len(s.indices))
	c.U32(&n)
	if !c.Decoding() {
		for _, x := range s.indices {
			x.walk(c)
		}
		return
	}
	if n > maxIndices {
		c.Fail(tpm2.RCSize)
	}
	s.indices = nil
	for c.RC() == tpm2.RCSuccess && len(s.indices) < int(n) {
		x := new(Index)
		x.walk(c)
		if last := len(s.indices) - 1; last >= 0 && s.indices[last].Public.Index >= x.Public.Index {
			c.Fail(tpm2.RCValue)
		}
		s.indices = append(s.indices, x)
	}
	if c.RC() == tpm2.RCSuccess && !s.Holds(0) {
		c.Fail(tpm2.RCSize)
	}
}

func (x *Index) walk(c *tpm2.Codec) {
	x.Public.Walk(c)
	x.Auth.Walk(c)
	if c.Decoding() && c.RC() == tpm2.RCSuccess {
		if !x.Consistent() {
			c.Fail(tpm2.RCAttributes)
			return
		}
		x.Data = make([]byte, x.Public.DataSize)
		x.Rename()
	}
	if x.Is(tpm2.NVWritten) {
		walkBytes(c, x.Data)
	}
}

// Consistent reports whether an Index that was read can exist: later commands
// rely on the sizes.
func (x *Index) Consistent() bool {
	digest := x.Public.NameAlg.DigestSize()
	if digest == 0 { // a hash algorithm that has a name but no implementation
		return false
	}
	if n := len(x.Public.AuthPolicy); n != 0 && n != digest || len(x.Auth) > digest {
		return false
	}
	switch x.Type() {
	case tpm2.NTOrdinary:
		return true
	case tpm2.NTExtend:
		return int(x.Public.DataSize) == digest
	case tpm2.NTCounter, tpm2.NTBits, tpm2.NTPinPass, tpm2.NTPinFail:
		return x.Public.DataSize == CounterSize
	}
	return false
}

// WalkVolatile visits what a suspended instance needs besides: what has
// changed in the orderly Indices since the permanent state was last written.
func (s *State) WalkVolatile(c *tpm2.Codec) {
	var orderly []*Index
	for _, x := range s.indices {
		if x.Is(tpm2.NVOrderly) {
			orderly = append(orderly, x)
		}
	}
	n := uint32(len(orderly))
	c.U32(&n)
	if int(n) != len(orderly) {
		c.Fail(tpm2.RCValue)
	}
	for _, x := range orderly {
		y := x.Clone()
		y.Public.Index.Walk(c)
		y.Public.Attributes.Walk(c)
		walkBytes(c, y.Data)
		if !c.Decoding() {
			continue
		}
		if !y.Is(tpm2.NVWritten) && slices.ContainsFunc(y.Data, func(b byte) bool { return b != 0 }) {
			c.Fail(tpm2.RCValue)
		}
		if (y.Public.Attributes^x.Public.Attributes)&^changing != 0 || y.Public.Index != x.Public.Index {
			c.Fail(tpm2.RCValue)
		}
		if c.RC() != tpm2.RCSuccess {
			return
		}
		y.Rename()
		s.Put(y)
	}
}

// changing are the attributes that change while an Index exists.
const changing = tpm2.NVWritten | tpm2.NVWriteLocked | tpm2.NVReadLocked

// walkBytes visits bytes in place.
func walkBytes(c *tpm2.Codec, b []byte) {
	p := b
	c.Raw(&p, len(b))
	if c.Decoding() {
		copy(b, p)
	}
}
