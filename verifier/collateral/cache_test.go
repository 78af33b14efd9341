package collateral

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// maker is a maker's service: what it publishes by path, and how often it was
// asked.
type maker struct {
	*httptest.Server
	mu    sync.Mutex
	pages map[string]http.HandlerFunc
	asked atomic.Int32
	now   atomic.Pointer[time.Time]
}

func newMaker(t *testing.T) *maker {
	m := &maker{pages: map[string]http.HandlerFunc{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.asked.Add(1)
		m.mu.Lock()
		page := m.pages[r.URL.RequestURI()]
		m.mu.Unlock()
		if page == nil {
			http.NotFound(w, r)
			return
		}
		page(w, r)
	}))
	t.Cleanup(m.Close)
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	m.now.Store(&start)
	return m
}

func (m *maker) serve(n Need, f http.HandlerFunc) {
	u, _ := url.Parse(n.URL)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pages[u.RequestURI()] = f
}

func (m *maker) later(d time.Duration) { t := m.now.Load().Add(d); m.now.Store(&t) }

func (m *maker) options() Options {
	o := Options{Mirrors: map[string]string{}, Now: func() time.Time { return *m.now.Load() }}
	for h := range rates {
		o.Mirrors[h] = m.URL
	}
	return o
}

func (m *maker) open(t *testing.T, dir string) *Cache {
	t.Helper()
	c, err := Open(dir, m.options())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func send(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(b) }
}

// certificateFor is a certificate that ends after some days; crlFor, a list.
func certificateFor(t testing.TB, from time.Time, days int) []byte {
	t.Helper()
	der, _ := signed(t, from, days)
	return der
}

func crlFor(t testing.TB, from time.Time, days int) []byte {
	t.Helper()
	_, list := signed(t, from, days)
	return list
}

func signed(t testing.TB, from time.Time, days int) (cert, list []byte) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "test"}, NotBefore: from,
		NotAfter: from.AddDate(0, 0, days), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	if cert, err = x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k); err != nil {
		t.Fatal(err)
	}
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: from.AddDate(0, 0, days)}
	if list, err = x509.CreateRevocationList(rand.Reader, l, c, k); err != nil {
		t.Fatal(err)
	}
	return cert, list
}

var vcek = AMDCertificate("Milan", bytes.Repeat([]byte{0xab}, 64), SPLs{BootLoader: 4, SNP: 0x18, Microcode: 0xdb})

// TestGet fetches once, keeps across processes, works offline, and fetches again
// ahead of the end.
func TestGet(t *testing.T) {
	m, dir := newMaker(t), t.TempDir()
	m.serve(vcek, send(certificateFor(t, *m.now.Load(), 100)))
	c := m.open(t, dir)
	for range 3 {
		i, err := c.Get(vcek)
		if err != nil || i.Stale != nil || i.URL != vcek.URL {
			t.Fatalf("%+v, %v", i, err)
		}
		if list, err := i.Chain(); err != nil || len(list) != 1 || !i.Expires.Equal(list[0].NotAfter) {
			t.Errorf("%d certificates, %v, expires %s", len(list), err, i.Expires)
		}
	}
	if _, err := m.open(t, dir).Get(vcek); err != nil || m.asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, m.asked.Load())
	}
	o := m.options()
	o.Offline = true
	off, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := off.Get(vcek); err != nil || i.Stale != nil {
		t.Errorf("offline: %v", err)
	}
	if _, err := off.Get(AMDCRL("Milan", VCEK)); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "revocation list for a VCEK of Milan") {
		t.Errorf("offline, what is not there: %v", err)
	}
	m.later(71 * 24 * time.Hour) // 29 days before its end
	m.serve(vcek, send(certificateFor(t, *m.now.Load(), 100)))
	if i, err := off.Get(vcek); err != nil || i.Stale == nil {
		t.Errorf("offline, due: %v", err)
	}
	if i, err := c.Get(vcek); err != nil || i.Stale != nil || m.asked.Load() != 2 || !i.Fetched.Equal(*m.now.Load()) {
		t.Errorf("due: %+v, %v", i, err)
	}
	if i, err := off.Get(vcek); err != nil || i.Stale != nil {
		t.Errorf("what another process fetched was not taken: %v", err)
	}
	if _, err := (*Cache)(nil).Get(vcek); !errors.Is(err, ErrNone) {
		t.Errorf("nil: %v", err)
	}
}

