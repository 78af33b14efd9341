package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// handleKind is the TPMI type of a handle (Part 2, 9): which values it takes.
// All of them answer TPM_RC_VALUE for another one.
type handleKind uint8

const (
	anObject          handleKind = iota // TPMI_DH_OBJECT
	anObjectOrNull                      // TPMI_DH_OBJECT+
	aParentOrNull                       // TPMI_DH_PARENT+
	anEntity                            // TPMI_DH_ENTITY
	anEntityOrNull                      // TPMI_DH_ENTITY+
	aPCR                                // TPMI_DH_PCR
	aPCROrNull                          // TPMI_DH_PCR+
	aHierarchy                          // TPMI_RH_HIERARCHY
	aHierarchyOrNull                    // TPMI_RH_HIERARCHY+
	aHierarchyAuth                      // TPMI_RH_HIERARCHY_AUTH
	aHierarchyPolicy                    // TPMI_RH_HIERARCHY_POLICY
	aCountdown                          // TPMI_RH_ACT
	anEnable                            // TPMI_RH_ENABLES
	thePlatform                         // TPMI_RH_PLATFORM
	theEndorsement                      // TPMI_RH_ENDORSEMENT
	theLockout                          // TPMI_RH_LOCKOUT
	ownerOrPlatform                     // TPMI_RH_PROVISION
	lockoutOrPlatform                   // TPMI_RH_CLEAR
	nvAuth                              // TPMI_RH_NV_AUTH
	nvIndex                             // TPMI_RH_NV_INDEX
	anHMACSession                       // TPMI_SH_HMAC
	aPolicySession                      // TPMI_SH_POLICY
	aContext                            // TPMI_DH_CONTEXT
	aPersistent                         // TPMI_DH_PERSISTENT
)

// allows reports whether h is a value of the type.
func (k handleKind) allows(h tpm2.Handle) bool {
	switch k {
	case anObject:
		return isObject(h)
	case anObjectOrNull:
		return isObject(h) || h == tpm2.RHNull
	case aParentOrNull:
		return isObject(h) || isHierarchy(h) || h == tpm2.RHNull
	case anEntity:
		return isEntity(h)
	case anEntityOrNull:
		return isEntity(h) || h == tpm2.RHNull
	case aPCR:
		return isPCR(h)
	case aPCROrNull:
		return isPCR(h) || h == tpm2.RHNull
	case aHierarchy:
		return isHierarchy(h)
	case aHierarchyOrNull:
		return isHierarchy(h) || h == tpm2.RHNull
	case aHierarchyAuth:
		return isHierarchy(h) || h == tpm2.RHLockout
	case aHierarchyPolicy:
		return isHierarchy(h) || h == tpm2.RHLockout || isCountdown(h)
	case aCountdown:
		return isCountdown(h)
	case anEnable:
		return isHierarchy(h) || h == tpm2.RHPlatformNV
	case thePlatform:
		return h == tpm2.RHPlatform
	case theEndorsement:
		return h == tpm2.RHEndorsement
	case theLockout:
		return h == tpm2.RHLockout
	case ownerOrPlatform:
		return h == tpm2.RHOwner || h == tpm2.RHPlatform
	case lockoutOrPlatform:
		return h == tpm2.RHLockout || h == tpm2.RHPlatform
	case nvAuth:
		return h == tpm2.RHOwner || h == tpm2.RHPlatform || h.Type() == tpm2.HTNVIndex
	case nvIndex:
		return h.Type() == tpm2.HTNVIndex
	case anHMACSession:
		return h.Type() == tpm2.HTHMACSession && h.Index() < session.MaxActive
	case aPolicySession:
		return h.Type() == tpm2.HTPolicySession && h.Index() < session.MaxActive
	case aContext:
		return h.IsSession() && h.Index() < session.MaxActive || h.Type() == tpm2.HTTransient && isObject(h)
	case aPersistent:
		return h.Type() == tpm2.HTPersistent
	}
	return false
}

