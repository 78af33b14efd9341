package pcr

import "github.com/ashlar-cloud/ashlar/tpm2"

// What follows gives another program's state of PCRs a way in and out.

// Allocation makes an allocation of a selection, and reports whether all its banks
// are implemented.
func Allocation(list tpm2.PCRSelectionList) (a [Banks]tpm2.PCRSelect, ok bool) {
	for i := range a {
		a[i].Size = tpm2.PCRSelectSize
	}
	for _, sel := range list {
		i := bankOf(sel.Hash)
		if sel.Size != tpm2.PCRSelectSize || i < 0 {
			return a, false
		}
		a[i] = sel.PCRSelect
	}
	return a, true
}

// Reallocate goes on with an allocation in force, while PCR_Allocate has chosen
// another one for the next power on.
func (s *State) Reallocate(inForce [Banks]tpm2.PCRSelect) {
	s.Allocated, s.reallocated = inForce, true
}

// Selection is an allocation as a list, of all banks.
func Selection(of *[Banks]tpm2.PCRSelect) (list tpm2.PCRSelectionList) {
	for i := range banks {
		list = append(list, tpm2.PCRSelection{Hash: banks[i].alg, PCRSelect: of[i]})
	}
	return list
}

// Restore sets the digest in PCR n of a bank, and reports whether there is the
// bank and the digest is of its size.
func (s *State) Restore(alg tpm2.AlgID, n int, digest []byte) bool {
	i := bankOf(alg)
	if i < 0 || len(digest) != banks[i].size {
		return false
	}
	copy(banks[i].in(s.renew(n)), digest)
	return true
}

// Stored gives the digest in PCR n of a bank, allocated or not: zeros before any
// Startup.
func (s *State) Stored(alg tpm2.AlgID, n int) []byte {
	set := s.values[n]
	if set == nil {
		set = new([setSize]byte)
	}
	return banks[bankOf(alg)].in(set)
}

// SetBegin takes over how the boot began: with a Startup from locality 3, or an
// H-CRTM before it.
func (s *State) SetBegin(locality3, hcrtm bool) { s.locality3, s.hcrtm = locality3, hcrtm }

// Begin is how the boot began.
func (s *State) Begin() (locality3, hcrtm bool) { return s.locality3, s.hcrtm }
