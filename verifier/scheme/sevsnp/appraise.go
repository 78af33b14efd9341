package sevsnp

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// KindName is the name of the kind.
const KindName = "sev-snp"

// TypeReport is the media type of a report, alone or with certificates behind it.
const TypeReport rats.MediaType = "application/vnd.ashlar.sev-snp-report"

// Kinds is the one kind: a report with what belongs to it.
func Kinds() []scheme.Kind {
	return []scheme.Kind{scheme.New(scheme.Kind{Name: KindName, Title: "an AMD SEV-SNP attestation report", Type: TypeReport,
		Takes: scheme.TakesNonce | scheme.TakesReferences}, Appraise, CheckOwn)}
}

// appraisal is one run of Appraise.
type appraisal struct {
	*scheme.Result
	in         *scheme.Input
	rep        *Report
	agent      *Report // of the guest's migration agent, if given
	path       *path
	line       string                 // product line of the chain
	vouched    []*x509.Certificate    // certificates of the endorsements
	certs      []*x509.Certificate    // all
	crls       []*x509.RevocationList // of the caller
	hostCRLs   []*x509.RevocationList // of the evidence
	collateral []error                // what could not be had
}

// CheckOwn says which endorsement or reference value cannot be read.
func CheckOwn(in *scheme.Input) error {
	var g given
	for _, f := range in.Endorsements {
		if err := g.add(f); err != nil {
			return err
		}
	}
	if g.raw != nil {
		return errors.New("a report is no endorsement")
	}
	if in.References != nil {
		_, err := scheme.ParseValues(in.References.Data, KindName)
		return err
	}
	return nil
}

// Appraise examines a report: Files has it, and certificates; Endorsements has
// certificates and revocation lists, of which roots are vouched for.
func Appraise(in *scheme.Input) *scheme.Result {
	g, own := given{chains: in.Chains}, given{chains: in.Chains}
	for _, f := range in.Files {
		if err := g.add(f); err != nil {
			return scheme.Malformed("evidence", err)
		}
	}
	for _, f := range in.Endorsements {
		if err := own.add(f); err != nil {
			return scheme.Malformed("endorsement", err)
		}
	}
	if g.raw == nil {
		return scheme.Malformed("evidence", errors.New("there is no report among the files"))
	}
	rep, agent, err := parseReports(g.raw)
	if err != nil {
		return scheme.Malformed("report", err)
	}
	a := &appraisal{Result: scheme.NewResult(), in: in, rep: rep, agent: agent, vouched: own.certs,
		certs: append(g.certs, own.certs...), crls: own.crls, hostCRLs: g.crls}
	if g.container != "" {
		a.Facts["container"] = g.container
	}
	a.reportFacts()
	if a.checkKey() {
		a.checkPolicy()
		a.checkTCB()
		a.checkAgent()
		a.compare()
	}
	a.Finish(rats.Hardware, rats.InstanceIdentity, rats.Configuration, rats.Executables)
	return a.Result
}

// checkKey examines the chain, the signature, and that the certificate is this
// chip's at this TCB; then nonce. It tells whether the report is authentic.
func (a *appraisal) checkKey() bool {
	switch s := a.rep.signer(); {
	case a.rep.SignatureAlg != algP384:
		a.Break(scheme.ReasonAlgorithm, "signature", fmt.Errorf("the report's signature algorithm is %d: 1, ECDSA P-384 with SHA-384, is the one that is known", a.rep.SignatureAlg))
		return false
	case s != signerVCEK && s != signerVLEK:
		a.Break(scheme.ReasonSignature, "signature", errors.New("the report is not signed: its platform is set to sign with no key"))
		return false
	}
	a.findLeaf()
	if a.path == nil {
		if a.Verdict == scheme.Valid {
			a.Leave(scheme.ReasonNoKey, "signature", a.withCollateral(fmt.Sprintf(
				"the signature cannot be checked: the certificate of the %s is not there; give it among the files, or give a collateral cache", signerName(a.rep.signer()))))
		}
		return false
	}
	a.Facts["certificate_product_name"] = a.path.productName
	if a.rep.Version < 3 {
		a.Facts["product"] = a.path.line() // which the report itself does not say
	}
	chained := a.checkChain()
	signed := a.checkSignature()
	bound := a.checkBinding()
	if !signed || !bound || !chained {
		return false
	}
	if a.checkRevocation() {
		a.Claim(rats.Hardware, rats.HardwareGenuine)
	}
	a.checkNonce()
	return true
}

