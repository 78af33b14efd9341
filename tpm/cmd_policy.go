package tpm

import (
	"bytes"
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// policyCommands are those of Part 3, 23, which gather an enhanced
// authorization in a policy session.
var policyCommands = []command{
	define(policyCommand(tpm2.CCPolicySigned, handle{"authObject", anObject, authNone}), (*Engine).policySigned),
	define(policyCommand(tpm2.CCPolicySecret, handle{"authHandle", anEntity, authUser}), (*Engine).policySecret),
	define(policyCommand(tpm2.CCPolicyOR), (*Engine).policyOR),
	define(policyCommand(tpm2.CCPolicyPCR), (*Engine).policyPCR),
	define(policyCommand(tpm2.CCPolicyLocality), (*Engine).policyLocality),
	define(policyCommand(tpm2.CCPolicyNV, handle{"authHandle", nvAuth, authUser},
		handle{"nvIndex", nvIndex, authNone}), (*Engine).policyNV),
	define(policyCommand(tpm2.CCPolicyCommandCode), (*Engine).policyCommandCode),
	define(policyCommand(tpm2.CCPolicyAuthorize), (*Engine).policyAuthorize),
	define(policyCommand(tpm2.CCPolicyAuthValue), (*Engine).policyAuthValue),
	define(policyCommand(tpm2.CCPolicyPassword), (*Engine).policyPassword),
	define(policyCommand(tpm2.CCPolicyGetDigest), (*Engine).policyGetDigest),
}

// policyCommand declares a policy command: its last handle is the session.
func policyCommand(cc tpm2.CC, before ...handle) command {
	return command{cc: cc, readOnly: true,
		handles: append(before, handle{"policySession", aPolicySession, authNone})}
}

// policySession is the session that a policy command works on.
func (e *Engine) policySession(c *call) *session.Session {
	return e.state.sessions.Get(c.handles[len(c.cmd.handles)-1])
}

// extendPolicy extends the session's digest with a command's code and what it
// asserts.
func extendPolicy(s *session.Session, cc tpm2.CC, parts ...[]byte) {
	h := s.AuthHash.New()
	h.Write(s.Digest)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(cc)))
	for _, p := range parts {
		h.Write(p)
	}
	s.Digest = h.Sum(nil)
}

// authorization is what PolicySigned and PolicySecret have in common.
type authorization struct {
	nonceTPM   tpm2.Digest
	cpHashA    tpm2.Digest
	policyRef  tpm2.Digest
	expiration tpm2.UINT32 // an INT32 in seconds; negative asks for a ticket
}

// Walk visits the parameters.
func (p *authorization) Walk(c *tpm2.Codec) {
	c.Param(&p.nonceTPM)
	c.Param(&p.cpHashA)
	c.Param(&p.policyRef)
	c.Param(&p.expiration)
}

// timeout is the Time in milliseconds when the authorization expires, 0 for
// never (ComputeAuthTimeout).
func (p *authorization) timeout(s *session.Session, now uint64) uint64 {
	seconds := int64(int32(p.expiration))
	if seconds == 0 {
		return 0
	}
	if seconds == -1<<31 {
		seconds++
	}
	if seconds < 0 {
		seconds = -seconds
	}
	if len(p.nonceTPM) == 0 {
		// An absolute Time in seconds: the milliseconds keep it from expiring early.
		return uint64(seconds)*1000 + now%1000
	}
	return s.StartTime + uint64(seconds)*1000
}

// check tests the parameters against the session (PolicyParameterChecks).
func (p *authorization) check(e *Engine, s *session.Session, timeout uint64) tpm2.RC {
	if len(p.nonceTPM) != 0 && !bytes.Equal(p.nonceTPM, s.NonceTPM) {
		return tpm2.RCNonce.P(1)
	}
	return p.checkLimits(e, s, timeout, 4, 2)
}

