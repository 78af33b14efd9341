package eventlog_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func TestExplainBoot(t *testing.T) {
	l := parse(t, boot(newAgile(tpm2.AlgSHA256)).Bytes())
	for i, c := range []struct {
		want    string
		stage   eventlog.Stage
		binding eventlog.Binding
	}{
		{"firmware version fw 1", eventlog.StageFirmware, eventlog.Bound},
		{"firmware code at 0x900000, 12 MiB", eventlog.StageFirmware, eventlog.Unbound},
		{"UEFI variable SecureBoot: on", eventlog.StageSecureBoot, eventlog.Bound},
		{"Secure Boot database db: empty", eventlog.StageSecureBoot, eventlog.Bound},
		{"end of the firmware's measurements in PCR 7", eventlog.StageHandover, eventlog.Bound},
		{"UEFI variable BootOrder: 0001, 0000", eventlog.StageFirmwareConfig, eventlog.Bound},
		{"firmware calls a boot option", eventlog.StageHandover, eventlog.Bound},
		{"end of the firmware's measurements in PCR 4", eventlog.StageHandover, eventlog.Bound},
		{`EFI program \EFI\debian\shimx64.efi, 120 KiB`, eventlog.StageBootLoader, eventlog.Unbound},
		{"shim: machine owner keys (MokList)", eventlog.StageSecureBoot, eventlog.Unbound},
		{"GRUB command: linux /vmlinuz root=/dev/vda1", eventlog.StageCommandLine, eventlog.Bound},
		{"Linux kernel file /vmlinuz", eventlog.StageKernel, eventlog.Unbound},
		{"kernel command line: /vmlinuz root=/dev/vda1", eventlog.StageCommandLine, eventlog.Bound},
		{"initrd file /initrd.img", eventlog.StageInitrd, eventlog.Unbound},
		{"kernel command line (its text is not in the log)", eventlog.StageCommandLine, eventlog.Unbound},
		{"initrd loaded by the kernel's EFI stub", eventlog.StageInitrd, eventlog.Unbound},
		{"the operating system takes over (ExitBootServices called)", eventlog.StageHandover, eventlog.Bound},
	} {
		e := &l.Events[i]
		if got := l.Explain(i); got != c.want {
			t.Errorf("event %d: %q, want %q", i+1, got, c.want)
		}
		if got := l.Stage(i); got != c.stage {
			t.Errorf("event %d: stage %v, want %v", i+1, got, c.stage)
		}
		if got := eventlog.BindingOf(e); got != c.binding {
			t.Errorf("event %d: %v, want %v", i+1, got, c.binding)
		}
	}
	if on, ok := l.SecureBoot(); !on || !ok {
		t.Errorf("SecureBoot: %v, %v", on, ok)
	}
	lines := l.CommandLines()
	if len(lines) != 2 || lines[1] != "/vmlinuz root=/dev/vda1" {
		t.Errorf("command lines: %q", lines)
	}
	if !eventlog.MatchesCommandLine(&l.Events[14], "ro quiet") || eventlog.MatchesCommandLine(&l.Events[14], "ro quiet init=/bin/sh") {
		t.Error("the stub's measurement does not tell command lines apart")
	}
	if f := l.Check(); len(f) != 0 {
		t.Errorf("findings in an honest log: %+v", f)
	}
}

// TestForgedData changes what a log says and leaves its digests: nobody may
// then believe the data.
func TestForgedData(t *testing.T) {
	b := newAgile(tpm2.AlgSHA256)
	b.add(7, eventlog.EFIVariableDriverConfig, variable("SecureBoot", []byte{1}), variable("SecureBoot", []byte{0}))
	b.add(8, eventlog.IPL, []byte("kernel_cmdline: ro\x00"), []byte("ro init=/bin/sh"))
	// The digest is of the content alone: any variable with this content fits.
	b.add(7, eventlog.EFIVariableDriverConfig, variable("SecureBoot", []byte{1}), []byte{1})
	l := parse(t, b.Bytes())
	if _, ok := l.SecureBoot(); ok {
		t.Error("a SecureBoot variable whose digest is of other data is believed")
	}
	if lines := l.CommandLines(); len(lines) != 0 {
		t.Errorf("a forged command line is believed: %q", lines)
	}
	f := l.Check()
	if len(f) != 1 || f[0].Severity != eventlog.Doubt || f[0].Event != 1 {
		t.Errorf("findings: %+v", f)
	}
}

func TestSecureBootTwice(t *testing.T) {
	on, off := variable("SecureBoot", []byte{1}), variable("SecureBoot", []byte{0})
	b := newAgile(tpm2.AlgSHA256).of(7, eventlog.EFIVariableDriverConfig, on).of(7, eventlog.EFIVariableDriverConfig, off)
	if _, ok := parse(t, b.Bytes()).SecureBoot(); ok {
		t.Error("two statements that differ give an answer")
	}
	b = newAgile(tpm2.AlgSHA256).of(7, eventlog.Separator, make([]byte, 4)).of(7, eventlog.EFIVariableDriverConfig, on)
	if _, ok := parse(t, b.Bytes()).SecureBoot(); ok {
		t.Error("a statement after the separator is believed: anybody may measure then")
	}
}

func TestMalformedVariable(t *testing.T) {
	v := variable("Boot0000", []byte{1})
	copy(v[16:], "THIS_IS_A_TEXT__")
	l := parse(t, newAgile(tpm2.AlgSHA256).of(1, eventlog.EFIVariableBoot, v).Bytes())
	f := l.Check()
	if len(f) != 1 || f[0].Severity != eventlog.Malformed || !strings.Contains(f[0].Text, "event 1 (EV_EFI_VARIABLE_BOOT, PCR 1) at offset") {
		t.Errorf("findings: %+v", f)
	}
	if got := l.Explain(0); !strings.HasPrefix(got, "malformed: ") {
		t.Error(got)
	}
}

