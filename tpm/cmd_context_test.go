package tpm

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// eccSRK is a storage key that is quickly made.
var eccSRK = storageKey(eccKey(0, tpm2.Scheme{Alg: tpm2.AlgNull}, tpm2.CurveP256))

// create makes a primary object and gives its handle.
func (r *rig) create(hierarchy tpm2.Handle, template tpm2.Public) tpm2.Handle {
	r.t.Helper()
	resp := r.execute(createPrimaryCmd(hierarchy, &template, ""))
	if code(resp) != tpm2.RCSuccess {
		r.t.Fatalf("CreatePrimary: %v", code(resp))
	}
	return tpm2.Handle(binary.BigEndian.Uint32(resp[headerSize:]))
}

// saveContext gives a context in its wire form.
func (r *rig) saveContext(h tpm2.Handle) []byte {
	r.t.Helper()
	return r.must(tpm2.RCSuccess, tpm2.CCContextSave, []tpm2.Handle{h}, nil)
}

func (r *rig) flush(h tpm2.Handle) {
	r.t.Helper()
	r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(h)))
}

func (r *rig) restart(down, up tpm2.SU) {
	r.t.Helper()
	r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(uint16(down)))
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(uint16(up)))
}

// contextFields are where a context's parts begin.
const (
	atSequence  = 0
	atHandle    = 8
	atHierarchy = 12
	atBlob      = 18
)

func TestObjectContext(t *testing.T) {
	r := newRig(t, true)
	h := r.create(tpm2.RHOwner, eccSRK)
	public := r.must(tpm2.RCSuccess, tpm2.CCReadPublic, []tpm2.Handle{h}, nil)
	saved := r.saveContext(h)
	if got := binary.BigEndian.Uint32(saved[atHandle:]); got != uint32(savedObject) {
		t.Errorf("savedHandle 0x%x", got)
	}
	// The object stays, and its context may be loaded again and again.
	for range 2 {
		body := r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, saved)
		loaded := tpm2.Handle(binary.BigEndian.Uint32(body))
		if got := r.must(tpm2.RCSuccess, tpm2.CCReadPublic, []tpm2.Handle{loaded}, nil); !bytes.Equal(got, public) {
			t.Errorf("another object: %x", got)
		}
	}
	r.must(tpm2.RCObjectMemory, tpm2.CCContextLoad, nil, nil, saved)
	next := r.saveContext(h)
	if binary.BigEndian.Uint64(next) != binary.BigEndian.Uint64(saved)+1 {
		t.Error("the sequence number does not count")
	}
}

// TestLastContext: no context is saved behind the last number, at which only a
// state of a hostile source can be, and the TPM lives on.
func TestLastContext(t *testing.T) {
	r := newRig(t, true)
	object, sess := r.create(tpm2.RHOwner, eccSRK), r.startSession(tpm2.SEHMAC)
	other := r.startSession(tpm2.SEHMAC)
	r.e.state.objectCount = session.MaxNext - 1
	r.e.state.sessions.SetNext(session.MaxNext - 1)
	for _, h := range []tpm2.Handle{object, sess} {
		saved := r.saveContext(h)
		for _, late := range []tpm2.Handle{object, other} {
			if late.IsSession() == h.IsSession() {
				r.must(tpm2.RCTooManyContexts, tpm2.CCContextSave, []tpm2.Handle{late}, nil)
			}
		}
		r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, saved)
	}
	e, err := Resume(r.cfg, r.durable, r.e.SaveVolatile())
	if err != nil {
		t.Fatal(err)
	}
	e.state.objectCount = session.MaxNext + 1
	if e.SaveVolatile() != nil {
		t.Error("a number behind the last was saved")
	}
}

