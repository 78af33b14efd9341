package tpm

import (
	"encoding/binary"
	"errors"
	"runtime/metrics"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/blob"
	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// fuzzed is a running TPM that a fuzz target starts from, time and again.
type fuzzed struct{ permanent, volatile []byte }

func fuzzConfig() Config { return Config{Clock: new(clock.Manual), Entropy: entropy.Replay(7)} }

// fuzzBases are a fresh TPM with every command, and the golden ones with keys and
// with sequences in their slots, all with sessions.
func fuzzBases(f *testing.F) []fuzzed {
	f.Helper()
	cfg := fuzzConfig()
	fresh, err := Manufacture(cfg, Options{Profile: fullProfile})
	if err != nil {
		f.Fatal(err)
	}
	e, err := New(cfg, fresh)
	if err != nil {
		f.Fatal(err)
	}
	null := u16(uint16(tpm2.AlgNull))
	for _, cmd := range [][]byte{startupCmd(tpm2.SUClear), startHMACSession(null),
		frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(make([]byte, 16)),
			buf16(nil), []byte{1}, null, u16(uint16(tpm2.AlgSHA256)))} {
		resp, commit := e.Execute(Request{}, cmd, nil)
		commit.Done()
		if code(resp) != tpm2.RCSuccess {
			f.Fatal(code(resp))
		}
	}
	permanent := golden(f, "permanent")
	return []fuzzed{{e.Permanent(), e.SaveVolatile()}, {permanent, golden(f, "volatile")}, {permanent, golden(f, "sequences")}}
}

