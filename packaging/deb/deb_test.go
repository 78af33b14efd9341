// Package deb has the tests of the Debian packages: built, installed, upgraded, removed
// and purged on a machine with and without Debian's swtpm, while guests run.
package deb

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// names are the six programs.
var names = []string{"swtpm", "swtpm_bios", "swtpm_cert", "swtpm_ioctl", "swtpm_localca", "swtpm_setup"}

// oursName is the file that our TPMs are in.
const oursName = "tpm2-00.ashlar"

// versionLine is what a program of swtpm says of its version, as scripts read it.
var versionLine = regexp.MustCompile(`^TPM .*version (\d+)\.(\d+)\.(\d+)[-+.~0-9a-z]*,`)

// says is what a program answers to --version.
func (m *machine) says(program string) string {
	m.t.Helper()
	option := "--version"
	if strings.HasPrefix(program, "swtpm_bios") {
		option = "-v"
	}
	out, _ := m.run(program, option) // swtpm's own tools end with 1
	return out
}

// wantOurs checks that all six names are ours, and whole.
func (m *machine) wantOurs() {
	m.t.Helper()
	for _, name := range names {
		if out := m.says(name); !versionLine.MatchString(out) || !strings.Contains(out, "Ashlar") {
			m.t.Errorf("%s is not ours: %s", name, out)
		}
		if out, err := m.run("dpkg", "-S", "/usr/bin/"+name); err != nil || !regexp.MustCompile(`(?m)^(.*, )?ashlar-swtpm(,.*)?: /usr/bin/`+name+`$`).MatchString(out) {
			m.t.Errorf("dpkg does not know whose %s is: %v\n%s", name, err, out)
		}
	}
	if out, err := m.run("dpkg", "--verify", "ashlar-swtpm"); err != nil || out != "" {
		m.t.Errorf("dpkg --verify: %v\n%s", err, out)
	}
}

// wantPages checks that the manual pages are ours, too.
func (m *machine) wantPages(version string) {
	m.t.Helper()
	if !m.exists("/usr/bin/man") {
		m.t.Log("there is no man to show the pages with: install man-db")
		return
	}
	for _, page := range []string{"man8/swtpm.8", "man8/swtpm_bios.8", "man8/swtpm_cert.8", "man8/swtpm_ioctl.8", "man8/swtpm_localca.8",
		"man8/swtpm_setup.8", "man5/swtpm_setup.conf.5", "man5/swtpm-localca.conf.5", "man5/swtpm-localca.options.5"} {
		if out, err := m.run("man", "-l", "/usr/share/man/"+page+".gz"); err != nil || !strings.Contains(out, "Ashlar "+version) {
			m.t.Errorf("man %s: %v\n%s", page, err, out)
		}
	}
}

// wantTheirs checks that all six names are Debian's.
func (m *machine) wantTheirs() {
	m.t.Helper()
	for _, name := range names {
		if !m.exists("/usr/bin/"+name) || strings.Contains(m.read("/usr/bin/"+name), "ashlar") {
			m.t.Errorf("%s is not Debian's", name)
		}
		if m.exists("/usr/bin/" + name + ".distrib") {
			m.t.Errorf("%s.distrib is left", name)
		}
	}
	if out := m.must("dpkg-divert", "--list"); strings.Contains(out, "ashlar") {
		m.t.Errorf("diversions are left:\n%s", out)
	}
}

