package libvirt

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// pageBlock is a fenced block of commands, or of a domain's XML.
var pageBlock = regexp.MustCompile("(?ms)^```(sh|xml)\n(.*?)^```$")

// TestPage runs the commands of docs/libvirt.md on two hosts. A block of XML is what
// vm1.xml holds from there on.
func TestPage(t *testing.T) {
	needLibvirt(t)
	if *debian {
		t.Skip("the page is about our swtpm")
	}
	page, err := os.ReadFile("../../../../docs/libvirt.md")
	if err != nil {
		t.Fatal(err)
	}
	hosts := startHosts(t, "", "one", "two")
	d := newDomain(hosts[0], machine{Name: "vm1", Disk: "/var/lib/libvirt/images/vm1.qcow2"})
	hosts[1].run("mkdir", "-p", "/var/lib/libvirt/images")
	hosts[1].run("qemu-img", "create", "-q", "-f", "qcow2", d.Disk, "4M") // libvirt makes none outside its pools
	script := "set -eux\ncd " + d.host.dir + "\n"
	for _, block := range pageBlock.FindAllStringSubmatch(string(page), -1) {
		if block[1] == "sh" {
			script += block[2]
			continue
		}
		d.TPM = block[2]
		d.xml()
		text, err := os.ReadFile(d.host.path("domain.xml"))
		if err != nil {
			t.Fatal(err)
		}
		script += "cat >vm1.xml <<'XML'\n" + string(text) + "XML\n"
	}
	if strings.Count(script, "virsh ") < 20 {
		t.Fatalf("the page has few commands: %s", script)
	}
	step(t, "the page's commands", func() {
		d.host.run("sh", "-c", strings.ReplaceAll(script, "qemu+ssh:", "qemu+tcp:"))
	})
}
