package swtpm

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// Commands that set timer 1, to a while and to nothing, which makes it run out.
const (
	timerSet = "8002 0000001f 00000198 40000111 00000009 40000009 0000 00 0000 00000064"
	timerOut = "8002 0000001f 00000198 40000111 00000009 40000009 0000 00 0000 00000000"
)

// newCountdownHost is a started TPM with timers, on a clock that is given.
func newCountdownHost(t *testing.T, c clock.Clock) (*Host, *logBuffer) {
	t.Helper()
	p, err := tpm.ParseProfile([]byte(`{"Name":"ashlar-v1"}`))
	if err != nil {
		t.Fatal(err)
	}
	h, log := newTestHost(t, t.TempDir(), func(cfg *Config) { cfg.Profile, cfg.Engine.Clock = p, c })
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	if rc := execute(h, startupClear); rc != 0 {
		t.Fatal(rc)
	}
	return h, log
}

// TestCountdownsDoNotFillTheLog makes a timer run out as often as a guest can:
// the log says it now and then, whatever the guest does to the power.
func TestCountdownsDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	c := new(clock.Manual)
	h, log := newCountdownHost(t, c)
	told := func() int { return strings.Count(log.String(), "timer=1") }
	for range 3 {
		for range 20 {
			for _, cmd := range []string{timerSet, timerOut} {
				if rc := execute(h, cmd); rc != 0 {
					t.Fatalf("%s: %v", cmd, rc)
				}
			}
		}
		if told() != 1 {
			t.Fatalf("the log says it %d times", told())
		}
		if h.PowerOn(false) != OK || execute(h, startupClear) != 0 {
			t.Fatal("no reset")
		}
	}
	c.Advance(time.Hour)
	execute(h, timerSet)
	execute(h, timerOut)
	if told() != 2 {
		t.Errorf("after an hour the log says it %d times", told())
	}
}

// faultyClock has a defect that can be let loose.
type faultyClock struct {
	*clock.System
	loose atomic.Bool
}

func (c *faultyClock) Now() time.Duration {
	if c.loose.Load() {
		panic("a defect")
	}
	return c.System.Now()
}

// TestDefectInTheAlarm: a defect met where no command runs, when a timer runs
// out, ends the wait for timers and not the process.
func TestDefectInTheAlarm(t *testing.T) {
	t.Parallel()
	c := &faultyClock{System: clock.NewSystem()}
	h, log := newCountdownHost(t, c)
	if rc := execute(h, strings.Replace(timerSet, "00000064", "00000001", 1)); rc != 0 {
		t.Fatal(rc)
	}
	c.loose.Store(true)
	for end := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), "a defect ended the wait for a countdown timer"); {
		if time.Now().After(end) {
			t.Fatalf("the log says %q", log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.loose.Store(false)
	if rc := execute(h, timerSet); rc != 0 {
		t.Errorf("the TPM answers %v", rc)
	}
}

// TestCountdownIsLogged sets timers, and finds in the log that they have run
// out, also while the guest sends nothing.
func TestCountdownIsLogged(t *testing.T) {
	t.Parallel()
	h, log := newCountdownHost(t, clock.NewSystem())
	if h.Profile().Name() != "ashlar-v1" {
		t.Fatalf("the profile is %s", h.Profile().Name())
	}
	for _, cmd := range []string{
		"8002 0000001f 00000198 40000110 00000009 40000009 0000 00 0000 00000001", // a second
		timerSet,
		timerOut,
	} {
		if rc := execute(h, cmd); rc != 0 {
			t.Fatalf("%s: %v", cmd, rc)
		}
	}
	if text := log.String(); !strings.Contains(text, "timer=1") || strings.Contains(text, "timer=0") {
		t.Fatalf("the log says %q", text)
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), "timer=0"); {
		if time.Now().After(end) {
			t.Fatalf("the log says %q", log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	if strings.Count(log.String(), "timer=1") != 1 {
		t.Errorf("the log says it more than once: %q", log.String())
	}
	h.PowerOff()
	if h.countdowns.alarm != nil {
		t.Error("the host still waits for a timer of a TPM that is off")
	}
}
