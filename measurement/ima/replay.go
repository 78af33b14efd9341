package ima

import (
	"bytes"
	"crypto/sha1"
	"fmt"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// Mode is the way in which a kernel extends a bank.
type Mode uint8

// The modes. Which one is at work depends on the kernel's version and on the
// hash algorithms it was built with, and may differ from bank to bank.
const (
	// PerBank: the bank's own hash of the template data (Linux 5.8 and newer).
	PerBank Mode = iota
	// PaddedSHA1: the SHA-1 template hash and zeros after it, violations all
	// ones (newer kernels, for a bank whose hash they cannot compute).
	PaddedSHA1
	// PaddedSHA1Short: likewise, but violations are 20 bytes of ones with zeros
	// after them (older kernels).
	PaddedSHA1Short
	numModes
)

// String says the mode in words.
func (m Mode) String() string {
	return [...]string{"per bank", "padded SHA-1", "padded SHA-1, short violations"}[min(m, PaddedSHA1Short)]
}

// Replay is the running state of a bank: what its PCRs hold after the entries
// seen so far. Keep it, and a growing log costs only its new entries.
type Replay struct {
	alg   tpm2.AlgID
	mode  Mode
	size  int
	count int
	pcrs  [numPCRs][tpm2.MaxDigestSize]byte
}

// NewReplay starts from the PCRs as they are after a TPM's start. The
// algorithm must be one of SHA-1, SHA-256, SHA-384 and SHA-512.
func NewReplay(alg tpm2.AlgID, mode Mode) (*Replay, error) {
	size := alg.DigestSize()
	if size == 0 || mode >= numModes {
		return nil, fmt.Errorf("IMA replay: the %s bank cannot be computed here", alg)
	}
	r := &Replay{alg: alg, mode: mode, size: size}
	for i := 17; i <= 22; i++ {
		for j := range size {
			r.pcrs[i][j] = 0xff
		}
	}
	return r, nil
}

// Set gives a PCR its value before the first entry, where something else has
// extended it already.
func (r *Replay) Set(pcr int, value []byte) error {
	if pcr < 0 || pcr >= numPCRs || len(value) != r.size {
		return fmt.Errorf("IMA replay: a %s PCR has %d bytes and an index below %d, not %d bytes at %d",
			r.alg, r.size, numPCRs, len(value), pcr)
	}
	copy(r.pcrs[pcr][:], value)
	return nil
}

// Extend takes one more entry.
func (r *Replay) Extend(e *Entry) {
	var digest [tpm2.MaxDigestSize]byte
	switch {
	case e.Violation():
		n := r.size
		if r.mode == PaddedSHA1Short {
			n = sha1.Size
		}
		for i := range n {
			digest[i] = 0xff
		}
	case r.mode == PerBank:
		e.hash(r.alg, &digest)
	default:
		e.hash(tpm2.AlgSHA1, &digest)
	}
	var buf [2 * tpm2.MaxDigestSize]byte
	pcr := &r.pcrs[e.PCR]
	copy(buf[:], pcr[:r.size])
	copy(buf[r.size:], digest[:r.size])
	sum(r.alg, pcr, buf[:2*r.size])
	r.count++
}

// PCR gives a PCR's value now; it is nil for an index above 23.
func (r *Replay) PCR(i int) []byte {
	if i < 0 || i >= numPCRs {
		return nil
	}
	return bytes.Clone(r.pcrs[i][:r.size])
}

// Count is the number of entries taken.
func (r *Replay) Count() int { return r.count }

// Replay extends all entries of the log.
func (l *Log) Replay(alg tpm2.AlgID, mode Mode) (*Replay, error) {
	r, err := NewReplay(alg, mode)
	if err != nil {
		return nil, err
	}
	for i := range l.Entries {
		r.Extend(&l.Entries[i])
	}
	return r, nil
}

// Prefix is the part of a log that quoted PCRs confirm.
type Prefix struct {
	Entries int  // the first so many entries
	Mode    Mode // how the kernel extends this bank
}

// FindPrefix finds the shortest prefix of the log after which the bank's PCRs
// hold the wanted values, usually PCR 10 alone, trying each Mode. ok is false
// where there is none: the log is not the one that was measured, or is shorter.
func (l *Log) FindPrefix(bank tpm2.AlgID, want map[int][]byte) (p Prefix, ok bool) {
	for mode := PerBank; mode < numModes; mode++ {
		r, err := NewReplay(bank, mode)
		if err != nil {
			return Prefix{}, false
		}
		if r.advance(l.Entries, want) {
			return Prefix{r.count, mode}, true
		}
		if bank == tpm2.AlgSHA1 {
			break // the modes are one
		}
		if mode == PaddedSHA1 && !l.hasViolation() {
			break
		}
	}
	return Prefix{}, false
}

// Advance takes entries, from the one after Count on, until the PCRs hold the
// wanted values, and tells whether they do. It is FindPrefix for a log that
// grows between quotes: the state stays at the prefix found. Where none is
// found the state is as before.
func (r *Replay) Advance(l *Log, want map[int][]byte) bool {
	if r.count > len(l.Entries) {
		return false
	}
	before := *r
	if r.advance(l.Entries[r.count:], want) {
		return true
	}
	*r = before
	return false
}

func (r *Replay) advance(entries []Entry, want map[int][]byte) bool {
	missing := 0
	for pcr, v := range want {
		if pcr < 0 || pcr >= numPCRs || len(v) != r.size {
			return false
		}
		if !bytes.Equal(r.pcrs[pcr][:r.size], v) {
			missing++
		}
	}
	for i := 0; missing > 0 && i < len(entries); i++ {
		e := &entries[i]
		v, wanted := want[int(e.PCR)]
		was := wanted && bytes.Equal(r.pcrs[e.PCR][:r.size], v)
		r.Extend(e)
		if !wanted {
			continue
		}
		if is := bytes.Equal(r.pcrs[e.PCR][:r.size], v); is != was {
			if is {
				missing--
			} else {
				missing++
			}
		}
	}
	return missing == 0
}

func (l *Log) hasViolation() bool {
	for i := range l.Entries {
		if l.Entries[i].Violation() {
			return true
		}
	}
	return false
}
