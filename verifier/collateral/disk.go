package collateral

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What a file of the cache starts with; the digest of all that follows the line
// comes after it.
const (
	fileMagic  = "ashlar-collateral 1 "
	fileSuffix = ".item"
	maxHead    = 64 << 10 // bytes of an Item's description
	waitsFile  = "waits.json"
)

// fileOf names the file of an address.
func fileOf(address string) string {
	sum := sha256.Sum256([]byte(address))
	return hex.EncodeToString(sum[:]) + fileSuffix
}

// encode gives an Item as a file: a line with magic and digest, a line of JSON,
// and its bytes.
func (i *Item) encode() ([]byte, error) {
	head, err := json.Marshal(i)
	if err != nil {
		return nil, err
	}
	body := append(append(head, '\n'), i.Data...)
	sum := sha256.Sum256(body)
	return append([]byte(fileMagic+hex.EncodeToString(sum[:])+"\n"), body...), nil
}

// decodeItem reads a file of the cache. The digest finds damage, not forgery.
func decodeItem(b []byte) (*Item, error) {
	line, body, ok := bytes.Cut(b, []byte("\n"))
	digest, magic := strings.CutPrefix(string(line), fileMagic)
	sum := sha256.Sum256(body)
	if !ok || !magic || digest != hex.EncodeToString(sum[:]) {
		return nil, errors.New("it is damaged: its digest is another")
	}
	head, data, ok := bytes.Cut(body, []byte("\n"))
	if !ok || len(head) > maxHead || len(data) > MaxItem {
		return nil, errors.New("it is damaged: it has no description, or is too long")
	}
	i := &Item{}
	d := json.NewDecoder(bytes.NewReader(head))
	d.DisallowUnknownFields()
	if err := d.Decode(i); err != nil {
		return nil, fmt.Errorf("its description cannot be read: %w", err)
	}
	sum = sha256.Sum256(data)
	if i.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, errors.New("it is damaged: its data have another digest")
	}
	i.Data = data
	return i, nil
}

// load reads an Item from the directory; nil if it is not there, or damaged,
// which is said by err.
func (c *Cache) load(name string) (*Item, error) {
	path := filepath.Join(c.dir, name)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case info.Size() > MaxItem+maxHead+256:
		return nil, fmt.Errorf("%s is too long", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	i, err := decodeItem(b)
	if err == nil && fileOf(i.URL) != name {
		err = errors.New("it is under the name of another")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return i, nil
}

// save writes a file so that it is whole at any time, whatever stops the program.
func (c *Cache) save(name string, b []byte) error {
	f, err := os.CreateTemp(c.dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(c.dir, name))
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	d, err := os.Open(c.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// files lists the files of Items.
func (c *Cache) files() ([]string, error) {
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if strings.HasSuffix(e.Name(), fileSuffix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// prune makes room when there are too many files: the oldest tenth goes.
func (c *Cache) prune() error {
	names, err := c.files()
	if err != nil || len(names) < c.o.MaxItems {
		return err
	}
	type aged struct {
		name string
		at   time.Time
	}
	var list []aged
	for _, n := range names {
		info, err := os.Stat(filepath.Join(c.dir, n))
		if err != nil {
			continue // another process was faster
		}
		list = append(list, aged{n, info.ModTime()})
	}
	slices.SortFunc(list, func(a, b aged) int { return a.at.Compare(b.at) })
	for _, a := range list[:min(len(list), len(names)-c.o.MaxItems+1+c.o.MaxItems/10)] {
		if err := os.Remove(filepath.Join(c.dir, a.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// waits reads until when each host wants to be left alone. What cannot be read
// is forgotten: then the host says it again.
func (c *Cache) waits() map[string]time.Time {
	m := map[string]time.Time{}
	if info, err := os.Stat(filepath.Join(c.dir, waitsFile)); err != nil || info.Size() > maxHead {
		return m
	}
	b, err := os.ReadFile(filepath.Join(c.dir, waitsFile))
	if err != nil || json.Unmarshal(b, &m) != nil {
		return map[string]time.Time{}
	}
	return m
}

// keepWait writes that a host wants to be left alone, for other processes.
func (c *Cache) keepWait(host string, until time.Time) error {
	now := c.o.Now()
	m := c.waits()
	for h, t := range m {
		if t.Before(now) {
			delete(m, h)
		}
	}
	m[host] = until.UTC()
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.save(waitsFile, b)
}
