package eventlog

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// isBootOption recognizes Boot0000, Driver0001, SysPrep0002 and their like.
func isBootOption(name string) bool {
	for _, prefix := range []string{"Boot", "Driver", "SysPrep", "PlatformRecovery", "OsRecovery"} {
		if digits, ok := strings.CutPrefix(name, prefix); ok && len(digits) == 4 {
			return strings.Trim(digits, "0123456789abcdefABCDEF") == ""
		}
	}
	return false
}

func bootOrder(data []byte) string {
	var list []string
	for ; len(data) >= 2; data = data[2:] {
		list = append(list, fmt.Sprintf("%04X", binary.LittleEndian.Uint16(data)))
	}
	if len(list) == 0 {
		return "empty"
	}
	return strings.Join(list, ", ")
}

// loadOption explains an EFI_LOAD_OPTION (UEFI specification, section 3.1.3).
func loadOption(data []byte) string {
	const active, hidden = 1, 8
	if len(data) == 0 {
		return "not set"
	}
	if len(data) < 8 {
		return describeBytes(data)
	}
	attributes := binary.LittleEndian.Uint32(data)
	pathLen := int(binary.LittleEndian.Uint16(data[4:]))
	end := 6
	for end+2 <= len(data) && (data[end] != 0 || data[end+1] != 0) {
		end += 2
	}
	if end+2+pathLen > len(data) {
		return describeBytes(data)
	}
	text := fmt.Sprintf("%q", utf16String(data[6:end]))
	if path := DevicePath(data[end+2 : end+2+pathLen]); path != "" {
		text += " from " + path
	}
	if attributes&active == 0 {
		text += ", inactive"
	}
	if attributes&hidden != 0 {
		text += ", hidden"
	}
	if opt := data[end+2+pathLen:]; len(opt) > 0 {
		text += ", options " + describeBytes(opt)
	}
	return text
}
