package tpm

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// limited is a JSON array of at most max elements.
type limited[T any] struct {
	max  int
	list []T
}

// UnmarshalJSON decodes element by element, and stops at the first too many.
func (l *limited[T]) UnmarshalJSON(b []byte) error {
	l.list = nil
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("%v stands where a list is expected", t)
	}
	for d.More() {
		if len(l.list) == l.max {
			return fmt.Errorf("a list has more than %d elements", l.max)
		}
		var x T
		if err := d.Decode(&x); err != nil {
			return err
		}
		l.list = append(l.list, x)
	}
	return nil
}