func (a *appraisal) checkSignature() bool {
	if a.rep.verify(a.path.key) {
		a.Facts["report_signature"] = "valid"
		a.Hold("signature", "by the "+signerName(a.rep.signer())+", ECDSA P-384 with SHA-384")
		return true
	}
	a.Facts["report_signature"] = "invalid"
	a.Break(scheme.ReasonSignature, "signature", errors.New("the report is altered, or signed with another key than that of the certificate"))
	return false
}

// checkBinding wants the certificate's chip, product and TCB to be the report's.
func (a *appraisal) checkBinding() bool {
	p, ok := a.path, true
	fail := func(reason scheme.Reason, name, expected, found, why string) {
		ok = false
		a.Fail(reason, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: name, Expected: expected, Found: found, Why: why})
	}
	own, known := a.rep.product()
	switch line := p.line(); {
	case a.line != "" && line != a.line:
		fail(scheme.ReasonCertificate, "product", line, a.line, fmt.Sprintf("the certificate is for %s, and its issuer is that of %s", p.productName, a.line))
	case a.rep.Version >= 3 && !known:
		fail(scheme.ReasonCertificate, "product", line, a.rep.productName(), fmt.Sprintf("the report is of a processor that is not known here: family %02Xh, model %02Xh", a.rep.Family, a.rep.Model))
	case known && own.line != line:
		fail(scheme.ReasonCertificate, "product", line, own.line, fmt.Sprintf("the report is of a %s, and the certificate for %s", own.line, p.productName))
	case p.turin != (line == "Turin"):
		fail(scheme.ReasonCertificate, "product", line, line, fmt.Sprintf("the certificate for %s has the structure of another product", p.productName))
	}
	switch {
	case p.vlek:
		a.Facts["csp_id"] = p.csp
		a.Hold("signer", fmt.Sprintf("a key of the cloud provider %q, which names no chip", p.csp))
	case zero(a.rep.ChipID[:]):
		a.Leave("", "chip", "the platform hides the chip's identity: that it is the certificate's follows from the signature alone")
	default:
		same := p.matches(&a.rep.ChipID)
		a.Facts["chip_id_matches_certificate"] = same
		if !same {
			fail(scheme.ReasonCertificate, "chip", fmt.Sprintf("%x", p.hwid), fmt.Sprintf("%x", a.rep.ChipID), "the report is of another chip than the certificate")
		} else {
			a.Hold("chip", fmt.Sprintf("%x", p.hwid))
		}
	}
	if p.tcb != a.rep.ReportedTCB {
		fail(scheme.ReasonTCBNoMatch, "reported TCB", fmt.Sprintf("%x", p.tcb), fmt.Sprintf("%x", a.rep.ReportedTCB),
			"the report's TCB is not the one that the certificate is for: fetch the certificate for this TCB")
	}
	return ok
}

// checkNonce wants the report data to be the nonce, filled up with zeros.
func (a *appraisal) checkNonce() {
	const name = "nonce"
	switch {
	case a.rep.VMPL == hostVMPL:
		a.Leave("", name, "the host asked for this report, not the guest: nothing in it is the guest's answer")
	case !a.in.HasNonce:
		a.Leave("", name, "no nonce was given: the report may be an old one")
	case a.underNonce():
		a.Hold(name, a.in.Nonce.String())
		a.Claim(rats.InstanceIdentity, rats.InstanceKnown)
	default:
		a.Fail(scheme.ReasonNonce, rats.InstanceIdentity, rats.CryptoFailed, rats.Claim{Name: name, Expected: a.in.Nonce.String(),
			Found: fmt.Sprintf("%x", a.rep.ReportData), Why: "the report was made under another nonce: it is a replay, or an answer to somebody else"})
	}
}

