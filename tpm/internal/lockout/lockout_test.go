package lockout

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

const second = 1000 // milliseconds

// locked is a State with all tries used up at time now.
func locked(now uint64) State {
	s := Manufacture()
	for range s.MaxTries {
		s.Fail(false, now)
	}
	return s
}

func TestLockAndHeal(t *testing.T) {
	s := Manufacture()
	for i := range uint32(3) {
		if s.Locked() || s.FailedTries != i {
			t.Fatalf("after %d failures: %+v", i, s)
		}
		s.Fail(false, 5*second)
	}
	if !s.Locked() {
		t.Fatal("three failures do not lock")
	}
	for _, c := range []struct {
		now   uint64
		tries uint32
	}{{1004*second + 999, 3}, {1005 * second, 2}, {2004 * second, 2}, {2005 * second, 1}, {9999 * second, 0}} {
		before := s.FailedTries
		if changed := s.Heal(c.now); s.FailedTries != c.tries || changed != (before != c.tries) {
			t.Errorf("at %d ms: %d failures, want %d, changed %v", c.now, s.FailedTries, c.tries, changed)
		}
	}
}

func TestRecoveryTimeZero(t *testing.T) {
	s := locked(0)
	s.RecoveryTime = 0
	if !s.Heal(1) || s.Locked() {
		t.Error("failures still count where there is no recovery time")
	}
	s.Fail(false, 2)
	if s.FailedTries != 0 {
		t.Error("a failure was counted where none counts")
	}
	s.MaxTries = 0
	if !s.Locked() {
		t.Error("no tries are allowed, and one is")
	}
}

func TestLockoutAuth(t *testing.T) {
	s := Manufacture()
	s.Fail(true, 0)
	if s.AuthEnabled || s.FailedTries != 0 {
		t.Fatalf("after a failure of lockoutAuth: %+v", s)
	}
	if s.Heal(999*second + 999); s.AuthEnabled {
		t.Error("lockoutAuth is back too early")
	}
	if !s.Heal(1000*second) || !s.AuthEnabled {
		t.Error("lockoutAuth is not back")
	}
	s.Fail(true, 0)
	s.LockoutRecovery = 0
	if s.Heal(1 << 40); s.AuthEnabled {
		t.Error("time brought lockoutAuth back where only Startup may")
	}
	if s.Startup(true); !s.AuthEnabled {
		t.Error("Startup did not bring lockoutAuth back")
	}
}

// TestPowerCycles: time before a Shutdown counts towards healing, a power loss
// counts as a failure where a protected authorization was tried, and not more.
func TestPowerCycles(t *testing.T) {
	s := locked(100 * second)
	s.Fail(true, 100*second)
	s.Used = true
	cut := s
	s.Shutdown(900 * second)
	if s.Used {
		t.Error("Shutdown forgets that tries were made before it")
	}
	s = reload(t, s)
	s.Startup(true)
	if s.Heal(199 * second); s.FailedTries != 3 || s.AuthEnabled {
		t.Errorf("healed too early: %+v", s)
	}
	if s.Heal(200 * second); s.FailedTries != 2 || !s.AuthEnabled {
		t.Errorf("the time before Shutdown does not count: %+v", s)
	}
	cut.FailedTries = 1
	cut = reload(t, cut)
	cut.Startup(false)
	if cut.FailedTries != 2 || cut.Used {
		t.Errorf("a power loss after a try: %+v", cut)
	}
	if cut.Heal(999 * second); cut.FailedTries != 2 {
		t.Error("the time before a power loss counts")
	}
	cut.Startup(false)
	if cut.FailedTries != 2 {
		t.Error("a power loss without a try counts")
	}
	full := locked(0)
	full.Used = true
	if full.Startup(false); full.FailedTries != 3 {
		t.Error("a power loss counts beyond lockout")
	}
}

func TestClear(t *testing.T) {
	s := locked(0)
	s.Fail(true, 0)
	s.MaxTries, s.Used = 9, true
	s.Clear()
	if s.Locked() || !s.AuthEnabled || s.MaxTries != DefaultMaxTries || !s.Used {
		t.Errorf("%+v", s)
	}
}

// reload saves a State and reads its permanent part.
func reload(t *testing.T, s State) (r State) {
	t.Helper()
	c := tpm2.NewEncoder(nil)
	s.WalkPermanent(&c)
	d := tpm2.NewDecoder(c.Output())
	r.WalkPermanent(&d)
	if d.RC() != 0 || d.Remaining() != 0 {
		t.Fatal(d.RC(), d.Remaining())
	}
	return r
}

func TestVolatile(t *testing.T) {
	s := locked(7)
	s.Shutdown(900 * second)
	s.Startup(true) // timers before _TPM_Init
	r := reload(t, s)
	c := tpm2.NewEncoder(nil)
	s.WalkVolatile(&c)
	d := tpm2.NewDecoder(c.Output())
	if r.WalkVolatile(&d); r != s {
		t.Errorf("%+v\n%+v", r, s)
	}
}

// TestWalkRefuses reads timers that began before any there is.
func TestWalkRefuses(t *testing.T) {
	for _, timer := range []int64{-maxWait - 1, -1 << 63} {
		for _, s := range []State{{selfHeal: timer}, {authHeal: timer}} {
			c := tpm2.NewEncoder(nil)
			s.WalkVolatile(&c)
			d := tpm2.NewDecoder(c.Output())
			if s.WalkVolatile(&d); d.RC() == tpm2.RCSuccess {
				t.Errorf("a timer that began at %d is taken", timer)
			}
		}
	}
}
