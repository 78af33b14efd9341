package main

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// softToken is a token in software, with the keys of one CA on it: RSA with
// label "rsa key" and id 0x01, elliptic with label "ec" and id 0xff02.
func softToken(t *testing.T) (dir, mod string) {
	t.Helper()
	for _, tool := range []string{"softhsm2-util", "pkcs11-tool", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: install softhsm2, opensc and openssl", tool)
		}
	}
	mod = module(t)
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", write(t, filepath.Join(dir, "conf"), "directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\n"))
	mustRun(t, nil, "softhsm2-util", "--init-token", "--free", "--label", "the token", "--pin", "1234", "--so-pin", "5678")
	for name, k := range map[string][]string{"rsa": {"rsa key", "01", "RSA", "rsa_keygen_bits:2048"}, "ec": {"ec", "ff02", "EC", "ec_paramgen_curve:P-384"}} {
		key := filepath.Join(dir, name+".key")
		mustRun(t, nil, "openssl", "genpkey", "-algorithm", k[2], "-pkeyopt", k[3], "-out", key)
		mustRun(t, nil, "softhsm2-util", "--import", key, "--token", "the token", "--pin", "1234", "--label", k[0], "--id", k[1])
		mustRun(t, nil, "openssl", "req", "-x509", "-key", key, "-subj", "/CN=token CA", "-addext", "keyUsage=critical,keyCertSign", "-out", filepath.Join(dir, name+".pem"))
	}
	return dir, mod
}

// module is the token's own, so that what else the host has does not matter.
func module(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			return "module-path=" + path
		}
	}
	t.Skip("libsofthsm2.so is missing: install softhsm2")
	return ""
}

func TestToken(t *testing.T) {
	dir, mod := softToken(t)
	f := newIssuer(t)
	t.Run("signs", func(t *testing.T) { tokenSigns(t, dir, mod, f) })
	t.Run("localca", func(t *testing.T) { tokenLocalca(t, dir, mod, f) })
	t.Run("refuses", func(t *testing.T) { tokenRefuses(t, dir, mod, f) })
}

// tokenSigns: a CA whose key is on a token signs what a CA whose key is in a file
// does, RSA and elliptic, found by label and by id.
func tokenSigns(t *testing.T, dir, mod string, f issuerFiles) {
	t.Setenv("SWTPM_PKCS11_PIN", "1234")
	for uri, ca := range map[string]string{
		"pkcs11:token=the%20token;object=rsa%20key;type=private?" + mod:             "rsa",
		"pkcs11:model=SoftHSM%20v2;token=the%20token;id=%01?" + mod:                 "rsa",
		"pkcs11:token=the%20token;id=%ff%02?" + mod + "&pin-value=1234":             "ec",
		"pkcs11:token=the%20token;id=%FF%02;object=ec;type=public?" + mod:           "ec",
		"pkcs11:token=the%20token;object=ec?pin-value=1234&module-name=none&" + mod: "ec",
	} {
		out, issuer := filepath.Join(dir, "out"), filepath.Join(dir, ca+".pem")
		mustCall(t, "swtpm_cert", append(strings.Fields(tpmArgs+specArgs), "--modulus", f.modulus, "--signkey", uri, "--issuercert", issuer, "--out-cert", out)...)
		c := readCert(t, out)
		if err := c.CheckSignatureFrom(readCert(t, issuer)); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
		switch readCert(t, issuer).PublicKey.(type) {
		case *rsa.PublicKey:
			if c.SignatureAlgorithm != x509.SHA256WithRSA {
				t.Error(c.SignatureAlgorithm)
			}
		case *ecdsa.PublicKey:
			if c.SignatureAlgorithm != x509.ECDSAWithSHA384 {
				t.Error(c.SignatureAlgorithm)
			}
		}
	}
}

