package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
)

// issuerFiles are a CA for tests, and keys that it can certify.
type issuerFiles struct {
	dir, key, cert string
	modulus, x, y  string // of an RSA key, and of one on P-384
}

func newIssuer(t *testing.T) issuerFiles {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := identity.NewAuthority(rand.Reader, "test CA", key, nil, nil, time.Now().UTC())
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := identity.MarshalPrivateKey(rand.Reader, key, "")
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 2046)) // nobody has the key, nor need have it
	if err != nil {
		t.Fatal(err)
	}
	n.SetBit(n.SetBit(n, 2047, 1), 0, 1)
	for name, k := range map[string]any{"rsa.pem": &rsa.PublicKey{N: n, E: 65537}, "ec.pem": &ec.PublicKey} {
		spki, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})))
	}
	return issuerFiles{dir: dir,
		key:     write(t, filepath.Join(dir, "ca.key"), string(keyPEM)),
		cert:    write(t, filepath.Join(dir, "ca.pem"), string(pemCertificate(der))),
		modulus: fmt.Sprintf("%X", n.Bytes()),
		x:       fmt.Sprintf("%x", point[1:49]), y: fmt.Sprintf("%x", point[49:])}
}

const (
	tpmArgs  = "--tpm2 --tpm-manufacturer id:00001014 --tpm-model swtpm --tpm-version id:20191023"
	specArgs = " --tpm-spec-family 2.0 --tpm-spec-level 0 --tpm-spec-revision 164"
	platArgs = " --type platform --platform-manufacturer Fedora --platform-model QEMU --platform-version 2.1"
)

// args makes a command line of words, with the names of files and keys filled in.
func (f *issuerFiles) args(line string) []string {
	list := strings.Fields(line)
	for i, word := range list {
		list[i] = strings.NewReplacer("DIR", f.dir, "RSA", f.modulus, "ECX", f.x, "ECY", f.y).Replace(word)
	}
	return append(list, "--signkey", f.key, "--issuercert", f.cert)
}

// TestCertIsDebians: certificates are those of Debian's swtpm_cert, field by
// field, but for serial numbers, times, key identifiers and signatures.
func TestCertIsDebians(t *testing.T) {
	theirs := debian(t, "swtpm_cert")
	f := newIssuer(t)
	for _, line := range []string{
		tpmArgs + specArgs + " --modulus RSA",
		tpmArgs + specArgs + " --modulus RSA --exponent 0x10003 --days 10 --serial 18",
		tpmArgs + specArgs + " --modulus RSA --allow-signing --days -1",
		tpmArgs + specArgs + " --modulus RSA --allow-signing --decryption --pem",
		tpmArgs + specArgs + " --modulus RSA --decryption --subject C=US,ST=NY,L=NewYork",
		tpmArgs + specArgs + " --pubkey DIR/rsa.pem --subject CN=vm_1:uuid",
		tpmArgs + specArgs + " --ecc-x ECX --ecc-y ECY --ecc-curveid secp384r1",
		tpmArgs + specArgs + " --ecc-x ECX --ecc-y ECY --ecc-curveid secp384r1 --allow-signing",
		tpmArgs + specArgs + " --ecc-x ECX --ecc-y ECY --ecc-curveid secp384r1 --allow-signing --decryption",
		tpmArgs + " -type EK -tpm-spec-family=1.2 --tpm-spec-level 4294967295 --tpm-spec-revision 0x74 --modulus RSA stray",
		tpmArgs + platArgs + " --modulus RSA",
		tpmArgs + platArgs + " --modulus RSA --allow-signing",
		tpmArgs + platArgs + " --ecc-x ECX --ecc-y ECY --ecc-curveid secp384r1",
		tpmArgs + platArgs + specArgs + " --modulus RSA --subject CN=a,OU=b --serial 18446744073709551",
	} {
		a, b := filepath.Join(f.dir, "ours"), filepath.Join(f.dir, "theirs")
		mustCall(t, "swtpm_cert", append(f.args(line), "--out-cert", a)...)
		mustRun(t, nil, theirs, append(f.args(line), "--out-cert", b)...)
		compare(t, line, readCert(t, a), readCert(t, b))
		if strings.Contains(line, "--serial") && readCert(t, a).SerialNumber.Cmp(readCert(t, b).SerialNumber) != 0 {
			t.Errorf("%s: serial number %v", line, readCert(t, a).SerialNumber)
		}
		if info, err := os.Stat(a); err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		_ = os.Remove(a)
		_ = os.Remove(b)
	}
}

