package tpm

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

func evictCmd(auth, h, persistent tpm2.Handle) []byte {
	return frame(tpm2.CCEvictControl, []tpm2.Handle{auth, h}, password(""), u32(uint32(persistent)))
}

func readPublicCmd(h tpm2.Handle) []byte {
	return frame(tpm2.CCReadPublic, []tpm2.Handle{h}, nil)
}

// TestEvictControlIsTheReferences tries EvictControl of all kinds of objects by
// either authorization, and compares the answers with swtpm's.
func TestEvictControlIsTheReferences(t *testing.T) {
	const own, platform = tpm2.Handle(0x81000001), tpm2.Handle(0x81800001)
	p := newTwins(t)
	stClear := eccSRK
	stClear.Attributes |= tpm2.ObjSTClear
	public := eccKey(signingKey, schemeOf(tpm2.AlgNull), tpm2.CurveP256)
	key := newKey(t, public)
	public.Point = key.Public.Point
	for _, c := range []struct {
		name string
		load []byte
	}{
		{"owner's", createPrimaryCmd(tpm2.RHOwner, &eccSRK, "")},
		{"endorsement's", createPrimaryCmd(tpm2.RHEndorsement, &eccSRK, "")},
		{"platform's", createPrimaryCmd(tpm2.RHPlatform, &eccSRK, "")},
		{"stClear", createPrimaryCmd(tpm2.RHOwner, &stClear, "")},
		{"null", createPrimaryCmd(tpm2.RHNull, &eccSRK, "")},
		{"external", loadExternalCmd(&public, key.Sensitive, tpm2.RHNull)},
		{"public", loadExternalCmd(&public, nil, tpm2.RHOwner)},
		{"sequence", frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA256)))},
	} {
		p.sameCode(c.name, c.load, false)
		const transient = tpm2.TransientFirst
		for _, auth := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHPlatform, tpm2.RHEndorsement} {
			for _, h := range []tpm2.Handle{own, platform, 0x81FFFFFF, 0x81000000, transient, 0x82000000} {
				what := fmt.Sprintf("%s object to 0x%x by 0x%x", c.name, uint32(h), uint32(auth))
				p.same(what, evictCmd(auth, transient, h))
				p.same(what+", again", evictCmd(auth, transient, h))
				p.sameCode(what+", read", readPublicCmd(h), false)
				for _, by := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHPlatform} {
					p.same(what+", evict another", evictCmd(by, h, h+1))
					p.same(what+", evict", evictCmd(by, h, h))
				}
			}
		}
		p.expect(tpm2.RCSuccess, c.name, flushCmd(transient))
	}
}

// TestPersistentObjectsFillNV keeps objects until there is no room.
func TestPersistentObjectsFillNV(t *testing.T) {
	p := newTwins(t)
	p.expect(tpm2.RCSuccess, "SRK", createPrimaryCmd(tpm2.RHOwner, &eccSRK, ""))
	n := 0
	for code(p.same("EvictControl", evictCmd(tpm2.RHOwner, tpm2.TransientFirst, 0x81000000+tpm2.Handle(n)))) == tpm2.RCSuccess {
		n++
	}
	p.expect(tpm2.RCNVSpace, "no room", evictCmd(tpm2.RHOwner, tpm2.TransientFirst, 0x81000FFF))
	p.expect(tpm2.RCSuccess, "evict", evictCmd(tpm2.RHOwner, 0x81000003, 0x81000003))
	p.expect(tpm2.RCSuccess, "room again", evictCmd(tpm2.RHOwner, tpm2.TransientFirst, 0x81000FFF))
	if len(p.e.state.objects.Persistent) != n || n != 65 {
		t.Errorf("%d objects, after %d", len(p.e.state.objects.Persistent), n)
	}
	p.power(p.durable)
	if len(p.e.state.objects.Persistent) != n {
		t.Errorf("%d objects after a power cycle", len(p.e.state.objects.Persistent))
	}
}

