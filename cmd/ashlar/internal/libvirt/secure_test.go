package libvirt

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/cmd/ashlar/internal/guest"
	"github.com/google/go-tpm/tpm2"
)

// firmware are OVMF's files for a domain.
type firmware struct{ code, variables string }

var (
	withSecureBoot    = firmware{"/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"}
	withoutSecureBoot = firmware{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"}
)

// TestSecureBoot boots a domain by Microsoft's key, Debian's shim, GRUB and kernel,
// under firmware that SMM protects, moves it, suspends it to RAM, and clears its TPM
// by physical presence.
func TestSecureBoot(t *testing.T) {
	needLibvirt(t)
	boot, err := secured()
	if err != nil {
		t.Fatal(err)
	}
	hosts := startHosts(t, "", "one", "two")
	h := hosts[0]
	hosts[1].secret("the passphrase")
	d := newDomain(h, machine{Name: "vm1", TPM: tpmElement("tpm-crb", h.secret("the passphrase"), "sha256"), Secure: true,
		Firmware: withSecureBoot.code, Variables: withSecureBoot.variables, Boot: boot})
	step(t, "start", func() {
		d.define()
		d.start()
		d.prepare()
		d.load()
		if lockdown := d.sh("cat /sys/kernel/security/lockdown"); !strings.Contains(lockdown, "[integrity]") {
			t.Errorf("the kernel does not know of Secure Boot: %s", lockdown)
		}
	})
	before := d.look()
	step(t, "save and restore", func() {
		d.host.virsh("save", d.Name, "/var/lib/libvirt/qemu/save/file")
		d.host.virsh("restore", "/var/lib/libvirt/qemu/save/file")
		d.connect()
		d.wantGoesOn(before)
	})
	move(t, d, hosts[1])
	suspend(t, d)
	clearByPresence(t, d)
}

// suspend suspends the guest to RAM and wakes it: TPM2_Shutdown(STATE) and
// TPM2_Startup(STATE), which keep the PCRs, and no key in the TPM's memory.
func suspend(t *testing.T, d *domain) {
	t.Helper()
	before := d.look()
	before.loaded = ""
	step(t, "suspend to RAM and wake", func() {
		woken := make(chan error)
		go func() { // its answer comes when the guest is back
			_, _, err := d.line.Run(d.soon(), "echo mem >/sys/power/state")
			woken <- err
		}()
		d.await("pmsuspended")
		d.host.virsh("dompmwakeup", d.Name)
		if err := <-woken; err != nil {
			t.Fatal(err)
		}
		d.wantGoesOn(before)
	})
}

// clearByPresence lets the guest ask the firmware to clear the TPM, and says yes at the
// keyboard: a new storage seed, no counter, the same endorsement seed.
func clearByPresence(t *testing.T, d *domain) {
	t.Helper()
	before := d.look()
	step(t, "clear by physical presence", func() {
		d.askFirmware("5")
		if srk := d.srkName(); srk == before.srk {
			t.Error("the storage seed is the old one")
		}
		primary := ask(d, tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)})
		if name := hex.EncodeToString(primary.Name.Buffer); name != before.ek {
			t.Error("the endorsement seed is another one")
		}
		if _, err := (tpm2.NVReadPublic{NVIndex: counterNV}).Execute(d); !errors.Is(err, tpm2.TPMRCHandle) {
			t.Errorf("the counter is still there: %v", err)
		}
	})
}

