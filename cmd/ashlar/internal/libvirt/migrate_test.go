package libvirt

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMigrate moves domains, whose guests work with their TPMs, between hosts that
// share nothing, to and fro.
func TestMigrate(t *testing.T) {
	needLibvirt(t)
	t.Run("tpm-crb encrypted", func(t *testing.T) {
		hosts := startHosts(t, "", "one", "two")
		secret := hosts[0].secret("the passphrase")
		d := newDomain(hosts[0], machine{Name: "vm1", TPM: tpmElement("tpm-crb", secret), Disk: "/var/lib/libvirt/images/vm1.qcow2"})
		startToMove(t, d)
		step(t, "to a host without the secret: refused", func() {
			before := d.look()
			d.host.refused(migration(hosts[1], "--copy-storage-all")...)
			d.wantGoesOn(before)
		})
		hosts[1].secret("the passphrase")
		move(t, d, hosts[1], "--copy-storage-all")
		wantEncrypted(t, d, true)
		move(t, d, hosts[0], "--copy-storage-all", "--p2p")
	})
	t.Run("tpm-tis", func(t *testing.T) {
		hosts := startHosts(t, "", "one", "two")
		d := newDomain(hosts[0], machine{Name: "vm1", TPM: tpmElement("tpm-tis", "")})
		startToMove(t, d)
		move(t, d, hosts[1], "--p2p", "--tunnelled")
		move(t, d, hosts[0])
	})
}

// TestMigrateShared does so between hosts that share the states of TPMs on a file
// system that libvirt takes for a network's.
func TestMigrateShared(t *testing.T) {
	needLibvirt(t)
	for _, device := range []string{"tpm-crb", "tpm-tis"} {
		t.Run(device, func(t *testing.T) {
			hosts := startHosts(t, networkFileSystem(t), "one", "two")
			d := newDomain(hosts[0], machine{Name: "vm1", TPM: tpmElement(device, "")})
			// libvirt 9.0 looks at a file system in user space before it has made the
			// directory, and finds out only at the next start that it is shared.
			d.define()
			d.host.virsh("start", d.Name, "--paused")
			d.host.virsh("destroy", d.Name)
			startToMove(t, d)
			if *debian { // its swtpm cannot hand the lock over
				wantSaid(t, d.host.refused(migration(hosts[1])...), "the running swtpm does not support migration with shared storage")
				return
			}
			move(t, d, hosts[1])
			move(t, d, hosts[0], "--p2p")
			before := d.look()
			step(t, "destroy and start where it came back to", func() {
				d.stop()
				d.start()
				d.wantRestarted(before)
			})
		})
	}
}

// networkFileSystem is a directory on a file system in user space that says of itself
// that it is Gluster's, which is all that libvirt 9.0 looks at. Record locks hold there.
func networkFileSystem(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("bindfs"); err != nil {
		t.Fatal("bindfs is missing: install LIBVIRT_PACKAGES of the Makefile")
	}
	from, at := shortDir(t), shortDir(t)
	serve := exec.Command("bindfs", "-f", "-o", "subtype=glusterfs,allow_other", from, at)
	serve.Stderr = os.Stderr
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("umount", "-l", at).Run()
		_ = serve.Process.Kill()
		_ = serve.Wait()
	})
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		mounts, err := os.ReadFile("/proc/mounts")
		if err == nil && strings.Contains(string(mounts), at+" fuse.glusterfs") {
			return at
		}
		if time.Now().After(end) {
			t.Fatalf("no file system at %s: %v\n%s", at, err, mounts)
		}
	}
}

// startToMove starts a domain that is to move.
func startToMove(t *testing.T, d *domain) {
	t.Helper()
	step(t, "start", func() {
		d.define()
		d.start()
		d.prepare()
		d.load()
	})
}

func migration(to *host, options ...string) []string {
	return append([]string{"migrate", "--live", "--persistent", "--undefinesource", "vm1", "qemu+tcp://" + to.name + "/system"}, options...)
}

// move moves a domain, whose guest measures without pause, to another host: no
// measurement is lost or done twice.
func move(t *testing.T, d *domain, to *host, options ...string) {
	t.Helper()
	step(t, strings.Join(append([]string{"live to", to.name}, options...), " "), func() {
		before, start := d.look(), d.readPCR(workPCR)
		d.startMeasuring()
		if d.Disk != "" { // libvirt makes none outside its pools
			to.run("mkdir", "-p", filepath.Dir(d.Disk))
			to.run("qemu-img", "create", "-q", "-f", "qcow2", d.Disk, "4M")
		}
		from, state := d.host, d.state()
		from.virsh(migration(to, options...)...)
		d.host = to
		d.connect()
		n := d.measured()
		for end := time.Now().Add(patience); d.measured() < n+5; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the guest does not measure after %d times: %s", n, d.sh("cat /run/measuring"))
			}
		}
		n = d.stopMeasuring()
		wantMeasured(t, start, d.readPCR(workPCR), n)
		before.pcr = d.look().pcr
		d.wantGoesOn(before)
		if _, err := os.Stat(state); from.shared == "" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the TPM's state is still on host %s: %v", from.name, err)
		}
	})
}

// wire keeps a command instead of sending it.
type wire struct{ command []byte }

func (w *wire) Send(command []byte) ([]byte, error) {
	w.command = bytes.Clone(command)
	return nil, errors.New("it is only kept")
}

// startMeasuring lets the guest extend a PCR again and again.
func (d *domain) startMeasuring() {
	d.t.Helper()
	var w wire
	if _, err := extend().Execute(&w); w.command == nil {
		d.t.Fatal(err)
	}
	if err := d.line.Put(d.soon(), "/run/extend", w.command); err != nil {
		d.t.Fatal(err)
	}
	d.sh("rm -f /run/stop /run/stopped; echo >/run/measured; while [ ! -e /run/stop ]; do " +
		"exec 4<>/dev/tpm0; dd bs=4096 if=/run/extend >&4 && dd bs=4096 count=1 <&4 >/run/extended && echo >>/run/measured; exec 4>&-; " +
		"done >/run/measuring 2>&1 && echo >/run/stopped &")
}

// measured is how often the guest has had an answer.
func (d *domain) measured() int {
	d.t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(d.sh("wc -l </run/measured")))
	if err != nil {
		d.t.Fatal(err)
	}
	return n - 1
}

func (d *domain) stopMeasuring() int {
	d.t.Helper()
	d.sh("echo >/run/stop; while [ ! -e /run/stopped ]; do sleep 0.1; done")
	return d.measured()
}

// wantMeasured checks that a PCR was extended n times, or once more: QEMU 7.2 may lose
// the answer to the command that runs while a machine with tpm-crb moves.
func wantMeasured(t *testing.T, before, after []byte, n int) {
	t.Helper()
	digest := sha256.Sum256([]byte("work"))
	pcr := before
	for i := 0; i <= n+1; i++ {
		if i >= n && bytes.Equal(pcr, after) {
			return
		}
		sum := sha256.Sum256(append(bytes.Clone(pcr), digest[:]...))
		pcr = sum[:]
	}
	t.Errorf("the PCR was not extended %d times, nor once more", n)
}
