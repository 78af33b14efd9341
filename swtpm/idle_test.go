package swtpm

import (
	"testing"
	"time"
)

// TestIdle: what is done in idle time is done once after the last of several commands,
// not between them, again after another one, and never after the end.
func TestIdle(t *testing.T) {
	t.Parallel()
	called := make(chan time.Time, 10)
	h, _ := newTestHost(t, t.TempDir(), func(c *Config) { c.Idle = func() { called <- time.Now() } })
	h.idle.time = 200 * time.Millisecond
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	wait := func(after time.Time) {
		t.Helper()
		select {
		case at := <-called:
			if d := at.Sub(after); d < h.idle.time {
				t.Errorf("it was done %v after a command", d)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it was not done")
		}
	}
	last := time.Now()
	for range 30 {
		h.Startup(false)
		time.Sleep(10 * time.Millisecond)
		now := time.Now()
		if now.Sub(last) >= h.idle.time { // the machine is busy: that was a pause
			for len(called) > 0 {
				<-called
			}
		}
		last = now
	}
	h.Startup(false)
	wait(last)
	time.Sleep(3 * h.idle.time)
	if len(called) != 0 {
		t.Error("it was done again, without a command")
	}
	last = time.Now()
	h.Startup(false)
	wait(last)
	h.Startup(false)
	h.Close()
	time.Sleep(3 * h.idle.time)
	if len(called) != 0 {
		t.Error("it was done after the end")
	}
}

// TestDefectInIdleTime ends nothing else.
func TestDefectInIdleTime(t *testing.T) {
	t.Parallel()
	called := make(chan bool, 1)
	h, log := newTestHost(t, t.TempDir(), func(c *Config) {
		c.Idle = func() { defer close(called); panic("a defect") }
	})
	h.idle.time = time.Millisecond
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	h.Startup(false)
	<-called
	for log.String() == "" {
		time.Sleep(time.Millisecond)
	}
	if h.Startup(false) == 0 {
		t.Error("Startup twice")
	}
}
