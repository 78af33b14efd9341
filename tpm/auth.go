package tpm

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/nv"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// maxSessions is the number of sessions that a command may have.
const maxSessions = 3

// unassigned marks a session that authorizes no handle.
const unassigned = tpm2.RHUnassigned

// authSession is one entry of the authorization area.
type authSession struct {
	handle      tpm2.Handle // RSPW or a session
	nonceCaller tpm2.Digest
	attrs       tpm2.SessionAttributes
	hmac        tpm2.Digest      // or the password
	session     *session.Session // nil for a password
	entity      tpm2.Handle      // what it authorizes, or unassigned
	includeAuth bool             // the entity's authValue is part of the key
}

// authArea is the authorization area of a command (Part 1, 18.6).
type authArea struct {
	sessions [maxSessions]authSession
	n        int
	decrypt  int // index of the session that decrypts, or -1
	encrypt  int // index of the session that encrypts, or -1
	audit    int // index of the session that audits, or -1
	// failed is the session whose authorization was wrong in a way that counts
	// towards lockout, or -1 (IncrementLockout).
	failed int
	// daUsed: an authorization under lockout protection was tried.
	daUsed bool
	// probe: the state is to be written to see whether it can be.
	probe bool
}

// requireNoAuth checks that a command without sessions needs none.
func requireNoAuth(d *command) tpm2.RC {
	for i := range d.handles {
		if d.handles[i].role != authNone {
			return tpm2.RCAuthMissing
		}
	}
	return tpm2.RCSuccess
}

// parseAuthArea reads the authorization area, checks every authorization in
// it, and decrypts the first parameter where a session says so
// (ParseSessionBuffer).
func (e *Engine) parseAuthArea(c *call, body []byte) tpm2.RC {
	a := &c.auth
	if len(body) < 4 {
		return tpm2.RCInsufficient
	}
	size := binary.BigEndian.Uint32(body)
	body = body[4:]
	if size < 9 || uint64(size) > uint64(len(body)) {
		return tpm2.RCSize
	}
	c.params = body[size:]
	if c.cmd.noSessions {
		return tpm2.RCAuthContext
	}
	if rc := e.readSessions(c, body[:size]); rc != tpm2.RCSuccess {
		return rc
	}
	for i := range c.cmd.handles {
		if c.cmd.handles[i].role != authNone {
			if i >= a.n {
				return tpm2.RCAuthMissing
			}
			a.sessions[i].entity = c.handles[i]
		}
	}
	for i := range a.n {
		if rc := e.checkSession(c, i); rc != tpm2.RCSuccess {
			return rc
		}
	}
	e.prepareAudit(c)
	return e.decryptParameter(c)
}

// readSessions reads the area's entries (RetrieveSessionData).
func (e *Engine) readSessions(c *call, area []byte) tpm2.RC {
	a := &c.auth
	d := tpm2.NewDecoderFor(area, &e.profile.impl)
	for d.Remaining() > 0 {
		i := a.n
		if i == maxSessions {
			return tpm2.RCSize.S(i + 1)
		}
		s := &a.sessions[i]
		s.entity = unassigned
		s.handle.Walk(&d)
		if d.RC() == tpm2.RCSuccess && s.handle != tpm2.RSPW &&
			!(s.handle.IsSession() && s.handle.Index() < session.MaxActive) {
			return tpm2.RCValue.S(i + 1)
		}
		s.nonceCaller.Walk(&d)
		s.attrs.Walk(&d)
		s.hmac.Walk(&d)
		if rc := d.RC(); rc != tpm2.RCSuccess {
			return rc.S(i + 1)
		}
		if rc := e.admitSession(c, i); rc != tpm2.RCSuccess {
			return rc
		}
		a.n++
	}
	return tpm2.RCSuccess
}

// admitSession checks one entry against the sessions in the TPM and the
// entries before it.
func (e *Engine) admitSession(c *call, i int) tpm2.RC {
	a := &c.auth
	s := &a.sessions[i]
	if s.handle == tpm2.RSPW {
		if s.attrs&^tpm2.SessionContinue != 0 {
			return tpm2.RCAttributes.S(i + 1)
		}
		if len(s.nonceCaller) != 0 {
			return tpm2.RCNonce.S(i + 1)
		}
		return tpm2.RCSuccess
	}
	var rc tpm2.RC
	switch s.session, rc = e.state.sessions.Find(s.handle); rc {
	case tpm2.RCReferenceH0:
		return tpm2.RCReferenceS0 + tpm2.RC(i)
	case tpm2.RCHandle:
		return rc.S(i + 1)
	}
	for j := range i {
		if a.sessions[j].handle == s.handle {
			return tpm2.RCHandle.S(i + 1)
		}
	}
	if s.attrs.Has(tpm2.SessionDecrypt) {
		if !c.cmd.decrypt || a.decrypt >= 0 {
			return tpm2.RCAttributes.S(i + 1)
		}
		if s.session.Symmetric.Alg == tpm2.AlgNull {
			return tpm2.RCSymmetric.S(i + 1)
		}
		a.decrypt = i
	}
	if s.attrs.Has(tpm2.SessionEncrypt) {
		if !c.cmd.encrypt || a.encrypt >= 0 {
			return tpm2.RCAttributes.S(i + 1)
		}
		if s.session.Symmetric.Alg == tpm2.AlgNull {
			return tpm2.RCSymmetric.S(i + 1)
		}
		a.encrypt = i
	}
	return e.admitAudit(c, i)
}

