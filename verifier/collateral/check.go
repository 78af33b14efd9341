package collateral

import (
	"fmt"
	"time"
)

// Warning is something that will make appraisals fail, or fails them already.
type Warning struct {
	// What is the Item's, URL its address.
	What string `json:"what"`
	URL  string `json:"url"`
	// At is when it bites; zero for already, or not known.
	At time.Time `json:"at"`
	// Why says it in a sentence.
	Why string `json:"why"`
}

// Check says what of the cache expires within a time, could not be fetched again,
// is damaged, or is about to be replaced by a new TCB of its maker. It asks
// nobody.
func (c *Cache) Check(within time.Duration) []Warning {
	if c == nil {
		return nil
	}
	now := c.o.Now()
	list, damaged := c.List()
	var out []Warning
	for _, err := range damaged {
		out = append(out, Warning{What: "a file", Why: err.Error() + "; it is fetched again when it is needed"})
	}
	for _, i := range list {
		w := Warning{What: i.What, URL: i.URL, At: i.Expires}
		switch left := i.Expires.Sub(now); {
		case left <= 0:
			w.Why = fmt.Sprintf("%s has expired on %s: evidence that needs it is refused", i.What, day(i.Expires))
		case left <= within:
			w.Why = fmt.Sprintf("%s expires on %s", i.What, day(i.Expires))
		case i.Form.refreshAfter() > 0 && now.Sub(i.Fetched) > 3*i.Form.refreshAfter():
			w.At = time.Time{}
			w.Why = fmt.Sprintf("%s was last fetched on %s: what was revoked since is not known", i.What, day(i.Fetched))
		}
		if w.Why != "" {
			out = append(out, w)
		}
		if i.Ahead != "" {
			out = append(out, c.recovery(i)...)
		}
	}
	return out
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// recovery warns where the maker has announced TCB information that is not in
// force yet: machines without the updates of that number will fall behind.
func (c *Cache) recovery(i *Item) []Warning {
	is, err := c.load(fileOf(i.URL))
	if err != nil || is == nil {
		return nil
	}
	next, err := c.load(fileOf(i.Ahead))
	if err != nil || next == nil {
		return nil
	}
	a, err := intelObject(is.Data)
	if err != nil {
		return nil
	}
	b, err := intelObject(next.Data)
	if err != nil || b.Evaluation <= a.Evaluation {
		return nil
	}
	return []Warning{{What: i.What, URL: i.URL, Why: fmt.Sprintf(
		"a TCB recovery comes: %s has the TCB evaluation data number %d, and its maker has announced %d (on %s): update the firmware of machines that it calls out of date before it comes into force",
		i.What, a.Evaluation, b.Evaluation, day(b.IssueDate))}}
}