func isObject(h tpm2.Handle) bool {
	return h.Type() == tpm2.HTTransient && h.Index() < object.MaxTransient || h.Type() == tpm2.HTPersistent
}

func isPCR(h tpm2.Handle) bool { return h < tpm2.PCRCount }

func isHierarchy(h tpm2.Handle) bool {
	return h == tpm2.RHOwner || h == tpm2.RHEndorsement || h == tpm2.RHPlatform
}

func isEntity(h tpm2.Handle) bool {
	return isHierarchy(h) || h == tpm2.RHLockout || isObject(h) || isPCR(h) || h.Type() == tpm2.HTNVIndex
}

// handleParam is a handle of one kind in the parameter area.
type handleParam struct {
	kind handleKind
	tpm2.Handle
}

// Walk visits the handle; a value that the kind does not allow is
// TPM_RC_VALUE.
func (p *handleParam) Walk(c *tpm2.Codec) {
	p.Handle.Walk(c)
	if c.Decoding() && c.RC() == tpm2.RCSuccess && !p.kind.allows(p.Handle) {
		c.Fail(tpm2.RCValue)
	}
}

// resolve finds what the command's handles refer to: all of it must be in the
// TPM (EntityGetLoadStatus).
func (e *Engine) resolve(c *call) tpm2.RC {
	for i := range c.cmd.handles {
		if rc := e.resolveOne(c, i); rc != tpm2.RCSuccess {
			return rc.H(i + 1)
		}
	}
	return tpm2.RCSuccess
}

func (e *Engine) resolveOne(c *call, i int) tpm2.RC {
	h := c.handles[i]
	switch h.Type() {
	case tpm2.HTTransient:
		if c.objects[i] = e.state.objects.Get(h); c.objects[i] == nil {
			return tpm2.RCReferenceH0 + tpm2.RC(i)
		}
	case tpm2.HTPersistent:
		return e.resolvePersistent(c, i)
	case tpm2.HTHMACSession, tpm2.HTPolicySession:
		if _, rc := e.state.sessions.Find(h); rc == tpm2.RCReferenceH0 {
			return rc + tpm2.RC(i)
		} else if rc != tpm2.RCSuccess {
			return rc
		}
	case tpm2.HTNVIndex:
		if c.indices[i] = e.accessibleIndex(h); c.indices[i] == nil {
			return tpm2.RCHandle
		}
	case tpm2.HTPermanent:
		if h == tpm2.RHPlatformNV && !e.state.hierarchies.PlatformNV || !e.hierarchyOn(h) {
			return tpm2.RCHierarchy
		}
	}
	return tpm2.RCSuccess
}

// resolvePersistent finds a persistent object. As in the reference code, which
// works on a copy, it takes a transient slot until the command is done: the
// handles that a caller sees depend on it (ObjectLoadEvict).
func (e *Engine) resolvePersistent(c *call, i int) tpm2.RC {
	h := c.handles[i]
	if !e.hierarchyOn(keeperOf(h)) {
		return tpm2.RCHandle
	}
	if e.state.objects.Full() {
		return tpm2.RCObjectMemory
	}
	o := e.persistentObject(h, c.cmd.cc == tpm2.CCEvictControl)
	if o == nil {
		return tpm2.RCHandle
	}
	c.objects[i] = o
	copied, rc := e.state.objects.Add(o)
	c.copies[i] = copied
	return rc
}

// dropCopies frees the slots that the command's persistent objects have taken.
func (e *Engine) dropCopies(c *call) {
	for _, h := range c.copies {
		if h != 0 {
			e.state.objects.Flush(h)
		}
	}
}

// hierarchyOn reports whether the hierarchy of a permanent handle is enabled.
func (e *Engine) hierarchyOn(h tpm2.Handle) bool {
	x := e.state.hierarchies.Get(h)
	return x == nil || x.Enabled
}
