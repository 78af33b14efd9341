package swtpm

import (
	"sync"
	"time"
)

// idleTime is how long a host has been left alone when Config.Idle is called, or up to
// twice that: who notes an event need not ask for the time.
const idleTime = 2 * time.Second

// idle notices that a host has been left alone.
type idle struct {
	mu      sync.Mutex
	time    time.Duration
	timer   *time.Timer // nil where none waits
	stirred bool        // since the timer was set
}

// stir notes that the host has had something to do. A host that has not wakes nobody.
func (h *Host) stir() {
	if h.cfg.Idle == nil {
		return
	}
	h.idle.mu.Lock()
	defer h.idle.mu.Unlock()
	h.idle.stirred = true
	if h.idle.timer == nil {
		h.idle.timer = time.AfterFunc(h.idle.time, h.lookIdle)
	}
}

// lookIdle is the timer's.
func (h *Host) lookIdle() {
	h.idle.mu.Lock()
	again := h.idle.stirred
	h.idle.stirred = false
	if again {
		h.idle.timer.Reset(h.idle.time)
	} else {
		h.idle.timer = nil
	}
	h.idle.mu.Unlock()
	if !again {
		h.confine("what is done in idle time", h.cfg.Idle)
	}
}

// forgetIdle ends the wait: the host is closed.
func (h *Host) forgetIdle() {
	h.idle.mu.Lock()
	defer h.idle.mu.Unlock()
	if h.idle.timer != nil {
		h.idle.timer.Stop()
	}
}
