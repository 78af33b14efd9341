// Package object holds the TPM's objects: transient ones in their slots,
// sequences, and persistent ones (Part 1, 27).
package object

import (
	"encoding/binary"
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Limits, those of libtpms 0.9.2.
const (
	// MaxTransient is the number of transient slots (MAX_LOADED_OBJECTS).
	MaxTransient = 3
	// MaxPersistent is the number of persistent objects that the NV memory has
	// room for.
	MaxPersistent = 65
	// MaxContext is the largest saved context in bytes
	// (TPM_PT_MAX_OBJECT_CONTEXT).
	MaxContext = 2692
)

// Object is an object in the TPM. It is never changed once it is in a State:
// a change puts a new Object in its place, so that a copy of a State is a
// snapshot.
type Object struct {
	// Key holds the public and sensitive areas and the parsed key; nil in a
	// sequence. Its authorization value has no trailing zeros.
	*crypt.Key
	External      bool // made by LoadExternal
	Primary       bool // made by CreatePrimary, but for the null hierarchy
	STClear       bool // goes at TPM Reset and Restart, by itself or an ancestor
	Hierarchy     tpm2.Handle
	Name          tpm2.Name
	QualifiedName tpm2.Name

	// Sequence is set in a hash, HMAC or event sequence, which has no areas.
	Sequence *Sequence
}

// NewPrimary makes a primary object's entry (Part 1, 27.4).
func NewPrimary(key *crypt.Key, hierarchy tpm2.Handle) *Object {
	o := newObject(key, hierarchy)
	o.Primary = hierarchy != tpm2.RHNull
	o.QualifiedName = qualify(handleName(hierarchy), &key.Public, o.Name)
	return o
}

// NewChild makes the entry of an object below a parent, whose hierarchy and
// stClear it inherits.
func NewChild(key *crypt.Key, parent *Object) *Object {
	o := newObject(key, parent.Hierarchy)
	o.STClear = o.STClear || parent.STClear
	o.QualifiedName = qualify(parent.QualifiedName, &key.Public, o.Name)
	return o
}

// NewExternal makes the entry of an object that LoadExternal has loaded: it
// has no parent, so its Qualified Name is its Name.
func NewExternal(key *crypt.Key, hierarchy tpm2.Handle) *Object {
	o := newObject(key, hierarchy)
	o.External = true
	o.QualifiedName = o.Name
	return o
}

func newObject(key *crypt.Key, hierarchy tpm2.Handle) *Object {
	if s := key.Sensitive; s != nil {
		for n := len(s.AuthValue); n > 0 && s.AuthValue[n-1] == 0; n-- {
			s.AuthValue = s.AuthValue[:n-1]
		}
	}
	return &Object{
		Key:       key,
		STClear:   key.Public.Attributes.Has(tpm2.ObjSTClear),
		Hierarchy: hierarchy,
		Name:      key.Public.Name(),
	}
}

// qualify is a Qualified Name (Part 1, 16.5); there is none without a Name.
func qualify(parent tpm2.Name, pub *tpm2.Public, name tpm2.Name) tpm2.Name {
	if len(name) == 0 {
		return nil
	}
	alg := binary.BigEndian.AppendUint16(nil, uint16(pub.NameAlg))
	return append(alg, pub.NameAlg.Digest(parent, name)...)
}

// handleName is the Name of a hierarchy: its handle.
func handleName(h tpm2.Handle) tpm2.Name { return binary.BigEndian.AppendUint32(nil, uint32(h)) }

// IsChildOf reports whether p is the object's parent, by the Qualified Name.
func (o *Object) IsChildOf(p *Object) bool {
	return p.IsParent() && len(o.QualifiedName) != 0 &&
		string(o.QualifiedName) == string(qualify(p.QualifiedName, &o.Public, o.Name))
}

// Is reports whether all attributes in a are set.
func (o *Object) Is(a tpm2.ObjectAttributes) bool {
	return o.Key != nil && o.Public.Attributes.Has(a)
}

// PublicOnly reports whether there is no sensitive area.
func (o *Object) PublicOnly() bool { return o.Key == nil || o.Sensitive == nil }

// IsAsymmetric reports whether the object is an RSA or ECC key.
func (o *Object) IsAsymmetric() bool {
	return o.Key != nil && (o.Public.Type == tpm2.AlgRSA || o.Public.Type == tpm2.AlgECC)
}

// Temporary reports whether the object can't outlive the next TPM Reset: it is
// a sequence or in the null hierarchy.
func (o *Object) Temporary() bool { return o.Sequence != nil || o.Hierarchy == tpm2.RHNull }

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

// IsParent reports whether other objects can be below this one: it is a
// storage key of this TPM, restricted and decrypting, asymmetric or symmetric.
func (o *Object) IsParent() bool { return o.isAbove() && o.Public.Type != tpm2.AlgKeyedHash }

// IsDerivation reports whether other objects can be derived from this one: it
// is a keyed-hash object that would else be a parent.
func (o *Object) IsDerivation() bool { return o.isAbove() && o.Public.Type == tpm2.AlgKeyedHash }

func (o *Object) isAbove() bool {
	return !o.PublicOnly() && !o.External && o.Public.NameAlg != tpm2.AlgNull && o.Is(tpm2.ObjRestricted|tpm2.ObjDecrypt)
}

// IsStorage reports whether the object can be the new parent of a duplicate:
// its public area suffices.
func (o *Object) IsStorage() bool {
	return o.IsAsymmetric() && o.Is(tpm2.ObjRestricted|tpm2.ObjDecrypt) && !o.Is(tpm2.ObjSign)
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
		if i, ok := s.find(h); ok {
			return s.Persistent[i].Object
		}
	}
	return nil
}

func (s *State) find(h tpm2.Handle) (int, bool) {
	return slices.BinarySearchFunc(s.Persistent, h, func(p Persistent, h tpm2.Handle) int {
		return int(int64(p.Handle) - int64(h))
	})
}

// Full reports whether all transient slots are taken.
func (s *State) Full() bool { return !slices.Contains(s.Slots[:], nil) }

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

// Persist keeps an object under a handle that is free. The caller has checked
// that there is room in the NV memory.
func (s *State) Persist(h tpm2.Handle, o *Object) {
	i, _ := s.find(h)
	s.Persistent = slices.Insert(slices.Clone(s.Persistent), i, Persistent{h, o})
}

// Evict takes a persistent object away.
func (s *State) Evict(h tpm2.Handle) {
	if i, ok := s.find(h); ok {
		s.Persistent = slices.Delete(slices.Clone(s.Persistent), i, i+1)
	}
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
