package swtpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/seal"
	"github.com/ashlar-cloud/ashlar/internal/store"
)

// withKeys is a rig whose host has keys; either may be nil.
func withKeys(t testing.TB, dir string, key, migration *Key) *rig {
	return newRig(t, dir, func(c *Config, _ *Server) { c.Key, c.MigrationKey = key, migration })
}

const (
	powerOn  = "00000002 00000000"
	powerOff = "0000000e"
	stateKey = "0123456789abcdef0123456789abcdef"
)

// usedTPM is a directory with a TPM under a key, or in clear, whose counter is at 3.
func usedTPM(t testing.TB, key *Key) string {
	t.Helper()
	dir := t.TempDir()
	r := withKeys(t, dir, key, nil)
	data := r.passData()
	r.control(powerOn, "00000000")
	use(t, data)
	r.host.Close()
	return dir
}

// startsAt starts the TPM in a directory and wants its counter where it is said.
func startsAt(t testing.TB, dir string, key *Key, want int) {
	t.Helper()
	r := withKeys(t, dir, key, nil)
	data := r.passData()
	r.control(powerOn, "00000000")
	wantRC(t, data, startupClear, 0)
	if n := counted(t, data); n != want {
		t.Errorf("the counter is at %d, not %d", n, want)
	}
	r.host.Close()
}

// refusesStart wants no start, the reason in the log, and every file as it was.
func refusesStart(t testing.TB, dir string, key *Key, says string) {
	t.Helper()
	before := content(t, dir)
	r := withKeys(t, dir, key, nil)
	r.control(powerOn, "00000009")
	if !strings.Contains(r.log.String(), says) {
		t.Errorf("the log does not say %q: %s", says, r.log)
	}
	r.host.Close()
	if content(t, dir) != before {
		t.Error("a file was changed")
	}
}

// content is all that is in a directory, but for the lock file.
func content(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name() == ".lock" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(e.Name())
		all.Write(b)
	}
	return all.String()
}

// TestSealedState: a state under a key or a passphrase starts with it, and with
// nothing else; one in clear starts without.
func TestSealedState(t *testing.T) {
	raw, phrase := testKey(stateKey, false), testKey("a passphrase", true)
	for name, key := range map[string]*Key{"key": raw, "passphrase": phrase} {
		t.Run(name, func(t *testing.T) {
			dir := usedTPM(t, key)
			if strings.Contains(content(t, dir), "ASHLARTS") {
				t.Error("the state is in clear")
			}
			startsAt(t, dir, key, 3)
			startsAt(t, dir, testKey(string(key.secret), key.kdf != ""), 3)
			refusesStart(t, dir, nil, "it is encrypted: give the key or the passphrase")
			refusesStart(t, dir, testKey("the wrong one...", key.kdf != ""), "the key is another one")
			if key == raw {
				refusesStart(t, dir, phrase, "it is encrypted under a key (file=, fd=), and a passphrase")
			} else {
				refusesStart(t, dir, raw, "it is encrypted under a passphrase (pwdfile=, pwdfd=), and a key")
			}
			if _, err := Profile(testDir(t, dir), nil); !errors.Is(err, errNoKey) {
				t.Errorf("the profile without the key: %v", err)
			}
		})
	}
	clear := usedTPM(t, nil)
	refusesStart(t, clear, raw, "it is not encrypted, and a key was given")
	startsAt(t, clear, nil, 3)
}

