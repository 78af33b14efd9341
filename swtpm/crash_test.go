package swtpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/disk"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// deepCrashes has every start after a crash be crashed too, in each way to keep a state.
var deepCrashes = flag.Bool("crash.deep", false, "crash every start after a crash too, which takes minutes")

// modes say how a TPM goes on.
type mode string

const (
	absent  mode = "there is none"
	cold    mode = "from a power loss"         // or Shutdown(CLEAR)
	kept    mode = "from Shutdown(STATE)"      // Startup(STATE) brings PCRs back
	resumed mode = "where it was"              // with all that was running
	running mode = "from swtpm's, where it is" // taken over with its running state
)

// model is what one can see of a TPM.
type model struct {
	mode           mode
	value, counter uint64 // of the two indices
	pcr            byte   // the first one of PCR 10, where it can be kept
}

// Indices of the workload.
const (
	valueIndex   = 0x01800001
	counterIndex = 0x01800002
)

// frame is a command whose handles are all authorized by an empty password, or the
// first of them.
func frame(cc uint32, handles []uint32, authorized bool, parameters ...[]byte) []byte {
	tag, body := uint16(0x8001), []byte(nil)
	for _, h := range handles {
		body = binary.BigEndian.AppendUint32(body, h)
	}
	if authorized {
		tag = 0x8002
		body = append(body, unhex("00000009 40000009 0000 00 0000")...)
	}
	body = append(body, bytes.Join(parameters, nil)...)
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(body)))
	return append(binary.BigEndian.AppendUint32(b, cc), body...)
}

func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func defineIndex(index, attributes uint32) []byte {
	public := binary.BigEndian.AppendUint32(nil, index)
	public = append(public, 0, 0x0b)
	public = binary.BigEndian.AppendUint32(public, attributes|1<<2|1<<18|1<<25) // AUTHWRITE, AUTHREAD, NO_DA
	return frame(0x12a, []uint32{0x40000001}, true, sized(nil), sized(append(public, 0, 0, 0, 8)))
}

func writeValue(v uint64) []byte {
	return frame(0x137, []uint32{valueIndex, valueIndex}, true, sized(binary.BigEndian.AppendUint64(nil, v)), []byte{0, 0})
}

var (
	incrementCounter = frame(0x134, []uint32{counterIndex, counterIndex}, true)
	extendPCR10      = frame(0x182, []uint32{10}, true, unhex("00000001 000b"), bytes.Repeat([]byte{1}, 32))
	readPCR10        = frame(0x17e, nil, false, unhex("00000001 000b 03 000400"))
	shutdownKeep     = startupCommand(ccShutdown, suState)
)

// readIndex gives an index's value, 0 where it is not there or was never written.
func readIndex(h *Host, index uint32) uint64 {
	b := h.Execute(0, frame(0x14e, []uint32{index, index}, true, []byte{0, 8, 0, 0}), nil)
	if responseCode(b) != 0 {
		return 0
	}
	return binary.BigEndian.Uint64(b[16:])
}

// place is how a TPM's state is kept, on a simulated disk.
type place struct {
	name   string
	single bool
	backup bool
	keys   []*Key // that it may be under, the first to begin with
}

func places() []place {
	one, other := testKey("0123456789abcdef0123456789abcdef", false), testKey("another key that has 256 bits too", false)
	return []place{
		{name: "directory", keys: []*Key{nil, one}},
		{name: "encrypted", keys: []*Key{one, other}},
		{name: "backup", backup: true, keys: []*Key{nil, one}},
		{name: "one file", single: true, keys: []*Key{one, nil}},
	}
}

func (p *place) open(d *disk.Simulated) *store.Dir {
	opt := store.Options{Mode: 0o600, NoLock: true, Backup: p.backup, Room: 20 << 10, FS: d}
	open := store.OpenDir
	if p.single {
		open = OpenFile
	}
	dir, err := open("/state", opt)
	if err != nil {
		panic(err)
	}
	return dir
}

func simulatedEngine() tpm.Config {
	return tpm.Config{Clock: new(clock.Manual), Entropy: entropy.Replay(1)}
}

func (p *place) host(d *disk.Simulated, key *Key) *Host {
	return NewHost(Config{Dir: p.open(d), Key: key, Engine: simulatedEngine(), Log: slog.New(slog.DiscardHandler)})
}

// crasher runs a workload and crashes it.
type crasher struct {
	t     *testing.T
	place place
	d     *disk.Simulated
	h     *Host
	was   model
	may   []model // what may be there when the power goes now

	known                  map[[32]byte]model // what was found where the files were these
	points, orders, starts int
	wrong                  func(format string, args ...any)
	seen                   bool // what was looked for: it need not crash any more
}

func newCrasher(t *testing.T, p place) *crasher {
	c := &crasher{t: t, place: p, d: disk.NewSimulated(), was: model{mode: absent}, known: map[[32]byte]model{}, wrong: t.Fatalf}
	c.may = []model{c.was}
	c.d.Stale = !p.single
	c.d.Watch = func(op disk.Op) {
		if c.seen {
			return
		}
		c.points++
		c.orders += disk.EachChoice(func(choices *disk.Choices) {
			got, err := c.find(c.d.Crash(choices))
			if err != nil || !slices.Contains(c.may, got) {
				c.wrong("%s: crash after operation %d, %s of %s: %+v, want one of %+v: %v", p.name, c.d.Ops(), op.Kind, op.Path, got, c.may, err)
			}
		})
	}
	return c
}

