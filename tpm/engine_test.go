package tpm

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// rig is an engine in a test, with its clock.
type rig struct {
	t     *testing.T
	e     *Engine
	clock *clock.Manual
	cfg   Config

	locality uint8
	presence bool    // physical presence is shown
	other    *oracle // where set, it runs the commands
	durable  []byte  // the permanent state as last committed
}

// newRig manufactures a TPM and powers it on; with start set it is started.
func newRig(t *testing.T, start bool) *rig {
	t.Helper()
	return newRigOf(t, nil, start)
}

// newRigOf is newRig with a profile.
func newRigOf(t *testing.T, p *Profile, start bool) *rig {
	t.Helper()
	r := &rig{t: t, clock: new(clock.Manual)}
	r.cfg = Config{Clock: r.clock, Entropy: entropy.Replay(1)}
	state, err := Manufacture(r.cfg, Options{Profile: p})
	if err != nil {
		t.Fatal(err)
	}
	r.power(state)
	if start {
		r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	}
	return r
}

// power makes a fresh engine from a permanent state.
func (r *rig) power(state []byte) {
	r.t.Helper()
	r.durable = state
	var err error
	if r.e, err = New(r.cfg, state); err != nil {
		r.t.Fatal(err)
	}
}

// execute runs raw bytes and settles the commit as durable.
func (r *rig) execute(cmd []byte) []byte {
	if r.other != nil {
		return r.other.execute(cmd)
	}
	resp, commit := r.e.Execute(Request{Locality: r.locality, PhysicalPresence: r.presence}, cmd, nil)
	if commit.Pending() {
		r.durable = commit.State()
		commit.Done()
	}
	return resp
}

// password is an authorization by password.
func password(auth string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(tpm2.RSPW))
	b = append(b, 0, 0, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(auth)))
	return append(b, auth...)
}

// frame builds a command from its handles, authorization area and parameters.
func frame(cc tpm2.CC, handles []tpm2.Handle, auth []byte, params ...[]byte) []byte {
	tag := tpm2.STNoSessions
	if auth != nil {
		tag = tpm2.STSessions
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(tag))
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(cc))
	for _, h := range handles {
		b = binary.BigEndian.AppendUint32(b, uint32(h))
	}
	if auth != nil {
		b = binary.BigEndian.AppendUint32(b, uint32(len(auth)))
		b = append(b, auth...)
	}
	for _, p := range params {
		b = append(b, p...)
	}
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

// run runs a command and gives its code and what follows the header.
func (r *rig) run(cc tpm2.CC, handles []tpm2.Handle, auth []byte, params ...[]byte) (tpm2.RC, []byte) {
	r.t.Helper()
	resp := r.execute(frame(cc, handles, auth, params...))
	if len(resp) < headerSize || int(binary.BigEndian.Uint32(resp[2:])) != len(resp) {
		r.t.Fatalf("%v: malformed response %x", cc, resp)
	}
	return tpm2.RC(binary.BigEndian.Uint32(resp[6:])), resp[headerSize:]
}

// must is run with an expected code.
func (r *rig) must(want tpm2.RC, cc tpm2.CC, handles []tpm2.Handle, auth []byte, params ...[]byte) []byte {
	r.t.Helper()
	rc, body := r.run(cc, handles, auth, params...)
	if rc != want {
		r.t.Fatalf("%v: %v, want %v", cc, rc, want)
	}
	return body
}

func u16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// buf16 is a TPM2B.
func buf16(b []byte) []byte { return append(u16(uint16(len(b))), b...) }

