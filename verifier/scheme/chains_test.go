package scheme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

type issued struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate of a name, by itself if by is nil.
func issue(t *testing.T, name string, ca bool, from, to time.Time, by *issued) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: from, NotAfter: to, IsCA: ca, BasicConstraintsValid: true}
	parent := &issued{template, key}
	if by != nil {
		parent = by
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{cert, key}
}

// TestChains wants the answers of a memory to be those without one, first and
// again: a chain that held is forgotten when one of its certificates ends.
func TestChains(t *testing.T) {
	now := time.Now()
	day := 24 * time.Hour
	root := issue(t, "root", true, now.Add(-day), now.Add(10*day), nil)
	middle := issue(t, "middle", true, now.Add(-day), now.Add(2*day), root)
	leaf := issue(t, "leaf", false, now.Add(-day), now.Add(5*day), middle)
	stranger := issue(t, "root", true, now.Add(-day), now.Add(10*day), nil)
	list := func(all ...*issued) (certs []*x509.Certificate) {
		for _, i := range all {
			certs = append(certs, i.cert)
		}
		return certs
	}
	memory := NewChains(1)
	for round := range 2 {
		for _, c := range []*Chains{nil, memory} {
			for name, k := range map[string]struct {
				roots, middle []*x509.Certificate
				at            time.Time
				holds, time   bool
			}{
				"whole":            {list(root), list(middle), now, true, false},
				"middle has ended": {list(root), list(middle), now.Add(3 * day), false, true},
				"not yet":          {list(root), list(middle), now.Add(-2 * day), false, true},
				"other root":       {list(stranger), list(middle), now, false, false},
				"no middle":        {list(root), nil, now, false, false},
			} {
				err := c.Verify(leaf.cert, k.middle, k.roots, k.at)
				if (err == nil) != k.holds || ExpiredError(err) != k.time {
					t.Errorf("round %d, %s: %v", round, name, err)
				}
			}
		}
	}
	if len(memory.known) != 1 {
		t.Errorf("%d chains are remembered", len(memory.known))
	}
	other := issue(t, "other", false, now.Add(-day), now.Add(5*day), root)
	if err := memory.Verify(other.cert, nil, list(root), now); err != nil || len(memory.known) != 1 {
		t.Errorf("%v, %d chains are remembered", err, len(memory.known))
	}
	if err := memory.Verify(leaf.cert, make([]*x509.Certificate, MaxChain+1), list(root), now); err == nil {
		t.Error("a chain that is too long was followed")
	}
}

// TestCheckList wants a list to be its issuer's and in force, with a memory and
// without.
func TestCheckList(t *testing.T) {
	now, day := time.Now(), 24*time.Hour
	root, other := issue(t, "root", true, now.Add(-day), now.Add(10*day), nil), issue(t, "root", true, now.Add(-day), now.Add(10*day), nil)
	root.cert.KeyUsage, root.cert.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(day)}, root.cert, root.key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Chains{nil, NewChains(4)} {
		for range 2 {
			if err := c.CheckList(l, root.cert, now.Add(time.Hour)); err != nil {
				t.Error(err)
			}
			if err := c.CheckList(l, other.cert, now.Add(time.Hour)); err == nil || ExpiredError(err) {
				t.Errorf("of another issuer: %v", err)
			}
			for _, at := range []time.Time{now.Add(-time.Hour), now.Add(25 * time.Hour)} {
				if err := c.CheckList(l, root.cert, at); !ExpiredError(err) {
					t.Errorf("at another time: %v", err)
				}
			}
		}
	}
}

// TestParse wants a certificate decoded once, and what is not one refused.
func TestParse(t *testing.T) {
	cert := issue(t, "root", true, time.Now(), time.Now().Add(time.Hour), nil).cert
	for _, c := range []*Chains{nil, NewChains(1)} {
		first, err := c.Parse(cert.Raw)
		if err != nil || !first.Equal(cert) {
			t.Fatal(err)
		}
		again, err := c.Parse(cert.Raw)
		if err != nil || c != nil && again != first {
			t.Errorf("decoded again: %v", err)
		}
		if _, err := c.Parse([]byte("x")); err == nil {
			t.Error("rubbish is a certificate")
		}
		other := issue(t, "other", true, time.Now(), time.Now().Add(time.Hour), nil).cert
		if got, err := c.Parse(other.Raw); err != nil || !got.Equal(other) || c != nil && len(c.certs) != 1 {
			t.Errorf("the second: %v", err)
		}
	}
}
