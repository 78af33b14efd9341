package nv

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

const plain = tpm2.NVAuthRead | tpm2.NVAuthWrite

// public is an ordinary Index's public area.
func public(h tpm2.Handle, size uint16, a tpm2.NVAttributes) *tpm2.NVPublic {
	return &tpm2.NVPublic{Index: tpm2.NVIndexFirst + h, NameAlg: tpm2.AlgSHA256, Attributes: plain | a, DataSize: size}
}

func kind(t tpm2.NVType) tpm2.NVAttributes { return tpm2.NVAttributes(t) << 4 }

func define(t *testing.T, s *State, h tpm2.Handle, size uint16, a tpm2.NVAttributes) *Index {
	t.Helper()
	if rc := s.Define(public(h, size, a), nil, 0); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	return s.Get(tpm2.NVIndexFirst + h)
}

func again(s *State, x *Index) *Index { return s.Get(x.Public.Index) }

func TestWriteKeepsSnapshots(t *testing.T) {
	var s State
	x := define(t, &s, 1, 8, 0)
	before := s
	if !s.Write(x, 2, []byte("abc")) {
		t.Error("a write of an ordinary Index must be durable")
	}
	y := again(&s, x)
	if !y.Is(tpm2.NVWritten) || string(y.Data) != "\xff\xffabc\xff\xff\xff" || bytes.Equal(y.Name, x.Name) {
		t.Errorf("written: %v %q, name %x", y.Is(tpm2.NVWritten), y.Data, y.Name)
	}
	if z := again(&before, x); z != x || z.Is(tpm2.NVWritten) || !bytes.Equal(z.Data, make([]byte, 8)) {
		t.Error("the snapshot changed")
	}
	if s.Write(y, 2, []byte("abc")) {
		t.Error("a write that changes nothing need not be durable")
	}
}

// TestDeletedCounterIsNotTurnedBack: no counter repeats a deleted one's value.
func TestDeletedCounterIsNotTurnedBack(t *testing.T) {
	var s State
	x := define(t, &s, 1, 8, kind(tpm2.NTCounter))
	for range 5 {
		s.Increment(again(&s, x))
	}
	last := again(&s, x).count()
	s.Delete(x.Public.Index)
	y := define(t, &s, 2, 8, kind(tpm2.NTCounter))
	s.Delete(y.Public.Index) // never written: says nothing
	z := define(t, &s, 3, 8, kind(tpm2.NTCounter)|tpm2.NVOrderly)
	if !s.Increment(z) {
		t.Error("the first count of an orderly counter must be durable")
	}
	if n := again(&s, z).count(); last != 5 || n != 6 {
		t.Errorf("the new counter starts at %d after %d", n, last)
	}
}

// TestOrderlyCounterOverPowerLoss counts to every place in a block and loses
// the power: the counter must go on above all it showed, from what was durable.
func TestOrderlyCounterOverPowerLoss(t *testing.T) {
	for steps := 1; steps < 600; steps += 7 {
		var s State
		x := define(t, &s, 1, 8, kind(tpm2.NTCounter)|tpm2.NVOrderly)
		durable := s
		for range steps {
			if s.Increment(again(&s, x)) {
				durable = s
			}
		}
		shown := again(&s, x).count()
		durable.Startup(true, false, false)
		if n := again(&durable, x).count(); n < shown || n > shown+MaxOrderlyCount {
			t.Fatalf("after %d the counter is %d", shown, n)
		}
		before := again(&durable, x).count()
		durable.Startup(true, false, true)
		if again(&durable, x).count() != before {
			t.Fatal("an orderly startup moved the counter")
		}
	}
}

