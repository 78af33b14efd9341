package tpm

import (
	"encoding/binary"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// attestationCommands are those of Part 3, 18. They report the Clock, so that
// one that is signed ends a Shutdown: none is readOnly.
var attestationCommands = []command{
	define(command{cc: tpm2.CCCertify, handles: []handle{
		{"objectHandle", anObject, authAdmin}, {"signHandle", anObjectOrNull, authUser},
	}}, (*Engine).certify),
	define(command{cc: tpm2.CCCertifyCreation, handles: []handle{
		{"signHandle", anObjectOrNull, authUser}, {"objectHandle", anObject, authNone},
	}}, (*Engine).certifyCreation),
	define(command{cc: tpm2.CCQuote, handles: []handle{
		{"signHandle", anObjectOrNull, authUser},
	}}, (*Engine).quote),
	define(command{cc: tpm2.CCGetTime, handles: []handle{
		{"privacyAdminHandle", theEndorsement, authUser}, {"signHandle", anObjectOrNull, authUser},
	}}, (*Engine).getTime),
}

// attestOut is an attestation and its signature.
type attestOut struct {
	attest    tpm2.SizedAttest
	signature tpm2.Signature
}

// Walk visits the parameters.
func (p *attestOut) Walk(c *tpm2.Codec) { c.Param(&p.attest); c.Param(&p.signature) }

// attestation is one that is being made.
type attestation struct {
	tpm2.Attest
	signer *object.Object // nil: it will not be signed
	scheme tpm2.SigScheme
	// anonymous: who verifies the signature is not to know one signer from
	// another, so the attestation does not say whose it is. Its caller's data is
	// signed with it instead.
	anonymous bool
	data      tpm2.Data
}

// newAttestation checks the signer, resolves its scheme and fills in what all
// attestations have (FillInAttestInfo). signHandle and scheme are the numbers
// of the handle and the parameter to blame.
func (e *Engine) newAttestation(kind tpm2.ST, c *call, signHandle int, scheme tpm2.SigScheme, schemeParam int,
	data tpm2.Data) (a attestation, rc tpm2.RC) {
	a.signer = c.objects[signHandle-1]
	if !maySign(a.signer) {
		return a, tpm2.RCKey.H(signHandle)
	}
	if a.scheme, rc = selectScheme(a.signer, scheme); rc != tpm2.RCSuccess {
		return a, tpm2.RCScheme.P(schemeParam)
	}
	a.Type, a.anonymous = kind, a.scheme.Alg == tpm2.AlgECDAA
	if a.anonymous {
		a.data = data
	} else {
		a.ExtraData = data
	}
	a.ClockInfo, a.FirmwareVersion = e.state.timing.ClockInfo(), e.state.firmware
	c.endsShutdown = a.signer != nil
	switch {
	case a.signer == nil:
		a.QualifiedSigner = binary.BigEndian.AppendUint32(nil, uint32(tpm2.RHNull))
	case !a.anonymous:
		a.QualifiedSigner = a.signer.QualifiedName
	}
	if a.signer == nil || a.signer.Hierarchy != tpm2.RHEndorsement && a.signer.Hierarchy != tpm2.RHPlatform {
		e.obfuscate(&a.Attest)
	}
	return a, tpm2.RCSuccess
}

// obfuscate hides the counts and the firmware's version from those who see
// attestations by other keys than the privacy administrator's: each key's are
// shifted by a number of its own, so that keys cannot be correlated by them
// (Part 1, 36, on the privacy of clocks).
func (e *Engine) obfuscate(a *tpm2.Attest) {
	shift := crypt.KDFa(ticketHash, e.state.hierarchies.Owner.Proof, "OBFUSCATE", a.QualifiedSigner, nil, 128)
	// The byte order is the reference code's on a little-endian machine.
	a.FirmwareVersion += binary.LittleEndian.Uint64(shift)
	counts := binary.LittleEndian.Uint64(shift[8:])
	a.ClockInfo.ResetCount += uint32(counts >> 32)
	a.ClockInfo.RestartCount += uint32(counts)
}

// signAttestation makes the attestation's wire form and signs its digest
// (SignAttestInfo).
func (e *Engine) signAttestation(c *call, a *attestation, out *attestOut) (rc tpm2.RC) {
	enc := tpm2.NewEncoder(make([]byte, 0, 320))
	a.Walk(&enc)
	if rc := enc.RC(); rc != tpm2.RCSuccess {
		panic("cannot encode the attestation: " + rc.Error())
	}
	out.attest = enc.Output()
	if a.signer == nil {
		out.signature.Alg = tpm2.AlgNull
		return tpm2.RCSuccess
	}
	digest := a.scheme.Hash.Digest(out.attest)
	if len(a.data) != 0 {
		digest = a.scheme.Hash.Digest(a.data, digest)
	}
	out.signature, rc = e.signDigest(c, a.signer.Key, a.scheme, digest)
	return rc
}

// attestIn is what most of the commands take.
type attestIn struct {
	qualifyingData tpm2.Data
	scheme         tpm2.SigScheme
}

// Walk visits the parameters.
func (p *attestIn) Walk(c *tpm2.Codec) { c.Param(&p.qualifyingData); c.Param(&p.scheme) }

// certify is TPM2_Certify (Part 3, 18.2).
func (e *Engine) certify(c *call, in *attestIn, out *attestOut) tpm2.RC {
	a, rc := e.newAttestation(tpm2.STAttestCertify, c, 2, in.scheme, 2, in.qualifyingData)
	if rc != tpm2.RCSuccess {
		return rc
	}
	a.Certify.Name = c.objects[0].Name
	if !a.anonymous {
		a.Certify.QualifiedName = c.objects[0].QualifiedName
	}
	return e.signAttestation(c, &a, out)
}

type certifyCreationIn struct {
	qualifyingData tpm2.Data
	creationHash   tpm2.Digest
	scheme         tpm2.SigScheme
	ticket         tpm2.CreationTicket
}

// Walk visits the parameters.
func (p *certifyCreationIn) Walk(c *tpm2.Codec) {
	c.Param(&p.qualifyingData)
	c.Param(&p.creationHash)
	c.Param(&p.scheme)
	c.Param(&p.ticket)
}

// certifyCreation is TPM2_CertifyCreation (Part 3, 18.3).
func (e *Engine) certifyCreation(c *call, in *certifyCreationIn, out *attestOut) tpm2.RC {
	a, rc := e.newAttestation(tpm2.STAttestCreation, c, 1, in.scheme, 3, in.qualifyingData)
	if rc != tpm2.RCSuccess {
		return rc
	}
	name := c.objects[1].Name
	want := e.creationTicket(tpm2.Handle(in.ticket.Hierarchy), name, in.creationHash)
	if !ticketMatches(tpm2.Ticket(want), in.ticket.Digest) {
		return tpm2.RCTicket.P(4)
	}
	a.Creation = tpm2.CreationInfo{ObjectName: name, CreationHash: in.creationHash}
	return e.signAttestation(c, &a, out)
}

type quoteIn struct {
	attestIn
	selection tpm2.PCRSelectionList
}

// Walk visits the parameters.
func (p *quoteIn) Walk(c *tpm2.Codec) { p.attestIn.Walk(c); c.Param(&p.selection) }

// quote is TPM2_Quote (Part 3, 18.4). PCRs that are not allocated drop out of
// the selection. Without a signer there is no algorithm to digest them with.
func (e *Engine) quote(c *call, in *quoteIn, out *attestOut) tpm2.RC {
	a, rc := e.newAttestation(tpm2.STAttestQuote, c, 1, in.scheme, 2, in.qualifyingData)
	if rc != tpm2.RCSuccess {
		return rc
	}
	if a.scheme.Hash == tpm2.AlgNull {
		return tpm2.RCScheme.P(2)
	}
	selection, digest := e.state.pcrs.Digest(in.selection, a.scheme.Hash)
	a.Quote = tpm2.QuoteInfo{Select: selection, Digest: digest}
	return e.signAttestation(c, &a, out)
}

// getTime is TPM2_GetTime (Part 3, 18.7). The times it is about are not
// obfuscated: the privacy administrator has authorized it.
func (e *Engine) getTime(c *call, in *attestIn, out *attestOut) tpm2.RC {
	a, rc := e.newAttestation(tpm2.STAttestTime, c, 2, in.scheme, 2, in.qualifyingData)
	if rc != tpm2.RCSuccess {
		return rc
	}
	a.Time = tpm2.TimeInfo{Time: e.state.timing.Time, ClockInfo: e.state.timing.ClockInfo()}
	a.TimeFirmware = e.state.firmware
	return e.signAttestation(c, &a, out)
}
