package agent

import (
	"crypto/ecdsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/keybroker"
	"github.com/ashlar-cloud/ashlar/rats"
	own "github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier"
	scheme "github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
)

// emulator starts Debian's swtpm, a TPM that is not ours, on a socket.
func emulator(t *testing.T) TPM {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is not installed (Debian package swtpm): there is no TPM to collect from")
	}
	dir, err := os.MkdirTemp("", "ashlar") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "s")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "startup-clear",
		"--server", "type=unixio,path="+sock, "--ctrl", "type=unixio,path="+sock+".ctrl")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 100 {
		if c, err := net.Dial("unix", sock+".ctrl"); err == nil {
			c.Close()
			if c, err := OpenTPM("unix:" + sock); err == nil {
				t.Cleanup(func() { c.Close() })
				return c
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("swtpm does not answer")
	return nil
}

// machine boots on a TPM: it measures and logs as firmware and kernel do.
type machine struct {
	t      *testing.T
	tpm    TPM
	events []byte
	ima    []byte
	dir    string
}

func boot(t *testing.T, tpm TPM) *machine {
	m := &machine{t: t, tpm: tpm, dir: t.TempDir()}
	// The Spec ID header of a crypto-agile log with one bank, SHA-256.
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0)
	m.events = binary.LittleEndian.AppendUint32(m.events, 0)
	m.events = binary.LittleEndian.AppendUint32(m.events, 3)
	m.events = append(m.events, make([]byte, 20)...)
	m.events = binary.LittleEndian.AppendUint32(m.events, uint32(len(spec)))
	m.events = append(m.events, spec...)
	return m
}

func (m *machine) extend(pcr int, digest []byte) {
	m.t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest}}},
	}.Execute(m.tpm)
	if err != nil {
		m.t.Fatal(err)
	}
}

// event measures as firmware does. Type 13 is EV_IPL.
func (m *machine) event(pcr int, text string) {
	d := sha256.Sum256([]byte(text))
	m.extend(pcr, d[:])
	for _, v := range []uint32{uint32(pcr), 13, 1} {
		m.events = binary.LittleEndian.AppendUint32(m.events, v)
	}
	m.events = append(append(m.events, 0x0b, 0), d[:]...)
	m.events = binary.LittleEndian.AppendUint32(m.events, uint32(len(text)))
	m.events = append(m.events, text...)
}

// run measures a file as IMA does, template ima-ng.
func (m *machine) run(path, content string) {
	d := sha256.Sum256([]byte(content))
	field := func(b []byte, parts ...string) []byte {
		s := strings.Join(parts, "")
		return append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	data := field(field(nil, "sha256:\x00", string(d[:])), path, "\x00")
	hash := sha1.Sum(data)
	m.ima = append(binary.LittleEndian.AppendUint32(m.ima, 10), hash[:]...)
	m.ima = field(m.ima, "ima-ng")
	m.ima = field(m.ima, string(data))
	full := sha256.Sum256(data)
	m.extend(10, full[:])
}

func (m *machine) write(name string, b []byte) string {
	m.t.Helper()
	p := filepath.Join(m.dir, name)
	if err := os.WriteFile(p, b, 0o600); err != nil {
		m.t.Fatal(err)
	}
	return p
}
