package scheme

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// MaxChain is the most certificates that Verify takes between a leaf and a root.
const MaxChain = 16

// Chains remembers chains of certificates that held, since a maker's chain is the
// same for each report of a machine and its signatures cost more than all else. A
// nil Chains remembers nothing. It is safe for concurrent use.
type Chains struct {
	mu    sync.Mutex
	most  int
	known map[[sha256.Size]byte]period
}

// period is the time in which each certificate of a chain is good.
type period struct{ from, to time.Time }

// NewChains gives a memory of at most most chains; when it is full, one is
// forgotten for each that comes.
func NewChains(most int) *Chains {
	return &Chains{most: max(most, 1), known: map[[sha256.Size]byte]period{}}
}

// Verify checks that a leaf leads by intermediates to one of the roots, each
// certificate being good at a time (RFC 5280, 6.1). It knows nothing of
// revocation. ExpiredError tells an error that only the time is to blame for.
func (c *Chains) Verify(leaf *x509.Certificate, intermediates, roots []*x509.Certificate, at time.Time) error {
	if len(intermediates) > MaxChain || len(roots) > MaxChain {
		return fmt.Errorf("the certificate chain has more than %d certificates", MaxChain)
	}
	key := chainKey(leaf, intermediates, roots)
	if c != nil {
		c.mu.Lock()
		p, ok := c.known[key]
		c.mu.Unlock()
		if ok && !at.Before(p.from) && !at.After(p.to) {
			return nil
		}
	}
	o := x509.VerifyOptions{Intermediates: x509.NewCertPool(), Roots: x509.NewCertPool(),
		CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, i := range intermediates {
		o.Intermediates.AddCert(i)
	}
	for _, r := range roots {
		o.Roots.AddCert(r)
	}
	found, err := leaf.Verify(o)
	if err != nil {
		return fmt.Errorf("the certificate of %s does not lead to a root that is trusted: %w", subjectOf(leaf), err)
	}
	if c != nil {
		c.remember(key, found[0])
	}
	return nil
}

func (c *Chains) remember(key [sha256.Size]byte, chain []*x509.Certificate) {
	p := period{from: chain[0].NotBefore, to: chain[0].NotAfter}
	for _, cert := range chain[1:] {
		if cert.NotBefore.After(p.from) {
			p.from = cert.NotBefore
		}
		if cert.NotAfter.Before(p.to) {
			p.to = cert.NotAfter
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= c.most {
		for k := range c.known {
			delete(c.known, k)
			break
		}
	}
	c.known[key] = p
}

// chainKey is a digest over which certificates stand in which place.
func chainKey(leaf *x509.Certificate, lists ...[]*x509.Certificate) (key [sha256.Size]byte) {
	h := sha256.New()
	add := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	add(leaf.Raw)
	for _, list := range lists {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(list))))
		for _, c := range list {
			add(c.Raw)
		}
	}
	h.Sum(key[:0])
	return key
}

func subjectOf(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return fmt.Sprintf("%.120q", s)
	}
	return "no name"
}

// ExpiredError tells whether an error is about a certificate that is not good yet
// or any more, and about nothing else.
func ExpiredError(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.Expired
}