// TestRestoredParent uses an object out of a context for what needs its parsed
// key and its seed.
func TestRestoredParent(t *testing.T) {
	r := newRig(t, true)
	parent := r.create(tpm2.RHOwner, eccSRK)
	private, public := r.createChild(parent, hmacKey(tpm2.ObjUserWithAuth, schemeOf(tpm2.AlgNull)), "a secret")
	saved := r.saveContext(parent)
	r.flush(parent)
	body := r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, saved)
	parent = tpm2.Handle(binary.BigEndian.Uint32(body))
	body = r.must(tpm2.RCSuccess, tpm2.CCLoad, []tpm2.Handle{parent}, password(""), private, public)
	child := tpm2.Handle(binary.BigEndian.Uint32(body))
	if got := r.must(tpm2.RCSuccess, tpm2.CCUnseal, []tpm2.Handle{child}, password("")); !bytes.Contains(got, []byte("a secret")) {
		t.Fatalf("%q", got)
	}
}

// createChild gives the private and public parameters for Load.
func (r *rig) createChild(parent tpm2.Handle, template tpm2.Public, data string) (private, public []byte) {
	r.t.Helper()
	body := r.must(tpm2.RCSuccess, tpm2.CCCreate, []tpm2.Handle{parent}, password(""),
		buf16(append(buf16(nil), buf16([]byte(data))...)), buf16(tpm2.Marshal(&template)), buf16(nil), u32(0))
	body = body[4:]
	n := 2 + int(binary.BigEndian.Uint16(body))
	private, body = body[:n], body[n:]
	return private, body[:2+int(binary.BigEndian.Uint16(body))]
}

func TestContextIntegrity(t *testing.T) {
	r := newRig(t, true)
	h := r.create(tpm2.RHOwner, eccSRK)
	saved := r.saveContext(h)
	r.flush(h)
	integrity := tpm2.RCIntegrity.P(1)
	alter := func(at int, mask byte) []byte {
		b := bytes.Clone(saved)
		b[at] ^= mask
		return b
	}
	for _, c := range []struct {
		name  string
		saved []byte
		want  tpm2.RC
	}{
		{"another sequence", alter(atSequence+7, 1), integrity},
		{"as stClear", alter(atHandle+3, 2), integrity},
		{"another hierarchy", alter(atHierarchy+3, 1^7), integrity}, // owner to null
		{"no hierarchy", alter(atHierarchy+3, 0x55), tpm2.RCValue.P(1)},
		{"no saved handle", alter(atHandle+3, 3), tpm2.RCValue.P(1)},
		{"a long HMAC", alter(atBlob, 1), tpm2.RCSize},
		{"a short HMAC", alter(atBlob+1, contextMAC^20), tpm2.RCSize.P(1)},
		{"altered HMAC", alter(atBlob+2, 1), integrity},
		{"altered content", alter(atBlob+contextHead, 1), integrity},
		{"altered end", alter(len(saved)-1, 1), integrity},
		{"empty", append(bytes.Clone(saved[:atBlob-2]), 0, 0), tpm2.RCInsufficient},
		{"not all of an HMAC", append(append(bytes.Clone(saved[:atBlob-2]), 0, contextMAC), saved[atBlob:atBlob+contextMAC]...), tpm2.RCInsufficient},
		{"only an HMAC", append(append(bytes.Clone(saved[:atBlob-2]), 0, contextHead), saved[atBlob:atBlob+contextHead]...), tpm2.RCSize.P(1)},
		{"a byte too many", append(bytes.Clone(saved), 0), tpm2.RCSize},
	} {
		rc, _ := r.run(tpm2.CCContextLoad, nil, nil, c.saved)
		if rc != c.want {
			t.Errorf("%s: %v, want %v", c.name, rc, c.want)
		}
	}
	r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, saved)
	other, err := Manufacture(r.cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.power(other)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	r.must(integrity, tpm2.CCContextLoad, nil, nil, saved)
}

// TestPaddedContext loads a context padded to the largest size, as Windows
// Server pads them, and refuses any other padding.
func TestPaddedContext(t *testing.T) {
	r := newRig(t, true)
	h := r.create(tpm2.RHOwner, eccSRK)
	saved := r.saveContext(h)
	padded := append(bytes.Clone(saved), make([]byte, object.MaxContext-len(saved))...)
	r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, padded)
	r.must(tpm2.RCSize, tpm2.CCContextLoad, nil, nil, padded[:len(padded)-1])
	r.must(tpm2.RCSize, tpm2.CCContextLoad, nil, nil, padded, []byte{0})
}