// checkSession checks one entry's authorization.
func (e *Engine) checkSession(c *call, i int) tpm2.RC {
	s := &c.auth.sessions[i]
	if s.handle == tpm2.RSPW {
		if s.entity == unassigned {
			return tpm2.RCHandle.S(i + 1)
		}
	} else {
		if s.session.Trial {
			return tpm2.RCAttributes.S(i + 1)
		}
		if s.session.DABound {
			if rc := e.checkLockedOut(c, s.session.LockoutBound); rc != tpm2.RCSuccess {
				return rc
			}
		}
	}
	if i == c.auth.audit {
		e.commandHash(c, s.session.AuthHash) // while all is as it came
	}
	if s.entity != unassigned {
		return e.checkAuthorization(c, i).S(i + 1)
	}
	if s.attrs&(tpm2.SessionEncrypt|tpm2.SessionDecrypt|tpm2.SessionAudit) == 0 {
		return tpm2.RCAttributes.S(i + 1)
	}
	return e.checkHMAC(c, i).S(i + 1)
}

// checkAuthorization checks the authorization of a handle (CheckAuthSession).
func (e *Engine) checkAuthorization(c *call, i int) tpm2.RC {
	s := &c.auth.sessions[i]
	if s.entity == tpm2.RHPlatform && !c.req.PhysicalPresence && e.needsPresence(c.cmd.cc) {
		return tpm2.RCPP
	}
	policy := s.session != nil && s.session.IsPolicy()
	switch {
	case s.session == nil:
		s.includeAuth = true
	case policy:
		s.includeAuth = s.session.AuthValueNeeded || s.session.PasswordNeeded
	default:
		s.includeAuth = !e.isBoundTo(s.session, s.entity)
	}
	if s.includeAuth && !e.daExempt(s.entity) {
		if rc := e.checkLockedOut(c, s.entity == tpm2.RHLockout); rc != tpm2.RCSuccess {
			return rc
		}
	}
	if policy {
		if !e.policyAvailable(c, i) {
			return tpm2.RCAuthUnavailable
		}
		if rc := e.checkPolicy(c, i); rc != tpm2.RCSuccess {
			return rc
		}
	} else {
		if e.policyRequired(c, i) {
			return tpm2.RCAuthType
		}
		if !e.authValueAvailable(c, i) {
			return tpm2.RCAuthUnavailable
		}
	}
	if x := c.indices[i]; x != nil && x.IsPIN() && e.unwritten {
		// As with lockout: a wrong PIN could not be counted.
		c.auth.probe = true
		return tpm2.RCNVUnavailable
	}
	rc := e.checkSecret(c, i)
	e.countPIN(c, i, rc == tpm2.RCSuccess)
	return rc
}

// checkSecret checks the password or the HMAC.
func (e *Engine) checkSecret(c *call, i int) tpm2.RC {
	s := &c.auth.sessions[i]
	if s.session == nil || s.session.IsPolicy() && s.session.PasswordNeeded {
		return e.checkPassword(c, i)
	}
	return e.checkHMAC(c, i)
}

// checkLockedOut refuses protected authorizations during lockout, unchecked.
func (e *Engine) checkLockedOut(c *call, lockoutAuth bool) tpm2.RC {
	l := &e.state.lockout
	if e.unwritten {
		// A failure could not be counted. Try again whether it could, and let the
		// caller try again.
		c.auth.probe = true
		return tpm2.RCNVUnavailable
	}
	if lockoutAuth {
		if !l.AuthEnabled {
			return tpm2.RCLockout
		}
		return tpm2.RCSuccess
	}
	if l.Locked() {
		return tpm2.RCLockout
	}
	c.auth.daUsed = true
	return tpm2.RCSuccess
}

// checkPassword compares a password with the entity's authorization value.
func (e *Engine) checkPassword(c *call, i int) tpm2.RC {
	s := &c.auth.sessions[i]
	if crypt.Equal(trimAuth(s.hmac), e.entityAuth(s.entity)) {
		return tpm2.RCSuccess
	}
	return e.authFailed(c, i)
}

