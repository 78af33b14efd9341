package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/ashlar-cloud/ashlar/identity"
)

// caFiles are the configuration of a CA that is not there yet.
type caFiles struct{ dir, state, config, options string }

func newCA(t *testing.T, more string) caFiles {
	t.Helper()
	dir := t.TempDir()
	c := caFiles{dir: dir, state: filepath.Join(dir, "a", "ca"), config: filepath.Join(dir, "localca.conf"), options: filepath.Join(dir, "localca.options")}
	write(t, c.config, strings.ReplaceAll("statedir = STATE\nsigningkey=STATE/signkey.pem # a comment\n"+
		"issuercert \t=   STATE/issuercert.pem  \ncertserial = STATE/certserial\n"+more, "STATE", c.state))
	write(t, c.options, "--platform-manufacturer Fedora\n  --platform-version 2.1 \r\n\n--platform-model QEMU --tpm-model other\n")
	return c
}

func (c *caFiles) args(kind, key string, more ...string) []string {
	return append([]string{"--type", kind, "--ek", key, "--dir", c.dir, "--vmid", "vm,1+a:b", "--configfile", c.config, "--optsfile", c.options,
		"--tpm-spec-family", "2.0", "--tpm-spec-level", "0", "--tpm-spec-revision", "164",
		"--tpm-manufacturer", "id:00001014", "--tpm-model", "swtpm", "--tpm-version", "id:20191023", "--tpm2"}, more...)
}

func (c *caFiles) file(name string) string { return filepath.Join(c.state, name) }

// ready puts another CA's key and certificate there, so that none is made.
func (c *caFiles) ready(t *testing.T, f issuerFiles) {
	t.Helper()
	if err := os.MkdirAll(c.state, 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{f.key: "signkey.pem", f.cert: "issuercert.pem"} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, c.file(to), string(b))
	}
}

// verify has OpenSSL follow the path from a certificate to the root.
func (c *caFiles) verify(t *testing.T, cert string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is missing")
	}
	out := filepath.Join(c.dir, "leaf.pem")
	mustRun(t, nil, "openssl", "x509", "-inform", "der", "-in", cert, "-out", out)
	// The attributes are in a critical alternative name that OpenSSL does not handle.
	mustRun(t, nil, "openssl", "verify", "-ignore_critical", "-CAfile", c.file(rootFile), "-untrusted", c.file("issuercert.pem"), out)
}

// TestLocalcaIsDebians: with the same inputs, the certificates, the CA and the
// files are those of Debian's swtpm_localca.
func TestLocalcaIsDebians(t *testing.T) {
	theirs := debian(t, "swtpm_localca")
	f := newIssuer(t)
	a, b := newCA(t, ""), newCA(t, "")
	point := fmt.Sprintf("x=%s,y=%s,id=secp384r1", f.x, f.y)
	for i, c := range []struct {
		kind, key string
		more      []string
	}{
		{"ek", f.modulus, nil},
		{"ek", f.modulus, []string{"--allow-signing", "--decryption"}},
		{"ek", point, []string{"--allow-signing"}},
		{"platform", f.modulus, []string{"--allow-signing", "--vmid", `a\+b`}},
		{"platform", point, nil},
	} {
		what := fmt.Sprintf("case %d", i)
		said := mustCall(t, "swtpm_localca", a.args(c.kind, c.key, c.more...)...)
		want := mustRun(t, nil, theirs, b.args(c.kind, c.key, c.more...)...)
		if said != strings.ReplaceAll(want, b.state, a.state) {
			t.Errorf("%s: says %q, swtpm %q", what, said, want)
		}
		name := c.kind + ".cert"
		compare(t, what, readCert(t, filepath.Join(a.dir, name)), readCert(t, filepath.Join(b.dir, name)))
		a.verify(t, filepath.Join(a.dir, name))
	}
	for _, name := range []string{"issuercert.pem", rootFile} {
		ours, swtpms := describe(readCert(t, a.file(name))), describe(readCert(t, b.file(name)))
		for _, d := range []map[string]string{ours, swtpms} {
			delete(d, "key")
		}
		if fmt.Sprint(ours) != fmt.Sprint(swtpms) {
			t.Errorf("%s: %v\nswtpm's: %v", name, ours, swtpms)
		}
		if bits := readCert(t, a.file(name)).PublicKey.(interface{ Size() int }).Size() * 8; bits != keyBits {
			t.Errorf("%s: %d bits", name, bits)
		}
	}
	if ours, swtpms := listing(t, a.dir), listing(t, b.dir); !slices.Equal(ours, swtpms) {
		t.Errorf("files %q\nswtpm's %q", ours, swtpms)
	}
	mustCall(t, "swtpm_localca", a.args("ek", f.modulus)...)
	mustRun(t, nil, theirs, b.args("ek", f.modulus)...)
	shareCA(t, theirs, f, a, b)
}