// TestContextsEnd tells after which startups a context still loads.
func TestContextsEnd(t *testing.T) {
	stClear := eccSRK
	stClear.Attributes |= tpm2.ObjSTClear
	ok, gone := tpm2.RCSuccess, tpm2.RCIntegrity.P(1)
	for _, c := range []struct {
		name            string
		hierarchy       tpm2.Handle
		template        tpm2.Public
		down, up        tpm2.SU
		object, session tpm2.RC
	}{
		{"Resume", tpm2.RHOwner, eccSRK, tpm2.SUState, tpm2.SUState, ok, ok},
		{"Restart", tpm2.RHOwner, eccSRK, tpm2.SUState, tpm2.SUClear, ok, ok},
		{"Reset", tpm2.RHOwner, eccSRK, tpm2.SUClear, tpm2.SUClear, gone, gone},
		{"Resume, stClear", tpm2.RHOwner, stClear, tpm2.SUState, tpm2.SUState, ok, ok},
		{"Restart, stClear", tpm2.RHOwner, stClear, tpm2.SUState, tpm2.SUClear, gone, ok},
		{"Restart, null", tpm2.RHNull, eccSRK, tpm2.SUState, tpm2.SUClear, ok, ok},
		{"Reset, null", tpm2.RHNull, eccSRK, tpm2.SUClear, tpm2.SUClear, gone, gone},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, true)
			s := r.startSession(tpm2.SEPolicy)
			savedSession := r.saveContext(s)
			savedObject := r.saveContext(r.create(c.hierarchy, c.template))
			r.restart(c.down, c.up)
			r.must(c.object, tpm2.CCContextLoad, nil, nil, savedObject)
			r.must(c.session, tpm2.CCContextLoad, nil, nil, savedSession)
		})
	}
}

func TestSTClearIsInherited(t *testing.T) {
	r := newRig(t, true)
	stClear := eccSRK
	stClear.Attributes |= tpm2.ObjSTClear
	parent := r.create(tpm2.RHOwner, stClear)
	private, public := r.createChild(parent, hmacKey(tpm2.ObjUserWithAuth, schemeOf(tpm2.AlgNull)), "data")
	body := r.must(tpm2.RCSuccess, tpm2.CCLoad, []tpm2.Handle{parent}, password(""), private, public)
	child := tpm2.Handle(binary.BigEndian.Uint32(body))
	saved := r.saveContext(child)
	if got := tpm2.Handle(binary.BigEndian.Uint32(saved[atHandle:])); got != savedSTClear {
		t.Errorf("savedHandle 0x%x, want 0x%x", uint32(got), uint32(savedSTClear))
	}
	r.must(tpm2.RCAttributes.H(2), tpm2.CCEvictControl, []tpm2.Handle{tpm2.RHOwner, child}, password(""), u32(0x81000001))
}

func TestSessionContext(t *testing.T) {
	r := newRig(t, true)
	s := r.startSession(tpm2.SEPolicy)
	r.must(tpm2.RCSuccess, tpm2.CCPolicyAuthValue, []tpm2.Handle{s}, nil)
	digest := r.policyDigest(s)
	saved := r.saveContext(s)
	r.must(tpm2.RCReferenceH0, tpm2.CCPolicyGetDigest, []tpm2.Handle{s}, nil)
	body := r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, saved)
	if got := tpm2.Handle(binary.BigEndian.Uint32(body)); got != s || r.policyDigest(s) != digest {
		t.Errorf("0x%x with policy %s came back", uint32(got), r.policyDigest(s))
	}
	// Only the last context of a session loads, and only once.
	r.must(tpm2.RCHandle.P(1), tpm2.CCContextLoad, nil, nil, saved)
	again := r.saveContext(s)
	r.must(tpm2.RCHandle.P(1), tpm2.CCContextLoad, nil, nil, saved)
	r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(s)))
	r.must(tpm2.RCHandle.P(1), tpm2.CCContextLoad, nil, nil, again)
	r.must(tpm2.RCHandle.P(1), tpm2.CCFlushContext, nil, nil, u32(uint32(s)))
}

