package swtpm

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// names lists a directory without its lock file.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Name() != ".lock" {
			list = append(list, e.Name())
		}
	}
	return list
}

// TestGiveBack takes a TPM of Debian's swtpm over in its place and gives it back, twice:
// each goes on where the other was, and what it does not need any more is put aside.
func TestGiveBack(t *testing.T) {
	for _, key := range []string{"", "sha512"} {
		t.Run("key "+key, func(t *testing.T) {
			var option []string
			var k *Key
			if key != "" {
				o, read := foreignKey(t, key)
				option, k = []string{"--key", o}, read
			}
			path := t.TempDir()
			d := startDebian(t, path, option...)
			use(t, d.data)
			wantRC(t, d.data, shutdownClear, 0)
			d.stop()
			for round := range 2 {
				if profile, err := Examine(path, k, testEngine()); profile != "null" || err != nil {
					t.Fatalf("%q, %v", profile, err)
				}
				before := names(t, path)
				held := testDir(t, path)
				state, err := TakeOver(held, k, testEngine())
				if err != nil || state != filepath.Join(path, permanentName) {
					t.Fatalf("%s, %v", state, err)
				}
				if r, err := Inspect(path); err != nil || !r.Ours || r.Encrypted != (k != nil) || r.Mode != 0o600 || r.Overtaken {
					t.Errorf("%+v, %v", r, err)
				}
				if _, err := TakeOver(held, k, testEngine()); err == nil || !strings.Contains(err.Error(), "a TPM already") {
					t.Errorf("a second time: %v", err)
				}
				held.Unlock()
				h, _ := newTestHost(t, path, func(c *Config) { c.Key = k })
				if err := h.Start(); err != nil {
					t.Fatal(err)
				}
				for _, cmd := range []string{startupClear, increment, shutdownClear} {
					if rc := execute(h, cmd); rc != 0 {
						t.Fatalf("%s: %v", cmd, rc)
					}
				}
				h.Close()
				// What swtpm would go on from, if it found it.
				os.WriteFile(filepath.Join(path, foreignVolatileName), []byte("of before"), 0o600)
				held = testDir(t, path)
				if _, err := GiveBack(held, k, testEngine(), 0o640, false); err != nil {
					t.Fatal(err)
				}
				held.Unlock()
				want := append(before, permanentName+".old", foreignName+".old", foreignVolatileName+".old")
				slices.Sort(want)
				if got := names(t, path); !slices.Equal(got, slices.Compact(want)) {
					t.Errorf("there are %v", got)
				}
				if r, err := Inspect(path); err != nil || r.Ours || r.Encrypted != (k != nil) || r.Mode != 0o640 || r.Suspended {
					t.Errorf("%+v, %v", r, err)
				}
				d = startDebian(t, path, option...)
				wantRC(t, d.data, startupClear, 0)
				if n := counted(t, d.data); n != 4+round {
					t.Errorf("the counter is at %d", n)
				}
				wantRC(t, d.data, shutdownClear, 0)
				d.stop()
			}
		})
	}
}

// TestInspect wants each kind of directory told, and none changed.
func TestInspect(t *testing.T) {
	if _, err := Inspect(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty one: %v", err)
	}
	header := func(flags byte) []byte { return []byte{2, 1, 0, 10, 0, flags, 0, 0, 0, 10} }
	for name, c := range map[string]struct {
		files map[string][]byte
		want  Resident
		says  string
	}{
		"in clear":     {map[string][]byte{foreignName: header(0)}, Resident{Mode: 0o600}, ""},
		"128 bits":     {map[string][]byte{foreignName: header(flagEncrypted)}, Resident{Encrypted: true, KeyBits: 128, Mode: 0o600}, ""},
		"256 bits":     {map[string][]byte{foreignName: header(flagEncrypted | flagLongKey)}, Resident{Encrypted: true, KeyBits: 256, Mode: 0o600}, ""},
		"suspended":    {map[string][]byte{foreignName: header(0), foreignVolatileName: nil}, Resident{Suspended: true, Mode: 0o600}, ""},
		"TPM 1.2":      {map[string][]byte{tpm12Name: nil}, Resident{TPM12: true, Mode: 0o600}, ""},
		"cut":          {map[string][]byte{foreignName: header(0)[:9]}, Resident{Mode: 0o600}, "damaged"},
		"no permanent": {map[string][]byte{foreignVolatileName: header(0)}, Resident{}, "the running state of a TPM whose"},
		"lone":         {map[string][]byte{volatileName: nil}, Resident{}, errLone.Error()},
		"ours damaged": {map[string][]byte{permanentName: []byte("?"), foreignName: header(0)}, Resident{Ours: true, Mode: 0o600}, "cut or altered"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range c.files {
				if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := names(t, dir)
			got, err := Inspect(dir)
			got.Overtaken = false // as the clock has it
			if got != c.want || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%+v, %v", got, err)
			}
			if after := names(t, dir); !slices.Equal(before, after) {
				t.Errorf("there are %v now", after)
			}
		})
	}
}

// TestInspectOvertaken: a file of swtpm's that was written after it was taken over is
// told of.
func TestInspectOvertaken(t *testing.T) {
	dir := t.TempDir()
	h, _ := newTestHost(t, dir, nil)
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	h.Close()
	file := filepath.Join(dir, foreignName)
	os.WriteFile(file, bytes.Repeat([]byte{0}, 10), 0o600)
	for later, at := range map[bool]time.Time{true: time.Now().Add(time.Hour), false: time.Now().Add(-time.Hour)} {
		os.Chtimes(file, at, at)
		if r, err := Inspect(dir); err != nil || r.Overtaken != later {
			t.Errorf("%+v, %v", r, err)
		}
	}
}
