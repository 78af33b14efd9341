package sev

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// KindName is the name of the kind.
const KindName = "sev"

// Kinds is the one kind: a launch measurement or an attestation report.
func Kinds() []scheme.Kind {
	return []scheme.Kind{scheme.New(scheme.Kind{Name: KindName, Title: "an AMD SEV or SEV-ES launch measurement, or attestation report",
		Takes: scheme.TakesNonce | scheme.TakesKey | scheme.TakesReferences}, Appraise, CheckOwn)}
}

// appraisal is one run of Appraise.
type appraisal struct {
	*scheme.Result
	in      *scheme.Input
	g       given
	vouched []*Certificate
	values  *scheme.Values
	policy  Policy
}

// CheckOwn says which endorsement, key or reference value cannot be read.
func CheckOwn(in *scheme.Input) error {
	_, err := prepare(in, &given{})
	return err
}

// prepare reads the caller's own part of an input.
func prepare(in *scheme.Input, g *given) (*appraisal, error) {
	a := &appraisal{Result: scheme.NewResult(), in: in}
	var own given
	for _, f := range in.Endorsements {
		if err := own.add(f); err != nil {
			return nil, err
		}
	}
	if own.measure != nil || own.report != nil {
		return nil, errors.New("a measurement or report is no endorsement")
	}
	a.vouched = own.certs
	a.g = *g
	if in.Key != nil {
		if _, err := tikOf(in.Key.Data); err != nil {
			return nil, err
		}
	}
	if in.References != nil {
		v, err := scheme.ParseValues(in.References.Data, KindName)
		if err != nil {
			return nil, err
		}
		for _, d := range v.OneOf["launch_digest"] {
			if b, err := hex.DecodeString(d); err != nil || len(b) != digestSize {
				return nil, fmt.Errorf("the launch digest %.80q is not a SHA-256 in hexadecimal", d)
			}
		}
		a.values = v
	}
	return a, nil
}

// tikOf reads a transport integrity key: as it is, in hexadecimal or base64.
func tikOf(b []byte) ([]byte, error) {
	if len(b) != keySize {
		b = decodeText(bytes.TrimSpace(b))
	}
	if len(b) != keySize {
		return nil, fmt.Errorf("the key is no TIK: it has %d bytes, not %d", len(b), keySize)
	}
	return b, nil
}

// Appraise examines a launch measurement under the TIK that Input.Key has, or an
// attestation report under the platform's chain.
func Appraise(in *scheme.Input) *scheme.Result {
	var g given
	for _, f := range in.Files {
		if err := g.add(f); err != nil {
			return scheme.Malformed("evidence", err)
		}
	}
	a, err := prepare(in, &g)
	if err != nil {
		return scheme.Malformed("endorsement", err)
	}
	switch {
	case g.report != nil && g.measure != nil:
		return scheme.Malformed("evidence", errors.New("a measurement and a report are two kinds of evidence: give one"))
	case g.report != nil:
		a.appraiseReport()
	case g.measure != nil:
		a.appraiseMeasurement()
	default:
		return scheme.Malformed("evidence", errors.New("there is neither a launch measurement nor an attestation report"))
	}
	a.Finish(rats.Hardware, rats.InstanceIdentity, rats.Configuration, rats.Executables)
	return a.Result
}

// chain verifies the platform's certificates, and tells whether they hold.
func (a *appraisal) chain() (*Chain, bool) {
	const name = "certificate chain"
	all := append(append([]*Certificate{}, a.g.certs...), a.vouched...)
	if len(all) == 0 {
		return nil, false
	}
	c, err := Build(all, a.vouched)
	switch {
	case errors.Is(err, errIncomplete):
		a.Leave("", name, err.Error())
		return nil, false
	case err != nil:
		a.Fail(scheme.ReasonCertificate, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: name, Why: err.Error()})
		return nil, false
	}
	product := "a root that you vouch for"
	if c.Product != "" {
		product = "AMD's root of " + c.Product
		a.Facts["chains_to"] = strings.ToLower(c.Product)
	}
	a.Hold(name, product+" → ASK → CEK → PEK → PDH")
	return c, true
}

// appraiseReport checks what the firmware signed with the PEK.
func (a *appraisal) appraiseReport() {
	r, err := parseReport(a.g.report)
	if err != nil {
		a.Break(scheme.ReasonMalformed, "report", err)
		return
	}
	a.Facts["launch_digest"], a.Facts["mnonce"] = hex.EncodeToString(r.digest), hex.EncodeToString(r.nonce)
	a.setPolicy(r.policy)
	c, ok := a.chain()
	if !ok {
		if a.Verdict == scheme.Valid {
			a.Leave(scheme.ReasonNoKey, "signature", "the report's signature cannot be checked: give the platform's certificates (PDH, PEK, OCA, CEK) and AMD's (ASK, ARK)")
		}
		return
	}
	if err := c.PEK.verify(r.signed, r.sig); err != nil {
		a.Facts["report_signature"] = "invalid"
		a.Break(scheme.ReasonSignature, "signature", errors.New("the report is altered, or signed with another key than the PEK of the certificates"))
		return
	}
	a.Facts["report_signature"] = "valid"
	a.Hold("signature", "by the PEK")
	a.Claim(rats.Hardware, rats.HardwareGenuine)
	a.checkNonce(r.nonce)
	a.judge()
}

