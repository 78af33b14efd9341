// Package object holds the TPM's objects: transient ones in their slots,
// sequences, and persistent ones (Part 1, 27).
package object

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// MaxTransient is the number of transient slots (MAX_LOADED_OBJECTS).
const MaxTransient = 3

// Object is an object in the TPM. It is never changed once it is in a State:
// a change puts a new Object in its place, so that a copy of a State is a
// snapshot.
type Object struct {
	// Key holds the public and sensitive areas and the parsed key; nil in a
	// sequence.
	*crypt.Key
	External      bool // made by LoadExternal
	Primary       bool
	STClear       bool // goes at TPM Reset and Restart, by itself or an ancestor
	Hierarchy     tpm2.Handle
	Name          tpm2.Name
	QualifiedName tpm2.Name

	// Sequence is set in a hash, HMAC or event sequence, which has no areas.
	Sequence *Sequence
}

// Is reports whether all attributes in a are set.
func (o *Object) Is(a tpm2.ObjectAttributes) bool {
	return o.Key != nil && o.Public.Attributes.Has(a)
}

// PublicOnly reports whether there is no sensitive area.
func (o *Object) PublicOnly() bool { return o.Key == nil || o.Sensitive == nil }

// AuthValue is what authorizes the object's use.
func (o *Object) AuthValue() tpm2.Digest {
	if o.Sequence != nil {
		return o.Sequence.AuthValue()
	}
	if o.PublicOnly() {
		return nil
	}
	return o.Sensitive.AuthValue
}

// IsParent reports whether the object is a storage key: restricted and
// decrypting, asymmetric or symmetric.
func (o *Object) IsParent() bool {
	return !o.PublicOnly() && o.Public.NameAlg != tpm2.AlgNull &&
		o.Is(tpm2.ObjRestricted|tpm2.ObjDecrypt) && !o.Is(tpm2.ObjSign)
}

// Persistent is an object kept over power cycles, with its handle.
type Persistent struct {
	Handle tpm2.Handle
	*Object
}

// State is all objects.
type State struct {
	Slots      [MaxTransient]*Object
	Persistent []Persistent // in ascending order of handle; replaced, never changed in place
}

// Get gives the object of a transient or persistent handle, or nil.
func (s *State) Get(h tpm2.Handle) *Object {
	switch h.Type() {
	case tpm2.HTTransient:
		if i := h.Index(); i < MaxTransient {
			return s.Slots[i]
		}
	case tpm2.HTPersistent:
		for i := range s.Persistent {
			if s.Persistent[i].Handle == h {
				return s.Persistent[i].Object
			}
		}
	}
	return nil
}

// Add puts an object in a free slot, or gives TPM_RC_OBJECT_MEMORY.
func (s *State) Add(o *Object) (tpm2.Handle, tpm2.RC) {
	for i := range s.Slots {
		if s.Slots[i] == nil {
			s.Slots[i] = o
			return tpm2.TransientFirst + tpm2.Handle(i), tpm2.RCSuccess
		}
	}
	return 0, tpm2.RCObjectMemory
}

// Flush empties a transient slot and reports whether there was an object.
func (s *State) Flush(h tpm2.Handle) bool {
	if h.Type() != tpm2.HTTransient || s.Get(h) == nil {
		return false
	}
	s.Slots[h.Index()] = nil
	return true
}

// FlushHierarchy empties the slots with objects of a hierarchy, and with evict
// set takes its persistent objects too: what Clear and HierarchyControl do.
func (s *State) FlushHierarchy(hierarchy tpm2.Handle, evict bool) {
	for i, o := range s.Slots {
		if o != nil && o.Hierarchy == hierarchy {
			s.Slots[i] = nil
		}
	}
	if !evict {
		return
	}
	var keep []Persistent
	for _, p := range s.Persistent {
		if p.Hierarchy != hierarchy {
			keep = append(keep, p)
		}
	}
	s.Persistent = keep
}

// Startup empties the transient slots: no object outlives _TPM_Init but in a
// saved context.
func (s *State) Startup() { s.Slots = [MaxTransient]*Object{} }
