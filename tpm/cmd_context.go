package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// contextCommands are those of Part 3, 28. How a context is protected is in
// context.go.
var contextCommands = []command{
	define(command{cc: tpm2.CCContextSave, noSessions: true,
		handles: []handle{{"saveHandle", aContext, authNone}},
	}, (*Engine).contextSave),
	define(command{cc: tpm2.CCContextLoad, noSessions: true, retHandle: true, padded: true}, (*Engine).contextLoad),
	define(command{cc: tpm2.CCFlushContext, noSessions: true}, (*Engine).flushContext),
	define(command{cc: tpm2.CCEvictControl, pp: true, attrs: tpm2.CCAttrNV,
		handles: []handle{{"auth", ownerOrPlatform, authUser}, {"objectHandle", anObject, authNone}},
	}, (*Engine).evictControl),
}

// savedContext is the parameter of ContextLoad and what ContextSave gives.
type savedContext struct{ tpm2.Context }

// Walk visits the parameter.
func (p *savedContext) Walk(c *tpm2.Codec) { c.Param(&p.Context) }

// The savedHandle of an object's context tells its kind (Part 2, 14.5).
const (
	savedObject   = tpm2.TransientFirst
	savedSequence = tpm2.TransientFirst + 1
	savedSTClear  = tpm2.TransientFirst + 2
)

// contextSave is TPM2_ContextSave (Part 3, 28.2).
func (e *Engine) contextSave(c *call, _ *none, out *savedContext) tpm2.RC {
	c.endsShutdown = true
	x := &out.Context
	h := c.handles[0]
	o := c.objects[0]
	if o == nil {
		sess := *e.state.sessions.Get(h)
		id, rc := e.state.sessions.Save(h)
		if rc != tpm2.RCSuccess {
			return rc
		}
		x.Sequence, x.SavedHandle, x.Hierarchy = id, h, tpm2.Hierarchy(tpm2.RHNull)
		e.sealContext(x, session.InContext{Session: &sess})
		return tpm2.RCSuccess
	}
	if e.state.objectCount >= session.MaxNext {
		return tpm2.RCTooManyContexts
	}
	e.state.objectCount++
	x.Sequence, x.SavedHandle, x.Hierarchy = e.state.objectCount, savedObject, tpm2.Hierarchy(o.Hierarchy)
	switch {
	case o.Sequence != nil:
		x.SavedHandle = savedSequence
	case o.STClear:
		x.SavedHandle = savedSTClear
	}
	e.sealContext(x, o)
	return tpm2.RCSuccess
}

// contextLoad is TPM2_ContextLoad (Part 3, 28.3). An object's context may be
// loaded any number of times, a session's once.
func (e *Engine) contextLoad(c *call, in *savedContext, _ *none) tpm2.RC {
	x := &in.Context
	if x.SavedHandle.IsSession() {
		return e.loadSession(c, x)
	}
	o := new(object.Object)
	if rc := e.openContext(x, o); rc != tpm2.RCSuccess {
		if o = e.foreignObject(x); o == nil {
			return rc
		}
	}
	if !e.hierarchyOn(o.Hierarchy) {
		return tpm2.RCHierarchy.P(1)
	}
	var rc tpm2.RC
	c.handle, rc = e.state.objects.Add(o)
	return rc
}

func (e *Engine) loadSession(c *call, x *tpm2.Context) tpm2.RC {
	sess := session.Session{Handle: x.SavedHandle}
	if rc := e.openContext(x, session.InContext{Session: &sess}); rc != tpm2.RCSuccess {
		var foreign bool
		if sess, foreign = e.foreignSession(x); !foreign {
			return rc
		}
	}
	c.endsShutdown, c.evenFailed = true, true // before what follows is checked, as in libtpms
	if id, ok := e.state.sessions.SavedID(x.SavedHandle); !ok || id != x.Sequence {
		return tpm2.RCHandle.P(1)
	}
	c.handle = sess.Handle
	return e.state.sessions.Restore(sess)
}

type flushContextIn struct{ flushHandle handleParam }

// Walk visits the parameter.
func (p *flushContextIn) Walk(c *tpm2.Codec) {
	p.flushHandle.kind = aContext
	c.Param(&p.flushHandle)
}

// flushContext is TPM2_FlushContext (Part 3, 28.4).
func (e *Engine) flushContext(_ *call, in *flushContextIn, _ *none) tpm2.RC {
	h := in.flushHandle.Handle
	if !e.state.objects.Flush(h) && !e.state.sessions.Flush(h) {
		return tpm2.RCHandle.P(1)
	}
	return tpm2.RCSuccess
}

type evictControlIn struct{ persistentHandle handleParam }

// Walk visits the parameter.
func (p *evictControlIn) Walk(c *tpm2.Codec) {
	p.persistentHandle.kind = aPersistent
	c.Param(&p.persistentHandle)
}

// evictControl is TPM2_EvictControl (Part 3, 28.5): it keeps a transient
// object, or takes a persistent one away.
func (e *Engine) evictControl(c *call, in *evictControlIn, _ *none) tpm2.RC {
	o, objects := c.objects[1], &e.state.objects
	h := in.persistentHandle.Handle
	persistent := c.handles[1].Type() == tpm2.HTPersistent
	if !o.CanPersist() {
		return tpm2.RCAttributes.H(2)
	}
	if persistent && c.handles[1] != h {
		return tpm2.RCHandle.H(2)
	}
	// The platform may take away any object, the owner not the platform's; each
	// keeps only its own, in its own range.
	platform := c.handles[0] == tpm2.RHPlatform
	own := platform == (o.Hierarchy == tpm2.RHPlatform)
	if !own && !(platform && persistent) {
		return tpm2.RCHierarchy.H(2)
	}
	if !persistent && platform != (h >= tpm2.PlatformPersistent) {
		return tpm2.RCRange.P(1)
	}
	c.persist()
	if persistent {
		objects.Evict(h)
		return tpm2.RCSuccess
	}
	if objects.Get(h) != nil {
		return tpm2.RCNVDefined
	}
	if !e.state.nv.FitsObject(len(objects.Persistent)) {
		return tpm2.RCNVSpace
	}
	objects.Persist(h, o)
	return tpm2.RCSuccess
}