func TestDevicePath(t *testing.T) {
	gpt := le(uint32(1), uint64(2048), uint64(4096), globalGUID, uint8(2), uint8(2))
	for _, c := range []struct {
		want string
		path []byte
	}{
		{"", nil},
		{`\EFI\BOOT\BOOTX64.EFI on GPT partition 1 (8be4df61-93ca-11d2-aa0d-00e098032b8c), SCSI 1:0, PCI 3.0`,
			join(pathNode(2, 1, make([]byte, 8)), pathNode(1, 1, []byte{0, 3}), pathNode(3, 2, le(uint16(1), uint16(0))),
				pathNode(4, 1, gpt), filePath(`\EFI\BOOT`), filePath("BOOTX64.EFI"))},
		{"network card 52:54:00:12:34:56", pathNode(3, 11, join([]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}, make([]byte, 27)))},
		{`\x1b[31mred on CD-ROM`, join(pathNode(4, 2, make([]byte, 20)), filePath("\x1b[31mred"))},
		{"NVMe namespace 1", append(pathNode(3, 23, le(uint32(1), uint64(0))), 4, 4, 0xff, 0xff)},
	} {
		if got := eventlog.DevicePath(c.path); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestUnifiedKernelImage(t *testing.T) {
	b := newAgile(tpm2.AlgSHA256)
	b.add(4, eventlog.EFIBootServicesApplication, image(filePath(`\EFI\BOOT\BOOTX64.EFI`)), []byte("uki"))
	b.add(11, eventlog.IPL, wide(".linux\x00"), []byte(".linux\x00"))
	b.add(11, eventlog.IPL, wide(".linux\x00"), []byte("kernel"))
	b.add(11, eventlog.IPL, wide(".cmdline\x00"), []byte("quiet"))
	b.of(12, eventlog.IPL, wide("debug\x00"))
	l := parse(t, b.Bytes())
	for i, want := range []string{
		`unified kernel image \EFI\BOOT\BOOTX64.EFI, 120 KiB`,
		"unified kernel image: name of section .linux",
		"unified kernel image: kernel (section .linux)",
		"unified kernel image: kernel command line (section .cmdline)",
		"kernel command line: debug",
	} {
		if got := l.Explain(i); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if l.Stage(0) != eventlog.StageKernel || l.Stage(4) != eventlog.StageCommandLine {
		t.Error(l.Stage(0), l.Stage(4))
	}
	if lines := l.CommandLines(); len(lines) != 1 || lines[0] != "debug" {
		t.Errorf("%q", lines)
	}
}

func TestWindowsEvents(t *testing.T) {
	entry := func(id uint32, body []byte) []byte { return le(id, uint32(len(body)), body) }
	module := entry(0x40010003, join(entry(0x00070001, wide(`\Windows\ntoskrnl.exe`+"\x00")), entry(0x00070002, le(uint64(4096)))))
	data := entry(0x40010001, join(entry(0x00050001, []byte{0}), module))
	l := parse(t, newAgile(tpm2.AlgSHA256).of(13, eventlog.EventTag, data).Bytes())
	want := `Windows: trust boundary: kernel debugging 0; file "\\Windows\\ntoskrnl.exe"; image size 4096`
	if got := l.Explain(0); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestSecureBootRelabelled takes a machine without Secure Boot whose system
// extends PCR 7 with the digest of "SecureBoot: on" after the boot, and gives the
// true events other types, which no PCR proves.
func TestSecureBootRelabelled(t *testing.T) {
	b := newAgile(tpm2.AlgSHA256)
	b.of(7, eventlog.PostCode, variable("SecureBoot", []byte{0}))
	b.of(7, eventlog.EFIAction, make([]byte, 4))
	b.of(7, eventlog.EFIVariableDriverConfig, variable("SecureBoot", []byte{1}))
	l, err := eventlog.Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if on, stated := l.SecureBoot(); stated {
		t.Errorf("Secure Boot is said to be %v", on)
	}
}

// TestHostileCertificate shows the name in a certificate without its escapes.
func TestHostileCertificate(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "\x1b]0;owned\x07"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	b := newAgile(tpm2.AlgSHA256)
	b.of(7, eventlog.EFIVariableAuthority, variable("db", append(make([]byte, 16), der...)))
	l, err := eventlog.Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if s := l.Explain(0); strings.ContainsAny(s, "\x1b\x07") || !strings.Contains(s, `\x1b]0;owned\x07`) {
		t.Errorf("%q", s)
	}
}

// TestBindingIn looks at the bank asked for alone.
func TestBindingIn(t *testing.T) {
	b := newAgile(tpm2.AlgSHA1, tpm2.AlgSHA256)
	b.of(8, eventlog.IPL, []byte("grub_cmd: x"))
	l := parse(t, b.Bytes())
	e := &l.Events[0]
	e.Digests[0].Value[0] ^= 1
	for alg, want := range map[tpm2.AlgID]eventlog.Binding{tpm2.AlgSHA256: eventlog.Bound, tpm2.AlgSHA1: eventlog.Unbound, tpm2.AlgSHA384: eventlog.Unbound} {
		if got := eventlog.BindingIn(e, alg); got != want {
			t.Errorf("%v: %v", alg, got)
		}
	}
	if eventlog.BindingOf(e) != eventlog.Unbound {
		t.Error("an altered digest is left out")
	}
}
