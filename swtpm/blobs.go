package swtpm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ashlar-cloud/ashlar/internal/seal"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// BlobType names a state that the control channel carries.
type BlobType uint32

// Types of state blobs.
const (
	BlobPermanent BlobType = 1
	BlobVolatile  BlobType = 2
	BlobSaveState BlobType = 3 // of TPM 1.2: always absent
)

// MaxBlob is the largest state in bytes that SET_STATEBLOB takes.
const MaxBlob = store.MaxSize

// releasedRetries is how often a command tries to have the lock back that was given
// up, 10 ms apart, as in swtpm: the target of a migration that failed may be ending.
const releasedRetries = 300

// lock takes the lock on the state directory where it is not held. Where this
// host had given it up, the TPM that runs here is the one that lives on: who
// asks for the lock says so, and what the target of the failed migration wrote
// is replaced. Where it never had it, a state that was changed since this TPM
// was started is not overwritten.
func (h *Host) lock(retries int) Result {
	if h.cfg.Dir.Locked() {
		return OK
	}
	if err := h.cfg.Dir.Lock(retries); err != nil {
		h.log.Error("the state cannot be locked", "err", err)
		return Fail
	}
	if err := h.takeBack(); err != nil {
		h.log.Error("the state cannot be taken over", "err", err)
		h.unlock()
		return Fail
	}
	h.released, h.retries = false, 0
	return OK
}

// takeBack makes the state on the disk that of the engine that runs, if any.
func (h *Host) takeBack() error {
	if h.engine == nil {
		return nil
	}
	before := h.state.version
	_, now, err := h.state.permanent.File.Load()
	if err != nil {
		return err
	}
	h.state.version = now
	if h.released { // the target may have put its volatile state there
		if err := h.state.volatile.Remove(); err != nil {
			return err
		}
	}
	switch {
	case now == before:
		return nil
	case h.released:
		permanent, err := saved(h.engine.Permanent())
		if err != nil {
			return err
		}
		return h.state.save(permanent)
	}
	h.state.version = before
	return errMovedOn
}

var errMovedOn = errors.New("it was changed by another process since this TPM was started: INIT reads it again")

func (h *Host) unlock() {
	if err := h.cfg.Dir.Unlock(); err != nil {
		h.log.Error("the state cannot be unlocked", "err", err)
	}
}

// StoreVolatile saves the running state beside the permanent one; the next
// power on goes on from it.
func (h *Host) StoreVolatile() Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine == nil {
		return BadOrdinal
	}
	volatile, err := saved(h.engine.SaveVolatile())
	if err == nil {
		err = h.state.volatile.put(volatile)
	}
	if err != nil {
		h.log.Error("the volatile state was not saved", "err", err)
		return Fail
	}
	h.suspended, h.stored = true, true
	return OK
}

// StateBlob gives a state of the running TPM: under the migration key where there is
// one, and before that under the key for files where there is one and decrypted does
// not ask to leave that out; encrypted reports that.
func (h *Host) StateBlob(t BlobType, decrypted bool) (_ []byte, encrypted bool, r Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine == nil {
		return nil, false, BadOrdinal
	}
	var blob []byte
	switch t {
	case BlobPermanent:
		blob = h.engine.Permanent()
	case BlobVolatile:
		blob = h.engine.SaveVolatile()
	case BlobSaveState:
		if h.cfg.ReleaseOutgoing {
			h.unlock()
			h.released, h.retries = true, releasedRetries
		}
		return nil, false, Retry
	default:
		return nil, false, Fail
	}
	blob, err := saved(blob)
	if err == nil {
		blob, encrypted, err = h.sealBlob(t, blob, decrypted)
	}
	if err != nil {
		h.log.Error("no state is given away", "err", err)
		return nil, false, Fail
	}
	h.suspended = h.suspended || t == BlobVolatile
	h.copied = true
	return blob, encrypted, OK
}

var errUnsaved = errors.New("a defect keeps the state from being saved: the TPM is in failure mode")

// saved is what an engine has saved, if it has.
func saved(b []byte) ([]byte, error) {
	if b == nil {
		return nil, errUnsaved
	}
	return b, nil
}

