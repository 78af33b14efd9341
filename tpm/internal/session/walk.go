package session

import (
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Walk visits a session: the form inside a suspended instance.
func (s *Session) Walk(c *tpm2.Codec) {
	s.Handle.Walk(c)
	InContext{s}.Walk(c)
}

// InContext is a session as a saved context holds it: without its handle, which
// is the context's own and must be set before decoding.
type InContext struct{ *Session }

// Walk visits the session's fields but for the handle.
func (s InContext) Walk(c *tpm2.Codec) {
	c.Bool(&s.Trial)
	c.HashAlg(&s.AuthHash, true)
	s.Symmetric.Walk(c)
	s.NonceTPM.Walk(c)
	s.SessionKey.Walk(c)
	s.Bound.Walk(c)
	c.Bool(&s.DABound)
	c.Bool(&s.LockoutBound)
	s.walkDigest(c)
	s.Policy.walk(c)
	c.U64(&s.StartTime)
	c.U32(&s.Epoch)
	if c.Decoding() {
		if s.Handle != 0 && !s.consistent() {
			c.Fail(tpm2.RCValue)
		}
		s.own()
	}
}

// consistent reports whether decoded fields are those of a session that
// StartAuthSession makes.
func (s *Session) consistent() bool {
	size := s.AuthHash.DigestSize()
	return s.Handle.IsSession() && size != 0 && len(s.NonceTPM) != 0 &&
		(!s.IsPolicy() || len(s.Policy.Digest) == size)
}

// walkDigest visits the digest of the policy or of the audit: a session has at
// most one of them, and a context little room.
func (s *Session) walkDigest(c *tpm2.Codec) {
	if s.IsPolicy() {
		s.Policy.Digest.Walk(c)
		return
	}
	s.AuditDigest.Walk(c)
	if n := len(s.AuditDigest); n != 0 && n != s.AuthHash.DigestSize() {
		c.Fail(tpm2.RCValue)
	}
}

// own copies the slices, which alias a decoder's input.
func (s *Session) own() {
	for _, d := range []*tpm2.Digest{&s.NonceTPM, &s.SessionKey, &s.Bound, &s.Policy.Digest, &s.AuditDigest,
		&s.CPHash, &s.NameHash, &s.TemplateHash, &s.ParametersHash} {
		*d = append(tpm2.Digest(nil), *d...)
	}
}

// walk visits the policy but for its digest.
func (p *Policy) walk(c *tpm2.Codec) {
	p.CommandCode.Walk(c)
	p.Locality.Walk(c)
	walkFlags(c, &p.AuthValueNeeded, &p.PasswordNeeded, &p.PPRequired, &p.CheckNVWritten, &p.NVWritten)
	c.U64(&p.PCRCounter)
	c.U64(&p.Timeout)
	for _, d := range []*tpm2.Digest{&p.CPHash, &p.NameHash, &p.TemplateHash, &p.ParametersHash} {
		d.Walk(c)
	}
}

// walkFlags visits at most 8 flags in one byte, since a context has little room.
func walkFlags(c *tpm2.Codec, flags ...*bool) {
	var b uint8
	for i, f := range flags {
		if *f {
			b |= 1 << i
		}
	}
	c.U8(&b)
	if b>>len(flags) != 0 {
		c.Fail(tpm2.RCValue)
	}
	for i, f := range flags {
		*f = b&(1<<i) != 0
	}
}

// MaxNext is the largest id of a next context: with it none is saved any more, so
// that ids never wrap. No TPM lives to see it.
const MaxNext = 1<<63 - 1

// WalkState visits what Shutdown(STATE) saves: which contexts may be loaded.
// A loaded session counts as ended there; Startup sees to it.
func (s *State) WalkState(c *tpm2.Codec) {
	c.U64(&s.next)
	for i := range s.active {
		a := &s.active[i]
		c.U8((*uint8)(&a.state))
		c.U64(&a.id)
		if a.state > saved || a.state == saved && (a.id >= s.next || slices.Contains(s.active[:i], *a)) {
			c.Fail(tpm2.RCValue)
		}
	}
	if s.next == 0 || s.next > MaxNext {
		c.Fail(tpm2.RCValue)
	}
}

// freeSession stands for a slot without a session.
var freeSession = Session{AuthHash: tpm2.AlgNull, Symmetric: tpm2.SymDef{Alg: tpm2.AlgNull}}

// WalkVolatile visits what a suspended instance needs besides: the loaded
// sessions, and which of them is exclusive.
func (s *State) WalkVolatile(c *tpm2.Codec) {
	s.Exclusive.Walk(c)
	if h := s.Exclusive; h != 0 && (!h.IsSession() || h.Index() >= MaxActive || s.active[h.Index()].state == free) {
		c.Fail(tpm2.RCValue)
	}
	var seen [MaxActive]bool
	for i := range s.Loaded {
		sess := s.Loaded[i]
		if !c.Decoding() && sess.Handle == 0 {
			sess = freeSession
		}
		sess.Walk(c)
		if !c.Decoding() {
			continue
		}
		switch h := sess.Handle; {
		case h == 0:
			sess = Session{}
		case !h.IsSession() || h.Index() >= MaxActive || s.active[h.Index()].state != loaded || seen[h.Index()]:
			c.Fail(tpm2.RCValue)
			return
		default:
			seen[h.Index()] = true
		}
		s.Loaded[i] = sess
	}
	for i := range s.active {
		if c.Decoding() && s.active[i].state == loaded && !seen[i] {
			c.Fail(tpm2.RCValue)
		}
	}
}
