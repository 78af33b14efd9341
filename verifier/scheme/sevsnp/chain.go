package sevsnp

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/collateral"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// path is the chain of the key that signs the report.
type path struct {
	leaf, issuer, root *x509.Certificate
	*endorsement
}

// rootLine tells the product line of a root, and whether it is trusted: one of
// AMD's, which is pinned, or a self-signed one that the caller vouches for by giving it as an
// endorsement.
func rootLine(c *x509.Certificate, vouched []*x509.Certificate) (line string, trusted bool) {
	if !bytes.Equal(c.RawSubject, c.RawIssuer) || !c.IsCA {
		return "", false
	}
	sum := sha256.Sum256(c.Raw)
	pin := hex.EncodeToString(sum[:])
	for _, p := range products {
		if p.root == pin {
			return p.line, true
		}
	}
	line, named := strings.CutPrefix(c.Subject.CommonName, "ARK-")
	for _, v := range vouched {
		if named && v.Equal(c) && c.CheckSignatureFrom(c) == nil {
			return line, true
		}
	}
	return "", false
}

// signerName is a signer as facts name it.
func signerName(s uint32) string {
	switch s {
	case signerVCEK:
		return "VCEK"
	case signerVLEK:
		return "VLEK"
	case signerNone:
		return "none"
	}
	return fmt.Sprintf("unknown (%d)", s)
}

// findLeaf finds the certificate of the key that the report says it is signed
// with: among what is given, the chip's for its TCB before any other, else in
// the collateral.
func (a *appraisal) findLeaf() {
	var other *path
	wantVLEK := a.rep.signer() == signerVLEK
	var why error
	for _, c := range a.certs {
		if c.IsCA {
			continue
		}
		e, err := parseEndorsement(c)
		switch {
		case err != nil:
			why = fmt.Errorf("the certificate for %.80q is not usable: %w", c.Subject.CommonName, err)
			continue
		case e.vlek != wantVLEK:
			why = fmt.Errorf("the report says that it is signed with a %s, and the certificate is for another kind of key", signerName(a.rep.signer()))
			continue
		}
		p := &path{leaf: c, endorsement: e}
		if e.tcb == a.rep.ReportedTCB && (e.vlek || e.matches(&a.rep.ChipID)) {
			a.path = p
			return
		}
		if other == nil {
			other = p
		}
	}
	if a.path = a.fetchLeaf(); a.path == nil {
		a.path = other
	}
	if a.path == nil && why != nil {
		a.Fail(scheme.ReasonCertificate, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: "certificate", Why: why.Error()})
	}
}

// fetchLeaf asks the collateral for the chip's VCEK; nil if it cannot be had.
func (a *appraisal) fetchLeaf() *path {
	if a.in.Collateral == nil || a.rep.signer() != signerVCEK || zero(a.rep.ChipID[:]) {
		return nil
	}
	for _, line := range a.lines() {
		p, _ := productOf(line)
		item, err := a.in.Collateral.Get(collateral.AMDCertificate(line, a.rep.hwid(p.turin), a.rep.ReportedTCB.spls(p.turin)))
		if err != nil {
			a.collateral = append(a.collateral, err)
			continue
		}
		list, err := item.Chain()
		if err != nil || len(list) != 1 {
			continue
		}
		if e, err := parseEndorsement(list[0]); err == nil && !e.vlek {
			return &path{leaf: list[0], endorsement: e}
		}
	}
	return nil
}

// lines are the product lines that the report may be of: one by its CPUID, or
// those that a report of version 2 can be of.
func (a *appraisal) lines() []string {
	if p, ok := a.rep.product(); ok {
		return []string{p.line}
	}
	switch {
	case a.rep.Version >= 3:
		return nil
	case zero(a.rep.ChipID[8:]):
		return []string{"Turin"}
	}
	return []string{"Milan", "Genoa"}
}

// issuerName is the name that AMD's intermediate of a line has.
func (p *path) issuerName(line string) string {
	if p.vlek {
		return "SEV-VLEK-" + line
	}
	return "SEV-" + line
}

// signerKind is the KDS's word for the path's leaf.
func (p *path) signerKind() collateral.Signer {
	if p.vlek {
		return collateral.VLEK
	}
	return collateral.VCEK
}

// follow leads the leaf to a trusted root of its product line.
func (a *appraisal) follow() error {
	p := a.path
	line, ok := strings.CutPrefix(p.leaf.Issuer.CommonName, p.issuerName(""))
	if !ok || line == "" {
		return fmt.Errorf("the %s certificate's issuer is %.80q, which is none of AMD's for it", signerName(a.rep.signer()), p.leaf.Issuer.CommonName)
	}
	a.line = line
	err := a.followIn(a.certs)
	if _, known := productOf(line); err == nil || !known || a.in.Collateral == nil {
		return err
	}
	item, missing := a.in.Collateral.Get(collateral.AMDChain(line, p.signerKind()))
	if missing != nil {
		a.collateral = append(a.collateral, missing)
		return err
	}
	list, parse := item.Chain()
	if parse != nil {
		return err
	}
	return a.followIn(list)
}

