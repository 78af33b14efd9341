package timing

import (
	"math"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestCountdown runs one timer through what can be done with it.
func TestCountdown(t *testing.T) {
	var s Countdowns
	now := uint64(5000)
	want := func(what string, timeout uint32, signaled bool) {
		t.Helper()
		s.Update(now)
		if d := s.Get(3); d.Timeout(now) != timeout || d.Signaled != signaled {
			t.Fatalf("%s: %d seconds, signaled %v; want %d, %v", what, d.Timeout(now), d.Signaled, timeout, signaled)
		}
	}
	set := func(seconds uint32, rc tpm2.RC) {
		t.Helper()
		if got := s.Set(3, now, seconds); got != rc {
			t.Fatalf("setting %d: %v, want %v", seconds, got, rc)
		}
	}
	want("a new timer", 0, false)
	set(0, tpm2.RCSuccess)
	want("zero for one that stands still", 0, false)
	set(math.MaxUint32, tpm2.RCValue)
	set(2, tpm2.RCSuccess)
	want("running", 2, false)
	set(math.MaxUint32, tpm2.RCValue)
	now += 1
	want("running", 2, false)
	now += 1998
	want("running", 1, false)
	if d := s.Get(3); d.Left(now) != time.Millisecond {
		t.Fatalf("%v left", d.Left(now))
	}
	now += 1
	want("run out", 0, true)
	set(0, tpm2.RCSuccess)
	want("zero for one that has run out", 0, true)
	set(math.MaxUint32, tpm2.RCSuccess)
	now += 1 << 45
	want("stopped", math.MaxUint32, false)
	set(0, tpm2.RCSuccess)
	want("zero for one that is stopped", 0, true)
	set(10, tpm2.RCSuccess)
	want("set again", 10, false)
	set(0, tpm2.RCSuccess)
	want("run out at once", 0, true)
	if s.Get(2).Signaled || s.Get(4).Timeout(now) != 0 {
		t.Error("another timer has changed")
	}
}

// TestCountdownsKeepSnapshots: a copy is not changed by what follows.
func TestCountdownsKeepSnapshots(t *testing.T) {
	var s Countdowns
	s.Set(1, 0, 7)
	copied := s
	s.Set(1, 0, 9)
	s.SetPolicy(1, tpm2.AlgSHA256, make([]byte, 32))
	s.Update(100_000)
	s.Shutdown(100_000)
	s.Startup(true, 0)
	if d := copied.Get(1); d.Timeout(0) != 7 || len(d.Policy) != 0 || d.Signaled {
		t.Errorf("the copy became %+v", d)
	}
}

// TestCountdownOverShutdown saves and resumes: a timer that was not set since
// Startup is halved, once per cycle.
func TestCountdownOverShutdown(t *testing.T) {
	var s Countdowns
	s.Set(0, 0, 100)
	s.Set(1, 0, 1)
	s.Set(2, 0, 1)
	s.Update(1000)
	s.Set(2, 1000, math.MaxUint32) // 1 signals, 2 is stopped
	s.SetPolicy(0, tpm2.AlgSHA256, make([]byte, 32))
	cycle := func(want0 uint32) {
		t.Helper()
		s.Shutdown(1000)
		enc := tpm2.NewEncoder(nil)
		s.WalkState(&enc)
		s = Countdowns{}
		dec := tpm2.NewDecoder(enc.Output())
		if s.WalkState(&dec); dec.RC() != tpm2.RCSuccess || dec.Remaining() != 0 {
			t.Fatal(dec.RC())
		}
		s.Startup(true, 0)
		s.Update(1000)
		zero, one, two := s.Get(0), s.Get(1), s.Get(2)
		if zero.Timeout(0) != want0 || !one.Signaled || two.Timeout(0) != math.MaxUint32 || two.Signaled || len(zero.Policy) != 32 {
			t.Fatalf("resumed with %d seconds, want %d; %+v %+v", zero.Timeout(0), want0, one, two)
		}
	}
	cycle(99) // it was set
	cycle(49) // 98 left, not set since
	s.Startup(false, 0)
	if d := s.Get(0); d.Timeout(0) != 0 || d.PolicyAlg != tpm2.AlgNull {
		t.Errorf("after a TPM Restart: %+v", d)
	}
}

// FuzzCountdowns reads altered states.
func FuzzCountdowns(f *testing.F) {
	var s Countdowns
	s.Set(0, 0, 100)
	for _, walk := range []func(*tpm2.Codec){s.WalkState, s.WalkVolatile} {
		enc := tpm2.NewEncoder(nil)
		walk(&enc)
		f.Add(enc.Output())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Countdowns
		for _, walk := range []func(*tpm2.Codec){s.WalkState, s.WalkVolatile} {
			dec := tpm2.NewDecoder(b)
			if walk(&dec); dec.RC() != tpm2.RCSuccess {
				continue
			}
			enc := tpm2.NewEncoder(nil)
			if walk(&enc); string(enc.Output()) != string(b[:len(b)-dec.Remaining()]) {
				t.Fatalf("%x becomes %x", b, enc.Output())
			}
		}
		for now := range uint64(3) {
			s.Update(now << 62)
			s.Set(0, now<<62, 5)
			if d := s.Get(1); d.Left(0) < 0 {
				t.Fatal("less than nothing is left")
			}
			s.Shutdown(now)
			s.Startup(true, now)
		}
	})
}
