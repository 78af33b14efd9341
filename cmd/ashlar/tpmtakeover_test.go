package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
)

// tpmKind is one kind of directory in a host's set.
type tpmKind struct {
	make        func(dir string) // makes the one that is copied
	there, back outcome
	says        string // of what is refused
}

// tpmKinds makes one of each kind; pw is the file of a passphrase.
func tpmKinds(t *testing.T, pw string) map[string]tpmKind {
	setup := func(more ...string) func(string) {
		return func(dir string) { setupTPM(t, dir, append([]string{"--tpm2", "--createek"}, more...)...) }
	}
	first := setupTPM(t, t.TempDir(), "--tpm2", "--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram")
	plain := func(dir string) { must(t, os.CopyFS(dir, os.DirFS(first))) }
	change := func(f func(state []byte) []byte) func(string) {
		return func(dir string) {
			plain(dir)
			path := filepath.Join(dir, "tpm2-00.permall")
			b, err := os.ReadFile(path)
			must(t, err)
			must(t, os.WriteFile(path, f(b), 0o600))
		}
	}
	suspend := func(before ...uint32) func(string) {
		return func(dir string) {
			plain(dir)
			o := runOld(t, dir)
			for _, cmd := range append(before, cmdStoreVolatile) {
				o.control(cmd)
			}
			o.stop()
		}
	}
	kinds := map[string]tpmKind{
		"plain":        {plain, done, done, ""},
		"256":          {setup("--pwdfile", pw, "--cipher", "aes-256-cbc"), done, done, ""},
		"128":          {setup("--pwdfile", pw, "--cipher", "aes-128-cbc"), refusal, already, "a key of another length"},
		"suspended":    {suspend(), done, refusal, "says that the TPM is suspended"},
		"tpm12":        {func(dir string) { setupTPM(t, dir) }, refusal, already, "it is a TPM 1.2"},
		"cut":          {change(func(b []byte) []byte { return b[:len(b)-100] }), refusal, refusal, "damaged"},
		"altered":      {change(func(b []byte) []byte { b[18] ^= 1; return b }), refusal, already, "damaged"},
		"newer":        {change(func(b []byte) []byte { b[17], b[23] = 9, 9; return b }), refusal, already, "newer libtpms"},
		"measuring":    {suspend(cmdHashStart), refusal, already, "measurement"},
		"no permanent": {func(dir string) { suspend()(dir); os.Remove(filepath.Join(dir, "tpm2-00.permall")) }, refusal, refusal, "whose tpm2-00.permall is not here"},
		"ours": {func(dir string) {
			if code, complaint := ashlar(t, "tpm", "manufacture", dir); code != 0 {
				t.Fatal(complaint)
			}
		}, already, done, ""},
		"ours damaged": {func(dir string) { plain(dir); os.WriteFile(filepath.Join(dir, "tpm2-00.ashlar"), []byte("?"), 0o600) },
			refusal, refusal, "cut or altered"},
	}
	if os.Geteuid() == 0 {
		kinds["not to be written"] = tpmKind{func(dir string) { plain(dir); os.Chmod(dir, 0o500) }, refusal, already, "cannot be written|permission denied"}
		kinds["of two users"] = tpmKind{plain, refusal, refusal, "belong to different users"}
	}
	return kinds
}

// copies of each kind in the set.
const copies = 20

// makeSet makes a host's set and gives each directory's kind. What root may give away
// belongs to another user then.
func makeSet(t *testing.T, root string, kinds map[string]tpmKind) map[string]string {
	t.Helper()
	of := make(map[string]string)
	for kind, k := range kinds {
		first := filepath.Join(t.TempDir(), "tpm2")
		k.make(first)
		os.Remove(filepath.Join(first, ".lock"))
		for range copies {
			dir := filepath.Join(root, fmt.Sprintf("%08x-0000-0000-0000-000000000000", len(of)), "tpm2")
			must(t, os.MkdirAll(filepath.Dir(dir), 0o711))
			must(t, os.Mkdir(dir, 0o700))
			of[dir] = kind
			files, err := os.ReadDir(first)
			must(t, err)
			for _, f := range files {
				b, err := os.ReadFile(filepath.Join(first, f.Name()))
				must(t, err)
				path := filepath.Join(dir, f.Name())
				must(t, os.WriteFile(path, b, 0o600))
				if os.Geteuid() == 0 && kind != "of two users" {
					must(t, os.Chown(path, otherUser, otherUser))
				}
			}
			if os.Geteuid() == 0 {
				must(t, os.Chown(dir, otherUser, otherUser))
			}
			if info, err := os.Stat(first); err == nil && info.Mode().Perm() == 0o500 {
				must(t, os.Chmod(dir, 0o500))
			}
		}
	}
	return of
}

// otherUser is nobody on any system of ours.
const otherUser = 54321