var errNoChain = errors.New("no chain leads to a root")

// followIn looks for issuer and root among certificates.
func (a *appraisal) followIn(certs []*x509.Certificate) error {
	p := a.path
	var issuers, roots []*x509.Certificate
	for _, c := range certs {
		line, trusted := rootLine(c, a.vouched)
		switch {
		case trusted && line == a.line:
			roots = append(roots, c)
		case c.IsCA && bytes.Equal(c.RawSubject, p.leaf.RawIssuer) && c.Subject.CommonName == p.issuerName(a.line):
			issuers = append(issuers, c)
		}
	}
	err := fmt.Errorf("%w that is trusted: AMD's ASK and ARK of %s are missing, or the ARK is not AMD's and nobody vouches for it", errNoChain, a.line)
	for _, i := range issuers {
		for _, r := range roots {
			if !bytes.Equal(i.RawIssuer, r.RawSubject) {
				continue
			}
			if err = a.in.Chains.Verify(p.leaf, []*x509.Certificate{i}, []*x509.Certificate{r}, a.in.Time); err == nil {
				p.issuer, p.root = i, r
				return nil
			}
		}
	}
	return err
}

// chainsTo names the chain in facts: the product line, and the signer where that
// does not go without saying.
func (a *appraisal) chainsTo() string {
	switch name := strings.ToLower(a.line); {
	case a.path.vlek:
		return name + "_vlek"
	case name == "turin":
		return name + "_vcek"
	default:
		return name
	}
}

// checkChain follows the chain, and tells whether it holds.
func (a *appraisal) checkChain() bool {
	const name = "certificate chain"
	err := a.follow()
	switch {
	case err == nil:
		a.Facts["chains_to"] = a.chainsTo()
		a.Hold(name, a.path.root.Subject.CommonName+" → "+a.path.issuer.Subject.CommonName+" → "+a.path.leaf.Subject.CommonName)
		return true
	case errors.Is(err, errNoChain):
		a.Leave(scheme.ReasonCertificate, name, a.withCollateral(err.Error()))
	case scheme.ExpiredError(err):
		a.Fail(scheme.ReasonExpired, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: name, Why: err.Error()})
	default:
		a.Fail(scheme.ReasonCertificate, rats.Hardware, rats.HardwareUnknown, rats.Claim{Name: name, Why: err.Error()})
	}
	return false
}

// withCollateral adds why the collateral did not help.
func (a *appraisal) withCollateral(why string) string {
	for _, err := range a.collateral {
		why += "; " + err.Error()
	}
	return why
}

// checkRevocation looks for the intermediate in the root's revocation lists, and
// tells whether one that is in force, from the caller or the collateral, does not
// have it. A list that came with the evidence can only refuse: the host may have
// kept an old one, which is in force for a year. AMD revokes no VCEK: a chip's keys
// end with their TCB.
func (a *appraisal) checkRevocation() bool {
	const name = "revocation"
	why, good := "no revocation list of AMD's is at hand: give it as an endorsement, or a collateral cache", ""
	trusted := a.revocationLists()
	for i, l := range append(trusted[:len(trusted):len(trusted)], a.hostCRLs...) {
		if !bytes.Equal(l.RawIssuer, a.path.root.RawSubject) {
			continue
		}
		if err := a.in.Chains.CheckList(l, a.path.root, a.in.Time); err != nil {
			why = err.Error()
			continue
		}
		for _, e := range l.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(a.path.issuer.SerialNumber) == 0 {
				a.Fail(scheme.ReasonRevoked, rats.Hardware, rats.HardwareUnsafe, rats.Claim{Name: name,
					Why: fmt.Sprintf("AMD has revoked %s on %s", a.path.issuer.Subject.CommonName, e.RevocationTime.UTC().Format(time.DateOnly))})
				return false
			}
		}
		if i < len(trusted) {
			good = fmt.Sprintf("not in AMD's list of %s", l.ThisUpdate.UTC().Format(time.DateOnly))
		}
	}
	if good == "" {
		a.Leave("", name, a.withCollateral(why))
		return false
	}
	a.Hold(name, good)
	return true
}

// revocationLists are those of the caller, else that of the collateral.
func (a *appraisal) revocationLists() []*x509.RevocationList {
	if _, known := productOf(a.line); len(a.crls) > 0 || a.in.Collateral == nil || !known {
		return a.crls
	}
	item, err := a.in.Collateral.Get(collateral.AMDCRL(a.line, a.path.signerKind()))
	if err != nil {
		a.collateral = append(a.collateral, err)
		return nil
	}
	if item.Stale != nil {
		a.Leave("", "revocation list", item.What+" could not be fetched again: "+item.Stale.Error())
	}
	l, err := item.CRL()
	if err != nil {
		return nil
	}
	return []*x509.RevocationList{l}
}
