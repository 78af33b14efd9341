package tpm

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/hierarchy"
	"github.com/ashlar-cloud/ashlar/tpm/internal/lockout"
	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm/internal/timing"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Sizes of the command and response buffers in bytes: the default is the
// largest, and the smallest is what a guest's driver may negotiate.
const (
	DefaultBufferSize = 4096
	MinBufferSize     = 2808
)

// Config is what an instance needs from its host.
type Config struct {
	// Clock gives time; required.
	Clock clock.Clock
	// Entropy gives random bytes; required. The operating system's generator
	// in production.
	Entropy io.Reader
	// BufferSize is TPM_PT_MAX_COMMAND_SIZE and TPM_PT_MAX_RESPONSE_SIZE in
	// bytes; 0 stands for DefaultBufferSize.
	BufferSize uint32
	// Log gets a line when the engine enters failure mode; may be nil.
	Log *slog.Logger
}

func (c *Config) check() error {
	if c.Clock == nil || c.Entropy == nil {
		return errors.New("tpm: a Config needs a Clock and Entropy")
	}
	if c.BufferSize != 0 && (c.BufferSize < MinBufferSize || c.BufferSize > DefaultBufferSize) {
		return fmt.Errorf("tpm: a buffer of %d bytes is not between %d and %d",
			c.BufferSize, MinBufferSize, DefaultBufferSize)
	}
	return nil
}

// Engine is one TPM. It serves one caller at a time.
type Engine struct {
	cfg      Config
	profile  *Profile
	buffer   uint32
	instance [16]byte
	tests    crypt.Tests
	state    state
	before   state // as it was before the command that is running or pending
	call     call  // the command that is running, kept to spare its memory
	size     int   // of the last permanent state in bytes, about that of the next

	failed  bool // failure mode (Part 1, 12.4)
	pending bool // a Commit has been given out and not settled

	suspended moment // of the volatile state that Resume read

	// unwritten: the last Commit could not be made durable.
	unwritten bool
	// failure is the authorization that failed in the command that is running
	// or pending and is counted towards lockout.
	failure authFailure
}

// state is everything a command may change, snapshotted by assignment.
type state struct {
	hierarchies hierarchy.State
	objects     object.State
	nv          nv.State
	pcrs        pcr.State
	sessions    session.State
	lockout     lockout.State
	timing      timing.State
	countdowns  timing.Countdowns
	audit       commandAudit
	// ppCommands are the commands whose authorization by the platform needs
	// physical presence, besides PP_Commands, whose does always.
	ppCommands  commandList
	commitments commitments

	started     bool     // TPM2_Startup was done since _TPM_Init
	orderly     shutdown // the Shutdown in force
	wasOrderly  bool     // a Shutdown was in force at Startup
	established bool     // TPM_ESTABLISHED
	// readOnly: ReadOnlyControl has put the TPM in Read-Only mode.
	readOnly    bool
	hcrtm       bool   // an H-CRTM sequence ran before Startup
	objectCount uint64 // id of the next saved object context
	// clears counts TPM Restarts and Resets besides: a context saved with
	// stClear objects is good only until the next one (gr.clearCount).
	clears uint32
	// resets counts TPM Resets (gp.totalResetCount), for contexts.
	resets uint64
	// algorithmSet is what SetAlgorithmSet said.
	algorithmSet uint32
	// firmware is the version that the TPM shows: that of the libtpms which made
	// it, where its state was taken over.
	firmware uint64
	// foreign: contexts that libtpms has saved are still good, until the next TPM
	// Reset.
	foreign bool
	// generation counts the Commits that were pending: by it a volatile state
	// knows the permanent one that it belongs to.
	generation uint64
	lineage    lineage
	test       selfTest
	// event is the running _TPM_Hash_Start sequence.
	event *hashSequence
}

// shutdown is the kind of TPM2_Shutdown that is in force.
type shutdown uint8

const (
	shutdownNone shutdown = iota
	shutdownClear
	shutdownState
)

// BufferSize is the size in bytes of the largest command and response.
func (e *Engine) BufferSize() uint32 { return e.buffer }

// SetBufferSize asks for buffers of n bytes and gives the size in force, n
// clamped to what is possible. 0 only asks.
func (e *Engine) SetBufferSize(n uint32) uint32 {
	if n != 0 {
		e.buffer = min(max(n, MinBufferSize), DefaultBufferSize)
	}
	return e.buffer
}

// Started reports whether TPM2_Startup was done since power on.
func (e *Engine) Started() bool { return e.state.started && !e.failed }

// NeedsShutdown reports whether cutting the power now would be disorderly: the
// host should send TPM2_Shutdown first.
func (e *Engine) NeedsShutdown() bool {
	return e.Started() && e.state.orderly == shutdownNone
}

// Established is the TPM_ESTABLISHED flag: a D-RTM or H-CRTM sequence has run.
func (e *Engine) Established() bool { return e.state.established }

// ResetEstablished clears the flag; only localities 3 and 4 may (PC Client
// Platform TPM Profile, 6.2).
func (e *Engine) ResetEstablished(locality uint8) tpm2.RC {
	if locality != 3 && locality != 4 {
		return tpm2.RCLocality
	}
	e.state.established = false
	return tpm2.RCSuccess
}

// random fills a fresh slice of n bytes. A generator that fails is a defect of
// the TPM: failure mode.
func (e *Engine) random(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(e.cfg.Entropy, b); err != nil {
		panic(fmt.Errorf("the random generator failed: %w", err))
	}
	return b
}
