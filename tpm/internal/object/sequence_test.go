package object

import (
	"bytes"
	"crypto/hmac"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// sequences are those of every kind and algorithm, with what each must give for
// data, in the order of its digests.
func sequences(key []byte) map[string]struct {
	seq  *Sequence
	want func(data []byte) [][]byte
} {
	list := make(map[string]struct {
		seq  *Sequence
		want func(data []byte) [][]byte
	})
	for _, alg := range tpm2.HashAlgs() {
		list["hash "+alg.String()] = struct {
			seq  *Sequence
			want func(data []byte) [][]byte
		}{NewHashSequence(tpm2.Digest("auth"), alg), func(data []byte) [][]byte {
			return [][]byte{alg.Digest(data)}
		}}
		list["hmac "+alg.String()] = struct {
			seq  *Sequence
			want func(data []byte) [][]byte
		}{NewHMACSequence(nil, alg, key), func(data []byte) [][]byte {
			h := hmac.New(alg.New, key)
			h.Write(data)
			return [][]byte{h.Sum(nil)}
		}}
	}
	for _, c := range []struct {
		alg  tpm2.AlgID
		size int
	}{{tpm2.AlgAES, 16}, {tpm2.AlgTDES, 24}, {tpm2.AlgCamellia, 32}} {
		mac := func(data []byte) crypt.CMAC {
			m, rc := crypt.NewCMAC(c.alg, bytes.Repeat([]byte{5}, c.size))
			if rc != tpm2.RCSuccess {
				panic(rc)
			}
			m.Update(data)
			return m
		}
		list["cmac "+c.alg.String()] = struct {
			seq  *Sequence
			want func(data []byte) [][]byte
		}{NewCMACSequence(tpm2.Digest("auth"), mac(nil)), func(data []byte) [][]byte {
			m := mac(data)
			return [][]byte{m.Sum()}
		}}
	}
	list["event"] = struct {
		seq  *Sequence
		want func(data []byte) [][]byte
	}{NewEventSequence(nil), func(data []byte) (out [][]byte) {
		for _, alg := range tpm2.HashAlgs() {
			out = append(out, alg.Digest(data))
		}
		return out
	}}
	return list
}

func results(s *Sequence) (out [][]byte) {
	if s.Kind != EventSequence {
		return [][]byte{s.Result()}
	}
	for _, d := range s.Digests() {
		out = append(out, d.Digest)
	}
	return out
}

func TestSequences(t *testing.T) {
	data := bytes.Repeat([]byte("measure me "), 40)
	for _, key := range [][]byte{nil, []byte("key"), bytes.Repeat([]byte{7}, 200)} {
		for name, c := range sequences(key) {
			t.Run(fmt.Sprintf("%s/%d", name, len(key)), func(t *testing.T) {
				half := c.seq.Update(data[:99], true)
				whole := half.Update(data[99:], false)
				for i, want := range c.want(data) {
					if got := results(whole)[i]; !bytes.Equal(got, want) {
						t.Errorf("digest %d: %x, want %x", i, got, want)
					}
				}
				// The ones before are as they were, and giving a result is no change.
				for i, want := range c.want(data[:99]) {
					first := results(half)[i]
					if again := results(half)[i]; !bytes.Equal(first, want) || !bytes.Equal(again, want) {
						t.Errorf("digest %d: Update or Result changed the sequence", i)
					}
				}
				if c.seq.Begun || !whole.Begun || !whole.Safe {
					t.Error("the first data alone says whether a ticket is safe")
				}
			})
		}
	}
}

func TestSequenceSurvivesSaving(t *testing.T) {
	for name, c := range sequences([]byte("key")) {
		for _, n := range []int{0, 1, 63, 64, 129} {
			saved := tpm2.Marshal(c.seq.Update(make([]byte, n), false))
			input := bytes.Clone(saved)
			var back Sequence
			if err := tpm2.Unmarshal(input, &back); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			clear(input)
			if again := tpm2.Marshal(&back); !bytes.Equal(again, saved) {
				t.Errorf("%s after %d bytes: saved again it is %x, not %x", name, n, again, saved)
			}
			want := c.want(append(make([]byte, n), "more"...))
			for i, got := range results(back.Update([]byte("more"), true)) {
				if !bytes.Equal(got, want[i]) {
					t.Errorf("%s after %d bytes: digest %d is %x", name, n, i, got)
				}
			}
			if back.Safe || !back.Begun || !bytes.Equal(back.Auth, c.seq.Auth) {
				t.Errorf("%s: restored as %+v", name, back)
			}
		}
	}
}

func FuzzSequenceWalk(f *testing.F) {
	for _, c := range sequences([]byte("key")) {
		f.Add(tpm2.Marshal(c.seq))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Sequence
		if tpm2.Unmarshal(b, &s) != nil {
			return
		}
		results(s.Update([]byte("data"), true))
		if again := tpm2.Marshal(&s); len(again) != len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(again))
		}
	})
}
