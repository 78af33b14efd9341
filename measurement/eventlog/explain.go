package eventlog

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Explain says in one line of words what the event measured. The words come
// from the event's data, which is worth what Binding says: unbound data
// describes, it does not prove. Control characters in it are escaped.
func Explain(e *Event) string {
	if e.Type.IsVariable() {
		v, err := ParseVariable(e.Data)
		if err != nil {
			return "malformed: " + err.Error()
		}
		return v.explain(e.Type)
	}
	switch e.Type {
	case NoAction:
		return explainNoAction(e.Data)
	case Separator:
		return explainSeparator(e)
	case SCRTMVersion:
		return "firmware version " + firmwareVersion(e.Data)
	case SCRTMContents:
		return "firmware's root of trust: " + describeBytes(e.Data)
	case EFIHCRTMEvent:
		return "firmware measured by hardware before it ran: " + describeBytes(e.Data)
	case PostCode, PostCode2, EFIPlatformFirmwareBlob, EFIPlatformFirmwareBlob2,
		EFISPDMFirmwareBlob, EFISPDMFirmwareConfig:
		return explainBlob(e.Data)
	case EFIHandoffTables, EFIHandoffTables2, TableOfDevices:
		return explainTables(e)
	case EFIBootServicesApplication, EFIBootServicesDriver, EFIRuntimeServicesDriver:
		return explainImage(e)
	case EFIGPTEvent, EFIGPTEvent2:
		return explainGPT(e.Data)
	case EFIAction, Action:
		return explainAction(e.Data)
	case EventTag:
		return explainTag(e)
	case IPL, IPLPartitionData, CompactHash:
		return explainIPL(e)
	case PlatformConfigFlags:
		return explainConfig(e.Data)
	case CPUMicrocode:
		return "processor microcode: " + describeBytes(e.Data)
	case OmitBootDevice:
		return "boot device events are left out"
	case NonhostCode, NonhostConfig, NonhostInfo:
		return "other processor of the platform: " + leadingText(e.Data)
	}
	return describeBytes(e.Data)
}

// Explain explains event i of the log, counted from 0, or gives "" where
// there is none.
func (l *Log) Explain(i int) string {
	if i < 0 || i >= len(l.Events) {
		return ""
	}
	if l.unified(i) {
		return strings.Replace(Explain(&l.Events[i]), "EFI program", "unified kernel image", 1)
	}
	return Explain(&l.Events[i])
}

func explainNoAction(data []byte) string {
	switch {
	case hasSignature(data, sigStartupLocality) && len(data) > signatureSize:
		return fmt.Sprintf("the TPM was started from locality %d", data[signatureSize])
	case hasSignature(data, sigBIOSIntegrity):
		return "firmware reference manifest " + referenceManifest(data)
	case hasSignature(data, sigBIOSIntegrity2), hasSignature(data, sigBIOSIntegrity3):
		return "firmware reference manifest " + referenceManifest(data)
	case hasSignature(data, sigHCRTMData):
		return "parts of what hardware measured: " + describeBytes(data[signatureSize:])
	case hasSignature(data, sigSpecID00), hasSignature(data, sigSpecID02), hasSignature(data, sigSpecID03):
		return "log header " + string(data[:signatureSize-1])
	case hasSignature(data, sigSPDMBlob):
		return "SPDM device security note"
	case hasSignature(data, sigNvIndexInstance), hasSignature(data, sigNvIndexDynamic):
		return "note on a measurement into an NV index"
	}
	if name, ok := windowsTag(data); ok {
		return "Windows: " + name
	}
	return "note: " + leadingText(data)
}

// referenceManifest reads what the three SP800-155 events have in common:
// after the signature the vendor's number and the GUID of the manifest.
func referenceManifest(data []byte) string {
	if len(data) < signatureSize+4+16 {
		return "(cut short)"
	}
	id := binary.LittleEndian.Uint32(data[signatureSize:])
	return fmt.Sprintf("%s of vendor %d", guidAt(data[signatureSize+4:]), id)
}

// explainSeparator tells the end of a PCR's firmware phase from a reported
// failure (PFP, section 10.4.1: data 0 or ff, or else an error).
func explainSeparator(e *Event) string {
	if len(e.Data) == 4 {
		switch binary.LittleEndian.Uint32(e.Data) {
		case 0, 0xffffffff:
			return fmt.Sprintf("end of the firmware's measurements in PCR %d", e.PCR)
		}
	}
	if s, ok := asText(e.Data); ok {
		return "separator " + s
	}
	return "firmware reports an error: " + describeBytes(e.Data)
}

func firmwareVersion(data []byte) string {
	if s, ok := asText(data); ok {
		return strings.TrimSpace(s)
	}
	if len(trimNUL(data)) == 0 {
		return "not stated"
	}
	if len(data) == 16 {
		return guidAt(data).String()
	}
	return describeBytes(data)
}

// explainBlob reads UEFI_PLATFORM_FIRMWARE_BLOB and …BLOB2, or the texts that
// name such a blob (PFP, sections 10.2.3 and 10.2.4).
func explainBlob(data []byte) string {
	if len(data) == 16 {
		return "firmware code at " + region(data)
	}
	if len(data) > 17 && int(data[0])+17 == len(data) {
		return "firmware code " + clean(string(trimNUL(data[1:1+data[0]]))) + " at " + region(data[1+data[0]:])
	}
	if s, ok := asText(data); ok {
		return "firmware: " + s
	}
	return "firmware: " + describeBytes(data)
}

