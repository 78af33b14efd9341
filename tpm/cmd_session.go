package tpm

import (
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// sessionCommands are those of Part 3, 11.
var sessionCommands = []command{
	define(command{cc: tpm2.CCStartAuthSession, retHandle: true, readOnly: true,
		handles: []handle{{"tpmKey", anObjectOrNull, authNone}, {"bind", anEntityOrNull, authNone}},
	}, (*Engine).startAuthSession),
	define(command{cc: tpm2.CCPolicyRestart, readOnly: true,
		handles: []handle{{"sessionHandle", aPolicySession, authNone}},
	}, (*Engine).policyRestart),
}

// minNonce is the shortest nonceCaller in bytes that starts a session.
const minNonce = 16

type startAuthSessionIn struct {
	nonceCaller   tpm2.Digest
	encryptedSalt tpm2.EncryptedSecret
	sessionType   tpm2.SE
	symmetric     tpm2.SymDef
	authHash      tpm2.HashID
}

// Walk visits the parameters.
func (p *startAuthSessionIn) Walk(c *tpm2.Codec) {
	c.Param(&p.nonceCaller)
	c.Param(&p.encryptedSalt)
	c.Param(&p.sessionType)
	c.Param(&p.symmetric)
	c.Param(&p.authHash)
}

type startAuthSessionOut struct{ nonceTPM tpm2.Digest }

// Walk visits the parameters.
func (p *startAuthSessionOut) Walk(c *tpm2.Codec) { c.Param(&p.nonceTPM) }

// startAuthSession is TPM2_StartAuthSession (Part 3, 11.1).
func (e *Engine) startAuthSession(c *call, in *startAuthSessionIn, out *startAuthSessionOut) tpm2.RC {
	alg := tpm2.AlgID(in.authHash)
	size := len(in.nonceCaller)
	if size < minNonce || size > alg.DigestSize() {
		return tpm2.RCSize.P(1)
	}
	salt, rc := e.sessionSalt(c, in)
	if rc != tpm2.RCSuccess {
		return rc
	}
	// The bind entity's authorization value must be one that can be proven.
	if o := c.objects[1]; o != nil && o.Sequence == nil && o.PublicOnly() {
		return tpm2.RCHandle.H(2)
	}
	if x := c.indices[1]; x != nil && x.IsPIN() {
		return tpm2.RCHandle.H(2)
	}
	if d := &in.symmetric; d.Alg != tpm2.AlgNull && d.Alg != tpm2.AlgXOR && d.Mode != tpm2.AlgCFB {
		return tpm2.RCMode.P(4)
	}
	e.require(setOf(in.symmetric.Alg))
	sess, rc := e.state.sessions.Create(in.sessionType != tpm2.SEHMAC)
	if rc != tpm2.RCSuccess {
		return rc
	}
	sess.Trial = in.sessionType == tpm2.SETrial
	sess.AuthHash, sess.Symmetric = alg, in.symmetric
	sess.NonceTPM = e.random(size)
	sess.StartPolicy(e.state.timing.Time, e.state.timing.Epoch)
	if !sess.IsPolicy() {
		sess.Digest = nil
	}
	bind := c.handles[1]
	if bind != tpm2.RHNull {
		if !sess.IsPolicy() {
			sess.Bound = e.boundTo(bind)
		}
		sess.DABound = !e.daExempt(bind)
		sess.LockoutBound = bind == tpm2.RHLockout
	}
	if bind != tpm2.RHNull || len(salt) != 0 {
		key := append(append([]byte(nil), e.entityAuth(bind)...), salt...)
		sess.SessionKey = crypt.KDFa(alg, key, crypt.LabelSession, sess.NonceTPM, in.nonceCaller, alg.DigestSize()*8)
		clear(key)
	}
	c.handle, out.nonceTPM = sess.Handle, sess.NonceTPM
	return tpm2.RCSuccess
}

// sessionSalt decrypts the salt with tpmKey, if the session is salted.
func (e *Engine) sessionSalt(c *call, in *startAuthSessionIn) ([]byte, tpm2.RC) {
	if c.handles[0] == tpm2.RHNull {
		if len(in.encryptedSalt) != 0 {
			return nil, tpm2.RCValue.P(2)
		}
		return nil, tpm2.RCSuccess
	}
	key := c.objects[0]
	switch {
	case !key.IsAsymmetric():
		return nil, tpm2.RCKey.H(1)
	case len(in.encryptedSalt) == 0:
		return nil, tpm2.RCValue.P(2)
	case key.PublicOnly():
		return nil, tpm2.RCHandle.H(1)
	case !key.Is(tpm2.ObjDecrypt):
		return nil, tpm2.RCAttributes.H(1)
	}
	salt, rc := crypt.SecretDecrypt(key.Key, crypt.LabelSecret, in.nonceCaller, in.encryptedSalt)
	if rc != tpm2.RCSuccess {
		return nil, tpm2.RCValue.P(2)
	}
	return salt, tpm2.RCSuccess
}

// policyRestart is TPM2_PolicyRestart (Part 3, 11.2).
func (e *Engine) policyRestart(c *call, _ *none, _ *none) tpm2.RC {
	e.state.sessions.Get(c.handles[0]).ResetPolicy()
	return tpm2.RCSuccess
}
