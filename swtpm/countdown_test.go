package swtpm

import (
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm"
)

// TestCountdownIsLogged sets timers, and finds in the log that they have run
// out, also while the guest sends nothing.
func TestCountdownIsLogged(t *testing.T) {
	t.Parallel()
	p, err := tpm.ParseProfile([]byte(`{"Name":"ashlar-v1"}`))
	if err != nil {
		t.Fatal(err)
	}
	h, log := newTestHost(t, t.TempDir(), func(c *Config) { c.Profile = p })
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	if h.Profile().Name() != "ashlar-v1" {
		t.Fatalf("the profile is %s", h.Profile().Name())
	}
	for _, cmd := range []string{
		"8001 0000000c 00000144 0000",
		"8002 0000001f 00000198 40000110 00000009 40000009 0000 00 0000 00000001", // a second
		"8002 0000001f 00000198 40000111 00000009 40000009 0000 00 0000 00000064",
		"8002 0000001f 00000198 40000111 00000009 40000009 0000 00 0000 00000000", // at once
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
