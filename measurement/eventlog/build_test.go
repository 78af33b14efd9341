package eventlog_test

import (
	"bytes"
	"encoding/binary"
	"unicode/utf16"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// builder writes logs for the tests.
type builder struct {
	bytes.Buffer
	algs []eventlog.AlgorithmSize // nil: legacy
}

const sm3 = tpm2.AlgSM3256

func le(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		if s, ok := v.(string); ok {
			v = []byte(s)
		}
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func newAgile(algs ...tpm2.AlgID) *builder {
	b := &builder{}
	spec := le("Spec ID Event03\x00", uint32(0), uint8(0), uint8(2), uint8(0), uint8(2), uint32(len(algs)))
	for _, a := range algs {
		size := a.DigestSize()
		if a == sm3 {
			size = 32
		}
		b.algs = append(b.algs, eventlog.AlgorithmSize{Alg: a, Size: size})
		spec = append(spec, le(uint16(a), uint16(size))...)
	}
	spec = append(spec, 0)
	b.Write(le(uint32(0), uint32(eventlog.NoAction), make([]byte, 20), uint32(len(spec)), spec))
	return b
}

// digestOf hashes, or fakes the digest of an algorithm not implemented.
func digestOf(a eventlog.AlgorithmSize, measured []byte) []byte {
	if a.Alg.DigestSize() == 0 {
		return bytes.Repeat([]byte{0x5a}, a.Size)
	}
	return a.Alg.Digest(measured)
}

// add appends an event whose digests are of measured.
func (b *builder) add(pcr uint32, t eventlog.EventType, data, measured []byte) *builder {
	b.Write(le(pcr, uint32(t)))
	if b.algs == nil {
		b.Write(tpm2.AlgSHA1.Digest(measured))
	} else {
		b.Write(le(uint32(len(b.algs))))
		for _, a := range b.algs {
			b.Write(le(uint16(a.Alg), digestOf(a, measured)))
		}
	}
	b.Write(le(uint32(len(data)), data))
	return b
}

// of appends an event whose digests are of its data.
func (b *builder) of(pcr uint32, t eventlog.EventType, data []byte) *builder {
	return b.add(pcr, t, data, data)
}

// noAction appends a note with zero digests, as the specification wants it.
func (b *builder) noAction(data []byte) *builder {
	b.Write(le(uint32(0), uint32(eventlog.NoAction)))
	if b.algs == nil {
		b.Write(make([]byte, 20))
	} else {
		b.Write(le(uint32(len(b.algs))))
		for _, a := range b.algs {
			b.Write(le(uint16(a.Alg), make([]byte, a.Size)))
		}
	}
	b.Write(le(uint32(len(data)), data))
	return b
}

func wide(s string) []byte { return le(utf16.Encode([]rune(s))) }

// globalGUID is EFI_GLOBAL_VARIABLE.
var globalGUID = []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}

func variable(name string, data []byte) []byte {
	return le(globalGUID, uint64(len(name)), uint64(len(data)), wide(name), data)
}

func pathNode(kind, sub byte, body []byte) []byte { return le(kind, sub, uint16(4+len(body)), body) }

func image(path ...[]byte) []byte {
	all := append(bytes.Join(path, nil), pathNode(0x7f, 0xff, nil)...)
	return le(uint64(0x1000), uint64(123456), uint64(0), uint64(len(all)), all)
}

func filePath(name string) []byte { return pathNode(4, 4, wide(name+"\x00")) }

// boot is a small but whole boot: firmware, Secure Boot, shim, GRUB, kernel.
func boot(b *builder) *builder {
	b.of(0, eventlog.SCRTMVersion, wide("fw 1\x00"))
	b.add(0, eventlog.EFIPlatformFirmwareBlob, le(uint64(0x900000), uint64(0xc00000)), []byte("code"))
	b.of(7, eventlog.EFIVariableDriverConfig, variable("SecureBoot", []byte{1}))
	b.of(7, eventlog.EFIVariableDriverConfig, variable("db", nil))
	b.of(7, eventlog.Separator, make([]byte, 4))
	b.add(1, eventlog.EFIVariableBoot, variable("BootOrder", []byte{1, 0, 0, 0}), []byte{1, 0, 0, 0})
	b.of(4, eventlog.EFIAction, []byte("Calling EFI Application from Boot Option"))
	b.of(4, eventlog.Separator, make([]byte, 4))
	b.add(4, eventlog.EFIBootServicesApplication, image(filePath(`\EFI\debian\shimx64.efi`)), []byte("shim"))
	b.add(14, eventlog.IPL, []byte("MokList\x00"), []byte("list"))
	b.add(8, eventlog.IPL, []byte("grub_cmd: linux /vmlinuz root=/dev/vda1\x00"), []byte("linux /vmlinuz root=/dev/vda1"))
	b.add(9, eventlog.IPL, []byte("/vmlinuz\x00"), []byte("kernel"))
	b.add(8, eventlog.IPL, []byte("kernel_cmdline: /vmlinuz root=/dev/vda1\x00"), []byte("/vmlinuz root=/dev/vda1"))
	b.add(9, eventlog.IPL, []byte("/initrd.img\x00"), []byte("initrd"))
	b.add(9, eventlog.EventTag, le(uint32(0x8F3B22ED), uint32(26), "LOADED_IMAGE::LoadOptions\x00"), wide("ro quiet\x00"))
	b.add(9, eventlog.EventTag, le(uint32(0x8F3B22EC), uint32(13), "Linux initrd\x00"), []byte("initrd"))
	b.of(5, eventlog.EFIAction, []byte("Exit Boot Services Invocation"))
	return b
}
