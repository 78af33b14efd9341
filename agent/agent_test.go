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
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
	"github.com/ashlar-cloud/ashlar/verifier/scheme/tpm"
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

// exchange runs a whole attestation and gives its outcome, the attester's key
// and the bundle.
func (m *machine) exchange(v *verifier.Verifier, refs []byte) (*verifier.Outcome, *ecdsa.PrivateKey, []byte, rats.Nonce) {
	t := m.t
	t.Helper()
	doc, err := Identify(m.tpm)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	_, ek, ak, err := identity.ParseDocument(raw)
	if err != nil {
		t.Fatal(err)
	}
	nonce, err := rats.NewNonce(nil)
	if err != nil {
		t.Fatal(err)
	}
	msg, state, err := identity.Issue(ek, ak, nonce, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := rats.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := Collect(m.tpm, Options{Nonce: nonce, Challenge: msg, Key: &key.PublicKey, Now: time.Now(),
		EventLog: m.write("events", m.events), IMALog: m.write("ima", m.ima)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(bundle)
	if err != nil {
		t.Fatal(err)
	}
	var values []rats.ReferenceValue
	if refs != nil {
		values = append(values, rats.ReferenceValue{Type: rats.TypeReferenceValues, Data: refs})
	}
	out, err := v.Appraise(rats.Evidence{Type: rats.TypeTPMEvidence, Data: b},
		[]rats.Endorsement{{Type: rats.TypePublicKey, Data: doc.EKPublic}}, values,
		verifier.Session{Nonce: nonce, Now: time.Now(), Challenge: &identity.Challenge{
			Secret: state.Secret, EKName: ek.Name(), AKName: ak.Name()}})
	if err != nil {
		t.Fatal(err)
	}
	return out, key, b, nonce
}

// TestExchange attests a machine on another's TPM: a good boot becomes the
// reference, the same boot is affirmed and given a secret, and then a program
// that no reference lists is refused by its name.
func TestExchange(t *testing.T) {
	m := boot(t, emulator(t))
	m.event(8, "kernel_cmdline: quiet")
	m.event(4, "the boot loader")
	m.run("/sbin/init", "init")
	vk, err := rats.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := rats.NewSigner(vk)
	if err != nil {
		t.Fatal(err)
	}
	v := verifier.New(signer, verifier.Options{Issuer: "test"})

	out, _, bundle, _ := m.exchange(v, nil)
	if out.Appraisal.Verdict != scheme.Valid || out.Result.Status() != rats.TierNone {
		t.Fatalf("without references: %s, %s: %v", out.Appraisal.Verdict, out.Result.Status(), out.Appraisal.Why())
	}
	ev, err := tpm.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	made, err := tpm.MakeReferences([]*tpm.Evidence{ev}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	refs, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}

	out, key, _, nonce := m.exchange(v, refs)
	if out.Result.Status() != rats.TierAffirming {
		t.Fatalf("the same boot: %s, %v %v", out.Result.Status(), out.Appraisal.Vector, out.Appraisal.Claims)
	}
	broker, err := keybroker.Open(filepath.Join(m.dir, "secrets"))
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Put("disk", []byte("open sesame"), keybroker.Rule{PolicyID: tpm.ReferencesID(refs)}); err != nil {
		t.Fatal(err)
	}
	trust := keybroker.Trust{Keys: []*ecdsa.PublicKey{signer.Public()}, Issuer: "test", Nonce: nonce, Now: time.Now()}
	sealed, err := broker.Release("disk", out.EAR, trust)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keybroker.OpenSealed(sealed, key); err != nil || string(got) != "open sesame" {
		t.Errorf("the secret came out as %q: %v", got, err)
	}

	m.run("/tmp/evil", "evil")
	out, _, _, nonce = m.exchange(v, refs)
	why := strings.Join(out.Appraisal.Why(), "\n")
	if out.Result.Status() != rats.TierContraindicated || !strings.Contains(why, "/tmp/evil") || out.Appraisal.Reason != scheme.ReasonFile {
		t.Errorf("an unlisted program: %s (%s): %s", out.Result.Status(), out.Appraisal.Reason, why)
	}
	trust.Nonce = nonce
	if _, err := broker.Release("disk", out.EAR, trust); err == nil || !strings.Contains(err.Error(), "/tmp/evil") {
		t.Errorf("released, or refused without the file's name: %v", err)
	}
}

// TestCollectRefuses asks for what a TPM must not give.
func TestCollectRefuses(t *testing.T) {
	m := boot(t, emulator(t))
	doc, err := Identify(m.tpm)
	if err != nil {
		t.Fatal(err)
	}
	ek, err := identity.ParsePublic(doc.EKPublic)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := identity.ParsePublic(doc.AKPublic)
	if err != nil {
		t.Fatal(err)
	}
	msg, _, err := identity.Issue(ek, ak, rats.Nonce("nonce"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	altered := *msg
	altered.Credential.Blob = append([]byte(nil), msg.Credential.Blob...)
	altered.Credential.Blob[10] ^= 1
	other := *msg
	other.AKName = strings.Repeat("00", 34)
	for name, c := range map[string]*identity.ChallengeMessage{"altered credential": &altered, "other AK": &other} {
		if _, err := Collect(m.tpm, Options{Nonce: rats.Nonce("nonce"), Challenge: c, Now: time.Now()}); err == nil {
			t.Errorf("%s: collected", name)
		}
	}
	if _, err := Collect(m.tpm, Options{Nonce: rats.Nonce("n"), Banks: []own.AlgID{own.AlgSM3256}, Now: time.Now()}); err == nil {
		t.Error("quoted a bank that there is not")
	}
	// All banks at once, in an order of one's own.
	b, err := Collect(m.tpm, Options{Nonce: rats.Nonce("n"), Banks: []own.AlgID{own.AlgSHA256, own.AlgSHA1}, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	var at own.Attest
	if err := own.Unmarshal(b.Quotes[0].Message, &at); err != nil || len(at.Quote.Select) != 2 || len(b.Quotes[0].PCRs[own.AlgSHA1]) != 24 {
		t.Errorf("quote over two banks: %v %+v", err, at.Quote.Select)
	}
}

func TestOpenTPM(t *testing.T) {
	for _, bad := range []string{"/nonexistent", "/etc/hostname", "unix:/nonexistent", "swtpm:colour=red", "tcp:127.0.0.1:1"} {
		if c, err := OpenTPM(bad); err == nil {
			c.Close()
			t.Errorf("%s was opened", bad)
		}
	}
	// An answer that is not TPM 2.0's is refused at once.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()
	c, err := OpenTPM("tcp:" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Send([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x43}); err == nil || !strings.Contains(err.Error(), "does not speak") {
		t.Errorf("an answer of another protocol: %v", err)
	}
}
