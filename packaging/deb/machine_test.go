package deb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lowerVariable names the directory of a Debian that the tests install on; without
// it, it is this machine. Neither is changed: what is written goes above it.
const lowerVariable = "ASHLAR_DEB_ROOT"

// A machine is a Debian to install on, as a file system over another one that keeps
// what is written in memory. It lives in the mount namespace of its test's thread.
type machine struct {
	t     *testing.T
	lower string
	upper string
	root  string
	path  string // PATH in it
}

// newMachine makes a machine that has Debian's swtpm and not ours.
func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: packages are installed by root, in a file system of their own")
	}
	m := &machine{t: t, lower: os.Getenv(lowerVariable), path: os.Getenv("PATH")}
	if m.lower == "" {
		m.lower = "/"
	}
	if _, err := os.Stat(filepath.Join(m.lower, "var/lib/dpkg/info/swtpm-tools.list")); err != nil {
		t.Skip("there is no swtpm to take the place of: install swtpm-tools")
	}
	m.mount()
	if !m.exists("/usr/bin/dpkg-divert") || !m.exists("/var/lib/dpkg/status") {
		t.Skip("this machine is of several file systems: use make test-deb")
	}
	// The index of manual pages takes the most of an installation's time.
	m.write("/usr/bin/mandb", "#!/bin/sh\n", 0o755)
	if m.installed("ashlar-swtpm") {
		m.must("dpkg", "--purge", "ashlar-swtpm")
	}
	return m
}

func (m *machine) mount() {
	m.t.Helper()
	runtime.LockOSThread() // for ever: its namespace ends with it
	base, err := os.MkdirTemp("", "deb")
	if err != nil {
		m.t.Fatal(err)
	}
	// All below is of this namespace alone, and goes with it. Never RemoveAll: that
	// would go into what is mounted.
	m.t.Cleanup(func() {
		_ = unix.Unmount(base, unix.MNT_DETACH)
		_ = os.Remove(base)
	})
	m.upper, m.root = filepath.Join(base, "upper"), filepath.Join(base, "root")
	check := func(err error) {
		if err != nil {
			m.t.Skipf("no file system over another one can be mounted here: %v", err)
		}
	}
	check(unix.Unshare(unix.CLONE_NEWNS))
	check(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	check(unix.Mount("tmpfs", base, "tmpfs", 0, "size=1g"))
	for _, dir := range []string{"upper", "work", "root"} {
		check(os.Mkdir(filepath.Join(base, dir), 0o755))
	}
	check(unix.Mount("overlay", m.root, "overlay", 0,
		fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", m.lower, m.upper, filepath.Join(base, "work"))))
	check(unix.Mount("proc", filepath.Join(m.root, "proc"), "proc", 0, ""))
	m.devices(filepath.Join(m.root, "dev"))
	check(unix.Mount("tmpfs", filepath.Join(m.root, "run"), "tmpfs", 0, ""))
	check(unix.Mount("tmpfs", filepath.Join(m.root, "tmp"), "tmpfs", 0, "mode=1777"))
}

// devices gives the machine devices of its own: the host's /dev is the same in
// every place where it is mounted, so what is removed in one is gone in all.
func (m *machine) devices(dir string) {
	m.t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		m.t.Skipf("no file system for devices can be mounted here: %v", err)
	}
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		file := filepath.Join(dir, name)
		if err := errors.Join(unix.Mknod(file, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))), os.Chmod(file, 0o666)); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := os.Symlink("/proc/self/fd", filepath.Join(dir, "fd")); err != nil {
		m.t.Fatal(err)
	}
}

// command is one in the machine, with nobody to answer what it asks.
func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/usr/bin/env", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + m.path, "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

func (m *machine) run(args ...string) (string, error) {
	out, err := m.command(args...).CombinedOutput()
	return string(out), err
}

func (m *machine) must(args ...string) string {
	m.t.Helper()
	out, err := m.run(args...)
	if err != nil {
		m.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// install has dpkg install packages.
func (m *machine) install(debs ...string) {
	m.t.Helper()
	m.must(append([]string{"dpkg", "-i"}, m.put(debs)...)...)
}

// apt has apt install packages, as the pages say.
func (m *machine) apt(debs ...string) {
	m.t.Helper()
	m.must(append([]string{"apt-get", "install", "-y"}, m.put(debs)...)...)
}

// put copies files into the machine.
func (m *machine) put(files []string) (list []string) {
	m.t.Helper()
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			m.t.Fatal(err)
		}
		list = append(list, "/tmp/"+filepath.Base(file))
		m.write(list[len(list)-1], string(b), 0o644)
	}
	return list
}

func (m *machine) installed(name string) bool {
	out, err := m.run("dpkg-query", "-W", "-f", "${db:Status-Status}", name)
	return err == nil && out == "installed"
}

// at is a file of the machine, seen from outside.
func (m *machine) at(path string) string { return filepath.Join(m.root, path) }

