// Package libvirt holds the test of libvirt's life cycle with our swtpm and
// swtpm_setup first on PATH: 'make test-libvirt' runs it. Every libvirtd is its own,
// in namespaces of its own, so that it cannot touch the machine's domains, and two
// hosts can stand side by side. The domains are emulated and boot a Debian kernel;
// what their TPMs hold is asked from inside the guest.
package libvirt

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	ours   = flag.String("libvirt", "", "run libvirt's life cycle with the programs in this directory")
	debian = flag.Bool("libvirt.debian", false, "with Debian's swtpm instead, to see what is libvirt's own")
)

// needLibvirt skips where the test was not asked for, and fails where it cannot run.
func needLibvirt(t *testing.T) {
	t.Helper()
	if *ours == "" {
		t.Skip("takes minutes and needs root: run by 'make test-libvirt'")
	}
	if os.Geteuid() != 0 {
		t.Fatal("namespaces, mounts and libvirtd need root")
	}
	for _, tool := range []string{"libvirtd", "virtlogd", "virsh", "nsenter", "swtpm", "qemu-img", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: install LIBVIRT_PACKAGES of the Makefile", tool)
		}
	}
}

// host is a libvirt host: libvirtd and all it starts, in mount, UTS, PID and network
// namespaces of its own.
type host struct {
	t      *testing.T
	name   string
	dir    string // its /var, /etc/libvirt and logs, seen from outside
	shared string // the directory of the TPMs' states, if other hosts have it too
	init   *exec.Cmd
	alive  io.Closer // the first process's standard input: closed, all of the host ends
	said   *bytes.Buffer
}

// hostScript is the first process of a host. It takes over children that libvirtd
// leaves behind, and ends with its standard input, and everything in the host with
// it. All of the machine that libvirtd would write is covered first.
const hostScript = `set -eu
hostname "$NAME"
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /run/libvirt /run/lock
for d in lib/libvirt cache/libvirt log/libvirt log/swtpm lib/swtpm-localca; do
	mkdir -p "$DIR/$d" "/var/$d"
	mount --bind "$DIR/$d" "/var/$d"
done
if [ -n "$SHARED" ]; then
	mkdir -p /var/lib/libvirt/swtpm
	mount --bind "$SHARED" /var/lib/libvirt/swtpm
fi
chown tss "$DIR/lib/swtpm-localca"
mount --bind "$DIR/etc" /etc/libvirt
mount --bind "$DIR/hosts" /etc/hosts
ip link set lo up
virtlogd -d
libvirtd --listen </dev/null &
cat >/dev/null
`

// startHosts starts libvirt hosts that reach each other by their names. They keep
// their TPMs in the directory shared, or where it is "" each in its own.
func startHosts(t *testing.T, shared string, names ...string) []*host {
	t.Helper()
	needLibvirt(t)
	var hosts []*host
	for i, name := range names {
		h := &host{t: t, name: name, dir: shortDir(t), shared: shared, said: new(bytes.Buffer)}
		h.configure(i, names)
		h.start(hosts)
		hosts = append(hosts, h)
	}
	for _, h := range hosts {
		h.await()
	}
	return hosts
}

// configure writes the host's files. Its number makes its UUID and its address, by
// which libvirt tells hosts apart.
func (h *host) configure(number int, names []string) {
	h.t.Helper()
	h.write("etc/libvirtd.conf", fmt.Sprintf(`host_uuid = "7a0c3a5e-4a1f-4d5b-9a51-0000000000%02d"
listen_tls = 0
listen_tcp = 1
listen_addr = "%s"
auth_tcp = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
`, number+1, address(number)))
	// Without systemd nobody delegates control groups.
	h.write("etc/qemu.conf", "cgroup_controllers = []\n")
	lines := "127.0.0.1 localhost\n"
	for i, name := range names {
		lines += address(i) + " " + name + "\n"
	}
	h.write("hosts", lines)
}

func address(number int) string { return fmt.Sprintf("127.0.0.%d", number+2) }

