package pcr

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// booted is a State after Manufacture and a TPM Reset.
func booted(t *testing.T, locality uint8, algs ...tpm2.AlgID) State {
	t.Helper()
	s, err := Manufacture(algs)
	if err != nil {
		t.Fatal(err)
	}
	if rc := s.Startup(true, false, locality, false); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	return s
}

func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

func TestResetValues(t *testing.T) {
	for _, locality := range []uint8{0, 3} {
		s := booted(t, locality)
		for _, alg := range tpm2.HashAlgs() {
			for n := range tpm2.PCRCount {
				want := fill(alg.DigestSize(), 0)
				switch {
				case n == 0:
					want[len(want)-1] = locality
				case n >= 17 && n <= 22:
					want = fill(alg.DigestSize(), 0xFF)
				}
				if got := s.Value(alg, n); !bytes.Equal(got, want) {
					t.Errorf("locality %d: PCR %d of %v is %x", locality, n, alg, got)
				}
			}
		}
		if s.Counter != 20 {
			t.Errorf("the counter is %d after a reset", s.Counter)
		}
	}
}

func TestExtendIsPerBank(t *testing.T) {
	s := booted(t, 0, tpm2.AlgSHA256, tpm2.AlgSHA384)
	before := s
	s.Extend(7, tpm2.AlgSHA1, fill(20, 1))
	if !reflect.DeepEqual(s, before) {
		t.Fatal("a PCR that is not allocated was extended")
	}
	s.Extend(7, tpm2.AlgSHA256, fill(32, 1))
	want := tpm2.AlgSHA256.Digest(fill(32, 0), fill(32, 1))
	if !bytes.Equal(s.Value(tpm2.AlgSHA256, 7), want) || s.Counter != before.Counter+1 {
		t.Fatalf("PCR 7 is %x, counter %d", s.Value(tpm2.AlgSHA256, 7), s.Counter)
	}
	if !bytes.Equal(s.Value(tpm2.AlgSHA384, 7), fill(48, 0)) {
		t.Fatal("the other bank changed")
	}
	s.Extend(16, tpm2.AlgSHA256, fill(32, 1))
	s.Reset(23)
	if s.Counter != before.Counter+1 {
		t.Fatal("PCRs 16 and 23 must not count")
	}
	s.Extend(16, tpm2.AlgSHA256, fill(32, 1))
	s.Reset(16)
	if !bytes.Equal(s.Value(tpm2.AlgSHA256, 16), fill(32, 0)) {
		t.Fatal("PCR 16 is not reset")
	}
}

// TestResume saves, powers off and resumes: PCRs 0 to 15 come back, others
// start anew, and only from the same locality and after the same H-CRTM.
func TestResume(t *testing.T) {
	s := booted(t, 3)
	s.Extend(5, tpm2.AlgSHA512, fill(64, 9))
	s.Extend(16, tpm2.AlgSHA512, fill(64, 9))
	permanent := walk(s.WalkPermanent)
	saved := walk(s.WalkState)
	var r State
	unwalk(t, permanent, r.WalkPermanent)
	unwalk(t, saved, r.WalkState)
	r.PowerOn()
	off := r
	if rc := r.Startup(false, true, 0, false); rc != tpm2.RCLocality {
		t.Fatalf("resume from another locality: %v", rc)
	}
	r.MeasureHCRTM(tpm2.AlgSHA256, fill(32, 1))
	if rc := r.Startup(false, true, 3, true); rc != tpm2.RCValue.P(1) {
		t.Fatalf("resume after an H-CRTM: %v", rc)
	}
	r = off
	if rc := r.Startup(false, true, 3, false); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	if r.Counter != s.Counter+4 {
		t.Errorf("the counter is %d, was %d", r.Counter, s.Counter)
	}
	for n := range 16 {
		if !bytes.Equal(r.Value(tpm2.AlgSHA512, n), s.Value(tpm2.AlgSHA512, n)) {
			t.Errorf("PCR %d did not come back", n)
		}
	}
	if !bytes.Equal(r.Value(tpm2.AlgSHA512, 16), fill(64, 0)) {
		t.Error("PCR 16 came back")
	}
	// A TPM Restart keeps the counter and nothing else.
	r = off
	if rc := r.Startup(false, false, 0, false); rc != tpm2.RCSuccess || r.Counter != s.Counter+20 ||
		!bytes.Equal(r.Value(tpm2.AlgSHA512, 5), fill(64, 0)) {
		t.Errorf("restart: %v, counter %d, PCR 5 %x", rc, r.Counter, r.Value(tpm2.AlgSHA512, 5))
	}
}

