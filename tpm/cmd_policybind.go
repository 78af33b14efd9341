package tpm

import (
	"bytes"
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm/internal/session"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// policyBindCommands are those of Part 3, 23, which bind a policy to the use
// that is made of it: the parameters, the objects, the state of an Index.
var policyBindCommands = []command{
	define(policyCommand(tpm2.CCPolicyCpHash), (*Engine).policyCpHash),
	define(policyCommand(tpm2.CCPolicyNameHash), (*Engine).policyNameHash),
	define(policyCommand(tpm2.CCPolicyParameters), (*Engine).policyParameters),
	define(policyCommand(tpm2.CCPolicyTemplate), (*Engine).policyTemplate),
	define(policyCommand(tpm2.CCPolicyDuplicationSelect), (*Engine).policyDuplicationSelect),
	define(policyCommand(tpm2.CCPolicyNvWritten), (*Engine).policyNvWritten),
	define(policyCommand(tpm2.CCPolicyPhysicalPresence), (*Engine).policyPhysicalPresence),
}

// policyHashIn is the one parameter of the commands that fix a hash.
type policyHashIn struct{ hash tpm2.Digest }

// Walk visits the parameters.
func (p *policyHashIn) Walk(c *tpm2.Codec) { c.Param(&p.hash) }

// policyCpHash is TPM2_PolicyCpHash (Part 3, 23.12).
func (e *Engine) policyCpHash(c *call, in *policyHashIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	if len(in.hash) != len(s.Digest) {
		return tpm2.RCSize.P(1)
	}
	if s.ConstrainsParameters() && !bytes.Equal(in.hash, s.CPHash) {
		return tpm2.RCCPHash
	}
	extendPolicy(s, tpm2.CCPolicyCpHash, in.hash)
	s.CPHash = bytes.Clone(in.hash)
	return tpm2.RCSuccess
}

// policyNameHash is TPM2_PolicyNameHash (Part 3, 23.13). To repeat it is an
// error, unlike PolicyCpHash.
func (e *Engine) policyNameHash(c *call, in *policyHashIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	if len(in.hash) != len(s.Digest) {
		return tpm2.RCSize.P(1)
	}
	if s.ConstrainsParameters() {
		return tpm2.RCCPHash
	}
	extendPolicy(s, tpm2.CCPolicyNameHash, in.hash)
	s.NameHash = bytes.Clone(in.hash)
	return tpm2.RCSuccess
}

// policyParameters is TPM2_PolicyParameters (version 1.83, Part 3, 23): what
// PolicyCpHash fixes, without the Names of the handles.
func (e *Engine) policyParameters(c *call, in *policyHashIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	if len(in.hash) != len(s.Digest) {
		return tpm2.RCSize.P(1)
	}
	if s.ConstrainsParameters() {
		return tpm2.RCCPHash
	}
	extendPolicy(s, tpm2.CCPolicyParameters, in.hash)
	s.ParametersHash = bytes.Clone(in.hash)
	return tpm2.RCSuccess
}

// policyTemplate is TPM2_PolicyTemplate (Part 3, 23.21). Another template than
// before is TPM_RC_VALUE here, as in libtpms 0.9; later ones say TPM_RC_CPHASH.
func (e *Engine) policyTemplate(c *call, in *policyHashIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	if s.ConstrainsParameters() {
		if len(s.TemplateHash) == 0 {
			return tpm2.RCCPHash
		}
		if !bytes.Equal(in.hash, s.TemplateHash) {
			return tpm2.RCValue.P(1)
		}
	}
	if len(in.hash) != len(s.Digest) {
		return tpm2.RCSize.P(1)
	}
	extendPolicy(s, tpm2.CCPolicyTemplate, in.hash)
	s.TemplateHash = bytes.Clone(in.hash)
	return tpm2.RCSuccess
}

// templateAllowed reports whether the command creates an object of the
// template whose hash a policy has fixed (CompareTemplateHash). The template is
// the second parameter, which is never encrypted.
func templateAllowed(c *call, s *session.Session) bool {
	switch c.cmd.cc {
	case tpm2.CCCreate, tpm2.CCCreatePrimary, tpm2.CCCreateLoaded:
	default:
		return false
	}
	_, rest, ok := cutSized(c.params)
	if !ok {
		return false
	}
	template, _, ok := cutSized(rest)
	return ok && bytes.Equal(s.TemplateHash, s.AuthHash.Digest(template))
}

// cutSized cuts a TPM2B off the front of b.
func cutSized(b []byte) (data, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > len(b)-2 {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

type policyDuplicationSelectIn struct {
	objectName, newParentName tpm2.Name
	includeObject             tpm2.YesNo
}

// Walk visits the parameters.
func (p *policyDuplicationSelectIn) Walk(c *tpm2.Codec) {
	c.Param(&p.objectName)
	c.Param(&p.newParentName)
	c.Param(&p.includeObject)
}

// policyDuplicationSelect is TPM2_PolicyDuplicationSelect (Part 3, 23.14).
func (e *Engine) policyDuplicationSelect(c *call, in *policyDuplicationSelectIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	if s.ConstrainsParameters() {
		return tpm2.RCCPHash
	}
	if s.CommandCode != 0 {
		return tpm2.RCCommandCode
	}
	s.NameHash = s.AuthHash.Digest(in.objectName, in.newParentName)
	object, flag := in.objectName, byte(1)
	if !in.includeObject {
		object, flag = nil, 0
	}
	extendPolicy(s, tpm2.CCPolicyDuplicationSelect, object, in.newParentName, []byte{flag})
	s.CommandCode = tpm2.CCDuplicate
	return tpm2.RCSuccess
}

type policyNvWrittenIn struct{ writtenSet tpm2.YesNo }

// Walk visits the parameters.
func (p *policyNvWrittenIn) Walk(c *tpm2.Codec) { c.Param(&p.writtenSet) }

// policyNvWritten is TPM2_PolicyNvWritten (Part 3, 23.20).
func (e *Engine) policyNvWritten(c *call, in *policyNvWrittenIn, _ *none) tpm2.RC {
	s := e.policySession(c)
	written := bool(in.writtenSet)
	if s.CheckNVWritten && s.NVWritten != written {
		return tpm2.RCValue.P(1)
	}
	s.CheckNVWritten, s.NVWritten = true, written
	flag := byte(0)
	if written {
		flag = 1
	}
	extendPolicy(s, tpm2.CCPolicyNvWritten, []byte{flag})
	return tpm2.RCSuccess
}

// policyPhysicalPresence is TPM2_PolicyPhysicalPresence (Part 3, 23.15). A
// virtual machine has no button: such a policy can be made, not fulfilled.
func (e *Engine) policyPhysicalPresence(c *call, _ *none, _ *none) tpm2.RC {
	s := e.policySession(c)
	extendPolicy(s, tpm2.CCPolicyPhysicalPresence)
	s.PPRequired = true
	return tpm2.RCSuccess
}