// TestRates obeys 429 and Retry-After, across processes, and the rate of a host;
// what is kept serves meanwhile.
func TestRates(t *testing.T) {
	m, dir := newMaker(t), t.TempDir()
	list := AMDCRL("Genoa", VLEK)
	m.serve(list, send(crlFor(t, *m.now.Load(), 365)))
	c := m.open(t, dir)
	if _, err := c.Get(list); err != nil {
		t.Fatal(err)
	}
	m.later(25 * time.Hour)
	m.serve(list, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	var busy *Busy
	i, err := c.Get(list)
	if err != nil || !errors.As(i.Stale, &busy) || busy.Until.Sub(*m.now.Load()) != 10*time.Minute {
		t.Fatalf("%v, %v", i, err)
	}
	asked := m.asked.Load()
	for _, again := range []*Cache{c, m.open(t, dir)} {
		if i, err = again.Get(list); err != nil || !errors.As(i.Stale, &busy) {
			t.Errorf("%v, %v", i, err)
		}
		if _, err := again.Get(vcek); !errors.As(err, &busy) {
			t.Errorf("what is not kept, while the host wants no request: %v", err)
		}
	}
	if m.asked.Load() != asked {
		t.Error("the host was asked although it wants to be left alone")
	}
	m.later(10*time.Minute + time.Second)
	m.serve(list, send(crlFor(t, *m.now.Load(), 365)))
	if i, err = c.Get(list); err != nil || i.Stale != nil {
		t.Errorf("after the wait: %v, %v", i, err)
	}
	// No more than the burst is asked at once, whatever evidence claims.
	asked = m.asked.Load()
	for n := range 50 {
		c.Get(AMDCertificate("Milan", bytes.Repeat([]byte{byte(n)}, 64), SPLs{}))
	}
	if n := m.asked.Load() - asked; n > int32(rates[amdHost].Burst) {
		t.Errorf("asked %d times at once", n)
	}
}

// TestFailures: what a host cannot, sends wrongly, or does not have.
func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		page http.HandlerFunc
		want string
		asks int32 // of three Gets, each a second after the other
	}{
		"absent":    {http.NotFound, "no such thing", 1},
		"error":     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "wants no more requests", 1},
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, "status 403", 3},
		"rubbish":   {send([]byte("<html>")), "not usable", 3},
		"long":      {send(make([]byte, MaxItem+1)), "more than", 3},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			w.Write([]byte("a"))
		}, "broke off", 3},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "leads elsewhere", 1},
		"date": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "Sun, 01 Nov 2026 00:00:30 GMT")
			w.WriteHeader(503)
		}, "00:00:30", 1},
		"never again": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "2000000000")
			w.WriteHeader(503)
		}, "2026-11-02", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMaker(t)
			m.serve(vcek, c.page)
			cache := m.open(t, t.TempDir())
			_, err := cache.Get(vcek)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "VCEK certificate of chip abab") {
				t.Errorf("%v, want %q", err, c.want)
			}
			for range 2 {
				m.later(time.Second)
				cache.Get(vcek)
			}
			if n := m.asked.Load(); n != c.asks {
				t.Errorf("asked %d times", n)
			}
			if list, damaged := cache.List(); len(list) != 0 || len(damaged) != 0 {
				t.Errorf("kept %v, %v", list, damaged)
			}
		})
	}
	c := newMaker(t).open(t, t.TempDir())
	for _, bad := range []Need{At("ftp://x/", "x", FormCRL), At("https://evil.example/x", "x", FormCRL), {What: "x"}, At("https://u@"+amdHost+"/", "x", FormCRL)} {
		if _, err := c.Get(bad); err == nil {
			t.Errorf("%s was asked", bad.URL)
		}
	}
}

// TestOnce fetches once, however many ask at the same time.
func TestOnce(t *testing.T) {
	m := newMaker(t)
	cert := certificateFor(t, *m.now.Load(), 100)
	hold := make(chan struct{})
	m.serve(vcek, func(w http.ResponseWriter, _ *http.Request) { <-hold; w.Write(cert) })
	c := m.open(t, t.TempDir())
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if i, err := c.Get(vcek); err != nil || !bytes.Equal(i.Data, cert) {
				t.Errorf("%v", err)
			}
		})
	}
	close(hold)
	wg.Wait()
	if m.asked.Load() != 1 {
		t.Errorf("asked %d times", m.asked.Load())
	}
}

// TestDamage refuses a file with any byte changed or cut, and fetches it again.
func TestDamage(t *testing.T) {
	m, dir := newMaker(t), t.TempDir()
	m.serve(vcek, send(certificateFor(t, *m.now.Load(), 100)))
	if _, err := m.open(t, dir).Get(vcek); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileOf(vcek.URL))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if _, err := decodeItem(bad); err == nil {
			t.Fatalf("byte %d changed, and it was read", i)
		}
		if _, err := decodeItem(good[:i]); err == nil {
			t.Fatalf("cut at %d, and it was read", i)
		}
	}
	if err := os.WriteFile(path, good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	o := m.options()
	o.Offline = true
	off, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := off.Get(vcek); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("offline: %v", err)
	}
	c := m.open(t, dir)
	if w := c.Check(0); len(w) != 1 || !strings.Contains(w[0].Why, "damaged") {
		t.Errorf("check says %v", w)
	}
	if _, err := c.Get(vcek); err != nil || m.asked.Load() != 2 {
		t.Errorf("%v, asked %d times", err, m.asked.Load())
	}
	// The file of one thing is not taken for another.
	if err := os.Rename(path, filepath.Join(dir, fileOf(AMDCRL("Milan", VCEK).URL))); err != nil {
		t.Fatal(err)
	}
	if _, damaged := c.List(); len(damaged) != 1 || !strings.Contains(damaged[0].Error(), "name of another") {
		t.Errorf("%v", damaged)
	}
}

