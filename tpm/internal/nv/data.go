package nv

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// MaxOrderlyCount is how far an orderly counter counts in RAM alone
// (MAX_ORDERLY_COUNT): a power loss makes it go on after the next multiple of
// this plus one.
const MaxOrderlyCount = 255

// CounterSize is the size in bytes of a counter's data.
const CounterSize = 8

// count is a counter's value.
func (x *Index) count() uint64 { return binary.BigEndian.Uint64(x.Data) }

// The changes below report whether they must be durable before they are
// answered. Those of an orderly Index need not: Shutdown saves them.

// erased is what the rest of an ordinary Index holds after its first write, as
// in libtpms, where it is erased flash; that of an orderly one is zero.
const erased = 0xFF

// Write writes data at an offset into an Index, which must have room for it,
// and marks it written.
func (s *State) Write(x *Index, offset int, data []byte) (durable bool) {
	if x.Is(tpm2.NVWritten) && bytes.Equal(x.Data[offset:offset+len(data)], data) {
		return false
	}
	y := x.Clone()
	if !y.Is(tpm2.NVWritten) && y.Type() == tpm2.NTOrdinary && !y.Is(tpm2.NVOrderly) {
		for i := range y.Data {
			y.Data[i] = erased
		}
	}
	copy(y.Data[offset:], data)
	if !y.Is(tpm2.NVWritten) {
		y.Public.Attributes |= tpm2.NVWritten
		y.Rename()
	}
	s.Put(y)
	return !y.Is(tpm2.NVOrderly)
}

// Increment counts a counter up by one; one that was not written starts above
// all that were ever deleted. None lives to see the last number, at which it stays.
func (s *State) Increment(x *Index) (durable bool) {
	first := !x.Is(tpm2.NVWritten)
	n := s.maxCount
	if !first {
		n = x.count()
	}
	n = max(n, n+1)
	durable = s.Write(x, 0, binary.BigEndian.AppendUint64(nil, n))
	// What is durable must lie between n and the last multiple that a power loss
	// rounds up from.
	return durable || first || n&MaxOrderlyCount == 0
}

// Extend extends an Index by data with its nameAlg; one that was not written
// starts at zero.
func (s *State) Extend(x *Index, data []byte) (durable bool) {
	return s.Write(x, 0, x.Public.NameAlg.Digest(x.Data, data))
}

// SetAttributes sets attributes of an Index: its locks.
func (s *State) SetAttributes(x *Index, a tpm2.NVAttributes) (durable bool) {
	if x.Is(a) {
		return false
	}
	y := *x
	y.Public.Attributes |= a
	y.Rename()
	s.Put(&y)
	return !y.Is(tpm2.NVOrderly)
}

// Startup is TPM2_Startup. Except at a TPM Resume it takes off the locks that
// last until then, empties what is cleared then, and after a disorderly
// shutdown moves the orderly counters to where they cannot have been.
func (s *State) Startup(reset, resume, orderly bool) {
	if resume {
		return
	}
	list := slices.Clone(s.indices)
	for i, x := range list {
		attrs := startAttributes(x.Public.Attributes, reset)
		counter := x.Type() == tpm2.NTCounter && x.Is(tpm2.NVOrderly|tpm2.NVWritten)
		if attrs == x.Public.Attributes && (orderly || !counter) {
			continue
		}
		y := x.Clone()
		y.Public.Attributes = attrs
		y.Rename()
		switch {
		case !y.Is(tpm2.NVWritten):
			clear(y.Data)
		case counter && !orderly:
			binary.BigEndian.PutUint64(y.Data, y.count()|MaxOrderlyCount)
		}
		list[i] = y
	}
	s.indices = list
}

// startAttributes is what a TPM Reset or Restart makes of an Index's
// attributes (NvSetStartupAttributes).
func startAttributes(a tpm2.NVAttributes, reset bool) tpm2.NVAttributes {
	a &^= tpm2.NVReadLocked
	if a.Type() != tpm2.NTCounter && (a.Has(tpm2.NVClearSTClear) || a.Has(tpm2.NVOrderly) && reset) {
		a &^= tpm2.NVWritten
	}
	if !a.Has(tpm2.NVWritten | tpm2.NVWriteDefine) {
		a &^= tpm2.NVWriteLocked
	}
	return a
}
