package tpm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/blob"
	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// The states in testdata/state are kept for ever, one folder for each form that
// was released: every later version must take them over. Their secrets come
// from entropy.Replay and are nobody's.

var goldenUpdate = flag.Bool("golden.update", false, "write the golden state of this version anew, before its first release only")

const goldenDir = "testdata/state/v1"

// goldenIndex is defined and written in the golden state, goldenKey kept there.
const (
	goldenIndex = tpm2.Handle(0x01500001)
	goldenKey   = tpm2.Handle(0x81000001)
)

// makeGolden makes a TPM with something in every section.
func makeGolden(t *testing.T) (permanent, volatile []byte) {
	t.Helper()
	r := &rig{t: t, clock: new(clock.Manual)}
	r.cfg = Config{Clock: r.clock, Entropy: entropy.Replay(2026)}
	state, err := Manufacture(r.cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.power(state)
	for _, cmd := range append(equipment(), [][]byte{
		frame(tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, goldenIndex}, password(""), buf16([]byte("golden")), u16(0)),
		frame(tpm2.CCNVIncrement, []tpm2.Handle{goldenIndex + 1, goldenIndex + 1}, password("")),
		evictCmd(tpm2.RHOwner, tpm2.TransientFirst, goldenKey),
		flushCmd(tpm2.TransientFirst),
		frame(tpm2.CCHashSequenceStart, nil, nil, buf16([]byte("auth")), u16(uint16(tpm2.AlgNull))),
		frame(tpm2.CCContextSave, []tpm2.Handle{tpm2.HMACSessionFirst + 1}, nil),
		frame(tpm2.CCHierarchyChangeAuth, []tpm2.Handle{tpm2.RHLockout}, password(""), buf16([]byte("lockout"))),
		frame(tpm2.CCPCRExtend, []tpm2.Handle{10}, password(""), u32(1), u16(uint16(tpm2.AlgSHA256)), make([]byte, 32)),
	}...) {
		r.clock.Advance(time.Second)
		if rc := code(r.execute(cmd)); rc != tpm2.RCSuccess {
			t.Fatalf("%v: %v", commandCode(cmd), rc)
		}
	}
	return r.durable, r.e.SaveVolatile()
}

// golden reads a golden file.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ekName is the Name of the endorsement key of the golden TPM's seeds.
const ekName = "000b57d6b4af1be7806790811a7e2886652039e063bc0c13c601605ffe28d7a7e5ed"

func (r *rig) ekName() []byte {
	r.t.Helper()
	public := eccStorage()
	body := r.must(tpm2.RCSuccess, tpm2.CCCreatePrimary, []tpm2.Handle{tpm2.RHEndorsement}, password(""),
		buf16(make([]byte, 4)), buf16(public), buf16(nil), u32(0))
	out := new(createPrimaryOut)
	decode(r.t, params(r.t, body[4:]), out)
	return out.name
}