func (b fuzzed) resume(t *testing.T) *Engine {
	t.Helper()
	e, err := Resume(fuzzConfig(), b.permanent, b.volatile)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// memory limits what one call may allocate, in bytes. That is several times what
// the fullest state takes to save.
const memory = 2 << 20

// bounded runs f and fails where it allocates more than it may.
func bounded(t *testing.T, what []byte, f func()) {
	t.Helper()
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	if n := sample[0].Value.Uint64() - before; n > memory {
		t.Fatalf("%x takes %d bytes of memory", what, n)
	}
}

// settled runs a command on a TPM of which some of the state may be nonsense:
// the answer must be well-formed, and what uses a key that is none may answer
// TPM_RC_FAILURE, but the TPM does not fail.
func settled(t *testing.T, e *Engine, cmd []byte) {
	t.Helper()
	if rc := code(executed(t, e, cmd)); rc == tpm2.RCFailure && e.failed {
		t.Fatalf("%x put the TPM in failure mode", cmd)
	}
}

// executed runs a command and settles it.
func executed(t *testing.T, e *Engine, cmd []byte) (resp []byte) {
	t.Helper()
	d := (*command)(nil)
	if len(cmd) >= headerSize {
		d = registry.lookup(tpm2.CC(binary.BigEndian.Uint32(cmd[6:])))
	}
	run := func() {
		var commit Commit
		resp, commit = e.Execute(Request{}, cmd, nil)
		commit.Done()
	}
	if d != nil && d.slow { // a search for primes may take many tries
		run()
	} else {
		bounded(t, cmd, run)
	}
	if len(resp) < headerSize || code(resp) != tpm2.RCFailure {
		checkResponse(t, cmd, resp)
	}
	return resp
}

// reloads fails where what is saved of the engine does not load.
func reloads(t *testing.T, e *Engine) {
	t.Helper()
	if _, err := Resume(fuzzConfig(), e.Permanent(), e.SaveVolatile()); err != nil {
		t.Fatalf("the state does not load again: %v", err)
	}
}

// FuzzExecute runs a list of commands: no panic, well-formed answers in bounded
// memory, and a state that loads again.
func FuzzExecute(f *testing.F) {
	bases := fuzzBases(f)
	for i := range registry.list {
		if d := &registry.list[i]; !d.slow {
			f.Add(uint8(0), sampleFrame(d))
		}
	}
	f.Fuzz(func(t *testing.T, base uint8, in []byte) {
		e := bases[int(base)%len(bases)].resume(t)
		for range 8 {
			n := len(in)
			if n >= 6 {
				if size := int(binary.BigEndian.Uint32(in[2:])); size >= headerSize && size < n {
					n = size
				}
			}
			checkResponse(t, in[:n], executed(t, e, in[:n]))
			if in = in[n:]; len(in) == 0 {
				break
			}
		}
		reloads(t, e)
	})
}

// FuzzSessions runs one command in a frame that is right: the fuzzer chooses its
// handles, its authorization area and its parameters.
func FuzzSessions(f *testing.F) {
	bases := fuzzBases(f)
	for i := range registry.list {
		d := &registry.list[i]
		if d.slow {
			continue
		}
		var handles []byte
		for _, h := range d.handles {
			handles = append(handles, u32(uint32(anyHandle(h.kind)))...)
		}
		params, _ := sample(d)
		f.Add(uint8(0), uint16(i), handles, password(""), params)
		f.Add(uint8(1), uint16(i), handles, append(sessionAuth(tpm2.PolicySessionFirst, 0x21), sessionAuth(tpm2.HMACSessionFirst+2, 0xC1)...), params)
	}
	f.Fuzz(func(t *testing.T, base uint8, which uint16, handles, area, params []byte) {
		d := &registry.list[int(which)%len(registry.list)]
		if d.slow || len(area)+len(params) > DefaultBufferSize/2 {
			return
		}
		list := make([]tpm2.Handle, len(d.handles))
		for i := range list {
			if 4*i+4 <= len(handles) {
				list[i] = tpm2.Handle(binary.BigEndian.Uint32(handles[4*i:]))
			}
		}
		if len(area) == 0 {
			area = nil
		}
		e := bases[int(base)%len(bases)].resume(t)
		cmd := frame(d.cc, list, area, params)
		checkResponse(t, cmd, executed(t, e, cmd))
		reloads(t, e)
	})
}

// content is what a context holds, byte for byte.
type content []byte

// Walk visits the bytes.
func (c *content) Walk(x *tpm2.Codec) { x.Raw((*[]byte)(c), len(*c)) }

// FuzzContext loads contexts that this TPM has sealed and that hold anything.
func FuzzContext(f *testing.F) {
	bases := fuzzBases(f)
	kinds := []tpm2.Handle{savedObject, savedSequence, savedSTClear}
	for _, b := range bases {
		e, err := Resume(fuzzConfig(), b.permanent, b.volatile)
		if err != nil {
			f.Fatal(err)
		}
		for _, o := range e.state.objects.Slots {
			if o != nil {
				f.Add(uint8(0), tpm2.Marshal(o))
			}
		}
		for _, h := range e.state.sessions.Handles(true) {
			f.Add(uint8(len(kinds)), tpm2.Marshal(e.state.sessions.Get(h)))
			kinds = append(kinds, h)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, inside []byte) {
		if len(inside) > DefaultBufferSize/2 {
			return
		}
		e := bases[1].resume(t)
		x := tpm2.Context{Sequence: 1, SavedHandle: kinds[int(kind)%len(kinds)], Hierarchy: tpm2.Hierarchy(tpm2.RHNull)}
		if x.SavedHandle.IsSession() { // of a session that is saved
			resp, _ := e.Execute(Request{}, frame(tpm2.CCContextSave, []tpm2.Handle{x.SavedHandle}, nil), nil)
			if code(resp) != tpm2.RCSuccess {
				return // another base has it
			}
			x.Sequence = binary.BigEndian.Uint64(resp[headerSize:])
		} else {
			settled(t, e, flushCmd(tpm2.TransientFirst))
		}
		e.sealContext(&x, (*content)(&inside))
		settled(t, e, frame(tpm2.CCContextLoad, nil, nil, tpm2.Marshal(&x)))
		// Whatever is loaded now is used and saved.
		for _, h := range []tpm2.Handle{tpm2.TransientFirst, x.SavedHandle} {
			settled(t, e, frame(tpm2.CCReadPublic, []tpm2.Handle{h}, nil))
			settled(t, e, frame(tpm2.CCSequenceUpdate, []tpm2.Handle{h}, password(""), buf16([]byte("data"))))
			settled(t, e, frame(tpm2.CCPolicyGetDigest, []tpm2.Handle{h}, nil))
			settled(t, e, frame(tpm2.CCSign, []tpm2.Handle{h}, password(""), buf16(make([]byte, 32)), u16(uint16(tpm2.AlgNull)), nullHashCheck))
			settled(t, e, frame(tpm2.CCGetRandom, nil, append(u32(uint32(h)), 0, 0, 0x81, 0, 0), u16(8)))
			settled(t, e, frame(tpm2.CCContextSave, []tpm2.Handle{h}, nil))
		}
		reloads(t, e)
	})
}

// fuzzCommands are what a TPM of an altered state is asked.
func fuzzCommands() [][]byte {
	return append(equipment(), shutdownCmd(tpm2.SUState), frame(tpm2.CCPCRRead, nil, nil, u32(1), []byte{0, 11, 3, 1, 4, 0}))
}

// addSections seeds a target with the sections of a state.
func addSections(f *testing.F, b []byte) *blob.Envelope {
	f.Helper()
	env, err := blob.Decode(b)
	if err != nil {
		f.Fatal(err)
	}
	for i, s := range env.Sections {
		f.Add(uint8(i), s.Data)
	}
	return env
}

// altered is the state with one section's data in place of its own.
func altered(t *testing.T, b []byte, i uint8, data []byte) []byte {
	t.Helper()
	env := sectionsOf(t, b)
	env.Sections[int(i)%len(env.Sections)].Data = data
	return env.Encode()
}

// refused reports whether a state was refused, which must not be by a defect.
func refused(t *testing.T, err error) bool {
	t.Helper()
	if errors.Is(err, errDefect) {
		t.Fatal(err)
	}
	return err != nil
}

// FuzzState powers on altered permanent states: an error, or a TPM that answers
// and whose own state loads again.
func FuzzState(f *testing.F) {
	state := golden(f, "state")
	addSections(f, state)
	commands := fuzzCommands()
	f.Fuzz(func(t *testing.T, i uint8, data []byte) {
		b := altered(t, state, i, data)
		var e *Engine
		var err error
		bounded(t, data, func() { e, err = New(fuzzConfig(), b) })
		if refused(t, err) {
			return
		}
		settled(t, e, startupCmd(tpm2.SUState))
		for _, cmd := range commands {
			settled(t, e, cmd)
		}
		reloads(t, e)
	})
}

// FuzzVolatile resumes altered volatile states, likewise.
func FuzzVolatile(f *testing.F) {
	permanent := golden(f, "permanent")
	volatile := [][]byte{golden(f, "volatile"), golden(f, "sequences")}
	half := uint8(len(addSections(f, volatile[0]).Sections))
	env := addSections(f, volatile[1])
	for i, s := range env.Sections {
		f.Add(half+uint8(i), s.Data)
	}
	commands := fuzzCommands()
	f.Fuzz(func(t *testing.T, i uint8, data []byte) {
		b := altered(t, volatile[int(i/half)%2], i%half, data)
		var e *Engine
		var err error
		bounded(t, data, func() { e, err = Resume(fuzzConfig(), permanent, b) })
		if refused(t, err) {
			return
		}
		failed := e.failed // as the state may say
		for _, cmd := range commands {
			if resp := executed(t, e, cmd); !failed && e.failed {
				t.Fatalf("%x put the TPM in failure mode: %x", cmd, resp)
			}
		}
		reloads(t, e)
	})
}
