package timing

import (
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

func TestClockAndTime(t *testing.T) {
	s := Manufacture()
	s.PowerOn(10 * time.Second)
	if d := s.Update(10*time.Second + 1500*time.Millisecond); d != 1500 || s.Time != 1500 || s.Clock != 1500 {
		t.Errorf("%d, %+v", d, s)
	}
	if d := s.Update(5 * time.Second); d != 0 || s.Time != 1500 {
		t.Errorf("a host clock that went back: %d, %+v", d, s)
	}
	s.PowerOn(time.Second)
	if s.Time != 0 || s.Clock != 1500 {
		t.Errorf("after power on: %+v", s)
	}
	s.Resume(100*time.Second, 0)
	if s.Update(101 * time.Second); s.Time != 1000 {
		t.Errorf("after a resume elsewhere: %+v", s)
	}
}

// TestSafe: after a power loss Clock is not safe until it has passed the next
// multiple of the interval; a Shutdown keeps what it was.
func TestSafe(t *testing.T) {
	s := Manufacture()
	s.PowerOn(0)
	s.Startup(true, true)
	if !s.Safe || s.ResetCount != 1 {
		t.Errorf("a new TPM: %+v", s)
	}
	s.Startup(true, false)
	s.Update(4095 * time.Millisecond)
	if s.Safe {
		t.Error("safe too early")
	}
	s.Startup(false, true)
	if s.Safe || s.RestartCount != 1 || s.ResetCount != 2 {
		t.Errorf("a restart: %+v", s)
	}
	if s.Update(4096 * time.Millisecond); !s.Safe {
		t.Error("not safe after the interval")
	}
	s.Clear()
	if s.Clock != 0 || s.ResetCount != 0 || s.RestartCount != 0 || !s.Safe {
		t.Errorf("after Clear: %+v", s)
	}
}

// TestLastTime: clocks at their end, at which only a state of a hostile source can
// be, stay there.
func TestLastTime(t *testing.T) {
	s := Manufacture()
	s.Clock, s.Time = 1<<64-2, lastTime-1
	for range 2 {
		s.Resume(0, 1<<63-1)
		if s.Clock != 1<<64-1 || s.Time != lastTime {
			t.Errorf("Clock turned to %d, Time to %d", s.Clock, s.Time)
		}
	}
}

// TestWalkRefuses reads times that no TPM has.
func TestWalkRefuses(t *testing.T) {
	for name, change := range map[string]func(*State){
		"none of them":           func(s *State) { s.Clock, s.Time = 1<<64-1, lastTime },
		"a Time behind the last": func(s *State) { s.Time = lastTime + 1 },
		"a rate that is not":     func(s *State) { s.faster = maxShift + 1 },
	} {
		s := Manufacture()
		change(&s)
		c := tpm2.NewEncoder(nil)
		s.WalkVolatile(&c)
		var got State
		d := tpm2.NewDecoder(c.Output())
		got.WalkVolatile(&d)
		if taken := d.RC() == tpm2.RCSuccess; taken != (name == "none of them") {
			t.Errorf("%s: taken %v", name, taken)
		}
	}
	timers := Countdowns{idle()}
	timers.timers[3].end = 1<<64 - 1
	c := tpm2.NewEncoder(nil)
	timers.WalkVolatile(&c)
	d := tpm2.NewDecoder(c.Output())
	if timers.WalkVolatile(&d); d.RC() == tpm2.RCSuccess {
		t.Error("a countdown to the end of time is taken")
	}
}
