package object

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// entry is what a slot of the saved state holds.
type entry uint8

const (
	emptyEntry entry = iota
	objectEntry
	sequenceEntry
)

// Flags of a saved object.
const (
	externalFlag = 1 << iota
	primaryFlag
	stClearFlag
	allFlags = externalFlag | primaryFlag | stClearFlag
)

// Walk visits an object or sequence: the form inside a saved context, the
// permanent state and a suspended instance. A decoded key is not checked
// before its first use (crypt.RestoreKey), so what is decoded must have been
// kept safe. The decoded object shares no memory with the input.
func (o *Object) Walk(c *tpm2.Codec) {
	kind := objectEntry
	if o.Sequence != nil {
		kind = sequenceEntry
	}
	c.U8((*uint8)(&kind))
	switch kind {
	case objectEntry:
		o.walkAreas(c)
	case sequenceEntry:
		if c.Decoding() {
			*o = *NewSequenceObject(new(Sequence))
		}
		o.Sequence.Walk(c)
	default:
		c.Fail(tpm2.RCValue)
	}
}

func (o *Object) walkAreas(c *tpm2.Codec) {
	var flags uint8
	var public tpm2.SizedPublicOrNull
	var sensitive tpm2.SizedSensitive
	if !c.Decoding() {
		flags = o.flags()
		public.Public = o.Public
		if o.Sensitive != nil {
			sensitive = tpm2.SizedSensitive{Present: true, Sensitive: *o.Sensitive}
		}
	}
	c.U8(&flags)
	(*tpm2.Hierarchy)(&o.Hierarchy).Walk(c)
	o.QualifiedName.Walk(c)
	public.Walk(c)
	sensitive.Walk(c)
	if !c.Decoding() || c.RC() != tpm2.RCSuccess {
		return
	}
	o.External, o.Primary, o.STClear = flags&externalFlag != 0, flags&primaryFlag != 0, flags&stClearFlag != 0
	o.QualifiedName = slices.Clone(o.QualifiedName)
	o.Name = public.Public.Name()
	var sens *tpm2.Sensitive
	if sensitive.Present {
		sens = &sensitive.Sensitive
	}
	if flags&^allFlags != 0 || !o.consistent(&public.Public, sens) {
		c.Fail(tpm2.RCValue)
		return
	}
	o.Key = crypt.RestoreKey(&public.Public, sens)
}

func (o *Object) flags() (f uint8) {
	if o.External {
		f |= externalFlag
	}
	if o.Primary {
		f |= primaryFlag
	}
	if o.STClear {
		f |= stClearFlag
	}
	return f
}

// consistent reports whether decoded fields are those of an object that the
// commands make.
func (o *Object) consistent(pub *tpm2.Public, sens *tpm2.Sensitive) bool {
	switch {
	case sens != nil && sens.Type != pub.Type:
		return false
	case o.External:
		return !o.Primary && string(o.QualifiedName) == string(o.Name)
	case sens == nil || len(o.Name) == 0:
		return false
	case o.Primary:
		return o.Hierarchy != tpm2.RHNull &&
			string(o.QualifiedName) == string(qualify(handleName(o.Hierarchy), pub, o.Name))
	}
	return len(o.QualifiedName) == len(o.Name)
}

// WalkPermanent visits what outlives power: the persistent objects.
func (s *State) WalkPermanent(c *tpm2.Codec) {
	n := uint16(len(s.Persistent))
	c.U16(&n)
	if n > MaxPersistent {
		c.Fail(tpm2.RCSize)
	}
	if !c.Decoding() {
		for i := range s.Persistent {
			s.Persistent[i].Walk(c)
		}
		return
	}
	s.Persistent = nil
	for range n {
		p := Persistent{Object: new(Object)}
		p.Walk(c)
		last := tpm2.PersistentFirst - 1
		if len(s.Persistent) > 0 {
			last = s.Persistent[len(s.Persistent)-1].Handle
		}
		if c.RC() == tpm2.RCSuccess && (p.Handle <= last || !p.Valid()) {
			c.Fail(tpm2.RCValue)
		}
		if c.RC() != tpm2.RCSuccess {
			return
		}
		s.Persistent = append(s.Persistent, p)
	}
}

// Walk visits the handle and the object.
func (p *Persistent) Walk(c *tpm2.Codec) {
	p.Handle.Walk(c)
	p.Object.Walk(c)
}

// Consistent reports whether the fields are those of an object that the commands
// make.
func (o *Object) Consistent() bool { return o.consistent(&o.Public, o.Sensitive) }

// Valid reports whether EvictControl makes such a persistent object.
func (p *Persistent) Valid() bool {
	return p.Handle.Type() == tpm2.HTPersistent && p.CanPersist() &&
		(p.Handle >= tpm2.PlatformPersistent) == (p.Hierarchy == tpm2.RHPlatform)
}

// CanPersist reports whether the object may be made persistent (Part 3, 28.5):
// it has its sensitive area, is not temporary, and survives TPM Reset.
func (o *Object) CanPersist() bool {
	return !o.Temporary() && !o.STClear && !o.PublicOnly()
}

// WalkVolatile visits what a suspended instance needs besides: the slots.
func (s *State) WalkVolatile(c *tpm2.Codec) {
	for i := range s.Slots {
		if !c.Decoding() {
			if s.Slots[i] != nil {
				s.Slots[i].Walk(c)
				continue
			}
			empty := uint8(emptyEntry)
			c.U8(&empty)
			continue
		}
		s.Slots[i] = nil
		if r := c.Rest(); len(r) > 0 && r[0] == byte(emptyEntry) {
			var empty uint8
			c.U8(&empty)
			continue
		}
		o := new(Object)
		o.Walk(c)
		if c.RC() != tpm2.RCSuccess {
			return
		}
		s.Slots[i] = o
	}
}
