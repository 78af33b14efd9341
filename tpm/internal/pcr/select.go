package pcr

import "github.com/ashlar-cloud/ashlar/tpm2"

// maxRead is the number of digests that one TPM2_PCR_Read gives.
const maxRead = 8

// Allocation is the PCRs allocated in every bank.
func (s *State) Allocation() tpm2.PCRSelectionList {
	list := make(tpm2.PCRSelectionList, Banks)
	for i := range banks {
		list[i] = tpm2.PCRSelection{Hash: banks[i].alg, PCRSelect: s.Allocated[i]}
	}
	return list
}

// filter is a copy of a selection without the PCRs that are not allocated.
func (s *State) filter(sel tpm2.PCRSelectionList) tpm2.PCRSelectionList {
	list := append(make(tpm2.PCRSelectionList, 0, len(sel)), sel...)
	for i := range list {
		bank := bankOf(list[i].Hash)
		for j := range list[i].Bits {
			if bank < 0 {
				list[i].Bits[j] = 0
			} else {
				list[i].Bits[j] &= s.Allocated[bank].Bits[j]
			}
		}
	}
	return list
}

// Digest hashes the PCRs selected, in the order of the selection and of PCR
// number (Part 1, 17.5). The selection comes back without the PCRs that are
// not allocated.
func (s *State) Digest(sel tpm2.PCRSelectionList, alg tpm2.AlgID) (tpm2.PCRSelectionList, []byte) {
	sel = s.filter(sel)
	h := alg.New()
	for i := range sel {
		for n := range tpm2.PCRCount {
			if sel[i].Has(n) {
				h.Write(s.Value(sel[i].Hash, n))
			}
		}
	}
	return sel, h.Sum(nil)
}

// Read gives the first of the PCRs selected, at most 8 of them; the selection
// comes back with those only. The digests alias the State.
func (s *State) Read(sel tpm2.PCRSelectionList) (tpm2.PCRSelectionList, tpm2.DigestList) {
	sel = s.filter(sel)
	var digests tpm2.DigestList
	for i := range sel {
		for n := range tpm2.PCRCount {
			switch {
			case !sel[i].Has(n):
			case len(digests) == maxRead:
				sel[i].Clear(n)
			default:
				digests = append(digests, s.Value(sel[i].Hash, n))
			}
		}
	}
	return sel, digests
}

// Allocate chooses the PCRs that exist from the next _TPM_Init on: banks that
// the selection does not name stay as they are, and the last entry of a bank
// counts. needed is the memory it takes in bytes, available what there is. A
// choice without PCR 0 or PCR 17 in any bank is TPM_RC_PCR.
func (s *State) Allocate(sel tpm2.PCRSelectionList) (needed, available uint32, rc tpm2.RC) {
	next := s.Allocated
	for i := range sel {
		next[bankOf(sel[i].Hash)] = sel[i].PCRSelect
	}
	var hcrtm, drtm bool
	for i := range next {
		hcrtm = hcrtm || next[i].Has(HCRTM)
		drtm = drtm || next[i].Has(DRTM)
		for n := range tpm2.PCRCount {
			if next[i].Has(n) {
				needed += uint32(banks[i].size)
			}
		}
	}
	if !hcrtm || !drtm {
		return 0, 0, tpm2.RCPCR
	}
	s.Next = next
	s.reallocated = true
	return needed, valuesSize, tpm2.RCSuccess
}

// Reallocated reports whether PCR_Allocate was done since _TPM_Init:
// Shutdown(STATE) is not possible then.
func (s *State) Reallocated() bool { return s.reallocated }
