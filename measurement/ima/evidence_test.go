package ima_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/ima"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// item is a line of expected.jsonl: the verdict and the facts about one log.
type item struct {
	ID, Expect, Reason  string
	Files, Endorsements []string
	Facts               struct {
		Entries    int
		Templates  map[string]int
		Violations int
		HashOK     *int `json:"template_hash_ok"`
		HashBad    *int `json:"template_hash_bad"`
		PCR10      map[string]string
		PCRsUsed   []int `json:"pcrs_used"`
		Format     string
		FileAlg    string `json:"file_digest_alg"`
		Prefix     int    `json:"quoted_pcr10_matches_prefix"`
	}
}

func evidence(t testing.TB) string {
	dir := os.Getenv("ASHLAR_EVIDENCE")
	if dir == "" {
		t.Skip("ASHLAR_EVIDENCE does not name a folder of evidence of real machines: skipped")
	}
	return dir
}

func read(t testing.TB, parts ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func items(t testing.TB, dir string) (list []item) {
	lines := bufio.NewScanner(bytes.NewReader(read(t, dir, "expected.jsonl")))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var kind struct{ Kind string }
		if json.Unmarshal(lines.Bytes(), &kind) != nil || kind.Kind != "ima" {
			continue
		}
		var it item
		if err := json.Unmarshal(lines.Bytes(), &it); err != nil {
			t.Fatal(err)
		}
		list = append(list, it)
	}
	return list
}

// TestEvidence holds every log to the facts recorded about it, found by other
// tools.
func TestEvidence(t *testing.T) {
	dir := evidence(t)
	list := items(t, dir)
	if len(list) < 10 {
		t.Fatalf("%d logs in expected.jsonl", len(list))
	}
	for _, it := range list {
		t.Run(it.ID, func(t *testing.T) {
			l, err := ima.Parse(read(t, dir, it.Files[0]))
			if err != nil {
				if it.Expect != "invalid" || it.Reason != "malformed" {
					t.Errorf("%v; want %s", err, it.Expect)
				}
				return
			}
			h := l.CheckHashes()
			verdict := "valid"
			if len(h.Bad) > 0 {
				verdict = "invalid"
			} else if h.Unknown > 0 {
				verdict = "partial"
			}
			if verdict != it.Expect {
				t.Errorf("verdict %s, want %s", verdict, it.Expect)
			}
			checkFacts(t, &it, l, h)
			if it.Facts.Prefix > 0 {
				want := map[int][]byte{10: quotedPCR10(t, read(t, dir, it.Endorsements[0]))}
				p, ok := l.FindPrefix(tpm2.AlgSHA256, want)
				if !ok || p.Entries != it.Facts.Prefix || p.Mode != ima.PerBank {
					t.Errorf("the quote matches %+v, %v; want %d entries", p, ok, it.Facts.Prefix)
				}
			}
			for i := range l.Entries {
				if ima.Explain(&l.Entries[i]) == "" {
					t.Errorf("entry %d is not explained", i+1)
				}
			}
		})
	}
}

func checkFacts(t *testing.T, it *item, l *ima.Log, h ima.Hashes) {
	f := &it.Facts
	if len(l.Entries) != f.Entries || !reflect.DeepEqual(l.Templates(), f.Templates) || h.Violations != f.Violations ||
		!reflect.DeepEqual(l.PCRs(), f.PCRsUsed) || l.Format.String() != f.Format {
		t.Errorf("%d entries, %v, %d violations, PCRs %v, %v; want %+v",
			len(l.Entries), l.Templates(), h.Violations, l.PCRs(), l.Format, f)
	}
	if f.HashOK != nil && (h.OK != *f.HashOK || len(h.Bad) != *f.HashBad) {
		t.Errorf("template hashes: %d match, %d do not; want %d, %d", h.OK, len(h.Bad), *f.HashOK, *f.HashBad)
	}
	if alg, _ := l.Entries[0].FileDigest(); f.FileAlg != "" && alg != f.FileAlg {
		t.Errorf("file digests are %s, want %s", alg, f.FileAlg)
	}
	for name, want := range f.PCR10 {
		bank, mode := tpm2.AlgSHA256, ima.PerBank
		switch name {
		case "sha1":
			bank = tpm2.AlgSHA1
		case "sha256_zero_padded_sha1":
			mode = ima.PaddedSHA1
		}
		r, err := l.Replay(bank, mode)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(r.PCR(10)); got != want {
			t.Errorf("PCR 10 %s is %s, want %s", name, got, want)
		}
	}
}

