package tpm

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// headerSize is the size in bytes of a command's and a response's header: tag,
// size, and command or response code.
const headerSize = 10

// Request is how a command arrives.
type Request struct {
	// Locality is 0 to 4, or 32 to 255.
	Locality uint8
	// PhysicalPresence says that somebody shows to be at the machine, as by a
	// button on it (Part 1, 13.4). A virtual machine has none; the simulator does.
	PhysicalPresence bool
	// Cancel is closed to stop the command where it can be stopped
	// (TPM_RC_CANCELED); may be nil.
	Cancel <-chan struct{}
}

// Execute runs one command and appends its response to buf[:0]. Whatever the
// command's bytes, there is a well-formed response. If commit.Pending, the
// response must not leave before commit.State is durable: settle the commit by
// Done or Rollback before the next call.
func (e *Engine) Execute(req Request, cmd, buf []byte) (response []byte, commit Commit) {
	if e.pending {
		panic("tpm: Execute before the last Commit was settled")
	}
	if e.failed {
		return e.executeFailed(cmd, buf), Commit{}
	}
	e.before, e.failure = e.state, authFailure{}
	defer func() {
		if r := recover(); r != nil {
			e.state = e.before
			e.fail(cmd, r)
			response, commit = errorResponse(buf, tpm2.RCFailure), Commit{}
		}
	}()
	healed := e.tick()
	c := &e.call
	*c = call{req: req, tag: tpm2.STNoSessions, auth: authArea{decrypt: -1, encrypt: -1, audit: -1, failed: -1}}
	// Authorization values and what was decrypted are not left in memory.
	defer func() { clear(c.body) }()
	if rc := e.perform(c, cmd, buf); rc != tpm2.RCSuccess {
		e.undo()
		c.dirty = false
		dirty := e.countFailure(c)
		if c.endsShutdown && c.evenFailed && e.state.orderly != shutdownNone {
			e.state.orderly, dirty = shutdownNone, true
		}
		return errorResponse(buf, rc), e.commit(dirty || healed)
	}
	e.followShutdown(c)
	e.noteProtectedUse(c)
	return c.response, e.commit(c.dirty || healed)
}

// undo takes back what a command has done, but not the passing of time, nor
// what was tested, nor the end that any command puts to a _TPM_Hash_Start
// sequence.
func (e *Engine) undo() {
	timing, lockout, test := e.state.timing, e.state.lockout, e.state.test
	e.state = e.before
	e.state.timing, e.state.lockout, e.state.test = timing, lockout, test
	e.state.countdowns.Update(timing.Time)
	e.state.event = nil
}

// tick brings time up to date for the command, and reports whether time has
// healed the lockout. Clock alone is not worth a write.
func (e *Engine) tick() (healed bool) {
	e.state.event = nil
	e.state.timing.Update(e.cfg.Clock.Now())
	e.state.countdowns.Update(e.state.timing.Time)
	return e.state.started && e.state.lockout.Heal(e.state.timing.Time)
}

// perform parses, authorizes and runs a command (ExecuteCommand): the order of
// the checks is the reference code's, since it decides which of several errors
// a caller sees.
func (e *Engine) perform(c *call, cmd, buf []byte) tpm2.RC {
	body, rc := e.parseHeader(c, cmd)
	if rc != tpm2.RCSuccess {
		return rc
	}
	if body, rc = e.parseHandles(c, body); rc != tpm2.RCSuccess {
		return rc
	}
	if rc = e.resolve(c); rc != tpm2.RCSuccess {
		return rc
	}
	e.requireFor(c.objects[:])
	if c.tag == tpm2.STSessions {
		rc = e.parseAuthArea(c, body)
	} else {
		c.params = body
		rc = requireNoAuth(c.cmd)
		e.prepareAudit(c)
	}
	if rc != tpm2.RCSuccess {
		return rc
	}
	return e.respond(c, buf)
}

