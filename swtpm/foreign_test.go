package swtpm

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/tpm"
)

// debian is Debian's swtpm, with its state in a directory.
type debian struct {
	t          testing.TB
	data, ctrl net.Conn
	stop       func()
}

// startDebian starts it and powers it on; more are options. The test is skipped
// where there is none.
func startDebian(t testing.TB, state string, more ...string) *debian {
	t.Helper()
	path, err := exec.LookPath("swtpm")
	if err != nil {
		t.Skip("there is no swtpm to move from: install the package swtpm")
	}
	sockets, err := os.MkdirTemp("", "sw") // short: the path of a socket has a limit
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"socket", "--tpm2", "--flags", "not-need-init", "--server", "type=unixio,path=" + sockets + "/d",
		"--ctrl", "type=unixio,path=" + sockets + "/c"}, more...)
	if !strings.Contains(state, "=") {
		state = "dir=" + state
	}
	cmd := exec.Command(path, append(args, "--tpmstate", state)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &debian{t: t}
	d.stop = func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(sockets)
	}
	t.Cleanup(d.stop)
	d.data, d.ctrl = dialSoon(t, sockets+"/d"), dialSoon(t, sockets+"/c")
	return d
}

// dialSoon connects to a socket that is about to be there.
func dialSoon(t testing.TB, path string) net.Conn {
	t.Helper()
	for range 500 {
		if c, err := net.Dial("unix", path); err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("nobody listens on %s", path)
	return nil
}

// blob is a state as QEMU takes it.
func (d *debian) blob(kind BlobType) []byte {
	d.t.Helper()
	head := exchange(d.t, d.ctrl, unhex("0000000c 00000001 "+hexWord(uint32(kind))+" 00000000"), 16)
	b := make([]byte, binary.BigEndian.Uint32(head[12:]))
	if _, err := io.ReadFull(d.ctrl, b); err != nil {
		d.t.Fatal(err)
	}
	return b
}

const (
	shutdownClear = "8001 0000000c 00000145 0000"
	// The counter 0x01500001 of the owner is defined, and counts.
	defineCounter = "8002 0000002d 0000012a 40000001 00000009 40000009 0000 00 0000 0000 000e 01500001 000b 00020012 0000 0008"
	increment     = "8002 0000001f 00000134 40000001 01500001 00000009 40000009 0000 00 0000"
	readCounter   = "8002 00000023 0000014e 40000001 01500001 00000009 40000009 0000 00 0000 0008 0000"
)

// use makes a TPM one that can be told from others, with three counts.
func use(t testing.TB, data net.Conn) {
	t.Helper()
	for _, cmd := range []string{startupClear, defineCounter, increment, increment, increment} {
		wantRC(t, data, cmd, 0)
	}
}

// counted is how often the counter has counted.
func counted(t testing.TB, data net.Conn) int {
	t.Helper()
	rsp := command(t, data, unhex(readCounter))
	if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
		t.Fatalf("reading the counter: %#x", rc)
	}
	return int(binary.BigEndian.Uint64(rsp[16:]))
}

// TestTakeOver starts our TPM on a directory with the state of Debian's swtpm: it
// is the same TPM, the file stays as it was, and is not looked at again.
func TestTakeOver(t *testing.T) {
	dir := t.TempDir()
	d := startDebian(t, dir)
	use(t, d.data)
	wantRC(t, d.data, shutdownClear, 0)
	d.stop()
	file := filepath.Join(dir, foreignName)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, dir, nil)
	data := r.passData()
	r.control("00000002 00000000", "00000000")
	wantRC(t, data, startupClear, 0)
	if n := counted(t, data); n != 3 {
		t.Errorf("the counter is at %d", n)
	}
	wantRC(t, data, increment, 0)
	if !strings.Contains(r.log.String(), file) {
		t.Errorf("the log does not say it: %s", r.log)
	}
	r.control("0000000e", "00000000")
	if after, _ := os.ReadFile(file); !bytes.Equal(after, before) {
		t.Error("the file of swtpm was changed")
	}
	os.WriteFile(file, []byte("something else"), 0o600)
	r.control("00000002 00000000", "00000000")
	wantRC(t, data, startupClear, 0)
	if n := counted(t, data); n != 4 {
		t.Errorf("the counter is at %d the second time", n)
	}
}

