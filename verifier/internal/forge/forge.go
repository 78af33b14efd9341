// Package forge is for tests: it makes forgeries of a piece of evidence by the
// thousand, and wants each refused with a reason.
package forge

import (
	"bytes"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// Appraise appraises evidence of one kind under fixed circumstances. It is called
// from several goroutines.
type Appraise func(evidence []byte) *scheme.Result

// Refused tells whether a result refuses, with a class and a sentence.
func Refused(r *scheme.Result) bool {
	return r.Verdict == scheme.Invalid && r.Status == rats.TierContraindicated && r.Reason != "" &&
		len(r.Why()) > 0 && len(r.AttesterKey) == 0
}

// All is the environment variable that makes Flips and Uncovered flip all eight
// bits of a byte, not one of them in turn: "make forgeries" sets it.
const All = "ASHLAR_FORGERIES"

// flips calls f with a copy for each bit of the bytes from to to (exclusive) that
// is flipped, and gives their number.
func flips(whole []byte, from, to int, f func(bit int, forged []byte)) int {
	step := 9 // one bit of each byte, another one each time
	if os.Getenv(All) != "" {
		step = 1
	}
	n := (8*(to-from) + step - 1) / step
	each(0, n, func(i int) {
		bit := 8*from + i*step
		forged := bytes.Clone(whole)
		forged[bit/8] ^= 1 << (bit % 8)
		f(bit, forged)
	})
	return n
}

// Flips flips bits of the bytes from to to (exclusive), one at a time, and wants
// each forgery refused. It gives their number.
func Flips(t testing.TB, whole []byte, from, to int, appraise Appraise) int {
	t.Helper()
	return flips(whole, from, to, func(bit int, forged []byte) {
		if r := appraise(forged); !Refused(r) {
			t.Errorf("bit %d of byte %d (0x%x): %s, %s (%s)", bit%8, bit/8, bit/8, r.Verdict, r.Status, r.Reason)
		}
	})
}

// Uncovered flips bits of the bytes from to to (exclusive), which no signature
// covers: the forgery is refused, or its result is the original's in all that
// anybody acts on. It gives the number.
func Uncovered(t testing.TB, whole []byte, from, to int, appraise Appraise) int {
	t.Helper()
	want := appraise(whole)
	return flips(whole, from, to, func(bit int, forged []byte) {
		r := appraise(forged)
		if Refused(r) {
			return
		}
		if r.Status != want.Status || r.Verdict != want.Verdict || !bytes.Equal(r.AttesterKey, want.AttesterKey) ||
			!slices.Equal(holding(r), holding(want)) {
			t.Errorf("bit %d of byte %d is covered by nothing, and it changes the result: %s, %s (%s)", bit%8, bit/8, r.Verdict, r.Status, r.Reason)
		}
	})
}

func holding(r *scheme.Result) (list []string) {
	for _, c := range r.Claims {
		if c.Status == rats.Holds {
			list = append(list, c.Name+" "+c.Found)
		}
	}
	return list
}

// Cuts cuts the evidence before each byte, and adds bytes to its end, and wants
// each refused. It gives the number.
func Cuts(t testing.TB, whole []byte, appraise Appraise) int {
	t.Helper()
	each(0, len(whole), func(n int) {
		if r := appraise(whole[:n:n]); !Refused(r) {
			t.Errorf("cut to %d bytes: %s, %s (%s)", n, r.Verdict, r.Status, r.Reason)
		}
	})
	for _, more := range [][]byte{{0}, {0xff}, make([]byte, 64)} {
		if r := appraise(append(bytes.Clone(whole), more...)); !Refused(r) {
			t.Errorf("with %d bytes more: %s, %s (%s)", len(more), r.Verdict, r.Status, r.Reason)
		}
	}
	return len(whole) + 3
}

// each calls f for the numbers from to to (exclusive), on all processors.
func each(from, to int, f func(int)) {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := from + w; i < to; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
}