func region(b []byte) string {
	base, length := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	return fmt.Sprintf("0x%x, %s", base, size(length))
}

// explainTables reads UEFI_HANDOFF_TABLE_POINTERS and …POINTERS2 (PFP,
// section 10.2.5).
func explainTables(e *Event) string {
	const each = 16 + 8
	data, name := e.Data, ""
	if e.Type == EFIHandoffTables2 && len(data) > 0 && 1+int(data[0]) <= len(data) {
		name = " " + clean(string(trimNUL(data[1:1+data[0]])))
		data = data[1+data[0]:]
	}
	if len(data) < 8 || binary.LittleEndian.Uint64(data) != uint64(len(data)-8)/each {
		return "firmware tables" + name + ": " + describeBytes(data)
	}
	var names []string
	for data = data[8:]; len(data) >= each; data = data[each:] {
		names = append(names, guidAt(data).name())
	}
	return "firmware tables" + name + ": " + strings.Join(names, ", ")
}

// Image is a UEFI_IMAGE_LOAD_EVENT: a PE image that firmware or shim loaded
// (PFP, section 10.2.3).
type Image struct {
	Location, Length, LinkAddress uint64
	DevicePath                    []byte // see DevicePath, empty where loaded from memory
}

// ParseImage reads a UEFI_IMAGE_LOAD_EVENT. A device path that is longer than
// what is left is cut: firmware exists that logs it so.
func ParseImage(data []byte) (Image, error) {
	const fixed = 4 * 8
	if len(data) < fixed {
		return Image{}, fmt.Errorf("an image load event needs at least %d bytes, there are %d", fixed, len(data))
	}
	rest := data[fixed:]
	n := min(binary.LittleEndian.Uint64(data[24:]), uint64(len(rest)))
	return Image{
		Location:    binary.LittleEndian.Uint64(data),
		Length:      binary.LittleEndian.Uint64(data[8:]),
		LinkAddress: binary.LittleEndian.Uint64(data[16:]),
		DevicePath:  rest[:n:n],
	}, nil
}

func explainImage(e *Event) string {
	kind := map[EventType]string{
		EFIBootServicesApplication: "EFI program",
		EFIBootServicesDriver:      "EFI driver",
		EFIRuntimeServicesDriver:   "EFI runtime driver",
	}[e.Type]
	img, err := ParseImage(e.Data)
	if err != nil {
		return kind + ", malformed: " + err.Error()
	}
	path := DevicePath(img.DevicePath)
	if path == "" && img.Length == 0 {
		return kind + " handed over in memory by the boot loader"
	}
	if path == "" {
		return fmt.Sprintf("%s handed over in memory by the boot loader, %s", kind, size(img.Length))
	}
	if isKernel(e) {
		kind = "Linux kernel"
		if path == "kernel on "+guidNames[guidQEMUKernel] {
			path = "given to QEMU with -kernel"
		}
	}
	return fmt.Sprintf("%s %s, %s", kind, path, size(img.Length))
}

// explainGPT reads UEFI_GPT_DATA (PFP, section 10.2.7).
func explainGPT(data []byte) string {
	const header, entry, maxShown = 92, 128, 16
	if len(data) < header+8 || string(data[:8]) != "EFI PART" {
		return "partition table: " + describeBytes(data)
	}
	count := binary.LittleEndian.Uint64(data[header:])
	text := fmt.Sprintf("partition table of disk %s, %d partitions", guidAt(data[56:]), count)
	if count == 1 {
		text = strings.TrimSuffix(text, "s")
	}
	var parts []string
	for rest := data[header+8:]; len(rest) >= entry && len(parts) < maxShown; rest = rest[entry:] {
		part := guidAt(rest).name()
		if name := utf16String(rest[56:entry]); name != "" {
			part += fmt.Sprintf(" %q", name)
		}
		parts = append(parts, part)
	}
	if uint64(len(parts)) < count {
		parts = append(parts, "…")
	}
	return text + ": " + strings.Join(parts, ", ")
}

func explainAction(data []byte) string {
	s, ok := asText(data)
	if !ok {
		return describeBytes(data)
	}
	switch s {
	case "Calling EFI Application from Boot Option":
		return "firmware calls a boot option"
	case "Returning from EFI Application from Boot Option":
		return "the boot option returned to the firmware"
	case "Exit Boot Services Invocation":
		return "the operating system takes over (ExitBootServices called)"
	case "Exit Boot Services Returned with Success":
		return "the operating system has taken over (ExitBootServices succeeded)"
	case "Exit Boot Services Returned with Failure":
		return "the operating system failed to take over (ExitBootServices failed)"
	case "UEFI Debug Mode":
		return "firmware is in debug mode"
	case "DMA Protection Disabled":
		return "DMA protection is off"
	}
	return s
}

// explainConfig names platform configuration: with OVMF the fw_cfg files of
// QEMU among it.
func explainConfig(data []byte) string {
	s := leadingText(data)
	if strings.HasPrefix(s, "etc/") || strings.HasPrefix(s, "opt/") {
		return "QEMU fw_cfg file " + s
	}
	return "platform configuration: " + s
}

// leadingText gives the text before the first NUL where data starts with one,
// a short description of the bytes otherwise.
func leadingText(data []byte) string {
	for i, b := range data {
		if b == 0 && i > 3 && isText(string(data[:i])) {
			return clean(string(data[:i]))
		}
	}
	if s, ok := asText(data); ok {
		return s
	}
	return describeBytes(data)
}
