package session

import (
	"bytes"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// create makes a session or fails the test.
func create(t *testing.T, s *State, policy bool) *Session {
	t.Helper()
	sess, rc := s.Create(policy)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	sess.AuthHash, sess.Symmetric = tpm2.AlgSHA256, tpm2.SymDef{Alg: tpm2.AlgNull}
	return sess
}

// save saves a session and gives it back with the id of its context.
func save(t *testing.T, s *State, h tpm2.Handle) (Session, uint64) {
	t.Helper()
	sess := *s.Get(h)
	id, rc := s.Save(h)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	return sess, id
}

func TestHandles(t *testing.T) {
	s := New()
	for i, policy := range []bool{false, true, false} {
		want := tpm2.HMACSessionFirst + tpm2.Handle(i)
		if policy {
			want = tpm2.PolicySessionFirst + tpm2.Handle(i)
		}
		if got := create(t, &s, policy).Handle; got != want {
			t.Errorf("session %d is %#x, want %#x", i, got, want)
		}
	}
	if _, rc := s.Create(false); rc != tpm2.RCSessionMemory {
		t.Errorf("a fourth session: %v", rc)
	}
	// The number is taken, by a session of the other type.
	if _, rc := s.Find(tpm2.HMACSessionFirst + 1); rc != tpm2.RCHandle {
		t.Errorf("an HMAC session of a policy session's number: %v", rc)
	}
	if _, rc := s.Find(tpm2.HMACSessionFirst + 5); rc != tpm2.RCReferenceH0 {
		t.Errorf("a session that is not there: %v", rc)
	}
	// Flush goes by the number alone.
	if !s.Flush(tpm2.HMACSessionFirst+1) || s.Flush(tpm2.PolicySessionFirst+1) || s.Get(tpm2.PolicySessionFirst+1) != nil {
		t.Error("a session is not flushed once")
	}
	if got := create(t, &s, false).Handle; got != tpm2.HMACSessionFirst+1 {
		t.Errorf("the free number is not used again: %#x", got)
	}
	for _, h := range []tpm2.Handle{0, tpm2.RHOwner, tpm2.HMACSessionFirst + MaxActive, tpm2.PolicySessionFirst + 0xFFFFFF} {
		if s.Get(h) != nil || s.Flush(h) {
			t.Errorf("%#x is a session", h)
		}
		if _, ok := s.SavedID(h); ok {
			t.Errorf("%#x is a saved session", h)
		}
	}
}

func TestSaveAndRestore(t *testing.T) {
	s := New()
	h := create(t, &s, true).Handle
	sess, id := save(t, &s, h)
	if s.Get(h) != nil {
		t.Fatal("a saved session is still loaded")
	}
	if got, ok := s.SavedID(h); !ok || got != id {
		t.Fatalf("saved as %d, %v, want %d", got, ok, id)
	}
	if _, rc := s.Save(h); rc != tpm2.RCReferenceH0 {
		t.Errorf("saved twice: %v", rc)
	}
	if rc := s.Restore(sess); rc != tpm2.RCSuccess || s.Get(h) == nil {
		t.Fatal(rc)
	}
	// The context was used: the id no longer stands for it.
	if _, ok := s.SavedID(h); ok {
		t.Error("a context can be loaded twice")
	}
	_, second := save(t, &s, h)
	if second == id {
		t.Error("two contexts have one id")
	}
	if !s.Flush(h) {
		t.Error("a saved session cannot be flushed")
	}
	if _, ok := s.SavedID(h); ok {
		t.Error("a flushed session's context can be loaded")
	}
}

func TestActiveSessions(t *testing.T) {
	s := New()
	var list []Session
	for range MaxActive {
		sess, _ := save(t, &s, create(t, &s, false).Handle)
		list = append(list, sess)
	}
	if _, rc := s.Create(false); rc != tpm2.RCSessionHandles {
		t.Errorf("a session too many: %v", rc)
	}
	for i := range MaxLoaded {
		if rc := s.Restore(list[i]); rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
	}
	if rc := s.Restore(list[MaxLoaded]); rc != tpm2.RCSessionMemory {
		t.Errorf("a loaded session too many: %v", rc)
	}
	if loaded, active := s.Counts(); loaded != MaxLoaded || active != MaxActive {
		t.Errorf("%d loaded, %d active", loaded, active)
	}
	if n := len(s.Handles(true)); n != MaxLoaded {
		t.Errorf("%d loaded are listed", n)
	}
	if n := len(s.Handles(false)); n != MaxActive-MaxLoaded {
		t.Errorf("%d saved are listed", n)
	}
}

// TestContextGap: when the oldest saved context is as far behind as it may be,
// nothing may be saved, and the last slot is for it alone.
func TestContextGap(t *testing.T) {
	s := New()
	oldest, _ := save(t, &s, create(t, &s, false).Handle)
	h := create(t, &s, false).Handle
	for {
		sess, _ := save(t, &s, h)
		if s.gapFull() {
			if rc := s.Restore(sess); rc != tpm2.RCSuccess {
				t.Fatal(rc)
			}
			break
		}
		if rc := s.Restore(sess); rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
	}
	// The ids begin at 4, and after 65535 go on at 65540.
	if s.next != 0x10004 {
		t.Errorf("the gap is full when the next context is %#x, want 0x10004", s.next)
	}
	if _, rc := s.Save(h); rc != tpm2.RCContextGap {
		t.Errorf("saved beyond the gap: %v", rc)
	}
	create(t, &s, false)
	if _, rc := s.Create(false); rc != tpm2.RCContextGap {
		t.Errorf("the last slot is given away: %v", rc)
	}
	if rc := s.Restore(oldest); rc != tpm2.RCSuccess {
		t.Errorf("the oldest context: %v", rc)
	}
	if _, rc := s.Save(h); rc != tpm2.RCSuccess {
		t.Errorf("the gap is not closed: %v", rc)
	}
}

func TestStartup(t *testing.T) {
	s := New()
	saved, id := save(t, &s, create(t, &s, true).Handle)
	loaded := create(t, &s, false).Handle

	restart := s
	restart.Startup(false)
	if restart.Get(loaded) != nil || restart.active[loaded.Index()].state != free {
		t.Error("a loaded session outlives a TPM Restart")
	}
	if got, ok := restart.SavedID(saved.Handle); !ok || got != id {
		t.Error("a saved session does not outlive a TPM Restart")
	}
	reset := s
	reset.Startup(true)
	if loaded, active := reset.Counts(); loaded != 0 || active != 0 {
		t.Errorf("%d loaded and %d active sessions outlive a TPM Reset", loaded, active)
	}
	if s.Get(loaded) == nil {
		t.Error("a copy was changed")
	}
}

// walk encodes a state and decodes it again.
func walk(t *testing.T, s *State) State {
	t.Helper()
	enc := tpm2.NewEncoder(nil)
	s.WalkState(&enc)
	s.WalkVolatile(&enc)
	if rc := enc.RC(); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	got := New()
	dec := tpm2.NewDecoder(enc.Output())
	got.WalkState(&dec)
	got.WalkVolatile(&dec)
	if dec.RC() != tpm2.RCSuccess || dec.Remaining() != 0 {
		t.Fatalf("%v, %d bytes left", dec.RC(), dec.Remaining())
	}
	again := tpm2.NewEncoder(nil)
	got.WalkState(&again)
	got.WalkVolatile(&again)
	if !bytes.Equal(again.Output(), enc.Output()) {
		t.Fatalf("%x, then %x", enc.Output(), again.Output())
	}
	return got
}

func TestWalk(t *testing.T) {
	s := New()
	full := create(t, &s, true)
	full.Trial, full.DABound, full.LockoutBound = true, true, true
	full.NonceTPM, full.SessionKey, full.Bound = tpm2.Digest{1}, tpm2.Digest{2}, tpm2.Digest{3}
	full.StartTime, full.Epoch, full.AuthHash = 4, 5, tpm2.AlgSHA1
	full.Policy = Policy{Digest: make(tpm2.Digest, 20), CommandCode: tpm2.CCUnseal, Locality: 7, AuthValueNeeded: true,
		PasswordNeeded: true, PCRCounter: 1 << 40, Timeout: 9, PPRequired: true, CheckNVWritten: true, NVWritten: true,
		CPHash: tpm2.Digest{10}, NameHash: tpm2.Digest{11}, TemplateHash: tpm2.Digest{12}, ParametersHash: tpm2.Digest{13}}
	save(t, &s, usableSession(create(t, &s, false)).Handle)
	usableSession(create(t, &s, false))
	got := walk(t, &s)
	if p := &got.Get(full.Handle).Policy; p.PCRCounter != 1<<40 || !p.NVWritten || !p.AuthValueNeeded {
		t.Errorf("%+v", p)
	}
	empty := New()
	walk(t, &empty)
}

// usableSession gives a session what StartAuthSession gives every one.
func usableSession(s *Session) *Session {
	s.AuthHash, s.NonceTPM = tpm2.AlgSHA256, make(tpm2.Digest, 16)
	if s.IsPolicy() {
		s.Policy.Digest = make(tpm2.Digest, 32)
	}
	return s
}

// TestWalkRefuses decodes states that no TPM has.
func TestWalkRefuses(t *testing.T) {
	for name, change := range map[string]func(*State){
		"none of them":                       func(*State) {},
		"a loaded session of a free number":  func(s *State) { s.active[0] = slot{} },
		"a loaded session of a saved number": func(s *State) { s.active[0].state = saved },
		"two sessions of one number":         func(s *State) { s.Loaded[1].Handle = s.Loaded[0].Handle },
		"a number beyond the last":           func(s *State) { s.Loaded[0].Handle = tpm2.HMACSessionFirst + MaxActive },
		"another kind of handle":             func(s *State) { s.Loaded[0].Handle = tpm2.TransientFirst },
		"an unknown state":                   func(s *State) { s.active[3].state = 3 },
		"a context from the future":          func(s *State) { s.active[3] = slot{saved, s.next} },
		"the next context 0":                 func(s *State) { s.next = 0 },
		"the next context at the end of all": func(s *State) { s.next = 1<<64 - 1 },
		"no hash algorithm":                  func(s *State) { s.Loaded[0].AuthHash = tpm2.AlgNull },
		"no nonce":                           func(s *State) { s.Loaded[0].NonceTPM = nil },
		"a policy of another hash":           func(s *State) { s.Loaded[2].Policy.Digest = make(tpm2.Digest, 20) },
		"a loaded number without a session":  func(s *State) { s.active[7].state = loaded },
		"two contexts of one id":             func(s *State) { s.active[8], s.active[9] = slot{saved, 1}, slot{saved, 1} },
		"an exclusive session that is gone":  func(s *State) { s.Exclusive = tpm2.HMACSessionFirst + 5 },
		"an exclusive session beyond all":    func(s *State) { s.Exclusive = tpm2.HMACSessionFirst + MaxActive },
		"an exclusive object":                func(s *State) { s.Exclusive = tpm2.TransientFirst },
	} {
		s := New()
		usableSession(create(t, &s, false))
		usableSession(create(t, &s, false))
		usableSession(create(t, &s, true))
		change(&s)
		enc := tpm2.NewEncoder(nil)
		s.WalkState(&enc)
		s.WalkVolatile(&enc)
		var got State
		dec := tpm2.NewDecoder(enc.Output())
		got.WalkState(&dec)
		got.WalkVolatile(&dec)
		if taken := dec.RC() == tpm2.RCSuccess && enc.RC() == tpm2.RCSuccess; taken != (name == "none of them") {
			t.Errorf("%s: taken %v", name, taken)
		}
	}
}