// TestPersistentObjectOutlivesPower uses a persistent parent after a power cut,
// and once it is evicted there is none.
func TestPersistentObjectOutlivesPower(t *testing.T) {
	const h = tpm2.Handle(0x81000001)
	r := newRig(t, true)
	parent := r.create(tpm2.RHOwner, eccSRK)
	r.must(tpm2.RCSuccess, tpm2.CCEvictControl, []tpm2.Handle{tpm2.RHOwner, parent}, password(""), u32(uint32(h)))
	public := r.must(tpm2.RCSuccess, tpm2.CCReadPublic, []tpm2.Handle{parent}, nil)
	r.flush(parent)
	private, area := r.createChild(h, hmacKey(tpm2.ObjUserWithAuth, schemeOf(tpm2.AlgNull)), "data")
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	if got := r.must(tpm2.RCSuccess, tpm2.CCReadPublic, []tpm2.Handle{h}, nil); !bytes.Equal(got, public) {
		t.Errorf("another object: %x", got)
	}
	r.must(tpm2.RCSuccess, tpm2.CCLoad, []tpm2.Handle{h}, password(""), private, area)
	r.must(tpm2.RCSuccess, tpm2.CCEvictControl, []tpm2.Handle{tpm2.RHOwner, h}, password(""), u32(uint32(h)))
	r.must(tpm2.RCHandle.H(1), tpm2.CCReadPublic, []tpm2.Handle{h}, nil)
	r.power(r.durable)
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	r.must(tpm2.RCHandle.H(1), tpm2.CCReadPublic, []tpm2.Handle{h}, nil)
}

// TestSuspendWithObjects suspends with every kind of object and goes on.
func TestSuspendWithObjects(t *testing.T) {
	r := newRig(t, true)
	parent := r.create(tpm2.RHNull, eccSRK)
	private, area := r.createChild(parent, hmacKey(tpm2.ObjUserWithAuth, schemeOf(tpm2.AlgNull)), "data")
	sequence := r.must(tpm2.RCSuccess, tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA256)))
	public := eccKey(signingKey, schemeOf(tpm2.AlgNull), tpm2.CurveP256)
	public.Point = newKey(t, public).Public.Point
	r.execute(loadExternalCmd(&public, nil, tpm2.RHOwner))
	permanent, volatile := r.e.Permanent(), r.e.SaveVolatile()
	e, err := Resume(r.cfg, permanent, volatile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(e.SaveVolatile(), volatile) {
		t.Fatal("the resumed TPM differs")
	}
	r.e = e
	r.must(tpm2.RCObjectMemory, tpm2.CCLoad, []tpm2.Handle{parent}, password(""), private, area)
	r.must(tpm2.RCSuccess, tpm2.CCSequenceComplete, []tpm2.Handle{0x80000001}, password(""), buf16(nil), u32(uint32(tpm2.RHNull)))
	if len(sequence) != 4 {
		t.Fatalf("%x", sequence)
	}
	r.must(tpm2.RCSuccess, tpm2.CCLoad, []tpm2.Handle{parent}, password(""), private, area)
}

// TestPersistentObjectTakesSlot uses a persistent object while there is a slot
// free, and not: libtpms works on a copy in a slot, which shows in the handles.
func TestPersistentObjectTakesSlot(t *testing.T) {
	const persistent = tpm2.Handle(0x81000001)
	p := newTwins(t)
	key := hmacKey(signingKey, schemeOf(tpm2.AlgHMAC))
	sequence := frame(tpm2.CCHMACStart, []tpm2.Handle{persistent}, password(""), buf16(nil), u16(uint16(tpm2.AlgNull)))
	p.expect(tpm2.RCSuccess, "CreatePrimary", createPrimaryCmd(tpm2.RHOwner, &key, ""))
	p.expect(tpm2.RCSuccess, "EvictControl", evictCmd(tpm2.RHOwner, tpm2.TransientFirst, persistent))
	p.expect(tpm2.RCSuccess, "with one slot taken", sequence)
	p.expect(tpm2.RCObjectMemory, "with two slots taken", sequence)
	p.expect(tpm2.RCSuccess, "with two slots taken, read", readPublicCmd(persistent))
	p.expect(tpm2.RCHandle.H(1), "with two slots taken, another", readPublicCmd(persistent+1))
	p.expect(tpm2.RCSuccess, "a third", frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA256))))
	p.expect(tpm2.RCObjectMemory, "with no slot free, read", readPublicCmd(persistent))
	p.expect(tpm2.RCObjectMemory, "with no slot free, another", readPublicCmd(persistent+1))
	p.expect(tpm2.RCSuccess, "Flush", flushCmd(tpm2.TransientFirst))
	p.expect(tpm2.RCSuccess, "with one slot free, read", readPublicCmd(persistent))
}