// pcrFile reads the file of PCR values that tpm2_quote and tpm2_pcrread write:
// a TPML_PCR_SELECTION and lists of up to eight digests, as in memory.
func pcrFile(t *testing.T, raw []byte) map[tpm2.AlgID]map[int][]byte {
	t.Helper()
	const selectionSize, digestSize, perList = 4 + 16*8, 2 + 64, 8
	u16 := func(b []byte) int { return int(b[0]) | int(b[1])<<8 }
	if len(raw) < selectionSize+4 {
		t.Fatalf("a PCR file of %d bytes", len(raw))
	}
	digests := func(n int) []byte {
		at := selectionSize + 4 + n/perList*(4+perList*digestSize) + 4 + n%perList*digestSize
		return raw[at+2 : at+2+u16(raw[at:])]
	}
	out, n := map[tpm2.AlgID]map[int][]byte{}, 0
	for s := range u16(raw) {
		sel := raw[4+8*s:]
		bank := map[int][]byte{}
		for i := range 8 * int(sel[2]) {
			if sel[3+i/8]>>(i%8)&1 == 1 {
				bank[i] = digests(n)
				n++
			}
		}
		out[tpm2.AlgID(u16(sel))] = bank
	}
	return out
}

func quotedPCR10(t *testing.T, raw []byte) []byte {
	var q struct {
		PCRs string `json:"keylime_pcr_blob_b64"`
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(q.PCRs)
	if err != nil {
		t.Fatal(err)
	}
	return pcrFile(t, b)[tpm2.AlgSHA256][10]
}

// TestOwnGuests: each quote of our own guests confirms a prefix between the
// log as read before the quote and as read after it.
func TestOwnGuests(t *testing.T) {
	dir := filepath.Join(evidence(t), "own")
	for _, guest := range []string{"kernel-crb", "uki-sb-crb", "ima5000-crb"} {
		for _, key := range []string{"ecc", "rsa"} {
			before, err := ima.Parse(read(t, dir, guest, "ima_before_"+key+".bin"))
			if err != nil {
				t.Fatal(err)
			}
			after, err := ima.Parse(read(t, dir, guest, "ima_after_"+key+".bin"))
			if err != nil {
				t.Fatal(err)
			}
			for _, quote := range []string{"quote_", "quote2_"} {
				for bank, pcrs := range pcrFile(t, read(t, dir, guest, quote+key+".pcrs")) {
					want := map[int][]byte{10: pcrs[10]}
					p, ok := after.FindPrefix(bank, want)
					if !ok || p.Entries < len(before.Entries) || p.Mode != ima.PerBank {
						t.Errorf("%s %s%s %s: prefix %+v, %v; %d entries before, %d after",
							guest, quote, key, bank, p, ok, len(before.Entries), len(after.Entries))
					}
				}
			}
		}
	}
}

// TestOwnBanks: in all four banks of the PCRs read at the end, PCR 10 follows
// from the log: SHA-384 and SHA-512 by padded SHA-1, as that kernel does.
func TestOwnBanks(t *testing.T) {
	dir := filepath.Join(evidence(t), "own")
	for _, guest := range []string{"kernel-crb", "uki-sb-crb", "ima5000-crb"} {
		l, err := ima.Parse(read(t, dir, guest, "ima_ascii.txt"))
		if err != nil {
			t.Fatal(err)
		}
		pcrs := pcrText(t, string(read(t, dir, guest, "pcrs.txt")))
		for bank, mode := range map[tpm2.AlgID]ima.Mode{
			tpm2.AlgSHA1: ima.PerBank, tpm2.AlgSHA256: ima.PerBank,
			tpm2.AlgSHA384: ima.PaddedSHA1, tpm2.AlgSHA512: ima.PaddedSHA1,
		} {
			p, ok := l.FindPrefix(bank, map[int][]byte{10: pcrs[bank][10]})
			if !ok || p.Mode != mode {
				t.Errorf("%s, %s: %+v, %v", guest, bank, p, ok)
			}
		}
		covered, err := ima.CheckBootAggregate(l.BootAggregate(), func(bank tpm2.AlgID, i int) []byte { return pcrs[bank][i] })
		if err != nil || covered != 10 {
			t.Errorf("%s: boot aggregate over %d PCRs: %v", guest, covered, err)
		}
	}
}

// pcrText reads what tpm2_pcrread prints.
func pcrText(t *testing.T, text string) map[tpm2.AlgID]map[int][]byte {
	out := map[tpm2.AlgID]map[int][]byte{}
	var bank tpm2.AlgID
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		index, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || value == "" {
			alg, ok := tpm2.ParseAlg(index)
			if !ok {
				t.Fatalf("not a bank: %q", line)
			}
			bank, out[alg] = alg, map[int][]byte{}
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(index))
		if err != nil {
			t.Fatal(err)
		}
		if out[bank][n], err = hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(value), "0x")); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
