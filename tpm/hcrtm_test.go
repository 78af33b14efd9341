package tpm

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// hash runs a hash sequence and settles its commit.
func (r *rig) hash(parts ...string) {
	r.e.HashStart()
	for _, p := range parts {
		r.e.HashData([]byte(p))
	}
	commit := r.e.HashEnd()
	if commit.Pending() {
		r.durable = commit.State()
		commit.Done()
	}
}

// hash runs a hash sequence on both.
func (p *pair) hash(parts ...string) {
	p.t.Helper()
	p.rig.hash(parts...)
	p.o.tell(0, 0, 0, 6)
	for _, s := range parts {
		p.o.tell(append(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 7}, uint32(len(s))), s...)...)
	}
	p.o.tell(0, 0, 0, 8)
}

func TestHashSequencesAsSwtpm(t *testing.T) {
	p := newPair(t)
	p.hash("firmware")
	p.hash("firm", "ware", " volume")
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.everyPCR("after an H-CRTM")
	p.setLocality(2)
	for n := tpm2.Handle(16); n < tpm2.PCRCount; n++ {
		p.same("extend", extendCmd(n, ha(tpm2.AlgSHA256, byte(n))))
	}
	p.hash("measured", "", " launch")
	p.everyPCR("after a D-RTM")
	p.hash()
	p.everyPCR("after a D-RTM of nothing")
	p.setLocality(0)
	p.expect(tpm2.RCSuccess, "Shutdown", shutdownCmd(tpm2.SUState))
	p.cut()
	p.same("resume without the H-CRTM", startupCmd(tpm2.SUState))
	p.hash("firmware volume")
	p.same("resume with the H-CRTM", startupCmd(tpm2.SUState))
	p.everyPCR("resumed")
	p.cut()
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	p.everyPCR("without an H-CRTM")
}

func TestHCRTMStartsPCR0From4(t *testing.T) {
	r := newRig(t, false)
	r.hash("firm", "ware")
	r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
	for _, alg := range tpm2.HashAlgs() {
		start := make([]byte, alg.DigestSize())
		start[len(start)-1] = 4
		if want := alg.Digest(start, alg.Digest([]byte("firmware"))); !bytes.Equal(r.e.state.pcrs.Value(alg, 0), want) {
			t.Errorf("PCR 0 of %v is %x, want %x", alg, r.e.state.pcrs.Value(alg, 0), want)
		}
	}
}

// TestHashSequenceGoesOn suspends the TPM after every step of a sequence, before
// and after Startup.
func TestHashSequenceGoesOn(t *testing.T) {
	for _, start := range []bool{false, true} {
		r := newRig(t, start)
		resume := func() {
			t.Helper()
			var err error
			if r.e, err = Resume(r.cfg, r.durable, r.e.SaveVolatile()); err != nil {
				t.Fatal(err)
			}
		}
		r.e.HashStart()
		resume()
		r.e.HashData([]byte("firm"))
		resume()
		r.e.HashData([]byte("ware"))
		resume()
		commit := r.e.HashEnd()
		if !commit.Pending() {
			t.Errorf("started %v: TPM_ESTABLISHED is not kept", start)
		}
		r.durable = commit.State()
		commit.Done()
		resume()
		pcr, first := 17, byte(0)
		if !start {
			r.must(tpm2.RCSuccess, tpm2.CCStartup, nil, nil, u16(0))
			pcr, first = 0, 4
		}
		want := make([]byte, 32)
		want[31] = first
		want = tpm2.AlgSHA256.Digest(want, tpm2.AlgSHA256.Digest([]byte("firmware")))
		if got := r.e.state.pcrs.Value(tpm2.AlgSHA256, pcr); !bytes.Equal(got, want) {
			t.Errorf("PCR %d is %x, want %x", pcr, got, want)
		}
	}
}

// TestCommandEndsHashSequence: a command between HashStart and HashEnd makes
// the sequence void.
func TestCommandEndsHashSequence(t *testing.T) {
	r := newRig(t, true)
	before := bytes.Clone(r.e.state.pcrs.Value(tpm2.AlgSHA256, 17))
	r.e.HashStart()
	r.e.HashData([]byte("launch"))
	r.must(tpm2.RCCommandCode, 0x7FFF, nil, nil)
	r.e.HashData([]byte("late"))
	if commit := r.e.HashEnd(); commit.Pending() {
		t.Error("a void sequence has something to write")
	}
	if !bytes.Equal(r.e.state.pcrs.Value(tpm2.AlgSHA256, 17), before) {
		t.Error("a void sequence has reached PCR 17")
	}
}

func TestEstablished(t *testing.T) {
	r := newRig(t, true)
	if r.e.Established() {
		t.Fatal("a new TPM is established")
	}
	r.hash("launch")
	restarts := r.e.state.timing.RestartCount
	if !r.e.Established() || restarts != 1 {
		t.Fatalf("established %v, %d restarts", r.e.Established(), restarts)
	}
	r.power(r.durable)
	if !r.e.Established() {
		t.Fatal("the flag has not outlived the power")
	}
	if rc := r.e.ResetEstablished(2); rc != tpm2.RCLocality || !r.e.Established() {
		t.Errorf("reset at locality 2: %v", rc)
	}
	if rc := r.e.ResetEstablished(3); rc != tpm2.RCSuccess || r.e.Established() {
		t.Errorf("reset at locality 3: %v", rc)
	}
}

// TestHashEndRollsBack: where the state cannot be written, what HashEnd did is
// undone.
func TestHashEndRollsBack(t *testing.T) {
	r := newRig(t, true)
	before := r.e.state.pcrs
	r.e.HashStart()
	r.e.HashData([]byte("launch"))
	commit := r.e.HashEnd()
	if !commit.Pending() {
		t.Fatal("the flag is not to be written")
	}
	commit.Rollback(nil)
	if !reflect.DeepEqual(r.e.state.pcrs, before) || r.e.state.timing.RestartCount != 0 {
		t.Error("the measurement is still there")
	}
	r.must(tpm2.RCSuccess, tpm2.CCGetRandom, nil, nil, u16(1))
}

// TestHashSequenceTakesSlot starts a sequence while all slots are taken: the
// first object makes room for it.
func TestHashSequenceTakesSlot(t *testing.T) {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	for n := range 3 {
		for range 3 {
			p.same("HashSequenceStart", frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA256))))
		}
		p.hash("measured")
		for i := range tpm2.Handle(3) {
			p.same("SequenceUpdate", frame(tpm2.CCSequenceUpdate, []tpm2.Handle{tpm2.TransientFirst + i}, password(""), buf16(nil)))
		}
		p.same("Flush", flushCmd(tpm2.TransientFirst+tpm2.Handle(n)))
	}
}
