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
	certs map[[sha256.Size]byte]*x509.Certificate
}

// period is the time in which each certificate of a chain is good.
type period struct{ from, to time.Time }

// NewChains gives a memory of at most most chains; when it is full, one is
// forgotten for each that comes.
func NewChains(most int) *Chains {
	return &Chains{most: max(most, 1), known: map[[sha256.Size]byte]period{}, certs: map[[sha256.Size]byte]*x509.Certificate{}}
}

// Parse decodes a certificate, or gives what it was decoded to before, which
// nobody changes: that of a maker's RSA key costs a tenth of a signature.
func (c *Chains) Parse(der []byte) (*x509.Certificate, error) {
	if c == nil {
		return x509.ParseCertificate(der)
	}
	key := sha256.Sum256(der)
	c.mu.Lock()
	cert := c.certs[key]
	c.mu.Unlock()
	if cert != nil {
		return cert, nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	forget(c.certs, c.most)
	c.certs[key] = cert
	return cert, nil
}

// forget makes room in a map for one more of at most most entries.
func forget[V any](m map[[sha256.Size]byte]V, most int) {
	if len(m) < most {
		return
	}
	for k := range m {
		delete(m, k)
		return
	}
}

// Verify checks that a leaf leads by intermediates to one of the roots, each
// certificate being good at a time (RFC 5280, 6.1). It knows nothing of
// revocation. ExpiredError tells an error that only the time is to blame for.
func (c *Chains) Verify(leaf *x509.Certificate, intermediates, roots []*x509.Certificate, at time.Time) error {
	if len(intermediates) > MaxChain || len(roots) > MaxChain {
		return fmt.Errorf("the certificate chain has more than %d certificates", MaxChain)
	}
	key := chainKey(leaf, intermediates, roots)
	if c.holds(key, at) {
		return nil
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
	p := period{from: found[0][0].NotBefore, to: found[0][0].NotAfter}
	for _, cert := range found[0][1:] {
		if cert.NotBefore.After(p.from) {
			p.from = cert.NotBefore
		}
		if cert.NotAfter.Before(p.to) {
			p.to = cert.NotAfter
		}
	}
	c.remember(key, p)
	return nil
}

// CheckList checks that a revocation list is its issuer's, and in force at a time
// (RFC 5280, 6.3.3). ExpiredError tells an error that only the time is to blame for.
func (c *Chains) CheckList(l *x509.RevocationList, issuer *x509.Certificate, at time.Time) error {
	if at.Before(l.ThisUpdate) || at.After(l.NextUpdate) {
		return fmt.Errorf("the revocation list of %s is in force from %s to %s: fetch the one of today: %w", subjectOf(issuer),
			l.ThisUpdate.UTC().Format(time.DateOnly), l.NextUpdate.UTC().Format(time.DateOnly),
			x509.CertificateInvalidError{Cert: issuer, Reason: x509.Expired})
	}
	key := chainKey(issuer, []*x509.Certificate{{Raw: l.Raw}})
	if c.holds(key, at) {
		return nil
	}
	if err := l.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("the revocation list is not of %s: %w", subjectOf(issuer), err)
	}
	c.remember(key, period{from: l.ThisUpdate, to: l.NextUpdate})
	return nil
}

func (c *Chains) holds(key [sha256.Size]byte, at time.Time) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.known[key]
	return ok && !at.Before(p.from) && !at.After(p.to)
}

func (c *Chains) remember(key [sha256.Size]byte, p period) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	forget(c.known, c.most)
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
