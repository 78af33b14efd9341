package collateral

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds of waiting.
const (
	maxWait      = 24 * time.Hour   // longest Retry-After that is obeyed
	firstBackoff = 5 * time.Second  // after a failure without Retry-After; doubled each time
	lastBackoff  = 15 * time.Minute // longest without Retry-After
	absentFor    = time.Hour        // what a host does not have is not asked for again so long
	maxAbsent    = 4096             // addresses that are remembered so
)

// Busy is the error where a host may not be asked yet.
type Busy struct {
	Host  string
	Until time.Time
}

// Error says until when.
func (b *Busy) Error() string {
	return fmt.Sprintf("%s wants no more requests before %s", b.Host, b.Until.UTC().Format(time.RFC3339))
}

// ErrAbsent is the error where the maker says that it has no such thing.
var ErrAbsent = errors.New("its maker has no such thing")

// host is what is known of a host.
type host struct {
	rate    Rate
	tokens  float64
	at      time.Time // of tokens
	until   time.Time // before which it wants no request
	backoff time.Duration
}

// admit tells whether a host may be asked now, and counts the request. c.mu is
// held.
func (c *Cache) admit(name string, now time.Time) error {
	h := c.hosts[name]
	if h == nil {
		rate, known := c.o.Hosts[name]
		if !known {
			rate, known = rates[name]
		}
		if !known {
			return fmt.Errorf("%s is no host that collateral is fetched from", name)
		}
		h = &host{rate: rate, tokens: float64(rate.Burst), at: now}
		c.hosts[name] = h
	}
	if until := c.waits()[name]; until.After(h.until) && until.Before(now.Add(maxWait)) {
		h.until = until
	}
	if now.Before(h.until) {
		return &Busy{Host: name, Until: h.until}
	}
	if h.rate.Every > 0 {
		h.tokens = min(float64(h.rate.Burst), h.tokens+float64(now.Sub(h.at))/float64(h.rate.Every))
	}
	h.at = now
	if h.tokens < 1 {
		return &Busy{Host: name, Until: now.Add(time.Duration((1 - h.tokens) * float64(h.rate.Every)))}
	}
	h.tokens--
	return nil
}

// failed records that a host failed, and until when it is left alone.
func (c *Cache) failed(name string, answer *http.Response, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[name]
	wait := retryAfter(answer, now)
	if wait == 0 {
		h.backoff = min(max(firstBackoff, 2*h.backoff), lastBackoff)
		wait = h.backoff
	}
	h.until = now.Add(wait)
	// Best effort: without it only this process waits.
	_ = c.keepWait(name, h.until)
	return h.until
}

// retryAfter reads the header (RFC 9110, section 10.2.3), bounded; 0 for none.
func retryAfter(answer *http.Response, now time.Time) time.Duration {
	if answer == nil {
		return 0
	}
	text := answer.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(max(time.Duration(n)*time.Second, time.Second), maxWait)
	}
	if t, err := http.ParseTime(text); err == nil && t.After(now) {
		return min(t.Sub(now), maxWait)
	}
	return 0
}

// fetch asks the maker, once.
func (c *Cache) fetch(ctx context.Context, n Need) (*Item, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	u, err := url.Parse(n.URL)
	if err != nil {
		return nil, err
	}
	now := c.o.Now()
	c.mu.Lock()
	if t, ok := c.absent[n.URL]; ok && now.Sub(t) < absentFor {
		c.mu.Unlock()
		return nil, ErrAbsent
	}
	err = c.admit(u.Host, now)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	data, header, err := c.request(ctx, u, now)
	if err != nil {
		return nil, err
	}
	expires, err := n.Form.inspect(data)
	if err != nil {
		return nil, fmt.Errorf("what %s sends is not usable: %w", u.Host, err)
	}
	sum := sha256.Sum256(data)
	i := &Item{URL: n.URL, What: n.What, Form: n.Form, Ahead: n.Ahead, Fetched: now.UTC(), Expires: expires.UTC(),
		SHA256: hex.EncodeToString(sum[:]), Data: data}
	for _, name := range keptHeaders {
		if v := header.Get(name); v != "" && len(v) < maxHead/4 {
			if i.Headers == nil {
				i.Headers = map[string]string{}
			}
			i.Headers[name] = v
		}
	}
	return i, nil
}

// request sends one request and reads the answer.
func (c *Cache) request(ctx context.Context, u *url.URL, now time.Time) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	target := u.String()
	if mirror := c.o.Mirrors[u.Host]; mirror != "" {
		target = strings.TrimSuffix(mirror, "/") + u.RequestURI()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, nil, err
	}
	answer, err := c.o.Client.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%s cannot be reached, and is not asked again before %s: %w", u.Host,
			c.failed(u.Host, nil, now).UTC().Format(time.RFC3339), err)
	}
	defer answer.Body.Close()
	switch code := answer.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusNotFound || code == http.StatusGone || code == http.StatusBadRequest:
		c.remember(u.String(), now)
		return nil, nil, ErrAbsent
	case code == http.StatusTooManyRequests || code >= 500:
		return nil, nil, &Busy{Host: u.Host, Until: c.failed(u.Host, answer, now)}
	default:
		return nil, nil, fmt.Errorf("%s refuses, with status %d", u.Host, code)
	}
	b, err := io.ReadAll(io.LimitReader(answer.Body, MaxItem+1))
	if err != nil {
		return nil, nil, fmt.Errorf("the answer of %s broke off: %w", u.Host, err)
	}
	if len(b) > MaxItem {
		return nil, nil, fmt.Errorf("%s sends more than %d bytes", u.Host, MaxItem)
	}
	c.mu.Lock()
	c.hosts[u.Host].backoff = 0
	c.mu.Unlock()
	return b, answer.Header, nil
}

// remember notes that a maker does not have something.
func (c *Cache) remember(address string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.absent) >= maxAbsent {
		clear(c.absent)
	}
	c.absent[address] = now
}