// TestSealedEveryByte alters each byte of the state in the file as who makes the
// file's own checksums anew could, and the file itself: nothing of it is loaded.
func TestSealedEveryByte(t *testing.T) {
	key := testKey(stateKey, false)
	dir := testDir(t, usedTPM(t, key))
	s := newStates(dir, key, testEngine())
	defer s.close()
	if _, err := s.load(); err != nil {
		t.Fatal(err)
	}
	state, _, err := s.permanent.File.Load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range state {
		state[i] ^= 0x40
		if _, err := unseal(key, sealedPermanent, state); err == nil {
			t.Fatalf("an altered byte %d of the state is not seen", i)
		}
		state[i] ^= 0x40
		if _, err := unseal(key, sealedPermanent, state[:i]); err == nil {
			t.Fatalf("the first %d bytes of the state are a state", i)
		}
	}
	if _, err := unseal(key, sealedVolatile, state); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("as the running state: %v", err)
	}
	path := s.permanent.Path()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	whole, _ := io.ReadAll(file)
	for i := 0; i < len(whole); i += 5 { // in other sectors at other places: 512 has no 5 in it
		file.WriteAt([]byte{whole[i] ^ 0x40}, int64(i))
		if _, err := s.load(); err == nil {
			t.Fatalf("an altered byte %d of the file is not seen", i)
		}
		file.WriteAt(whole[i:i+1], int64(i))
	}
	if _, err := s.load(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestSealedTakeOver starts our TPM with a key on what Debian's swtpm has encrypted
// with it: the same TPM, encrypted, and the file as it was.
func TestSealedTakeOver(t *testing.T) {
	for name := range foreignKeys {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			option, key := foreignKey(t, name)
			d := startDebian(t, dir, "--key", option)
			use(t, d.data)
			wantRC(t, d.data, shutdownClear, 0)
			d.stop()
			before, _ := os.ReadFile(filepath.Join(dir, foreignName))
			refusesStart(t, dir, nil, "it is encrypted: give the key or the passphrase that swtpm had")
			wrong := testKey("another", true)
			if wrong.size = key.size; key.kdf == "" {
				wrong = testKey(strings.Repeat("x", key.size), false)
			}
			refusesStart(t, dir, wrong, "the key is another one")
			wrong.Wipe()
			if key.size == longKey {
				refusesStart(t, dir, testKey(stateKey[:shortKey], false), "a key of another length")
			}
			startsAt(t, dir, key, 3)
			if after, _ := os.ReadFile(filepath.Join(dir, foreignName)); !bytes.Equal(after, before) {
				t.Error("the file of swtpm was changed")
			}
			os.Remove(filepath.Join(dir, foreignName))
			startsAt(t, dir, key, 3)
			refusesStart(t, dir, nil, "it is encrypted")
		})
	}
	dir := t.TempDir()
	d := startDebian(t, dir)
	use(t, d.data)
	d.stop()
	refusesStart(t, dir, testKey(stateKey, false), "it is not encrypted, and a key was given")
}

// TestSealedVolatile: a running state that was stored is encrypted, and goes on.
func TestSealedVolatile(t *testing.T) {
	key, dir := testKey(stateKey, false), t.TempDir()
	r := withKeys(t, dir, key, nil)
	startAsQEMU(t, r)
	want := command(t, r.data, unhex(readPCR16))
	r.control("0000000a", "00000000")
	r.host.Close()
	if strings.Contains(content(t, dir), "ASHLARTS") {
		t.Error("a state is in clear")
	}
	refusesStart(t, dir, testKey(stateKey[1:]+"0", false), "the key is another one")
	r = withKeys(t, dir, key, nil)
	data := r.passData()
	r.control(powerOn, "00000000")
	if got := command(t, data, unhex(readPCR16)); !bytes.Equal(got, want) {
		t.Errorf("PCR 16: %x, not %x", got, want)
	}
}

