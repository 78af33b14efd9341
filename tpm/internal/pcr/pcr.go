// Package pcr holds the platform configuration registers (Part 1, 17; PC
// Client Platform TPM Profile, 4.6).
package pcr

import "github.com/ashlar-cloud/ashlar/tpm2"

// Banks is the number of banks implemented, in the order of tpm2.HashAlgs.
const Banks = 4

// State is all PCRs. It holds no pointers, so that a copy is a snapshot.
type State struct {
	// Allocated selects the PCRs of each bank that exist since the last
	// _TPM_Init; Next is what PCR_Allocate chose for the next one.
	Allocated, Next [Banks]tpm2.PCRSelect
	// Counter counts the changes of PCRs that TPM_PT_PCR_NO_INCREMENT does not
	// exempt (pcrUpdateCounter).
	Counter uint32

	values [Banks][tpm2.PCRCount][tpm2.MaxDigestSize]byte
}

// Manufacture is the state of a new TPM with the banks given, or all of them.
func Manufacture(banks []tpm2.AlgID) (State, error) { return State{}, nil }

// PowerOn is _TPM_Init.
func (s *State) PowerOn() {}

// Startup is TPM2_Startup at a locality.
func (s *State) Startup(resume bool, locality uint8, hcrtm bool) tpm2.RC { return tpm2.RCSuccess }

// Reallocated reports whether PCR_Allocate has chosen other banks than are in
// use.
func (s *State) Reallocated() bool { return s.Allocated != s.Next }

// WalkPermanent visits what outlives power.
func (s *State) WalkPermanent(c *tpm2.Codec) {}

// WalkState visits what Shutdown(STATE) saves besides.
func (s *State) WalkState(c *tpm2.Codec) {}

// WalkVolatile visits what a suspended instance needs besides.
func (s *State) WalkVolatile(c *tpm2.Codec) {}
