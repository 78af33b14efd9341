package ima_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/ima"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// builder writes the same measurements as a binary and as an ASCII log.
type builder struct {
	order binary.ByteOrder
	alg   tpm2.AlgID // of the template hashes
	bin   bytes.Buffer
	text  bytes.Buffer
}

func newLog() *builder { return &builder{order: binary.LittleEndian, alg: tpm2.AlgSHA1} }

func (b *builder) u32(n int) []byte {
	var out [4]byte
	b.order.PutUint32(out[:], uint32(n))
	return out[:]
}

// add writes an entry from its encoded fields and their ASCII forms.
func (b *builder) add(pcr int, template string, violation bool, fields [][]byte, texts ...string) *builder {
	var data []byte
	for _, f := range fields {
		data = append(append(data, b.u32(len(f))...), f...)
	}
	hash := b.alg.Digest(data)
	if violation {
		hash = make([]byte, len(hash))
	}
	b.bin.Write(b.u32(pcr))
	b.bin.Write(hash)
	b.bin.Write(b.u32(len(template)))
	b.bin.WriteString(template)
	b.bin.Write(b.u32(len(data)))
	b.bin.Write(data)
	fmt.Fprintf(&b.text, "%2d %x %s %s\n", pcr, hash, template, strings.Join(texts, " "))
	return b
}

func digestField(prefix string, digest []byte) []byte {
	return append([]byte(prefix+":\x00"), digest...)
}

func (b *builder) file(path string, content string) *builder {
	d := tpm2.AlgSHA256.Digest([]byte(content))
	return b.add(10, "ima-ng", false, [][]byte{digestField("sha256", d), []byte(path + "\x00")},
		fmt.Sprintf("sha256:%x", d), path)
}

func (b *builder) violation(path string) *builder {
	d := make([]byte, 32)
	return b.add(10, "ima-ng", true, [][]byte{digestField("sha256", d), []byte(path + "\x00")},
		fmt.Sprintf("sha256:%x", d), path)
}

// sample has an entry of every template.
func sample(b *builder) *builder {
	b.file("boot_aggregate", "pcrs").file("/sbin/init", "init").violation("/var/log/wtmp")
	d := tpm2.AlgSHA256.Digest([]byte("x"))
	sig := []byte{3, 2, 4, 0xde, 0xad, 0xbe, 0xef, 0, 4, 1, 2, 3, 4}
	dn, name, text := digestField("sha256", d), []byte("/bin/x\x00"), fmt.Sprintf("sha256:%x", d)
	b.add(10, "ima-sig", false, [][]byte{dn, name, sig}, text, "/bin/x", fmt.Sprintf("%x", sig))
	b.add(10, "ima-sig", false, [][]byte{dn, name, nil}, text, "/bin/x", "")
	b.add(10, "ima-ngv2", false, [][]byte{digestField("verity:sha256", d), name}, "verity:"+text, "/bin/x")
	b.add(10, "ima-sigv2", false, [][]byte{digestField("ima:sha256", d), name, nil}, "ima:"+text, "/bin/x", "")
	b.add(10, "ima-buf", false, [][]byte{dn, []byte("kexec-cmdline\x00"), []byte("ro quiet")}, text, "kexec-cmdline", "726f207175696574")
	b.add(11, "ima-modsig", false, [][]byte{dn, name, nil, dn, {1, 2}}, text, "/bin/x", "", text, "0102")
	b.add(10, "d-ng|n-ng|iuid", false, [][]byte{dn, name, b.u32(1000)}, text, "/bin/x", "1000")
	mode := make([]byte, 2)
	b.order.PutUint16(mode, 0o100755)
	b.add(10, "evm-sig", false, [][]byte{dn, name, {5, 2, 4, 1, 2, 3, 4, 0, 1, 9}, []byte("security.ima\x00"), {1, 0, 0, 0}, {4},
		b.u32(0), b.u32(0), mode}, text, "/bin/x", "05020401020304000109", "security.ima", "01000000", "04", "0", "0", "33261")
	// Measured without a file: a key, so that the inode's fields are empty.
	b.add(10, "evm-sig", false, [][]byte{dn, []byte(".ima\x00"), nil, nil, nil, nil, nil, nil, nil},
		text, ".ima", "", "", "", "", "", "", "")
	return b
}

