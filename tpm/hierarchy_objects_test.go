package tpm

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// saveBoth saves an object's context on each and gives the commands that load
// them.
func (p *pair) saveBoth(h tpm2.Handle) (ours, theirs []byte) {
	p.t.Helper()
	load := func(resp []byte) []byte {
		if code(resp) != tpm2.RCSuccess {
			p.t.Fatalf("ContextSave: %v", code(resp))
		}
		return frame(tpm2.CCContextLoad, nil, nil, resp[headerSize:])
	}
	cmd := frame(tpm2.CCContextSave, []tpm2.Handle{h}, nil)
	return load(p.execute(cmd)), load(p.o.execute(cmd))
}

// loadBoth loads contexts on each; the codes must be the same.
func (p *pair) loadBoth(what string, ours, theirs []byte) {
	p.t.Helper()
	a, b := p.execute(ours), p.o.execute(theirs)
	if code(a) != code(b) {
		p.t.Errorf("%s: ContextLoad: ours %v, swtpm %v", what, code(a), code(b))
	}
	p.flushLoaded(a, p.execute)
	p.flushLoaded(b, p.o.execute)
}

// TestDisabledHierarchies uses the objects of each hierarchy, transient, saved
// and persistent, while each is disabled.
func TestDisabledHierarchies(t *testing.T) {
	hierarchies := []tpm2.Handle{tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform}
	for _, disabled := range hierarchies {
		p := newTwins(t)
		var saved [3][2][]byte
		persistent := []tpm2.Handle{0x81000001, 0x81000002, 0x81800001}
		for i, h := range hierarchies {
			p.expect(tpm2.RCSuccess, "CreatePrimary", createPrimaryCmd(h, &eccSRK, ""))
			saved[i][0], saved[i][1] = p.saveBoth(tpm2.TransientFirst)
			by := tpm2.RHOwner
			if h == tpm2.RHPlatform {
				by = h
			}
			p.expect(tpm2.RCSuccess, "EvictControl", evictCmd(by, tpm2.TransientFirst, persistent[i]))
			p.expect(tpm2.RCSuccess, "FlushContext", flushCmd(tpm2.TransientFirst))
		}
		control := tpm2.RHPlatform
		p.expect(tpm2.RCSuccess, "HierarchyControl", frame(tpm2.CCHierarchyControl, []tpm2.Handle{control}, password(""),
			u32(uint32(disabled)), []byte{0}))
		public := eccKey(signingKey, schemeOf(tpm2.AlgNull), tpm2.CurveP256)
		public.Point = newKey(t, public).Public.Point
		for i, h := range hierarchies {
			what := fmt.Sprintf("0x%x while 0x%x is disabled", uint32(h), uint32(disabled))
			p.loadBoth(what, saved[i][0], saved[i][1])
			p.sameCode(what+": CreatePrimary", createPrimaryCmd(h, &eccSRK, ""), true)
			p.sameCode(what+": LoadExternal", loadExternalCmd(&public, nil, h), true)
			p.same(what+": ReadPublic", readPublicCmd(persistent[i]))
			p.same(what+": EvictControl by owner", evictCmd(tpm2.RHOwner, persistent[i], persistent[i]))
			p.same(what+": EvictControl by platform", evictCmd(tpm2.RHPlatform, persistent[i], persistent[i]))
		}
	}
}

// TestClearEndsObjects clears the owner, which ends its objects, those of the
// endorsement hierarchy and what is below them, but not the platform's.
func TestClearEndsObjects(t *testing.T) {
	p := newTwins(t)
	var saved [4][2][]byte
	hierarchies := []tpm2.Handle{tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHNull}
	for i, h := range hierarchies {
		p.sameCode("CreatePrimary", createPrimaryCmd(h, &eccSRK, ""), false)
		saved[i][0], saved[i][1] = p.saveBoth(tpm2.TransientFirst)
		p.sameCode("EvictControl", evictCmd(tpm2.RHOwner, tpm2.TransientFirst, 0x81000000+tpm2.Handle(i)), false)
		p.expect(tpm2.RCSuccess, "FlushContext", flushCmd(tpm2.TransientFirst))
	}
	for _, h := range hierarchies[:3] {
		p.expect(tpm2.RCSuccess, "CreatePrimary", createPrimaryCmd(h, &eccSRK, ""))
	}
	p.expect(tpm2.RCSuccess, "Clear", frame(tpm2.CCClear, []tpm2.Handle{tpm2.RHLockout}, password("")))
	for i := range hierarchies {
		p.same("ReadPublic", readPublicCmd(tpm2.TransientFirst+tpm2.Handle(i)))
		p.same("ReadPublic", readPublicCmd(0x81000000+tpm2.Handle(i)))
		p.loadBoth(fmt.Sprintf("after Clear, 0x%x", uint32(hierarchies[i])), saved[i][0], saved[i][1])
	}
}

// TestManyObjectContexts swaps more objects than there are slots, as resource
// managers do.
func TestManyObjectContexts(t *testing.T) {
	r := newRig(t, true)
	var contexts, publics [][]byte
	for i := range 8 {
		template := eccSRK
		template.Point.X = []byte{byte(i)}
		h := r.create(tpm2.RHOwner, template)
		publics = append(publics, r.must(tpm2.RCSuccess, tpm2.CCReadPublic, []tpm2.Handle{h}, nil))
		contexts = append(contexts, r.saveContext(h))
		r.flush(h)
	}
	for i := range 3 * len(contexts) {
		n := i * 5 % len(contexts)
		body := r.must(tpm2.RCSuccess, tpm2.CCContextLoad, nil, nil, contexts[n])
		h := tpm2.Handle(binary.BigEndian.Uint32(body))
		if got := r.must(tpm2.RCSuccess, tpm2.CCReadPublic, []tpm2.Handle{h}, nil); string(got) != string(publics[n]) {
			t.Fatalf("context %d loads another object", n)
		}
		contexts[n] = r.saveContext(h)
		r.flush(h)
	}
}