// checkNonce wants the nonce that the caller chose, filled up with zeros.
func (a *appraisal) checkNonce(found []byte) {
	switch n := a.in.Nonce; {
	case !a.in.HasNonce:
		a.Leave("", "nonce", "no nonce was given: the report may be an old one")
	case len(n) <= len(found) && bytes.Equal(found[:len(n)], n) && zero(found[len(n):]):
		a.Hold("nonce", n.String())
		a.Claim(rats.InstanceIdentity, rats.InstanceKnown)
	default:
		a.Fail(scheme.ReasonNonce, rats.InstanceIdentity, rats.CryptoFailed, rats.Claim{Name: "nonce", Expected: n.String(),
			Found: hex.EncodeToString(found), Why: "the report was made under another nonce: it is a replay, or an answer to somebody else (it has 16 bytes)"})
	}
}

// appraiseMeasurement looks for the launch digest that the firmware has
// authenticated.
func (a *appraisal) appraiseMeasurement() {
	const name = "launch measurement"
	a.Facts["measurement"], a.Facts["mnonce"] = hex.EncodeToString(a.g.measure[:digestSize]), hex.EncodeToString(a.g.measure[digestSize:])
	if a.g.policy != nil {
		a.setPolicy(Policy(*a.g.policy))
	}
	f := a.g.firmware
	if a.g.policy == nil || f[0] == nil || f[1] == nil || f[2] == nil {
		a.Leave(scheme.ReasonCoverage, name, "it covers the firmware's version and the policy, which are not there: give the answer of query-sev, or what virsh domlaunchsecinfo prints")
		return
	}
	fw := Firmware{*f[0], *f[1], *f[2]}
	a.Facts["api_major"], a.Facts["api_minor"], a.Facts["build_id"] = fw.Major, fw.Minor, fw.Build
	_, chained := a.chain()
	switch {
	case a.in.Key == nil:
		a.Leave(scheme.ReasonNoKey, name, "it cannot be checked without the transport integrity key (TIK) that the guest was launched with: give it with --key")
		return
	case a.values == nil || len(a.values.OneOf["launch_digest"]) == 0:
		a.Leave(scheme.ReasonCoverage, name, "it proves a launch digest only to who knows it: give reference values with launch_digest")
		return
	}
	tik, err := tikOf(a.in.Key.Data)
	if err != nil {
		a.Break(scheme.ReasonMalformed, "key", err)
		return
	}
	for _, text := range a.values.OneOf["launch_digest"] {
		digest, err := hex.DecodeString(text)
		if err == nil && hmac.Equal(a.g.measure[:digestSize], measurement(tik, fw, a.policy, digest, a.g.measure[digestSize:])) {
			a.Facts["launch_digest"] = hex.EncodeToString(digest)
		}
	}
	if a.Facts["launch_digest"] == nil {
		a.Fail(scheme.ReasonReference, rats.Executables, rats.ExecutablesContra, rats.Claim{Name: name, Found: hex.EncodeToString(a.g.measure[:digestSize]),
			Why: "it is of none of the reference launch digests under this key, firmware and policy: other firmware was loaded, the host lies about its version or the policy, or the key is another launch's"})
		return
	}
	a.Hold(name, "under the TIK, which was made for this launch")
	a.Claim(rats.InstanceIdentity, rats.InstanceKnown)
	if a.in.HasNonce {
		a.Leave("", "nonce", "a launch measurement answers no nonce: it is fresh because the TIK was made for one launch")
	}
	// The key is in the platform that it was sealed for, which the caller says by
	// giving that platform's chain as an endorsement.
	switch {
	case chained && a.vouchesForPDH():
		a.Claim(rats.Hardware, rats.HardwareGenuine)
	default:
		a.Leave("", "platform", "which platform the TIK was sealed for is not known here: give the certificates that you sealed it with as endorsements")
	}
	a.judge()
}

func (a *appraisal) vouchesForPDH() bool {
	for _, v := range a.vouched {
		if v.Usage == PDH {
			return true
		}
	}
	return false
}

// setPolicy records what a policy says.
func (a *appraisal) setPolicy(p Policy) {
	a.policy = p
	f := a.Facts
	f["policy"] = fmt.Sprintf("0x%x", uint32(p))
	f["debug"], f["key_sharing_allowed"] = p&PolicyNoDebug == 0, p&PolicyNoKeySharing == 0
	f["sev_es"], f["send_allowed"], f["domain"], f["sev_only"] = p&PolicyES != 0, p&PolicyNoSend == 0, p&PolicyDomain != 0, p&PolicySEV != 0
	f["policy_api_major"], f["policy_api_minor"] = uint8(p>>16), uint8(p>>24)
}

// judge examines what is authentic now: policy and reference values.
func (a *appraisal) judge() {
	a.Claim(rats.RuntimeOpaque, rats.MemoryEncrypted)
	if a.policy&PolicyNoDebug == 0 {
		a.Warn(scheme.ReasonDebug, rats.Configuration, rats.ConfigUnsupported, rats.Claim{Name: "debug", Expected: "false", Found: "true",
			Why: "the guest's policy allows debugging: its host can read and change its memory"})
		a.Vector[rats.RuntimeOpaque] = rats.MemoryVisible
	} else {
		a.Hold("debug", "not allowed")
	}
	if a.policy&PolicyES == 0 {
		a.Leave("", "registers", "SEV without SEV-ES: the host sees and changes the guest's registers")
	}
	if a.policy&PolicyNoKeySharing == 0 {
		a.Leave("", "key sharing", "the policy lets the host launch other guests with this one's key")
	}
	if a.policy&PolicyNoSend == 0 {
		a.Leave("", "migration", "the policy lets the guest be sent to other platforms of AMD's")
	}
	if a.values != nil {
		a.Compare(a.values, func(fact string) rats.Category {
			if fact == "launch_digest" {
				return rats.Executables
			}
			return rats.Configuration
		})
	}
	if a.policy&PolicyNoKeySharing != 0 {
		a.Claim(rats.Configuration, rats.ConfigApproved)
	}
}