// TestRekey takes a TPM through keys: what is in the file is never in clear below one.
func TestRekey(t *testing.T) {
	raw, phrase := testKey(stateKey, false), testKey("a passphrase", true)
	path := usedTPM(t, nil)
	backed, err := store.OpenDir(path, store.Options{Backup: true})
	if err != nil {
		t.Fatal(err)
	}
	h := NewHost(Config{Dir: backed, Engine: testEngine()})
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	h.Startup(false)
	h.Close()
	if files, _ := filepath.Glob(filepath.Join(path, "*.bak")); len(files) != 1 {
		t.Fatalf("backups: %v", files)
	}
	rekey := func(from, to *Key) error {
		dir := testDir(t, path)
		defer dir.Unlock()
		_, err := Rekey(dir, testEngine(), from, to)
		return err
	}
	for _, step := range []struct{ from, to *Key }{{nil, raw}, {raw, phrase}, {phrase, phrase}, {phrase, raw}, {raw, nil}} {
		before := content(t, path)
		if step.from != nil {
			if err := rekey(nil, step.to); !errors.Is(err, errNoKey) {
				t.Errorf("without the key: %v", err)
			}
		}
		if err := rekey(testKey("wrong", true), step.to); err == nil {
			t.Error("with a wrong key it was done")
		}
		if content(t, path) != before {
			t.Error("what was refused has changed the file")
		}
		if err := rekey(step.from, step.to); err != nil {
			t.Fatal(err)
		}
		if clear := strings.Contains(content(t, path), "ASHLARTS"); clear != (step.to == nil) {
			t.Errorf("in clear: %v", clear)
		}
		startsAt(t, path, step.to, 3)
	}
	r := withKeys(t, path, nil, nil)
	r.control(powerOn, "00000000")
	r.control("0000000a", "00000000")
	r.host.Close()
	if err := rekey(nil, raw); err == nil || !strings.Contains(err.Error(), "suspended") {
		t.Errorf("of a TPM that is suspended: %v", err)
	}
}

