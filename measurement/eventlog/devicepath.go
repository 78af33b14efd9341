package eventlog

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
)

// maxPathNodes bounds the nodes of a device path that are named.
const maxPathNodes = 64

// DevicePath puts an EFI device path into words (UEFI specification, chapter
// 10): "\EFI\debian\shimx64.efi on GPT partition 1 (…), SCSI 1:0, PCI 3.0".
// The file comes first, then what holds it, inwards to outwards. What cannot
// be read is shown by its type numbers; a malformed end is left out.
func DevicePath(b []byte) string {
	var file string
	var nodes []string
	for n := 0; len(b) >= 4 && n < maxPathNodes; n++ {
		kind, sub := b[0], b[1]
		length := int(binary.LittleEndian.Uint16(b[2:]))
		if length < 4 || length > len(b) {
			break
		}
		if kind == 0x7f {
			if sub == 0xff {
				break
			}
			b = b[length:]
			continue
		}
		body := b[4:length]
		b = b[length:]
		if kind == 4 && sub == 4 {
			file = joinPath(file, utf16String(body))
			continue
		}
		if text := pathNode(kind, sub, body); text != "" {
			nodes = append(nodes, text)
		}
	}
	for i, j := 0, len(nodes)-1; i < j; i, j = i+1, j-1 {
		nodes[i], nodes[j] = nodes[j], nodes[i]
	}
	holder := strings.Join(nodes, ", ")
	switch {
	case file == "":
		return holder
	case holder == "":
		return file
	}
	return file + " on " + holder
}

func joinPath(dir, name string) string {
	if dir == "" || strings.HasPrefix(name, `\`) || strings.HasSuffix(dir, `\`) {
		return dir + name
	}
	return dir + `\` + name
}

func pathNode(kind, sub byte, body []byte) string {
	switch kind {
	case 1:
		return hardwareNode(sub, body)
	case 2:
		return "" // ACPI: the root bridge, which tells people nothing
	case 3:
		return messagingNode(sub, body)
	case 4:
		return mediaNode(sub, body)
	case 5:
		if len(body) > 4 {
			return "legacy BIOS device " + printable(body[4:])
		}
	}
	return fmt.Sprintf("device path node %d/%d", kind, sub)
}

func hardwareNode(sub byte, body []byte) string {
	switch {
	case sub == 1 && len(body) >= 2:
		return fmt.Sprintf("PCI %x.%x", body[1], body[0])
	case sub == 3 && len(body) >= 20:
		start, end := binary.LittleEndian.Uint64(body[4:]), binary.LittleEndian.Uint64(body[12:])
		return fmt.Sprintf("memory 0x%x to 0x%x", start, end)
	case sub == 4 && len(body) >= 16:
		return "vendor device " + guidAt(body).name()
	case sub == 5 && len(body) >= 4:
		return fmt.Sprintf("controller %d", binary.LittleEndian.Uint32(body))
	}
	return fmt.Sprintf("hardware node %d", sub)
}

func messagingNode(sub byte, body []byte) string {
	u16 := func(i int) uint16 { return binary.LittleEndian.Uint16(body[i:]) }
	switch {
	case sub == 1 && len(body) >= 4:
		return fmt.Sprintf("ATAPI %d:%d", body[0], body[1])
	case sub == 2 && len(body) >= 4:
		return fmt.Sprintf("SCSI %d:%d", u16(0), u16(2))
	case sub == 5 && len(body) >= 2:
		return fmt.Sprintf("USB port %d, interface %d", body[0], body[1])
	case sub == 10 && len(body) >= 16:
		return "vendor node " + guidAt(body).name()
	case sub == 11 && len(body) >= 6:
		return "network card " + net.HardwareAddr(body[:6]).String()
	case sub == 12 && len(body) >= 8:
		return "IPv4 from " + net.IP(body[4:8]).String()
	case sub == 13 && len(body) >= 32:
		return "IPv6 from " + net.IP(body[16:32]).String()
	case sub == 15:
		return "USB class"
	case sub == 16:
		return "USB device"
	case sub == 17 && len(body) >= 1:
		return fmt.Sprintf("logical unit %d", body[0])
	case sub == 18 && len(body) >= 6:
		return fmt.Sprintf("SATA port %d", u16(0))
	case sub == 19:
		return "iSCSI"
	case sub == 23 && len(body) >= 4:
		return fmt.Sprintf("NVMe namespace %d", binary.LittleEndian.Uint32(body))
	case sub == 24:
		return "URI " + clean(string(body))
	case sub == 26 && len(body) >= 1:
		return fmt.Sprintf("SD slot %d", body[0])
	case sub == 29 && len(body) >= 1:
		return fmt.Sprintf("eMMC slot %d", body[0])
	}
	return fmt.Sprintf("messaging node %d", sub)
}

func mediaNode(sub byte, body []byte) string {
	switch {
	case sub == 1 && len(body) >= 38:
		number := binary.LittleEndian.Uint32(body)
		switch signature := body[20:36]; body[37] {
		case 2:
			return fmt.Sprintf("GPT partition %d (%s)", number, guidAt(signature))
		case 1:
			return fmt.Sprintf("MBR partition %d (%08x)", number, binary.LittleEndian.Uint32(signature))
		}
		return fmt.Sprintf("partition %d", number)
	case sub == 2:
		return "CD-ROM"
	case sub == 3 && len(body) >= 16:
		return guidAt(body).name()
	case sub == 6 && len(body) >= 16:
		return "firmware file " + guidAt(body).name()
	case sub == 7 && len(body) >= 16:
		return "firmware volume " + guidAt(body).name()
	case sub == 8 && len(body) >= 20:
		start, end := binary.LittleEndian.Uint64(body[4:]), binary.LittleEndian.Uint64(body[12:])
		return fmt.Sprintf("offsets 0x%x to 0x%x", start, end)
	case sub == 9:
		return "RAM disk"
	}
	return fmt.Sprintf("media node %d", sub)
}