// TestBanks changes the active PCR banks over a reboot, by the guest and its firmware,
// and then by libvirt.
func TestBanks(t *testing.T) {
	needLibvirt(t)
	h := startHosts(t, "", "one")[0]
	d := newDomain(h, machine{Name: "vm1", TPM: tpmElement("tpm-tis", "", "sha256"),
		Firmware: withoutSecureBoot.code, Variables: withoutSecureBoot.variables})
	step(t, "start", func() {
		d.define()
		d.start()
		d.prepare()
		if banks := d.banks(); banks != "sha256" {
			t.Errorf("active banks: %q", banks)
		}
	})
	suspend(t, d)
	before := d.look()
	step(t, "SHA-256 and SHA-384 by the guest and a reboot", func() {
		d.askFirmware("23 6")
		if banks := d.banks(); banks != "sha256 sha384" {
			t.Errorf("active banks: %q", banks)
		}
		d.wantRestarted(before)
	})
	before = d.look()
	step(t, "SHA-256 and SHA-512 by libvirt", func() {
		d.stop()
		d.TPM = tpmElement("tpm-tis", "", "sha256", "sha512")
		d.define()
		d.start()
		if banks := d.banks(); banks != "sha256 sha512" {
			t.Errorf("active banks: %q", banks)
		}
		d.wantRestarted(before)
	})
}

// askFirmware asks the firmware for an operation on the TPM (TCG PC Client Physical
// Presence Interface), reboots, says yes at the keyboard, and waits until the guest
// was told that it is done.
func (d *domain) askFirmware(request string) {
	d.t.Helper()
	d.sh("echo " + request + " >/sys/class/tpm/tpm0/ppi/request")
	ctx, cancel := context.WithCancel(context.Background())
	pressed := make(chan bool)
	go func() {
		defer close(pressed)
		for ctx.Err() == nil {
			_, _ = d.host.try("virsh", "-q", "send-key", d.Name, "KEY_F12") // while QEMU resets it may be refused
			time.Sleep(time.Second)
		}
	}()
	d.reboot()
	cancel()
	<-pressed
	want := fmt.Sprintf("%s 0: Success", strings.Fields(request)[0])
	if response := strings.TrimSpace(d.sh("cat /sys/class/tpm/tpm0/ppi/response")); response != want {
		d.t.Errorf("the firmware answered %q, not %q", response, want)
	}
}

// makeSecureDisk makes a folder that is the guest's EFI system partition: Debian's
// shim, which Microsoft has signed, its GRUB, its kernel and the initramfs.
func makeSecureDisk() (string, error) {
	dir := filepath.Join(scratchForTests, "esp")
	if err := fillBoot(dir); err != nil {
		return "", err
	}
	config := fmt.Sprintf("search --no-floppy --set=root --file /vmlinuz\nlinux /vmlinuz %s\ninitrd /initrd\nboot\n", guest.Cmdline)
	if err := writeBelow(dir, "EFI/debian/grub.cfg", []byte(config)); err != nil {
		return "", err
	}
	for _, program := range []struct{ pkg, file, name string }{
		{"shim-signed", "usr/lib/shim/shimx64.efi.signed", "EFI/BOOT/BOOTX64.EFI"},
		{"grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "EFI/BOOT/grubx64.efi"},
	} {
		data, err := fileOfPackage(program.pkg, program.file)
		if err != nil {
			return "", err
		}
		if err := writeBelow(dir, program.name, data); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func writeBelow(dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// fileOfPackage gives a file of a Debian package that is not installed, only kept
// beside the guest's kernel.
func fileOfPackage(pkg, name string) ([]byte, error) {
	cache, err := guest.CacheDir()
	if err != nil {
		return nil, err
	}
	pattern := filepath.Join(cache, pkg+"_*.deb")
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) == 0 {
		download := exec.Command("apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", pkg)
		download.Dir = cache
		if out, err := download.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("apt-get download %s: %w: %s", pkg, err, out)
		}
		found, err = filepath.Glob(pattern)
	}
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("no package %s: %w", pkg, err)
	}
	var data, errs bytes.Buffer
	unpack := exec.Command("sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar -xO "./$2"`, "sh", found[0], name)
	unpack.Stdout, unpack.Stderr = &data, &errs
	if err := unpack.Run(); err != nil || data.Len() == 0 {
		return nil, fmt.Errorf("%s has no %s: %w: %s", found[0], name, err, errs.String())
	}
	return data.Bytes(), nil
}