// TestCertHeader: the header before a certificate is Debian's, and what goes to
// standard output is what would go to a file.
func TestCertHeader(t *testing.T) {
	theirs := debian(t, "swtpm_cert")
	f := newIssuer(t)
	line := tpmArgs + specArgs + " --modulus RSA --add-header --serial 300"
	mustRun(t, nil, theirs, append(f.args(line), "--out-cert", filepath.Join(f.dir, "theirs"))...)
	b, err := os.ReadFile(filepath.Join(f.dir, "theirs"))
	if err != nil {
		t.Fatal(err)
	}
	ours := mustCall(t, "swtpm_cert", f.args(line)...)
	for who, c := range map[string]string{"ours": ours, "swtpm's": string(b)} {
		// The signature's length, and so the size, varies.
		if got, want := fmt.Sprintf("%x", c[:7]), fmt.Sprintf("100100%04x1002", len(c)-5); got != want {
			t.Errorf("%s: %s, want %s", who, got, want)
		}
	}
	if out := mustCall(t, "swtpm_cert", f.args(tpmArgs+specArgs+" --modulus RSA --pem")...); !strings.HasPrefix(out, "-----BEGIN CERTIFICATE") {
		t.Errorf("%q", out)
	}
}

// TestCertElliptic: a key of --pubkey is certified for what it can do; swtpm
// takes every such key for an RSA key.
func TestCertElliptic(t *testing.T) {
	f := newIssuer(t)
	out := filepath.Join(f.dir, "out")
	mustCall(t, "swtpm_cert", append(f.args(tpmArgs+specArgs+" --pubkey DIR/ec.pem"), "--out-cert", out)...)
	if c := readCert(t, out); c.KeyUsage != x509.KeyUsageKeyAgreement {
		t.Errorf("key usage %v", c.KeyUsage)
	}
}

// TestCertIAK: certificates that Debian's version does not make, with OpenSSL to
// read them.
func TestCertIAK(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is missing")
	}
	f := newIssuer(t)
	for _, kind := range []string{"iak", "IDevID"} {
		out := filepath.Join(f.dir, "out")
		mustCall(t, "swtpm_cert", append(f.args("--tpm2 --tpm-serial-num 0815 --subject serialNumber=vm --ecc-x ECX --ecc-y ECY --ecc-curveid secp384r1 --type "+kind),
			"--out-cert", out)...)
		c := readCert(t, out)
		if c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.UnknownExtKeyUsage) > 0 || c.Subject.SerialNumber != "vm" {
			t.Errorf("%s: %v %v %v", kind, c.KeyUsage, c.UnknownExtKeyUsage, c.Subject)
		}
		mustRun(t, nil, "openssl", "verify", "-CAfile", f.cert, out)
		text := mustRun(t, nil, "openssl", "x509", "-in", out, "-noout", "-ext", "subjectAltName")
		if !strings.Contains(text, "1.3.6.1.5.5.7.8.4") && !strings.Contains(text, "hardwareModuleName") && !strings.Contains(text, "Hardware") {
			t.Errorf("%s: %s", kind, text)
		}
	}
}

// TestCertPasswords: each way to give the password of the signing key.
func TestCertPasswords(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is missing")
	}
	f := newIssuer(t)
	plain := f.key
	f.key = filepath.Join(f.dir, "encrypted.key")
	mustRun(t, nil, "openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", plain, "-passout", "pass:se:cret", "-out", f.key)
	file := write(t, filepath.Join(f.dir, "password"), "se:cret")
	ended := write(t, filepath.Join(f.dir, "ended"), "se:cret\x00more")
	t.Setenv("TEST_PASSWORD", "se:cret")
	line := tpmArgs + specArgs + " --modulus RSA --out-cert DIR/out "
	for _, how := range []string{"--signkey-password se:cret", "--signkey-pwd se:cret", "--signkey-pwd pass:se:cret", "--signkey-pwd file:" + file,
		"--signkey-pwd file:" + ended, "--signkey-pwd env:TEST_PASSWORD", "--signkey-password wrong --signkey-pwd se:cret --parentkey-pwd file:none --parentkey-password x"} {
		mustCall(t, "swtpm_cert", f.args(line+how)...)
	}
	r, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := syscall.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	mustCall(t, "swtpm_cert", f.args(line+fmt.Sprintf("--signkey-pwd fd:%d", fd))...)
	for how, words := range map[string]string{
		"": "no password", "--signkey-password x": "is not the private key's", "--signkey-pwd env:NO_SUCH": "NO_SUCH",
		"--signkey-pwd file:" + f.dir + "/absent": "absent", "--signkey-pwd fd:x": "'x'", "--signkey-pwd fd:9999": "password",
	} {
		out, errs, code := call("swtpm_cert", f.args(line+how)...)
		oneSentence(t, how, words, out, errs, code)
	}
}

