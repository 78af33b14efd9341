package nv

import "github.com/ashlar-cloud/ashlar/tpm2"

// The room for Indices and persistent objects is accounted for as libtpms
// 0.9.2 lays it out, so that what a guest defined there fits here and the
// other way about. Sizes are in bytes.
const (
	// space is what NV Indices and persistent objects share.
	space = 171200
	// orderlySpace is the RAM of the data of orderly Indices.
	orderlySpace = 512

	indexSize     = 4 + 148 // an Index without its data
	objectSize    = 4 + 4 + 2600
	orderlySize   = 12 // what an orderly Index takes in RAM besides its data
	linkSize      = 4
	terminateSize = 12 // the end of the list

	// MinPersistent and MinCounters are the persistent objects and counters
	// that there is always room for (TPM_PT_HR_PERSISTENT_MIN).
	MinPersistent = 7
	MinCounters   = 8
)

// size is the room that an Index takes.
func size(p *tpm2.NVPublic) int {
	if p.Attributes.Has(tpm2.NVOrderly) {
		return indexSize
	}
	return indexSize + int(p.DataSize)
}

// free is the room that is left beside a number of persistent objects.
func (s *State) free(persistent int) int {
	n := space - persistent*objectSize
	for _, x := range s.indices {
		n -= size(&x.Public)
	}
	return n
}

// orderlyFree is the RAM that is left for orderly Indices.
func (s *State) orderlyFree() int {
	n := orderlySpace
	for _, x := range s.indices {
		if x.Is(tpm2.NVOrderly) {
			n -= orderlySize + int(x.Public.DataSize)
		}
	}
	return n
}

// counterReserve is the room kept for the counters that are yet to come.
func (s *State) counterReserve() int {
	return max(0, MinCounters-s.Counters()) * (indexSize + CounterSize)
}

// persistentReserve is the room kept for the objects that are yet to come.
func persistentReserve(persistent int) int {
	return max(0, MinPersistent-persistent) * objectSize
}

// fits reports whether there is room for an Index.
func (s *State) fits(p *tpm2.NVPublic, persistent int) bool {
	reserved := linkSize + terminateSize + persistentReserve(persistent)
	if p.Attributes.Type() != tpm2.NTCounter {
		reserved += s.counterReserve()
	}
	if p.Attributes.Has(tpm2.NVOrderly) && s.orderlyFree() < orderlySize+int(p.DataSize) {
		return false
	}
	return size(p)-linkSize+reserved <= s.free(persistent)
}

// FitsObject reports whether there is room for another persistent object
// beside those there are (TPM2_EvictControl).
func (s *State) FitsObject(persistent int) bool {
	return objectSize-linkSize+linkSize+terminateSize+s.counterReserve() <= s.free(persistent)
}

// Holds reports whether there is the room that the Indices there are take, and a
// number of persistent objects beside them.
func (s *State) Holds(persistent int) bool { return s.free(persistent) >= 0 && s.orderlyFree() >= 0 }

// Counters is the number of counters defined.
func (s *State) Counters() int {
	n := 0
	for _, x := range s.indices {
		if x.Type() == tpm2.NTCounter {
			n++
		}
	}
	return n
}

// CountersAvailable is an estimate of how many more counters can be defined
// beside a number of persistent objects (TPM_PT_NV_COUNTERS_AVAIL).
func (s *State) CountersAvailable(persistent int) int {
	n := s.free(persistent)
	if reserve := persistentReserve(persistent); reserve > 0 {
		n -= terminateSize + reserve
	}
	return min(max(0, n)/(indexSize+CounterSize), s.orderlyFree()/(orderlySize+CounterSize))
}

// ObjectsAvailable is an estimate of how many more persistent objects there is
// room for (TPM_PT_HR_PERSISTENT_AVAIL).
func (s *State) ObjectsAvailable(persistent int) int {
	n := s.free(persistent)
	if reserve := s.counterReserve(); reserve > 0 {
		n -= terminateSize + reserve
	}
	return max(0, n) / objectSize
}