func TestHeaderErrors(t *testing.T) {
	r := newRig(t, true)
	for _, c := range []struct {
		name string
		cmd  []byte
		want tpm2.RC
	}{
		{"empty", nil, tpm2.RCInsufficient},
		{"bad tag", []byte{0x80, 0, 0, 0, 0, 10, 0, 0, 1, 0x44}, tpm2.RCBadTag},
		{"no tag", []byte{0, 0, 0, 0, 0, 10, 0, 0, 1, 0x44}, tpm2.RCValue},
		{"the tag of a TPM 1.2", []byte{0, 0xC1, 0, 0, 0, 10, 0, 0, 1, 0x44}, tpm2.RCValue},
		{"size too large", []byte{0x80, 1, 0, 0, 0, 11, 0, 0, 1, 0x44}, tpm2.RCCommandSize},
		{"size too small", []byte{0x80, 1, 0, 0, 0, 9, 0, 0, 1, 0x44}, tpm2.RCCommandSize},
		{"unknown command", frame(0x7FFF, nil, nil), tpm2.RCCommandCode},
		{"second Startup", frame(tpm2.CCStartup, nil, nil, u16(0)), tpm2.RCInitialize},
		{"trailing byte", frame(tpm2.CCShutdown, nil, nil, u16(0), []byte{0}), tpm2.RCSize},
		{"missing handle", frame(tpm2.CCPolicyRestart, nil, nil), tpm2.RCInsufficient.H(1)},
		{"wrong handle", frame(tpm2.CCPolicyRestart, []tpm2.Handle{tpm2.RHOwner}, nil), tpm2.RCValue.H(1)},
		{"unloaded handle", frame(tpm2.CCPolicyRestart, []tpm2.Handle{0x03000000}, nil), tpm2.RCReferenceH0},
	} {
		resp := r.execute(c.cmd)
		if rc := tpm2.RC(binary.BigEndian.Uint32(resp[6:])); rc != c.want {
			t.Errorf("%s: %v, want %v", c.name, rc, c.want)
		}
		if tag := tpm2.ST(binary.BigEndian.Uint16(resp)); tag != tpm2.STNoSessions {
			t.Errorf("%s: answered with tag %#x, which firmware takes for a TPM 1.2", c.name, uint16(tag))
		}
	}
}

func TestStartupIsRequired(t *testing.T) {
	r := newRig(t, false)
	r.must(tpm2.RCInitialize, tpm2.CCShutdown, nil, nil, u16(0))
	r.must(tpm2.RCValue.P(1), tpm2.CCStartup, nil, nil, u16(1))
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
}

func TestStartSession(t *testing.T) {
	r := newRig(t, true)
	nonce := bytes.Repeat([]byte{1}, 16)
	start := func(kind byte) (tpm2.RC, []byte) {
		return r.run(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(nonce),
			buf16(nil), []byte{kind}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
	}
	for i, want := range []tpm2.Handle{0x02000000, 0x03000001, 0x03000002} {
		rc, body := start([]byte{0, 1, 3}[i])
		if rc != tpm2.RCSuccess || tpm2.Handle(binary.BigEndian.Uint32(body)) != want {
			t.Fatalf("session %d: %v %x", i, rc, body)
		}
	}
	if rc, _ := start(0); rc != tpm2.RCSessionMemory {
		t.Fatalf("a fourth session: %v", rc)
	}
	r.must(tpm2.RCSuccess, tpm2.CCPolicyRestart, []tpm2.Handle{0x03000001}, nil)
}

func TestRollbackUndoes(t *testing.T) {
	r := newRig(t, false)
	resp, commit := r.e.Execute(Request{}, frame(tpm2.CCStartup, nil, nil, u16(0)), nil)
	if !commit.Pending() {
		t.Fatal("Startup must revoke the Shutdown before it durably")
	}
	resp = commit.Rollback(resp)
	if rc := tpm2.RC(binary.BigEndian.Uint32(resp[6:])); rc != tpm2.RCNVUnavailable || r.e.Started() {
		t.Fatalf("%v, started %v", rc, r.e.Started())
	}
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
}

func TestSuspendAndResume(t *testing.T) {
	r := newRig(t, true)
	permanent, volatile := r.e.Permanent(), r.e.SaveVolatile()
	e, err := Resume(r.cfg, permanent, volatile)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Started() || !bytes.Equal(e.SaveVolatile(), volatile) || !bytes.Equal(e.Permanent(), permanent) {
		t.Fatal("the resumed TPM differs")
	}
	for n := range volatile {
		if _, err := Resume(r.cfg, permanent, volatile[:n]); err == nil {
			t.Fatalf("the first %d bytes of the volatile state resume", n)
		}
	}
}
