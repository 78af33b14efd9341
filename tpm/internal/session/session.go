// Package session holds the authorization sessions (Part 1, 19): those
// loaded, and which contexts of saved ones may still be loaded.
package session

import "github.com/ashlar-cloud/ashlar/tpm2"

// Limits of the table (libtpms 0.9.2).
const (
	MaxLoaded  = 3      // sessions in the TPM at a time
	MaxActive  = 64     // sessions loaded or saved
	ContextGap = 0xFFFF // distance between the oldest saved context and the next
	MaxContext = 404    // bytes of the largest saved context (TPM_PT_MAX_SESSION_CONTEXT)
)

// Session is one loaded session. Slices are replaced, never changed in place,
// so that a copy of a State is a snapshot.
type Session struct {
	Handle     tpm2.Handle // 0: the slot is free
	Trial      bool
	AuthHash   tpm2.AlgID
	Symmetric  tpm2.SymDef
	NonceTPM   tpm2.Digest
	SessionKey tpm2.Digest

	// Bound identifies the entity and authorization value that the session is
	// bound to; empty if it is not.
	Bound        tpm2.Digest
	DABound      bool // bound to a protected entity
	LockoutBound bool // bound to lockoutAuth

	Policy
	// AuditDigest is that of the commands audited in the session, empty where it
	// is no audit session.
	AuditDigest tpm2.Digest
	// StartTime is Time when the policy began, in milliseconds.
	StartTime uint64
	Epoch     uint32
}

// Policy is what the policy commands gather in a session.
type Policy struct {
	Digest          tpm2.Digest
	CommandCode     tpm2.CC // 0: any
	Locality        tpm2.Locality
	AuthValueNeeded bool
	PasswordNeeded  bool
	PCRCounter      uint64 // of the PCRs when PolicyPCR ran; 0: never
	Timeout         uint64 // Time in milliseconds; 0: none
	PPRequired      bool
	CheckNVWritten  bool
	NVWritten       bool
	CPHash          tpm2.Digest
	NameHash        tpm2.Digest
	TemplateHash    tpm2.Digest
	ParametersHash  tpm2.Digest
}

// IsPolicy reports whether the session has a policy digest.
func (s *Session) IsPolicy() bool { return s.Handle.Type() == tpm2.HTPolicySession }

// IsAudit reports whether commands have been audited in the session.
func (s *Session) IsAudit() bool { return len(s.AuditDigest) != 0 }

// StartAudit begins the audit anew. An audit session is bound to nothing.
func (s *Session) StartAudit() {
	s.AuditDigest = make(tpm2.Digest, s.AuthHash.DigestSize())
	s.Bound = nil
}

// ResetPolicy begins the policy anew, in the time that it has run.
func (s *Session) ResetPolicy() {
	s.Policy = Policy{Digest: make(tpm2.Digest, s.AuthHash.DigestSize())}
}

// StartPolicy begins the policy anew at time now, as every use of the session
// does that leaves it loaded.
func (s *Session) StartPolicy(now uint64, epoch uint32) {
	s.ResetPolicy()
	s.StartTime, s.Epoch = now, epoch
}

// ConstrainsParameters reports whether one of the hashes that share a field in
// the reference code is set: they exclude each other.
func (p *Policy) ConstrainsParameters() bool {
	return len(p.CPHash) != 0 || len(p.NameHash) != 0 || len(p.TemplateHash) != 0 || len(p.ParametersHash) != 0
}

// ParametersConstraint is the one of these hashes that is set, or nil.
func (p *Policy) ParametersConstraint() tpm2.Digest {
	for _, d := range []tpm2.Digest{p.CPHash, p.NameHash, p.TemplateHash, p.ParametersHash} {
		if len(d) != 0 {
			return d
		}
	}
	return nil
}

// ConstrainParameters sets CPHash. Those of these hashes that are set already
// stay set and get the value, as in the reference code, which keeps one value
// and what it stands for: they differ only in a trial session, which checks
// nothing.
func (p *Policy) ConstrainParameters(cpHash tpm2.Digest) {
	for _, d := range []*tpm2.Digest{&p.CPHash, &p.NameHash, &p.TemplateHash, &p.ParametersHash} {
		if d == &p.CPHash || len(*d) != 0 {
			*d = append(tpm2.Digest(nil), cpHash...)
		}
	}
}

// slot says where an active session is.
type slot struct {
	state slotState
	id    uint64 // saved: the context's id
}

type slotState uint8

const (
	free slotState = iota
	loaded
	saved
)

// State is all sessions.
type State struct {
	Loaded [MaxLoaded]Session
	active [MaxActive]slot
	next   uint64 // id of the next saved context

	// Exclusive is the audit session that has audited every command since its
	// audit began, or 0.
	Exclusive tpm2.Handle
}

// firstContext is the id of the first saved context, as in libtpms: above the
// numbers by which it marks the loaded sessions.
const firstContext = MaxLoaded + 1

// New is the state after a TPM Reset.
func New() State { return State{next: firstContext} }

// Get gives a loaded session, or nil.
func (s *State) Get(h tpm2.Handle) *Session {
	if !h.IsSession() {
		return nil
	}
	for i := range s.Loaded {
		if s.Loaded[i].Handle == h {
			return &s.Loaded[i]
		}
	}
	return nil
}

// Find gives a loaded session, or TPM_RC_REFERENCE_H0 where none has the
// handle's number, or TPM_RC_HANDLE where the one that has it is of the other
// type.
func (s *State) Find(h tpm2.Handle) (*Session, tpm2.RC) {
	if sess := s.Get(h); sess != nil {
		return sess, tpm2.RCSuccess
	}
	if h.IsSession() && h.Index() < MaxActive && s.active[h.Index()].state == loaded {
		return nil, tpm2.RCHandle
	}
	return nil, tpm2.RCReferenceH0
}

