package collateral

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Limits of what is kept.
const (
	MaxItem = 4 << 20 // bytes of one Item
	maxURL  = 2048
	maxCert = 16 // certificates in one Item
)

// Form is the form of an Item's bytes, which tells when it expires.
type Form string

// The forms.
const (
	// FormCertificates is one certificate in DER, or several in PEM; it expires
	// with the first of them.
	FormCertificates Form = "certificates"
	// FormCRL is an X.509 CRL in DER or PEM; it expires at its nextUpdate.
	FormCRL Form = "crl"
	// FormIntelJSON is a signed object of Intel's PCS (TCB info, QE identity, TCB
	// evaluation data numbers); it expires at its nextUpdate.
	FormIntelJSON Form = "intel-json"
)

// refreshAfter is how old an Item may get before it is fetched again although it
// has not expired: revocations and TCB recoveries come between.
func (f Form) refreshAfter() time.Duration {
	if f == FormCertificates {
		return 0 // until it nears its end
	}
	return 24 * time.Hour
}

// Need is one thing that an appraisal needs of a maker. The functions of this
// package build it.
type Need struct {
	// What says in words what it is, for messages.
	What string
	// URL is where its maker publishes it, and its name in the cache.
	URL string
	// Form is what is expected there.
	Form Form
	// Ahead is where the maker publishes what the Item will be later: the next TCB
	// information, before it comes into force. It is kept beside, so that Check can
	// warn. Empty for none.
	Ahead string
}

// Item is a thing that was fetched.
type Item struct {
	URL  string `json:"url"`
	What string `json:"what"`
	Form Form   `json:"form"`
	// Ahead is the Need's.
	Ahead string `json:"ahead,omitempty"`
	// Fetched is when the host sent it; Expires is when it says itself that it
	// ends.
	Fetched time.Time `json:"fetched"`
	Expires time.Time `json:"expires"`
	// Headers has those of the answer that are part of it: Intel sends the chain of
	// the signer in one.
	Headers map[string]string `json:"headers,omitempty"`
	// SHA256 is the digest of Data in hexadecimal.
	SHA256 string `json:"sha256"`
	// Data are the bytes as fetched. Whoever gets them does not change them.
	Data []byte `json:"-"`
	// Stale says why an Item that is due was not fetched again; nil if it is not
	// due.
	Stale error `json:"-"`
}

// Chain gives the certificates of an Item of FormCertificates, in its order.
func (i *Item) Chain() ([]*x509.Certificate, error) { return certificates(i.Data) }

// Certificates gives the certificates in a header, where Intel puts the signer's
// chain as PEM with URL escapes.
func (i *Item) Certificates(header string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(i.Headers[header])
	if err != nil || text == "" {
		return nil, fmt.Errorf("%s came without a chain of its signer", i.What)
	}
	return certificates([]byte(text))
}

// CRL gives the list of an Item of FormCRL; its signature is not checked.
func (i *Item) CRL() (*x509.RevocationList, error) { return crl(i.Data) }

// due tells whether an Item should be fetched again: when it is older than its
// form allows, or in the last third of its life, but not earlier than 30 days
// before its end.
func (i *Item) due(now time.Time) bool {
	if age := i.Form.refreshAfter(); age > 0 && now.Sub(i.Fetched) >= age {
		return true
	}
	if i.Expires.IsZero() {
		return false
	}
	ahead := min(i.Expires.Sub(i.Fetched)/3, 30*24*time.Hour)
	return now.After(i.Expires.Add(-ahead))
}

// check wants a Need that can be fetched.
func (n *Need) check() error {
	for _, link := range []string{n.URL, n.Ahead} {
		if link == "" && n.URL != "" {
			continue
		}
		u, err := url.Parse(link)
		if err != nil || len(link) > maxURL || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return fmt.Errorf("%.100q is no address that collateral is fetched from: https alone is", link)
		}
	}
	return nil
}

// inspect checks that bytes are of the form, and gives their expiry.
func (f Form) inspect(b []byte) (expires time.Time, err error) {
	switch f {
	case FormCertificates:
		list, err := certificates(b)
		if err != nil {
			return time.Time{}, err
		}
		for _, c := range list {
			if expires.IsZero() || c.NotAfter.Before(expires) {
				expires = c.NotAfter
			}
		}
		return expires, nil
	case FormCRL:
		l, err := crl(b)
		if err != nil {
			return time.Time{}, err
		}
		if l.NextUpdate.IsZero() {
			return time.Time{}, errors.New("the revocation list does not say when the next one comes")
		}
		return l.NextUpdate, nil
	case FormIntelJSON:
		o, err := intelObject(b)
		return o.NextUpdate, err
	}
	return time.Time{}, fmt.Errorf("collateral of the form %.40q is not known", string(f))
}

// certificates reads one certificate in DER, or some in PEM, to the last byte.
func certificates(b []byte) ([]*x509.Certificate, error) {
	if !bytes.Contains(b, []byte("-----BEGIN")) {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, fmt.Errorf("it is no certificate: %w", err)
		}
		return []*x509.Certificate{c}, nil
	}
	var list []*x509.Certificate
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if len(list) == 0 || len(bytes.TrimSpace(rest)) > 0 {
				return nil, errors.New("it is not certificates in PEM alone")
			}
			return list, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a %.40s in it is no certificate: %w", strings.ToLower(block.Type), err)
		}
		if list = append(list, c); len(list) > maxCert {
			return nil, fmt.Errorf("it has more than %d certificates", maxCert)
		}
	}
}

func crl(b []byte) (*x509.RevocationList, error) {
	if block, rest := pem.Decode(b); block != nil {
		if block.Type != "X509 CRL" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("it is not one revocation list in PEM")
		}
		b = block.Bytes
	}
	l, err := x509.ParseRevocationList(b)
	if err != nil {
		return nil, fmt.Errorf("it is no revocation list: %w", err)
	}
	return l, nil
}

// intelHead is what Intel's signed objects have in common.
type intelHead struct {
	IssueDate  time.Time `json:"issueDate"`
	NextUpdate time.Time `json:"nextUpdate"`
	Evaluation uint32    `json:"tcbEvaluationDataNumber"`
}

// intelObject reads the one signed object of an answer of Intel's PCS, API v4.
func intelObject(b []byte) (*intelHead, error) {
	var whole struct {
		TCBInfo   *intelHead `json:"tcbInfo"`
		Identity  *intelHead `json:"enclaveIdentity"`
		Numbers   *intelHead `json:"tcbEvaluationDataNumbers"`
		Signature string     `json:"signature"`
	}
	if err := json.Unmarshal(b, &whole); err != nil {
		return &intelHead{}, fmt.Errorf("it is no JSON of Intel's: %w", err)
	}
	for _, o := range []*intelHead{whole.TCBInfo, whole.Identity, whole.Numbers} {
		if o != nil && whole.Signature != "" && !o.NextUpdate.IsZero() {
			return o, nil
		}
	}
	return &intelHead{}, errors.New("it is no signed object of Intel's: one of tcbInfo, enclaveIdentity or tcbEvaluationDataNumbers is expected, with nextUpdate and signature")
}
