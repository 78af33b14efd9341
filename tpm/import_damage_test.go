package tpm

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/libtpms"
)

// TestImportCut: a state that was cut anywhere is refused.
func TestImportCut(t *testing.T) {
	permanent, volatile := foreignGolden(t, "0.9.2.permanent"), foreignGolden(t, "0.9.2.volatile")
	for n := range permanent {
		if _, err := ImportLibtpms(testConfig(), permanent[:n]); !errors.Is(err, ErrForeign) {
			t.Fatalf("%d bytes of the permanent state: %v", n, err)
		}
	}
	here, err := ImportLibtpms(testConfig(), permanent)
	if err != nil {
		t.Fatal(err)
	}
	for n := range volatile {
		if _, err := ImportLibtpmsVolatile(testConfig(), here, volatile[:n]); !errors.Is(err, ErrForeign) {
			t.Fatalf("%d bytes of the volatile state: %v", n, err)
		}
	}
	if _, err := ImportLibtpms(testConfig(), append(permanent, 0)); !errors.Is(err, ErrForeign) {
		t.Errorf("a byte more: %v", err)
	}
}

// TestImportAltered alters the state at every byte. libtpms keeps no digest of a
// permanent state, so that what a byte says may change unseen where any value
// makes sense: in secrets, authorization values, counts, flags and an Index's data.
// Everything else is refused or makes no difference. Whatever is imported is what
// the file says, so that it goes back as it came; nothing is made up.
func TestImportAltered(t *testing.T) {
	t.Parallel()
	permanent := foreignGolden(t, "0.9.2.permanent")
	same, err := ImportLibtpms(testConfig(), permanent)
	if err != nil {
		t.Fatal(err)
	}
	var refused, alike, other int
	for i := range permanent {
		altered := flipBit(permanent, i)
		here, err := ImportLibtpms(testConfig(), altered)
		var not *NotCarried
		switch {
		case errors.Is(err, ErrForeign), errors.Is(err, ErrForeignVersion), errors.As(err, &not):
			refused++
		case err != nil:
			t.Fatalf("byte %d: %v", i, err)
		case bytes.Equal(here, same):
			alike++
		default:
			other++
			back, err := ExportLibtpms(testConfig(), here, false)
			if err != nil {
				t.Fatalf("byte %d: %v", i, err)
			}
			got, _ := plain(t, back).Encode(1)
			want, _ := plain(t, altered).Encode(1)
			if !bytes.Equal(got, want) {
				t.Errorf("byte %d: what was imported is not what the file says", i)
			}
		}
	}
	t.Logf("of %d bytes %d are refused when they change, %d make no difference, %d are what the TPM then has", len(permanent), refused, alike, other)
	if other > len(permanent)/3 {
		t.Errorf("%d changed bytes were not found", other)
	}
}

// flipBit alters one bit of a byte, another one in each.
func flipBit(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1 << (i % 8)
	return b
}

// TestImportAlteredVolatile: the volatile state has a digest.
func TestImportAlteredVolatile(t *testing.T) {
	volatile := foreignGolden(t, "0.9.2.volatile")
	for i := range volatile {
		if _, err := libtpms.DecodeVolatile(flipBit(volatile, i)); err == nil {
			t.Fatalf("byte %d", i)
		}
	}
}

// FuzzImportLibtpms imports what may be a state of libtpms: no panic, and what
// comes of it is a TPM.
func FuzzImportLibtpms(f *testing.F) {
	for _, name := range []string{"0.7.12", "0.9.2", "0.10.2-default-v1"} {
		f.Add(foreignGolden(f, name+".permanent"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		here, err := ImportLibtpms(testConfig(), b)
		if err != nil {
			return
		}
		if _, err := New(testConfig(), here); err != nil {
			t.Error(err)
		}
	})
}

// withDigest puts the right digest at the end of a volatile state.
func withDigest(b []byte) []byte {
	if len(b) < sha1.Size {
		return b
	}
	body := b[:len(b)-sha1.Size]
	sum := sha1.Sum(body)
	return append(bytes.Clone(body), sum[:]...)
}

// FuzzImportVolatile resumes what may be a volatile state of libtpms, whose digest
// is made right: no panic, and what comes of it answers.
func FuzzImportVolatile(f *testing.F) {
	f.Add(foreignGolden(f, "0.9.2.volatile"))
	here, err := ImportLibtpms(testConfig(), foreignGolden(f, "0.9.2.permanent"))
	if err != nil {
		f.Fatal(err)
	}
	list := inventory()
	f.Fuzz(func(t *testing.T, b []byte) {
		volatile, err := ImportLibtpmsVolatile(testConfig(), here, withDigest(b))
		if err != nil {
			return
		}
		e, err := Resume(testConfig(), here, volatile)
		if err != nil {
			t.Fatal(err)
		}
		for _, cmd := range list {
			_, commit := e.Execute(Request{}, cmd, nil)
			commit.Done()
		}
		if e.failed {
			t.Error("the TPM entered failure mode")
		}
	})
}
