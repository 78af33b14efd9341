package guest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// clientPrograms is what the guest has of the host's own programs, each with the Debian
// package that it is of: clients of a TPM, and what they are made of.
var clientPrograms = map[string][]string{
	"clevis-tpm2": {"/usr/bin/clevis", "/usr/bin/clevis-decrypt", "/usr/bin/clevis-encrypt-tpm2", "/usr/bin/clevis-decrypt-tpm2",
		"/usr/bin/jose", "/usr/bin/bash"},
	"tpm2-tools": {"/usr/bin/tpm2", "/usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0"},
	"systemd": {"/usr/bin/systemd-cryptenroll", "/usr/lib/x86_64-linux-gnu/cryptsetup/libcryptsetup-token-systemd-tpm2.so",
		"/usr/lib/x86_64-linux-gnu/libtss2-esys.so.0", "/usr/lib/x86_64-linux-gnu/libtss2-rc.so.0", "/usr/lib/x86_64-linux-gnu/libtss2-mu.so.0"},
	"cryptsetup-bin":   {"/usr/sbin/cryptsetup"},
	"libtpm2-pkcs11-1": {"/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so"},
	"opensc":           {"/usr/bin/pkcs11-tool"},
	"tpm2-openssl":     {"/usr/bin/openssl", "/usr/lib/x86_64-linux-gnu/ossl-modules/tpm2.so"},
}

// clientTools are the names of tpm2-tools' program that its users call.
var clientTools = []string{"createprimary", "create", "createpolicy", "flushcontext", "load", "pcrextend", "pcrread", "unseal"}

// root is a guest's file system in the making: /bin, /lib, /lib64 and /sbin are links
// into /usr, as Debian has them.
type root struct {
	t       *testing.T
	archive *cpioWriter
	there   map[string]bool
}

// place is a path of the host's without links in its directory, and without the slash.
func (r *root) place(path string) string {
	r.t.Helper()
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimPrefix(filepath.Join(dir, filepath.Base(path)), "/")
}

// dirs adds a directory and those above it.
func (r *root) dirs(path string) {
	if path == "." || r.there[path] {
		return
	}
	r.dirs(filepath.Dir(path))
	r.there[path] = true
	r.archive.dir(path)
}

// add puts a file of the host's at its place, with the libraries that it is linked to.
func (r *root) add(path string) {
	r.t.Helper()
	to := r.place(path)
	if r.there[to] {
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.dirs(filepath.Dir(to))
	r.there[to] = true
	r.archive.file(to, 0o755, b)
	if !bytes.HasPrefix(b, []byte("\x7fELF")) {
		return
	}
	out, _ := exec.Command("ldd", path).Output() // fails for a static program, which has none
	for line := range strings.Lines(string(out)) {
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "/") {
				r.add(word)
				break
			}
		}
	}
}

// link adds a link where there is nothing yet.
func (r *root) link(path, target string) {
	if !r.there[path] {
		r.dirs(filepath.Dir(path))
		r.there[path] = true
		r.archive.symlink(path, target)
	}
}

// clientRoot makes an initramfs of the host's own clients and a busybox.
func clientRoot(t *testing.T, host Host, path string) {
	t.Helper()
	var packed bytes.Buffer
	r := &root{t, &cpioWriter{w: &packed}, make(map[string]bool)}
	for _, dir := range []string{"dev", "etc", "proc", "run/cryptsetup", "run/lock", "sys", "tmp", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "usr/lib/ssl"} {
		r.dirs(dir)
	}
	for _, dir := range []string{"bin", "lib", "lib64", "sbin"} {
		r.link(dir, "usr/"+dir)
	}
	r.archive.file("init", 0o755, initScript)
	r.archive.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	r.archive.file("etc/ima-policy", 0o644, []byte("dont_measure func=MMAP_CHECK\n"))
	script, err := os.ReadFile("../../../swtpm/testdata/keys/client.sh")
	if err != nil {
		t.Fatal(err)
	}
	r.archive.file("client.sh", 0o755, script)
	packages := make([]string, 0, len(clientPrograms))
	for p := range clientPrograms {
		packages = append(packages, p)
	}
	slices.Sort(packages)
	for _, p := range packages {
		for _, file := range clientPrograms[p] {
			if _, err := os.Stat(file); err != nil {
				t.Skipf("%s is missing: install %s", file, p)
			}
			r.add(file)
		}
	}
	for _, name := range clientTools {
		r.link("usr/bin/tpm2_"+name, "tpm2")
	}
	busybox, err := staticProgram(host.Busybox)
	if err != nil {
		t.Fatal(err)
	}
	r.there["usr/bin/busybox"] = true // it names itself, too
	r.archive.file("usr/bin/busybox", 0o755, busybox)
	applets, err := exec.Command(host.Busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(applets)) {
		r.link("usr/bin/"+name, "busybox")
	}
	if err := r.archive.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("the guest's root has %d MB", packed.Len()>>20)
}

// appendRoot adds a file to an initramfs, which may be several archives.
func appendRoot(t *testing.T, path, name string, content []byte) {
	t.Helper()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	archive := &cpioWriter{w: out}
	archive.file(name, 0o600, content)
	if err := archive.close(); err != nil {
		t.Fatal(err)
	}
}
