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
	Data   []byte      // Public.DataSize bytes
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

// State is all Indices.
type State struct {
	indices []*Index // in ascending order of handle; replaced, never changed in place
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

// Delete removes an Index.
func (s *State) Delete(h tpm2.Handle) {
	if i, ok := s.find(h); ok {
		s.indices = slices.Delete(slices.Clone(s.indices), i, i+1)
	}
}

// All gives the Indices in ascending order of handle; the list must not be
// changed.
func (s *State) All() []*Index { return s.indices }