// checkLimits tests the timeout, which parameter expiry gives, and cpHashA,
// which is parameter hash.
func (p *authorization) checkLimits(e *Engine, s *session.Session, timeout uint64, expiry, hash int) tpm2.RC {
	if timeout != 0 && (timeout < e.state.timing.Time || s.Epoch != e.state.timing.Epoch) {
		return tpm2.RCExpired.P(expiry)
	}
	if len(p.cpHashA) != 0 {
		if len(p.cpHashA) != len(s.Digest) {
			return tpm2.RCSize.P(hash)
		}
		if s.ConstrainsParameters() && !bytes.Equal(p.cpHashA, s.ParametersConstraint()) {
			return tpm2.RCCPHash
		}
	}
	return tpm2.RCSuccess
}

// update records an authorization by the entity with a Name in the session
// (PolicyContextUpdate).
func (p *authorization) update(s *session.Session, cc tpm2.CC, name tpm2.Name, timeout uint64) {
	updatePolicy(s, cc, name, p.policyRef)
	if len(p.cpHashA) != 0 {
		s.ConstrainParameters(p.cpHashA)
	}
	if timeout != 0 && (s.Timeout == 0 || s.Timeout > timeout) {
		s.Timeout = timeout
	}
}

// updatePolicy extends the digest with an entity's Name, then with the policy
// reference.
func updatePolicy(s *session.Session, cc tpm2.CC, name tpm2.Name, ref tpm2.Digest) {
	extendPolicy(s, cc, name)
	s.Digest = s.AuthHash.Digest(s.Digest, ref)
}

// authorizationOut is the timeout and the ticket.
type authorizationOut struct {
	timeout tpm2.Timeout
	ticket  tpm2.AuthTicket
}

// Walk visits the parameters.
func (p *authorizationOut) Walk(c *tpm2.Codec) {
	c.Param(&p.timeout)
	c.Param(&p.ticket)
}

// expiresOnReset marks in a ticket's timeout that it ends at a TPM Reset.
const expiresOnReset = 1 << 63

// fill makes the ticket that a negative expiration asks for, or an empty one: a
// PIN Pass Index gives none, since the uses of the ticket would not be counted.
func (p *authorizationOut) fill(e *Engine, tag tpm2.ST, in *authorization, s *session.Session,
	entity tpm2.Handle, timeout uint64) {
	x := e.state.nv.Get(entity)
	if int32(in.expiration) >= 0 || s.Trial || x != nil && x.Type() == tpm2.NTPinPass {
		p.ticket = tpm2.AuthTicket{Tag: tag, Hierarchy: tpm2.Hierarchy(tpm2.RHNull)}
		return
	}
	timeout &^= expiresOnReset
	onReset := len(in.nonceTPM) == 0
	p.ticket = e.authTicket(tag, e.entityHierarchy(entity), timeout, onReset, in.cpHashA, in.policyRef, e.entityName(entity))
	if onReset {
		timeout |= expiresOnReset
	}
	p.timeout = binary.BigEndian.AppendUint64(nil, timeout)
}

// entityHierarchy is the hierarchy that an entity belongs to
// (EntityGetHierarchy).
func (e *Engine) entityHierarchy(h tpm2.Handle) tpm2.Handle {
	switch h {
	case tpm2.RHPlatform, tpm2.RHEndorsement, tpm2.RHNull:
		return h
	}
	if o := e.state.objects.Get(h); o != nil {
		return o.Hierarchy
	}
	if x := e.state.nv.Get(h); x != nil && x.Is(tpm2.NVPlatformCreate) {
		return tpm2.RHPlatform
	}
	return tpm2.RHOwner
}

type policySignedIn struct {
	authorization
	auth tpm2.Signature
}

// Walk visits the parameters.
func (p *policySignedIn) Walk(c *tpm2.Codec) {
	p.authorization.Walk(c)
	c.Param(&p.auth)
}

