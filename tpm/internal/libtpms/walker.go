package libtpms

import (
	"errors"
	"fmt"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// ErrDamaged is in the chain of every error about bytes that libtpms did not
// write: cut, altered, or not its state at all.
var ErrDamaged = errors.New("it is no state of libtpms, or it is damaged")

// ErrVersion is in the chain of every error about a state of a newer libtpms.
var ErrVersion = errors.New("it is of a newer libtpms than is known")

// Limits of what is read, in bytes: several times what a TPM has that uses all
// its NV memory.
const (
	MaxPermanent = 1 << 20
	MaxVolatile  = 1 << 17
)

// walker carries a state in either direction, and remembers where it stopped
// making sense.
type walker struct {
	tpm2.Codec
	total int    // bytes to read
	level int    // of the form to write
	where string // the section that is walked
	err   error  // the first one, in words
}

// newReader reads from a copy of b, which what is read shares.
func newReader(b []byte) *walker {
	return &walker{Codec: tpm2.NewDecoder(append([]byte(nil), b...)), total: len(b)}
}

func newWriter() *walker { return &walker{Codec: tpm2.NewEncoder(nil)} }

// refuse records an error unless there is one already.
func (w *walker) refuse(kind error, format string, args ...any) {
	if w.RC() != tpm2.RCSuccess {
		return
	}
	w.err = fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...))
	w.Fail(tpm2.RCValue)
}

// require refuses a state in which something does not hold.
func (w *walker) require(holds bool, what string) {
	if !holds {
		w.refuse(ErrDamaged, "%s: %s", w.where, what)
	}
}

// ok reports whether everything so far made sense.
func (w *walker) ok() bool { return w.RC() == tpm2.RCSuccess }

// finish is the error of a whole walk.
func (w *walker) finish() error {
	switch {
	case w.ok():
		return nil
	case w.err != nil:
		return w.err
	}
	return fmt.Errorf("%w: %s does not decode at byte %d: %w", ErrDamaged, w.where, w.total-w.Remaining(), w.RC())
}

// section visits a section's mark and then its content, which is told the
// version that is read or written.
func (w *walker) section(s mark, version uint16, content func(version uint16)) {
	if !w.ok() {
		return
	}
	outer := w.where
	w.where = s.name
	magic, least := s.magic, s.leastOf(version)
	w.U16(&version)
	w.U32(&magic)
	w.require(magic == s.magic, "its mark is not there")
	if version >= 2 {
		w.U16(&least)
	}
	if w.ok() && least > s.newest {
		w.refuse(ErrVersion, "%s is of version %d and needs a reader of %d, this one is %d", s.name, version, least, s.newest)
	}
	w.require(version >= s.oldest, "it is of a version before libtpms 0.7")
	w.require(least == s.leastOf(version), "its version does not agree with itself")
	if w.ok() {
		content(min(version, s.newest))
	}
	if w.ok() {
		w.where = outer
	}
}

// mark is what tells a section from others.
type mark struct {
	name           string
	magic          uint32
	oldest, newest uint16 // versions that are read
	// strict is the first version that a reader must know to read what is written
	// in it; 0 where any reader will do.
	strict uint16
}

// leastOf is the oldest reader's version that libtpms writes beside a version.
func (m mark) leastOf(version uint16) uint16 {
	if m.strict != 0 && version >= m.strict {
		return version
	}
	return 1
}

// block visits a part that may be missing. It is there if need is set; a reader
// that needs none skips it.
func (w *walker) block(need bool, content func()) {
	there := need
	w.Bool(&there)
	if !w.Decoding() {
		w.writeBlock(there, content)
		return
	}
	var size uint16
	w.U16(&size)
	w.require(int(size) <= w.Remaining(), "it is cut")
	w.require(there || !need && size == 0, "a part of it is missing")
	if !w.ok() {
		return
	}
	end := w.Remaining() - int(size)
	if need {
		content()
		w.require(w.Remaining() == end, "a part of it has another length than it says")
		return
	}
	var skip []byte
	w.Raw(&skip, int(size))
}

func (w *walker) writeBlock(there bool, content func()) {
	var size uint16
	w.U16(&size)
	at := len(w.Output())
	if !there {
		return
	}
	content()
	n := len(w.Output()) - at
	w.require(n <= 0xFFFF, "a part of it is too long")
	w.Output()[at-2], w.Output()[at-1] = byte(n>>8), byte(n)
}

// future visits the empty block that a newer writer may fill.
func (w *walker) future() {
	if w.Decoding() {
		w.block(false, nil)
		return
	}
	w.block(true, func() {})
}

// array visits a u16 count that must be n.
func (w *walker) array(n int, what string) {
	count := uint16(n)
	w.U16(&count)
	w.require(int(count) == n, fmt.Sprintf("it has %d %s, not %d", count, what, n))
}

// fixed visits a u16 count that must be len(b), and the bytes, in place.
func (w *walker) fixed(b []byte, what string) {
	w.array(len(b), what)
	p := b
	w.Raw(&p, len(b))
	if w.Decoding() {
		copy(b, p)
	}
}

// flags visits booleans.
func (w *walker) flags(list ...*bool) {
	for _, b := range list {
		w.Bool(b)
	}
}

func tooLong(n int) error { return fmt.Errorf("%w: %d bytes are more than a TPM has", ErrDamaged, n) }
