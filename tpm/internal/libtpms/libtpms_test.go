package libtpms

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// golden reads a state that a libtpms has written, of those that package tpm
// keeps.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../testdata/libtpms", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withoutGenerator overwrites the state of the random generator, which is not
// read.
func withoutGenerator(b []byte) []byte {
	b = bytes.Clone(b)
	mark := binary.BigEndian.AppendUint32(nil, drbgMark.magic)
	at := bytes.Index(b, mark) + 6
	clear(b[at : at+8+4])
	clear(b[at+8+4+2:][:drbgSeed])
	clear(b[at+8+4+2+drbgSeed+2:][:4*drbgLast])
	return b
}

// TestPermanentComesBack: what was read is written as libtpms wrote it, byte for
// byte.
func TestPermanentComesBack(t *testing.T) {
	for name, level := range map[string]int{"0.9.2": 1, "0.10.2": 1, "0.10.2-default-v1": 7} {
		b := golden(t, name+".permanent")
		p, err := DecodePermanent(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		back, err := p.Encode(level)
		if err != nil || len(back) != len(b) || level == 1 && !bytes.Equal(back, withoutGenerator(b)) {
			t.Errorf("%s: %v, %d bytes came back of %d, or others", name, err, len(back), len(b))
		}
		// From libtpms 0.10 on an object's size is another, which no reader needs.
		if again, err := DecodePermanent(back); err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%s: %v, it became another one", name, err)
		}
	}
}

func TestVolatileComesBack(t *testing.T) {
	for name, level := range map[string]int{"0.7.12": 1, "0.8.10": 1, "0.9.2": 1, "0.10.2": 1, "0.10.2-default-v1": 7} {
		v, err := DecodeVolatile(golden(t, name+".volatile"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		back, err := v.Encode(level)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if again, err := DecodeVolatile(back); err != nil || !reflect.DeepEqual(again, v) && level == 7 {
			t.Errorf("%s: %v, it became another one", name, err)
		}
	}
}

func TestNewerVersionsAreNamed(t *testing.T) {
	b := golden(t, "0.9.2.permanent")
	binary.BigEndian.PutUint16(b, 9)
	binary.BigEndian.PutUint16(b[6:], 9)
	if _, err := DecodePermanent(b); !errors.Is(err, ErrVersion) {
		t.Errorf("%v", err)
	}
}

func TestCommandLists(t *testing.T) {
	if n := len(CompressedCommands()); n != commandBits {
		t.Errorf("%d commands, not %d", n, commandBits)
	}
	for _, version := range []uint16{4, 5} {
		list := []tpm2.CC{tpm2.CCNVUndefineSpaceSpecial, tpm2.CCPPCommands, tpm2.CCCertifyX509}
		w := newWriter()
		walkCommands(w, &list, version, commandBits)
		r := newReader(w.Output())
		var back []tpm2.CC
		walkCommands(r, &back, version, commandBits)
		if w.finish() != nil || r.finish() != nil || !reflect.DeepEqual(back, list) {
			t.Errorf("version %d: %v became %v", version, list, back)
		}
	}
}

// FuzzPermanent: no panic, and what is read can be written and read again.
func FuzzPermanent(f *testing.F) {
	for _, name := range []string{"0.7.12", "0.8.10", "0.9.2", "0.10.2-default-v1"} {
		f.Add(golden(f, name+".permanent"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePermanent(b)
		if err != nil {
			return
		}
		if len(p.Profile) == maxText {
			return
		}
		once, err := p.Encode(8)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodePermanent(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.Encode(8); err != nil || !bytes.Equal(twice, once) {
			t.Errorf("%v: it was written as two states", err)
		}
	})
}

// FuzzVolatile is FuzzPermanent for volatile states, whose digest is made right.
func FuzzVolatile(f *testing.F) {
	for _, name := range []string{"0.7.12", "0.9.2", "0.10.2-default-v1"} {
		b := golden(f, name+".volatile")
		f.Add(b[:len(b)-sha1.Size])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha1.Sum(b)
		v, err := DecodeVolatile(append(bytes.Clone(b), sum[:]...))
		if err != nil {
			return
		}
		for i := range v.Objects {
			if s := v.Objects[i].Sequence; s != nil {
				for j := range s.Hashes {
					s.Hashes[j].Binary()
				}
			}
		}
		once, err := v.Encode(8)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeVolatile(once); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzContext: no panic at what is in a context.
func FuzzContext(f *testing.F) {
	f.Add(make([]byte, rawSession))
	v, err := DecodeVolatile(golden(f, "0.9.2.volatile"))
	if err != nil {
		f.Fatal(err)
	}
	for i := range v.Objects {
		w := newWriter()
		v.Objects[i].walk(w)
		f.Add(w.Output())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := DecodeObject(b); err == nil && (o == nil || o.Sequence != nil && o.Sensitive != nil) {
			t.Error("an object and a sequence in one")
		}
		if s, err := DecodeSession(b); err == nil && len(s.Hash) > BoundSize {
			t.Error("a session with a long hash")
		}
	})
}