// listing is the files below a folder with their modes.
func listing(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !strings.HasSuffix(path, "leaf.pem") {
			list = append(list, fmt.Sprint(strings.TrimPrefix(path, dir), " ", info.Mode()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestLocalcaPasswords: the keys of a CA are encrypted where there are passwords
// for them, and open to both programs.
func TestLocalcaPasswords(t *testing.T) {
	theirs := debian(t, "swtpm_localca")
	t.Setenv("SWTPM_ROOTCA_PASSWORD", "root secret")
	const password = "signingkey_password = sign secret\n"
	f, a, b := newIssuer(t), newCA(t, password), newCA(t, password)
	mustCall(t, "swtpm_localca", a.args("ek", f.modulus)...)
	mustRun(t, nil, theirs, b.args("ek", f.modulus)...)
	shareCA(t, theirs, f, a, b)
	for name, password := range map[string]string{"signkey.pem": "sign secret", rootKeyFile: "root secret"} {
		pem, err := os.ReadFile(a.file(name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := identity.ParsePrivateKey(pem, ""); !errors.Is(err, identity.ErrPassword) {
			t.Errorf("%s without a password: %v", name, err)
		}
		if _, err := identity.ParsePrivateKey(pem, password); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// shareCA has each program go on with the CA that the other has made and issued
// an EK certificate by: paths lead to the root and serial numbers go on.
func shareCA(t *testing.T, theirs string, f issuerFiles, ours, swtpms caFiles) {
	t.Helper()
	serial := func(c caFiles) *big.Int { return readCert(t, filepath.Join(c.dir, "ek.cert")).SerialNumber }
	before := map[string]*big.Int{ours.dir: serial(ours), swtpms.dir: serial(swtpms)}
	mustCall(t, "swtpm_localca", swtpms.args("ek", f.modulus)...)
	mustRun(t, nil, theirs, ours.args("ek", f.modulus)...)
	for _, c := range []caFiles{ours, swtpms} {
		c.verify(t, filepath.Join(c.dir, "ek.cert"))
		if want := new(big.Int).Add(before[c.dir], big.NewInt(1)); serial(c).Cmp(want) != 0 {
			t.Errorf("serial number %v after %v", serial(c), before[c.dir])
		}
	}
}

// TestUnderDebians: Debian's swtpm_setup makes a TPM with certificates by our
// swtpm_localca, and Debian's swtpm_localca certificates by our swtpm_cert.
func TestUnderDebians(t *testing.T) {
	setup, ca := debian(t, "swtpm_setup"), debian(t, "swtpm_localca")
	bin, f, c := binDir(t), newIssuer(t), newCA(t, "")
	mustRun(t, []string{"PATH=" + bin + ":" + os.Getenv("PATH")}, ca, c.args("ek", f.modulus)...)
	c.verify(t, filepath.Join(c.dir, "ek.cert"))
	if first := readCert(t, filepath.Join(c.dir, "ek.cert")).Extensions[0].Id.String(); first != "2.5.29.15" {
		t.Errorf("the first extension is %s, so it is Debian's swtpm_cert that was run", first)
	}
	conf := write(t, filepath.Join(c.dir, "setup.conf"), fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n",
		filepath.Join(bin, "swtpm_localca"), c.config, c.options))
	state := filepath.Join(c.dir, "tpm")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(c.dir, "log")
	mustRun(t, nil, setup, "--tpm2", "--tpm", "/usr/bin/swtpm socket", "--tpmstate", state, "--config", conf, "--logfile", log, "--vmid", "vm1:uuid",
		"--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--write-ek-cert-files", c.dir)
	b, err := os.ReadFile(log)
	for _, line := range []string{"Successfully created EK certificate locally.", "Successfully created platform certificate locally."} {
		if !strings.Contains(string(b), line) {
			t.Errorf("%s: %v", b, err)
		}
	}
	ek := filepath.Join(c.dir, "ek-rsa2048.crt")
	if info, err := identity.EKInfo(readCert(t, ek)); err != nil || info.Model != "swtpm" || readCert(t, ek).Subject.CommonName != "vm1:uuid" {
		t.Errorf("%+v, %v, %v", info, err, readCert(t, ek).Subject)
	}
	c.verify(t, ek)
}

// TestTwoAtOnce: of processes that find no CA one makes it, and all use it, each
// with a serial number of its own.
func TestTwoAtOnce(t *testing.T) {
	bin, f, c := binDir(t), newIssuer(t), newCA(t, "")
	const n = 4
	var wg sync.WaitGroup
	out := make([]string, n)
	for i := range n {
		wg.Go(func() {
			dir := filepath.Join(c.dir, fmt.Sprint("out", i))
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Error(err)
			}
			b, err := exec.Command(filepath.Join(bin, "swtpm_localca"), c.args("ek", f.modulus, "--dir", dir)...).CombinedOutput()
			if out[i] = string(b); err != nil {
				t.Errorf("%v: %s", err, b)
			}
		})
	}
	wg.Wait()
	if said := strings.Join(out, ""); strings.Count(said, "Creating root CA") != 1 {
		t.Errorf("%s", said)
	}
	serials := map[string]bool{}
	for i := range n {
		cert := filepath.Join(c.dir, fmt.Sprint("out", i), "ek.cert")
		serials[readCert(t, cert).SerialNumber.String()] = true
		c.verify(t, cert)
	}
	if len(serials) != n {
		t.Errorf("serial numbers %v", serials)
	}
}

// TestCACutOff: wherever the making of a CA is cut off, the next call makes a
// whole one.
func TestCACutOff(t *testing.T) {
	f, c := newIssuer(t), newCA(t, "")
	ca := &localCA{stateDir: c.state, signingKey: c.file("signkey.pem"), issuerCert: c.file("issuercert.pem")}
	for _, missing := range []string{"issuercert.pem", "signkey.pem"} {
		c.ready(t, f)
		if there, err := ca.exists(); !there || err != nil {
			t.Errorf("a whole CA: %v, %v", there, err)
		}
		if err := os.Remove(c.file(missing)); err != nil {
			t.Fatal(err)
		}
		if there, err := ca.exists(); there || err != nil {
			t.Errorf("without %s: %v, %v", missing, there, err)
		}
	}
	write(t, c.file("signkey.pem.new"), "half of a k")
	mustCall(t, "swtpm_localca", c.args("ek", f.modulus)...)
	c.verify(t, filepath.Join(c.dir, "ek.cert"))
	// The old certificate goes before the new key comes.
	ca.signingKey = filepath.Join(c.state, "absent", "key")
	if err := ca.create(time.Now()); err == nil {
		t.Error("a CA in a folder that is not there")
	}
	if _, err := os.Stat(c.file("issuercert.pem")); err == nil {
		t.Error("the certificate of a key that is gone is left")
	}
}

// TestLocalcaKinds: IAK and IDevID go into files of their own, named by the
// machine and the TPM's serial number.
func TestLocalcaKinds(t *testing.T) {
	f, c := newIssuer(t), newCA(t, "")
	c.ready(t, f)
	for _, kind := range []string{"iak", "idevid"} {
		mustCall(t, "swtpm_localca", c.args(kind, "x="+f.x+",y="+f.y+",id=secp384r1", "--tpm-serial-num", "77", "--vmid", `vm_1\x,#`)...)
		cert := readCert(t, filepath.Join(c.dir, kind+".cert"))
		if cert.Subject.SerialNumber != `vm_1\x_#` || cert.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("%s: %v, %v", kind, cert.Subject, cert.KeyUsage)
		}
		if err := cert.CheckSignatureFrom(readCert(t, f.cert)); err != nil {
			t.Error(err)
		}
	}
}

// TestLocalcaFiles: where files are found and what is said where.
func TestLocalcaFiles(t *testing.T) {
	f, c := newIssuer(t), newCA(t, "")
	c.ready(t, f)
	home := filepath.Join(c.dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("TEST_CA", c.state)
	write(t, filepath.Join(home, "swtpm-localca.conf"), "statedir = ${TEST_CA}\nsigningkey = ${TEST_CA}/signkey.pem\nissuercert = ${TEST_CA}/issuercert.pem\n")
	write(t, filepath.Join(home, "swtpm-localca.options"), "# --no-such-option\n")
	log := filepath.Join(c.dir, "log")
	args := c.args("ek", f.modulus, "--logfile", log)
	args = slices.Delete(args, slices.Index(args, "--configfile"), slices.Index(args, "--configfile")+4)
	if out, errs, code := call("swtpm_localca", args...); code != 1 || out+errs != "" {
		t.Errorf("exit code %d, %q", code, out+errs) // a comment is none in the options file
	}
	write(t, filepath.Join(home, "swtpm-localca.options"), "# a comment, as it were\n")
	if out := mustCall(t, "swtpm_localca", args...); out != "" {
		t.Errorf("%q", out)
	}
	b, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(b), "--no-such-option") || !strings.HasSuffix(string(b), "Successfully created EK certificate locally.\n") {
		t.Errorf("%q, %v", b, err)
	}
	if info, err := os.Stat(log); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(c.file("certserial")); err != nil {
		t.Error(err)
	}
}

func TestLocalcaRefuses(t *testing.T) {
	f, c := newIssuer(t), newCA(t, "")
	c.ready(t, f)
	if err := os.Symlink("target", filepath.Join(c.dir, "link")); err != nil {
		t.Fatal(err)
	}
	none := write(t, filepath.Join(c.dir, "none.conf"), "#statedir = x\n statedir = x\nstatedirs = x\n")
	tpmkey := write(t, filepath.Join(c.dir, "tpmkey.conf"), strings.ReplaceAll("statedir = STATE\nsigningkey = tpmkey:uuid=x\nissuercert = STATE/issuercert.pem\n", "STATE", c.state))
	huge := write(t, filepath.Join(c.dir, "huge.conf"), strings.Repeat("x", maxConfig+1))
	for words, args := range map[string][]string{
		"TPM 1.2":              slices.DeleteFunc(c.args("ek", f.modulus), func(s string) bool { return s == "--tpm2" }),
		"'aik'":                c.args("aik", f.modulus),
		"--ek is missing":      c.args("ek", ""),
		"hexadecimal":          c.args("ek", "q=1,y=2x"),
		"--ecc-curveid":        c.args("ek", "x=00,y=00,id=secp192r1"),
		"not on its curve":     c.args("ek", "x=00,y=00"),
		"--tpm-serial-num":     c.args("iak", f.modulus),
		"/absent.conf":         c.args("ek", f.modulus, "--configfile", c.dir+"/absent.conf"),
		"/absent.options":      c.args("ek", f.modulus, "--optsfile", c.dir+"/absent.options"),
		"'statedir'":           c.args("ek", f.modulus, "--configfile", none),
		"more than":            c.args("ek", f.modulus, "--configfile", huge),
		"tpmkey:":              c.args("ek", f.modulus, "--configfile", tpmkey),
		"/absent/ek.cert":      c.args("ek", f.modulus, "--dir", c.dir+"/absent"),
		"/link":                c.args("ek", f.modulus, "--logfile", c.dir+"/link"),
		"there is no option -": c.args("ek", f.modulus, "-x"),
		"needs a value":        {"--type"},
	} {
		out, errs, code := call("swtpm_localca", args...)
		oneSentence(t, words, words, out, errs, code)
	}
}

// TestSerialNumbers: they go on from what the file has, and begin anew, long and
// at random, where they cannot.
func TestSerialNumbers(t *testing.T) {
	most := new(big.Int).Lsh(big.NewInt(1), maxSerialBits)
	for in, want := range map[string]string{"1": "2", "0": "1", "99999999999999999999": "100000000000000000000",
		most.Sub(most, big.NewInt(2)).String(): new(big.Int).Add(most, big.NewInt(1)).String()} {
		if got, err := serialAfter([]byte(in)); got != want || err != nil {
			t.Errorf("after %s: %s, %v", in, got, err)
		}
	}
	seen := map[string]bool{}
	for _, in := range []string{"", "x", "-1", "1x", new(big.Int).Add(most, big.NewInt(1)).String(), strings.Repeat("0", 50)} {
		got, err := serialAfter([]byte(in))
		if n, ok := new(big.Int).SetString(got, 10); err != nil || !ok || len(got) != serialDigits || n.BitLen() > 63 || seen[got] {
			t.Errorf("after %q: %s, %v", in, got, err)
		}
		seen[got] = true
	}
}

func TestConfig(t *testing.T) {
	t.Setenv("TEST_A", "x")
	c := config(strings.Split("a=1\nab = 2 # 3\r\na = 4\n e=5\nf\nf =  ${TEST_A}y${TEST_NONE}${TEST_A\ng=\nenv:X_1 = a # b \nenv:2=c\nenv:Y=", "\n"))
	for name, want := range map[string]string{"a": "1", "ab": "2", "f": "xy${TEST_A", "g": ""} {
		if got, ok := c.value(name); got != want || !ok {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
	if got, ok := c.value("e"); ok {
		t.Errorf("e: %q", got)
	}
}

// FuzzLocalca: whatever a machine is called and its key said to be, the
// command line that is made has the name as one attribute, and the key as one.
func FuzzLocalca(f *testing.F) {
	f.Add("vm,1+a:b", "x=0a,y=0B,id=secp384r1", "--platform-model QEMU\n", "statedir = ${HOME}/x # y\n")
	f.Add(`a\+b\`, "C0FFEE", " \t\r\n", "env:A = b")
	f.Fuzz(func(t *testing.T, vmid, key, options, conf string) {
		for _, word := range splitOptions(options) {
			if word == "" || strings.Contains(word, "\n") || !strings.Contains(options, word) {
				t.Errorf("%q of %q", word, options)
			}
		}
		c := config(strings.Split(conf, "\n"))
		for _, name := range []string{"statedir", "signingkey"} {
			if v, ok := c.value(name); ok && !strings.Contains(conf, name) {
				t.Errorf("%s is %q in %q", name, v, conf)
			}
		}
		if args := keyArgs(key); len(args)%2 != 0 || args[0] == "--modulus" && args[1] != key {
			t.Errorf("%q gives %q", key, args)
		}
		subject := subjectOf(vmid)
		der, err := identity.ParseName("CN=" + subject)
		if err != nil {
			if utf8.ValidString(vmid) && strings.TrimSpace(vmid) != "" && len(vmid) < identity.MaxName/2 && !strings.Contains(vmid, `\+`) {
				t.Errorf("%q: %v", vmid, err)
			}
			return
		}
		var name pkix.RDNSequence
		if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 || len(name) != 1 || len(name[0]) != 1 {
			t.Errorf("%q gives %q, %v", vmid, name, err)
		}
	})
}
