package swtpm

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/seal"
)

// testKey is a key that nobody has read from a file.
func testKey(secret string, passphrase bool) *Key {
	k := &Key{secret: []byte(secret), size: len(secret)}
	if passphrase {
		k.kdf, k.size = "pbkdf2", longKey
	}
	k.seal = seal.NewKey(k.secret, passphrase)
	return k
}

// pipeWith is a descriptor to read content from, whose other end stays open.
func pipeWith(t testing.TB, content string) int {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fds[1]) })
	if _, err := syscall.Write(fds[1], []byte(content)); err != nil {
		t.Fatal(err)
	}
	return fds[0]
}

// TestReadKey reads keys in each way that swtpm has, and leaves neither a descriptor
// open nor a file that was to be removed.
func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		os.WriteFile(path, []byte(content), 0o600)
		return path
	}
	const hex128, hex256 = "00112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
	const raw128, raw256 = "0123456789abcdef", "0123456789abcdef0123456789abcdef"
	decoded := string(unhex(hex256))
	long := strings.Repeat("a passphrase ", 500)
	for _, c := range []struct {
		option, content, secret string
		size                    int
		passphrase              bool
	}{
		{"file=FILE", hex128, decoded[:16], 16, false},
		{"file=FILE,format=hex,mode=aes-128-cbc", "0x" + hex128 + "\nwhat follows", decoded[:16], 16, false},
		{"mode=aes-256-cbc,file=FILE", hex256 + "\n", decoded, 32, false},
		{"file=FILE,format=binary,mode=aes-cbc", raw128, raw128, 16, false},
		{"file=FILE,format=binary,mode=aes-256-cbc", raw256, raw256, 32, false},
		{"file=FILE,format=binary,mode=aes-256-cbc", raw128, raw128, 16, false}, // as swtpm
		{"fd=FD,mode=aes-256-cbc", hex256, decoded, 32, false},
		{"pwdfile=FILE", "secret\n", "secret\n", 16, true},
		{"pwdfd=FD,mode=aes-256-cbc", "secret", "secret", 32, true},
		{"pwdfd=FD,mode=aes-256-cbc,kdf=sha512,remove", long, long, 32, true},
		{",pwdfile=FILE,,remove=1,", "secret", "secret", 16, true},
		{"file=FILE,remove=TRUE", hex128, decoded[:16], 16, false},
		{"file=FILE,pwdfile=/absent,kdf=none,file=/absent", hex128, decoded[:16], 16, false}, // the first counts
		{"file=FILE,remove=false,remove=true", hex128, decoded[:16], 16, false},
	} {
		path := write("key", c.content)
		fd := pipeWith(t, c.content)
		option := strings.ReplaceAll(strings.ReplaceAll(c.option, "FILE", path), "FD", strconv.Itoa(fd))
		k, err := ReadKey(option)
		if err != nil {
			t.Errorf("%s: %v", c.option, err)
			continue
		}
		if string(k.secret) != c.secret || k.size != c.size || (k.kdf != "") != c.passphrase {
			t.Errorf("%s: the key %q of %d bytes (%s)", c.option, k.secret, k.size, k.kdf)
		}
		removed := strings.Contains(c.option, "FILE") && strings.Contains(c.option, "remove") && !strings.Contains(c.option, "remove=false")
		if _, err := os.Stat(path); (err != nil) != removed {
			t.Errorf("%s: the file afterwards: %v", c.option, err)
		}
		if open := syscall.Close(fd) == nil; open == strings.Contains(c.option, "FD") {
			t.Errorf("%s: the descriptor is open afterwards: %v", c.option, open)
		}
	}
}

// TestReadKeyRefused: what swtpm refuses, and no file is removed then, but a
// descriptor closed.
func TestReadKeyRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, c := range []struct{ option, content, says string }{
		{"", "", "read from file=FILE, fd=N"},
		{"mode=aes-cbc", "", "read from file=FILE, fd=N"},
		{"file=FILE,colour=red", "", `a key has no "colour=red"`},
		{"pwdfile=", "", `a key has no "pwdfile="`},
		{"fd=x", "", "fd=x is no descriptor"},
		{"fd=99", "", "descriptor 99 cannot be read: bad file descriptor"},
		{"file=FILE", "0123", "2 bytes, not the 16"},
		{"file=FILE", strings.Repeat("0", 31), "not written in hexadecimal"},
		{"file=FILE", "", "not written in hexadecimal"},
		{"file=FILE", strings.Repeat("0", 34), "17 bytes, not the 16"},
		{"file=FILE,mode=aes-256-cbc", strings.Repeat("0", 32), "16 bytes, not the 32"},
		{"fd=FD,format=binary", strings.Repeat("0", 32), "32 bytes, not the 16"},
		{"file=FILE,format=binary,mode=aes-256-cbc", strings.Repeat("0", 20), "20 bytes, not the 32"},
		{"file=FILE,format=base64", "", `no format "base64"`},
		{"pwdfile=FILE,format=base64,remove=true", "secret", `no format "base64"`},
		{"file=FILE,mode=aes-192-cbc", "", `no mode "aes-192-cbc"`},
		{"pwdfd=FD,kdf=md5", "secret", `no kdf "md5"`},
		{"pwdfile=FILE/absent", "", "not a directory"},
		{"pwdfile=FILE", "", "the passphrase is empty"},
		{"pwdfile=FILE,remove=true", strings.Repeat("x", maxPassphrase+1), "more than 65536 bytes"},
		{"pwdfile=/dev/zero", "", "more than 65536 bytes"},
	} {
		os.WriteFile(path, []byte(c.content), 0o600)
		fd := pipeWith(t, c.content[:min(len(c.content), 1000)])
		option := strings.ReplaceAll(strings.ReplaceAll(c.option, "FILE", path), "FD", strconv.Itoa(fd))
		if _, err := ReadKey(option); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.option, err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q: the file is gone", c.option)
		}
		if open := syscall.Close(fd) == nil; open == strings.Contains(c.option, "FD") {
			t.Errorf("%q: the descriptor is open afterwards: %v", c.option, open)
		}
	}
}