// snapshot is all that is in a directory, but for the lock file: names, owners, modes,
// contents.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() == ".lock" {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&b, path, info.Mode(), st.Uid, st.Gid, info.Size())
		if e.Type().IsRegular() {
			content, err := os.ReadFile(path)
			b.Write(content)
			return err
		}
		return nil
	}))
	return b.String()
}

// takeover runs the verb, and gives its exit code and what it tells of each TPM.
func takeover(t *testing.T, args ...string) (code int, of map[string]*hostTPM, counts map[outcome]int) {
	t.Helper()
	var out, errs bytes.Buffer
	start := time.Now()
	code = run(t.Context(), append([]string{"tpm", "takeover", "--json"}, args...), nil, &out, &errs)
	var said struct {
		Counts map[outcome]int
		TPMs   []*hostTPM
	}
	if err := json.Unmarshal(out.Bytes(), &said); err != nil {
		t.Fatalf("%v: %s%s", err, out.String(), errs.String())
	}
	t.Logf("%v: %d TPMs in %v: %v", args[:len(args)-1], len(said.TPMs), time.Since(start).Round(time.Millisecond), said.Counts)
	of = make(map[string]*hostTPM)
	for _, x := range said.TPMs {
		of[x.Path] = x
	}
	return code, of, said.Counts
}

// TestTakeover looks at a host's set of hundreds with every kind that there is, takes it
// over and gives it back: what was said in the dry run comes true, what is refused is as
// it was, and owners and modes are kept.
func TestTakeover(t *testing.T) {
	for _, tool := range []string{debianTPM, debianSetup} {
		if _, err := os.Stat(tool); err != nil {
			t.Skipf("%s is missing: install swtpm and swtpm-tools", tool)
		}
	}
	pw := filepath.Join(t.TempDir(), "pw")
	must(t, os.WriteFile(pw, []byte("a passphrase"), 0o600))
	root, err := os.MkdirTemp("", "host") // which another user can reach, as t.TempDir cannot be
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	must(t, os.Chmod(root, 0o755))
	kinds := tpmKinds(t, pw)
	of := makeSet(t, root, kinds)
	before := make(map[string]string)
	for dir := range of {
		before[dir] = snapshot(t, dir)
	}
	key := "pwdfile=" + pw + ",mode=aes-256-cbc"
	check := func(said map[string]*hostTPM, want func(tpmKind) outcome) {
		t.Helper()
		if len(said) != len(of) {
			t.Errorf("%d of %d were found", len(said), len(of))
		}
		for dir, kind := range of {
			k, x := kinds[kind], said[dir]
			if x == nil || x.Outcome != want(k) {
				t.Errorf("%s: %+v", kind, x)
				continue
			}
			if text := strings.Join(x.Reasons, "\n"); x.Outcome == refusal && k.says != "" {
				matched := false
				for part := range strings.SplitSeq(k.says, "|") {
					matched = matched || strings.Contains(text, part)
				}
				if !matched || !strings.Contains(text, dir) {
					t.Errorf("%s: %s", kind, text)
				}
			}
		}
	}
	dry := func(f func(tpmKind) outcome) func(tpmKind) outcome {
		return func(k tpmKind) outcome {
			if f(k) == done {
				return canGo
			}
			return f(k)
		}
	}
	there, back := func(k tpmKind) outcome { return k.there }, func(k tpmKind) outcome { return k.back }

	code, said, _ := takeover(t, "--dry-run", "--key", key, root)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	check(said, dry(there))
	for dir, kind := range of {
		if snapshot(t, dir) != before[dir] {
			t.Errorf("%s: the dry run has changed it", kind)
		}
	}

	code, said, _ = takeover(t, "--key", key, root)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	check(said, there)
	taken := make(map[string]string) // kind to one that was taken over
	for dir, kind := range of {
		if kinds[kind].there != done {
			if snapshot(t, dir) != before[dir] {
				t.Errorf("%s: it was refused and is not as it was", kind)
			}
			continue
		}
		taken[kind] = dir
		// Nothing but the new files has come.
		for _, name := range []string{"tpm2-00.ashlar", "tpm2-00.ashlar-volatile"} {
			info, err := os.Stat(filepath.Join(dir, name))
			if name == "tpm2-00.ashlar-volatile" && kind != "suspended" {
				if err == nil {
					t.Errorf("%s: a running state is there", kind)
				}
				continue
			}
			must(t, err)
			if st := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != 0o600 || os.Geteuid() == 0 && (st.Uid != otherUser || st.Gid != otherUser) {
				t.Errorf("%s: %v of %d:%d", kind, info.Mode(), st.Uid, st.Gid)
			}
		}
	}

	k, err := swtpm.ReadKey(key)
	must(t, err)
	eks := make(map[string]string)
	for kind, dir := range taken {
		switch kind {
		case "256":
			eks[kind] = ourEK(t, dir, k)
		case "plain":
			eks[kind] = ourEK(t, dir, nil)
		}
	}
	if code, _, counts := takeover(t, "--key", key, root); code != 1 || counts[done] != 0 {
		t.Errorf("a second time: exit code %d, %v", code, counts)
	}
	_, said, _ = takeover(t, "--back", "--dry-run", "--key", key, root)
	check(said, dry(back))
	_, said, _ = takeover(t, "--back", "--key", key, root)
	check(said, back)
	if ourEK(t, taken["suspended"], nil) != eks["plain"] {
		t.Error("the one that was suspended has another endorsement key")
	}
	for _, kind := range []string{"plain", "256"} {
		dir := taken[kind]
		var more []string
		if kind == "256" {
			more = []string{"--key", key}
		}
		o := runOld(t, dir, more...)
		if got := o.ek(); got != eks[kind] {
			t.Errorf("%s: another endorsement key came back", kind)
		}
		o.stop()
	}
}

