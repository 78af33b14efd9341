package blob

import (
	"bytes"
	"errors"
	"testing"
)

func example() []byte {
	e := Envelope{Instance: [16]byte{1}, Sections: []Section{
		{Tag: 7, Version: 2, MinVersion: 1, Data: []byte("seven")}, {Tag: 9, Version: 1, MinVersion: 1}}}
	return e.Encode()
}

func TestRoundTrip(t *testing.T) {
	e, err := Decode(example())
	if err != nil {
		t.Fatal(err)
	}
	if s := e.Find(7); s == nil || string(s.Data) != "seven" || s.Version != 2 || e.Instance[0] != 1 {
		t.Fatalf("got %+v", e)
	}
	if e.Find(8) != nil {
		t.Fatal("found a section that is not there")
	}
	if !bytes.Equal(e.Encode(), example()) {
		t.Fatal("a second encoding differs")
	}
}

func TestEveryCutAndFlipIsRefused(t *testing.T) {
	good := example()
	for n := range good {
		if _, err := Decode(good[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
		bad := bytes.Clone(good)
		bad[n] ^= 0x10
		if _, err := Decode(bad); err == nil {
			t.Fatalf("a flip in byte %d is accepted", n)
		}
	}
	if _, err := Decode(append(good, 0)); !errors.Is(err, ErrDamaged) {
		t.Fatalf("a byte too many: %v", err)
	}
}

func TestNewerVersionIsNamed(t *testing.T) {
	b := example()
	b[11] = 9
	if _, err := Decode(b); !errors.Is(err, ErrVersion) {
		t.Fatalf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(example())
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := Decode(b); err == nil && !bytes.Equal(e.Encode(), b) && b[9] == Version {
			t.Fatalf("%x decodes and encodes otherwise", b)
		}
	})
}