// checkHMAC checks a session's HMAC over the command (Part 1, 19.6.5).
func (e *Engine) checkHMAC(c *call, i int) tpm2.RC {
	s := &c.auth.sessions[i]
	key := e.sessionKey(s)
	if len(key) == 0 && len(s.hmac) == 0 {
		return tpm2.RCSuccess
	}
	nonceDecrypt, nonceEncrypt := c.auth.crossNonces(i)
	want := crypt.HMAC(s.session.AuthHash, key, e.commandHash(c, s.session.AuthHash),
		s.nonceCaller, s.session.NonceTPM, nonceDecrypt, nonceEncrypt, []byte{byte(s.attrs)})
	if crypt.Equal(want, s.hmac) {
		return tpm2.RCSuccess
	}
	return e.authFailed(c, i)
}

// sessionKey is the key of a session's HMAC: its own key, with the entity's
// authorization value where that is to be proven.
func (e *Engine) sessionKey(s *authSession) []byte {
	key := append([]byte(nil), s.session.SessionKey...)
	if s.includeAuth {
		key = append(key, e.entityAuth(s.entity)...)
	}
	return key
}

// crossNonces gives the nonces of the encrypting sessions, which the first
// session's HMAC covers so that they can't be exchanged (Part 1, 19.6.5).
func (a *authArea) crossNonces(i int) (decrypt, encrypt tpm2.Digest) {
	if i != 0 || a.sessions[0].entity == unassigned {
		return nil, nil
	}
	if a.decrypt > 0 {
		decrypt = a.sessions[a.decrypt].session.NonceTPM
	}
	if a.encrypt > 0 && a.encrypt != a.decrypt {
		encrypt = a.sessions[a.encrypt].session.NonceTPM
	}
	return decrypt, encrypt
}

// authFailed notes a wrong authorization (IncrementLockout). Where the entity
// or the session is protected the failure is to be counted after the command
// has been undone, and the code is TPM_RC_AUTH_FAIL; else TPM_RC_BAD_AUTH.
func (e *Engine) authFailed(c *call, i int) tpm2.RC {
	s := &c.auth.sessions[i]
	exempt := e.daExempt(s.entity)
	if s.session != nil {
		exempt = !s.session.DABound && (exempt || !s.includeAuth)
	}
	if exempt {
		return tpm2.RCBadAuth
	}
	c.auth.failed = i
	return tpm2.RCAuthFail
}

// countFailure counts the failed authorization of a command that has been
// undone, and reports whether the permanent state has changed.
func (e *Engine) countFailure(c *call) (dirty bool) {
	e.noteProtectedUse(c)
	e.keepPINs(c)
	a := &c.auth
	if a.failed < 0 {
		return c.dirty || a.probe
	}
	s := &a.sessions[a.failed]
	lockoutAuth := s.entity == tpm2.RHLockout || s.session != nil && s.session.LockoutBound
	e.state.lockout.Fail(lockoutAuth, e.state.timing.Time)
	e.failure.counted, e.failure.lockoutAuth = true, lockoutAuth
	return true
}

// authFailure is a failed authorization that counts towards lockout: that of
// lockoutAuth itself or of a protected entity. pins are the PIN Indices as the
// command's authorizations have counted in them.
type authFailure struct {
	counted, lockoutAuth bool
	pins                 []*nv.Index
}

// noteProtectedUse makes it durable, once between two Startups, that an
// authorization under lockout protection was tried: a power cut from then on
// counts as a failure.
func (e *Engine) noteProtectedUse(c *call) {
	if c.auth.daUsed && !e.state.lockout.Used {
		e.state.lockout.Used = true
		e.state.orderly = shutdownNone
		c.persist()
	}
}

// commandHash is cpHash (Part 1, 18.7): over the command code, the Names of
// the handles, and the parameters as they came, encrypted or not.
func (e *Engine) commandHash(c *call, alg tpm2.AlgID) []byte {
	k := hashIndex(alg)
	if c.cpHash[k] == nil {
		h := alg.New()
		var cc [4]byte
		binary.BigEndian.PutUint32(cc[:], uint32(c.cmd.cc))
		h.Write(cc[:])
		for i := range c.cmd.handles {
			h.Write(e.entityName(c.handles[i]))
		}
		h.Write(c.params)
		c.cpHash[k] = h.Sum(nil)
	}
	return c.cpHash[k]
}

// hashIndex is an implemented hash algorithm's place in tpm2.HashAlgs.
func hashIndex(alg tpm2.AlgID) int {
	for i, a := range tpm2.HashAlgs() {
		if a == alg {
			return i
		}
	}
	panic("not a hash algorithm: " + alg.String())
}
