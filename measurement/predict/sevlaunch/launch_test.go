package sevlaunch

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

// image is firmware made for the test: two pages, a table as OVMF's, metadata with
// a section of each kind.
func image(entries ...[]byte) []byte {
	b := make([]byte, 2*pageSize)
	for i := range b {
		b[i] = byte(i * 7)
	}
	le := binary.LittleEndian
	meta := []byte("ASEV")
	sections := []section{{0x800000, 2 * pageSize, sectionMemory}, {0x80d000, pageSize, sectionSecrets}, {0x80e000, pageSize, sectionCPUID},
		{0x810000, pageSize, sectionKernelHashes}, {0x811000, pageSize, sectionCallingArea}}
	meta = le.AppendUint32(meta, uint32(16+12*len(sections)))
	meta = le.AppendUint32(meta, 1)
	meta = le.AppendUint32(meta, uint32(len(sections)))
	for _, s := range sections {
		for _, v := range []uint32{s.address, s.size, uint32(s.kind)} {
			meta = le.AppendUint32(meta, v)
		}
	}
	const metaAt = 1024 // from the end
	copy(b[len(b)-metaAt:], meta)
	var table []byte
	if entries == nil {
		entries = [][]byte{entry(metadataGUID, metaAt), entry(hashesGUID, 0x810c00), entry(resetGUID, 0x80b004)}
	}
	for _, e := range entries {
		table = append(table, e...)
	}
	table = le.AppendUint16(table, uint16(len(table)+entryHeader))
	table = append(table, footerGUID[:]...)
	copy(b[len(b)-tableEnd-len(table):], table)
	return b
}

func entry(id guid, value uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, value)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(b)+entryHeader))
	return append(b, id[:]...)
}