// version of a package file.
func versionOf(t *testing.T, deb string) string {
	t.Helper()
	out, err := exec.Command("dpkg-deb", "-f", deb, "Version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestSwitch goes through a host's life: Debian's swtpm with a guest that runs, ours,
// an upgrade of ours, an upgrade of Debian's below us, the removal, the purge.
func TestSwitch(t *testing.T) {
	deb, _ := packages(t)
	version := versionOf(t, deb)
	m := newMachine(t)
	shipped := m.read("/etc/swtpm-localca.conf")
	own := shipped + "# our own CA\n"
	m.write("/etc/swtpm-localca.conf", own, 0o644)
	theirGuest := m.start("/var/lib/theirs")

	unwatch := m.watch("swtpm")
	m.apt(variant(t, deb, "0.0.1", nil))
	m.wantOurs()
	ourGuest := m.start("/var/lib/ours")
	if !strings.Contains(m.says("swtpm.distrib"), "version") || strings.Contains(m.says("swtpm.distrib"), "Ashlar") {
		t.Errorf("swtpm.distrib says %s", m.says("swtpm.distrib"))
	}
	theirGuest.works()

	m.apt(deb)
	if missed := unwatch(); missed > 0 {
		t.Errorf("%d times there was no swtpm to start a guest with", missed)
	}
	m.wantOurs()
	base, _, _ := strings.Cut(version, "+")
	m.wantPages(base)
	if out := m.must("dpkg-query", "-W", "-f", "${Version}", "ashlar-swtpm"); out != version {
		t.Errorf("installed is %s", out)
	}

	// Debian's packages of another version, which bring a profile and have other programs.
	edited := func(dir string) {
		add(t, filepath.Join(dir, "usr/bin/swtpm"), "newer")
		add(t, filepath.Join(dir, "etc/apparmor.d/usr.bin.swtpm"), "# theirs\n")
		add(t, filepath.Join(dir, "DEBIAN/conffiles"), "/etc/apparmor.d/usr.bin.swtpm\n")
	}
	again := func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "etc/swtpm-localca.conf"), []byte(shipped), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.install(m.repack("swtpm", "99", edited), m.repack("swtpm-tools", "99", again), m.repack("swtpm-libs", "99", nil))
	m.wantOurs()
	if !strings.HasSuffix(m.read("/usr/bin/swtpm.distrib"), "newer") {
		t.Error("Debian's upgrade did not go where its program is")
	}
	if got := m.read("/etc/swtpm-localca.conf"); got != own {
		t.Errorf("the administrator's configuration is now %q", got)
	}
	theirGuest.works()
	ourGuest.works()

	m.must("apt-get", "remove", "-y", "ashlar-swtpm")
	m.wantTheirs()
	if !strings.HasSuffix(m.read("/usr/bin/swtpm"), "newer") {
		t.Error("what is back is not Debian's newest")
	}
	if m.exists("/etc/apparmor.d/disable/usr.bin.swtpm") || !m.exists("/etc/apparmor.d/disable/ashlar-swtpm") {
		t.Error("after the removal the wrong profile would be loaded")
	}
	m.install(deb)
	m.wantOurs()
	if !m.exists("/etc/apparmor.d/disable/usr.bin.swtpm") || m.exists("/etc/apparmor.d/disable/ashlar-swtpm") {
		t.Error("after the installation the wrong profile would be loaded")
	}
	m.must("apt-get", "purge", "-y", "ashlar-swtpm")
	m.wantTheirs()
	theirGuest.works()
	ourGuest.works()
	for _, file := range []string{"/var/lib/theirs/tpm2-00.permall", "/var/lib/ours/" + oursName, "/var/lib/swtpm-localca"} {
		if !m.exists(file) {
			t.Errorf("the purge took %s", file)
		}
	}
	if out, err := m.run("dpkg", "--verify", "swtpm", "swtpm-tools"); err != nil || !regexp.MustCompile(`^\S+ c /etc/swtpm-localca.conf\n$`).MatchString(out) {
		t.Errorf("dpkg --verify of Debian's packages: %v\n%s", err, out)
	}
}

// watch looks for a program all the time, until it is asked how often it was not there.
func (m *machine) watch(name string) func() int {
	m.t.Helper()
	bin, err := os.Open(m.at("/usr/bin")) // for other threads, which do not see the machine
	if err != nil {
		m.t.Fatal(err)
	}
	stop, missed := make(chan bool), make(chan int)
	go func() {
		defer bin.Close()
		n := 0
		for {
			select {
			case <-stop:
				missed <- n
				return
			case <-time.After(time.Millisecond / 2):
				if unix.Faccessat(int(bin.Fd()), name, unix.X_OK, 0) != nil {
					n++
				}
			}
		}
	}()
	return func() int { close(stop); return <-missed }
}

func add(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPurgeLeavesNothing compares every file below /etc and /usr with what was there
// before the installation.
func TestPurgeLeavesNothing(t *testing.T) {
	deb, _ := packages(t)
	m := newMachine(t)
	before := m.changed()
	m.install(deb)
	if m.changed()["/usr/bin/swtpm"] == "" {
		t.Fatal("an installation is not seen")
	}
	m.must("apt-get", "purge", "-y", "ashlar-swtpm")
	for path, how := range m.changed() {
		if before[path] != how {
			t.Errorf("%s: %s", path, how)
		}
	}
}

// changed lists the files below /etc and /usr that are not as they were, and how.
func (m *machine) changed() map[string]string {
	m.t.Helper()
	list := map[string]string{}
	for _, top := range []string{"/etc", "/usr"} {
		err := filepath.WalkDir(m.upper+top, func(path string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			} else if err != nil {
				return err
			}
			name := strings.TrimPrefix(path, m.upper)
			if how := m.difference(name, d); how != "" {
				list[name] = how
			}
			return nil
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	return list
}

func (m *machine) difference(name string, d fs.DirEntry) string {
	now, err1 := os.Lstat(m.at(name))
	then, err2 := os.Lstat(filepath.Join(m.lower, name))
	switch {
	case os.IsNotExist(err1) && os.IsNotExist(err2):
		return ""
	case os.IsNotExist(err1):
		return "is gone"
	case os.IsNotExist(err2):
		return "is left"
	case now.Mode() != then.Mode():
		return "has mode " + now.Mode().String()
	}
	a, b := now.Sys().(*syscall.Stat_t), then.Sys().(*syscall.Stat_t)
	if a.Uid != b.Uid || a.Gid != b.Gid {
		return "has another owner"
	}
	if !now.Mode().IsRegular() {
		return ""
	}
	x, err1 := os.ReadFile(m.at(name))
	y, err2 := os.ReadFile(filepath.Join(m.lower, name))
	if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
		return "has other content"
	}
	return ""
}

// TestWithoutSwtpm installs ours where Debian's is not, has it make a TPM with
// certificates without any configuration, and lets Debian's come and go.
func TestWithoutSwtpm(t *testing.T) {
	deb, ashlar := packages(t)
	m := newMachine(t)
	theirs := []string{m.repack("swtpm", "99", nil), m.repack("swtpm-tools", "99", nil), m.repack("swtpm-libs", "99", nil)}
	m.must("dpkg", "--purge", "swtpm-tools", "swtpm")
	m.must("rm", "-rf", "/var/lib/swtpm-localca")
	_, _ = m.run("deluser", "--quiet", "tss")
	if m.exists("/etc/swtpm_setup.conf") || m.exists("/usr/bin/swtpm") {
		t.Fatal("swtpm is still there")
	}

	m.apt(deb, ashlar)
	m.wantOurs()
	if out := m.must("stat", "-c", "%U %G %a", "/var/lib/swtpm-localca"); out != "tss root 750\n" {
		t.Errorf("/var/lib/swtpm-localca is of %s", out)
	}
	m.must("install", "-d", "-o", "tss", "-m", "700", "/var/lib/vm")
	m.must("swtpm_setup", "--runas", "tss", "--tpm2", "--tpm-state", "/var/lib/vm", "--create-ek-cert", "--create-platform-cert", "--vmid", "vm1")
	if out := m.must("stat", "-c", "%U %a", "/var/lib/swtpm-localca/signkey.pem"); out != "tss 640\n" {
		t.Errorf("the CA's key is of %s", out)
	}
	m.start("/var/lib/vm")
	if out := m.must("ashlar", "version"); !strings.Contains(out, "ashlar ") {
		t.Errorf("ashlar version says %s", out)
	}
	m.must("apt-get", "check") // what depends on swtpm has it

	m.install(theirs...) // asks for nothing
	m.wantOurs()
	if !m.exists("/etc/swtpm_setup.conf") || strings.Contains(m.says("swtpm.distrib"), "Ashlar") {
		t.Error("Debian's swtpm has not been installed beside ours")
	}
	m.must("dpkg", "--purge", "swtpm-tools", "swtpm")
	m.wantOurs()
	m.must("dpkg", "--purge", "ashlar-swtpm", "ashlar")
	for _, name := range names {
		if m.exists("/usr/bin/"+name) || m.exists("/usr/bin/"+name+".distrib") {
			t.Errorf("%s is left", name)
		}
	}
	if !m.exists("/var/lib/vm/"+oursName) || !m.exists("/var/lib/swtpm-localca/signkey.pem") {
		t.Error("the purge took a guest's TPM or the CA")
	}
}

// TestAppArmor: which profile AppArmor is told to load and to let go, and that its
// refusal stops nothing.
func TestAppArmor(t *testing.T) {
	deb, _ := packages(t)
	m := newMachine(t)
	m.path = "/fake:" + m.path
	m.write("/fake/ischroot", "#!/bin/sh\nexit 1\n", 0o755)
	m.write("/fake/aa-enabled", "#!/bin/sh\n", 0o755)
	m.write("/fake/apparmor_parser", "#!/bin/sh\necho \"$*\" >>/fake/log\nexit 1\n", 0o755)
	m.write("/etc/apparmor.d/usr.bin.swtpm", "# theirs\n", 0o644)
	newer := variant(t, deb, "999", nil)
	const ours, theirs = "/etc/apparmor.d/ashlar-swtpm", "/etc/apparmor.d/usr.bin.swtpm"
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { m.install(deb) }, "-R " + theirs + "\n-r -T -W " + ours + "\n"},
		{func() { m.install(newer) }, "-r -T -W " + ours + "\n"},
		{func() { m.must("dpkg", "--remove", "ashlar-swtpm") }, "-R " + ours + "\n-r -T -W " + theirs + "\n"},
		{func() { m.install(deb) }, "-R " + theirs + "\n-r -T -W " + ours + "\n"},
		{func() { m.must("dpkg", "--purge", "ashlar-swtpm") }, "-R " + ours + "\n-r -T -W " + theirs + "\n"},
	} {
		m.write("/fake/log", "", 0o644)
		step.do()
		if got := m.read("/fake/log"); got != step.want {
			t.Errorf("apparmor_parser was called\n%swant\n%s", got, step.want)
		}
	}
	// Who had switched swtpm's profile off finds it so.
	m.must("mkdir", "-p", "/etc/apparmor.d/disable")
	m.must("ln", "-s", theirs, "/etc/apparmor.d/disable/usr.bin.swtpm")
	m.install(deb)
	m.must("dpkg", "--purge", "ashlar-swtpm")
	if !m.exists("/etc/apparmor.d/disable/usr.bin.swtpm") {
		t.Error("the administrator's choice is undone")
	}
}

// TestFailedInstallation: a package that cannot be unpacked leaves Debian's as it was.
func TestFailedInstallation(t *testing.T) {
	deb, _ := packages(t)
	m := newMachine(t)
	bad := variant(t, deb, "999", func(dir string) { add(t, filepath.Join(dir, "usr/bin/dpkg"), "not ours\n") })
	b, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	m.write("/tmp/bad.deb", string(b), 0o644)
	if out, err := m.run("dpkg", "-i", "/tmp/bad.deb"); err == nil || !strings.Contains(out, "trying to overwrite") {
		t.Fatalf("it could be unpacked: %v\n%s", err, out)
	}
	m.wantTheirs()
}

// bashBlock is a fenced block of the page, which may be part of a list.
var bashBlock = regexp.MustCompile("(?ms)^ *```bash\n(.*?)^ *```$")

// TestInstallPage runs what docs/install.md says, in its order; "make deb" finds the
// packages built.
func TestInstallPage(t *testing.T) {
	deb, ashlar := packages(t)
	page, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	m.put([]string{deb, ashlar})
	m.path = "/fake:" + m.path
	m.write("/fake/sudo", "#!/bin/sh\nexec \"$@\"\n", 0o755)
	m.write("/fake/make", "#!/bin/sh\n[ \"$*\" = deb ] && mkdir -p bin && cp /tmp/*.deb bin\n", 0o755)
	m.write("/var/lib/libvirt/swtpm/UUID/tpm2/tpm2-00.ashlar", "a TPM", 0o600)
	var said string
	for i, block := range bashBlock.FindAllSubmatch(page, -1) {
		cmd := m.command("sh", "-exc", string(block[1]))
		cmd.Dir, cmd.Stdin = "/root", strings.NewReader("y\n")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("block %d: %v\n%s", i+1, err, out)
		}
		said += string(out)
	}
	m.wantTheirs()
	if !strings.Contains(said, "TPMs of Ashlar (1), which swtpm does not read") {
		t.Error("the removal does not warn of guests' TPMs")
	}
}

// TestBashCompletes: the packages' completions are where bash finds them.
func TestBashCompletes(t *testing.T) {
	deb, ashlar := packages(t)
	for file, want := range map[string]string{deb: strings.Join(names, " "), ashlar: "ashlar"} {
		dir := t.TempDir()
		if out, err := exec.Command("dpkg-deb", "-x", file, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for name := range strings.FieldsSeq(want) {
			out, err := exec.Command("bash", "-c", ". "+filepath.Join(dir, "usr/share/bash-completion/completions", name)+"; complete -p "+name).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
	}
}

// TestLintian has Debian's checker look at the packages.
func TestLintian(t *testing.T) {
	deb, ashlar := packages(t)
	if _, err := exec.LookPath("lintian"); err != nil {
		t.Skip("there is no lintian: install it")
	}
	out, err := exec.Command("lintian", "--fail-on", "error,warning", "--no-tag-display-limit", deb, ashlar).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