func parse(t *testing.T, raw []byte) *ima.Log {
	t.Helper()
	l, err := ima.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestForms: both forms of a log give the same entries, hashes and PCRs.
func TestForms(t *testing.T) {
	b := sample(newLog())
	bin, text := parse(t, b.bin.Bytes()), parse(t, b.text.Bytes())
	if bin.Format != ima.Binary || text.Format != ima.ASCII || len(bin.Entries) != 12 || len(text.Entries) != 12 {
		t.Fatalf("%v %d, %v %d", bin.Format, len(bin.Entries), text.Format, len(text.Entries))
	}
	for i := range bin.Entries {
		x, y := &bin.Entries[i], &text.Entries[i]
		if !bytes.Equal(x.Data, y.Data) || !bytes.Equal(x.TemplateHash, y.TemplateHash) || x.PCR != y.PCR || x.Template.Name != y.Template.Name {
			t.Errorf("entry %d (%s): %x, %x", i+1, x.Template.Name, x.Data, y.Data)
		}
		if ima.Explain(x) != ima.Explain(y) {
			t.Errorf("entry %d: %q, %q", i+1, ima.Explain(x), ima.Explain(y))
		}
	}
	for _, l := range []*ima.Log{bin, text} {
		if h := l.CheckHashes(); h.OK != 11 || h.Violations != 1 || len(h.Bad) != 0 || h.Unknown != 0 || h.Alg != tpm2.AlgSHA1 {
			t.Errorf("%v: %+v", l.Format, h)
		}
		if got := l.PCRs(); len(got) != 2 || got[0] != 10 || got[1] != 11 {
			t.Errorf("PCRs %v", got)
		}
	}
}

func TestBigEndianAndWideHashes(t *testing.T) {
	b := &builder{order: binary.BigEndian, alg: tpm2.AlgSHA256}
	b.file("/a", "1").file("/b", "2")
	l := parse(t, b.bin.Bytes())
	if len(l.Entries) != 2 || l.Entries[1].Path() != "/b" {
		t.Fatalf("%d entries", len(l.Entries))
	}
	if h := l.CheckHashes(); h.OK != 2 || h.Alg != tpm2.AlgSHA256 {
		t.Errorf("%+v", h)
	}
}

// TestLegacyTemplate uses the template "ima", whose hash covers 20 + 256 bytes.
func TestLegacyTemplate(t *testing.T) {
	digest, path := tpm2.AlgSHA1.Digest([]byte("x")), "/bin/true"
	hashed := make([]byte, 20+256)
	copy(hashed, digest)
	copy(hashed[20:], path)
	hash := tpm2.AlgSHA1.Digest(hashed)
	var bin bytes.Buffer
	for _, v := range []any{uint32(10), hash, uint32(3), []byte("ima"), digest, uint32(len(path)), []byte(path)} {
		if err := binary.Write(&bin, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf("10 %x ima %x %s\n", hash, digest, path)
	for _, raw := range [][]byte{bin.Bytes(), []byte(text)} {
		l := parse(t, raw)
		e := &l.Entries[0]
		alg, d := e.FileDigest()
		if e.Path() != path || alg != "sha1" || !bytes.Equal(d, digest) || l.CheckHashes().OK != 1 {
			t.Errorf("%v: %q %s %x %+v", l.Format, e.Path(), alg, d, l.CheckHashes())
		}
	}
}

// TestReplay checks every mode against a plain calculation.
func TestReplay(t *testing.T) {
	b := newLog().file("/a", "1").violation("/v")
	l := parse(t, b.bin.Bytes())
	data := l.Entries[0].Data
	h := tpm2.AlgSHA256.Digest
	ones := bytes.Repeat([]byte{0xff}, 32)
	padded := append(tpm2.AlgSHA1.Digest(data), make([]byte, 12)...)
	short := append(bytes.Repeat([]byte{0xff}, 20), make([]byte, 12)...)
	zero := make([]byte, 32)
	for mode, want := range map[ima.Mode][]byte{
		ima.PerBank:         h(h(zero, h(data)), ones),
		ima.PaddedSHA1:      h(h(zero, padded), ones),
		ima.PaddedSHA1Short: h(h(zero, padded), short),
	} {
		r, err := l.Replay(tpm2.AlgSHA256, mode)
		if err != nil || !bytes.Equal(r.PCR(10), want) || r.Count() != 2 {
			t.Errorf("%v: %x, want %x, %v", mode, r.PCR(10), want, err)
		}
		if p, ok := l.FindPrefix(tpm2.AlgSHA256, map[int][]byte{10: want}); !ok || p.Mode != mode || p.Entries != 2 {
			t.Errorf("prefix %+v, %v; want %v", p, ok, mode)
		}
	}
	if _, err := l.Replay(tpm2.AlgSM3256, ima.PerBank); err == nil {
		t.Error("an SM3 bank is replayed")
	}
}

func TestFindPrefix(t *testing.T) {
	l := parse(t, sample(newLog()).bin.Bytes())
	state, err := ima.NewReplay(tpm2.AlgSHA256, ima.PerBank)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(l.Entries) + 1 {
		r, err := ima.NewReplay(tpm2.AlgSHA256, ima.PerBank)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			r.Extend(&l.Entries[i])
		}
		want := map[int][]byte{10: r.PCR(10), 11: r.PCR(11)}
		if p, ok := l.FindPrefix(tpm2.AlgSHA256, want); !ok || p.Entries != n {
			t.Errorf("after %d entries: %+v, %v", n, p, ok)
		}
		if !state.Advance(l, want) || state.Count() != n {
			t.Errorf("Advance stands at %d, want %d", state.Count(), n)
		}
	}
	if state.Advance(l, map[int][]byte{10: make([]byte, 32)}) || state.Count() != len(l.Entries) {
		t.Error("a state is found that is in the past")
	}
	for _, want := range []map[int][]byte{{10: make([]byte, 31)}, {24: make([]byte, 32)}, {10: bytes.Repeat([]byte{1}, 32)}} {
		if _, ok := l.FindPrefix(tpm2.AlgSHA256, want); ok {
			t.Errorf("%v is found", want)
		}
	}
}

// TestAppend: a log read in parts is the log read at once.
func TestAppend(t *testing.T) {
	for _, ascii := range []bool{false, true} {
		part, b := newLog().file("/a", "1"), newLog()
		sample(b.file("/a", "1"))
		head, whole := part.bin.Bytes(), b.bin.Bytes()
		if ascii {
			head, whole = part.text.Bytes(), b.text.Bytes()
		}
		l := parse(t, head)
		if err := l.Append(whole[len(head) : len(whole)-3]); err == nil && !ascii {
			t.Error("a cut part is taken")
		}
		l = parse(t, head)
		if err := l.Append(whole[len(head):]); err != nil {
			t.Fatal(err)
		}
		last, want := l.Entries[len(l.Entries)-1], parse(t, whole).Entries[len(l.Entries)-1]
		if last.Offset != want.Offset || last.Number != want.Number || !bytes.Equal(last.Data, want.Data) {
			t.Errorf("%+v, want %+v", last, want)
		}
	}
}

func TestTruncation(t *testing.T) {
	b := sample(newLog())
	whole := b.bin.Bytes()
	l := parse(t, whole)
	boundary := map[int]bool{0: true, len(whole): true}
	for i := range l.Entries {
		boundary[l.Entries[i].Offset] = true
	}
	for n := range len(whole) {
		_, err := ima.Parse(whole[:n])
		var pe *ima.ParseError
		if boundary[n] != (err == nil) || err != nil && !errors.As(err, &pe) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	// An ASCII line that is cut in its path still parses: its hash tells.
	text := b.text.Bytes()
	for n := range len(text) {
		got, err := ima.Parse(text[:n])
		if err != nil || n == 0 || text[n-1] == '\n' || text[n] == '\n' {
			continue
		}
		if h := got.CheckHashes(); len(h.Bad) == 0 && strings.TrimRight(string(text[:n]), " \n") != strings.TrimRight(string(text[:n+bytes.IndexByte(text[n:], '\n')]), " \n") &&
			!got.Entries[len(got.Entries)-1].Violation() {
			t.Fatalf("cut at %d passes: %q", n, text[max(0, n-60):n])
		}
	}
}

func TestMalformed(t *testing.T) {
	const hash = "0123456789012345678901234567890123456789"
	for _, c := range []struct{ raw, want string }{
		{"this-is-no-log", "this is no IMA log"},
		{"\xff\xff\xff\xff\xff", "this is no IMA log"},
		{"99 " + hash + " ima-ng sha256:00 /a\n", "number of a PCR"},
		{"10\n", "number of a PCR"},
		{"10 xyz ima-ng sha256:00 /a\n", "not hexadecimal"},
		{"10 0123 ima-ng sha256:00 /a\n", "no algorithm gives"},
		{"10 " + hash + "\n", "cut short"},
		{"10 " + hash + " ima-new a b\n", `"ima-new" is not known`},
		{"10 " + hash + " ima-ng sha256 /a\n", "an algorithm, a colon and a digest"},
		{"10 " + hash + " ima-ng sha256:0 /a\n", "not hexadecimal"},
		{"10 " + hash + " ima-ng sha256:00\n", "field n-ng is missing"},
		{"10 " + hash + " ima-ng sha256:00 /a b\n", "more fields"},
		{"10 " + hash + " ima 00 /a\n", "40 hexadecimal digits"},
		{"10 " + hash + " d-ng|n-ng|iuid sha256:00 /a root\n", "should be a number"},
		{"10 " + hash + " ima-ng sha256:00 /a\n\n10 x", "entry 2 at offset 64: the line should start"},
		{"\n", "this is no IMA log"},
	} {
		_, err := ima.Parse([]byte(c.raw))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.raw, err, c.want)
		}
	}
	good := newLog().file("/a", "1").bin.Bytes()
	for at, change := range map[int]byte{24: 200, 28: 0x07, 34: 0xff, 38: 0xff, 0: 24} {
		raw := bytes.Clone(good)
		raw[at] = change
		if _, err := ima.Parse(raw); err == nil {
			t.Errorf("byte %d changed to %d passes", at, change)
		}
	}
}

func TestHashes(t *testing.T) {
	raw := bytes.Clone(sample(newLog()).bin.Bytes())
	at := bytes.Index(raw, []byte("/sbin/init"))
	raw[at+1] = 'x'
	if h := parse(t, raw).CheckHashes(); len(h.Bad) != 1 || h.Bad[0] != 2 {
		t.Errorf("a forged path: %+v", h)
	}
	text := strings.Repeat("5a", 32)
	l := parse(t, []byte("10 "+text+" ima-ng sm3_256:"+text+" /a\n"))
	if h := l.CheckHashes(); h.Unknown != 1 || len(h.Bad) != 0 || h.Alg != tpm2.AlgNull {
		t.Errorf("an SM3 template hash: %+v", h)
	}
}

func TestExplain(t *testing.T) {
	l := parse(t, sample(newLog()).bin.Bytes())
	d := fmt.Sprintf("sha256:%x", tpm2.AlgSHA256.Digest([]byte("x")))
	for i, want := range []string{
		fmt.Sprintf("the kernel's summary of the boot's PCRs, sha256:%x", tpm2.AlgSHA256.Digest([]byte("pcrs"))),
		fmt.Sprintf("file /sbin/init, sha256:%x", tpm2.AlgSHA256.Digest([]byte("init"))),
		"violation: /var/log/wtmp could change while it was measured (open for writing at the same time)",
		"file /bin/x, " + d + ", signature by key deadbeef",
		"file /bin/x, " + d,
		"file /bin/x, fs-verity " + d,
		"file /bin/x, " + d,
		`command line of the kernel loaded by kexec: "ro quiet"`,
		"file /bin/x, " + d + ", with an appended signature of 2 bytes",
		"file /bin/x, " + d,
		"file /bin/x, " + d + ", EVM portable signature by key 01020304",
		"file .ima, " + d,
	} {
		if got := ima.Explain(&l.Entries[i]); got != want {
			t.Errorf("entry %d: %q, want %q", i+1, got, want)
		}
	}
	l = parse(t, newLog().file("/tmp/\x1b[2J", "x").bin.Bytes())
	if got := ima.Explain(&l.Entries[0]); !strings.Contains(got, `/tmp/\x1b[2J`) {
		t.Errorf("%q reaches the terminal", got)
	}
}

func TestBootAggregate(t *testing.T) {
	h := tpm2.AlgSHA256
	value := func(i int) []byte { return h.Digest([]byte{byte(i)}) }
	all := func(tpm2.AlgID, int) []byte { return nil }
	for _, last := range []int{7, 9} {
		var pcrs []byte
		for i := range last + 1 {
			pcrs = append(pcrs, value(i)...)
		}
		l := parse(t, newLog().file("boot_aggregate", string(pcrs)).bin.Bytes())
		covered, err := ima.CheckBootAggregate(l.BootAggregate(), func(_ tpm2.AlgID, i int) []byte { return value(i) })
		if err != nil || covered != last+1 {
			t.Errorf("PCRs 0 to %d: %d, %v", last, covered, err)
		}
		_, err = ima.CheckBootAggregate(l.BootAggregate(), func(_ tpm2.AlgID, i int) []byte { return value(i + 1) })
		if err == nil || errors.Is(err, ima.ErrNotChecked) {
			t.Errorf("another boot: %v", err)
		}
		if _, err = ima.CheckBootAggregate(l.BootAggregate(), all); !errors.Is(err, ima.ErrNotChecked) {
			t.Errorf("no PCRs: %v", err)
		}
	}
	if parse(t, nil).BootAggregate() != nil {
		t.Error("an empty log has a boot aggregate")
	}
}

func TestPolicy(t *testing.T) {
	var p ima.Policy
	p.Learn(parse(t, newLog().file("boot_aggregate", "p").file("/a", "1").file("/b", "2").bin.Bytes()))
	if err := p.Exclude("/tmp/"); err != nil {
		t.Fatal(err)
	}
	if err := p.Exclude("("); err == nil {
		t.Error("a pattern that is none is taken")
	}
	raw, err := json.Marshal(&p)
	if err != nil {
		t.Fatal(err)
	}
	q, err := ima.ParsePolicy(raw)
	if err != nil || q.Len() != 2 {
		t.Fatalf("%d paths, %v", q.Len(), err)
	}
	l := parse(t, newLog().file("boot_aggregate", "q").file("/a", "1").file("/tmp/x", "?").
		file("/b", "changed").file("/evil", "3").violation("/v").file("/later", "4").bin.Bytes())
	got := q.Check(l, 6)
	want := []struct {
		entry int
		path  string
		kind  ima.DeviationKind
	}{{4, "/b", ima.Changed}, {5, "/evil", ima.Unlisted}, {6, "/v", ima.Unmeasurable}}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i, w := range want {
		if got[i].Entry != w.entry || got[i].Path != w.path || got[i].Kind != w.kind || !strings.Contains(got[i].Text, w.path) {
			t.Errorf("%+v, want %+v", got[i], w)
		}
	}
	for _, bad := range []string{"", "{}", `{"digests":{"/a":["sha256:xy"]}}`, `{"digests":{},"excludes":["("]}`} {
		if _, err := ima.ParsePolicy([]byte(bad)); err == nil {
			t.Errorf("policy %q is taken", bad)
		}
	}
}

// TestRenamedTemplate alters the one thing in an entry that no PCR proves, the
// template's name, so that the signature is read as the file's digest.
func TestRenamedTemplate(t *testing.T) {
	good, evil := tpm2.AlgSHA256.Digest([]byte("good")), tpm2.AlgSHA256.Digest([]byte("evil"))
	var p ima.Policy
	p.Allow("/bin/sh", ima.FileDigest{Alg: "sha256", Value: good})
	p.Allow("", ima.FileDigest{})
	sig := append([]byte("\x03\x02:sha256:\x00"), good...)
	fields := [][]byte{digestField("sha256", evil), []byte("/bin/sh\x00"), sig}
	for _, template := range []string{"ima-sig", "sig|n-ng|d-ngv2", "d|n-ng|d-ngv2", "n-ng", "unknown", "ima-ng|x"} {
		l, err := ima.Parse(newLog().add(10, template, false, fields).bin.Bytes())
		if err != nil {
			continue // fields that do not fit the name are refused at once
		}
		if got := p.Check(l, 1); len(got) != 1 {
			t.Errorf("a changed file passes under template %q", template)
		}
	}
	l, err := ima.Parse(newLog().add(10, "ima-sig", false, [][]byte{digestField("sha256", good), []byte("/bin/sh\x00"), sig}).bin.Bytes())
	if err != nil || len(p.Check(l, 1)) != 0 {
		t.Errorf("the good file does not pass: %v", err)
	}
}

// TestFalseBootAggregate gives a program the name of the kernel's summary, which
// is logged without a directory where the path is too long.
func TestFalseBootAggregate(t *testing.T) {
	var p ima.Policy
	l, err := ima.Parse(newLog().file("boot_aggregate", "true").file("boot_aggregate", "evil").bin.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Check(l, 2); len(got) != 1 || got[0].Entry != 2 {
		t.Errorf("%v", got)
	}
}
