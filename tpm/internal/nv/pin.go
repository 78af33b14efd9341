package nv

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// IsPIN reports whether the Index is a PIN Pass or PIN Fail Index: its data is
// a TPMS_NV_PIN_COUNTER_PARAMETERS, how often its authorization value was used
// and how often it may be (Part 2, 13.3).
func (x *Index) IsPIN() bool {
	t := x.Type()
	return t == tpm2.NTPinPass || t == tpm2.NTPinFail
}

// PINAvailable reports whether the authorization value of a PIN Index may be
// used: not before it was written, nor once the count has reached the limit.
func (x *Index) PINAvailable() bool {
	return x.Is(tpm2.NVWritten) && binary.BigEndian.Uint32(x.Data) < binary.BigEndian.Uint32(x.Data[4:])
}

// CountPIN counts a use of a PIN Index's authorization value, right or wrong: a
// PIN Fail Index counts the wrong ones since the last right one, a PIN Pass
// Index the right ones.
func (s *State) CountPIN(x *Index, right bool) (durable bool) {
	if !x.Is(tpm2.NVWritten) {
		return false
	}
	count := binary.BigEndian.Uint32(x.Data)
	switch x.Type() {
	case tpm2.NTPinPass:
		if right {
			count++
		}
	case tpm2.NTPinFail:
		count++
		if right {
			count = 0
		}
	}
	return s.Write(x, 0, binary.BigEndian.AppendUint32(nil, count))
}

// SetBits sets bits of a bit field; one that was not written starts at zero.
func (s *State) SetBits(x *Index, bits uint64) (durable bool) {
	return s.Write(x, 0, binary.BigEndian.AppendUint64(nil, x.count()|bits))
}

// SetAuth changes the authorization value of an Index.
func (s *State) SetAuth(x *Index, auth tpm2.Digest) {
	y := *x
	y.Auth = auth
	s.Put(&y)
}

// LockGlobal locks the Indices that say so against writing until the next TPM
// Reset or Restart.
func (s *State) LockGlobal() (durable bool) {
	for _, x := range s.indices {
		if x.Is(tpm2.NVGlobalLock) {
			durable = s.SetAttributes(x, tpm2.NVWriteLocked) || durable
		}
	}
	return durable
}