func TestStartup(t *testing.T) {
	const locks = tpm2.NVReadLocked | tpm2.NVWriteLocked
	for _, c := range []struct {
		name                string
		attrs               tpm2.NVAttributes
		reset, resume       bool
		written             bool
		writeLock, readLock bool
	}{
		{"resume", tpm2.NVClearSTClear | tpm2.NVOrderly, false, true, true, true, true},
		{"reset", 0, true, false, true, false, false},
		{"restart", 0, false, false, true, false, false},
		{"locked for ever", tpm2.NVWriteDefine, true, false, true, true, false},
		{"cleared", tpm2.NVClearSTClear, false, false, false, false, false},
		{"orderly, reset", tpm2.NVOrderly, true, false, false, false, false},
		{"orderly, locked for ever, reset", tpm2.NVOrderly | tpm2.NVWriteDefine, true, false, false, false, false},
		{"orderly, restart", tpm2.NVOrderly, false, false, true, false, false},
		{"orderly counter, reset", tpm2.NVOrderly | kind(tpm2.NTCounter), true, false, true, false, false},
	} {
		var s State
		x := define(t, &s, 1, 8, c.attrs)
		s.Write(x, 0, []byte("12345678"))
		s.SetAttributes(again(&s, x), locks)
		s.Startup(c.reset, c.resume, true)
		y := again(&s, x)
		if y.Is(tpm2.NVWritten) != c.written || y.Is(tpm2.NVWriteLocked) != c.writeLock || y.Is(tpm2.NVReadLocked) != c.readLock {
			t.Errorf("%s: attributes 0x%08x", c.name, uint32(y.Public.Attributes))
		}
		if !c.written && !bytes.Equal(y.Data, make([]byte, 8)) {
			t.Errorf("%s: the data is still there", c.name)
		}
		if !bytes.Equal(y.Name, y.Public.Name()) {
			t.Errorf("%s: the name is stale", c.name)
		}
	}
}

// TestSpace fills a new TPM as it was filled in libtpms 0.9.2, which had room
// for just this.
func TestSpace(t *testing.T) {
	var s State
	if s.ObjectsAvailable(0) != 65 || s.CountersAvailable(0) != 25 {
		t.Errorf("a new TPM has room for %d objects and %d counters", s.ObjectsAvailable(0), s.CountersAvailable(0))
	}
	next := tpm2.Handle(0)
	for _, c := range []struct{ size, count uint16 }{{2048, 68}, {1024, 1}, {512, 1}, {256, 0}, {128, 0}, {64, 0}, {32, 1}, {16, 0}} {
		n := uint16(0)
		for s.Define(public(next, c.size, 0), nil, 0) == tpm2.RCSuccess {
			next++
			n++
		}
		if n != c.count {
			t.Errorf("there was room for %d indices of %d bytes, want %d", n, c.size, c.count)
		}
	}
	if s.CountersAvailable(0) != 8 || s.ObjectsAvailable(0) != 7 || !s.FitsObject(0) {
		t.Errorf("a full TPM has room for %d objects and %d counters", s.ObjectsAvailable(0), s.CountersAvailable(0))
	}
	if rc := s.Define(public(next, 8, kind(tpm2.NTCounter)), nil, 0); rc != tpm2.RCSuccess {
		t.Errorf("the counter that there is room for: %v", rc)
	}
	if s.FitsObject(8) {
		t.Error("an object too many fits")
	}
	// Orderly data is in RAM.
	s = State{}
	define(t, &s, 1, 500, tpm2.NVOrderly)
	if rc := s.Define(public(2, 1, tpm2.NVOrderly), nil, 0); rc != tpm2.RCNVSpace {
		t.Errorf("orderly data beyond the RAM: %v", rc)
	}
}

func TestDeleteOwners(t *testing.T) {
	var s State
	for h := range tpm2.Handle(6) {
		a := tpm2.NVAttributes(0)
		if h%3 == 0 {
			a = tpm2.NVPlatformCreate
		}
		define(t, &s, h, 4, a)
	}
	s.DeleteOwners()
	if len(s.All()) != 2 || s.All()[0].Public.Index != tpm2.NVIndexFirst || s.All()[1].Public.Index != tpm2.NVIndexFirst+3 {
		t.Errorf("%d indices are left", len(s.All()))
	}
}

// full is a State with one of everything.
func full(t testing.TB) State {
	var s State
	for h, a := range []tpm2.NVAttributes{0, tpm2.NVOrderly, kind(tpm2.NTCounter) | tpm2.NVOrderly, kind(tpm2.NTCounter)} {
		p := public(tpm2.Handle(h), 8, a)
		if rc := s.Define(p, tpm2.Digest("auth"), 0); rc != tpm2.RCSuccess {
			t.Fatal(rc)
		}
		if h != 3 {
			s.Write(s.Get(p.Index), 0, binary.BigEndian.AppendUint64(nil, 77))
		}
	}
	s.maxCount = 12
	return s
}

