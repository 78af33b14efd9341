package swtpm

import (
	"crypto/rand"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// faulty is a random source with a defect that can be let loose.
type faulty struct{ loose atomic.Bool }

func (f *faulty) Read(p []byte) (int, error) {
	if f.loose.Load() {
		panic("a defect")
	}
	return rand.Read(p)
}

// TestDefectHurtsNoOtherServer has three servers in this process, and a defect
// in the TPM of one: that TPM fails, names the command in its log, still talks
// to its host and is well after the next INIT; the others notice nothing.
func TestDefectHurtsNoOtherServer(t *testing.T) {
	const getRandom, failure = "8001 0000000c 0000017b 0008", 0x101
	var source faulty
	var rigs [3]*rig
	var data [3]net.Conn
	for i := range rigs {
		rigs[i] = newRig(t, t.TempDir(), func(c *Config, _ *Server) {
			if i == 1 {
				c.Engine.Entropy = &source
			}
			c.Engine.Log = c.Log
		})
		rigs[i].control("00000002 00000000", "00000000")
		data[i] = rigs[i].passData()
		wantRC(t, data[i], startupClear, 0)
		wantRC(t, data[i], getRandom, 0)
	}
	source.loose.Store(true)
	for range 3 {
		for i := range rigs {
			want := uint32(0)
			if i == 1 {
				want = failure
			}
			wantRC(t, data[i], getRandom, want)
		}
	}
	bad := rigs[1]
	bad.control("00000004", "00000000 00000000")    // GET_TPMESTABLISHED
	wantRC(t, data[1], "8001 0000000a 0000017c", 0) // GetTestResult
	if log := bad.log.String(); strings.Count(log, "failure mode") != 1 || !strings.Contains(log, "command=GetRandom") {
		t.Errorf("the log does not name the command, once: %s", log)
	}
	for _, i := range []int{0, 2} {
		if log := rigs[i].log.String(); strings.Contains(log, "failure mode") {
			t.Errorf("server %d: %s", i, log)
		}
	}
	source.loose.Store(false)
	bad.control("00000002 00000000", "00000000")
	wantRC(t, data[1], startupClear, 0)
	wantRC(t, data[1], getRandom, 0)
}

// TestDefectInAConnection: a defect in what serves a connection ends that one,
// and the next client is served.
func TestDefectInAConnection(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	calls := 0
	r.srv.confine(func() { calls++; panic("a defect") })
	if calls != 1 || !strings.Contains(r.log.String(), "a defect ended a connection") {
		t.Errorf("the log: %s", r.log)
	}
	r.control("00000004", "0000000a")
}
