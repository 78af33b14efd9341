package swtpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/ashlar-cloud/ashlar/internal/seal"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Limits of the buffer size in bytes that SET_BUFFERSIZE can negotiate.
const (
	MinBufferSize = tpm.MinBufferSize
	MaxBufferSize = tpm.DefaultBufferSize
)

// Config says what a Host is made of.
type Config struct {
	Dir    *store.Dir // where the state files are
	Engine tpm.Config // BufferSize 0 = MaxBufferSize
	Log    *slog.Logger

	// Key encrypts the state files, nil for none: what is there already must be
	// encrypted under it. MigrationKey encrypts the states that the control channel
	// gives away. Both stay the caller's.
	Key, MigrationKey *Key

	// Profile is what a new TPM shows, null where nil. Where there is a TPM
	// already, one that is given keeps it from starting.
	Profile *tpm.Profile
	// NoAutoShutdown leaves out the Shutdown that is sent before power off
	// where the guest sent none.
	NoAutoShutdown bool
	// RejectLocality4 refuses locality 4 to control and data channel.
	RejectLocality4 bool
	// AllowSetLocality accepts the vTPM proxy's SetLocality command.
	AllowSetLocality bool
	// Incoming leaves the lock on the state directory to the source of a
	// migration until a state arrives, or the first command.
	Incoming bool
	// Record is given each command, those that a Host sends itself among them, and
	// its response, which it must not keep or change; nil where nobody asks.
	Record func(response bool, packet []byte)
	// ReleaseOutgoing gives the lock up when the last state blob was read.
	ReleaseOutgoing bool
	// Idle is called some seconds after the host had something to do, when nothing
	// has come since; nil where nobody asks.
	Idle func()
}

// Host gives one engine its power, its locality and its disk. Its methods may
// be called from several goroutines; all but Cancel and HoldCancel wait for a
// running command.
type Host struct {
	cfg       Config
	log       *slog.Logger
	migration *Key // that of cfg

	powered atomic.Bool // engine != nil, readable while a command runs

	mu        sync.Mutex // held while a command runs
	engine    *tpm.Engine
	buffer    uint32 // buffer size of the next power on
	locality  uint8
	suspended bool   // the volatile state was saved and nothing came since
	stored    bool   // the volatile file is there and belongs to the permanent one
	released  bool   // the lock on the state was given up to a migration's target
	retries   int    // tries more that a command makes to have the lock
	copied    bool   // a state was given away, and no command came since
	nvOff     bool   // the simulator took the NV away
	presence  bool   // physical presence, shown until it is taken away
	last      uint32 // code of the last command that a guest sent
	state     states

	countdowns countdowns
	idle       idle

	cancelMu sync.Mutex
	cancel   chan struct{} // of this command or the next; nil = to be made
	running  chan struct{} // cancel, while a command runs that was not cancelled
	held     bool          // the simulator holds the cancel line
}

// NewHost makes a host whose TPM is off.
func NewHost(cfg Config) *Host {
	h := &Host{cfg: cfg, log: cfg.Log, buffer: cfg.Engine.BufferSize, idle: idle{time: idleTime}}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.buffer == 0 {
		h.buffer = MaxBufferSize
	}
	h.migration = share(cfg.Key, cfg.MigrationKey)
	h.state = newStates(cfg.Dir, cfg.Key, cfg.Engine)
	h.prepareKeys()
	return h
}

// prepareKeys begins what a passphrase takes beside the rest of the start: the power
// comes when firmware is about to run, and a state to give away later still.
func (h *Host) prepareKeys() {
	prepare := func(k *Key, state []byte) {
		salt := new(bytes.Buffer)
		if _, err := io.CopyN(salt, h.cfg.Engine.Entropy, seal.SaltSize); err != nil {
			return // who needs one tells
		}
		go h.confine("the derivation of a key", func() { k.seal.Prepare(salt, state) })
	}
	if h.cfg.Key.passphrase() {
		b, _, err := h.state.permanent.File.Load()
		if err == nil || errors.Is(err, fs.ErrNotExist) { // others are told at the power on
			prepare(h.cfg.Key, b)
		}
	}
	if h.migration.passphrase() && (h.cfg.Key == nil || h.migration.seal != h.cfg.Key.seal) {
		prepare(h.migration, nil)
	}
}

// On reports whether the TPM has power.
func (h *Host) On() bool { return h.powered.Load() }

// PowerOn is INIT: it ends what ran before, reads the state files, makes a
// new TPM where there are none, and goes on from a volatile state where there
// is one. deleteVolatile removes that file when it has been read.
func (h *Host) PowerOn(deleteVolatile bool) Result {
	h.Cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.powerOff(true)
	h.stir()
	if err := h.powerOn(deleteVolatile); err != nil {
		h.log.Error("the TPM cannot be started", "err", err)
		return Fail
	}
	return OK
}