func (m *machine) write(path, text string, mode fs.FileMode) {
	m.t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(m.at(path)), 0o755), os.WriteFile(m.at(path), []byte(text), mode), os.Chmod(m.at(path), mode))
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(path string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.at(path))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// exists tells whether there is a file, or a link that leads nowhere.
func (m *machine) exists(path string) bool {
	_, err := os.Lstat(m.at(path))
	return err == nil
}

// A guest is a TPM that runs, with somebody at its data channel.
type guest struct {
	m    *machine
	cmd  *exec.Cmd
	conn net.Conn
}

// start runs the swtpm that the machine has just now, with its state in a directory.
func (m *machine) start(dir string) *guest {
	m.t.Helper()
	m.must("mkdir", "-p", dir)
	g := &guest{m: m, cmd: m.command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path=/run/g.data", "--flags", "not-need-init,startup-clear")}
	var said bytes.Buffer
	g.cmd.Stderr = &said
	if err := g.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _, _ = g.cmd.Process.Kill(), g.cmd.Wait() })
	for range 500 {
		// By way of a descriptor: the path may be longer than a socket's address.
		d, err := os.Open(m.at("/run"))
		if err != nil {
			m.t.Fatal(err)
		}
		g.conn, err = net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/g.data", d.Fd()))
		_ = d.Close()
		if err == nil {
			_ = os.Remove(m.at("/run/g.data"))
			m.t.Cleanup(func() { _ = g.conn.Close() })
			g.works()
			return g
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatalf("swtpm does not start: %s", said.String())
	return nil
}

// works sends GetRandom on the connection that is open since the start.
func (g *guest) works() {
	g.m.t.Helper()
	_ = g.conn.SetDeadline(time.Now().Add(20 * time.Second))
	response := make([]byte, 12+16)
	_, err := g.conn.Write([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 16})
	if err == nil {
		_, err = io.ReadFull(g.conn, response)
	}
	if err != nil || binary.BigEndian.Uint32(response[6:]) != 0 {
		g.m.t.Fatalf("the TPM of a guest that runs is disturbed: %v, %x", err, response)
	}
}

// built has the packages built from this tree, once: ashlar-swtpm and ashlar.
var built = sync.OnceValues(func() ([]string, error) {
	out, err := exec.Command("./build", builtIn).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return strings.Fields(string(out)), nil
})

// builtIn is where.
var builtIn string

func TestMain(m *testing.M) {
	var err error
	if builtIn, err = os.MkdirTemp("", "debs"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(builtIn)
	os.Exit(code)
}

// packages gives the paths of the packages.
func packages(t *testing.T) (swtpm, ashlar string) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("there is no dpkg-deb: packages are built on Debian")
	}
	debs, err := built()
	if err != nil || len(debs) != 2 {
		t.Fatalf("%v: %v", debs, err)
	}
	return debs[0], debs[1]
}

// variant is a package with another version, and changed as edit does.
func variant(t *testing.T, deb, version string, edit func(dir string)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "p")
	if out, err := exec.Command("dpkg-deb", "-R", deb, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	control := filepath.Join(dir, "DEBIAN/control")
	b, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "Version: ") {
			lines[i] = "Version: " + version
		}
	}
	if err := os.WriteFile(control, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(dir)
	}
	return pack(t, dir, version)
}

// pack builds a package of a directory, quickly.
func pack(t *testing.T, dir, version string) string {
	t.Helper()
	deb := filepath.Join(t.TempDir(), filepath.Base(dir)+"_"+version+".deb")
	if out, err := exec.Command("dpkg-deb", "-Znone", "--root-owner-group", "-b", dir, deb).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return deb
}

// repack makes a package again of what the machine has installed of it, as another
// version of Debian's.
func (m *machine) repack(name, version string, edit func(dir string)) string {
	m.t.Helper()
	dir := filepath.Join(m.t.TempDir(), name)
	script := `set -e
mkdir -p "$2/DEBIAN"
dpkg-query -s "$1" | sed "/^Status:/d; /^Conffiles:/,/^[^ ]/{/^Conffiles:/d; /^ /d}; s/^Version: .*/Version: $3/; s/(= [^)]*)/(= $3)/" >"$2/DEBIAN/control"
for f in postinst preinst prerm postrm conffiles; do
	[ ! -e "/var/lib/dpkg/info/$1.$f" ] || cp "/var/lib/dpkg/info/$1.$f" "$2/DEBIAN/$f"
done
dpkg-query -L "$1" | grep -v '^diverted by\|^/\.$' | while read -r f; do
	at=$(dpkg-divert --truename "$f")
	if [ -d "$at" ] && [ ! -L "$at" ]; then mkdir -p "$2$f"; else mkdir -p "$2$(dirname "$f")"; cp -a "$at" "$2$f"; fi
done
`
	cmd := m.command("sh", "-c", script, "sh", name, "/tmp/repack/"+name, version)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("repack: %v\n%s", err, out)
	}
	if out, err := exec.Command("cp", "-a", m.at("/tmp/repack/"+name), dir).CombinedOutput(); err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	_ = os.RemoveAll(m.at("/tmp/repack"))
	if edit != nil {
		edit(dir)
	}
	return pack(m.t, dir, version)
}