func (a *appraisal) underNonce() bool {
	n, data := a.in.Nonce, a.rep.ReportData[:]
	return len(n) <= len(data) && bytes.Equal(data[:len(n)], n) && zero(data[len(n):])
}

// hostVMPL stands in reports that the host asked for.
const hostVMPL = 0xffffffff

// checkPolicy examines what the guest's policy allows its host.
func (a *appraisal) checkPolicy() {
	a.Claim(rats.RuntimeOpaque, rats.MemoryEncrypted)
	p := a.rep.Policy
	if p&PolicyDebug != 0 {
		a.Warn(scheme.ReasonDebug, rats.Configuration, rats.ConfigUnsupported, rats.Claim{Name: "debug", Expected: "false", Found: "true",
			Why: "the guest's policy allows debugging: its host can read and change its memory"})
		a.Vector[rats.RuntimeOpaque] = rats.MemoryVisible
	} else {
		a.Hold("debug", "not allowed")
	}
	if unknown := uint64(p) &^ policyKnown; unknown != 0 {
		a.Leave("", "policy", fmt.Sprintf("the policy has bits that are not known here (0x%x): what they allow is not judged", unknown))
	}
}

// checkTCB holds the report's TCBs against each other.
func (a *appraisal) checkTCB() {
	r, turin := a.rep, a.path.turin
	for _, c := range []struct {
		name string
		tcb  TCB
	}{{"reported TCB", r.ReportedTCB}, {"committed TCB", r.CommittedTCB}} {
		if part, ok := c.tcb.most(r.CurrentTCB, turin); !ok {
			a.Fail(scheme.ReasonTCBNoMatch, rats.Hardware, rats.HardwareUnsafe, rats.Claim{Name: c.name, Why: fmt.Sprintf(
				"the %s is above what the platform runs: %s", c.name, part)})
		}
	}
	if r.CommittedTCB != r.CurrentTCB {
		a.Leave("", "committed TCB", fmt.Sprintf("the platform's firmware is provisional: its host can go back to the TCB %x; hold reference values against committed_… too", r.CommittedTCB))
	} else {
		a.Hold("committed TCB", "what runs is committed: there is no way back to an older TCB")
	}
}

// compare holds the facts against the reference values.
func (a *appraisal) compare() {
	named := !a.withAgent()
	if a.in.References != nil {
		v, err := scheme.ParseValues(a.in.References.Data, KindName)
		if err != nil {
			a.Break(scheme.ReasonMalformed, "reference values", err)
			return
		}
		named = named || len(v.OneOf["report_id_ma"]) > 0 || a.Facts["agent_measurement"] != nil && len(v.OneOf["agent_measurement"]) > 0
		a.Compare(v, categoryOf)
	}
	if !named {
		a.Warn(scheme.ReasonMigration, rats.Configuration, rats.ConfigUnsupported, rats.Claim{Name: "migration agent",
			Found: fmt.Sprintf("%x", a.rep.ReportIDMA),
			Why:   "a migration agent can move this guest elsewhere: give the agent's report beside the guest's, and its agent_measurement in the reference values"})
		return
	}
	if uint64(a.rep.Policy)&^policyKnown == 0 {
		a.Claim(rats.Configuration, rats.ConfigApproved)
	}
}

// categoryOf gives the category of the vector that a fact belongs to. What the
// host alone decides about never makes the executables approved.
func categoryOf(fact string) rats.Category {
	switch fact {
	case "measurement", "id_key_digest", "author_key_digest":
		return rats.Executables
	}
	return rats.Configuration
}