// ask is GET_STATEBLOB with flags: those of the answer, and the blob.
func ask(t testing.TB, c net.Conn, kind BlobType, flags uint32) (uint32, []byte) {
	t.Helper()
	head := exchange(t, c, unhex("0000000c "+hexWord(flags)+hexWord(uint32(kind))+"00000000"), 16)
	if word(head) != 0 {
		t.Fatalf("GET_STATEBLOB: %x", head)
	}
	b := make([]byte, binary.BigEndian.Uint32(head[12:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return word(head[4:]), b
}

// give is SET_STATEBLOB with flags.
func give(t testing.TB, c net.Conn, kind BlobType, flags uint32, blob []byte) Result {
	t.Helper()
	cmd := unhex("0000000d " + hexWord(flags) + hexWord(uint32(kind)) + hexWord(uint32(len(blob))))
	return Result(word(exchange(t, c, append(cmd, blob...), 4)))
}

// moves are the keys of a source and of a target, and the flags that the source is
// asked with; 1 is what QEMU asks.
var moves = []struct {
	name              string
	key, migration    string // options of the source, NAME for the file of that name
	flags             uint32
	there, migration2 string
	want              Result
}{
	{"no keys", "", "", 1, "", "", OK},
	{"a migration key", "", "pwdfile=M,mode=aes-256-cbc", 1, "", "pwdfile=M,mode=aes-256-cbc", OK},
	{"a short migration key", "", "pwdfile=M", 1, "", "pwdfile=M", OK},
	{"both of libvirt's", "pwdfile=K,mode=aes-256-cbc", "pwdfile=K,mode=aes-256-cbc", 1, "pwdfile=K,mode=aes-256-cbc", "pwdfile=K,mode=aes-256-cbc", OK},
	{"another key there", "file=R,format=binary,mode=aes-256-cbc", "pwdfile=M", 1, "pwdfile=K,mode=aes-256-cbc", "pwdfile=M", OK},
	{"not decrypted", "file=R,format=binary", "file=R,format=binary", 0, "file=R,format=binary", "file=R,format=binary", OK},
	{"not decrypted and no migration key", "pwdfile=K,mode=aes-256-cbc", "", 0, "pwdfile=K,mode=aes-256-cbc", "", OK},
	{"to encryption", "", "", 1, "pwdfile=K", "pwdfile=M", OK},
	{"no migration key there", "", "pwdfile=M", 1, "pwdfile=K", "", KeyNotFound},
	{"no key there", "pwdfile=K", "", 0, "", "pwdfile=M", KeyNotFound},
	{"another migration key there", "", "pwdfile=M", 1, "", "pwdfile=K", DecryptError},
	{"not decrypted and another key there", "pwdfile=K", "pwdfile=M", 0, "pwdfile=M", "pwdfile=M", DecryptError},
}

// moveKeys reads the keys of a move, and gives them as options of swtpm too.
func moveKeys(t testing.TB, dir, key, migration string) (list []string, k, m *Key) {
	t.Helper()
	read := func(name, option string) *Key {
		if option == "" {
			return nil
		}
		for _, f := range []string{"K", "M", "R"} {
			option = strings.Replace(option, "="+f, "="+filepath.Join(dir, f), 1)
		}
		list = append(list, name, option)
		key, err := ReadKey(option)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	k = read("--key", key)
	m = read("--migration-key", migration)
	return list, k, m
}

func keyFiles(t testing.TB) string {
	dir := t.TempDir()
	for name, secret := range map[string]string{"K": "the secret of a machine", "M": "that of a migration", "R": stateKey[:shortKey]} {
		os.WriteFile(filepath.Join(dir, name), []byte(secret), 0o600)
	}
	return dir
}

// TestSealedMigration moves a running TPM under keys, from ours and from Debian's
// swtpm, and holds the answers of the target to those of Debian's.
func TestSealedMigration(t *testing.T) {
	dir := keyFiles(t)
	for _, m := range moves {
		t.Run(m.name, func(t *testing.T) {
			options, key, migration := moveKeys(t, dir, m.key, m.migration)
			t.Run("ours", func(t *testing.T) {
				r := withKeys(t, t.TempDir(), key, migration)
				data := r.passData()
				r.control(powerOn, "00000000")
				testMove(t, r.ctrl, data, m.flags, m.want, func() *rig {
					_, key, migration := moveKeys(t, dir, m.there, m.migration2)
					return withKeys(t, t.TempDir(), key, migration)
				})
			})
			t.Run("swtpm", func(t *testing.T) {
				d := startDebian(t, t.TempDir(), options...)
				blob := testMove(t, d.ctrl, d.data, m.flags, m.want, func() *rig {
					_, key, migration := moveKeys(t, dir, m.there, m.migration2)
					return withKeys(t, t.TempDir(), key, migration)
				})
				there, _, _ := moveKeys(t, dir, m.there, m.migration2)
				target := startDebian(t, t.TempDir(), there...)
				exchange(t, target.ctrl, unhex(powerOff), 4)
				if r := give(t, target.ctrl, BlobPermanent, blobFlags(m.flags, key), blob); r != m.want {
					t.Errorf("swtpm itself answers %v, not %v", r, m.want)
				}
			})
		})
	}
}

// blobFlags are those that the answer to GET_STATEBLOB has.
func blobFlags(asked uint32, key *Key) uint32 {
	if asked&stateDecrypted == 0 && key != nil {
		return stateEncrypted
	}
	return 0
}

// testMove moves what is used over the two connections of a source to a new target,
// and gives the permanent state that moved.
func testMove(t *testing.T, ctrl, data net.Conn, flags uint32, want Result, target func() *rig) []byte {
	t.Helper()
	use(t, data)
	wantRC(t, data, extendPCR16, 0)
	pcr := command(t, data, unhex(readPCR16))
	config := exchange(t, ctrl, unhex("0000000f"), 8)
	keys := word(config[4:])
	given, permanent := ask(t, ctrl, BlobPermanent, flags)
	_, volatile := ask(t, ctrl, BlobVolatile, flags)
	if encrypted := flags&stateDecrypted == 0 && keys&configFileKey != 0; (given == stateEncrypted) != encrypted {
		t.Errorf("the state has the flags %x", given)
	}
	if secret := keys&configMigrationKey != 0 || given != 0; secret && (bytes.Contains(permanent, []byte("ASHLARTS")) || bytes.Contains(volatile, []byte("ASHLARTS"))) {
		t.Error("a state is in clear")
	}
	r := target()
	there := r.passData()
	if res := give(t, r.ctrl, BlobPermanent, given, permanent); res != want {
		t.Fatalf("SET_STATEBLOB: %v, want %v: %s", res, want, r.log)
	}
	if want != OK {
		if c := content(t, r.dir); c != "" {
			t.Errorf("what was refused has left %d bytes", len(c))
		}
		return permanent
	}
	altered := bytes.Clone(volatile)
	altered[len(altered)/2] ^= 1
	if res := give(t, r.ctrl, BlobVolatile, given, altered); res == OK {
		t.Error("an altered state was taken")
	}
	if res := give(t, r.ctrl, BlobVolatile, given, permanent); res == OK {
		t.Error("the permanent state was taken as the running one")
	}
	if res := give(t, r.ctrl, BlobVolatile, given, volatile); res != OK {
		t.Fatalf("SET_STATEBLOB of the running state: %v: %s", res, r.log)
	}
	if r.host.cfg.Key != nil && strings.Contains(content(t, r.dir), "ASHLARTS") {
		t.Error("a state is in clear on the target's disk")
	}
	r.control("00000002 00000001", "00000000")
	if got := command(t, there, unhex(readPCR16)); !bytes.Equal(got, pcr) {
		t.Errorf("PCR 16 is %x, was %x", got, pcr)
	}
	if n := counted(t, there); n != 3 {
		t.Errorf("the counter is at %d", n)
	}
	return permanent
}

// TestSealedOverClear: an encrypted state that comes in leaves nothing of one in clear
// that was there, and one that says to be encrypted must be.
func TestSealedOverClear(t *testing.T) {
	key, dir := testKey(stateKey, false), usedTPM(t, nil)
	source := withKeys(t, t.TempDir(), key, nil)
	source.control(powerOn, "00000000")
	_, sealed := ask(t, source.ctrl, BlobPermanent, 0)
	_, clear := ask(t, source.ctrl, BlobPermanent, stateDecrypted)
	r := withKeys(t, dir, key, nil)
	if res := give(t, r.ctrl, BlobPermanent, stateEncrypted, clear); res != BadParameter {
		t.Errorf("a state in clear that says to be encrypted: %v", res)
	}
	if res := give(t, r.ctrl, BlobPermanent, stateEncrypted, sealed); res != OK {
		t.Errorf("an encrypted state: %v: %s", res, r.log)
	}
	if strings.Contains(content(t, dir), "ASHLARTS") {
		t.Error("what was in clear is still in the file")
	}
	r.control(powerOn, "00000000")
}

var goldenUpdate = flag.Bool("golden.update", false, "write the golden files of this version anew, before its first release only")

// TestSealedGolden starts the file of a TPM that is kept for ever, under a passphrase.
func TestSealedGolden(t *testing.T) {
	const kept = "testdata/sealed-v1/" + permanentName
	key := testKey("a passphrase", true)
	if *goldenUpdate {
		state, err := os.ReadFile("../tpm/testdata/state/v1/permanent")
		if err != nil {
			t.Fatal(err)
		}
		os.MkdirAll(filepath.Dir(kept), 0o755)
		os.Remove(kept)
		s := newStates(testDir(t, filepath.Dir(kept)), key, testEngine())
		if err := s.permanent.put(state); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(filepath.Dir(kept), ".lock"))
	}
	b, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, permanentName), b, 0o600)
	r := withKeys(t, dir, key, nil)
	data := r.passData()
	r.control(powerOn, "00000000")
	wantRC(t, data, startupClear, 0)
	r.host.Close()
	refusesStart(t, dir, nil, "it is encrypted")
}