// oldest gives the id of the oldest saved context.
func (s *State) oldest() (id uint64, ok bool) {
	for i := range s.active {
		if a := &s.active[i]; a.state == saved && (!ok || a.id < id) {
			id, ok = a.id, true
		}
	}
	return id, ok
}

// gapFull reports whether saving another context would leave the oldest one
// behind.
func (s *State) gapFull() bool {
	id, ok := s.oldest()
	return ok && s.next-id > ContextGap
}

func (s *State) freeSlot() (sess *Session, last bool) {
	n := 0
	for i := range s.Loaded {
		if s.Loaded[i].Handle == 0 {
			if sess == nil {
				sess = &s.Loaded[i]
			}
			n++
		}
	}
	return sess, n == 1
}

// Create takes a free slot for a session of a type. It gives
// TPM_RC_SESSION_HANDLES, TPM_RC_SESSION_MEMORY or TPM_RC_CONTEXT_GAP where
// there is none.
func (s *State) Create(policy bool) (*Session, tpm2.RC) {
	sess, last := s.freeSlot()
	if sess == nil {
		return nil, tpm2.RCSessionMemory
	}
	// The last slot is kept for the oldest context when the gap is full: else
	// nothing could be loaded and the TPM would be stuck.
	if last && s.gapFull() {
		return nil, tpm2.RCContextGap
	}
	for i := range s.active {
		if s.active[i].state != free {
			continue
		}
		s.active[i] = slot{state: loaded}
		first := tpm2.HMACSessionFirst
		if policy {
			first = tpm2.PolicySessionFirst
		}
		*sess = Session{Handle: first + tpm2.Handle(i)}
		return sess, tpm2.RCSuccess
	}
	return nil, tpm2.RCSessionHandles
}

// Flush ends a session, loaded or saved, and reports whether there was one. As
// in the reference code, its number alone says which, not its type: a saved one
// is listed without.
func (s *State) Flush(h tpm2.Handle) bool {
	if !h.IsSession() || h.Index() >= MaxActive || s.active[h.Index()].state == free {
		return false
	}
	if s.Exclusive.Index() == h.Index() {
		s.Exclusive = 0
	}
	for i := range s.Loaded {
		if l := &s.Loaded[i]; l.Handle != 0 && l.Handle.Index() == h.Index() {
			*l = Session{}
		}
	}
	s.active[h.Index()] = slot{}
	return true
}

// Save marks a loaded session as saved, frees its slot and gives the id of its
// context. It gives TPM_RC_CONTEXT_GAP where the oldest one is too far behind, and
// TPM_RC_TOO_MANY_CONTEXTS where no id is left.
func (s *State) Save(h tpm2.Handle) (id uint64, rc tpm2.RC) {
	sess := s.Get(h)
	if sess == nil {
		return 0, tpm2.RCReferenceH0
	}
	if s.gapFull() {
		return 0, tpm2.RCContextGap
	}
	if s.next >= MaxNext {
		return 0, tpm2.RCTooManyContexts
	}
	id = s.next
	if s.next++; s.next&ContextGap == 0 {
		s.next += firstContext // the low bits tell contexts from loaded sessions there
	}
	s.active[h.Index()] = slot{saved, id}
	*sess = Session{}
	return id, tpm2.RCSuccess
}

// SavedID gives the id of the saved context of a handle's number.
func (s *State) SavedID(h tpm2.Handle) (id uint64, ok bool) {
	if !h.IsSession() || h.Index() >= MaxActive {
		return 0, false
	}
	a := s.active[h.Index()]
	return a.id, a.state == saved
}

// Restore loads the context of a saved session. The caller has checked that
// its id is the one that SavedID gives.
func (s *State) Restore(sess Session) tpm2.RC {
	at, last := s.freeSlot()
	if at == nil {
		return tpm2.RCSessionMemory
	}
	id, _ := s.SavedID(sess.Handle)
	if oldest, ok := s.oldest(); last && ok && s.gapFull() && id != oldest {
		return tpm2.RCContextGap
	}
	s.active[sess.Handle.Index()] = slot{state: loaded}
	*at = sess
	return tpm2.RCSuccess
}

// Handles lists the loaded or the saved sessions in ascending order of number.
// A saved session is listed as an HMAC session, as its type is in its context.
func (s *State) Handles(wantLoaded bool) (list []tpm2.Handle) {
	for i, a := range s.active {
		switch {
		case wantLoaded && a.state == loaded:
			h := tpm2.HMACSessionFirst + tpm2.Handle(i)
			if s.Get(h) == nil {
				h = tpm2.PolicySessionFirst + tpm2.Handle(i)
			}
			list = append(list, h)
		case !wantLoaded && a.state == saved:
			list = append(list, tpm2.HMACSessionFirst+tpm2.Handle(i))
		}
	}
	return list
}

// Counts gives the number of loaded and of active sessions.
func (s *State) Counts() (inTPM, active int) {
	for i := range s.active {
		if s.active[i].state != free {
			active++
		}
		if s.active[i].state == loaded {
			inTPM++
		}
	}
	return inTPM, active
}

// Startup ends the loaded sessions, and at a TPM Reset the saved ones too.
func (s *State) Startup(reset bool) {
	if reset {
		*s = New()
		return
	}
	s.Loaded, s.Exclusive = [MaxLoaded]Session{}, 0
	for i := range s.active {
		if s.active[i].state == loaded {
			s.active[i] = slot{}
		}
	}
}