func parse(t testing.TB, b []byte) *Firmware {
	t.Helper()
	f, err := ParseFirmware(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// figures are what virtee's sev-snp-measure (of 2025) computes for the test's
// image, kernel "kernel", initrd "initrd", command line "console=ttyS0".
const figures = `
sev 1 qemu EPYC-Milan - a54ec9549c9df5d46e881a8ec9cd21d363035acab078236acefce084d599661a
sev 1 qemu EPYC-Milan kernel f8c1d87ed6d2fa8fa86433b8d362908c859585e598ee2d84588e85954be64ef4
sev-es 1 qemu EPYC kernel 164cf194ad5054ebc508ae39ed34aaa93b642d3cb3b72d1deff6bb1d3e836e81
sev-es 1 qemu EPYC-Milan - 2c8fe12af2fe70e54b47f5bb60450325c5d217ccc4cb6f0f0f177785be2b437d
sev-es 1 qemu EPYC-Milan kernel 34823629a2a07ca897e362f91ca4a219f10391d48311cd54772ec01691e8fee5
sev-es 1 qemu EPYC-Turin kernel 1e9e0dad204475c3497441135ccf4e7c668991700fb5fce3a9a1e58537bab829
sev-es 1 ec2 EPYC-Milan - 98f250c548cffdc45e5190bc92970c6d67076c87f6f63104733b95274510ff83
sev-es 1 ec2 EPYC-Milan kernel 1066a61844c567a77752e40f8d48af948a7295f67de1c047eaf4542b08b436d7
sev-es 1 gce EPYC-Milan - 3195ba347b40409842a33a99cda80e7b4b7e1c215666981423eea41a24e47df3
sev-es 1 gce EPYC-Milan kernel 843d410a00b10d8b895220b696a765fca4e5cabd46ba164de929b64db857fe28
sev-es 4 qemu EPYC-Milan - be23f4a2de9d0fe9900024f1844f9ee750055bedcbf1065622524e55603b655e
sev-es 4 qemu EPYC-Milan kernel aeab630ecdd00cb84208ca700f54c4fbbfa4e05c0652ad4675dc015d2e936d1c
sev-es 4 ec2 EPYC-Milan - 8f8bdff336743f20cf305b372898b4a1a6b35a9c7f5a8099a077ae9145b24caf
sev-es 4 ec2 EPYC-Milan kernel 58aac92a9cfc02f857ad0d904d7142926027b56d773422043f9d7810d9e0253e
sev-es 4 gce EPYC-Milan - b2cf342dfa3dfbc8422eb20b0ab4efce6fbe2d69156df02c7b43a24c482838e1
sev-es 4 gce EPYC-Milan kernel 90e414ab1817bafedaf0d69b1bb1cd0c4d8a9d08a4c0e6dbff6e3a516678cc5b
snp 1 qemu EPYC kernel 83f0e62be9f51e57b3f6d009d8f684329841a24dd126d8a432367f9dc62b6191d9b4f9ef7c00cc09bd0b75a3a9006121
snp 1 qemu EPYC-Milan - 2f725722d62657a2e17f0cb1fb97dbd576e1fc0176bab6f90c911ff3164ac79b48c273d5c1389d4913842da9351817fb
snp 1 qemu EPYC-Milan kernel a05a2cd8aea06d7a26194c4e1a41ccd13ff6f90177e8fc8fdc6319e2563cce8824b1a847f2485bff5d1c1b79c4225426
snp 1 qemu EPYC-Genoa - 521535e9c2d8473569e60e1d5e5747f616de0730fc24231cccefc7788a3baebc47459045540a56bf70ecfbef8671232a
snp 1 qemu EPYC-Genoa kernel 43a184ab3b7a26dd1d799d50a08254c4a4aaff189e5eac3a1cb99a85bd5d6eda6b8328dbaacc66cdf6297042207fc2aa
snp 1 qemu EPYC-Turin kernel 67da7e06695860b36e3fe2ade602733f166a3b61c797a7874d98383166a01adc2ec92497332850a6c33f16282313fa11
snp 1 ec2 EPYC-Milan - 9abb67047765780f12563ce177628182ee363c69aa85fdaf4d46b8c4a90a6b0cadc3179cfc83023a9b9b21092a72cc9d
snp 1 ec2 EPYC-Milan kernel 590e431e5aefff78d01e3bb53d6d155d6c4634dd79ae8a46f5b52a396b7b01a9592e9377f4104e2172c7ae21929a8dee
snp 1 gce EPYC-Milan - 23b42aa864ec8886bf2e310cd3a4f5671185b17dcea8ab8755dbe9f9b36ef1cb8f2c8a9d6e57983005e5deea24b86abd
snp 1 gce EPYC-Milan kernel f3096be5cc5bcb331c72e82ae1179a4b080e74e46f0113966f446423b4d8f2c669a73bfcf87de0cc90f75c7d79bb5faf
snp 4 qemu EPYC-Milan - e11b5fab2f8ad4178d7171e61341299de0060391cefc1816a8ead947d527d958e36507b65d7f6e040da9e454157aa5b0
snp 4 qemu EPYC-Milan kernel 7a3896b6b86c3d697a3c1b225421aac54b38218fe2d0a8784f1ef4d4072d0ab9e420f38cacabe5c273e4355585222d3c
snp 4 qemu EPYC-Genoa - 2116f7c4276347584bf0d81f01736bbfa841cc1c7c045c0451990a79b4470d502e988d751ddf573ad997f687f0b4ff28
snp 4 qemu EPYC-Genoa kernel c41950d08583552202c86b0121d4a7cac8f3b819bc0c37b65218ad68faf5be213ca0919cf64298bbc45a4ee710820f15
snp 4 ec2 EPYC-Milan - 06a937f9d7fd08c78e64e6ea07951c5132b25849f511da359452f5826f914f88a9f7a2d6b4b90ad5b31bb495fa83f21d
snp 4 ec2 EPYC-Milan kernel 4de01c7ad9ba271abcee692e1d4cdb26e1476c4bec7a62c14a9cc719b590b0e980dbec20748d27a6b793c2fb24aa9a0a
snp 4 gce EPYC-Milan - 2dbcc0ea4d05710941ea7e807cac7a2617b90dea68a73594a8d70f378d7b3d4da07104ce2859178ce039eb71276b36f5
snp 4 gce EPYC-Milan kernel 53c02af0719978d49267fc095fc9ea711b4fd86b399340ab3c591f9ad943edbd3b250e3e543cc209a932381792d91705
`

// TestFigures compares with an independent program, machine by machine.
func TestFigures(t *testing.T) {
	f := parse(t, image())
	n := 0
	for line := range strings.Lines(strings.TrimSpace(figures)) {
		checkFigure(t, f, line)
		n++
	}
	if n != 34 {
		t.Errorf("%d figures", n)
	}
}

// checkFigure computes a line: mode, processors, VMM, model, with a kernel or not,
// digest.
func checkFigure(t *testing.T, f *Firmware, line string) {
	t.Helper()
	p := strings.Fields(line)
	cpu, ok := CPUModel(p[3])
	if !ok {
		t.Fatalf("no model %s", p[3])
	}
	m := &Machine{Firmware: f, CPU: cpu, Mode: map[string]Mode{"sev": SEV, "sev-es": SEVES, "snp": SNP}[p[0]],
		VMM: map[string]VMM{"qemu": QEMU, "ec2": EC2, "gce": GCE}[p[2]]}
	if _, err := fmt.Sscan(p[1], &m.VCPUs); err != nil {
		t.Fatal(err)
	}
	if p[4] == "kernel" {
		var err error
		if m.Kernel, err = NewKernel([]byte("kernel"), []byte("initrd"), "console=ttyS0"); err != nil {
			t.Fatal(err)
		}
	}
	d, err := m.Digest()
	if err != nil || hex.EncodeToString(d) != p[5] {
		t.Errorf("%s: %x, %v", line, d, err)
	}
}

// debian are figures of the same program for OVMF.fd of Debian 12.
var debian = []string{
	"sev 1 qemu EPYC-Milan - 7b456907dd0786d415999e801a1ac4637b8ed4d7cf5378cfc6edbe5e574dd773",
	"sev-es 4 qemu EPYC-Milan - 20870ccffdd6efa982546bf9c31daa880afa38e9ccd884d985a7b4d89d7a4591",
	"snp 1 qemu EPYC-Milan - 80479ca85a2b182c026f6a3a2f2b180ab968d84b17540dd30de39039e70b8c0c33ead2cae6d34e37750035fcff60bfc8",
	"snp 4 qemu EPYC-Genoa - a509186122f6e4e095ebab39abf4aea568d9949b9e929d0759f45a3983dfc2df71404de97367aba26c08ddeebc3d7ba0",
	"snp 4 ec2 EPYC-Milan - 247ad4ffd2aa671f172a61d8fc73337c2b3489dae4e53a8d9dd2d96d3b71b35ab008b3581c496f99810fe72bfd84d5ac",
	"snp 4 gce EPYC-Milan - dc9e0c41c8b0ca2000043e749d6fd77737d0ef146b3c9eaaaf693f50dd5ce57fbcb379cb4af9918c94d265a7e0bd8317",
}

// TestDebian compares real firmware, where that of Debian 12 is installed.
func TestDebian(t *testing.T) {
	b, err := os.ReadFile("/usr/share/ovmf/OVMF.fd")
	if err != nil {
		t.Skip("ovmf is not installed: real firmware is not measured")
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != "7b456907dd0786d415999e801a1ac4637b8ed4d7cf5378cfc6edbe5e574dd773" {
		t.Skip("another ovmf is installed than 2022.11-6+deb12u2: there are no figures for it")
	}
	f := parse(t, b)
	for _, line := range debian {
		checkFigure(t, f, line)
	}
	k, err := NewKernel(nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{SEV, SEVES, SNP} {
		if _, err := (&Machine{Mode: mode, Firmware: f, VCPUs: 1, Kernel: k}).Digest(); err == nil || !strings.Contains(err.Error(), "no place for the kernel's hashes") {
			t.Errorf("a kernel that is not measured: %v", err)
		}
	}
}

// TestMatters: everything that is measured changes the digest, and nothing else.
func TestMatters(t *testing.T) {
	k, err := NewKernel([]byte("kernel"), nil, "quiet")
	if err != nil {
		t.Fatal(err)
	}
	base := Machine{Mode: SNP, Firmware: parse(t, image()), VCPUs: 2, CPU: CPUSignature(25, 1, 1), Kernel: k}
	digest := func(m Machine) string {
		d, err := m.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return string(d)
	}
	want := digest(base)
	seen := map[string]string{want: "the machine itself"}
	for name, alter := range map[string]func(m *Machine){
		"a processor more": func(m *Machine) { m.VCPUs++ },
		"model":            func(m *Machine) { m.CPU = CPUSignature(25, 17, 0) },
		"features":         func(m *Machine) { m.Features = 0x21 },
		"EC2":              func(m *Machine) { m.VMM = EC2 },
		"GCE":              func(m *Machine) { m.VMM = GCE },
		"no kernel":        func(m *Machine) { m.Kernel = nil },
		"command line":     func(m *Machine) { c := *k; c.CommandLine[0]++; m.Kernel = &c },
		"initrd":           func(m *Machine) { c := *k; c.Initrd[0]++; m.Kernel = &c },
		"kernel":           func(m *Machine) { c := *k; c.Kernel[0]++; m.Kernel = &c },
		"SEV-ES":           func(m *Machine) { m.Mode = SEVES },
		"SEV":              func(m *Machine) { m.Mode = SEV },
	} {
		m := base
		alter(&m)
		d := digest(m)
		if seen[d] != "" {
			t.Errorf("%s has the digest of %s", name, seen[d])
		}
		seen[d] = name
	}
	for at := 0; at < 2*pageSize; at += 61 {
		b := image()
		b[at] ^= 0x80
		f, err := ParseFirmware(b)
		if err != nil {
			continue // it hit the table
		}
		m := base
		m.Firmware = f
		if d, err := m.Digest(); err == nil && string(d) == want {
			t.Errorf("byte %d of the firmware does not matter", at)
		}
	}
	m := base
	m.Features = DefaultFeatures
	if digest(m) != want {
		t.Error("the default features are others")
	}
}

// TestRefused: what cannot be launched or read.
func TestRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": nil, "odd": make([]byte, 100), "long entry": image(append(entry(resetGUID, 1)[:4], append([]byte{0xff, 0xff}, resetGUID[:]...)...)),
		"short entry":    image(append([]byte{entryHeader, 0}, resetGUID[:]...)),
		"metadata apart": image(entry(metadataGUID, 0xffffffff)), "metadata elsewhere": image(entry(metadataGUID, 4096)),
	} {
		if _, err := ParseFirmware(b); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	f := parse(t, image())
	bare := parse(t, make([]byte, pageSize))
	strange := parse(t, image())
	strange.sections[0].kind = 9
	for want, m := range map[string]Machine{
		"no firmware": {}, "1 to 4096": {Mode: SEVES, Firmware: f}, "none that is known": {Mode: 3, Firmware: f},
		"reset block": {Mode: SNP, Firmware: bare, VCPUs: 2}, "not known here": {Mode: SNP, Firmware: strange, VCPUs: 1},
	} {
		if _, err := m.Digest(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	if _, err := NewKernel(nil, nil, "a\x00b"); err == nil {
		t.Error("a command line with a zero byte was taken")
	}
	for _, name := range CPUModels() {
		if c, ok := CPUModel(name); !ok || c == 0 {
			t.Errorf("no model %s", name)
		}
	}
	if c, _ := CPUModel("EPYC-Milan"); c != CPUSignature(25, 1, 1) {
		t.Errorf("Milan is %x", c)
	}
}

// FuzzParseFirmware looks for images that do harm.
func FuzzParseFirmware(f *testing.F) {
	f.Add(image()[pageSize:])
	f.Fuzz(func(t *testing.T, b []byte) {
		fw, err := ParseFirmware(b)
		if err != nil || len(b) > 4*pageSize {
			return
		}
		for _, s := range fw.sections {
			if s.size > 1<<20 {
				return // many pages, which only take time
			}
		}
		_, _ = (&Machine{Mode: SNP, Firmware: fw, VCPUs: 1}).Digest()
	})
}

// ExampleMachine_Digest computes what an SEV-SNP report of a machine will have as
// its measurement.
func ExampleMachine_Digest() {
	firmware, err := ParseFirmware(make([]byte, 4096)) // an image of OVMF, for real
	if err != nil {
		fmt.Println(err)
		return
	}
	cpu, _ := CPUModel("EPYC-Milan")
	digest, err := (&Machine{Mode: SNP, Firmware: firmware, VCPUs: 1, CPU: cpu}).Digest()
	fmt.Printf("%d bytes, %v\n", len(digest), err)
	// Output: 48 bytes, <nil>
}