func intelJSON(from time.Time, days, number int) []byte {
	return fmt.Appendf(nil, `{"tcbInfo":{"issueDate":%q,"nextUpdate":%q,"tcbEvaluationDataNumber":%d},"signature":"00"}`,
		from.Format(time.RFC3339), from.AddDate(0, 0, days).Format(time.RFC3339), number)
}

// TestCheck warns of what ends soon, of what could not be fetched again, and of a
// TCB recovery that is announced.
func TestCheck(t *testing.T) {
	m := newMaker(t)
	start := *m.now.Load()
	info := IntelTCBInfo(TDX, []byte{0, 0x80, 0x6f, 5, 0, 0})
	m.serve(info, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("TCB-Info-Issuer-Chain", url.PathEscape("-----BEGIN"))
		w.Write(intelJSON(start, 30, 17))
	})
	m.serve(Need{URL: info.Ahead}, send(intelJSON(start, 30, 17)))
	m.serve(vcek, send(certificateFor(t, start, 40)))
	list := AMDCRL("Turin", VCEK)
	m.serve(list, send(crlFor(t, start, 365)))
	c := m.open(t, t.TempDir())
	for _, n := range []Need{info, vcek, list} {
		i, err := c.Get(n)
		if err != nil {
			t.Fatal(err)
		}
		if n.URL == info.URL && i.Headers[HeaderTCBInfoChain] == "" {
			t.Error("the chain of the signer is lost")
		}
	}
	words := func() string {
		var all []string
		for _, w := range c.Check(7 * 24 * time.Hour) {
			all = append(all, w.Why)
		}
		return strings.Join(all, "\n")
	}
	if got := words(); got != "" {
		t.Errorf("too early: %s", got)
	}
	m.serve(Need{URL: info.Ahead}, send(intelJSON(start.Add(time.Hour), 30, 18)))
	m.later(25 * time.Hour)
	if fetched, failed := c.Refresh(context.Background()); len(fetched) != 3 || len(failed) != 0 {
		t.Errorf("fetched %d, failed %v", len(fetched), failed)
	}
	if got := words(); !strings.Contains(got, "a TCB recovery comes") || !strings.Contains(got, "announced 18") || strings.Contains(got, "expires") {
		t.Errorf("says %q", got)
	}
	m.later(34 * 24 * time.Hour)
	got := words()
	for _, want := range []string{"chip abababababababab… (Milan) at its TCB expires on 2026-12-11", "TDX of FMSPC 00806f050000 has expired on 2026-12-01",
		"VCEK of Turin was last fetched on 2026-11-02"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if c := (*Cache)(nil); c.Check(0) != nil {
		t.Error("a nil cache warns")
	}
}

// TestRoom drops the oldest at the bound.
func TestRoom(t *testing.T) {
	m := newMaker(t)
	o := m.options()
	o.MaxItems, o.Hosts = 10, map[string]Rate{amdHost: {Burst: 100}}
	c, err := Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	cert := certificateFor(t, *m.now.Load(), 100)
	for n := range 25 {
		need := AMDCertificate("Milan", []byte{byte(n)}, SPLs{})
		m.serve(need, send(cert))
		if _, err := c.Get(need); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(filepath.Join(c.dir, fileOf(need.URL)), time.Time{}, time.Unix(int64(1000+n), 0))
	}
	list, damaged := c.List()
	if len(list) > 10 || len(list) < 9 || len(damaged) != 0 {
		t.Fatalf("%d items, %v", len(list), damaged)
	}
	if last := list[len(list)-1].URL; !strings.Contains(last, "/18?") {
		t.Errorf("the newest is %s", last)
	}
}

// TestFetch waits for a host.
func TestFetch(t *testing.T) {
	m := newMaker(t)
	o := m.options()
	o.Now = time.Now
	c, err := Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	cert := certificateFor(t, time.Now(), 100)
	m.serve(vcek, func(w http.ResponseWriter, _ *http.Request) {
		m.serve(vcek, send(cert))
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(429)
	})
	if _, err := c.Fetch(context.Background(), vcek); err != nil || m.asked.Load() != 2 {
		t.Errorf("%v, asked %d times", err, m.asked.Load())
	}
	m.serve(AMDCRL("Milan", VCEK), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var busy *Busy
	if _, err := c.Fetch(ctx, AMDCRL("Milan", VCEK)); !errors.As(err, &busy) {
		t.Errorf("%v", err)
	}
}
