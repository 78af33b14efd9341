package swtpm

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/disk"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestFaultyDisk has a disk fail in each way for a time, under a TPM that works: what
// needs it is undone, what does not goes on, and with the disk it is well again. Then
// the power goes, with every order of what was written.
func TestFaultyDisk(t *testing.T) {
	for _, p := range places() {
		for _, err := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, syscall.ESTALE} {
			for _, fault := range []disk.Fault{disk.Refused, disk.Done, disk.Half, disk.Dropped, disk.Reset} {
				t.Run(fmt.Sprintf("%s/%v/%d", p.name, err, fault), func(t *testing.T) { testFaultyDisk(t, p, err, fault) })
			}
		}
	}
}

func testFaultyDisk(t *testing.T, p place, err error, fault disk.Fault) {
	c := newCrasher(t, p)
	watch := c.d.Watch
	c.d.Watch = nil
	h := p.host(c.d, p.keys[0])
	rc := func(cmd []byte) tpm2.RC { return responseCode(h.Execute(0, cmd, nil)) }
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range [][]byte{startupCommand(ccStartup, suClear), defineIndex(valueIndex, 0), defineIndex(counterIndex, 1<<4),
		writeValue(1), incrementCounter} {
		if rc := rc(cmd); rc != 0 {
			t.Fatal(rc)
		}
	}
	for round := uint64(1); round < 4; round++ {
		c.d.Err, c.d.Fault = err, func(int, disk.Op) disk.Fault { return fault }
		for range 3 {
			if got := rc(incrementCounter); got != tpm2.RCNVUnavailable {
				t.Fatalf("an increment: %v", got)
			}
			if got := rc(extendPCR10); got != 0 {
				t.Fatalf("PCR_Extend: %v", got)
			}
			if value, counter := readIndex(h, valueIndex), readIndex(h, counterIndex); value != round || counter != round {
				t.Fatalf("%d and %d, of %d", value, counter, round)
			}
		}
		c.d.Fault = nil
		for _, cmd := range [][]byte{incrementCounter, writeValue(round + 1)} {
			if rc := rc(cmd); rc != 0 {
				t.Fatalf("the disk is well again: %v", rc)
			}
		}
		c.may = []model{{mode: cold, value: round + 1, counter: round + 1}}
		watch(disk.Op{Kind: "acknowledged"})
	}
}