func (h *host) write(name, text string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// start starts the host, in the network namespace of the first that there is.
func (h *host) start(before []*host) {
	h.t.Helper()
	args := []string{"sh", "-c", hostScript}
	flags := uintptr(syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID)
	if len(before) == 0 {
		flags |= syscall.CLONE_NEWNET
	} else {
		args = append([]string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", before[0].init.Process.Pid), "--"}, args...)
	}
	h.init = exec.Command(args[0], args[1:]...)
	path := os.Getenv("PATH")
	if !*debian {
		path = programs(h.t) + ":" + path
	}
	h.init.Env = append(os.Environ(), "NAME="+h.name, "DIR="+h.dir, "SHARED="+h.shared, "PATH="+path)
	h.init.Stdout, h.init.Stderr = h.said, h.said
	h.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	alive, err := h.init.StdinPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	h.alive = alive
	if err := h.init.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.tellLogs()
		}
		h.alive.Close()
		_ = h.init.Process.Kill() // the first of its PID namespace: all of it ends
		_ = h.init.Wait()
	})
}

// await waits until libvirtd answers, and has looked at QEMU, which takes it a while.
func (h *host) await() {
	h.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		if _, err := h.try("virsh", "-q", "domcapabilities", "--virttype", "qemu"); err == nil {
			return
		} else if time.Now().After(end) {
			h.t.Fatalf("libvirtd does not answer: %v\n%s", err, h.said.String())
		}
	}
}

// patience is how long a step may take on a machine with other work: an emulated boot
// takes 5 seconds alone.
const patience = 6 * time.Minute

// try runs a command in the host.
func (h *host) try(args ...string) (string, error) {
	cmd := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(h.init.Process.Pid), "-a", "--"}, args...)...)
	cmd.Env = h.init.Env
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// run runs a command in the host, which must succeed.
func (h *host) run(args ...string) string {
	h.t.Helper()
	out, err := h.try(args...)
	if err != nil {
		h.t.Fatalf("on %s: %v", h.name, err)
	}
	return out
}

// virsh runs a command of virsh, which must succeed.
func (h *host) virsh(args ...string) string {
	h.t.Helper()
	return h.run(append([]string{"virsh", "-q"}, args...)...)
}

// refused runs a command of virsh that must fail, and gives what it said.
func (h *host) refused(args ...string) string {
	h.t.Helper()
	out, err := h.try(append([]string{"virsh", "-q"}, args...)...)
	if err == nil {
		h.t.Fatalf("on %s: virsh %s did not fail: %s", h.name, strings.Join(args, " "), out)
	}
	return out
}

// on is the host for a part of a test; what fails in it shows the host's logs.
func (h *host) on(t *testing.T) *host {
	part := *h
	part.t = t
	t.Cleanup(func() {
		if t.Failed() {
			part.tellLogs()
		}
	})
	return &part
}

// path is where a file of the host's /var lies outside.
func (h *host) path(elements ...string) string {
	return filepath.Join(append([]string{h.dir}, elements...)...)
}

// tpmLog is the log that swtpm and swtpm_setup have for a domain.
func (h *host) tpmLog(domain string) string {
	text, _ := os.ReadFile(h.path("log/swtpm/libvirt/qemu", domain+"-swtpm.log")) // absent: nothing logged
	return string(text)
}

// networkNoise is what libvirtd says of network devices that a namespace lacks.
var networkNoise = regexp.MustCompile(`(?m)^.*ethtool ioctl.*\n`)

// tellLogs shows the ends of the host's logs.
func (h *host) tellLogs() {
	for _, pattern := range []string{"log/libvirt/*.log", "log/libvirt/qemu/*.log", "log/swtpm/libvirt/qemu/*.log", "lib/libvirt/qemu/*-console"} {
		files, _ := filepath.Glob(h.path(pattern))
		for _, file := range files {
			text, _ := os.ReadFile(file)
			text = networkNoise.ReplaceAll(text, nil)
			h.t.Logf("%s: %s: …%s", h.name, pattern, text[max(0, len(text)-3000):])
		}
	}
}

// shortDir is a directory with a path that leaves room for the names of sockets, and
// that libvirt's users may pass through.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lv")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
