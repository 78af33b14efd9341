package tpm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/blob"
	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
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

// updateGolden writes the golden files and the damaged ones anew.
func updateGolden(t *testing.T) {
	t.Helper()
	files := makeGolden(t)
	for name, d := range damages {
		files[filepath.Join("damaged", name)] = d.make(files[d.of])
	}
	for name, b := range files {
		if err := os.MkdirAll(filepath.Join(goldenDir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(goldenDir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGoldenState(t *testing.T) {
	if *goldenUpdate {
		updateGolden(t)
	}
	permanent := golden(t, "permanent")
	r := &rig{t: t, clock: new(clock.Manual)}
	r.cfg = Config{Clock: r.clock, Entropy: entropy.Replay(1)}

	r.power(permanent)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	r.checkGolden()

	r.power(golden(t, "state"))
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(uint16(tpm2.SUState)))
	r.checkGoldenPCRs(true)
	if d := r.timer(act2); d.Timeout < goldenTimeout-60 || d.Timeout > goldenTimeout {
		t.Errorf("after Startup(STATE) the countdown timer has %d seconds", d.Timeout)
	}
	if loaded, active := r.e.state.sessions.Counts(); loaded != 0 || active != 1 {
		t.Errorf("after Startup(STATE) %d sessions are loaded and %d active, want 0 and 1", loaded, active)
	}
	r.checkGolden()

	for _, name := range []string{"volatile", "sequences"} {
		var err error
		if r.e, err = Resume(r.cfg, permanent, golden(t, name)); err != nil {
			t.Fatal(err)
		}
		r.checkGoldenPCRs(false)
		if d := r.timer(act2); d.Timeout > goldenTimeout {
			t.Errorf("%s: the countdown timer has %d seconds", name, d.Timeout)
		}
		if loaded, active := r.e.state.sessions.Counts(); loaded != 2 || active != 3 {
			t.Errorf("%s: %d sessions loaded and %d active, want 2 and 3", name, loaded, active)
		}
		if name == "sequences" {
			r.checkGoldenSequences()
		}
		for i, o := range r.e.state.objects.Slots {
			if o != nil {
				r.flush(tpm2.TransientFirst + tpm2.Handle(i))
			}
		}
		r.checkGolden()
	}
}

// TestGoldenStateLosesNothing reads every golden state and saves it again: what
// it says is all there.
func TestGoldenStateLosesNothing(t *testing.T) {
	cfg := Config{Clock: new(clock.Manual), Entropy: entropy.Replay(1)}
	permanent := golden(t, "permanent")
	for _, name := range goldenFiles {
		b := golden(t, name)
		var again []byte
		if name == "permanent" || name == "state" {
			e, err := New(cfg, b)
			if err != nil {
				t.Fatal(err)
			}
			again = e.Permanent()
		} else {
			e, err := Resume(cfg, permanent, b)
			if err != nil {
				t.Fatal(err)
			}
			again = e.SaveVolatile()
		}
		was, is := sectionsOf(t, b), sectionsOf(t, again)
		if was.Instance != is.Instance || len(was.Sections) != len(is.Sections) {
			t.Errorf("%s: saved again it is another TPM's, or has %d sections, not %d", name, len(is.Sections), len(was.Sections))
		}
		for _, s := range was.Sections {
			got := is.Find(s.Tag)
			if got == nil || len(got.Data) != len(s.Data) {
				t.Errorf("%s: section 0x%04x is saved again as %v", name, s.Tag, got)
				continue
			}
			// When it was suspended, and how time has gone on since, is another.
			if s.Tag != 0x0300 && s.Tag != 0x0302 && !bytes.Equal(got.Data, s.Data) {
				t.Errorf("%s: section 0x%04x is saved again as\n%x\n, not\n%x", name, s.Tag, got.Data, s.Data)
			}
		}
	}
}

// checkGoldenPCRs looks at the PCRs: after Startup(STATE) those that it does not
// keep are zero.
func (r *rig) checkGoldenPCRs(resumed bool) {
	r.t.Helper()
	for _, alg := range tpm2.HashAlgs() {
		for _, n := range []int{0, 10, 16, 23} {
			want := alg.Digest(make([]byte, 2*alg.DigestSize()))
			if resumed && n >= 16 {
				clear(want)
			}
			if got := r.e.state.pcrs.Value(alg, n); !bytes.Equal(got, want) {
				r.t.Errorf("PCR %d is %x, want %x", n, got, want)
			}
		}
	}
}

// checkGoldenSequences completes the sequences.
func (r *rig) checkGoldenSequences() {
	r.t.Helper()
	part := []byte("a part")
	slots := r.e.state.objects.Slots
	for i, d := range slots[0].Sequence.Digests() {
		if alg := tpm2.HashAlgs()[i]; !bytes.Equal(d.Digest, alg.Digest(part)) {
			r.t.Errorf("the event sequence has %x in %v", d.Digest, alg)
		}
	}
	r.flush(tpm2.TransientFirst) // the keys take a slot while they are used
	for i, key := range map[int]tpm2.Handle{1: goldenKey + 1 + 5, 2: goldenKey + 1 + 9} {
		want := r.must(tpm2.RCSuccess, tpm2.CCHMAC, []tpm2.Handle{key}, password(""), buf16(part), u16(uint16(tpm2.AlgNull)))
		if got := slots[i].Sequence.Result(); !bytes.Equal(buf16(got), params(r.t, want)) {
			r.t.Errorf("the sequence in slot %d has %x, want %x", i, got, want)
		}
	}
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

// TestSectionsDiffer: a tag that two sections had would be read twice from the
// first.
func TestSectionsDiffer(t *testing.T) {
	seen := map[uint32]bool{profileTag: true}
	for _, s := range sections {
		if seen[s.tag] {
			t.Errorf("two sections have the tag 0x%04x", s.tag)
		}
		seen[s.tag] = true
	}
}

// TestDamagedStates: each of the damaged states is refused in the words that
// say what is wrong with it.
func TestDamagedStates(t *testing.T) {
	cfg := Config{Clock: new(clock.Manual), Entropy: entropy.Replay(1)}
	files, err := os.ReadDir(filepath.Join(goldenDir, "damaged"))
	if err != nil || len(files) != len(damages) {
		t.Fatalf("there are %d damaged states, and words for %d: %v", len(files), len(damages), err)
	}
	for name, d := range damages {
		b := golden(t, filepath.Join("damaged", name))
		if strings.HasPrefix(name, "volatile") {
			_, err = Resume(cfg, golden(t, "permanent"), b)
		} else {
			_, err = New(cfg, b)
		}
		if err == nil || !strings.HasPrefix(err.Error(), d.says) {
			t.Errorf("%s: %v, want %s", name, err, d.says)
		}
	}
}

// TestImpossibleStates refuses states with a right digest that no TPM makes.
func TestImpossibleStates(t *testing.T) {
	cfg := Config{Clock: new(clock.Manual), Entropy: entropy.Replay(1)}
	permanent := golden(t, "permanent")
	noNull := func(e *blob.Envelope) { // the null hierarchy's seed and proof
		s := e.Find(0x0201)
		s.Data = append(make([]byte, 4), s.Data[2*(2+64):]...)
	}
	notAnEvent := func(e *blob.Envelope) { // a _TPM_Hash_Start sequence runs
		s := e.Find(0x0306)
		s.Data = append(bytes.Clone(s.Data[:len(s.Data)-1]), 1, 0)
		s.Data = append(s.Data, tpm2.Marshal(object.NewHashSequence(nil, tpm2.AlgSHA256))...)
	}
	for name, c := range map[string]struct {
		of     string
		change func(*blob.Envelope)
		tag    uint32
	}{
		"a measurement of another kind":       {"volatile", notAnEvent, 0x0306},
		"a Shutdown without a null hierarchy": {"state", noNull, 0x0206},
		"a Startup without a null hierarchy":  {"volatile", noNull, 0x0306},
	} {
		b := inSections(c.change)(golden(t, c.of))
		var err error
		if c.of == "volatile" {
			_, err = Resume(cfg, permanent, b)
		} else {
			_, err = New(cfg, b)
		}
		if want := fmt.Sprintf("section 0x%04x does not decode", c.tag); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// TestEveryDamageIsRefused refuses every golden state with any one byte altered,
// one that is cut anywhere, and one with a section that is missing, too new, cut
// or too long.
func TestEveryDamageIsRefused(t *testing.T) {
	cfg := Config{Clock: new(clock.Manual), Entropy: entropy.Replay(1)}
	permanent := golden(t, "permanent")
	for _, name := range goldenFiles {
		load := func(b []byte) error { _, err := Resume(cfg, permanent, b); return err }
		if name == "permanent" || name == "state" {
			load = func(b []byte) error { _, err := New(cfg, b); return err }
		}
		whole := golden(t, name)
		for i := range whole {
			// The digest is over all, so the envelope alone says so.
			if _, err := blob.Decode(flip(i)(whole)); err == nil {
				t.Errorf("%s with byte %d altered is taken", name, i)
			}
			if _, err := blob.Decode(whole[:i]); err == nil {
				t.Errorf("the first %d bytes of %s are taken", i, name)
			}
		}
		for i := range sectionsOf(t, whole).Sections {
			for what, change := range map[string]func(*blob.Envelope){
				"missing":  func(e *blob.Envelope) { e.Sections[i] = blob.Section{Tag: 0xFFFF} },
				"too new":  func(e *blob.Envelope) { e.Sections[i].MinVersion = 2 },
				"cut":      func(e *blob.Envelope) { s := &e.Sections[i]; s.Data = s.Data[:len(s.Data)-1] },
				"too long": func(e *blob.Envelope) { s := &e.Sections[i]; s.Data = append(bytes.Clone(s.Data), 0) },
			} {
				e := sectionsOf(t, whole)
				profile := e.Sections[i].Tag == profileTag
				change(e)
				err := load(e.Encode())
				want := blob.ErrDamaged
				switch {
				case what == "too new":
					want = blob.ErrVersion
				case what == "missing" && profile:
					continue // the profile null
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

// TestFullestStateFits fills the NV memory, the persistent handles and the slots:
// what is saved must fit the envelope with room for what is to come.
func TestFullestStateFits(t *testing.T) {
	r := newRig(t, true)
	key := rsaKey(signingKey, tpm2.Scheme{Alg: tpm2.AlgNull})
	key.KeyBits = 3072
	h := r.addKey(key, tpm2.RHOwner)
	for i := range tpm2.Handle(40) {
		r.e.state.objects.Persist(tpm2.PersistentFirst+i, r.e.state.objects.Get(h))
	}
	full := false
	for i := tpm2.Handle(0); !full; i++ {
		define := defineCmd(tpm2.RHOwner, 0x01500000+i, tpm2.NVOwnerRead|tpm2.NVOwnerWrite|tpm2.NVAuthRead, tpm2.MaxNVIndexSize)
		if full = code(r.execute(define)) != tpm2.RCSuccess; !full {
			for at := uint16(0); at < tpm2.MaxNVIndexSize; at += tpm2.MaxBufferSize {
				r.all(frame(tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, 0x01500000 + i}, password(""),
					buf16(make([]byte, min(tpm2.MaxBufferSize, tpm2.MaxNVIndexSize-at))), u16(at)))
			}
		}
	}
	permanent, volatile := r.e.Permanent(), r.e.SaveVolatile()
	if n := max(len(permanent), len(volatile)); n > blob.MaxSize/2 {
		t.Errorf("the fullest state has %d bytes of %d", n, blob.MaxSize)
	}
	if _, err := Resume(r.cfg, permanent, volatile); err != nil {
		t.Error(err)
	}
	t.Logf("the fullest states have %d and %d bytes", len(permanent), len(volatile))
	over := append(permanent, make([]byte, blob.MaxSize)...)
	if _, err := New(r.cfg, over); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("a state of %d bytes: %v", len(over), err)
	}
}
