package tpm

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// accessibleIndex gives an NV Index that its hierarchy's enable lets one see
// (NvIndexIsAccessible), or nil.
func (e *Engine) accessibleIndex(h tpm2.Handle) *nv.Index {
	x := e.state.nv.Get(h)
	switch {
	case x == nil:
		return nil
	case x.Is(tpm2.NVPlatformCreate) && !e.state.hierarchies.PlatformNV:
		return nil
	case !x.Is(tpm2.NVPlatformCreate) && !e.state.hierarchies.Owner.Enabled:
		return nil
	}
	return x
}

// persistentObject gives a persistent object that the hierarchies' enables let
// one see (ObjectLoadEvict), or nil: the owner keeps the endorsement
// hierarchy's too, and may evict them while that is disabled.
func (e *Engine) persistentObject(h tpm2.Handle, evict bool) *object.Object {
	o := e.state.objects.Get(h)
	if o == nil || !e.hierarchyOn(keeperOf(h)) || !evict && !e.hierarchyOn(o.Hierarchy) {
		return nil
	}
	return o
}

// keeperOf is the hierarchy that makes a persistent handle available.
func keeperOf(h tpm2.Handle) tpm2.Handle {
	if h >= tpm2.PlatformPersistent {
		return tpm2.RHPlatform
	}
	return tpm2.RHOwner
}

// entityAuth is an entity's authorization value.
func (e *Engine) entityAuth(h tpm2.Handle) tpm2.Digest {
	switch h.Type() {
	case tpm2.HTPermanent:
		if isCountdown(h) {
			return e.state.hierarchies.Platform.Auth
		}
		if x := e.state.hierarchies.Get(h); x != nil && h != tpm2.RHNull {
			return x.Auth
		}
	case tpm2.HTTransient, tpm2.HTPersistent:
		if o := e.state.objects.Get(h); o != nil {
			return o.AuthValue()
		}
	case tpm2.HTNVIndex:
		if x := e.state.nv.Get(h); x != nil {
			return x.Auth
		}
	case tpm2.HTPCR:
		if pcr.Grouped(h.Index()) {
			return e.state.pcrs.Auth
		}
	}
	return nil
}

// entityPolicy is an entity's authorization policy and its hash algorithm.
func (e *Engine) entityPolicy(h tpm2.Handle) (tpm2.AlgID, tpm2.Digest) {
	switch h.Type() {
	case tpm2.HTPermanent:
		if isCountdown(h) {
			d := e.countdown(h)
			return d.PolicyAlg, d.Policy
		}
		if x := e.state.hierarchies.Get(h); x != nil && h != tpm2.RHNull {
			return x.PolicyAlg, x.Policy
		}
	case tpm2.HTTransient, tpm2.HTPersistent:
		if o := e.state.objects.Get(h); o != nil && o.Key != nil {
			return o.Public.NameAlg, o.Public.AuthPolicy
		}
	case tpm2.HTNVIndex:
		if x := e.state.nv.Get(h); x != nil {
			return x.Public.NameAlg, x.Public.AuthPolicy
		}
	case tpm2.HTPCR:
		if pcr.Grouped(h.Index()) {
			return e.state.pcrs.PolicyAlg, e.state.pcrs.Policy
		}
	}
	return tpm2.AlgNull, nil
}

// entityName is an entity's Name (Part 1, 16): a handle is its own.
func (e *Engine) entityName(h tpm2.Handle) tpm2.Name {
	switch h.Type() {
	case tpm2.HTTransient, tpm2.HTPersistent:
		if o := e.state.objects.Get(h); o != nil {
			return o.Name
		}
		return nil
	case tpm2.HTNVIndex:
		if x := e.state.nv.Get(h); x != nil {
			return x.Name
		}
		return nil
	}
	return binary.BigEndian.AppendUint32(nil, uint32(h))
}

// daExempt reports whether failures with the entity do not count towards
// lockout.
func (e *Engine) daExempt(h tpm2.Handle) bool {
	switch h.Type() {
	case tpm2.HTPermanent:
		return h != tpm2.RHLockout
	case tpm2.HTTransient, tpm2.HTPersistent:
		o := e.state.objects.Get(h)
		return o == nil || o.Sequence != nil || o.Is(tpm2.ObjNoDA)
	case tpm2.HTNVIndex:
		x := e.state.nv.Get(h)
		return x == nil || x.Is(tpm2.NVNoDA)
	}
	return true
}

// trimAuth takes the trailing zeros off an authorization value, as the TPM
// does wherever one comes in (Part 1, 19.6.4.3).
func trimAuth(a tpm2.Digest) tpm2.Digest {
	n := len(a)
	for n > 0 && a[n-1] == 0 {
		n--
	}
	return append(tpm2.Digest(nil), a[:n]...)
}