// SetStateBlob keeps a state for the next power on, which must be off now; encrypted
// says that it is under the key for files, perhaps below a migration key. A state that
// cannot be read, or a volatile one that does not belong to the permanent one, is
// refused with BadParameter before anything is written, and one whose key is not here
// with KeyNotFound, DecryptError or BadKeyProperty.
func (h *Host) SetStateBlob(t BlobType, b []byte, encrypted bool) Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.engine != nil {
		return BadOrdinal
	}
	if r := h.lock(0); r != OK {
		return IOError
	}
	var err error
	switch t {
	case BlobPermanent:
		err = h.setPermanent(b, encrypted)
	case BlobVolatile:
		err = h.setVolatile(b, encrypted)
	case BlobSaveState:
		if len(b) != 0 {
			return BadParameter
		}
	default:
		return BadParameter
	}
	if err != nil {
		h.log.Error("the state was not taken", "type", uint32(t), "err", err)
		if errors.Is(err, errBadBlob) {
			return keyResult(err)
		}
		return Fail
	}
	return OK
}

// errBadBlob says that a state that came in was not one to go on from.
var errBadBlob = errors.New("the state that came in cannot be used")

// setPermanent puts a state into the permanent file; one of swtpm's is converted.
// A volatile state that belonged to the one before goes first.
func (h *Host) setPermanent(blob []byte, encrypted bool) error {
	state, foreign, err := h.openBlob(BlobPermanent, blob, encrypted)
	defer clear(state)
	b := state
	if err == nil && foreign {
		b, err = tpm.ImportLibtpms(h.cfg.Engine, state)
	}
	if err == nil {
		_, err = tpm.New(h.cfg.Engine, b)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errBadBlob, err)
	}
	now, version, err := h.state.permanent.File.Load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b, arrived := h.follow(now, b)
	defer clear(b)
	if err := h.state.volatile.Remove(); err != nil {
		return err
	}
	if err := h.state.permanent.replace(now, version, b); err != nil {
		return err
	}
	arrived()
	return nil
}

// follow gives what is to be kept of a state that came in, in the place of what is in the
// file, nil for none; arrived says in the log what it is when it is kept.
func (h *Host) follow(last, next []byte) (state []byte, arrived func()) {
	note := func(say func(string, ...any), message string) func() { return func() { say(message) } }
	if last == nil {
		return bytes.Clone(next), note(h.log.Info, "the state of a TPM came in")
	}
	var err error
	if _, sealed := seal.Sealed(last); sealed {
		last, err = unseal(h.cfg.Key, sealedPermanent, last)
	} else {
		last = bytes.Clone(last)
	}
	defer clear(last)
	var reverted bool
	if err == nil {
		state, reverted, err = tpm.Follow(h.cfg.Engine, last, next)
	}
	switch {
	case err != nil: // it makes no TPM, so that nothing is lost
		return bytes.Clone(next), func() {
			h.log.Warn("the state of the TPM was replaced by one that came in, and cannot be compared with it", "err", err)
		}
	case reverted:
		return state, note(h.log.Warn, "the state of the TPM was replaced by one that came in and is older, such as a snapshot's: attestations show it")
	}
	return state, note(h.log.Info, "the state of a TPM came in, and took the place of what was here of it, or of another TPM")
}

// diverge gives the state a generation of its own before the first command after it was
// given away: then the copy is older than all that comes. Where that cannot be written,
// the next command that is has the same effect.
func (h *Host) diverge() {
	if !h.copied {
		return
	}
	h.copied = false
	if r := h.settle(h.engine.Touch()); r != OK {
		h.log.Warn("that the state was given away is not noted yet, since it cannot be written")
	}
}

// setVolatile puts a state into the volatile file; one of swtpm's is converted.
func (h *Host) setVolatile(blob []byte, encrypted bool) error {
	permanent, err := h.state.load()
	if err != nil {
		return err
	}
	defer clear(permanent)
	state, foreign, err := h.openBlob(BlobVolatile, blob, encrypted)
	defer clear(state)
	b := state
	if err == nil && foreign {
		b, err = tpm.ImportLibtpmsVolatile(h.cfg.Engine, permanent, state)
	}
	if err == nil {
		_, err = tpm.Resume(h.cfg.Engine, permanent, b)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errBadBlob, err)
	}
	return h.state.volatile.put(b)
}
