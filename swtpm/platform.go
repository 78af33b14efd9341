package swtpm

import (
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// mayUse reports whether a command may come in at a locality: 0 to 4, or one
// of the extended localities 32 to 255 (Part 1, 27.1).
func (h *Host) mayUse(locality uint8) bool {
	if locality == 4 {
		return !h.cfg.RejectLocality4
	}
	return locality < 4 || locality >= 32
}

// SetLocality sets the locality of the commands that follow on the data
// channel: 0 to 4.
func (h *Host) SetLocality(locality uint8) Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if locality > 4 || !h.mayUse(locality) {
		return BadLocality
	}
	h.locality = locality
	return OK
}

// Locality gives the locality that SetLocality set.
func (h *Host) Locality() uint8 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.locality
}

// Established gives the TPM_ESTABLISHED bit.
func (h *Host) Established() (bool, Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine == nil {
		return false, BadOrdinal
	}
	return h.engine.Established(), OK
}

// ResetEstablished clears the TPM_ESTABLISHED bit, from locality 3 or 4.
func (h *Host) ResetEstablished(locality uint8) Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine == nil {
		return BadOrdinal
	}
	if locality > 4 || h.engine.ResetEstablished(locality) != tpm2.RCSuccess {
		return BadLocality
	}
	h.suspended = false
	return OK
}

// HashStart begins a measurement by the platform at locality 4: of the
// H-CRTM before Startup, of a D-RTM after it (Part 1, 34).
func (h *Host) HashStart() Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine == nil {
		return BadOrdinal
	}
	h.suspended = false
	h.engine.HashStart()
	return OK
}

// HashData adds data to the measurement.
func (h *Host) HashData(data []byte) Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine == nil {
		return BadOrdinal
	}
	h.engine.HashData(data)
	return OK
}

// HashEnd ends the measurement and extends the PCR.
func (h *Host) HashEnd() Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine == nil {
		return BadOrdinal
	}
	return h.settle(h.engine.HashEnd())
}

// SetBufferSize sets the size of the command and response buffers for the
// next power on, brought into [MinBufferSize, MaxBufferSize], and gives what
// is in force. Zero asks only. A TPM that runs keeps its size.
func (h *Host) SetBufferSize(n uint32) (uint32, Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n == 0 {
		return h.buffer, OK
	}
	if h.engine != nil {
		return h.buffer, BadOrdinal
	}
	h.buffer = min(max(n, MinBufferSize), MaxBufferSize)
	return h.buffer, OK
}

// maxLockTries bounds how long LOCK_STORAGE may hold the control channel: with
// lockPause between two tries, 60 seconds.
const (
	maxLockTries = 6000
	lockPause    = 10 * time.Millisecond
)

// LockStorage takes the lock on the state directory, trying again up to
// retries times, 10 ms apart. After a migration that failed, the source goes
// on with it.
func (h *Host) LockStorage(retries uint32) Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lock(int(min(retries, maxLockTries)))
}