func TestGoldenState(t *testing.T) {
	if *goldenUpdate {
		permanent, volatile := makeGolden(t)
		for name, b := range map[string][]byte{"permanent": permanent, "volatile": volatile} {
			if err := os.WriteFile(filepath.Join(goldenDir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	permanent, volatile := golden(t, "permanent"), golden(t, "volatile")
	r := &rig{t: t, clock: new(clock.Manual)}
	r.cfg = Config{Clock: r.clock, Entropy: entropy.Replay(1)}

	r.power(permanent)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	r.checkGolden()

	var err error
	if r.e, err = Resume(r.cfg, permanent, volatile); err != nil {
		t.Fatal(err)
	}
	want := tpm2.AlgSHA256.Digest(make([]byte, 64))
	if got := r.e.state.pcrs.Value(tpm2.AlgSHA256, 10); !bytes.Equal(got, want) {
		t.Errorf("PCR 10 is %x, want %x", got, want)
	}
	if loaded, active := r.e.state.sessions.Counts(); loaded != 1 || active != 2 {
		t.Errorf("%d sessions loaded and %d active, want 1 and 2", loaded, active)
	}
	if s := r.e.state.objects.Slots[0]; s == nil || s.Sequence == nil || string(s.AuthValue()) != "auth" {
		t.Errorf("the sequence is %v", s)
	}
	r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(tpm2.TransientFirst)))
	r.checkGolden()
}

// checkGolden looks at what outlives power.
func (r *rig) checkGolden() {
	r.t.Helper()
	if got := r.ekName(); hex.EncodeToString(got) != ekName {
		r.t.Errorf("the endorsement key's Name is %x, want %s", got, ekName)
	}
	data := r.must(tpm2.RCSuccess, tpm2.CCNVRead, []tpm2.Handle{tpm2.RHOwner, goldenIndex}, password(""), u16(6), u16(0))
	if !bytes.Contains(data, []byte("golden")) {
		r.t.Errorf("the Index holds %x", data)
	}
	r.must(tpm2.RCSuccess, tpm2.CCReadPublic, []tpm2.Handle{goldenKey}, nil)
	r.must(tpm2.RCSuccess, tpm2.CCDictionaryAttackLockReset, []tpm2.Handle{tpm2.RHLockout}, password("lockout"))
}

// TestDamagedState refuses every golden state with one byte altered, one that is
// cut, and one with a section that is missing, too new, cut or too long.
func TestDamagedState(t *testing.T) {
	cfg := Config{Clock: new(clock.Manual), Entropy: entropy.Replay(1)}
	permanent, volatile := golden(t, "permanent"), golden(t, "volatile")
	load := map[string]func(b []byte) error{
		"permanent": func(b []byte) error { _, err := New(cfg, b); return err },
		"volatile":  func(b []byte) error { _, err := Resume(cfg, permanent, b); return err },
	}
	for name, whole := range map[string][]byte{"permanent": permanent, "volatile": volatile} {
		for i := 0; i < len(whole); i += 7 {
			b := bytes.Clone(whole)
			b[i] ^= 0x40
			if load[name](b) == nil {
				t.Errorf("%s with byte %d altered is taken", name, i)
			}
			if load[name](whole[:i]) == nil {
				t.Errorf("the first %d bytes of %s are taken", i, name)
			}
		}
		n := len(sectionsOf(t, whole).Sections)
		for i := range n {
			for what, change := range map[string]func(*blob.Envelope){
				"missing":  func(e *blob.Envelope) { e.Sections[i].Tag = 0xFFFF },
				"too new":  func(e *blob.Envelope) { e.Sections[i].MinVersion = sectionVersion + 1 },
				"cut":      func(e *blob.Envelope) { s := &e.Sections[i]; s.Data = s.Data[:len(s.Data)-1] },
				"too long": func(e *blob.Envelope) { s := &e.Sections[i]; s.Data = append(bytes.Clone(s.Data), 0) },
			} {
				e := sectionsOf(t, whole)
				change(e)
				err := load[name](e.Encode())
				want := blob.ErrDamaged
				if what == "too new" {
					want = blob.ErrVersion
				}
				if !errors.Is(err, want) {
					t.Errorf("%s with section %d %s: %v, want %v", name, i, what, err, want)
				}
			}
		}
	}
}

func sectionsOf(t *testing.T, b []byte) *blob.Envelope {
	t.Helper()
	e, err := blob.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// FuzzVolatile resumes altered volatile states: an error, or a TPM that answers
// and whose own state loads again.
func FuzzVolatile(f *testing.F) {
	cfg := Config{Clock: new(clock.Manual), Entropy: entropy.Replay(7)}
	permanent, volatile := golden(f, "permanent"), golden(f, "volatile")
	env, err := blob.Decode(volatile)
	if err != nil {
		f.Fatal(err)
	}
	for i, s := range env.Sections {
		f.Add(uint8(i), s.Data)
	}
	commands := append(equipment(), shutdownCmd(tpm2.SUState), frame(tpm2.CCPCRRead, nil, nil, u32(1), []byte{0, 11, 3, 1, 4, 0}))
	f.Fuzz(func(t *testing.T, i uint8, data []byte) {
		env, err := blob.Decode(volatile)
		if err != nil {
			t.Fatal(err)
		}
		env.Sections[int(i)%len(env.Sections)].Data = data
		e, err := Resume(cfg, permanent, env.Encode())
		if err != nil {
			return
		}
		failed := e.failed // as the state may say
		for _, cmd := range commands {
			resp, commit := e.Execute(Request{}, cmd, nil)
			commit.Done()
			if !failed {
				checkResponse(t, cmd, resp)
			}
		}
		if _, err := Resume(cfg, e.Permanent(), e.SaveVolatile()); err != nil {
			t.Fatalf("the state does not load again: %v", err)
		}
	})
}
