package object

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func template(kind tpm2.AlgID, attrs tpm2.ObjectAttributes) *tpm2.Public {
	null := tpm2.Scheme{Alg: tpm2.AlgNull}
	pub := &tpm2.Public{NameAlg: tpm2.AlgSHA256, Attributes: attrs, AuthPolicy: tpm2.Digest{},
		PublicParms: tpm2.PublicParms{Type: kind, Scheme: null}}
	if kind == tpm2.AlgECC {
		pub.Curve, pub.KDF, pub.Symmetric = tpm2.CurveP256, null, tpm2.SymDef{Alg: tpm2.AlgNull}
		if attrs.Has(tpm2.ObjRestricted | tpm2.ObjDecrypt) {
			pub.Symmetric = tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
		}
	}
	return pub
}

const (
	own     = tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjSensitiveDataOrigin | tpm2.ObjUserWithAuth
	storage = own | tpm2.ObjRestricted | tpm2.ObjDecrypt
	signing = own | tpm2.ObjSign
	data    = tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjUserWithAuth
)

func newKey(tb testing.TB, pub *tpm2.Public) *crypt.Key {
	tb.Helper()
	k, rc := crypt.CreateObject(pub, tpm2.Digest("auth\x00"), []byte("data"), &crypt.Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		tb.Fatal(rc)
	}
	return k
}

// sample is a state with every kind of object.
func sample(tb testing.TB) *State {
	tb.Helper()
	s := new(State)
	parent := NewPrimary(newKey(tb, template(tpm2.AlgECC, storage)), tpm2.RHOwner)
	child := NewChild(newKey(tb, template(tpm2.AlgKeyedHash, data)), parent)
	public := newKey(tb, template(tpm2.AlgECC, signing))
	public.Sensitive = nil
	s.Persist(0x81000002, child)
	s.Persist(0x81000001, parent)
	s.Persist(0x81800000, NewPrimary(newKey(tb, template(tpm2.AlgECC, signing|tpm2.ObjNoDA)), tpm2.RHPlatform))
	s.Slots[0] = NewExternal(public, tpm2.RHNull)
	s.Slots[2] = NewSequenceObject(NewHashSequence(nil, tpm2.AlgSHA256).Update([]byte("data"), true))
	return s
}

func marshal(walk func(*tpm2.Codec)) []byte {
	c := tpm2.NewEncoder(nil)
	walk(&c)
	if c.RC() != tpm2.RCSuccess {
		panic(c.RC())
	}
	return c.Output()
}

// unmarshal reports whether exactly b decodes.
func unmarshal(b []byte, walk func(*tpm2.Codec)) bool {
	c := tpm2.NewDecoder(b)
	walk(&c)
	return c.RC() == tpm2.RCSuccess && c.Remaining() == 0
}

func TestStateRoundTrip(t *testing.T) {
	s := sample(t)
	permanent, volatile := marshal(s.WalkPermanent), marshal(s.WalkVolatile)
	in, vin := bytes.Clone(permanent), bytes.Clone(volatile)
	var back State
	if !unmarshal(in, back.WalkPermanent) || !unmarshal(vin, back.WalkVolatile) {
		t.Fatal("it does not decode")
	}
	clear(in)
	clear(vin)
	if !bytes.Equal(marshal(back.WalkPermanent), permanent) || !bytes.Equal(marshal(back.WalkVolatile), volatile) {
		t.Error("it decodes to something else, or shares memory with its input")
	}
	for i, p := range back.Persistent {
		was := s.Get(p.Handle)
		if p.Handle != s.Persistent[i].Handle || !bytes.Equal(p.Name, was.Name) || p.Hierarchy != was.Hierarchy ||
			p.Primary != was.Primary || string(p.AuthValue()) != "auth" {
			t.Errorf("0x%x is another object", uint32(p.Handle))
		}
	}
	if child := back.Get(0x81000002); !child.IsChildOf(back.Get(0x81000001)) || child.IsChildOf(child) {
		t.Error("the Qualified Names are not those of parent and child")
	}
	if back.Slots[1] != nil || !back.Slots[0].External || !back.Slots[0].PublicOnly() || back.Slots[2].Sequence == nil {
		t.Error("the slots hold something else")
	}
}

