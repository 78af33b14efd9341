package tpm

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/blob"
	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// answers runs a history on an engine of its own and gives what it answers.
// Before the command with number defect, 0 for none, its state is broken so that
// it cannot be saved.
func answers(t *testing.T, seed uint64, defect int) (list [][]byte, log string) {
	var out bytes.Buffer
	r := &rig{t: t, clock: new(clock.Manual)}
	r.cfg = Config{Clock: r.clock, Entropy: entropy.Replay(seed), Log: slog.New(slog.NewTextHandler(&out, nil))}
	state, err := Manufacture(r.cfg, Options{})
	if err != nil {
		t.Error(err)
		return nil, ""
	}
	r.power(state)
	s := &solo{history: newSoloHistory(seed)}
	todo := equipment()
	for i := range 400 {
		var cmd []byte
		switch {
		case i == defect && defect > 0:
			r.e.state.hierarchies.Owner.Policy = make(tpm2.Digest, 100)
			cmd = shutdownCmd(tpm2.SUClear)
		case len(todo) > 0:
			cmd, todo = todo[0], todo[1:]
		default:
			cmd = s.nextCommand()
		}
		resp := r.execute(cmd)
		s.note(cmd, resp)
		if drawsSecrets[commandCode(cmd)] {
			resp = u32(uint32(code(resp)))
		}
		list = append(list, bytes.Clone(resp))
	}
	return list, out.String()
}

// TestDefectHurtsNoOther runs engines side by side, one of which has a defect:
// it is in failure mode from there on and has logged at which command, and the
// others answer as each does alone.
func TestDefectHurtsNoOther(t *testing.T) {
	const engines, bad, at = 6, 2, 150
	var want, got [engines][][]byte
	var logs [engines]string
	for i := range want {
		want[i], _ = answers(t, uint64(i), 0)
	}
	var group sync.WaitGroup
	for i := range engines {
		group.Go(func() {
			defect := 0
			if i == bad {
				defect = at
			}
			got[i], logs[i] = answers(t, uint64(i), defect)
		})
	}
	group.Wait()
	for i := range engines {
		for n, resp := range got[i] {
			if i == bad && n >= at {
				// What a TPM answers in failure mode is another test's.
				if n == at && code(resp) != tpm2.RCFailure {
					t.Fatalf("at its defect the engine answers %x", resp)
				}
				continue
			}
			if !bytes.Equal(resp, want[i][n]) {
				t.Fatalf("engine %d, command %d: %x, alone %x", i, n, resp, want[i][n])
			}
		}
		if failed := strings.Contains(logs[i], "failure mode"); failed != (i == bad) {
			t.Errorf("the log of engine %d: %s", i, logs[i])
		}
	}
	if !strings.Contains(logs[bad], "command=Shutdown") || strings.Count(logs[bad], "failure mode") != 1 {
		t.Errorf("the log does not name the command, once: %s", logs[bad])
	}
}

// TestDefectInSaving: a state that cannot be saved is not, and the TPM is in
// failure mode.
func TestDefectInSaving(t *testing.T) {
	for name, c := range map[string]struct {
		save  func(*Engine) []byte
		spoil func(*Engine)
	}{
		"permanent": {(*Engine).Permanent, func(e *Engine) { e.state.hierarchies.Owner.Policy = make(tpm2.Digest, 100) }},
		"volatile": {(*Engine).SaveVolatile, func(e *Engine) {
			e.state.sessions.Get(tpm2.HMACSessionFirst).NonceTPM = make(tpm2.Digest, 100)
		}},
	} {
		r := newRig(t, true)
		r.all(startHMACSession(u16(uint16(tpm2.AlgNull))))
		if c.save(r.e) == nil {
			t.Fatalf("%s: there is none", name)
		}
		c.spoil(r.e)
		if b := c.save(r.e); b != nil {
			t.Errorf("%s: saved as %x", name, b)
		}
		r.must(tpm2.RCFailure, tpm2.CCGetRandom, nil, nil, u16(8))
	}
}

// TestDefectInReading: one in reading a section is an error that says so.
func TestDefectInReading(t *testing.T) {
	s := section{tag: 0x01FD, walk: func(*Engine, *tpm2.Codec) { panic("no such state") }}
	err := s.read(newRig(t, false).e, &blob.Section{})
	if !errors.Is(err, errDefect) || !errors.Is(err, blob.ErrDamaged) ||
		!strings.HasSuffix(err.Error(), "section 0x01fd: no such state") {
		t.Error(err)
	}
}

// TestCancelStopsKeySearch asks for RSA keys and cancels each at another moment:
// the answer comes at once. The bound allows for a machine that is busy with
// other tests; what is promised is 50 ms.
func TestCancelStopsKeySearch(t *testing.T) {
	const bound = 500 * time.Millisecond
	r := newRigOf(t, builtinProfile("default-v2"), true)
	rnd := rand.New(rand.NewPCG(4, 4))
	template := storageKey(eccKey(0, tpm2.Scheme{Alg: tpm2.AlgNull}, tpm2.CurveP256))
	r.all(createPrimaryCmd(tpm2.RHOwner, &template, ""))
	for _, bits := range r.e.profile.impl.RSABits {
		if bits < 3072 {
			continue
		}
		var longest time.Duration
		canceled := 0
		for i := range 30 {
			key := rsaKey(signingKey, tpm2.Scheme{Alg: tpm2.AlgNull})
			key.KeyBits, key.Unique = bits, u16(uint16(i))
			cmd := createPrimaryCmd(tpm2.RHOwner, &key, "")
			if i%2 == 1 {
				cmd = frame(tpm2.CCCreate, []tpm2.Handle{tpm2.TransientFirst}, password(""), buf16(make([]byte, 4)),
					buf16(tpm2.Marshal(&key)), buf16(nil), u32(0))
			}
			cancel := make(chan struct{})
			var at time.Time
			timer := time.AfterFunc(time.Duration(rnd.IntN(60000))*time.Microsecond, func() { at = time.Now(); close(cancel) })
			resp, commit := r.e.Execute(Request{Cancel: cancel}, cmd, nil)
			took := time.Now()
			commit.Done()
			switch code(resp) {
			case tpm2.RCCanceled:
				canceled++
				longest = max(longest, took.Sub(at))
			case tpm2.RCSuccess:
				timer.Stop()
				if i%2 == 0 {
					r.all(flushCmd(tpm2.TransientFirst + 1))
				}
			default:
				t.Fatal(code(resp))
			}
		}
		t.Logf("RSA %d: %d canceled, the longest took %v", bits, canceled, longest)
		if longest > bound || canceled < 10 {
			t.Errorf("RSA %d: %d canceled, the longest took %v", bits, canceled, longest)
		}
	}
}