func TestCertRefuses(t *testing.T) {
	f := newIssuer(t)
	good := tpmArgs + specArgs + " --modulus RSA "
	write(t, filepath.Join(f.dir, "junk"), "junk")
	write(t, filepath.Join(f.dir, "badkey"), "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
	if err := os.Symlink("target", filepath.Join(f.dir, "link")); err != nil {
		t.Fatal(err)
	}
	other := newIssuer(t)
	for _, c := range []struct{ line, words string }{
		{"", "--tpm2"},
		{strings.Replace(good, "--tpm2", "", 1), "TPM 1.2"},
		{tpmArgs + specArgs, "no key"},
		{good + "--nonsense", "--nonsense"},
		{good + "--pubkey DIR/rsa.pem", "one key"},
		{good + "--ecc-x 00", "one key"},
		{tpmArgs + specArgs + " --pubkey DIR/absent", "absent"},
		{tpmArgs + specArgs + " --pubkey DIR/junk", "PUBLIC KEY"},
		{tpmArgs + specArgs + " --pubkey DIR/badkey", "damaged"},
		{tpmArgs + specArgs + " --ecc-x ECX", "both"},
		{tpmArgs + specArgs + " --ecc-curveid secp384r1", "both"},
		{tpmArgs + specArgs + " --ecc-x ECX --ecc-y ECY", "curve"},
		{tpmArgs + specArgs + " --ecc-x ECX --ecc-y ECX --ecc-curveid secp384r1", "not on its curve"},
		{tpmArgs + specArgs + " --ecc-x ECX --ecc-y ECY --ecc-curveid secp224r1", "secp224r1"},
		{tpmArgs + specArgs + " --ecc-x 0g --ecc-y 00", "--ecc-x"},
		{tpmArgs + specArgs + " --modulus abc", "odd"},
		{tpmArgs + specArgs + " --modulus abcg", "hexadecimal"},
		{tpmArgs + specArgs + " --modulus c0ffee", "24 bits"},
		{tpmArgs + specArgs + " --modulus " + strings.Repeat("ab", maxHex), "more than"},
		{good + "--exponent 4", "--exponent"},
		{good + "--exponent 0", "--exponent"},
		{good + "--exponent 4294967296", "32 bits"},
		{good + "--exponent x", "'x'"},
		{good + "--days x", "--days"},
		{good + "--days -2", "--days"},
		{good + "--days 2147483647", "9999"},
		{good + "--serial 0x10", "--serial"},
		{good + "--serial -1", "--serial"},
		{good + "--serial " + strings.Repeat("9", 49), "20 bytes"},
		{good + "--type aik", "aik"},
		{good + "--type platform", "--platform-model"},
		{"--tpm2 --type iak --modulus RSA", "--tpm-serial-num"},
		{tpmArgs + " --modulus RSA", "--tpm-spec-level"},
		{"--tpm2 --modulus RSA" + specArgs, "--tpm-model"},
		{good + "--tpm-spec-level -1", "--tpm-spec-level"},
		{good + "--subject a", "--subject"},
		{good + "--subject CN=a+O=b", "'+'"},
		{good + "--out-cert DIR/absent/x", "absent"},
		{good + "--out-cert DIR/link", "link"},
		{good + "--signkey DIR/absent", "absent"},
		{good + "--signkey DIR/junk", "no private key"},
		{good + "--signkey pkcs11:object=x", "token="},
		{good + "--signkey pkcs11:token=x", "object="},
		{good + "--signkey pkcs11:token=%zz;object=x", "'token'"},
		{good + "--signkey pkcs11:token=x;object=y?module-path=y", "module-path"},
		{good + "--signkey pkcs11:token=x;object=y", "SWTPM_PKCS11_PIN"},
		{good + "--signkey tpmkey:uuid=x", "tpmkey:"},
		{good + "--issuercert DIR/junk", "junk"},
		{good + "--issuercert DIR/absent", "absent"},
		{good + "--issuercert " + other.cert, "another key"},
	} {
		args := f.args(c.line)
		if i := len(args) - 4; strings.Contains(c.line, "--signkey ") || strings.Contains(c.line, "--issuercert ") {
			args = append(args[i:], args[:i]...) // the last one counts
		}
		out, errs, code := call("swtpm_cert", args...)
		oneSentence(t, c.line, c.words, out, errs, code)
	}
	for missing, args := range map[string][]string{
		"--signkey":    strings.Fields(good + "--issuercert x"),
		"--issuercert": strings.Fields(good + "--signkey x"),
	} {
		out, errs, code := call("swtpm_cert", args...)
		oneSentence(t, missing, missing+" is missing", out, errs, code)
	}
}

// TestPrinted: what other programs parse.
func TestPrinted(t *testing.T) {
	for tool := range tools() {
		if out := mustCall(t, tool, "--version"); !strings.Contains(out, " version 0.") || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: %q", tool, out)
		}
		if out := mustCall(t, tool, "--print-capabilities"); !strings.HasPrefix(out, `{ "type": "`+tool+`", "features": [ "`) {
			t.Errorf("%s: %q", tool, out)
		}
		if out := mustCall(t, tool, "--help"); !strings.HasPrefix(out, "Usage: "+tool) {
			t.Errorf("%s: %q", tool, out)
		}
	}
}
