package swtpm

import (
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestRefusedStartKeepsSuspended: who starts a suspended TPM in a way that does not fit,
// or only looks at it, does not cost its guest the running state.
func TestRefusedStartKeepsSuspended(t *testing.T) {
	dir := t.TempDir()
	h, _ := newTestHost(t, dir, nil)
	if r := h.PowerOn(false); r != OK {
		t.Fatal(r)
	}
	h.Startup(false)
	if r := h.StoreVolatile(); r != OK {
		t.Fatal(r)
	}
	h.Close()
	for range 2 {
		h, _ := newTestHost(t, dir, nil)
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		if rc := h.Startup(false); rc != tpm2.RCInitialize {
			t.Fatalf("Startup of a TPM that was suspended: %v", rc)
		}
		h.Close()
	}
	h, _ = newTestHost(t, dir, nil)
	if r := h.PowerOn(true); r != OK {
		t.Fatal(r)
	}
	if rsp := h.Execute(0, unhex("8001 0000000c 00000144 0000"), nil); responseCode(rsp) != tpm2.RCInitialize {
		t.Errorf("the TPM does not go on: %x", rsp)
	}
}

// TestResetOfSuspended: that the established bit was reset is not forgotten where
// nothing else came to a TPM that was suspended.
func TestResetOfSuspended(t *testing.T) {
	dir := t.TempDir()
	start := func() *Host {
		h, _ := newTestHost(t, dir, nil)
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := start()
	h.Startup(false)
	h.HashStart()
	h.HashData([]byte("data"))
	if r := h.HashEnd(); r != OK {
		t.Fatal(r)
	}
	if r := h.StoreVolatile(); r != OK {
		t.Fatal(r)
	}
	h.Close()
	h = start()
	if bit, r := h.Established(); !bit || r != OK {
		t.Fatalf("established: %v, %v", bit, r)
	}
	if r := h.ResetEstablished(3); r != OK {
		t.Fatal(r)
	}
	h.Close()
	if bit, r := start().Established(); bit || r != OK {
		t.Errorf("the bit came back: %v, %v", bit, r)
	}
}
