package collateral

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Defaults of Options.
const (
	DefaultTimeout  = 10 * time.Second
	DefaultMaxItems = 65536
	maxInMemory     = 8192 // Items
)

// Options are those of a Cache.
type Options struct {
	// Offline keeps it from asking anybody.
	Offline bool
	// Mirrors gives, for a maker's host, the address that is asked in its place: a
	// PCCS, a proxy of the KDS, a test's server.
	Mirrors map[string]string
	// Hosts may be asked besides the makers' known here, as often as the Rate says.
	// A known one gets this Rate.
	Hosts map[string]Rate
	// Client sends the requests; nil for one that follows no redirection to http.
	Client *http.Client
	// Timeout bounds one request, DefaultTimeout if 0.
	Timeout time.Duration
	// MaxItems bounds the directory, DefaultMaxItems if 0; at the bound the oldest
	// tenth is dropped.
	MaxItems int
	// Now tells the time; nil for time.Now.
	Now func() time.Time
}

// Cache keeps collateral in a directory. It is safe for concurrent use, and
// several processes may share a directory. A nil Cache has nothing.
type Cache struct {
	dir string
	o   Options

	mu      sync.Mutex
	items   map[string]*Item         // by URL
	flights map[string]chan struct{} // fetches under way
	hosts   map[string]*host
	absent  map[string]time.Time
}

// ErrNone is the error of a Cache that is nil or Offline and lacks what is asked
// for.
var ErrNone = errors.New("the cache does not have it, and may not fetch it")

// Open opens the cache in a directory, which is made if missing.
func Open(dir string, o Options) (*Cache, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxItems <= 0 {
		o.MaxItems = DefaultMaxItems
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Client == nil {
		o.Client = &http.Client{CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > 3 || req.URL.Scheme != "https" {
				return errors.New("it leads elsewhere")
			}
			return nil
		}}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("the collateral cannot be kept: %w", err)
	}
	return &Cache{dir: dir, o: o, items: map[string]*Item{}, flights: map[string]chan struct{}{},
		hosts: map[string]*host{}, absent: map[string]time.Time{}}, nil
}

// Get gives what is needed: kept, or fetched where it lacks or is due. It sends
// at most one request (two where the Need has an Ahead) and never waits for a
// host that wants no request; what is kept and cannot be fetched again now comes
// with Stale set. An error is *Busy, ErrAbsent, ErrNone, or says what failed.
func (c *Cache) Get(n Need) (*Item, error) {
	return c.get(context.Background(), n)
}

func (c *Cache) get(ctx context.Context, n Need) (*Item, error) {
	if c == nil {
		return nil, fmt.Errorf("%s is missing: %w", n.What, ErrNone)
	}
	for {
		i, flight, err := c.kept(n)
		switch {
		case flight == nil:
			return i, err
		case i != nil && err == nil:
			// Another asks already: what is kept serves until it is back.
			return i, nil
		case err != errFetch:
			select {
			case <-flight:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		got, err := c.bring(ctx, n)
		c.mu.Lock()
		delete(c.flights, n.URL)
		close(flight)
		c.mu.Unlock()
		switch {
		case err == nil:
			return got, nil
		case i != nil:
			stale := *i
			stale.Stale = err
			return &stale, nil
		}
		return nil, fmt.Errorf("%s is missing: %w", n.What, err)
	}
}

// errFetch tells a caller of kept that it is the one to fetch.
var errFetch = errors.New("to be fetched")

// kept gives what is kept of a Need, nil for nothing. flight is nil if that is
// all there is to do. Otherwise it ends with a fetch: of the caller, who is given
// errFetch, or of another.
func (c *Cache) kept(n Need) (i *Item, flight chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Now()
	i = c.items[n.URL]
	if i == nil || i.due(now) {
		// What is damaged is as if it were not there, and is fetched again. What
		// another process has fetched since is taken.
		onDisk, damage := c.load(fileOf(n.URL))
		if onDisk != nil && onDisk.Form == n.Form && (i == nil || onDisk.Fetched.After(i.Fetched)) {
			i = onDisk
			c.remind(i)
		}
		err = damage
	}
	switch {
	case i != nil && !i.due(now):
		return i, nil, nil
	case c.o.Offline && i != nil:
		stale := *i
		stale.Stale = ErrNone
		return &stale, nil, nil
	case c.o.Offline && err != nil:
		return nil, nil, fmt.Errorf("%s is missing: %w", n.What, err)
	case c.o.Offline:
		return nil, nil, fmt.Errorf("%s is missing: %w", n.What, ErrNone)
	}
	if f := c.flights[n.URL]; f != nil {
		return i, f, nil
	}
	f := make(chan struct{})
	c.flights[n.URL] = f
	return i, f, errFetch
}

// remind keeps an Item in memory. c.mu is held.
func (c *Cache) remind(i *Item) {
	if len(c.items) >= maxInMemory {
		clear(c.items) // they are on disk
	}
	c.items[i.URL] = i
}

// bring fetches and keeps.
func (c *Cache) bring(ctx context.Context, n Need) (*Item, error) {
	i, err := c.fetch(ctx, n)
	if err != nil {
		return nil, err
	}
	if err := c.keep(i); err != nil {
		return nil, err
	}
	if n.Ahead != "" {
		// For warnings alone: a failure costs the warning, not the appraisal.
		if next, err := c.fetch(ctx, Need{What: n.What + ", as it will be", URL: n.Ahead, Form: n.Form}); err == nil {
			_ = c.keep(next)
		}
	}
	return i, nil
}

// keep writes an Item to the directory.
func (c *Cache) keep(i *Item) error {
	b, err := i.encode()
	if err != nil {
		return err
	}
	if err := errors.Join(c.prune(), c.save(fileOf(i.URL), b)); err != nil {
		return fmt.Errorf("%s cannot be kept: %w", i.What, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remind(i)
	return nil
}

// Fetch is Get for a caller with time: it waits until a host that wants no
// request takes one again, as long as ctx lasts.
func (c *Cache) Fetch(ctx context.Context, n Need) (*Item, error) {
	for {
		i, err := c.get(ctx, n)
		why := err
		if i != nil {
			why = i.Stale
		}
		var busy *Busy
		if !errors.As(why, &busy) {
			return i, err
		}
		wait := time.NewTimer(max(busy.Until.Sub(c.o.Now()), 10*time.Millisecond))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return i, err
		}
	}
}

// List gives what is kept, in order of address, without the bytes, and an error
// for each file that is damaged.
func (c *Cache) List() (list []*Item, damaged []error) {
	if c == nil {
		return nil, nil
	}
	names, err := c.files()
	if err != nil {
		return nil, []error{err}
	}
	for _, name := range names {
		i, err := c.load(name)
		if err != nil {
			damaged = append(damaged, err)
		} else if i != nil {
			i.Data = nil
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b *Item) int { return strings.Compare(a.URL, b.URL) })
	return list, damaged
}

// Refresh fetches what is due, each at most as its host allows within ctx, and
// gives what was fetched and what failed.
func (c *Cache) Refresh(ctx context.Context) (fetched []*Item, failed []error) {
	list, _ := c.List()
	for _, i := range list {
		now := c.o.Now()
		if !i.due(now) {
			continue
		}
		got, err := c.Fetch(ctx, Need{What: i.What, URL: i.URL, Form: i.Form, Ahead: i.Ahead})
		switch {
		case err != nil:
			failed = append(failed, err)
		case got.Stale != nil:
			failed = append(failed, fmt.Errorf("%s was not fetched again: %w", i.What, got.Stale))
		default:
			fetched = append(fetched, got)
		}
	}
	return fetched, failed
}