// files are the states on a disk, decrypted, by the number of their key: -1 where there
// are none.
func (p *place) files(d *disk.Simulated) (permanent, volatile []byte, key int, err error) {
	for i, k := range p.keys {
		s := newStates(p.open(d), k, simulatedEngine())
		permanent, err = s.load()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, -1, nil
		}
		if err != nil {
			continue
		}
		if volatile, _, err = s.volatile.Load(); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return permanent, volatile, i, err
	}
	return nil, nil, 0, err
}

// find starts what a crash has left, and gives what it sees. What it has seen once it
// need not start again.
func (c *crasher) find(d *disk.Simulated) (model, error) {
	permanent, volatile, key, err := c.place.files(d)
	if err != nil {
		return model{}, err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %d %v ", key, len(permanent), volatile != nil)
	sum.Write(permanent)
	sum.Write(volatile)
	if key < 0 {
		if foreign, _ := d.Read("/state/"+foreignName, maxForeign); foreign == nil {
			return model{mode: absent}, nil
		}
		key = 0
	}
	id := [32]byte(sum.Sum(nil))
	if m, ok := c.known[id]; ok {
		return m, nil
	}
	c.starts++
	m, err := c.start(d.Kill(), key)
	if err != nil || c.seen {
		return m, err
	}
	c.known[id] = m
	if !c.place.single || *deepCrashes {
		c.crashStart(d, key, m)
	}
	return m, nil
}

// start looks at a TPM.
func (c *crasher) start(d *disk.Simulated, key int) (m model, err error) {
	h := c.place.host(d, c.place.keys[key])
	if err := h.Start(); err != nil {
		return m, err
	}
	switch {
	case h.stored && d.Get("/state/"+foreignVolatileName) != nil:
		m.mode = running
	case h.stored:
		m.mode = resumed
	case h.Startup(true) == 0:
		m.mode = kept
	case h.Startup(false) == 0:
		m.mode = cold
	default:
		return m, errors.New("it does not start up")
	}
	m.value, m.counter = readIndex(h, valueIndex), readIndex(h, counterIndex)
	if b := h.Execute(0, readPCR10, nil); m.mode == kept || m.mode == resumed {
		m.pcr = b[len(b)-32]
	}
	return m, nil
}

// crashStart has the power go again, at each operation of a start after a crash: but
// for how it goes on, the TPM is then as it was found.
func (c *crasher) crashStart(d *disk.Simulated, key int, found model) {
	type powerLost struct{}
	c.orders += disk.EachChoice(func(choices *disk.Choices) {
		again := d.Kill().Crash(choices)
		func() {
			defer func() {
				if r := recover(); r != nil && r != (powerLost{}) {
					panic(r)
				}
			}()
			again.Watch = func(disk.Op) {
				if choices.Choose(2) == 1 {
					panic(powerLost{})
				}
			}
			if _, err := c.start(again, key); err != nil {
				c.wrong("a start after a crash: %v", err)
			}
		}()
		again.Watch = nil
		permanent, volatile, now, err := c.place.files(again.Crash(choices))
		switch {
		case err != nil:
			c.wrong("a start after a crash, and a crash: %v", err)
			return
		case now < 0:
			if found.mode != running && found.mode != absent && d.Get("/state/"+foreignName) == nil {
				c.wrong("a start after a crash, and a crash: the TPM is gone")
			}
			return
		}
		id := sha256.Sum256(append(slices.Clone(permanent), volatile...))
		m, ok := c.known[id]
		if !ok {
			left := disk.NewSimulated()
			s := newStates(c.place.open(left), c.place.keys[now], simulatedEngine())
			s.permanent.put(permanent)
			if volatile != nil {
				s.volatile.put(volatile)
			}
			c.starts++
			if m, err = c.start(left, now); err != nil {
				c.wrong("a start after a crash, and a crash: %v", err)
			}
			c.known[id] = m
		}
		if m.value != found.value || m.counter != found.counter {
			c.wrong("a start after a crash, and a crash: %+v, was %+v", m, found)
		}
	})
}

// step does what makes a TPM be as after says; until it is acknowledged it may also be
// one of those between.
func (c *crasher) step(what string, after model, do func() error, between ...model) {
	c.t.Helper()
	c.may = append([]model{c.was, after}, between...)
	if err := do(); err != nil {
		c.t.Fatalf("%s, %s: %v", c.place.name, what, err)
	}
	c.was, c.may = after, []model{after}
	c.d.Watch(disk.Op{Kind: "acknowledged", Path: what})
}

// command is a step of one TPM command.
func (c *crasher) command(cmd []byte, after model, between ...model) {
	c.t.Helper()
	c.step(fmt.Sprintf("command %x", cmd[6:10]), after, func() error {
		if rc := responseCode(c.h.Execute(0, cmd, nil)); rc != 0 {
			return rc
		}
		return nil
	}, between...)
}

func result(r Result) error {
	if r != OK {
		return fmt.Errorf("result %d", r)
	}
	return nil
}