func TestHCRTMAndDRTM(t *testing.T) {
	s, err := Manufacture(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := fill(32, 7)
	s.MeasureHCRTM(tpm2.AlgSHA256, d)
	if rc := s.Startup(true, false, 0, true); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	four := fill(32, 0)
	four[31] = 4
	if want := tpm2.AlgSHA256.Digest(four, d); !bytes.Equal(s.Value(tpm2.AlgSHA256, 0), want) {
		t.Errorf("PCR 0 after an H-CRTM is %x", s.Value(tpm2.AlgSHA256, 0))
	}
	s.ResetDynamic()
	s.MeasureDRTM(tpm2.AlgSHA256, d)
	if want := tpm2.AlgSHA256.Digest(fill(32, 0), d); !bytes.Equal(s.Value(tpm2.AlgSHA256, 17), want) ||
		!bytes.Equal(s.Value(tpm2.AlgSHA256, 22), fill(32, 0)) {
		t.Errorf("PCR 17 after a D-RTM is %x", s.Value(tpm2.AlgSHA256, 17))
	}
}

func TestAllocate(t *testing.T) {
	s := booted(t, 0)
	all := tpm2.PCRSelect{Size: 3, Bits: [4]byte{0xFF, 0xFF, 0xFF}}
	none := tpm2.PCRSelect{Size: 3}
	sel := tpm2.PCRSelectionList{{Hash: tpm2.AlgSHA1, PCRSelect: none}, {Hash: tpm2.AlgSHA384, PCRSelect: none}}
	needed, available, rc := s.Allocate(sel)
	if rc != tpm2.RCSuccess || needed != 24*(32+64) || available != 24*164 {
		t.Fatalf("%v, needs %d of %d", rc, needed, available)
	}
	if !s.Has(tpm2.AlgSHA1, 3) || !s.Reallocated() {
		t.Fatal("the allocation must wait for _TPM_Init")
	}
	var r State
	unwalk(t, walk(s.WalkPermanent), r.WalkPermanent)
	r.PowerOn()
	if r.Has(tpm2.AlgSHA1, 3) || !r.Has(tpm2.AlgSHA256, 3) || r.Reallocated() {
		t.Fatal("the allocation did not take effect")
	}
	every := tpm2.PCRSelectionList{{Hash: tpm2.AlgSHA1}, {Hash: tpm2.AlgSHA256}, {Hash: tpm2.AlgSHA384},
		{Hash: tpm2.AlgSHA512, PCRSelect: tpm2.PCRSelect{Size: 3, Bits: [4]byte{0xFF, 0xFF, 0}}}}
	if _, _, rc := s.Allocate(every); rc != tpm2.RCPCR {
		t.Fatalf("an allocation without PCR 17: %v", rc)
	}
	every[3].PCRSelect = all
	if _, _, rc := s.Allocate(append(every[3:], every[0])); rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
}

// TestRead asks for more PCRs than one answer holds: the selection comes back
// without those that exceed it, so that a caller can ask on.
func TestRead(t *testing.T) {
	s := booted(t, 0, tpm2.AlgSHA1, tpm2.AlgSHA256)
	ten := tpm2.PCRSelect{Size: 3, Bits: [4]byte{0xFC, 0x00, 0x0F}}
	sel := tpm2.PCRSelectionList{{Hash: tpm2.AlgSHA512, PCRSelect: ten}, {Hash: tpm2.AlgSHA1, PCRSelect: ten},
		{Hash: tpm2.AlgSHA256, PCRSelect: ten}}
	got, digests := s.Read(sel)
	want := []byte{0, 0, 0, 0xFC, 0, 0x03, 0, 0, 0}
	var bits []byte
	for i := range got {
		bits = append(bits, got[i].Bits[:3]...)
	}
	if !bytes.Equal(bits, want) || len(digests) != 8 || len(digests[0]) != 20 {
		t.Errorf("selection %x, %d digests", bits, len(digests))
	}
	if sel[0].Bits != ten.Bits {
		t.Error("the caller's selection was changed")
	}
	got, digest := s.Digest(sel[1:2], tpm2.AlgSHA256)
	var joined []byte
	for _, n := range []int{2, 3, 4, 5, 6, 7, 16, 17, 18, 19} {
		joined = append(joined, s.Value(tpm2.AlgSHA1, n)...)
	}
	if !bytes.Equal(digest, tpm2.AlgSHA256.Digest(joined)) || got[0].Bits != ten.Bits {
		t.Errorf("digest %x of %x", digest, got[0].Bits)
	}
}

func TestVolatileRoundTrip(t *testing.T) {
	s := booted(t, 0)
	for n := range tpm2.PCRCount {
		for _, alg := range tpm2.HashAlgs() {
			s.Extend(n, alg, fill(alg.DigestSize(), byte(n)))
		}
	}
	s.MeasureHCRTM(tpm2.AlgSHA1, fill(20, 3))
	s.Auth, s.PolicyAlg, s.Policy = tpm2.Digest("value"), tpm2.AlgSHA1, fill(20, 4)
	s.Allocate(tpm2.PCRSelectionList{{Hash: tpm2.AlgSHA1, PCRSelect: tpm2.PCRSelect{Size: 3}}})
	var r State
	unwalk(t, walk(s.WalkPermanent), r.WalkPermanent)
	unwalk(t, walk(s.WalkState), r.WalkState)
	unwalk(t, walk(s.WalkVolatile), r.WalkVolatile)
	if !reflect.DeepEqual(r, s) {
		t.Error("the state differs after a round trip")
	}
}

func TestManufactureRefusesUnknownBanks(t *testing.T) {
	if _, err := Manufacture([]tpm2.AlgID{tpm2.AlgSHA256, tpm2.AlgSM3256}); err == nil {
		t.Error("an SM3 bank was made")
	}
}

func walk(f func(*tpm2.Codec)) []byte {
	c := tpm2.NewEncoder(nil)
	f(&c)
	return c.Output()
}

func unwalk(t *testing.T, b []byte, f func(*tpm2.Codec)) {
	t.Helper()
	c := tpm2.NewDecoder(b)
	f(&c)
	if c.RC() != tpm2.RCSuccess || c.Remaining() != 0 {
		t.Fatalf("%v, %d bytes left", c.RC(), c.Remaining())
	}
}

// FuzzWalk reads any bytes as a state: what is taken writes itself the same,
// and can be used.
func FuzzWalk(f *testing.F) {
	s, err := Manufacture(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(walk(s.WalkPermanent), walk(s.WalkState), walk(s.WalkVolatile))
	f.Fuzz(func(t *testing.T, permanent, state, volatile []byte) {
		var s State
		for _, part := range []struct {
			b []byte
			f func(*tpm2.Codec)
		}{{permanent, s.WalkPermanent}, {state, s.WalkState}, {volatile, s.WalkVolatile}} {
			d := tpm2.NewDecoder(part.b)
			if part.f(&d); d.RC() != tpm2.RCSuccess {
				return
			}
			if got := walk(part.f); !bytes.Equal(got, part.b[:len(part.b)-d.Remaining()]) {
				t.Fatalf("%x is written as %x", part.b, got)
			}
		}
		s.Extend(1, tpm2.AlgSHA256, fill(32, 1))
		s.Read(s.Allocation())
		s.PowerOn()
		s.Startup(true, false, 0, false)
	})
}

// TestCounterDoesNotRepeat: a guest can extend a PCR 2^32 times, and a policy that
// has looked at the PCRs must not take what they are then for what it saw.
func TestCounterDoesNotRepeat(t *testing.T) {
	var s State
	s.Counter = 1<<32 - 1
	s.Touch()
	if s.Counter == 0 {
		t.Error("the counter begins anew")
	}
}