// policySigned is TPM2_PolicySigned (Part 3, 23.3).
func (e *Engine) policySigned(c *call, in *policySignedIn, out *authorizationOut) tpm2.RC {
	s := e.policySession(c)
	var timeout uint64
	if !s.Trial {
		timeout = in.timeout(s, e.state.timing.Time)
		if rc := in.check(e, s, timeout); rc != tpm2.RCSuccess {
			return rc
		}
		expiration := binary.BigEndian.AppendUint32(nil, uint32(in.expiration))
		digest := in.auth.Hash.Digest(in.nonceTPM, expiration, in.cpHashA, in.policyRef)
		if c.objects[0].Key == nil {
			return tpm2.RCScheme.P(5)
		}
		if rc := e.verifyDigest(c.objects[0].Key, digest, &in.auth); rc != tpm2.RCSuccess {
			return rc.P(5)
		}
	}
	in.update(s, tpm2.CCPolicySigned, e.entityName(c.handles[0]), timeout)
	out.fill(e, tpm2.STAuthSigned, &in.authorization, s, c.handles[0], timeout)
	return tpm2.RCSuccess
}

// policySecret is TPM2_PolicySecret (Part 3, 23.4).
func (e *Engine) policySecret(c *call, in *authorization, out *authorizationOut) tpm2.RC {
	if x := c.indices[0]; e.state.readOnly && x != nil && x.IsPIN() {
		return tpm2.RCReadOnly // its count would change
	}
	s := e.policySession(c)
	var timeout uint64
	if !s.Trial {
		timeout = in.timeout(s, e.state.timing.Time)
		if rc := in.check(e, s, timeout); rc != tpm2.RCSuccess {
			return rc
		}
	}
	in.update(s, tpm2.CCPolicySecret, e.entityName(c.handles[0]), timeout)
	out.fill(e, tpm2.STAuthSecret, in, s, c.handles[0], timeout)
	return tpm2.RCSuccess
}

type policyORIn struct{ branches tpm2.PolicyBranches }

// Walk visits the parameters.
func (p *policyORIn) Walk(c *tpm2.Codec) { c.Param(&p.branches) }

// policyOR is TPM2_PolicyOR (Part 3, 23.6).
func (e *Engine) policyOR(c *call, in *policyORIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	match := s.Trial
	all := make([][]byte, len(in.branches))
	for i, b := range in.branches {
		match = match || bytes.Equal(b, s.Digest)
		all[i] = b
	}
	if !match {
		return tpm2.RCValue.P(1)
	}
	s.Digest = make(tpm2.Digest, s.AuthHash.DigestSize())
	extendPolicy(s, tpm2.CCPolicyOR, all...)
	return tpm2.RCSuccess
}

type policyPCRIn struct {
	pcrDigest tpm2.Digest
	pcrs      tpm2.PCRSelectionList
}

// Walk visits the parameters.
func (p *policyPCRIn) Walk(c *tpm2.Codec) {
	c.Param(&p.pcrDigest)
	c.Param(&p.pcrs)
}

// policyPCR is TPM2_PolicyPCR (Part 3, 23.7).
func (e *Engine) policyPCR(c *call, in *policyPCRIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	selection, digest := e.state.pcrs.Digest(in.pcrs, s.AuthHash)
	if s.Trial {
		if len(in.pcrDigest) != 0 {
			digest = in.pcrDigest
		}
	} else {
		if s.PCRCounter != 0 && s.PCRCounter != e.state.pcrs.Counter {
			return tpm2.RCPCRChanged
		}
		if len(in.pcrDigest) != 0 && !bytes.Equal(in.pcrDigest, digest) {
			return tpm2.RCValue.P(1)
		}
		s.PCRCounter = e.state.pcrs.Counter
	}
	extendPolicy(s, tpm2.CCPolicyPCR, tpm2.Marshal(&selection), digest)
	return tpm2.RCSuccess
}

type policyLocalityIn struct{ locality tpm2.Locality }

// Walk visits the parameters.
func (p *policyLocalityIn) Walk(c *tpm2.Codec) { c.Param(&p.locality) }

// policyLocality is TPM2_PolicyLocality (Part 3, 23.8).
func (e *Engine) policyLocality(c *call, in *policyLocalityIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	was, now := s.Locality, in.locality
	switch {
	case now == 0 || was != 0 && (was < 32) != (now < 32):
		return tpm2.RCRange.P(1)
	case now < 32:
		if was != 0 {
			now &= was
		}
		if now == 0 {
			return tpm2.RCRange.P(1)
		}
	case was != 0 && was != now:
		return tpm2.RCRange.P(1)
	}
	extendPolicy(s, tpm2.CCPolicyLocality, []byte{byte(in.locality)})
	s.Locality = now
	return tpm2.RCSuccess
}

