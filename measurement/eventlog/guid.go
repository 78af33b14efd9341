package eventlog

import (
	"encoding/binary"
	"encoding/hex"
)

// GUID is an EFI_GUID as it lies in memory: its first three fields are little
// endian.
type GUID [16]byte

// String gives the registry form, 8be4df61-93ca-11d2-aa0d-00e098032b8c.
func (g GUID) String() string {
	var be [16]byte
	binary.BigEndian.PutUint32(be[0:], binary.LittleEndian.Uint32(g[0:]))
	binary.BigEndian.PutUint16(be[4:], binary.LittleEndian.Uint16(g[4:]))
	binary.BigEndian.PutUint16(be[6:], binary.LittleEndian.Uint16(g[6:]))
	copy(be[8:], g[8:])
	var out [36]byte
	hex.Encode(out[0:8], be[0:4])
	hex.Encode(out[9:13], be[4:6])
	hex.Encode(out[14:18], be[6:8])
	hex.Encode(out[19:23], be[8:10])
	hex.Encode(out[24:36], be[10:16])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

// Well-known GUIDs, by their String.
const (
	guidGlobalVariable = "8be4df61-93ca-11d2-aa0d-00e098032b8c" // UEFI specification, 3.3
	guidImageSecurity  = "d719b2cb-3d3a-4596-a3bc-dad00e67656f" // UEFI specification, 32.6
	guidShimLock       = "605dab50-e046-4300-abb6-3dd810dd8b23" // shim
	guidQEMUKernel     = "1428f772-b64a-441e-b8c3-9ebdd7f893c7" // OVMF: the files of -kernel, -initrd
	guidCertX509       = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072" // UEFI specification, 32.4.1
)

var guidNames = map[string]string{
	guidGlobalVariable:                     "UEFI",
	guidImageSecurity:                      "image security",
	guidShimLock:                           "shim",
	guidQEMUKernel:                         "QEMU -kernel loader",
	"77fa9abd-0359-4d32-bd60-28f4e78f784b": "Microsoft",
	"4a67b082-0a4c-41cf-b6c7-440b29bb8c4f": "systemd-boot",
	"d9bee56e-75dc-49d9-b4d7-b534210f637a": "UEFI image security (certdb)",
	"462caa21-7614-4503-836e-8ab6f4662331": "UiApp, the firmware's setup",
	"7c04a583-9e3e-4f1c-ad65-e05268d0b4d1": "UEFI Shell",
	"7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1": "OVMF DXE volume",
	"4eac0881-119f-594d-850e-e21a522c59b2": "BIOS boot specification device",
	"c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system partition",
	"21686148-6449-6e6f-744e-656564454649": "BIOS boot partition",
	"0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux data",
	"4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
	"b921b045-1df0-41c3-af44-4c6f280d3fae": "Linux root (arm64)",
	"bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux extended boot",
	"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
	"e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
	"2c7357ed-ebd2-46d9-aec1-23d437ec2bf5": "Linux verity (x86-64)",
	"fe3a2a5d-4f32-41a7-b725-accc3285a309": "ChromeOS kernel",
	"3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec": "ChromeOS root",
	"2e0a753d-9e48-43b0-8337-b15192cb1b5e": "ChromeOS reserved",
	"cab6e88e-abf3-4102-a07a-d4bb9be3c1d3": "ChromeOS firmware",
	"e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
	"ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft basic data",
	"de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
	"8868e871-e4f1-11d3-bc22-0080c73c8881": "ACPI 2.0 tables",
	"eb9d2d30-2d88-11d3-9a16-0090273fc14d": "ACPI 1.0 tables",
	"eb9d2d31-2d88-11d3-9a16-0090273fc14d": "SMBIOS tables",
	"f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS 3 tables",
	"eb9d2d2f-2d88-11d3-9a16-0090273fc14d": "MPS table",
	"eb9d2d32-2d88-11d3-9a16-0090273fc14d": "SAL system table",
	guidCertX509:                           "X.509 certificate",
	"c1c41626-504c-4092-aca9-41f936934328": "SHA-256 hash",
	"826ca512-cf10-4ac9-b187-be01496631bd": "SHA-1 hash",
	"0b6e5233-a65c-44c9-9407-d9ab83bfc8bd": "SHA-224 hash",
	"ff3e5307-9fd0-48c9-85f1-8ad56c701e01": "SHA-384 hash",
	"093e0fae-a6c4-4f50-9f1b-d41e2b89c19a": "SHA-512 hash",
	"3c5766e8-269c-4e34-aa14-ed776e85b3b6": "RSA-2048 key",
	"3bd2a492-96c0-4079-b420-fcf98ef103ed": "revoked certificate (SHA-256)",
	"7076876e-80c2-4ee6-aad2-28b349a6865b": "revoked certificate (SHA-384)",
	"446dbf63-2502-4cda-bcfa-2465d2b0fe9d": "revoked certificate (SHA-512)",
}

// name gives a GUID's name where it has one, else its registry form.
func (g GUID) name() string {
	s := g.String()
	if n, ok := guidNames[s]; ok {
		return n
	}
	return s
}

// guidAt copies a GUID; b must have 16 bytes.
func guidAt(b []byte) (g GUID) {
	copy(g[:], b)
	return g
}
