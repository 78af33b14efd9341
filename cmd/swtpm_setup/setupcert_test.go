package main

import (
	"bytes"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/internal/store"
	"github.com/ashlar-cloud/ashlar/swtpm"
	"github.com/ashlar-cloud/ashlar/tpm"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// certifiedTPM makes a TPM with all certificates and copies of them, and gives its
// directory, that of the copies, and the certificates of the CA.
func certifiedTPM(t testing.TB, more ...string) (dir, copies string, roots []*x509.Certificate, issuer *x509.Certificate) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	localca := filepath.Join(t.TempDir(), "swtpm_localca")
	if err := os.Symlink(self, localca); err != nil {
		t.Fatal(err)
	}
	conf := setupConfig(t, localca)
	dir, copies = t.TempDir(), t.TempDir()
	if _, errs, code := call("swtpm_setup", append([]string{"--tpm2", "--tpm-state", dir, "--config", conf, "--create-ek-cert",
		"--create-platform-cert", "--lock-nvram", "--write-ek-cert-files", copies, "--vmid", "guest:1"}, more...)...); code != 0 {
		t.Fatal(errs)
	}
	read := func(name string) []*x509.Certificate {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(conf), name))
		if err != nil {
			t.Fatal(err)
		}
		list, err := identity.ParseCertificates(b)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	return dir, copies, read("swtpm-localca-rootca-cert.pem"), read("issuercert.pem")[0]
}

// TestSetupCertificates: the certificates in NV are by the CA and of the keys, each
// key derives again from its template, and the copies in files are the same bytes.
func TestSetupCertificates(t *testing.T) {
	dir, copies, roots, issuer := certifiedTPM(t, "--iakkeyalgo", "secp256r1", "--idevidkeyalgo", "rsa2048")
	d := startOurs(t, dir)
	for _, c := range []struct {
		key, index tpm2.Handle
		copy       string
	}{
		{0x81010001, 0x01C00002, "ek-rsa2048.crt"}, {0x81010016, 0x01C00016, "ek-secp384r1.crt"},
		{0x81020001, 0x01C90100, "iak-secp256r1.crt"}, {0x81020000, 0x01C90200, "idevid-rsa2048.crt"},
		{0x81010001, 0x01C08000, ""},
	} {
		der := d.read(t, c.index)
		list, err := identity.ParseCertificates(der)
		if err != nil {
			t.Fatal(err)
		}
		cert := list[0]
		if err := identity.Chain(cert, roots, []*x509.Certificate{issuer}, time.Now()); err != nil {
			t.Errorf("%x: %v", uint32(c.index), err)
		}
		if a := d.nvPublic(t, c.index).Attributes; a != 0x62072801 {
			t.Errorf("%x has attributes %x", uint32(c.index), uint32(a))
		}
		key, err := identity.FromPublic(d.public(t, c.key))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.copy == "": // the platform's names its EK's certificate, not the key
		case strings.HasPrefix(c.copy, "ek"):
			if err := identity.CheckEKCertificate(cert, key); err != nil {
				t.Error(err)
			}
			if info, err := identity.EKInfo(cert); err != nil || info != (identity.TPMInfo{Manufacturer: "id:00001014", Model: "swtpm", Version: "id:20191023"}) {
				t.Errorf("%v, %v", info, err)
			}
			fallthrough
		default:
			if !key.Equal(&identity.Key{Crypto: cert.PublicKey}) {
				t.Errorf("%x is not of the key %x", uint32(c.index), uint32(c.key))
			}
			if b, err := os.ReadFile(filepath.Join(copies, c.copy)); err != nil || !bytes.Equal(b, der) {
				t.Errorf("%s: %v", c.copy, err)
			}
		}
	}
	if list, err := os.ReadDir(copies); len(list) != 4 || err != nil {
		t.Errorf("files %v, %v", list, err)
	}
	ek, err := identity.EK("rsa2048", identity.EKDecrypts)
	if err != nil {
		t.Fatal(err)
	}
	ek.Handle = 0x81000002 // beside the other
	if public, err := d.provision(&ek); err != nil || !bytes.Equal(public.Name(), d.public(t, 0x81010001).Name()) {
		t.Errorf("the template makes another EK: %v", err)
	}
}

