package libvirt

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/ashlar-cloud/ashlar/cmd/ashlar/internal/guest"
)

// domainXML is a small machine: a kernel with its initramfs, or firmware that finds
// them on a disk, a TPM, a console and the line to the guest.
var domainXML = template.Must(template.New("").Parse(`<domain type='qemu'>
  <name>{{.Name}}</name>
  <uuid>{{.UUID}}</uuid>
  <memory unit='MiB'>{{if .Firmware}}512{{else}}256{{end}}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    {{- if .Firmware}}
    <loader readonly='yes' type='pflash'{{if .Secure}} secure='yes'{{end}}>{{.Firmware}}</loader>
    <nvram template='{{.Variables}}'/>
    {{- end}}
    {{- if .Secure}}
    <boot dev='hd'/>
    {{- else}}
    <kernel>{{.Boot}}/vmlinuz</kernel>
    <initrd>{{.Boot}}/initrd</initrd>
    <cmdline>{{.Cmdline}}</cmdline>
    {{- end}}
  </os>
  <features><acpi/>{{if .Secure}}<smm state='on'/>{{end}}</features>
  <cpu mode='maximum'/>
  <pm><suspend-to-mem enabled='yes'/></pm>
  <devices>
    {{- if .Disk}}
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{{.Disk}}'/><target dev='vdb' bus='virtio'/></disk>
    {{- end}}
    {{- if .Secure}}
    <disk type='dir' device='disk'><driver name='qemu' type='fat'/><source dir='{{.Boot}}'/><target dev='vda' bus='virtio'/><readonly/></disk>
    {{- end}}
    <serial type='file'><source path='/var/lib/libvirt/qemu/{{.Name}}-console' append='on'/><target port='0'/></serial>
    <serial type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/{{.Name}}-line'/><target port='1'/></serial>
    {{.TPM}}
    <memballoon model='none'/>
  </devices>
</domain>
`))

// machine is what domainXML is filled in with.
type machine struct {
	Name, UUID          string
	TPM                 string // the element, as a page shows it
	Disk                string // a disk of the guest's own; "" = none
	Firmware, Variables string // OVMF and its variables; "" = SeaBIOS
	Secure              bool   // Secure Boot, from the disk in the folder Boot
	Boot, Cmdline       string
}

// domain is a machine that libvirt knows, and the line to its guest.
type domain struct {
	machine
	t    *testing.T
	host *host
	line *guest.Line
}

// tpmElement is a TPM in a domain's XML.
func tpmElement(device, secret string, banks ...string) string {
	inside := ""
	if secret != "" {
		inside += "<encryption secret='" + secret + "'/>"
	}
	if len(banks) > 0 {
		inside += "<active_pcr_banks><" + strings.Join(banks, "/><") + "/></active_pcr_banks>"
	}
	return "<tpm model='" + device + "'><backend type='emulator' version='2.0'>" + inside + "</backend></tpm>"
}

// newDomain makes a domain, which libvirt does not know yet, for a host.
func newDomain(h *host, m machine) *domain {
	h.t.Helper()
	if m.UUID == "" {
		m.UUID = "5d1c8f3e-0000-4000-8000-000000000001"
	}
	if m.Boot == "" {
		m.Boot = bootFiles(h.t)
	}
	if m.Cmdline == "" {
		m.Cmdline = guest.Cmdline
	}
	d := &domain{machine: m, t: h.t, host: h}
	if d.Disk != "" {
		d.host.run("mkdir", "-p", filepath.Dir(d.Disk))
		d.host.run("qemu-img", "create", "-q", "-f", "qcow2", d.Disk, "4M")
	}
	h.t.Cleanup(func() { d.hangUp() })
	return d
}

// define gives libvirt the domain's XML, new or changed.
func (d *domain) define() {
	d.t.Helper()
	d.host.virsh("define", d.xml())
}

// xml is the path of the domain's XML.
func (d *domain) xml() string {
	d.t.Helper()
	var xml strings.Builder
	if err := domainXML.Execute(&xml, d.machine); err != nil {
		d.t.Fatal(err)
	}
	d.host.write("domain.xml", xml.String())
	return d.host.path("domain.xml")
}

// start starts the domain and waits for its guest.
func (d *domain) start() {
	d.t.Helper()
	d.host.virsh("start", d.Name)
	d.connect()
	d.awaitGuest()
}

// stop ends the domain as a power cut would.
func (d *domain) stop() {
	d.t.Helper()
	d.host.virsh("destroy", d.Name)
	d.hangUp()
}

// connect takes the line to the guest up again, which ends with each QEMU.
func (d *domain) connect() {
	d.t.Helper()
	d.hangUp()
	path := d.host.path("lib/libvirt/qemu", d.Name+"-line")
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		conn, err := net.Dial("unix", path)
		if err == nil {
			d.line = guest.NewLine(conn)
			return
		}
		if time.Now().After(end) {
			d.t.Fatal(err)
		}
	}
}

func (d *domain) hangUp() {
	if d.line != nil {
		d.line.Close()
		d.line = nil
	}
}

// soon is a context that ends with the patience.
func (d *domain) soon() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	d.t.Cleanup(cancel)
	return ctx
}

// awaitGuest waits until a guest that boots is there.
func (d *domain) awaitGuest() {
	d.t.Helper()
	if err := d.line.Ready(d.soon()); err != nil {
		d.t.Fatalf("%s: %v", d.Name, err)
	}
}

// sh runs a shell command in the guest and gives what it wrote.
func (d *domain) sh(command string) string {
	d.t.Helper()
	status, out, err := d.line.Run(d.soon(), command)
	if err != nil || status != 0 {
		d.t.Fatalf("%s: %s: %v, status %d\n%s", d.Name, command, err, status, out)
	}
	return string(out)
}

// state is the directory of the TPM's state, outside.
func (d *domain) state() string { return d.host.path("lib/libvirt/swtpm", d.UUID, "tpm2") }

// copied, booted and secured are made once, for all tests of this package.
var (
	copied, booted  = sync.OnceValues(copyPrograms), sync.OnceValues(makeBootFiles)
	secured         = sync.OnceValues(makeSecureDisk)
	scratchForTests string
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lv")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		panic(err)
	}
	scratchForTests = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// programs is the directory with our programs under all their names.
func programs(t *testing.T) string {
	t.Helper()
	dir, err := copied()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyPrograms puts them where libvirt's users may pass.
func copyPrograms() (string, error) {
	dir := filepath.Join(scratchForTests, "bin")
	if out, err := exec.Command("cp", "-a", *ours, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cp: %w: %s", err, out)
	}
	return dir, os.Chmod(dir, 0o755)
}

// bootFiles is the directory with the guest's kernel and initramfs.
func bootFiles(t *testing.T) string {
	t.Helper()
	dir, err := booted()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func makeBootFiles() (string, error) {
	dir := filepath.Join(scratchForTests, "boot")
	return dir, fillBoot(dir)
}

// fillBoot puts the kernel and the initramfs into a directory, where libvirt's users
// can read them.
func fillBoot(dir string) error {
	cache, err := guest.CacheDir()
	if err != nil {
		return err
	}
	kernel, err := guest.FetchKernel(context.Background(), cache)
	if err != nil {
		return err
	}
	image, err := os.ReadFile(kernel.Image)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "vmlinuz"), image, 0o644); err != nil {
		return err
	}
	found, _ := guest.FindHost()
	initrd, err := os.Create(filepath.Join(dir, "initrd"))
	if err != nil {
		return err
	}
	if err := guest.Initramfs(initrd, found.Busybox, ""); err != nil {
		return err
	}
	return initrd.Close()
}