// TestTakeoverOfRunning: a TPM that runs is looked at, and goes over at its next start;
// ours that runs does not go back.
func TestTakeoverOfRunning(t *testing.T) {
	if _, err := os.Stat(debianTPM); err != nil {
		t.Skip("Debian's swtpm is missing: install swtpm")
	}
	root := t.TempDir()
	dir := filepath.Join(root, "vm")
	must(t, os.Mkdir(dir, 0o700))
	o := runOld(t, dir)
	for _, args := range [][]string{{"--dry-run", root}, {root}} {
		code, said, _ := takeover(t, args...)
		if x := said[dir]; code != 0 || x.Outcome != later || !x.Running || x.PID == 0 || x.Profile != "null" {
			t.Errorf("%v: %d, %+v", args, code, x)
		}
	}
	o.stop()
	held, err := store.OpenDir(dir, store.Options{})
	must(t, err)
	if code, said, _ := takeover(t, root); code != 0 || said[dir].Outcome != done {
		t.Errorf("%d, %+v", code, said[dir])
	}
	must(t, held.Lock(0))
	code, said, _ := takeover(t, "--back", root)
	if x := said[dir]; code != 1 || x.Outcome != refusal || !strings.Contains(x.Reasons[0], "it runs") {
		t.Errorf("%d, %+v", code, x)
	}
	held.Unlock()
	later := time.Now().Add(time.Hour)
	must(t, os.Chtimes(filepath.Join(dir, "tpm2-00.permall"), later, later))
	if code, notes := ashlar(t, "tpm", "takeover", root); code != 0 || !strings.Contains(notes, "note: "+dir+": swtpm's file was written after Ashlar's") {
		t.Errorf("%d, %s", code, notes)
	}
}

// TestTakeoverFollowsNoLinks: what another user has put into his directory leads root
// to nothing of root's.
func TestTakeoverFollowsNoLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root could be led elsewhere")
	}
	root, err := os.MkdirTemp("", "host")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	must(t, os.Chmod(root, 0o755))
	secret, vm, dir := filepath.Join(root, "secret"), filepath.Join(root, "vm"), filepath.Join(root, "theirs")
	if code, complaint := ashlar(t, "tpm", "manufacture", vm); code != 0 {
		t.Fatal(complaint)
	}
	if code, complaint := ashlar(t, "tpm", "export", vm, secret); code != 0 {
		t.Fatal(complaint)
	}
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Symlink(secret, filepath.Join(dir, "tpm2-00.permall")))
	must(t, os.Lchown(filepath.Join(dir, "tpm2-00.permall"), otherUser, otherUser))
	must(t, os.Chown(dir, otherUser, otherUser))
	for _, more := range [][]string{{"--dry-run"}, nil} {
		code, said, _ := takeover(t, append(more, dir)...)
		if x := said[dir]; code != 1 || x.Outcome != refusal || !strings.Contains(strings.Join(x.Reasons, ""), "it is a symbolic link") {
			t.Errorf("%d, %+v", code, x)
		}
	}
	if err := asOwner(dir, func() error { _, err := os.ReadFile(secret); return err }); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("with the rights of who owns the directory: %v", err)
	}
}

// TestLibvirtRoots: where no DIR is named, libvirt's is meant, if there is one.
func TestLibvirtRoots(t *testing.T) {
	config := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", config)
	want := filepath.Join(config, "libvirt", "qemu", "swtpm")
	if os.Geteuid() == 0 {
		want = "/var/lib/libvirt/swtpm"
	} else {
		if roots, err := libvirtRoots(); roots != nil || err != nil {
			t.Errorf("where libvirt has none: %v, %v", roots, err)
		}
		must(t, os.MkdirAll(want, 0o700))
	}
	roots, err := libvirtRoots()
	if _, absent := os.Stat(want); err != nil || (absent == nil) != slices.Equal(roots, []string{want}) {
		t.Errorf("%v, %v", roots, err)
	}
}

// TestProgress: who watches hears of it every two seconds, and not at the end.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out, all: 4}
	p.one()
	p.one()
	p.next = time.Time{}
	p.one()
	p.next = time.Time{}
	p.one()
	if out.String() != "1 of 4 …\n3 of 4 …\n" {
		t.Errorf("%q", out.String())
	}
}
