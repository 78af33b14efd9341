package tpm

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// clockInfo is what attestations of the TPM show of time.
func (r *rig) clockInfo() tpm2.ClockInfo {
	r.t.Helper()
	out := new(readClockOut)
	decode(r.t, r.execute(frame(tpm2.CCReadClock, nil, nil))[headerSize:], out)
	return out.currentTime.ClockInfo
}

// snapshot is both states of a TPM at one moment.
type snapshot struct{ permanent, volatile []byte }

func (r *rig) snapshot() snapshot { return snapshot{r.e.Permanent(), r.e.SaveVolatile()} }

// put has a snapshot take the place of what the TPM has, which loses its power.
func (r *rig) put(s snapshot) (reverted bool) {
	r.t.Helper()
	state, reverted, err := Follow(r.cfg, r.durable, s.permanent)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.e, err = Resume(r.cfg, state, s.volatile); err != nil {
		r.t.Fatal(err)
	}
	r.durable = state
	return reverted
}

func before(a, b tpm2.ClockInfo) bool {
	if a.ResetCount != b.ResetCount {
		return a.ResetCount < b.ResetCount
	}
	if a.RestartCount != b.RestartCount {
		return a.RestartCount < b.RestartCount
	}
	return a.Clock < b.Clock
}

// TestRevert goes back to a snapshot, by all that can come between, and shows it.
func TestRevert(t *testing.T) {
	extend := frame(tpm2.CCPCRExtend, []tpm2.Handle{8}, password(""), u32(1), u16(uint16(tpm2.AlgSHA256)), make([]byte, 32))
	for _, c := range []struct {
		what string
		do   func(r *rig)
	}{
		{"an NV write", func(r *rig) { r.all(equipment()[1]) }},
		{"a reboot", func(r *rig) { r.power(r.durable); r.all(startupCmd(tpm2.SUClear)) }},
		{"many reboots", func(r *rig) {
			for range 5 {
				r.power(r.durable)
				r.all(startupCmd(tpm2.SUClear))
			}
		}},
		{"Clear", func(r *rig) {
			r.all(frame(tpm2.CCClear, []tpm2.Handle{tpm2.RHLockout}, password("")))
		}},
		{"extends only", func(r *rig) { r.touch(); r.all(extend) }},
	} {
		r := fullRig(t, false)
		r.all(startupCmd(tpm2.SUClear), extend)
		r.clock.Advance(time.Hour)
		r.all(extend)
		back := r.snapshot()
		shown := r.clockInfo()
		for round := uint32(1); round < 4; round++ {
			c.do(r)
			r.clock.Advance(time.Hour)
			if now := r.clockInfo(); before(shown, now) {
				shown = now
			}
			atClock := r.durableClock()
			if !r.put(back) {
				t.Fatalf("%s: it is no revert", c.what)
			}
			now := r.clockInfo()
			if !before(shown, now) || now.ResetCount <= shown.ResetCount || now.Safe || now.Clock < atClock {
				t.Errorf("%s, %d: shown %+v, and now %+v", c.what, round, shown, now)
			}
			if r.e.Reverts() != round {
				t.Errorf("%s: %d reverts are counted, of %d", c.what, r.e.Reverts(), round)
			}
			shown = now
			// A migration from here is none.
			moved := r.snapshot()
			if r.put(moved) {
				t.Errorf("%s: a migration counts as a revert", c.what)
			}
			if now := r.clockInfo(); now.ResetCount != shown.ResetCount || now.RestartCount != shown.RestartCount || now.Clock != shown.Clock {
				t.Errorf("%s: a migration makes of %+v %+v", c.what, shown, now)
			}
		}
	}
}

// durableClock is the Clock of the durable state.
func (r *rig) durableClock() uint64 {
	r.t.Helper()
	e, err := New(r.cfg, r.durable)
	if err != nil {
		r.t.Fatal(err)
	}
	return e.state.timing.Clock
}

// touch settles a Touch.
func (r *rig) touch() {
	commit := r.e.Touch()
	r.durable = bytes.Clone(commit.State())
	commit.Done()
}

// TestRevertKeepsContexts: what the guest has saved before the snapshot loads after a
// revert, and a commitment of then is void.
func TestRevertKeepsContexts(t *testing.T) {
	r := fullRig(t, false)
	r.all(startupCmd(tpm2.SUClear))
	primary := frame(tpm2.CCCreatePrimary, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16(make([]byte, 4)), buf16(eccStorage()), buf16(nil), u32(0))
	r.all(primary)
	saved := r.must(tpm2.RCSuccess, tpm2.CCContextSave, []tpm2.Handle{tpm2.TransientFirst}, nil)
	r.all(frame(tpm2.CCECEphemeral, nil, nil, u16(uint16(tpm2.CurveP256))))
	counter := r.e.state.commitments
	back := r.snapshot()
	r.all(equipment()[1])
	if !r.put(back) {
		t.Fatal("it is no revert")
	}
	r.all(frame(tpm2.CCContextLoad, nil, nil, saved))
	if r.e.state.commitments.nonce == counter.nonce || r.e.state.commitments.pending != (commitments{}).pending {
		t.Error("a commitment from before is pending")
	}
}

// TestFollow: which state goes on from which.
func TestFollow(t *testing.T) {
	r := fullRig(t, false)
	first := r.durable
	r.all(startupCmd(tpm2.SUClear))
	second := r.durable
	other, err := Manufacture(r.cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	reverted, _, err := Follow(r.cfg, second, first)
	if err != nil {
		t.Fatal(err)
	}
	twice, _, err := Follow(r.cfg, reverted, second)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what       string
		last, next []byte
		want       bool
	}{
		{"the same", second, second, false}, {"a newer one", first, second, false}, {"an older one", second, first, true},
		{"another TPM", second, other, false}, {"another TPM, back", other, first, false},
		{"one from before a revert", reverted, second, true}, {"one from after a revert", second, reverted, false},
		{"of two reverts", reverted, twice, false}, {"back over two", twice, reverted, true},
	} {
		got, is, err := Follow(r.cfg, c.last, c.next)
		if err != nil || is != c.want || !is && !bytes.Equal(got, c.next) {
			t.Errorf("%s: %v, %v", c.what, is, err)
		}
	}
	if _, _, err := Follow(r.cfg, second, nil); !errors.Is(err, ErrNoState) {
		t.Error(err)
	}
	if _, _, err := Follow(r.cfg, []byte("damaged"), first); err == nil {
		t.Error("it follows what is no state")
	}
	if lost, is, err := Follow(r.cfg, nil, second); err != nil || !is {
		t.Errorf("a backup of a state that is lost: %v, %v", is, err)
	} else if l, _ := load(r.cfg, lost); int64(l.state.timing.ResetCount) != r.clock.Wall().Unix() || l.state.timing.Safe {
		t.Errorf("a backup of a state that is lost shows %+v", l.state.timing)
	}
	for _, c := range []struct {
		b    []byte
		want bool
	}{{first, true}, {twice, true}, {other, false}} {
		if is, err := SameTPM(r.cfg, c.b, second); is != c.want || err != nil {
			t.Errorf("the same TPM: %v, want %v, %v", is, c.want, err)
		}
	}
	// The same TPM by another way than a state of its own.
	l, _ := load(r.cfg, second)
	l.instance[0]++
	if _, is, _ := Follow(r.cfg, second, l.permanent()); !is {
		t.Error("a TPM with the same seeds is another one")
	}
}
