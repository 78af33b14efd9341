package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRefusals asks for what our TPM is not, or does not do: libvirt says that it does
// not start, and why is to be read.
func TestRefusals(t *testing.T) {
	needLibvirt(t)
	if *debian {
		t.Skip("the words are ours, and Debian's swtpm has a TPM 1.2")
	}
	h := startHosts(t, "", "one")[0]
	d := newDomain(h, machine{Name: "vm1", TPM: strings.Replace(tpmElement("tpm-tis", ""), "2.0", "1.2", 1)})
	step(t, "a TPM 1.2", func() {
		wantSaid(t, h.refused("define", d.xml()), "TPM version '1.2' is not supported")
	})
	d.TPM = tpmElement("tpm-tis", h.secret("the passphrase"))
	step(t, "another secret", func() {
		d.define()
		h.virsh("start", d.Name, "--paused")
		h.virsh("destroy", d.Name)
		h.secret("another")
		d.wantNotStarted("the key is another one")
		h.secret("the passphrase")
		h.virsh("start", d.Name, "--paused")
		h.virsh("destroy", d.Name)
	})
	step(t, "a state that is damaged", func() {
		path := filepath.Join(d.state(), "tpm2-00.ashlar")
		state, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range state {
			state[i] ^= 0x55
		}
		if err := os.WriteFile(path, state, 0o600); err != nil {
			t.Fatal(err)
		}
		d.wantNotStarted("was cut or altered")
	})
}

// wantNotStarted checks that a domain does not start, and that the TPM's log says why.
func (d *domain) wantNotStarted(why string) {
	d.t.Helper()
	before := len(d.host.tpmLog(d.Name))
	said := d.host.refused("start", d.Name)
	d.t.Logf("virsh: %s", strings.TrimSpace(said))
	wantSaid(d.t, d.host.tpmLog(d.Name)[before:], why)
}

func wantSaid(t *testing.T, said, want string) {
	t.Helper()
	if !strings.Contains(said, want) {
		t.Errorf("%q is not in: %s", want, said)
	}
}
