package tpm

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// mayDiffer puts what of a TPM may be newer than its durable state, which d was
// made from, into d: what a power loss may take, and Shutdown saves.
func (r *rig) mayDiffer(d *Engine) {
	s := &r.e.state
	d.state.timing.Clock, d.state.timing.Safe = s.timing.Clock, s.timing.Safe
	d.state.objectCount, d.state.established = s.objectCount, s.established
	for _, x := range s.nv.All() {
		y := d.state.nv.Get(x.Public.Index)
		if y == nil || !x.Is(tpm2.NVOrderly) || s.orderly != shutdownNone {
			continue
		}
		const changing = tpm2.NVWritten | tpm2.NVWriteLocked | tpm2.NVReadLocked
		z := y.Clone()
		z.Public.Attributes = y.Public.Attributes&^changing | x.Public.Attributes&changing
		z.Data = bytes.Clone(x.Data)
		z.Rename()
		d.state.nv.Put(z)
	}
}

// outlives is what of a section outlives the power's loss: no loaded session, nor
// the signal of a countdown timer that had time left at Shutdown.
func (e *Engine) outlives(x section) []byte {
	sessions, countdowns := e.state.sessions, e.state.countdowns
	defer func() { e.state.sessions, e.state.countdowns = sessions, countdowns }()
	e.state.sessions.Startup(false)
	e.state.countdowns.Startup(true, 0)
	enc := tpm2.NewEncoder(nil)
	x.walk(e, &enc)
	return enc.Output()
}

// TestWhatIsAnsweredIsDurable runs histories and compares, after every answer,
// the TPM with what the power's loss would leave of it: nothing that must outlive
// it may be missing, nor anything of a Shutdown that is in force.
func TestWhatIsAnsweredIsDurable(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := fullRig(t, false)
			s := &solo{history: newSoloHistory(*historySeed + seed + 300)}
			todo := equipment()
			saved := 0 // answers while a Shutdown(STATE) was in force
			for i := range *historyCount {
				if i%400 == 399 {
					r.power(r.durable)
					todo = equipment()
				}
				r.clock.Advance(time.Duration(s.IntN(3000)) * time.Millisecond)
				var cmd []byte
				switch {
				case len(todo) > 0:
					cmd, todo = todo[0], todo[1:]
				case s.IntN(8) == 0:
					cmd = shutdownCmd(tpm2.SUState)
				default:
					cmd = s.nextCommand()
				}
				r.presence = s.IntN(2) == 0
				resp := r.execute(cmd)
				r.alive(fmt.Sprintf("command %d, %x", i, cmd))
				s.note(cmd, resp)
				d, err := New(r.cfg, r.durable)
				if err != nil {
					t.Fatal(err)
				}
				r.mayDiffer(d)
				state := r.e.state.orderly == shutdownState
				if state {
					saved++
				}
				for _, x := range sections {
					if x.kind != permanentKind && !(state && x.kind == stateKind) {
						continue
					}
					if got, want := d.outlives(x), r.e.outlives(x); !bytes.Equal(got, want) {
						t.Fatalf("command %d, %v, which answered %v, is not durable in section 0x%04x: %x\n%x\n%x",
							i, commandCode(cmd), code(resp), x.tag, cmd, got, want)
					}
				}
			}
			if saved < *historyCount/50 {
				t.Errorf("a Shutdown(STATE) was in force after %d commands only", saved)
			}
		})
	}
}