// Start is PowerOn for who can show the error to a person.
func (h *Host) Start() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine != nil {
		return nil
	}
	return h.powerOn(false)
}

func (h *Host) powerOn(deleteVolatile bool) error {
	if !h.cfg.Incoming {
		if err := h.cfg.Dir.Lock(0); err != nil {
			return err
		}
	}
	cfg := h.cfg.Engine
	cfg.BufferSize = h.buffer
	e, resumed, err := h.state.start(cfg, h.cfg.Profile)
	if err == nil && deleteVolatile {
		err = h.state.volatile.Remove()
	}
	if err != nil {
		return err
	}
	if h.state.tookOver != "" {
		h.log.Info("the TPM that swtpm had was taken over; its file is kept, and is not used any more", "file", h.state.tookOver)
		h.state.tookOver = ""
	}
	if h.state.permanent.Restored() {
		h.log.Warn("the state file was lost or damaged, and was made anew of its backup", "file", h.state.permanent.Path())
	}
	h.engine, h.stored, h.copied = e, resumed && !deleteVolatile, false
	h.suspended = h.stored // what is on the disk is this TPM until a command comes
	h.cfg.Profile = nil    // the TPM has it
	h.watchCountdowns()
	h.powered.Store(true)
	return nil
}

// Profile is what the TPM shows, or what it will show when it is made.
func (h *Host) Profile() *tpm.Profile {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine != nil {
		return h.engine.Profile()
	}
	if h.cfg.Profile != nil {
		return h.cfg.Profile
	}
	p, err := Profile(h.cfg.Dir, h.cfg.Key)
	if err != nil {
		h.log.Warn("the profile of the TPM cannot be read", "err", err)
		p, _ = tpm.RestoreProfile(nil) // null
	}
	return p
}

// PowerOff is STOP: it sends Shutdown where the guest did not, and takes the
// power away.
func (h *Host) PowerOff() {
	h.Cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.powerOff(true)
}

// Cut takes the power away without warning.
func (h *Host) Cut() {
	h.Cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.powerOff(false)
}

// Close cuts nothing short: it powers off and lets the state files go.
func (h *Host) Close() error {
	h.PowerOff()
	h.forgetIdle()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state.close()
	return h.cfg.Dir.Unlock()
}

func (h *Host) powerOff(orderly bool) {
	if h.engine == nil {
		return
	}
	if orderly && !h.cfg.NoAutoShutdown && !h.suspended && h.engine.Started() &&
		(h.last != ccShutdown || h.engine.NeedsShutdown()) {
		h.shutdown()
	}
	h.engine = nil
	h.forgetCountdowns()
	h.powered.Store(false)
}

// shutdown sends Shutdown(STATE), which serves any Startup, else
// Shutdown(CLEAR), so that a reset does not count towards lockout. As swtpm
// does, it follows a Shutdown of the guest that was not its last command.
func (h *Host) shutdown() {
	for _, su := range []uint16{suState, suClear} {
		rsp := h.execute(0, nil, startupCommand(ccShutdown, su), nil)
		if rc := responseCode(rsp); rc == tpm2.RCSuccess || rc == tpm2.RCInitialize {
			return
		}
	}
	h.log.Warn("the TPM could not be shut down in order")
}

// Command codes and startup types of the commands that a host sends itself
// (Part 2, 6.5.2 and 6.10).
const (
	ccStartup  = 0x00000144
	ccShutdown = 0x00000145
	suClear    = 0
	suState    = 1
)

func startupCommand(cc uint32, su uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, 0x8001)
	b = binary.BigEndian.AppendUint32(b, 12)
	b = binary.BigEndian.AppendUint32(b, cc)
	return binary.BigEndian.AppendUint16(b, su)
}

// Startup sends TPM2_Startup, of type STATE or CLEAR.
func (h *Host) Startup(state bool) tpm2.RC {
	su := uint16(suClear)
	if state {
		su = suState
	}
	return responseCode(h.Execute(0, startupCommand(ccStartup, su), nil))
}

// Execute runs one command at the given locality and gives the response,
// appended to buf[:0], when all that it changed is durable. Without power the
// answer is TPM_RC_FAILURE.
func (h *Host) Execute(locality uint8, cmd, buf []byte) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine == nil {
		return errorResponse(buf, tpm2.RCFailure)
	}
	if h.lock(h.retries) != OK { // another process may run this TPM now
		return errorResponse(buf, tpm2.RCFailure)
	}
	if !h.mayUse(locality) {
		return errorResponse(buf, tpm2.RCLocality)
	}
	suspended := h.suspended && !h.copied
	h.suspended = false
	h.diverge()
	h.last = commandCode(cmd)
	h.stir()
	cancel := h.arm()
	defer h.disarm()
	defer h.watchCountdowns()
	rsp := h.execute(locality, cancel, cmd, buf)
	if h.last == ccStartup && responseCode(rsp) == tpm2.RCInitialize { // it runs, and nothing has changed
		h.suspended = suspended
	}
	return rsp
}

