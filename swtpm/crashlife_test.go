package swtpm

import (
	"os"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/disk"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// life is the workload: a TPM is made as by swtpm_setup, used, suspended, reverted to a
// snapshot, and encrypted anew.
func (c *crasher) life() {
	p := c.place
	key := p.keys[0]
	made, err := tpm.Manufacture(simulatedEngine(), tpm.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	now := model{mode: cold}
	c.step("swtpm_setup", now, func() error {
		_, err := Install(p.open(c.d), key, simulatedEngine(), made)
		return err
	})
	c.h = p.host(c.d, key)
	c.step("the first start", now, func() error { return c.h.Start() })
	c.command(startupCommand(ccStartup, suClear), now)
	c.command(defineIndex(valueIndex, 0), now)
	c.command(defineIndex(counterIndex, 1<<4), now)
	write := func(v uint64, between ...model) {
		now.mode, now.value, now.pcr = cold, v, 0
		c.command(writeValue(v), now, between...)
	}
	increment := func() {
		now.mode, now.pcr = cold, 0
		now.counter++
		c.command(incrementCounter, now)
	}
	write(1)
	increment()
	increment()
	c.command(extendPCR10, now)
	write(2)

	pcr := c.h.Execute(0, readPCR10, nil)
	now.mode, now.pcr = kept, pcr[len(pcr)-32]
	c.command(shutdownKeep, now)
	now.mode, now.pcr = cold, 0
	c.command(extendPCR10, now) // which revokes the Shutdown
	var blobs [2][]byte
	snapshot := now
	blobs = c.h.blobs(c.t)
	pcr = c.h.Execute(0, readPCR10, nil)
	snapshot.pcr = pcr[len(pcr)-32]
	c.may, c.was = []model{now}, now
	increment()

	store := func() {
		pcr := c.h.Execute(0, readPCR10, nil)
		now.mode, now.pcr = resumed, pcr[len(pcr)-32]
		c.step("STORE_VOLATILE", now, func() error { return result(c.h.StoreVolatile()) })
	}
	lost := func() model { return model{mode: cold, value: now.value, counter: now.counter} }
	store()
	write(3, lost())
	store()
	c.step("INIT", now, func() error { return result(c.h.PowerOn(false)) })
	now = lost()
	c.step("INIT without the running state", now, func() error { return result(c.h.PowerOn(true)) })
	increment()
	pcr = c.h.Execute(0, readPCR10, nil)
	now.mode, now.pcr = kept, pcr[len(pcr)-32]
	c.step("STOP", now, func() error { c.h.PowerOff(); return nil })

	snapshot.mode = cold
	at := snapshot
	at.pcr = 0
	c.step("SET_STATEBLOB of the permanent state", at, func() error { return result(c.h.SetStateBlob(BlobPermanent, blobs[0], false)) })
	snapshot.mode = resumed
	c.step("SET_STATEBLOB of the volatile state", snapshot, func() error { return result(c.h.SetStateBlob(BlobVolatile, blobs[1], false)) })
	now = snapshot
	c.step("INIT after a revert", lost(), func() error { return result(c.h.PowerOn(true)) })
	now = lost()
	if c.h.engine.Reverts() != 1 {
		c.t.Error("it is no revert")
	}
	write(4)
	increment()
	pcr = c.h.Execute(0, readPCR10, nil)
	now.mode, now.pcr = kept, pcr[len(pcr)-32]
	c.step("the end", now, func() error { return c.h.Close() })
	c.step("rekey", now, func() error {
		_, err := Rekey(p.open(c.d), simulatedEngine(), p.keys[0], p.keys[1])
		return err
	})
	c.h = p.host(c.d, p.keys[1])
	c.step("a start", now, func() error { return c.h.Start() })
	now.mode, now.pcr = cold, 0
	c.command(startupCommand(ccStartup, suClear), now)
	write(5)
	c.step("swtpm_setup --overwrite", model{mode: cold}, func() error {
		_, err := Install(p.open(c.d), p.keys[1], simulatedEngine(), made)
		return err
	})
}

func (c *crasher) report() {
	c.t.Logf("%s: %d points, %d orders, %d starts", c.place.name, c.points, c.orders, c.starts)
}

// TestCrashInLife lets the power go after every operation on the disk in a TPM's life,
// with every order of the effects that a file system allows: what was acknowledged is
// there, and the TPM starts.
func TestCrashInLife(t *testing.T) {
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			c := newCrasher(t, p)
			c.life()
			c.report()
		})
	}
}

// TestCrashInTakeOver is that while a TPM of swtpm's is taken over: at rest, and with
// its running state, by a start and by ashlar tpm import.
func TestCrashInTakeOver(t *testing.T) {
	state := func(name string) []byte {
		b, err := os.ReadFile("../tpm/testdata/libtpms/0.9.2." + name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for i, p := range places()[:2] {
		for _, suspended := range []bool{false, true} {
			for _, byImport := range []bool{false, true} {
				if i > 0 && byImport != suspended && !*deepCrashes {
					continue
				}
				c := newCrasher(t, p)
				after := model{mode: cold}
				for name, file := range map[string]string{foreignName: "permanent", foreignVolatileName: "volatile"} {
					if file == "volatile" && !suspended {
						continue
					}
					b, err := encodeForeign(state(file), p.keys[0], entropy.Replay(1))
					if err != nil {
						t.Fatal(err)
					}
					c.d.Put("/state/"+name, b)
				}
				if suspended {
					after.mode = running
				} else if m, err := c.start(c.d.Kill(), 0); err != nil {
					t.Fatal(err)
				} else {
					after = m
				}
				c.was = after // it can be taken over again
				c.may = []model{after}
				if byImport {
					c.step("import", after, func() error {
						f, err := readForeignDir("/state", func(name string) ([]byte, error) { return c.d.Read("/state/"+name, maxForeign) }, p.keys[0])
						if err == nil {
							_, err = Import(p.open(c.d), p.keys[0], simulatedEngine(), f)
						}
						return err
					})
				}
				c.h = p.host(c.d, p.keys[0])
				c.step("the start", after, func() error { return c.h.Start() })
				c.report()
			}
		}
	}
}

// TestCrashIsSeen: the test of crashes sees a disk that does not do what it says.
func TestCrashIsSeen(t *testing.T) {
	for _, lie := range []disk.Kind{disk.KindSync, disk.KindSyncDir} {
		c := newCrasher(t, places()[0])
		c.wrong = func(string, ...any) { c.seen = true }
		c.d.Fault = func(n int, op disk.Op) disk.Fault {
			if op.Kind == lie && n > 6 {
				return disk.Lie
			}
			return disk.None
		}
		c.life()
		if !c.seen {
			t.Errorf("a %s that does nothing is not seen in %d orders", lie, c.orders)
		}
	}
}