func walk(f func(*tpm2.Codec)) []byte {
	c := tpm2.NewEncoder(nil)
	f(&c)
	return c.Output()
}

func TestRoundTrip(t *testing.T) {
	s := full(t)
	permanent := walk(s.WalkPermanent)
	// Orderly data moves on without the permanent state.
	s.Increment(s.Get(tpm2.NVIndexFirst + 2))
	s.SetAttributes(s.Get(tpm2.NVIndexFirst+1), tpm2.NVReadLocked)
	var r State
	d := tpm2.NewDecoder(permanent)
	r.WalkPermanent(&d)
	v := tpm2.NewDecoder(walk(s.WalkVolatile))
	r.WalkVolatile(&v)
	if d.RC() != 0 || d.Remaining() != 0 || v.RC() != 0 || v.Remaining() != 0 {
		t.Fatal(d.RC(), v.RC())
	}
	if got, want := walk(r.WalkPermanent), walk(s.WalkPermanent); !bytes.Equal(got, want) || bytes.Equal(got, permanent) {
		t.Errorf("the state differs after a round trip:\n%x\n%x", got, want)
	}
	for _, x := range s.All() {
		if !bytes.Equal(again(&r, x).Name, x.Name) {
			t.Errorf("the name of 0x%08x is stale", uint32(x.Public.Index))
		}
	}
	var empty State
	v = tpm2.NewDecoder(walk(s.WalkVolatile))
	if empty.WalkVolatile(&v); v.RC() == 0 {
		t.Error("another TPM's volatile state was taken")
	}
}

// TestWalkRefuses reads states that no TPM has.
func TestWalkRefuses(t *testing.T) {
	for name, change := range map[string]func(*State){
		"none of them":                         func(*State) {},
		"data of an orderly Index not written": func(s *State) { s.Get(tpm2.NVIndexFirst + 1).Public.Attributes &^= tpm2.NVWritten },
	} {
		s := full(t)
		change(&s)
		c := tpm2.NewEncoder(nil)
		s.WalkPermanent(&c)
		s.WalkVolatile(&c)
		var got State
		d := tpm2.NewDecoder(c.Output())
		got.WalkPermanent(&d)
		got.WalkVolatile(&d)
		if taken := d.RC() == 0; taken != (name == "none of them") {
			t.Errorf("%s: taken %v", name, taken)
		}
	}
}

// TestLastCount: a counter at its end, at which only a state of a hostile source
// can be, stays there.
func TestLastCount(t *testing.T) {
	s := full(t)
	s.maxCount = 1<<64 - 1
	for _, h := range []tpm2.Handle{tpm2.NVIndexFirst + 2, tpm2.NVIndexFirst + 3} {
		for range 2 {
			if h == tpm2.NVIndexFirst+2 {
				s.Write(s.Get(h), 0, binary.BigEndian.AppendUint64(nil, 1<<64-1))
			}
			s.Increment(s.Get(h))
			if n := again(&s, s.Get(h)).count(); n != 1<<64-1 {
				t.Errorf("0x%x turned to %d", uint32(h), n)
			}
		}
	}
}

// FuzzWalk reads any bytes as a state: what is taken must be such that later
// commands find the sizes they rely on, and must write itself the same.
func FuzzWalk(f *testing.F) {
	s := full(f)
	f.Add(walk(s.WalkPermanent), walk(s.WalkVolatile))
	f.Add(walk(new(State).WalkPermanent), []byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, permanent, volatile []byte) {
		var s State
		d := tpm2.NewDecoder(append([]byte(nil), permanent...))
		if s.WalkPermanent(&d); d.RC() != 0 {
			return
		}
		if got := walk(s.WalkPermanent); !bytes.Equal(got, permanent[:len(permanent)-d.Remaining()]) {
			t.Fatalf("%x is written as %x", permanent, got)
		}
		d = tpm2.NewDecoder(append([]byte(nil), volatile...))
		if s.WalkVolatile(&d); d.RC() != 0 {
			return
		}
		for _, x := range s.All() {
			switch x.Type() {
			case tpm2.NTCounter:
				s.Increment(x)
			case tpm2.NTExtend:
				s.Extend(x, []byte("data"))
			default:
				s.Write(x, 0, x.Data)
			}
		}
		s.Startup(true, false, false)
	})
}