// TestTakeOverRunning takes over a TPM that STORE_VOLATILE has suspended: its PCRs
// are as they were, and it is started already.
func TestTakeOverRunning(t *testing.T) {
	dir := t.TempDir()
	d := startDebian(t, dir)
	use(t, d.data)
	wantRC(t, d.data, extendPCR16, 0)
	want := command(t, d.data, unhex(readPCR16))
	exchange(t, d.ctrl, unhex("0000000a"), 4)
	d.stop()
	r := newRig(t, dir, nil)
	data := r.passData()
	r.control("00000002 00000000", "00000000")
	if got := command(t, data, unhex(readPCR16)); !bytes.Equal(got, want) {
		t.Errorf("PCR 16: %x, not %x", got, want)
	}
	wantRC(t, data, startupClear, 0x100)

	// A power loss after the volatile state was written and before the permanent one
	// was: the next time it is taken over like the first.
	r.host.Close()
	if err := os.Remove(filepath.Join(dir, permanentName)); err != nil {
		t.Fatal(err)
	}
	r = newRig(t, dir, nil)
	data = r.passData()
	r.control("00000002 00000000", "00000000")
	if got := command(t, data, unhex(readPCR16)); !bytes.Equal(got, want) {
		t.Errorf("the second time PCR 16: %x, not %x", got, want)
	}

	// Without what it needs it does not start with empty PCRs.
	other := t.TempDir()
	for _, name := range []string{foreignName, foreignVolatileName} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == foreignVolatileName {
			b[len(b)-30] ^= 1
		}
		os.WriteFile(filepath.Join(other, name), b, 0o600)
	}
	r = newRig(t, other, nil)
	r.control("00000002 00000000", "00000009")
	if !strings.Contains(r.log.String(), "the state of the running TPM") {
		t.Errorf("the log does not say why: %s", r.log)
	}
}

// TestMigrateFromDebian moves a running TPM as QEMU does.
func TestMigrateFromDebian(t *testing.T) {
	d := startDebian(t, t.TempDir())
	use(t, d.data)
	wantRC(t, d.data, extendPCR16, 0)
	want := command(t, d.data, unhex(readPCR16))
	permanent, volatile := d.blob(BlobPermanent), d.blob(BlobVolatile)
	d.stop()
	r := newRig(t, t.TempDir(), nil)
	data := r.passData()
	altered := bytes.Clone(volatile)
	altered[500] ^= 1
	if res := r.host.SetStateBlob(BlobPermanent, permanent[:len(permanent)-1], false); res != BadParameter {
		t.Errorf("a permanent state that is cut: %v", res)
	}
	for _, step := range []struct {
		kind BlobType
		b    []byte
		want Result
	}{{BlobPermanent, permanent, OK}, {BlobVolatile, altered, BadParameter}, {BlobVolatile, volatile, OK}, {BlobSaveState, nil, OK}} {
		if res := r.host.SetStateBlob(step.kind, step.b, false); res != step.want {
			t.Errorf("SetStateBlob of type %d: %v, want %v: %s", step.kind, res, step.want, r.log)
		}
	}
	r.control("00000002 00000001", "00000000")
	if got := command(t, data, unhex(readPCR16)); !bytes.Equal(got, want) {
		t.Errorf("PCR 16: %x, not %x", got, want)
	}
	if n := counted(t, data); n != 3 {
		t.Errorf("the counter is at %d", n)
	}
}

// foreignKeys are the ways in which swtpm is given a key.
var foreignKeys = map[string]struct {
	option string // of --key, with FILE for the file
	file   string
}{
	"hex 128":    {"file=FILE,format=hex,mode=aes-cbc", "0x00112233445566778899aabbccddeeff\n"},
	"hex 256":    {"file=FILE,mode=aes-256-cbc", strings.Repeat("0123456789abcdef", 4)},
	"binary 256": {"file=FILE,format=binary,mode=aes-256-cbc", "a key of two and thirty letters."},
	"pbkdf2":     {"pwdfile=FILE,mode=aes-128-cbc", "a passphrase\n"},
	"sha512":     {"pwdfile=FILE,kdf=sha512,mode=aes-256-cbc", "a passphrase"},
}

// foreignKey writes a key's file, and gives the option and the key.
func foreignKey(t testing.TB, name string) (option string, key *Key) {
	t.Helper()
	c := foreignKeys[name]
	file := filepath.Join(t.TempDir(), "key")
	os.WriteFile(file, []byte(c.file), 0o600)
	option = strings.ReplaceAll(c.option, "FILE", file)
	key, err := ReadKey(option)
	if err != nil {
		t.Fatal(err)
	}
	return option, key
}