// parseHeader reads the header and finds the command.
func (e *Engine) parseHeader(c *call, cmd []byte) (body []byte, rc tpm2.RC) {
	if len(cmd) < 2 {
		return nil, tpm2.RCInsufficient
	}
	var tag tpm2.ST
	dec := tpm2.NewDecoder(cmd[:2])
	if tag.Walk(&dec); dec.RC() != tpm2.RCSuccess {
		return nil, dec.RC()
	}
	if tag != tpm2.STNoSessions && tag != tpm2.STSessions {
		return nil, tpm2.RCBadTag
	}
	if len(cmd) < 6 {
		return nil, tpm2.RCInsufficient
	}
	if size := binary.BigEndian.Uint32(cmd[2:]); uint64(size) != uint64(len(cmd)) || size > e.buffer {
		return nil, tpm2.RCCommandSize
	}
	if len(cmd) < headerSize {
		return nil, tpm2.RCInsufficient
	}
	c.tag = tag
	c.cmd = e.profile.lookup(tpm2.CC(binary.BigEndian.Uint32(cmd[6:])))
	if c.cmd == nil {
		return nil, tpm2.RCCommandCode
	}
	if e.state.readOnly && refusedReadOnly.has(c.cmd.cc) {
		return nil, tpm2.RCReadOnly
	}
	if e.state.started == (c.cmd.cc == tpm2.CCStartup) {
		return nil, tpm2.RCInitialize
	}
	// The parameters are decrypted in place: the caller's bytes stay as they are.
	c.body = append([]byte(nil), cmd[headerSize:]...)
	return c.body, tpm2.RCSuccess
}

func (e *Engine) parseHandles(c *call, body []byte) ([]byte, tpm2.RC) {
	for i := range c.cmd.handles {
		if len(body) < 4 {
			return nil, tpm2.RCInsufficient.H(i + 1)
		}
		c.handles[i] = tpm2.Handle(binary.BigEndian.Uint32(body))
		if !c.cmd.handles[i].kind.allows(c.handles[i]) || isCountdown(c.handles[i]) && !e.hasCountdowns() {
			return nil, tpm2.RCValue.H(i + 1)
		}
		body = body[4:]
	}
	return body, tpm2.RCSuccess
}

// respond runs the command and builds the response around its parameters.
func (e *Engine) respond(c *call, buf []byte) tpm2.RC {
	c.response = append(buf[:0], make([]byte, headerSize)...)
	if c.cmd.retHandle {
		c.response = append(c.response, 0, 0, 0, 0)
	}
	sizeAt := len(c.response)
	if c.tag == tpm2.STSessions {
		c.response = append(c.response, 0, 0, 0, 0)
	}
	paramsAt := len(c.response)
	if rc := c.cmd.run(e, c); rc != tpm2.RCSuccess {
		return rc
	}
	if c.cmd.retHandle {
		binary.BigEndian.PutUint32(c.response[headerSize:], uint32(c.handle))
	}
	if c.tag == tpm2.STSessions {
		binary.BigEndian.PutUint32(c.response[sizeAt:], uint32(len(c.response)-paramsAt))
		e.encryptResponse(c, paramsAt)
	}
	end := len(c.response)
	params := c.response[paramsAt:end:end]
	e.auditCommand(c, params)
	for i := range c.auth.n {
		e.appendResponseAuth(c, &c.auth.sessions[i], params)
	}
	if c.flush != 0 {
		e.state.objects.Flush(c.flush)
	}
	e.dropCopies(c)
	if uint64(len(c.response)) > uint64(e.buffer) {
		panic(fmt.Sprintf("a response of %d bytes does not fit the buffer of %d", len(c.response), e.buffer))
	}
	putHeader(c.response, c.tag, tpm2.RCSuccess)
	return tpm2.RCSuccess
}

func putHeader(b []byte, tag tpm2.ST, rc tpm2.RC) {
	binary.BigEndian.PutUint16(b, uint16(tag))
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[6:], uint32(rc))
}

// errorResponse is a response that is only a code. Its tag is TPM_ST_NO_SESSIONS
// for TPM_RC_BAD_TAG as well, as in the reference code: OVMF probes a tpm-tis with
// a command of TPM 1.2 and takes whoever answers with TPM_ST_RSP_COMMAND (Part 2,
// 6.9) for a TPM 1.2, which it then does not start.
func errorResponse(buf []byte, rc tpm2.RC) []byte {
	b := append(buf[:0], make([]byte, headerSize)...)
	putHeader(b, tpm2.STNoSessions, rc)
	return b
}

// fail enters failure mode, in which the TPM answers nothing but what it is
// and that it has failed, until it is powered off.
func (e *Engine) fail(cmd []byte, cause any) {
	e.failed = true
	if e.cfg.Log == nil {
		return
	}
	cc := "none"
	if len(cmd) >= headerSize {
		cc = tpm2.CC(binary.BigEndian.Uint32(cmd[6:])).String()
	}
	e.cfg.Log.Error("the TPM entered failure mode", slog.String("command", cc),
		slog.Any("cause", cause), slog.String("stack", string(debug.Stack())))
}
