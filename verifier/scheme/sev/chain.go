package sev

import (
	"bytes"
	"errors"
	"fmt"
)

// maxCertificates bounds those of one chain.
const maxCertificates = 16

// Chain is a platform's chain of certificates.
type Chain struct {
	PDH, PEK, OCA, CEK, ASK, ARK *Certificate
	// Product is the line whose ARK it leads to: "Naples", "Rome", "Milan", "Genoa",
	// "Turin"; empty for a root of the caller's.
	Product string
}

// ParseCertificates decodes certificates one after the other, to the last byte.
func ParseCertificates(b []byte) ([]*Certificate, error) {
	var list []*Certificate
	for len(b) > 0 {
		c, rest, err := ParseCertificate(b)
		if err != nil {
			return nil, err
		}
		if list = append(list, c); len(list) > maxCertificates {
			return nil, fmt.Errorf("there are more than %d certificates", maxCertificates)
		}
		b = rest
	}
	return list, nil
}

// Build makes a chain of certificates in any order, and verifies it: PDH by PEK,
// PEK by OCA and CEK, OCA by itself, CEK by ASK, ASK by ARK. The ARK is one of
// AMD's, which are pinned, or among vouched and signed by itself. SEV's
// certificates have no dates, and nobody publishes a list of revoked ones.
func Build(certs, vouched []*Certificate) (*Chain, error) {
	c := &Chain{}
	for _, x := range certs {
		slot := map[Usage]**Certificate{PDH: &c.PDH, PEK: &c.PEK, OCA: &c.OCA, CEK: &c.CEK, ASK: &c.ASK, ARK: &c.ARK}[x.Usage]
		if *slot != nil && !bytes.Equal((*slot).raw, x.raw) {
			return nil, fmt.Errorf("there are two certificates of a %s: give those of one platform", x.Usage)
		}
		*slot = x
	}
	for usage, x := range map[Usage]*Certificate{PDH: c.PDH, PEK: c.PEK, OCA: c.OCA, CEK: c.CEK, ASK: c.ASK, ARK: c.ARK} {
		if x == nil {
			return nil, fmt.Errorf("%w: that of the %s is not there", errIncomplete, usage)
		}
	}
	for _, link := range [][2]*Certificate{{c.ARK, c.ASK}, {c.ASK, c.CEK}, {c.CEK, c.PEK}, {c.OCA, c.OCA}, {c.OCA, c.PEK}, {c.PEK, c.PDH}} {
		if !link[0].certifies(link[1]) {
			return nil, fmt.Errorf("the certificate of the %s is not signed by the %s that is given", link[1].Usage, link[0].Usage)
		}
	}
	if c.ARK.id != c.ARK.issuer || c.ASK.issuer != c.ARK.id {
		return nil, errors.New("the ASK's certificate names another ARK")
	}
	if c.Product = rootOf(c.ARK); c.Product != "" {
		return c, nil
	}
	for _, v := range vouched {
		if bytes.Equal(v.raw, c.ARK.raw) && v.certifies(v) {
			return c, nil
		}
	}
	return nil, errors.New("the ARK is not AMD's, and nobody vouches for it")
}

var errIncomplete = errors.New("the certificate chain is not complete")
