package eventlog

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Limits of what is read from one Windows event.
const (
	maxWindowsTags  = 512 // entries
	maxWindowsDepth = 4   // containers within containers
	maxWindowsShown = 8   // entries named in an explanation
)

const sipaContainer = 0x40000000 // an entry made of entries

// sipaNames: identifiers of the Windows Boot Configuration Log (wbcl.h).
var sipaNames = map[uint32]string{
	0x40010001: "trust boundary", 0x40010002: "early launch anti-malware",
	0x40010003: "loaded module", 0xC0010004: "trust point", 0x40010005: "soft restart",
	0x40010006: "signed measurement of a soft restart", 0x00030001: "firmware failure",
	0x80030002: "internal failure", 0x00020001: "information", 0x00020002: "boot counter",
	0x00020003: "transfer of control", 0x00020004: "application returned",
	0x00020005: "BitLocker unlock", 0x00020006: "event counter", 0x00020007: "counter id",
	0x00020008: "memory overwrite cannot be cancelled", 0x00020009: "application security version",
	0x0002000A: "security version chain status", 0x0002000B: "memory overwrite status",
	0x00040001: "boot debugging", 0x00040002: "boot revocation list",
	0x00050001: "kernel debugging", 0x00050002: "code integrity", 0x00050003: "test signing",
	0x00050004: "data execution prevention", 0x00050005: "safe mode", 0x00050006: "Windows PE",
	0x00050007: "physical address extension", 0x00050008: "system device",
	0x00050009: "system root", 0x0005000A: "hypervisor launch", 0x0005000B: "hypervisor path",
	0x0005000C: "hypervisor IOMMU policy", 0x0005000D: "hypervisor debugging",
	0x0005000E: "driver load policy", 0x0005000F: "system integrity policy",
	0x00050010: "hypervisor MMIO policy", 0x00050011: "hypervisor MSR filter",
	0x00050012: "virtual secure mode launch", 0x00050013: "system revocation list",
	0x00050014: "simultaneous multithreading", 0x00050020: "virtual secure mode identity key",
	0x00050021: "flight signing", 0x00050022: "page file encryption",
	0x00050023: "virtual secure mode identity keys", 0x00050024: "hibernation disabled",
	0x00050025: "dumps disabled", 0x00050026: "dump encryption",
	0x00050027: "dump encryption key digest", 0x00050028: "LSA isolation",
	0x00050029: "secure boot custom policy", 0x00050030: "boot DMA protection",
	0x00060001: "no authority", 0x00060002: "authority public key",
	0x00070001: "file", 0x00070002: "image size", 0x00070003: "hash algorithm",
	0x00070004: "authenticode hash", 0x00070005: "authority issuer",
	0x00070006: "authority serial", 0x00070007: "image base", 0x00070008: "authority publisher",
	0x00070009: "authority thumbprint", 0x0007000A: "image validated",
	0x0007000B: "module security version", 0x0007000C: "module of Pluton",
	0x0007000D: "original file name", 0x80080001: "quote", 0x80080002: "quote signature",
	0x80080003: "attestation key id", 0x80080004: "attestation key digest",
	0x00090001: "anti-malware key", 0x00090002: "anti-malware configuration",
	0x00090003: "anti-malware policy", 0x00090004: "anti-malware measured",
	0x000A0001: "virtual secure mode required", 0x000A0002: "secure boot required",
	0x000A0003: "IOMMU required", 0x000A0004: "MMIO policy required",
	0x000A0005: "MSR filter required", 0x000A0006: "mandatory enforcement",
	0x000A0007: "hypervisor code integrity policy", 0x000A0008: "Microsoft boot chain required",
	0x000A0009: "dump uses hardware root", 0x000A000A: "no secrets in virtual secure mode",
	0x000B0001: "soft restart signature", 0x000C0001: "dynamic launch authority",
	0x000C0002: "management mode protection level", 0x000C0003: "AMD management mode hash",
	0x000C0004: "AMD management mode signer",
}

// windowsTag explains an event of the Windows boot manager and loader: its
// identifier, for containers the names of what they hold, and the files of
// loaded modules.
func windowsTag(data []byte) (string, bool) {
	id, body, ok := tagged(data)
	if !ok || sipaNames[id] == "" {
		return "", false
	}
	if id&sipaContainer == 0 {
		return sipaNames[id] + " " + sipaValue(id, body), true
	}
	var parts []string
	budget := maxWindowsTags
	walkWindows(body, 1, &budget, func(id uint32, value []byte) {
		name := sipaNames[id]
		if name == "" {
			name = fmt.Sprintf("entry 0x%08x", id)
		}
		if id == 0x00070001 || id == 0x00050009 || len(value) <= 8 {
			name += " " + sipaValue(id, value)
		}
		parts = append(parts, name)
	})
	if len(parts) > maxWindowsShown {
		more := len(parts) - maxWindowsShown
		parts = append(parts[:maxWindowsShown], fmt.Sprintf("and %d more", more))
	}
	return sipaNames[id] + ": " + strings.Join(parts, "; "), true
}

// walkWindows visits the leaves of a container.
func walkWindows(b []byte, depth int, budget *int, leaf func(uint32, []byte)) {
	for len(b) >= 8 && *budget > 0 {
		*budget--
		id, body, ok := tagged(b)
		if !ok {
			return
		}
		b = b[8+len(body):]
		if id&sipaContainer != 0 && depth < maxWindowsDepth {
			walkWindows(body, depth+1, budget, leaf)
			continue
		}
		leaf(id, body)
	}
}

func sipaValue(id uint32, b []byte) string {
	switch len(b) {
	case 1:
		return fmt.Sprint(b[0])
	case 4:
		return fmt.Sprint(binary.LittleEndian.Uint32(b))
	case 8:
		if id != 0x00070001 {
			return fmt.Sprint(binary.LittleEndian.Uint64(b))
		}
	}
	return describeBytes(b)
}
