package libvirt

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// step runs a step of a life cycle and says how long it took.
func step(t *testing.T, name string, f func()) {
	t.Helper()
	start := time.Now()
	f()
	t.Logf("%-50s %5.1f s", name, time.Since(start).Seconds())
	if t.Failed() {
		t.FailNow()
	}
}

// TestLife takes domains through libvirt's life cycle on one host: both kinds of
// device, encrypted and not.
func TestLife(t *testing.T) {
	needLibvirt(t)
	h := startHosts(t, "", "one")[0]
	for _, device := range []string{"tpm-crb", "tpm-tis"} {
		t.Run(device, func(t *testing.T) { life(t, h.on(t), device, "") })
		t.Run(device+" encrypted", func(t *testing.T) {
			h := h.on(t)
			life(t, h, device, h.secret("the passphrase"))
		})
	}
}

// secretUUID is the secret that encrypted domains name.
const secretUUID = "5d1c8f3e-0000-4000-8000-0000000000ee"

// secret defines libvirt's secret for a TPM, or gives it another value.
func (h *host) secret(value string) string {
	h.t.Helper()
	h.write("secret.xml", "<secret ephemeral='no' private='yes'><uuid>"+secretUUID+"</uuid><usage type='vtpm'><name>vtpm</name></usage></secret>")
	h.write("secret.value", value)
	h.virsh("secret-define", h.path("secret.xml"))
	h.virsh("secret-set-value", secretUUID, "--file", h.path("secret.value"), "--plain")
	return secretUUID
}

// life takes one domain through its life.
func life(t *testing.T, h *host, device, secret string) {
	d := newDomain(h, machine{Name: "vm1", TPM: tpmElement(device, secret, "sha256"), Disk: "/var/lib/libvirt/images/vm1.qcow2"})
	step(t, "start, and the TPM works", func() {
		d.define()
		d.start()
		d.prepare()
		d.load()
		if banks := d.banks(); banks != "sha256" {
			t.Errorf("active banks: %q", banks)
		}
	})
	wantEncrypted(t, d, secret != "")
	lifeRunning(t, d)
	lifeRestarts(t, d)
	lifeDefinitions(t, d, device, secret)
}

// lifeRunning saves and restores the running domain in all ways.
func lifeRunning(t *testing.T, d *domain) {
	before := d.look()
	step(t, "save and restore", func() {
		d.host.virsh("save", d.Name, "/var/lib/libvirt/qemu/save/file")
		d.host.virsh("restore", "/var/lib/libvirt/qemu/save/file")
		d.connect()
		d.wantGoesOn(before)
	})
	before = d.look()
	step(t, "managed save", func() {
		d.host.virsh("managedsave", d.Name)
		d.host.virsh("start", d.Name)
		d.connect()
		d.wantGoesOn(before)
	})
	before = d.look()
	step(t, "snapshot and revert", func() {
		d.host.virsh("snapshot-create-as", d.Name, "one")
		d.wantGoesOn(before)
		d.host.virsh("snapshot-revert", d.Name, "one")
		d.connect()
		d.wantGoesOn(before)
		if log := d.host.tpmLog(d.Name); !*debian && !strings.Contains(log, "was replaced by one that came in") {
			t.Errorf("the log does not tell of the revert: %s", log)
		}
	})
}

// lifeRestarts restarts the domain in all ways.
func lifeRestarts(t *testing.T, d *domain) {
	before := d.look()
	step(t, "reboot by the guest", func() {
		d.reboot()
		d.wantRestarted(before)
	})
	before = d.look()
	step(t, "reset by libvirt", func() {
		d.host.virsh("reset", d.Name)
		d.awaitGuest()
		d.wantRestarted(before)
	})
	before = d.look()
	step(t, "destroy and start", func() {
		d.stop()
		d.start()
		d.wantRestarted(before)
	})
	before = d.look()
	step(t, "shutdown and start", func() {
		if err := d.line.PowerOff(); err != nil {
			t.Fatal(err)
		}
		d.await("shut off")
		d.start()
		d.wantRestarted(before)
	})
}

// lifeDefinitions changes what libvirt knows of the domain, which runs.
func lifeDefinitions(t *testing.T, d *domain, device, secret string) {
	h := d.host
	var before look
	step(t, "rename, undefine with --keep-tpm, other banks", func() {
		before = d.look()
		d.stop()
		h.virsh("snapshot-delete", d.Name, "one")
		h.virsh("domrename", d.Name, "vm2")
		h.virsh("undefine", "vm2", "--keep-tpm")
		d.Name, d.TPM = "vm2", tpmElement(device, secret, "sha256", "sha384")
		d.define()
		d.start()
		if banks := d.banks(); banks != "sha256 sha384" {
			t.Errorf("active banks: %q", banks)
		}
		d.wantRestarted(before)
	})
	step(t, "undefine", func() {
		d.stop()
		h.virsh("undefine", d.Name)
		if _, err := os.Stat(filepath.Dir(d.state())); !os.IsNotExist(err) {
			t.Errorf("the TPM's state is still there: %v", err)
		}
	})
	step(t, "a new TPM in its place", func() {
		d.define()
		d.start()
		if after := d.ekName(); after == before.ek {
			t.Error("it is the old one")
		}
		d.stop()
		h.virsh("undefine", d.Name, "--tpm")
	})
}

// reboot lets the guest reboot itself, and waits for it.
func (d *domain) reboot() {
	d.t.Helper()
	d.sh("(sleep 1; reboot -f) >/dev/null 2>&1 &")
	d.awaitGuest()
}

// await waits for a state of the domain.
func (d *domain) await(state string) {
	d.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		is := strings.TrimSpace(d.host.virsh("domstate", d.Name))
		if is == state {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("%s is %s, not %s", d.Name, is, state)
		}
	}
}

// wantEncrypted checks whether the files of our TPM can be read without the key.
func wantEncrypted(t *testing.T, d *domain, want bool) {
	t.Helper()
	if *debian {
		return
	}
	state, err := os.ReadFile(filepath.Join(d.state(), "tpm2-00.ashlar"))
	if err != nil {
		t.Fatal(err)
	}
	if clear := bytes.Contains(state, []byte("ASHLARTS")); clear == want {
		t.Errorf("the state is in clear: %v", clear)
	}
}