// testDir is a state directory whose lock is held.
func testDir(t testing.TB, path string) *store.Dir {
	t.Helper()
	dir, err := store.OpenDir(path, store.Options{Mode: 0o600})
	if err == nil {
		err = dir.Lock(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Unlock() })
	return dir
}

func testEngine() tpm.Config { return tpm.Config{Clock: clock.NewSystem(), Entropy: rand.Reader} }

// TestEncrypted moves an encrypted TPM here and back, with every kind of key.
func TestEncrypted(t *testing.T) {
	for name := range foreignKeys {
		t.Run(name, func(t *testing.T) {
			dir, there := t.TempDir(), t.TempDir()
			option, key := foreignKey(t, name)
			d := startDebian(t, dir, "--key", option)
			use(t, d.data)
			wantRC(t, d.data, shutdownClear, 0)
			d.stop()
			if _, err := ReadForeign(dir, nil); !errors.Is(err, errEncrypted) {
				t.Errorf("without a key: %v", err)
			}
			wrong := testKey("another", true)
			if wrong.size = key.size; key.kdf == "" {
				wrong = testKey(strings.Repeat("x", key.size), false)
			}
			if _, err := ReadForeign(dir, wrong); !errors.Is(err, errWrongKey) {
				t.Errorf("with another key: %v", err)
			}
			f, err := ReadForeign(dir, key)
			if err != nil {
				t.Fatal(err)
			}
			mine := testDir(t, t.TempDir())
			if _, err := Import(mine, nil, testEngine(), f); err != nil {
				t.Fatal(err)
			}
			if _, err := Import(mine, nil, testEngine(), f); err == nil || !strings.Contains(err.Error(), "already") {
				t.Errorf("a second import: %v", err)
			}
			b, err := Export(mine, nil, testEngine(), key, false)
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(filepath.Join(there, foreignName), b, 0o600)
			back := startDebian(t, there, "--key", option)
			wantRC(t, back.data, startupClear, 0)
			if n := counted(t, back.data); n != 3 {
				t.Errorf("the counter is at %d", n)
			}
		})
	}
}

// TestAlteredFile: an encrypted file that was cut or altered at any byte is refused
// or gives the same state, and so is the head of one in clear.
func TestAlteredFile(t *testing.T) {
	state := bytes.Repeat([]byte("a state of a TPM"), 20)
	for name := range foreignKeys {
		_, key := foreignKey(t, name)
		file, err := encodeForeign(state, key, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeForeign(file, foreignOpener{file: key}); err != nil || !bytes.Equal(got, state) {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range file {
			if _, err := decodeForeign(file[:i], foreignOpener{file: key}); err == nil {
				t.Fatalf("%s: %d bytes", name, i)
			}
			for bit := range 8 {
				altered := bytes.Clone(file)
				altered[i] ^= 1 << bit
				if got, err := decodeForeign(altered, foreignOpener{file: key}); err == nil && !bytes.Equal(got, state) {
					t.Fatalf("%s: byte %d, bit %d: another state", name, i, bit)
				}
			}
		}
	}
	file, _ := encodeForeign(state, nil, nil)
	for i := range foreignHeader + foreignPart {
		altered := bytes.Clone(file)
		altered[i] ^= 0x10
		if got, err := decodeForeign(altered, foreignOpener{}); err == nil && !bytes.Equal(got, state) {
			t.Fatalf("byte %d: another state", i)
		}
	}
}

// TestSingleFile reads the file of swtpm's backend file://.
func TestSingleFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	os.WriteFile(file, nil, 0o600)
	d := startDebian(t, "backend-uri=file://"+file)
	use(t, d.data)
	wantRC(t, d.data, shutdownClear, 0)
	d.stop()
	f, err := ReadForeign(file, nil)
	if err != nil || f.Volatile != nil {
		t.Fatal(err)
	}
	if _, err := Import(testDir(t, t.TempDir()), nil, testEngine(), f); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(file)
	for n := range len(b) {
		if _, err := decodeLinear("state", b[:max(n, linearHeader)], nil); err == nil && n < linearHeader {
			t.Fatalf("%d bytes", n)
		}
	}
}

// TestExportOfSuspended: a running state cannot go.
func TestExportOfSuspended(t *testing.T) {
	path := t.TempDir()
	h, _ := newTestHost(t, path, nil)
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	h.Startup(false)
	if r := h.StoreVolatile(); r != OK {
		t.Fatal(r)
	}
	h.PowerOff()
	if err := h.cfg.Dir.Unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(testDir(t, path), nil, testEngine(), nil, true); err == nil || !strings.Contains(err.Error(), "suspended") {
		t.Errorf("%v", err)
	}
}

// FuzzForeignFile: no panic at what may be a file of swtpm, with a key and without.
func FuzzForeignFile(f *testing.F) {
	key := testKey(strings.Repeat("k", longKey), false)
	sealed, _ := encodeForeign([]byte("a state"), key, bytes.NewReader(make([]byte, 32)))
	plain, _ := encodeForeign([]byte("a state"), nil, nil)
	migrating := append(bytes.Clone(plain[:foreignHeader]), appendPart(nil, tagMigration, plain[foreignHeader:])...)
	migrating[5] = flagMigration
	binary.BigEndian.PutUint32(migrating[6:], uint32(len(migrating)))
	underKey := appendMigrating(f, key, sealed)
	for _, b := range [][]byte{sealed, plain, migrating, underKey, append(make([]byte, linearHeader), plain...)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, k := range []*Key{nil, key} {
			if state, err := decodeForeign(b, foreignOpener{k, k, true}); err == nil && len(state) > len(b) {
				t.Error("there is more in it than there is of it")
			}
			if isLinear(b) {
				decodeLinear("state", b, k)
			}
		}
		parseKey(b, false, shortKey)
		parseKeyOption(string(b))
	})
}

