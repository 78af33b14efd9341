package eventlog

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Identifiers of tagged events (TCG_PCClientTaggedEvent; PFP, section
// 10.2.2) that boot components of Linux chose for themselves.
const (
	tagLinuxInitrd      = 0x8F3B22EC // Linux EFI stub: initrd
	tagLinuxLoadOptions = 0x8F3B22ED // Linux EFI stub: command line
	tagLoaderConf       = 0xF5BC582A // systemd-boot: loader.conf
	tagDeviceTreeAddon  = 0x6C46F751 // systemd-stub: device tree add-on
	tagInitrdAddon      = 0x49DFFE0F // systemd-stub: initrd add-on
	tagUcodeAddon       = 0xDAC08E1A // systemd-stub: microcode add-on
	tagUKIProfile       = 0x13AED6DB // systemd-stub: profile chosen
	tagAAEL             = 0x4141454C // Confidential Containers: event of the guest's agent
)

// tagged splits a TCG_PCClientTaggedEvent.
func tagged(data []byte) (id uint32, body []byte, ok bool) {
	if len(data) < 8 {
		return 0, nil, false
	}
	n := binary.LittleEndian.Uint32(data[4:])
	if uint64(n) > uint64(len(data)-8) {
		return 0, nil, false
	}
	return binary.LittleEndian.Uint32(data), data[8 : 8+n : 8+n], true
}

func explainTag(e *Event) string {
	id, body, ok := tagged(e.Data)
	if !ok {
		if s, text := asText(e.Data); text {
			return linuxStub(s)
		}
		return "tagged event: " + describeBytes(e.Data)
	}
	switch id {
	case tagLinuxInitrd, tagLinuxLoadOptions:
		return linuxStub(leadingText(body))
	case tagLoaderConf:
		return "systemd-boot's configuration: " + describeBytes(body)
	case tagDeviceTreeAddon:
		return "device tree add-on: " + describeBytes(body)
	case tagInitrdAddon:
		return "initrd add-on: " + describeBytes(body)
	case tagUcodeAddon:
		return "microcode add-on: " + describeBytes(body)
	case tagUKIProfile:
		return "profile of the unified kernel image: " + describeBytes(body)
	case tagAAEL:
		return "event of the guest's agent: " + describeBytes(body)
	}
	if name, ok := windowsTag(e.Data); ok {
		return "Windows: " + name
	}
	return fmt.Sprintf("tagged event 0x%08x: %s", id, describeBytes(body))
}

// linuxStub explains the two events of the kernel's own EFI stub.
func linuxStub(s string) string {
	switch s {
	case "LOADED_IMAGE::LoadOptions":
		return "kernel command line (its text is not in the log)"
	case "Linux initrd":
		return "initrd loaded by the kernel's EFI stub"
	}
	return s
}

// grubPrefixes are the words that GRUB puts before the text it measured. The
// form without the colon is that of Red Hat's and SUSE's older patches.
var grubPrefixes = [...]struct{ prefix, words string }{
	{"grub_cmd: ", "GRUB command"}, {"grub_cmd ", "GRUB command"},
	{"kernel_cmdline: ", "kernel command line"}, {"grub_kernel_cmdline ", "kernel command line"},
	{"grub_linuxefi ", "Linux kernel"}, {"grub_initrd ", "initrd"}, {"grub_module ", "GRUB module"},
	{"module_cmdline: ", "command line of a GRUB module"}, {"grub_multiboot ", "multiboot kernel"},
}

// grubText splits the text of a GRUB event from its prefix.
func grubText(data []byte) (words, text string, ok bool) {
	for _, g := range &grubPrefixes {
		if hasSignature(data, g.prefix) {
			text, _, _ := strings.Cut(string(data[len(g.prefix):]), "\x00")
			return g.words, text, true
		}
	}
	return "", "", false
}

// sectionWords name the PE sections of a unified kernel image that
// systemd-stub measures into PCR 11.
var sectionWords = map[string]string{
	".linux": "kernel", ".osrel": "os-release", ".cmdline": "kernel command line",
	".initrd": "initrd", ".ucode": "microcode", ".splash": "splash image",
	".dtb": "device tree", ".dtbauto": "device tree", ".hwids": "hardware identifiers",
	".uname": "kernel version", ".sbat": "revocation metadata", ".pcrpkey": "PCR signature key",
	".profile": "profile", ".efifw": "firmware image",
}

func explainIPL(e *Event) string {
	if words, text, ok := grubText(e.Data); ok {
		return words + ": " + clean(text)
	}
	s, ok := asText(e.Data)
	if !ok {
		if name, ok := windowsTag(e.Data); ok {
			return "Windows: " + name
		}
		if e.Type == CompactHash {
			return "mark of the firmware or system: " + describeBytes(e.Data)
		}
		return "boot loader: " + describeBytes(e.Data)
	}
	if words, ok := sectionWords[s]; ok {
		// systemd-stub measures the section's name, then its content.
		if BindingOf(e) == Bound {
			return "unified kernel image: name of section " + s
		}
		return fmt.Sprintf("unified kernel image: %s (section %s)", words, s)
	}
	if e.Type == CompactHash {
		return "mark of the firmware or system: " + s
	}
	switch {
	case s == "MokList":
		return "shim: machine owner keys (MokList)"
	case s == "MokListX":
		return "shim: revoked keys and images (MokListX)"
	case s == "MokListTrusted":
		return "shim: whether the kernel trusts machine owner keys (MokListTrusted)"
	case strings.HasPrefix(s, "MokSB"), s == "MokDBState", s == "MokIgnoreDB":
		return "shim: verification switched off or on (" + s + ")"
	case e.PCR == 12:
		return "kernel command line: " + s
	case e.PCR == 9:
		return fileWords(s)
	case e.PCR == 11:
		return "systemd: boot phase or section " + s
	}
	return "boot loader: " + s
}

// fileWords explains a file that GRUB read.
func fileWords(path string) string {
	switch fileStage(path) {
	case StageKernel:
		return "Linux kernel file " + path
	case StageInitrd:
		return "initrd file " + path
	}
	return "file read by the boot loader: " + path
}

// fileStage guesses by name what a boot file is.
func fileStage(path string) Stage {
	name := strings.ToLower(path[strings.LastIndexAny(path, `/\`)+1:])
	switch {
	case strings.HasPrefix(name, "vmlinu"), strings.HasPrefix(name, "linux"), name == "kernel",
		strings.HasPrefix(name, "bzimage"), strings.HasPrefix(name, "kernel-"):
		return StageKernel
	case strings.HasPrefix(name, "initr"), strings.HasPrefix(name, "initramfs"), strings.HasPrefix(name, "ucode"):
		return StageInitrd
	}
	return StageBootConfig
}