// TestSetupSameKeys: from the seeds of a TPM that we have made, Debian's swtpm derives
// the same EKs and SRK.
func TestSetupSameKeys(t *testing.T) {
	debian(t, "swtpm")
	dir := t.TempDir()
	mustCall(t, "swtpm_setup", "--tpm2", "--tpm-state", dir, "--config", setupConfig(t, "none"), "--createek", "--create-spk")
	held, err := store.OpenDir(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	state, err := swtpm.Export(held, nil, engineConfig(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "tpm2-00.permall"), state, 0o600); err != nil {
		t.Fatal(err)
	}
	d := startTheirs(t, other)
	srk, err1 := identity.SRK("rsa2048")
	rsa, err2 := identity.EK("rsa2048", identity.EKDecrypts)
	ecc, err3 := identity.EK("secp384r1", identity.EKDecrypts)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	for i, k := range []identity.Provision{srk, rsa, ecc} {
		made := d.public(t, k.Handle).Name()
		k.Handle = tpm2.Handle(0x81000010 + i)
		if public, err := d.provision(&k); err != nil || !bytes.Equal(public.Name(), made) {
			t.Errorf("%s: %v", k.Kind, err)
		}
	}
}

// TestSetupForTools reads certificates by tpm2-tools.
func TestSetupForTools(t *testing.T) {
	for _, tool := range []string{"tpm2_nvread", "tpm2_getekcertificate", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: install tpm2-tools, libtss2-tcti-swtpm0 and openssl", tool)
		}
	}
	dir, copies, _, _ := certifiedTPM(t)
	held, err := store.OpenDir(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv := swtpm.Server{Host: swtpm.NewHost(swtpm.Config{Dir: held, Engine: engineConfig()})}
	defer srv.Host.Close()
	if err := srv.Host.Start(); err != nil {
		t.Fatal(err)
	}
	srv.Host.Startup(false)
	port := ""
	for range 20 { // the control channel's port is the next one
		data, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		at := data.Addr().(*net.TCPAddr)
		if ctrl, err := net.ListenTCP("tcp", &net.TCPAddr{IP: at.IP, Port: at.Port + 1}); err == nil {
			srv.Data, srv.Ctrl, port = data, ctrl, strings.TrimPrefix(data.Addr().String(), "127.0.0.1:")
			break
		}
		data.Close()
	}
	go func() { _ = srv.Serve(t.Context()) }()
	env := []string{"TPM2TOOLS_TCTI=swtpm:port=" + port}
	out := t.TempDir()
	mustRun(t, env, "tpm2_nvread", "0x1c00016", "-o", filepath.Join(out, "ecc"))
	mustRun(t, env, "tpm2_getekcertificate", "-o", filepath.Join(out, "rsa"))
	for file, copy := range map[string]string{"ecc": "ek-secp384r1.crt", "rsa": "ek-rsa2048.crt"} {
		got, err1 := os.ReadFile(filepath.Join(out, file))
		want, err2 := os.ReadFile(filepath.Join(copies, copy))
		if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not %s: %v, %v", file, copy, err1, err2)
		}
		mustRun(t, nil, "openssl", "x509", "-inform", "DER", "-in", filepath.Join(out, file), "-noout", "-text")
	}
}

// TestSetupArguments: a tool of the user's gets the arguments that swtpm_setup gives
// it, and what it leaves is what comes into NV.
func TestSetupArguments(t *testing.T) {
	theirs := debian(t, "swtpm_setup")
	run := func(setup func(args ...string)) string {
		dir := t.TempDir()
		seen := filepath.Join(dir, "seen")
		tool := filepath.Join(dir, "make certs.sh")
		if err := os.WriteFile(tool, []byte("#!/bin/sh\necho said by the tool\nprintf '%s|' \"$@\" >> '"+seen+
			"'\nwhile [ \"$1\" != --dir ]; do [ \"$1\" = --type ] && t=$2; shift; done\nhead -c 700 /dev/zero > \"$2/$t.cert\"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		conf := write(t, filepath.Join(dir, "conf"), "create_certs_tool = "+tool+"\ncreate_certs_tool_config=${HOME}/c\ncreate_certs_tool_options =o # x\n")
		setup("--tpm2", "--tpm-state", t.TempDir(), "--config", conf, "--create-ek-cert", "--create-platform-cert",
			"--vmid", "a b:c", "--logfile", filepath.Join(dir, "log"))
		b, err := os.ReadFile(seen)
		if err != nil {
			t.Fatal(err)
		}
		log, err := os.ReadFile(filepath.Join(dir, "log"))
		if err != nil || !strings.Contains(string(log), "make certs.sh: said by the tool\n") || !strings.Contains(string(log), "Successfully authored TPM state.\n") {
			t.Errorf("%v: the log is %s", err, log)
		}
		return string(b)
	}
	got := run(func(args ...string) {
		if out := mustCall(t, "swtpm_setup", args...); out != "" {
			t.Errorf("beside the log: %s", out)
		}
	})
	want := run(func(args ...string) { mustRun(t, nil, theirs, append(args, "--tpm", "/usr/bin/swtpm socket")...) })
	clean := func(s string) (words []string) {
		for _, w := range strings.Split(s, "|") {
			if len(w) > 200 { // a key
				w = "KEY " + w[:2]
				if w != "KEY x=" {
					w = "KEY"
				}
			}
			if strings.HasPrefix(w, "/tmp/") || strings.HasPrefix(w, os.TempDir()) {
				w = filepath.Base(w)
				w, _, _ = strings.Cut(w, ".")
			}
			words = append(words, w)
		}
		return words
	}
	if g, w := strings.Join(clean(got), " "), strings.Join(clean(want), " "); g != w {
		t.Errorf("ours:\n%s\nDebian's:\n%s", g, w)
	}
}

// TestSpecificationOfInfo: what a certificate says of the TPM is what it answers.
func TestSpecificationOfInfo(t *testing.T) {
	args := strings.Join(makeArgs(profileOrNull(nil)), " ")
	const want = "--tpm-spec-family 2.0 --tpm-spec-level 0 --tpm-spec-revision 164 --tpm-manufacturer id:00001014 --tpm-model swtpm --tpm-version id:20191023"
	if args != want {
		t.Error(args)
	}
	v2, err := tpm.ParseProfile([]byte(`{"Name":"default-v2"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(makeArgs(v2), " "); got == want {
		t.Error("another profile says the same")
	}
}