// TestSetup takes over what Debian's swtpm_setup has made: the same endorsement
// keys, and their certificates, byte for byte.
func TestSetup(t *testing.T) {
	setup, err := exec.LookPath("swtpm_setup")
	if err != nil {
		t.Skip("there is no swtpm_setup: install the package swtpm-tools")
	}
	dir := t.TempDir()
	if out, err := exec.Command(setup, "--tpm", "/usr/bin/swtpm socket", "--tpm2", "--tpmstate", dir, "--createek",
		"--create-ek-cert", "--create-platform-cert", "--lock-nvram").CombinedOutput(); err != nil {
		t.Skipf("swtpm_setup cannot make certificates here: %v\n%s", err, out)
	}
	mine := t.TempDir()
	f, err := ReadForeign(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	held := testDir(t, mine)
	if _, err := Import(held, nil, testEngine(), f); err != nil {
		t.Fatal(err)
	}
	held.Unlock()
	h, _ := newTestHost(t, mine, nil)
	d := startDebian(t, dir)
	for _, cmd := range []string{
		startupClear,
		"8001 0000000e 00000173 81010001", "8001 0000000e 00000173 81010016",
		"8001 0000000e 00000169 01c00002", "8001 0000000e 00000169 01c00016", "8001 0000000e 00000169 01c08000",
		"8002 00000023 0000014e 01c00002 01c00002 00000009 40000009 0000 00 0000 0200 0000",
		"8002 00000023 0000014e 01c00016 01c00016 00000009 40000009 0000 00 0000 0200 0000",
		"8002 00000023 0000014e 01c08000 01c08000 00000009 40000009 0000 00 0000 0200 0000",
	} {
		if err := h.Start(); err != nil {
			t.Fatal(err)
		}
		want, got := command(t, d.data, unhex(cmd)), h.Execute(0, unhex(cmd), nil)
		if !bytes.Equal(got, want) || binary.BigEndian.Uint32(got[6:]) != 0 {
			t.Errorf("%s: %x, not %x", cmd, got, want)
		}
	}
}

// appendMigrating makes of a file of swtpm's a blob that migrates under a key.
func appendMigrating(t testing.TB, key *Key, file []byte) []byte {
	t.Helper()
	c, err := key.cbc()
	if err != nil {
		t.Fatal(err)
	}
	body, err := c.seal(file[foreignHeader:], rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(file[:foreignHeader])
	for rest := body; len(rest) > 0; { // the same parts, with the tags of a migration
		n := foreignPart + int(binary.BigEndian.Uint32(rest[2:]))
		tag := binary.BigEndian.Uint16(rest)
		switch tag {
		case tagEncrypted:
			tag = tagEncryptedMigration
		case tagIV:
			tag = tagMigrationIV
		}
		b, rest = appendPart(b, tag, rest[foreignPart:n]), rest[n:]
	}
	b[5] |= flagMigration | flagMigrationKey
	if len(c.bytes) == longKey {
		b[5] |= flagLongMigrationKey
	}
	binary.BigEndian.PutUint32(b[6:], uint32(len(b)))
	return b
}
