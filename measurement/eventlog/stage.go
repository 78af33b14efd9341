package eventlog

import (
	"fmt"
	"strings"
)

// Stage is the part of a boot that an event belongs to, in boot order.
type Stage uint8

// The stages.
const (
	StageNote           Stage = iota // nothing was extended
	StageFirmware                    // firmware code and its drivers
	StageFirmwareConfig              // firmware settings, boot options, tables
	StageSecureBoot                  // Secure Boot policy, and what it used
	StageHandover                    // separators and the calls between stages
	StageBootLoader                  // shim, GRUB, systemd-boot, other programs
	StageBootConfig                  // partition table, loader commands and files
	StageKernel                      // the operating system's kernel
	StageCommandLine                 // its command line
	StageInitrd                      // its initrd
	StageSystem                      // what the operating system measured
	numStages
)

var stageNames = [numStages]string{
	"note", "firmware", "firmware settings", "secure boot", "hand-over", "boot loader",
	"boot configuration", "kernel", "command line", "initrd", "operating system",
}

// String gives the stage's name for people and for JSON.
func (s Stage) String() string {
	if s < numStages {
		return stageNames[s]
	}
	return fmt.Sprintf("stage %d", uint8(s))
}

// MarshalText gives the name.
func (s Stage) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// StageOf classifies an event by its type, PCR and data.
func StageOf(e *Event) Stage {
	switch e.Type {
	case NoAction:
		return StageNote
	case Separator, EFIAction, Action:
		if e.PCR == 7 && e.Type == EFIAction {
			return StageSecureBoot // "UEFI Debug Mode"
		}
		return StageHandover
	case EFIVariableAuthority, EFISPDMDevicePolicy, EFISPDMDeviceAuthority:
		return StageSecureBoot
	case EFIVariableDriverConfig, EFIVariableBoot, EFIVariableBoot2:
		if e.PCR == 7 {
			return StageSecureBoot
		}
		return StageFirmwareConfig
	case EFIGPTEvent, EFIGPTEvent2:
		return StageBootConfig
	case EFIBootServicesApplication:
		if isKernel(e) {
			return StageKernel
		}
		if e.PCR == 2 {
			return StageFirmware
		}
		return StageBootLoader
	case EventTag:
		return tagStage(e)
	case IPL, IPLPartitionData, CompactHash:
		return iplStage(e)
	}
	switch e.PCR {
	case 0, 2:
		return StageFirmware
	case 1, 3:
		return StageFirmwareConfig
	case 7:
		return StageSecureBoot
	case 4, 5, 6:
		return StageFirmwareConfig
	}
	return StageSystem
}

// Stage classifies event i of the log, counted from 0.
// It knows more than StageOf: a program whose sections systemd-stub then
// measures is a unified kernel image, whatever its file is called.
func (l *Log) Stage(i int) Stage {
	if l.unified(i) {
		return StageKernel
	}
	return StageOf(&l.Events[i])
}

// unified tells whether event i loads a program that is followed, before any
// other program, by the sections of a unified kernel image.
func (l *Log) unified(i int) bool {
	if l.Events[i].Type != EFIBootServicesApplication {
		return false
	}
	for j := i + 1; j < len(l.Events); j++ {
		e := &l.Events[j]
		if e.Type == EFIBootServicesApplication || e.Type == EFIAction {
			return false
		}
		if e.Type != IPL || len(e.Data) > len(".linux\x00")*2 {
			continue
		}
		if s, _ := asText(e.Data); s == ".linux" {
			return true
		}
	}
	return false
}

// isKernel tells whether a loaded image is a Linux kernel: a file that is
// called so, a unified kernel image, the file of QEMU's -kernel, or an image
// that a boot loader handed over in memory, which is how GRUB under shim and
// systemd-stub start theirs.
func isKernel(e *Event) bool {
	if e.Type != EFIBootServicesApplication || e.PCR != 4 {
		return false
	}
	img, err := ParseImage(e.Data)
	if err != nil {
		return false
	}
	path := DevicePath(img.DevicePath)
	if path == "" {
		return true
	}
	file, _, _ := strings.Cut(path, " on ")
	return fileStage(file) == StageKernel || strings.Contains(strings.ToLower(file), `\efi\linux\`)
}

func tagStage(e *Event) Stage {
	switch id, _, _ := tagged(e.Data); id {
	case tagLinuxInitrd, tagInitrdAddon, tagUcodeAddon:
		return StageInitrd
	case tagLinuxLoadOptions:
		return StageCommandLine
	case tagLoaderConf, tagUKIProfile, tagDeviceTreeAddon:
		return StageBootConfig
	}
	if s, _ := asText(e.Data); s == "LOADED_IMAGE::LoadOptions" {
		return StageCommandLine
	}
	return StageSystem
}

func iplStage(e *Event) Stage {
	if words, text, ok := grubText(e.Data); ok {
		switch {
		case words == "kernel command line":
			return StageCommandLine
		case words == "Linux kernel":
			return StageKernel
		case words == "initrd":
			return StageInitrd
		}
		return grubCommandStage(text)
	}
	s, _ := asText(e.Data)
	switch s {
	case ".linux", ".uname":
		return StageKernel
	case ".cmdline":
		return StageCommandLine
	case ".initrd", ".ucode":
		return StageInitrd
	}
	switch e.PCR {
	case 14:
		return StageSecureBoot
	case 12:
		return StageCommandLine
	case 9:
		return fileStage(s)
	case 11:
		if _, ok := sectionWords[s]; !ok {
			return StageSystem
		}
	case 4:
		return StageBootLoader
	case 0, 1, 2, 3, 6:
		return StageFirmwareConfig
	}
	return StageBootConfig
}

// grubCommandStage: the commands that load a kernel carry its command line.
func grubCommandStage(text string) Stage {
	word, _, _ := strings.Cut(text, " ")
	switch word {
	case "linux", "linuxefi", "linux16":
		return StageCommandLine
	case "initrd", "initrdefi", "initrd16":
		return StageInitrd
	}
	return StageBootConfig
}
