package ima

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// ErrNotChecked says that a boot aggregate cannot be compared: its algorithm is
// not known here, a PCR it needs was not given, or it is a violation, as on a
// machine whose kernel found no TPM.
var ErrNotChecked = errors.New("the boot aggregate cannot be checked")

// BootAggregate finds the log's first entry of that name, which the kernel
// writes when it starts. nil where there is none.
func (l *Log) BootAggregate() *Entry {
	for i := range l.Entries {
		if l.Entries[i].IsBootAggregate() {
			return &l.Entries[i]
		}
	}
	return nil
}

// CheckBootAggregate compares a boot aggregate with PCRs: pcr gives the value
// that a PCR of a bank had when the kernel started, from a replayed event log
// or a quote, or nil. The aggregate is the hash of PCRs 0 to 9 (Linux 5.8 and
// newer) or 0 to 7; covered tells which held. The error wraps ErrNotChecked, or
// says that the log belongs to another boot.
func CheckBootAggregate(e *Entry, pcr func(bank tpm2.AlgID, index int) []byte) (covered int, err error) {
	name, want := e.FileDigest()
	alg, known := tpm2.ParseAlg(name)
	if size := alg.DigestSize(); !known || size == 0 || size != len(want) {
		return 0, fmt.Errorf("%w: its digest is %s with %d bytes", ErrNotChecked, name, len(want))
	}
	if e.Violation() || len(bytes.Trim(want, "\x00")) == 0 {
		return 0, fmt.Errorf("%w: the kernel found no TPM to read", ErrNotChecked)
	}
	h := alg.New()
	for i := range 10 {
		v := pcr(alg, i)
		if len(v) != alg.DigestSize() {
			if i > 7 {
				break
			}
			return 0, fmt.Errorf("%w: the value of %s PCR %d is not given", ErrNotChecked, alg, i)
		}
		h.Write(v)
		if (i == 7 || i == 9) && bytes.Equal(h.Sum(nil), want) {
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("IMA entry %d: the boot aggregate %s:%x is not that of the PCRs given: the log belongs to another boot",
		e.Number, name, want)
}