type policyCommandCodeIn struct{ code tpm2.CC }

// Walk visits the parameters.
func (p *policyCommandCodeIn) Walk(c *tpm2.Codec) { c.Param(&p.code) }

// policyCommandCode is TPM2_PolicyCommandCode (Part 3, 23.11).
func (e *Engine) policyCommandCode(c *call, in *policyCommandCodeIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	if s.CommandCode != 0 && s.CommandCode != in.code {
		return tpm2.RCValue.P(1)
	}
	if e.profile.lookup(in.code) == nil {
		return tpm2.RCPolicyCC.P(1)
	}
	extendPolicy(s, tpm2.CCPolicyCommandCode, binary.BigEndian.AppendUint32(nil, uint32(in.code)))
	s.CommandCode = in.code
	return tpm2.RCSuccess
}

type policyAuthorizeIn struct {
	approvedPolicy tpm2.Digest
	policyRef      tpm2.Digest
	keySign        tpm2.Name
	checkTicket    tpm2.VerifiedTicket
}

// Walk visits the parameters.
func (p *policyAuthorizeIn) Walk(c *tpm2.Codec) {
	c.Param(&p.approvedPolicy)
	c.Param(&p.policyRef)
	c.Param(&p.keySign)
	c.Param(&p.checkTicket)
}

// policyAuthorize is TPM2_PolicyAuthorize (Part 3, 23.16).
func (e *Engine) policyAuthorize(c *call, in *policyAuthorizeIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	if len(in.keySign) < 2 {
		return tpm2.RCHash.P(3)
	}
	alg := tpm2.AlgID(binary.BigEndian.Uint16(in.keySign))
	switch size := alg.DigestSize(); {
	case size == 0:
		return tpm2.RCHash.P(3)
	case size != len(in.keySign)-2:
		return tpm2.RCSize.P(3)
	}
	if !s.Trial {
		if !bytes.Equal(s.Digest, in.approvedPolicy) {
			return tpm2.RCValue.P(1)
		}
		digest := alg.Digest(in.approvedPolicy, in.policyRef)
		want := e.verifiedTicket(tpm2.Handle(in.checkTicket.Hierarchy), digest, in.keySign)
		if !crypt.Equal(want.Digest, in.checkTicket.Digest) {
			return tpm2.RCValue.P(4)
		}
	}
	s.Digest = make(tpm2.Digest, s.AuthHash.DigestSize())
	updatePolicy(s, tpm2.CCPolicyAuthorize, in.keySign, in.policyRef)
	return tpm2.RCSuccess
}

// policyAuthValue is TPM2_PolicyAuthValue (Part 3, 23.17).
func (e *Engine) policyAuthValue(c *call, _ *none, _ *none) tpm2.RC {
	s := e.policySession(c)
	extendPolicy(s, tpm2.CCPolicyAuthValue)
	s.AuthValueNeeded, s.PasswordNeeded = true, false
	return tpm2.RCSuccess
}

// policyPassword is TPM2_PolicyPassword (Part 3, 23.18): the same digest as
// PolicyAuthValue, so that the two can stand for each other.
func (e *Engine) policyPassword(c *call, _ *none, _ *none) tpm2.RC {
	s := e.policySession(c)
	extendPolicy(s, tpm2.CCPolicyAuthValue)
	s.PasswordNeeded, s.AuthValueNeeded = true, false
	return tpm2.RCSuccess
}

type policyGetDigestOut struct{ digest tpm2.Digest }

// Walk visits the parameters.
func (p *policyGetDigestOut) Walk(c *tpm2.Codec) { c.Param(&p.digest) }

// policyGetDigest is TPM2_PolicyGetDigest (Part 3, 23.19).
func (e *Engine) policyGetDigest(c *call, _ *none, out *policyGetDigestOut) tpm2.RC {
	out.digest = e.policySession(c).Digest
	return tpm2.RCSuccess
}
