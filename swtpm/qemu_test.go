package swtpm

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// startAsQEMU goes through QEMU's start.
func startAsQEMU(t *testing.T, r *rig) {
	t.Helper()
	data := r.passData()
	// Which TPM is it? Before INIT it only shows that it is a TPM 2.
	wantAnswer(t, data, "8001 0000000c 00000144 0000", "8001 0000000a 00000101")
	r.control("00000001", "00000000 0001ffff")
	r.control("0000000e", "00000000")
	r.control("00000011 00000000", "00000000 00001000 00000af8 00001000")
	r.control("0000000e", "00000000")
	r.control("00000011 00000f80", "00000000 00000f80 00000af8 00001000")
	r.control("00000002 00000000", "00000000")
	r.control("00000004", "00000000 00000000")
	r.control("00000005 00000000", "00000000")
	wantRC(t, data, startupClear, 0)
	wantRC(t, data, extendPCR16, 0)
	t.Cleanup(func() { data.Close() })
	r.data = data
}

func TestQEMUStart(t *testing.T) {
	r := newRig(t, t.TempDir(), func(_ *Config, s *Server) { s.EndWithData = true })
	startAsQEMU(t, r)
	// A reset of the guest, and its end.
	r.control("0000000e", "00000000")
	r.control("00000011 00000f80", "00000000 00000f80 00000af8 00001000")
	r.control("00000002 00000000", "00000000")
	wantRC(t, r.data, startupState, 0)
	r.control("00000003", "00000000")
	<-r.done
}

// getBlob reads a state blob at once, and again in pieces by offset.
func getBlob(t *testing.T, r *rig, kind byte) []byte {
	t.Helper()
	ask := func(offset uint32) []byte {
		cmd := unhex("0000000c 00000001 00000000 00000000")
		cmd[11] = kind
		binary.BigEndian.PutUint32(cmd[12:], offset)
		head := exchange(t, r.ctrl, cmd, 16)
		if word(head) != 0 || word(head[8:]) != word(head[12:]) {
			t.Fatalf("GET_STATEBLOB %d: %x", kind, head)
		}
		return exchange(t, r.ctrl, nil, int(word(head[12:])))
	}
	whole := ask(0)
	if len(whole) == 0 {
		t.Fatalf("blob %d is empty", kind)
	}
	const at = 100
	if rest := ask(at); len(rest) != len(whole)-at {
		t.Errorf("from offset %d: %d bytes of %d", at, len(rest), len(whole))
	}
	if rest := ask(1 << 31); len(rest) != 0 {
		t.Errorf("behind the end: %d bytes", len(rest))
	}
	return whole
}

// setBlob sends a state blob as QEMU does: the head, and the data in messages
// of its own.
func setBlob(t *testing.T, r *rig, kind byte, blob []byte, piece int) {
	t.Helper()
	cmd := unhex("0000000d 00000000 00000000 00000000")
	cmd[11] = kind
	binary.BigEndian.PutUint32(cmd[12:], uint32(len(blob)))
	if _, err := r.ctrl.Write(cmd); err != nil {
		t.Fatal(err)
	}
	for len(blob) > piece {
		if _, err := r.ctrl.Write(blob[:piece]); err != nil {
			t.Fatal(err)
		}
		blob = blob[piece:]
	}
	if got := exchange(t, r.ctrl, blob, 4); word(got) != 0 {
		t.Fatalf("SET_STATEBLOB %d: %v: %s", kind, Result(word(got)), r.log)
	}
}

// TestQEMUMigration moves a running TPM to another host.
func TestQEMUMigration(t *testing.T) {
	for _, piece := range []int{1 << 20, 1000} {
		source := newRig(t, t.TempDir(), nil)
		startAsQEMU(t, source)
		pcr := command(t, source.data, unhex(readPCR16))
		permanent, volatile := getBlob(t, source, 1), getBlob(t, source, 2)
		source.control("0000000c 00000001 00000003 00000000", "00000800 00000000 00000000 00000000")
		source.control("00000003", "00000000")

		target := newRig(t, t.TempDir(), nil)
		data := target.passData()
		target.control("0000000e", "00000000")
		setBlob(t, target, 1, permanent, piece)
		// What is not a state is refused, and changes nothing.
		target.control("0000000d 00000000 00000001 00000004 01020304", "00000003")
		target.control("0000000d 00000000 00000002 00000004 01020304", "00000003")
		target.control("0000000d 00000002 00000001 00000004 01020304", "00000003") // encrypted
		target.control("0000000d 00000000 00000003 00000000", "00000000")
		setBlob(t, target, 2, volatile, piece)
		target.control("00000002 00000001", "00000000")
		target.control("00000004", "00000000 00000000")
		target.control("00000005 00000000", "00000000")
		if got := command(t, data, unhex(readPCR16)); !bytes.Equal(got, pcr) {
			t.Fatalf("PCR 16 is %x, was %x", got, pcr)
		}
		// The volatile state is used up: the next power on is one.
		target.control("00000002 00000000", "00000000")
		wantRC(t, data, startupState, 0)
	}
}

// TestHashSequence measures by the control channel, the data in two messages.
func TestHashSequence(t *testing.T) {
	r := newRig(t, t.TempDir(), nil)
	data := r.passData()
	r.control("00000002 00000000", "00000000")
	r.control("00000006", "00000000")
	if _, err := r.ctrl.Write(unhex("00000007 00001804 6162")); err != nil {
		t.Fatal(err)
	}
	r.control("6364"+hexRepeat("00", 0x1800), "00000000")
	r.control("00000008", "00000000")
	r.control("00000004", "00000000 01000000")
	wantRC(t, data, startupClear, 0)
	// PCR 0 begins at 4 and holds the measurement (Part 1, 34.3).
	rsp := command(t, data, unhex("8001 00000014 0000017e 00000001 000b 03 010000"))
	want := extend(sha256Of(4), append([]byte("abcd"), make([]byte, 0x1800)...))
	if !bytes.Contains(rsp, want) {
		t.Errorf("PCR 0: %x, want %x", rsp, want)
	}
	r.control("0000000b 03", "00000000")
	r.control("00000004", "00000000 00000000")
}
