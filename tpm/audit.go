package tpm

import (
	"encoding/binary"
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// commandList is a list of commands in ascending order; replaced, never changed
// in place.
type commandList []tpm2.CC

// has reports whether a command is in the list.
func (l commandList) has(cc tpm2.CC) bool {
	_, is := slices.BinarySearch(l, cc)
	return is
}

// from is the part of the list from a code on.
func (l commandList) from(cc tpm2.CC) []tpm2.CC {
	i, _ := slices.BinarySearch(l, cc)
	return l[i:]
}

// with gives the list with a command that is not in it.
func (l commandList) with(cc tpm2.CC) commandList {
	i, _ := slices.BinarySearch(l, cc)
	return slices.Insert(slices.Clone(l), i, cc)
}

// set puts a command in the list or takes it out, and reports whether that is
// a change.
func (l *commandList) set(cc tpm2.CC, in bool) bool {
	i, is := slices.BinarySearch(*l, cc)
	switch {
	case is == in:
		return false
	case in:
		*l = l.with(cc)
	default:
		*l = slices.Delete(slices.Clone(*l), i, i+1)
	}
	return true
}

// Walk visits the list.
func (l *commandList) Walk(c *tpm2.Codec) {
	(*tpm2.CCList)(l).Walk(c)
	for i := range *l {
		if i > 0 && (*l)[i-1] >= (*l)[i] {
			c.Fail(tpm2.RCValue)
		}
	}
}

// commandAudit is the audit of commands (Part 1, 33): which are audited, and
// the log of those that ran.
type commandAudit struct {
	// commands are those audited besides SetCommandCodeAuditStatus, which always
	// is.
	commands commandList
	alg      tpm2.AlgID
	counter  uint64      // logs begun, since manufacture or TPM2_Clear
	digest   tpm2.Digest // of the log; empty where none is begun
}

// newCommandAudit is that of a new TPM.
func newCommandAudit() commandAudit { return commandAudit{alg: contextHash} }

// has reports whether a command is audited.
func (a *commandAudit) has(cc tpm2.CC) bool {
	return cc == tpm2.CCSetCommandCodeAuditStatus || a.commands.has(cc)
}

// list gives the commands audited.
func (a *commandAudit) list() commandList { return a.commands.with(tpm2.CCSetCommandCodeAuditStatus) }

// listDigest is the digest of that list (CommandAuditGetDigest).
func (a *commandAudit) listDigest() tpm2.Digest {
	var b []byte
	for _, cc := range a.list() {
		b = binary.BigEndian.AppendUint32(b, uint32(cc))
	}
	return a.alg.Digest(b)
}

// set makes a command audited or not, and reports whether that is a change.
// Shutdown cannot be audited, as its entry would come after what it saves.
func (a *commandAudit) set(cc tpm2.CC, audited bool) bool {
	return cc != tpm2.CCSetCommandCodeAuditStatus && cc != tpm2.CCShutdown && a.commands.set(cc, audited)
}

// WalkPermanent visits what outlives power.
func (a *commandAudit) WalkPermanent(c *tpm2.Codec) {
	a.commands.Walk(c)
	c.HashAlg(&a.alg, false)
	c.U64(&a.counter)
	if a.commands.has(tpm2.CCSetCommandCodeAuditStatus) || a.commands.has(tpm2.CCShutdown) {
		c.Fail(tpm2.RCValue)
	}
}

// WalkState visits what Shutdown(STATE) saves besides.
func (a *commandAudit) WalkState(c *tpm2.Codec) {
	a.digest.Walk(c)
	if n := len(a.digest); n != 0 && n != a.alg.DigestSize() {
		c.Fail(tpm2.RCSize)
	}
	if c.Decoding() {
		a.digest = slices.Clone(a.digest)
	}
}

// prepareAudit computes the cpHash of a command that is audited, while the
// command's parameters and the Names of its handles are as they came.
func (e *Engine) prepareAudit(c *call) {
	if c.audited = e.state.audit.has(c.cmd.cc); c.audited {
		e.commandHash(c, e.state.audit.alg)
	}
}

// auditCommand extends the audit session's digest, and the log of the commands
// audited, by a command that has succeeded with these response parameters
// (UpdateAuditSessionStatus, CommandAudit).
func (e *Engine) auditCommand(c *call, params []byte) {
	e.updateAuditSession(c, params)
	if !c.audited {
		return
	}
	a := &e.state.audit
	if len(a.digest) == 0 {
		a.digest = make(tpm2.Digest, a.alg.DigestSize())
		a.counter++
		c.persist()
	}
	a.digest = e.extendAudit(c, a.alg, a.digest, params)
	if e.state.orderly == shutdownState {
		c.persist() // what Shutdown saved must not miss the entry
	}
}

// extendAudit is a log's digest with one more entry (Part 1, 33.3).
func (e *Engine) extendAudit(c *call, alg tpm2.AlgID, old tpm2.Digest, params []byte) tpm2.Digest {
	return alg.Digest(old, e.commandHash(c, alg), responseHash(c, alg, params))
}

// responseHash is rpHash (Part 1, 18.8), of a response that is a success.
func responseHash(c *call, alg tpm2.AlgID, params []byte) []byte {
	var codes [8]byte
	binary.BigEndian.PutUint32(codes[4:], uint32(c.cmd.cc))
	return alg.Digest(codes[:], params)
}

// updateAuditSession extends the audit session's digest, and says which audit
// session, if any, has seen every command since it began.
func (e *Engine) updateAuditSession(c *call, params []byte) {
	sessions := &e.state.sessions
	if c.auth.audit < 0 {
		if !c.cmd.noSessions {
			sessions.Exclusive = 0
		}
		return
	}
	s := &c.auth.sessions[c.auth.audit]
	switch {
	case !s.session.IsAudit() || s.attrs.Has(tpm2.SessionAuditReset):
		s.session.StartAudit()
		sessions.Exclusive = s.handle
	case sessions.Exclusive != s.handle:
		sessions.Exclusive = 0
	}
	s.attrs &^= tpm2.SessionAuditExclusive
	if sessions.Exclusive == s.handle {
		s.attrs |= tpm2.SessionAuditExclusive
	}
	s.session.AuditDigest = e.extendAudit(c, s.session.AuthHash, s.session.AuditDigest, params)
}

// admitAudit checks the audit attribute of a command's session i.
func (e *Engine) admitAudit(c *call, i int) tpm2.RC {
	s := &c.auth.sessions[i]
	if !s.attrs.Has(tpm2.SessionAudit) {
		return tpm2.RCSuccess
	}
	if c.auth.audit >= 0 || s.session.IsPolicy() {
		return tpm2.RCAttributes.S(i + 1)
	}
	begins := !s.session.IsAudit() || s.attrs.Has(tpm2.SessionAuditReset)
	if !begins && s.attrs.Has(tpm2.SessionAuditExclusive) && e.state.sessions.Exclusive != s.handle {
		return tpm2.RCExclusive
	}
	c.auth.audit = i
	return tpm2.RCSuccess
}
