package tpm

import (
	"crypto/subtle"
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/libtpms"
	"github.com/ashlar-cloud/ashlar/tpm/internal/pcr"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// boundTo identifies an entity with its authorization value, for sessions
// bound to it: once either changes, the session is no longer bound. It is the
// digest of what libtpms keeps for it (SessionComputeBoundEntity), so that its
// sessions can be taken over, and go into a small context.
func (e *Engine) boundTo(h tpm2.Handle) tpm2.Digest {
	var b [libtpms.BoundSize]byte
	copy(b[:], e.entityName(h))
	auth := e.entityAuth(h)
	end := b[len(b)-len(auth):]
	subtle.XORBytes(end, end, auth)
	defer clear(b[:])
	return boundDigest(b[:])
}

// boundDigest is the short form of what libtpms keeps of a bound session.
func boundDigest(b []byte) tpm2.Digest { return tpm2.AlgSHA256.Digest(b) }

// isBoundTo reports whether a session is bound to the entity
// (IsSessionBindEntity).
func (e *Engine) isBoundTo(s *session.Session, h tpm2.Handle) bool {
	return len(s.Bound) != 0 && crypt.Equal(s.Bound, e.boundTo(h))
}

// policyRequired reports whether only a policy session may authorize the
// handle (IsPolicySessionRequired).
func (e *Engine) policyRequired(c *call, i int) bool {
	switch c.cmd.handles[i].role {
	case authDup:
		return true
	case authAdmin:
		o := c.objects[i]
		return o == nil || o.Is(tpm2.ObjAdminWithPolicy)
	}
	return isPCR(c.handles[i]) && pcr.Grouped(c.handles[i].Index()) && e.state.pcrs.PolicyAlg != tpm2.AlgNull
}

// authValueAvailable reports whether the authorization value may authorize the
// handle (IsAuthValueAvailable).
func (e *Engine) authValueAvailable(c *call, i int) bool {
	if o := c.objects[i]; o != nil {
		if o.Sequence != nil {
			return true
		}
		return !o.PublicOnly() && (o.Is(tpm2.ObjUserWithAuth) ||
			c.cmd.handles[i].role == authAdmin && !o.Is(tpm2.ObjAdminWithPolicy))
	}
	if x := c.indices[i]; x != nil {
		if c.cmd.write {
			return x.Is(tpm2.NVAuthWrite)
		}
		if x.IsPIN() {
			return x.PINAvailable()
		}
		return x.Is(tpm2.NVAuthRead)
	}
	return !isCountdown(c.handles[i]) || e.state.hierarchies.Platform.Enabled
}

// policyAvailable reports whether a policy may authorize the handle
// (IsAuthPolicyAvailable).
func (e *Engine) policyAvailable(c *call, i int) bool {
	h := c.handles[i]
	if o := c.objects[i]; o != nil {
		return !o.PublicOnly() && o.Sequence == nil
	}
	if x := c.indices[i]; x != nil {
		switch {
		case len(x.Public.AuthPolicy) == 0:
			return false
		case e.policyRequired(c, i):
			return true
		case c.cmd.write:
			return x.Is(tpm2.NVPolicyWrite)
		}
		return x.Is(tpm2.NVPolicyRead)
	}
	if isPCR(h) {
		return pcr.Grouped(h.Index())
	}
	_, policy := e.entityPolicy(h)
	return len(policy) != 0
}

// checkPolicy checks that a policy session fulfils the entity's policy and
// that the command is one that the policy allows (CheckPolicyAuthSession).
func (e *Engine) checkPolicy(c *call, i int) tpm2.RC {
	a := &c.auth.sessions[i]
	p := &a.session.Policy
	if c.cmd.cc == tpm2.CCPolicySecret && !p.PasswordNeeded && !p.AuthValueNeeded {
		return tpm2.RCMode
	}
	if p.PCRCounter != 0 && p.PCRCounter != e.state.pcrs.Counter {
		return tpm2.RCPCRChanged
	}
	alg, policy := e.entityPolicy(a.entity)
	if alg != a.session.AuthHash || !crypt.Equal(p.Digest, policy) {
		return tpm2.RCPolicyFail
	}
	if p.Timeout != 0 && (p.Timeout < e.state.timing.Time || a.session.Epoch != e.state.timing.Epoch) {
		return tpm2.RCExpired
	}
	if p.CommandCode != 0 {
		if p.CommandCode != c.cmd.cc {
			return tpm2.RCPolicyCC
		}
	} else if r := c.cmd.handles[i].role; r == authAdmin || r == authDup {
		return tpm2.RCPolicyFail
	}
	if !localityAllowed(p.Locality, c.req.Locality) {
		return tpm2.RCLocality
	}
	if p.PPRequired && !c.req.PhysicalPresence {
		return tpm2.RCPP
	}
	if !e.parametersAllowed(c, a.session) {
		return tpm2.RCPolicyFail
	}
	if p.CheckNVWritten {
		if x := c.indices[i]; x == nil || x.Is(tpm2.NVWritten) != p.NVWritten {
			return tpm2.RCPolicyFail
		}
	}
	return tpm2.RCSuccess
}

// localityAllowed reports whether a policy's localities have the command's. 0
// stands for any.
func localityAllowed(allowed tpm2.Locality, locality uint8) bool {
	switch {
	case allowed == 0:
		return true
	case locality < 5:
		return allowed < 32 && allowed&(1<<locality) != 0
	case locality > 31:
		return uint8(allowed) == locality
	}
	return false
}

// parametersAllowed checks the hash of the command's handles and parameters
// that a policy has fixed.
func (e *Engine) parametersAllowed(c *call, s *session.Session) bool {
	p := &s.Policy
	if len(p.CPHash) != 0 {
		return crypt.Equal(p.CPHash, e.commandHash(c, s.AuthHash))
	}
	if len(p.NameHash) != 0 {
		h := s.AuthHash.New()
		for i := range c.cmd.handles {
			h.Write(e.entityName(c.handles[i]))
		}
		return crypt.Equal(p.NameHash, h.Sum(nil))
	}
	if len(p.ParametersHash) != 0 {
		code := binary.BigEndian.AppendUint32(nil, uint32(c.cmd.cc))
		return crypt.Equal(p.ParametersHash, s.AuthHash.Digest(code, c.params))
	}
	if len(p.TemplateHash) != 0 {
		return templateAllowed(c, s)
	}
	return true
}

// decryptParameter decrypts the first parameter where a session is to
// (Part 1, 21).
func (e *Engine) decryptParameter(c *call) tpm2.RC {
	i := c.auth.decrypt
	if i < 0 {
		return tpm2.RCSuccess
	}
	s := &c.auth.sessions[i]
	if len(c.params) < 2 {
		return tpm2.RCInsufficient.S(i + 1)
	}
	size := int(binary.BigEndian.Uint16(c.params))
	if size > len(c.params)-2 {
		return tpm2.RCSize.S(i + 1)
	}
	return e.cipherParameter(s, s.nonceCaller, s.session.NonceTPM, c.params[2:2+size], crypt.DecryptParameter)
}

// cipherParameter encrypts or decrypts a parameter's data in place, by the
// session's cipher or by XOR, which is its own inverse.
func (e *Engine) cipherParameter(s *authSession, newer, older tpm2.Digest, data []byte,
	cfb func(alg tpm2.AlgID, key, newer, older []byte, sym tpm2.SymDef, data []byte) tpm2.RC) tpm2.RC {
	def := &s.session.Symmetric
	key := e.parameterKey(s)
	defer clear(key)
	if def.Alg == tpm2.AlgXOR {
		crypt.XORObfuscate(s.session.AuthHash, key, newer, older, data)
		return tpm2.RCSuccess
	}
	return cfb(s.session.AuthHash, key, newer, older, *def, data)
}

// parameterKey is the secret of parameter encryption: the session key and the
// authorization value of the entity that the session authorizes.
func (e *Engine) parameterKey(s *authSession) []byte {
	key := append([]byte(nil), s.session.SessionKey...)
	if s.entity != unassigned {
		key = append(key, e.entityAuth(s.entity)...)
	}
	return key
}

// encryptResponse rolls the sessions' nonces, and encrypts the response's first
// parameter where a session is to.
func (e *Engine) encryptResponse(c *call, paramsAt int) {
	a := &c.auth
	for i := range a.n {
		s := &a.sessions[i]
		if s.session = e.state.sessions.Get(s.handle); s.session != nil {
			s.session.NonceTPM = e.random(len(s.session.NonceTPM))
		}
	}
	if a.encrypt >= 0 && a.sessions[a.encrypt].session != nil {
		s := &a.sessions[a.encrypt]
		size := int(binary.BigEndian.Uint16(c.response[paramsAt:]))
		data := c.response[paramsAt+2 : paramsAt+2+size]
		if rc := e.cipherParameter(s, s.session.NonceTPM, s.nonceCaller, data, crypt.EncryptParameter); rc != tpm2.RCSuccess {
			panic("cannot encrypt the response: " + rc.Error())
		}
	}
}

// appendResponseAuth appends one session's entry and ends the session or makes
// it ready for its next use.
func (e *Engine) appendResponseAuth(c *call, s *authSession, params []byte) {
	out := struct {
		nonce, hmac tpm2.Digest
		attrs       tpm2.SessionAttributes
	}{attrs: s.attrs}
	switch {
	case s.handle == tpm2.RSPW:
		out.attrs |= tpm2.SessionContinue
	case s.session == nil:
		// The command has ended the session itself: there is no key to answer with.
	default:
		out.nonce = s.session.NonceTPM
		if !(s.session.IsPolicy() && s.session.PasswordNeeded) {
			out.hmac = e.responseHMAC(c, s, params)
		}
		if s.session.IsPolicy() && s.attrs.Has(tpm2.SessionContinue) {
			s.session.StartPolicy(e.state.timing.Time, e.state.timing.Epoch)
		}
	}
	enc := tpm2.NewEncoder(c.response)
	out.nonce.Walk(&enc)
	out.attrs.Walk(&enc)
	out.hmac.Walk(&enc)
	c.response = enc.Output()
	if s.session != nil && !s.attrs.Has(tpm2.SessionContinue) {
		e.state.sessions.Flush(s.handle)
	}
}

// responseHMAC is a session's HMAC over the response.
func (e *Engine) responseHMAC(c *call, s *authSession, params []byte) tpm2.Digest {
	key := e.sessionKey(s)
	if len(key) == 0 && len(s.hmac) == 0 {
		return nil
	}
	rpHash := responseHash(c, s.session.AuthHash, params)
	return crypt.HMAC(s.session.AuthHash, key, rpHash, s.session.NonceTPM, s.nonceCaller, []byte{byte(s.attrs)})
}