func (h *Host) execute(locality uint8, cancel <-chan struct{}, cmd, buf []byte) []byte {
	h.record(false, cmd)
	rsp := h.commit(locality, cancel, cmd, buf)
	h.record(true, rsp)
	return rsp
}

func (h *Host) record(response bool, packet []byte) {
	if h.cfg.Record != nil {
		h.cfg.Record(response, packet)
	}
}

// commit runs a command and makes what it changed durable, or undoes it.
func (h *Host) commit(locality uint8, cancel <-chan struct{}, cmd, buf []byte) []byte {
	rsp, commit := h.engine.Execute(tpm.Request{Locality: locality, PhysicalPresence: h.presence, Cancel: cancel}, cmd, buf)
	if !commit.Pending() {
		return rsp
	}
	if !h.save(commit.State()) {
		return commit.Rollback(buf)
	}
	commit.Done()
	return rsp
}

// save makes a permanent state durable. A volatile state that belonged to the
// one before goes first: the next power on must not stumble over it.
func (h *Host) save(state []byte) bool {
	if h.nvOff {
		return false
	}
	if h.stored {
		if err := h.state.volatile.Remove(); err != nil {
			h.log.Error("the volatile state was not removed, the command is undone", "err", err)
			return false
		}
		h.stored = false
	}
	if err := h.state.save(state); err != nil {
		h.log.Error("the state was not saved, the command is undone", "err", err)
		return false
	}
	return true
}

// settle finishes what a hash sequence or another event changed.
func (h *Host) settle(commit tpm.Commit) Result {
	if !commit.Pending() {
		return OK
	}
	if !h.save(commit.State()) {
		commit.Rollback(nil)
		return IOError
	}
	commit.Done()
	return OK
}

// arm makes the command that begins one that can be cancelled.
func (h *Host) arm() <-chan struct{} {
	h.cancelMu.Lock()
	defer h.cancelMu.Unlock()
	if h.held {
		return closed
	}
	if h.cancel == nil { // the last one was used up
		h.cancel = make(chan struct{})
	}
	h.running = h.cancel
	return h.running
}

func (h *Host) disarm() {
	h.cancelMu.Lock()
	h.running = nil
	h.cancelMu.Unlock()
}

// closed is the cancel channel of a command that begins cancelled.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Cancel asks the running command to end. It does not wait, and does nothing
// where none runs.
func (h *Host) Cancel() {
	h.cancelMu.Lock()
	defer h.cancelMu.Unlock()
	h.signal()
}

// signal closes the channel of the running command.
func (h *Host) signal() {
	if h.running != nil {
		close(h.running)
		h.running, h.cancel = nil, nil
	}
}

// HoldCancel sets the simulator's cancel line: while it is on, commands that
// can be cancelled are.
func (h *Host) HoldCancel(on bool) {
	h.cancelMu.Lock()
	defer h.cancelMu.Unlock()
	h.held = on
	if on {
		h.signal()
	}
}

// SetPhysicalPresence says whether somebody shows to be at the machine: the
// simulator's button.
func (h *Host) SetPhysicalPresence(shown bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.presence = shown
}

// SetNV gives or takes the simulator's NV. While it is off, no state can be
// saved and commands that need it answer TPM_RC_NV_UNAVAILABLE.
func (h *Host) SetNV(available bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nvOff = !available
}

// confine runs f. A defect in it ends what it serves, which the log says, and
// nothing else: other servers may be in this process.
func (h *Host) confine(what string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			h.log.Error("a defect ended "+what, "cause", r, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// errorResponse is a response without parameters.
func errorResponse(buf []byte, rc tpm2.RC) []byte {
	b := binary.BigEndian.AppendUint16(buf[:0], 0x8001)
	b = binary.BigEndian.AppendUint32(b, 10)
	return binary.BigEndian.AppendUint32(b, uint32(rc))
}

// commandCode is 0 where there is no header.
func commandCode(cmd []byte) uint32 {
	if len(cmd) < 10 {
		return 0
	}
	return binary.BigEndian.Uint32(cmd[6:])
}

func responseCode(rsp []byte) tpm2.RC {
	if len(rsp) < 10 {
		return tpm2.RCFailure
	}
	return tpm2.RC(binary.BigEndian.Uint32(rsp[6:]))
}