func TestCutStatesDoNotDecode(t *testing.T) {
	s := sample(t)
	permanent, volatile := marshal(s.WalkPermanent), marshal(s.WalkVolatile)
	for n := range permanent {
		if unmarshal(permanent[:n], new(State).WalkPermanent) {
			t.Fatalf("the first %d of %d bytes of the permanent state decode", n, len(permanent))
		}
	}
	for n := range volatile {
		if unmarshal(volatile[:n], new(State).WalkVolatile) {
			t.Fatalf("the first %d of %d bytes of the volatile state decode", n, len(volatile))
		}
	}
}

// TestImpossibleStates decodes states that no command makes.
func TestImpossibleStates(t *testing.T) {
	for name, change := range map[string]func(*State){
		"handles out of order":     func(s *State) { s.Persistent[0], s.Persistent[1] = s.Persistent[1], s.Persistent[0] },
		"a handle twice":           func(s *State) { s.Persistent[1].Handle = s.Persistent[0].Handle },
		"a transient handle":       func(s *State) { s.Persistent[0].Handle = tpm2.TransientFirst },
		"another's handle":         func(s *State) { s.Persistent[2].Handle = 0x81000003 },
		"the platform's handle":    func(s *State) { s.Persistent[1].Handle = 0x817FFFFF + 1 },
		"a stClear object":         func(s *State) { s.Persistent[0].STClear = true },
		"a public area":            func(s *State) { s.Persistent[0].Object = s.Slots[0] },
		"a sequence":               func(s *State) { s.Persistent[0].Object = s.Slots[2] },
		"another Qualified Name":   func(s *State) { s.Persistent[0].QualifiedName = s.Persistent[0].Name },
		"no Qualified Name":        func(s *State) { s.Persistent[1].QualifiedName = nil },
		"an external primary":      func(s *State) { s.Slots[0].Primary = true },
		"an external of a parent":  func(s *State) { s.Slots[0].QualifiedName = s.Persistent[0].QualifiedName },
		"an internal public area":  func(s *State) { s.Slots[0].External = false },
		"another type's sensitive": func(s *State) { s.Persistent[0].Sensitive.Type = tpm2.AlgSymCipher },
		"too many objects": func(s *State) {
			for i := range tpm2.Handle(MaxPersistent) {
				s.Persist(0x81700000+i, s.Persistent[0].Object)
			}
		},
	} {
		s := sample(t)
		change(s)
		c := tpm2.NewEncoder(nil)
		s.WalkPermanent(&c)
		permanent := c.Output()
		var p, v State
		if unmarshal(permanent, p.WalkPermanent) && unmarshal(marshal(s.WalkVolatile), v.WalkVolatile) {
			t.Errorf("%s: it decodes", name)
		}
	}
}

// FuzzWalk decodes anything: what decodes is encoded again in as many bytes,
// and those are its form for good. (A running hash has bytes without meaning.)
func FuzzWalk(f *testing.F) {
	s := sample(f)
	f.Add(marshal(s.WalkPermanent), marshal(s.WalkVolatile))
	f.Fuzz(func(t *testing.T, permanent, volatile []byte) {
		stable(t, permanent, (*State).WalkPermanent)
		stable(t, volatile, (*State).WalkVolatile)
	})
}

func stable(t *testing.T, b []byte, walk func(*State, *tpm2.Codec)) {
	t.Helper()
	bound := func(s *State) func(*tpm2.Codec) { return func(c *tpm2.Codec) { walk(s, c) } }
	var first, second State
	if !unmarshal(b, bound(&first)) {
		return
	}
	again := marshal(bound(&first))
	if len(again) != len(b) || !unmarshal(again, bound(&second)) || !bytes.Equal(marshal(bound(&second)), again) {
		t.Fatalf("%x became %x", b, again)
	}
}
