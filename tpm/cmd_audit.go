package tpm

import "github.com/ashlar-cloud/ashlar/tpm2"

// auditCommands are those of Part 3, 21, and of 18 those that attest an audit.
var auditCommands = []command{
	define(command{cc: tpm2.CCSetCommandCodeAuditStatus, pp: true, attrs: tpm2.CCAttrNV, readOnly: true,
		handles: []handle{{"auth", ownerOrPlatform, authUser}},
	}, (*Engine).setCommandCodeAuditStatus),
	define(command{cc: tpm2.CCGetSessionAuditDigest, handles: []handle{
		{"privacyAdminHandle", theEndorsement, authUser}, {"signHandle", anObjectOrNull, authUser},
		{"sessionHandle", anHMACSession, authNone},
	}}, (*Engine).getSessionAuditDigest),
	define(command{cc: tpm2.CCGetCommandAuditDigest, attrs: tpm2.CCAttrNV, handles: []handle{
		{"privacyHandle", theEndorsement, authUser}, {"signHandle", anObjectOrNull, authUser},
	}}, (*Engine).getCommandAuditDigest),
}

type setCommandCodeAuditStatusIn struct {
	auditAlg           tpm2.HashIDOrNull
	setList, clearList tpm2.CCList
}

// Walk visits the parameters.
func (p *setCommandCodeAuditStatusIn) Walk(c *tpm2.Codec) {
	c.Param(&p.auditAlg)
	c.Param(&p.setList)
	c.Param(&p.clearList)
}

// setCommandCodeAuditStatus is TPM2_SetCommandCodeAuditStatus (Part 3, 21.2).
// Another hash algorithm ends the log, and the command is not in the next one.
func (e *Engine) setCommandCodeAuditStatus(c *call, in *setCommandCodeAuditStatusIn, _ *none) tpm2.RC {
	a := &e.state.audit
	if alg := tpm2.AlgID(in.auditAlg); alg != tpm2.AlgNull && alg != a.alg {
		if len(in.setList) != 0 || len(in.clearList) != 0 {
			return tpm2.RCValue.P(1)
		}
		a.alg, a.digest = alg, nil
		c.audited = false
		c.persist()
		return tpm2.RCSuccess
	}
	for _, cc := range in.setList {
		if e.profile.lookup(cc) != nil && a.set(cc, true) {
			c.persist()
		}
	}
	for _, cc := range in.clearList {
		if a.set(cc, false) {
			c.persist()
		}
	}
	return tpm2.RCSuccess
}

// getSessionAuditDigest is TPM2_GetSessionAuditDigest (Part 3, 18.5).
func (e *Engine) getSessionAuditDigest(c *call, in *attestIn, out *attestOut) tpm2.RC {
	a, rc := e.newAttestation(tpm2.STAttestSessionAudit, c, 2, in.scheme, 2, in.qualifyingData)
	if rc != tpm2.RCSuccess {
		return rc
	}
	s := e.state.sessions.Get(c.handles[2])
	if !s.IsAudit() {
		return tpm2.RCType.H(3)
	}
	a.Digest, a.Audit.Exclusive = s.AuditDigest, e.state.sessions.Exclusive == s.Handle
	return e.signAttestation(c, &a, out)
}

// getCommandAuditDigest is TPM2_GetCommandAuditDigest (Part 3, 18.6). A log that
// has been signed is done.
func (e *Engine) getCommandAuditDigest(c *call, in *attestIn, out *attestOut) tpm2.RC {
	a, rc := e.newAttestation(tpm2.STAttestCommandAudit, c, 2, in.scheme, 2, in.qualifyingData)
	if rc != tpm2.RCSuccess {
		return rc
	}
	log := &e.state.audit
	a.Digest = log.digest
	a.Audit = tpm2.AuditInfo{Counter: log.counter, Alg: log.alg, CommandDigest: log.listDigest()}
	if rc := e.signAttestation(c, &a, out); rc != tpm2.RCSuccess {
		return rc
	}
	if c.objects[1] != nil {
		log.digest = nil
	}
	return tpm2.RCSuccess
}
