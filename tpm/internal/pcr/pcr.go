// Package pcr holds the platform configuration registers (Part 1, 17; PC
// Client Platform TPM Profile, 4.6).
package pcr

import (
	"fmt"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Banks is the number of banks implemented, in the order of tpm2.HashAlgs.
const Banks = 4

// The PCRs with a part in measuring what starts first: the H-CRTM before
// TPM2_Startup, the D-RTM after it.
const (
	HCRTM = 0
	DRTM  = 17
)

// State is all PCRs. A copy is a snapshot, and small, since one is made for
// every command.
type State struct {
	// Allocated selects the PCRs of each bank that exist since the last
	// _TPM_Init; Next is what PCR_Allocate chose for the next one.
	Allocated, Next [Banks]tpm2.PCRSelect
	// Counter counts the changes of PCRs that TPM_PT_PCR_NO_INCREMENT does not
	// exempt (pcrUpdateCounter). A response has its low half; what compares it
	// relies on it that no value comes twice between two TPM Resets.
	Counter uint64

	// Auth, PolicyAlg and Policy authorize changes of the PCRs that Grouped names,
	// which are one group: PolicyAlg is AlgNull where no policy is required, Auth
	// has no trailing zeros. Slices are replaced, never changed in place.
	Auth      tpm2.Digest
	PolicyAlg tpm2.AlgID
	Policy    tpm2.Digest

	reallocated bool // PCR_Allocate was done since _TPM_Init
	// How this boot began, which a TPM Resume must repeat (Part 3, 9.3).
	locality3, hcrtm bool

	// values are the PCRs, each in all banks: replaced, never changed in place;
	// nil before the first Startup.
	values [tpm2.PCRCount]*[setSize]byte
	// crtm is PCR 0 of every bank as an H-CRTM left it before TPM2_Startup;
	// values still hold what Shutdown(STATE) saved then.
	crtm [setSize]byte
}

// Sizes in bytes: of one PCR in all banks, and of all PCRs.
const (
	setSize    = 20 + 32 + 48 + 64
	valuesSize = tpm2.PCRCount * setSize
)

// bank is one bank's place in State.
type bank struct {
	alg  tpm2.AlgID
	size int // bytes of a digest
	at   int // where its digest is in a set
}

var banks = [Banks]bank{
	{tpm2.AlgSHA1, 20, 0},
	{tpm2.AlgSHA256, 32, 20},
	{tpm2.AlgSHA384, 48, 20 + 32},
	{tpm2.AlgSHA512, 64, 20 + 32 + 48},
}

// in is the bank's digest in a set.
func (b *bank) in(set *[setSize]byte) []byte { return set[b.at : b.at+b.size : b.at+b.size] }

// bankOf gives the bank of a hash algorithm, or -1.
func bankOf(alg tpm2.AlgID) int {
	for i := range banks {
		if banks[i].alg == alg {
			return i
		}
	}
	return -1
}

// Manufacture is the state of a new TPM with all PCRs of the banks given, or
// of all banks where there are none given.
func Manufacture(algs []tpm2.AlgID) (State, error) {
	s := State{PolicyAlg: tpm2.AlgNull}
	for i := range s.Next {
		s.Next[i].Size = tpm2.PCRSelectSize
		if len(algs) == 0 {
			s.Next[i].Bits = [4]byte{0xFF, 0xFF, 0xFF}
		}
	}
	for _, alg := range algs {
		i := bankOf(alg)
		if i < 0 {
			return State{}, fmt.Errorf("there is no PCR bank %v: choose from sha1, sha256, sha384 and sha512", alg)
		}
		s.Next[i].Bits = [4]byte{0xFF, 0xFF, 0xFF}
	}
	s.PowerOn()
	return s, nil
}

// PowerOn is _TPM_Init: what PCR_Allocate chose takes effect.
func (s *State) PowerOn() {
	s.Allocated = s.Next
	s.reallocated = false
	s.crtm = [setSize]byte{}
}

// Startup is TPM2_Startup at locality 0 or 3; hcrtm says that an H-CRTM
// sequence ran before it. reset begins the count of changes anew; resume
// brings back the PCRs that Shutdown(STATE) saved, and must come after the
// same H-CRTM and from the same locality as the Startup before it.
func (s *State) Startup(reset, resume bool, locality uint8, hcrtm bool) tpm2.RC {
	// A locality 3 does not show where there was an H-CRTM.
	locality3 := locality == 3 && !hcrtm
	if resume {
		if hcrtm != s.hcrtm {
			return tpm2.RCValue.P(1)
		}
		if locality3 != s.locality3 {
			return tpm2.RCLocality
		}
	}
	s.locality3, s.hcrtm = locality3, hcrtm
	if reset {
		s.Counter = 0
	}
	if !resume {
		s.Auth = nil
	}
	for n := range tpm2.PCRCount {
		if resume && attributes[n].save {
			continue
		}
		s.start(n, locality3)
		s.changed(n)
	}
	return tpm2.RCSuccess
}

// start gives a PCR the value it starts with: PCR 0 what the H-CRTM measured,
// or the locality of Startup; the PCRs of a D-RTM all ones; others zero.
func (s *State) start(n int, locality3 bool) {
	set := s.renew(n)
	for i := range banks {
		v := banks[i].in(set)
		var fill byte
		if attributes[n].drtm() {
			fill = 0xFF
		}
		for j := range v {
			v[j] = fill
		}
		switch {
		case n != HCRTM:
		case s.hcrtm:
			copy(v, banks[i].in(&s.crtm))
		case locality3:
			v[len(v)-1] = 3
		}
	}
}

// renew puts a copy of PCR n in its place, to be changed.
func (s *State) renew(n int) *[setSize]byte {
	set := new([setSize]byte)
	if s.values[n] != nil {
		*set = *s.values[n]
	}
	s.values[n] = set
	return set
}

// Has reports whether PCR n of a bank is allocated.
func (s *State) Has(alg tpm2.AlgID, n int) bool {
	i := bankOf(alg)
	return i >= 0 && s.Allocated[i].Has(n)
}

// Value is the digest in PCR n of a bank, or nil where that PCR is not
// allocated or there was no Startup yet. It must not be altered.
func (s *State) Value(alg tpm2.AlgID, n int) []byte {
	if !s.Has(alg, n) || s.values[n] == nil {
		return nil
	}
	return banks[bankOf(alg)].in(s.values[n])
}

// Extend extends PCR n of a bank by a digest (Part 1, 17.2); where that PCR is
// not allocated it does nothing.
func (s *State) Extend(n int, alg tpm2.AlgID, digest []byte) {
	if !s.Has(alg, n) {
		return
	}
	v := banks[bankOf(alg)].in(s.renew(n))
	copy(v, alg.Digest(v, digest))
	s.changed(n)
}

// Reset sets PCR n to zero in all banks (TPM2_PCR_Reset).
func (s *State) Reset(n int) {
	s.values[n] = new([setSize]byte)
	s.changed(n)
}

// ResetDynamic sets the PCRs of a D-RTM to zero in all banks, as
// _TPM_Hash_Start after Startup does.
func (s *State) ResetDynamic() {
	for n := range tpm2.PCRCount {
		if attributes[n].drtm() {
			s.values[n] = new([setSize]byte)
		}
	}
}

// MeasureDRTM puts a D-RTM's digest in PCR 17 of a bank: zero, extended by it.
func (s *State) MeasureDRTM(alg tpm2.AlgID, digest []byte) {
	if s.Has(alg, DRTM) {
		clear(banks[bankOf(alg)].in(s.renew(DRTM)))
		s.Extend(DRTM, alg, digest)
	}
}

// MeasureHCRTM keeps an H-CRTM's digest for PCR 0 of a bank until
// TPM2_Startup: a locality of 4, extended by it.
func (s *State) MeasureHCRTM(alg tpm2.AlgID, digest []byte) {
	if !s.Has(alg, HCRTM) {
		return
	}
	v := banks[bankOf(alg)].in(&s.crtm)
	clear(v)
	v[len(v)-1] = 4
	copy(v, alg.Digest(v, digest))
}

// changed counts a change of PCR n. PCR 0 always counts.
func (s *State) changed(n int) {
	if n == 0 || !attributes[n].noIncrement {
		s.Counter++
	}
}

// Touch counts a change of no PCR in particular, which TPM2_Clear makes so
// that policies on PCRs checked before it fail after it.
func (s *State) Touch() { s.Counter++ }
