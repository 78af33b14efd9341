package tpm

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// checkIdentity examines whose key the AK is. The instance is recognized if the
// AK itself is endorsed or certified, or if activation proves that it lives in
// the TPM of an EK that is.
func (a *appraisal) checkIdentity() {
	if a.ak == nil {
		return
	}
	certified := a.checkAKCertificate()
	ekGood, genuine := a.checkEK()
	activated := a.checkActivation()
	a.checkAttributes(activated || certified)
	if certified || activated && genuine {
		a.Claim(rats.Hardware, rats.HardwareGenuine)
	}
	fresh := a.fresh()
	switch {
	case a.endorsed || certified || activated && ekGood:
		if fresh && a.Result.Facts["signature"] != nil {
			a.Claim(rats.InstanceIdentity, rats.InstanceKnown)
		}
		if len(a.ev.AttesterKey) > 0 && fresh {
			a.AttesterKey = a.ev.AttesterKey
		}
	case activated:
		a.Leave("", "endorsement key", "the attestation key lives in the endorsement key's TPM, but nobody vouches for that: give the EK, or its maker's CA certificate, as an endorsement")
	default:
		a.Leave("", "attestation key", "nobody vouches for the attestation key: the evidence may be from any TPM, or none")
	}
}

// checkAttributes examines the AK's attributes. They are proven if the caller
// gave the public area, if activation confirmed its Name, or if a CA certified
// the key as an AK; otherwise they are only the Evidence's own statement.
func (a *appraisal) checkAttributes(proven bool) {
	const name = "attestation key attributes"
	p := a.ak.Public
	if p == nil {
		a.Leave("", name, "the attestation key came without its public area: whether it is restricted to statements of its TPM is not known")
		return
	}
	if err := identity.CheckAK(p); err != nil {
		a.Fail(scheme.ReasonKeyAttributes, rats.InstanceIdentity, rats.InstanceUnknown, rats.Claim{Name: name, Why: err.Error()})
		return
	}
	a.Facts["ak_name"] = hex.EncodeToString(p.Name())
	if !proven && a.statedOnly {
		a.Leave("", name, "that the attestation key is restricted to statements of its TPM is only what the evidence says: no challenge was answered with it")
		return
	}
	a.Hold(name, "restricted signing key, fixed to its TPM")
}

// checkAKCertificate tells whether a certificate that leads to an endorsed CA
// is for the AK.
func (a *appraisal) checkAKCertificate() bool {
	c := a.ev.AKCertificate
	if c == nil {
		return false
	}
	same := a.ak.Equal(&identity.Key{Crypto: c.PublicKey})
	a.Facts["ak_certificate_issuer"] = c.Issuer.String()
	a.Facts["ak_certificate_key_is_ak"] = same
	if !same {
		a.Fail(scheme.ReasonCertificate, rats.InstanceIdentity, rats.InstanceUnknown, rats.Claim{Name: "AK certificate",
			Why: "the AK certificate is for another key than the one that signed the quote"})
		return false
	}
	if err := identity.CheckAKCertificate(c); err != nil {
		a.Fail(scheme.ReasonCertificate, rats.InstanceIdentity, rats.InstanceUnknown, rats.Claim{Name: "AK certificate", Why: err.Error()})
		return false
	}
	ok := a.chain("AK certificate", c)
	a.Facts["ak_certificate_chains_to_root"] = ok
	return ok
}

// chain follows a certificate of the Evidence to the endorsed CAs.
func (a *appraisal) chain(name string, c *x509.Certificate) bool {
	if len(a.Certificates) == 0 {
		a.Leave("", name, fmt.Sprintf("no CA certificate was given that the %s could lead to: its issuer is %q", name, short(c.Issuer.String())))
		return false
	}
	others := append(slices.Clone(a.ev.intermediates), a.ev.certs...)
	if err := identity.Chain(c, a.Certificates, others, a.Time); err != nil {
		a.Fail(scheme.ReasonCertificate, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: name, Why: err.Error()})
		return false
	}
	a.Hold(name, "issued by "+c.Issuer.String())
	return true
}

// checkEK tells whether the EK is good: endorsed by itself, or genuine, that is
// certified by its maker.
func (a *appraisal) checkEK() (good, genuine bool) {
	if a.ev.EK == nil {
		return false, false
	}
	ek, err := identity.FromPublic(a.ev.EK)
	if err == nil {
		err = identity.CheckEK(a.ev.EK)
	}
	if err != nil {
		a.Fail(scheme.ReasonKeyAttributes, rats.InstanceIdentity, rats.InstanceUnknown, rats.Claim{Name: "endorsement key", Why: err.Error()})
		return false, false
	}
	a.Facts["ek_name"] = hex.EncodeToString(a.ev.EK.Name())
	for _, k := range withCertified(a.Keys, a.Certificates) {
		if k.Equal(ek) {
			good = true
			a.Hold("endorsement key", "endorsed by the caller")
			break
		}
	}
	for _, c := range a.ev.EKCertificates {
		if !ek.Equal(&identity.Key{Crypto: c.PublicKey}) {
			continue // a TPM has one for each of its EKs
		}
		if err := identity.CheckEKCertificate(c, ek); err != nil {
			a.Fail(scheme.ReasonCertificate, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: "EK certificate", Why: err.Error()})
			continue
		}
		if a.chain("EK certificate", c) {
			good, genuine = true, true
		}
	}
	return good, genuine
}

// checkActivation tells whether the Evidence answers the challenge.
func (a *appraisal) checkActivation() bool {
	const name = "credential activation"
	switch {
	case a.Challenge == nil:
		if len(a.ev.ActivationSecret) > 0 {
			a.Leave("", name, "the evidence answers a challenge, and which one was not given")
		}
		return false
	case a.ev.EK == nil || a.ak.Public == nil:
		a.Fail(scheme.ReasonActivation, rats.InstanceIdentity, rats.InstanceUnknown, rats.Claim{Name: name,
			Why: "the challenge cannot be answered: the evidence lacks the endorsement key or the attestation key's public area"})
		return false
	}
	if err := a.Challenge.Answered(a.ev.EK, a.ak.Public, a.ev.ActivationSecret); err != nil {
		a.Fail(scheme.ReasonActivation, rats.InstanceIdentity, rats.InstanceUnknown, rats.Claim{Name: name, Why: err.Error()})
		return false
	}
	a.Hold(name, "the attestation key is in the endorsement key's TPM")
	return true
}