// TestContextSizes saves the largest object, sequence and session that there
// can be.
func TestContextSizes(t *testing.T) {
	r := newRig(t, true)
	long := bytes.Repeat([]byte{1}, 64)
	big := storageKey(rsaKey(0, tpm2.Scheme{Alg: tpm2.AlgNull}))
	big.NameAlg, big.KeyBits, big.AuthPolicy = tpm2.AlgSHA512, 3072, long
	big.Unique = make([]byte, 384)
	key := crypt.RestoreKey(&big, &tpm2.Sensitive{Type: tpm2.AlgRSA, AuthValue: long, SeedValue: long, Sensitive: make([]byte, 192)})
	for _, o := range []*object.Object{
		object.NewPrimary(key, tpm2.RHOwner),
		object.NewSequenceObject(object.NewEventSequence(long)),
		object.NewSequenceObject(object.NewHMACSequence(long, tpm2.AlgSHA512, long)),
	} {
		h, rc := r.e.state.objects.Add(o)
		if rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		saved := r.saveContext(h)
		if len(saved) > object.MaxContext {
			t.Errorf("a context of %d bytes, more than %d", len(saved), object.MaxContext)
		}
		r.flush(h)
		r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, saved)
		r.flush(h)
	}
	for _, kind := range []tpm2.SE{tpm2.SEHMAC, tpm2.SEPolicy} {
		h := r.startSession(kind)
		s := r.e.state.sessions.Get(h)
		s.AuthHash, s.Symmetric = tpm2.AlgSHA512, tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 256, Mode: tpm2.AlgCFB}
		s.NonceTPM, s.SessionKey = long, long
		if kind == tpm2.SEHMAC {
			s.Bound = long[:32]
		} else {
			s.Digest, s.CPHash = long, long
		}
		saved := r.saveContext(h)
		if len(saved) > session.MaxContext {
			t.Errorf("a session's context of %d bytes, more than %d", len(saved), session.MaxContext)
		}
		r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, saved)
	}
}

// TestClearBringsNothingBack: a TPM Restart ends contexts of stClear objects for
// good. In the reference code Clear begins the count of Restarts anew, so that
// those of the platform hierarchy, which keeps its proof, come back.
func TestClearBringsNothingBack(t *testing.T) {
	r := newRig(t, true)
	stClear := eccSRK
	stClear.Attributes |= tpm2.ObjSTClear
	r.create(tpm2.RHPlatform, stClear)
	saved := r.must(tpm2.RCSuccess, tpm2.CCContextSave, []tpm2.Handle{tpm2.TransientFirst}, nil)
	r.must(tpm2.RCSuccess, tpm2.CCShutdown, nil, nil, u16(uint16(tpm2.SUState)))
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(uint16(tpm2.SUClear)))
	r.must(tpm2.RCIntegrity.P(1), tpm2.CCContextLoad, nil, nil, saved)
	r.must(tpm2.RCSuccess, tpm2.CCClear, []tpm2.Handle{tpm2.RHPlatform}, password(""))
	r.must(tpm2.RCIntegrity.P(1), tpm2.CCContextLoad, nil, nil, saved)
}

// TestContextNumbersAsSwtpm compares the sequence numbers of contexts, which
// begin anew at a TPM Reset.
func TestContextNumbersAsSwtpm(t *testing.T) {
	p := newPair(t)
	start := frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(make([]byte, 16)),
		buf16(nil), []byte{0}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))
	for range 2 {
		p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
		p.expect(tpm2.RCSuccess, "a sequence", frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA256))))
		for range 2 {
			p.execute(start)
			p.o.execute(start)
		}
		for _, h := range []tpm2.Handle{tpm2.TransientFirst, tpm2.HMACSessionFirst, tpm2.TransientFirst, tpm2.HMACSessionFirst + 1} {
			cmd := frame(tpm2.CCContextSave, []tpm2.Handle{h}, nil)
			got, want := p.execute(cmd)[headerSize:][:atBlob-2], p.o.execute(cmd)[headerSize:][:atBlob-2]
			if !bytes.Equal(got, want) {
				t.Errorf("context of %#x: ours %x, swtpm %x", uint32(h), got, want)
			}
		}
		p.cut()
	}
}
