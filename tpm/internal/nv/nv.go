// Package nv holds the NV Indices (Part 1, 37).
package nv

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Index is an NV Index. It is never changed once it is in a State: a change
// puts a new Index in its place, so that a copy of a State is a snapshot.
type Index struct {
	Public tpm2.NVPublic
	Auth   tpm2.Digest // without trailing zeros
	Data   []byte      // Public.DataSize bytes; all zero while not written
	Name   tpm2.Name   // of Public, derived
}

// Clone is a copy for a change: the caller may change everything but share
// nothing. Rename must follow where Public changes.
func (x *Index) Clone() *Index {
	y := *x
	y.Data = slices.Clone(x.Data)
	return &y
}

// Rename derives Name after a change of Public.
func (x *Index) Rename() { x.Name = x.Public.Name() }

// Is reports whether all attributes in a are set.
func (x *Index) Is(a tpm2.NVAttributes) bool { return x.Public.Attributes.Has(a) }

// Type is the kind of Index.
func (x *Index) Type() tpm2.NVType { return x.Public.Attributes.Type() }

// State is all Indices.
type State struct {
	indices []*Index // in ascending order of handle; replaced, never changed in place
	// maxCount is the largest value of a counter that was deleted: a new
	// counter starts above it, so that deleting one does not turn it back.
	maxCount uint64
}

func (s *State) find(h tpm2.Handle) (int, bool) {
	return slices.BinarySearchFunc(s.indices, h, func(x *Index, h tpm2.Handle) int {
		return int(int64(x.Public.Index) - int64(h))
	})
}

// Get gives an Index, or nil.
func (s *State) Get(h tpm2.Handle) *Index {
	if i, ok := s.find(h); ok {
		return s.indices[i]
	}
	return nil
}

// Put adds an Index or replaces the one of the same handle.
func (s *State) Put(x *Index) {
	i, ok := s.find(x.Public.Index)
	list := slices.Clone(s.indices)
	if ok {
		list[i] = x
	} else {
		list = slices.Insert(list, i, x)
	}
	s.indices = list
}

// All gives the Indices in ascending order of handle; the list must not be
// changed.
func (s *State) All() []*Index { return s.indices }

// Define adds an Index that is not written yet, if there is room for it beside
// the persistent objects there are, else TPM_RC_NV_SPACE.
func (s *State) Define(public *tpm2.NVPublic, auth tpm2.Digest, persistent int) tpm2.RC {
	if !s.fits(public, persistent) {
		return tpm2.RCNVSpace
	}
	x := &Index{Public: *public, Auth: auth, Data: make([]byte, public.DataSize)}
	x.Public.AuthPolicy = slices.Clone(public.AuthPolicy)
	x.Rename()
	s.Put(x)
	return tpm2.RCSuccess
}

// Delete removes an Index. The value of a counter is remembered, so that no
// later counter repeats it.
func (s *State) Delete(h tpm2.Handle) {
	i, ok := s.find(h)
	if !ok {
		return
	}
	if x := s.indices[i]; x.Type() == tpm2.NTCounter && x.Is(tpm2.NVWritten) {
		s.maxCount = max(s.maxCount, x.count())
	}
	s.indices = slices.Delete(slices.Clone(s.indices), i, i+1)
}

// DeleteOwners removes the Indices that the owner created, as TPM2_Clear does.
func (s *State) DeleteOwners() {
	for _, x := range s.indices {
		if !x.Is(tpm2.NVPlatformCreate) {
			s.Delete(x.Public.Index)
		}
	}
}

// MaxCount is the largest value of a counter that was deleted.
func (s *State) MaxCount() uint64 { return s.maxCount }

// SetMaxCount takes another program's over.
func (s *State) SetMaxCount(n uint64) { s.maxCount = n }