// tokenLocalca: the configuration names a key on a token, its PIN, and what
// the module's environment needs.
func tokenLocalca(t *testing.T, dir, mod string, f issuerFiles) {
	conf := os.Getenv("SOFTHSM2_CONF")
	t.Setenv("SOFTHSM2_CONF", "/nonexistent")
	for _, pin := range []string{"SWTPM_PKCS11_PIN = 1234\n", "signingkey_password = 1234\nSWTPM_PKCS11_PIN = 9\n"} {
		c := newCA(t, "")
		write(t, c.config, fmt.Sprintf("statedir = %s\nsigningkey = pkcs11:token=the%%20token\\;object=ec?%s\nissuercert = %s\n%senv:SOFTHSM2_CONF = %s\n",
			c.state, mod, filepath.Join(dir, "ec.pem"), pin, conf))
		out := mustCall(t, "swtpm_localca", c.args("ek", f.modulus)...)
		if !strings.Contains(out, "CA uses a PKCS#11 key; using SWTPM_PKCS11_PIN\n") || strings.Contains(out, "root CA") {
			t.Errorf("%q", out)
		}
		if err := readCert(t, filepath.Join(c.dir, "ek.cert")).CheckSignatureFrom(readCert(t, filepath.Join(dir, "ec.pem"))); err != nil {
			t.Error(err)
		}
	}
}

// tokenRefuses: what a token or its program does wrong is one sentence, and
// no certificate.
func tokenRefuses(t *testing.T, dir, mod string, f issuerFiles) {
	out := filepath.Join(dir, "refused")
	sign := func(uri, issuer string) (string, string, int) {
		return call("swtpm_cert", append(strings.Fields(tpmArgs+specArgs), "--modulus", f.modulus, "--signkey", uri, "--issuercert", filepath.Join(dir, issuer), "--out-cert", out)...)
	}
	t.Setenv("SWTPM_PKCS11_PIN", "4321")
	for _, c := range []struct{ uri, issuer, words string }{
		{"pkcs11:token=the%20token;object=ec?" + mod, "ec.pem", "CKR_PIN_INCORRECT"},
		{"pkcs11:token=the%20token;object=none?pin-value=1234&" + mod, "ec.pem", "are called 'none'"},
		{"pkcs11:token=the%20token;id=%09?pin-value=1234&" + mod, "ec.pem", "rivate key not found"},
		{"pkcs11:token=none;object=ec?pin-value=1234&" + mod, "ec.pem", "the token 'none' does not sign"},
		{"pkcs11:token=the%20token;object=rsa%20key?pin-value=1234&" + mod, "ec.pem", "sign"},
		{"pkcs11:token=the%20token;object=ec?pin-value=1234&" + mod, "rsa.pem", "sign"},
		{"pkcs11:token=the%20token;object=ec?pin-value=1234&module-path=/nonexistent.so", "ec.pem", "does not sign"},
	} {
		o, e, code := sign(c.uri, c.issuer)
		oneSentence(t, c.uri, c.words, o, e, code)
	}
	t.Setenv("PATH", dir)
	o, e, code := sign("pkcs11:token=the%20token;object=ec?"+mod, "ec.pem")
	oneSentence(t, "no program", "install opensc", o, e, code)
	if _, err := os.Stat(out); err == nil {
		t.Error("a certificate is left")
	}
}

func TestFindLabel(t *testing.T) {
	const list = "Private Key Object; EC\n  label:      a\n  ID:         0a\n  Usage:      sign\n" +
		"Private Key Object; RSA\n  label:      b\n  ID:         0B\nPrivate Key Object; RSA\n  label:      c\nPrivate Key Object; RSA\n  ID:         0c\n" +
		"Private Key Object; EC\n  label:      d\n  ID:         01\nPrivate Key Object; EC\n  label:      d\n  ID:         02\n"
	for label, want := range map[string]string{"a": "0a", "b": "0B", "c": "", "d": "", "e": ""} {
		if id, err := findLabel(list, label); id != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", label, id, err)
		}
	}
}

// FuzzTokenURI: what is read names a token and a key, in no argument's way.
func FuzzTokenURI(f *testing.F) {
	f.Add("pkcs11:token=a%20b;object=c;id=%00?module-path=/x&pin-value=1")
	f.Add("pkcs11:token=%")
	f.Fuzz(func(t *testing.T, uri string) {
		k, err := parseTokenURI(uri)
		if err == nil && (k.token == "" || k.label+k.id == "" || strings.Contains(k.token+k.label+k.module+k.pin, "\x00")) {
			t.Errorf("%q: %+v", uri, k)
		}
	})
}
