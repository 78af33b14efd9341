package eventlog_test

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// item is a line of expected.jsonl: the verdict and the facts about one log.
type item struct {
	ID, Kind, Expect, Reason string
	Files, Endorsements      []string
	Facts                    struct {
		Format, Encoding string
		Banks            []string
		Events           int
		SpecIDHeader     bool              `json:"spec_id_header"`
		StartupLocality  *uint8            `json:"startup_locality"`
		Padding          int               `json:"padding_bytes"`
		Outside          int               `json:"events_outside_pcrs"`
		PCRs             map[string]values `json:"pcrs"`
		Compared         map[string][]int  `json:"recorded_pcrs_compared"`
		Mismatch         map[string][]int  `json:"recorded_pcrs_mismatch"`
		Recorded         map[string]values `json:"recorded_pcrs"`
	}
}

// values maps a PCR's index to its value in hexadecimal.
type values map[string]string

func evidence(t testing.TB) string {
	dir := os.Getenv("ASHLAR_EVIDENCE")
	if dir == "" {
		t.Skip("ASHLAR_EVIDENCE does not name a folder of evidence of real machines: skipped")
	}
	return dir
}

func items(t testing.TB, dir string) (list []item) {
	f, err := os.Open(filepath.Join(dir, "expected.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var it item
		var kind struct{ Kind string }
		if json.Unmarshal(lines.Bytes(), &kind) != nil || kind.Kind != "eventlog" {
			continue
		}
		if err := json.Unmarshal(lines.Bytes(), &it); err != nil {
			t.Fatal(err)
		}
		list = append(list, it)
	}
	return list
}

func (it *item) read(t testing.TB, dir string) []byte {
	raw, err := os.ReadFile(filepath.Join(dir, it.Files[0]))
	if err != nil {
		t.Fatal(err)
	}
	if it.Facts.Encoding == "base64" {
		if raw, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw))); err != nil {
			t.Fatal(err)
		}
	}
	return raw
}

// TestEvidence holds every log of real machines to the facts recorded about
// it, found by other tools.
func TestEvidence(t *testing.T) {
	dir := evidence(t)
	list := items(t, dir)
	if len(list) < 30 {
		t.Fatalf("%d logs in expected.jsonl", len(list))
	}
	for _, it := range list {
		t.Run(it.ID, func(t *testing.T) {
			l := parse(t, it.read(t, dir))
			checkFacts(t, &it, l)
			verdict := "valid"
			for _, f := range l.Check() {
				if f.Severity == eventlog.Malformed {
					verdict = "invalid"
				}
			}
			if it.Facts.Compared != nil {
				verdict = compare(t, &it, l, dir)
			}
			if verdict != it.Expect {
				t.Errorf("verdict %s, want %s (%s)", verdict, it.Expect, it.Reason)
			}
			for i := range l.Events {
				if l.Explain(i) == "" {
					t.Errorf("event %d is not explained", i+1)
				}
			}
		})
	}
}

func checkFacts(t *testing.T, it *item, l *eventlog.Log) {
	f := &it.Facts
	var banks []string
	for _, a := range l.Banks() {
		banks = append(banks, a.String())
	}
	if l.Format.String() != f.Format || !reflect.DeepEqual(banks, f.Banks) || len(l.Events) != f.Events ||
		(l.SpecID != nil) != f.SpecIDHeader || l.Padding != f.Padding || l.Outside() != f.Outside {
		t.Errorf("%v, banks %v, %d events, padding %d, %d outside; want %+v",
			l.Format, banks, len(l.Events), l.Padding, l.Outside(), f)
	}
	loc, ok := l.StartupLocality()
	if ok != (f.StartupLocality != nil) || ok && loc != *f.StartupLocality {
		t.Errorf("startup locality %d, %v", loc, ok)
	}
	replayed := map[string]values{}
	for _, b := range l.Replay() {
		v := values{}
		for _, i := range b.Extended() {
			pcr, _ := b.PCR(i)
			v[strconv.Itoa(i)] = hex.EncodeToString(pcr)
		}
		replayed[b.Alg.String()] = v
	}
	if !reflect.DeepEqual(replayed, f.PCRs) {
		t.Errorf("PCRs %v, want %v", replayed, f.PCRs)
	}
}

// compare replays the log against the PCRs recorded beside it.
func compare(t *testing.T, it *item, l *eventlog.Log, dir string) string {
	recorded := recordedPCRs(t, filepath.Join(dir, it.Endorsements[0]))
	compared, mismatch, whole := map[string][]int{}, map[string][]int{}, 0
	for _, b := range l.Replay() {
		name := b.Alg.String()
		c, d := b.Mismatches(recorded[b.Alg])
		compared[name] = append([]int{}, c...)
		if len(d) > 0 {
			mismatch[name] = d
			for _, i := range d {
				if got := hex.EncodeToString(recorded[b.Alg][i]); got != it.Facts.Recorded[name][strconv.Itoa(i)] {
					t.Errorf("%s PCR %d was recorded as %s", name, i, got)
				}
			}
		} else if len(c) > 0 {
			whole++
		}
	}
	if !reflect.DeepEqual(compared, it.Facts.Compared) || !reflect.DeepEqual(mismatch, it.Facts.Mismatch) {
		t.Errorf("compared %v, mismatch %v; want %v, %v", compared, mismatch, it.Facts.Compared, it.Facts.Mismatch)
	}
	switch {
	case len(mismatch) == 0:
		return "valid"
	case whole > 0:
		return "partial"
	}
	return "invalid"
}

// recordedPCRs reads the PCRs beside a quote: those quoted, and all of the TPM
// where they were kept, by the number of the bank's algorithm.
func recordedPCRs(t *testing.T, name string) map[tpm2.AlgID]map[int][]byte {
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var q struct {
		Algorithm string
		PCRs      map[int][]byte
		AllPCRs   map[string]map[int][]byte
	}
	if err := json.Unmarshal(raw, &q); err != nil {
		t.Fatal(err)
	}
	banks := map[tpm2.AlgID]map[int][]byte{}
	if q.AllPCRs == nil {
		q.AllPCRs = map[string]map[int][]byte{q.Algorithm: q.PCRs}
	}
	for alg, pcrs := range q.AllPCRs {
		n, err := strconv.Atoi(alg)
		if err != nil {
			t.Fatal(err)
		}
		banks[tpm2.AlgID(n)] = pcrs
	}
	return banks
}

// TestOwnGuests checks what our own guests' logs say in words, and that the
// kernel's command line can be confirmed from outside.
func TestOwnGuests(t *testing.T) {
	dir := filepath.Join(evidence(t), "own")
	for guest, want := range map[string][]string{
		"kernel-crb": {
			"UEFI variable SecureBoot: off", "Linux kernel given to QEMU with -kernel, 8053 KiB",
			"kernel command line (its text is not in the log)", "initrd loaded by the kernel's EFI stub",
		},
		"uki-sb-crb": {
			"UEFI variable SecureBoot: on",
			"Secure Boot database PK: 1 X.509 certificate: O=SnakeOil,L=Fort Collins,ST=Colorado,C=US",
			"image verified by the certificate of O=SnakeOil,L=Fort Collins,ST=Colorado,C=US in db",
			"partition table of disk 11111111-2222-3333-4444-555555555555, 1 partition: EFI system partition \"ESP\"",
			"unified kernel image: kernel command line (section .cmdline)",
		},
	} {
		raw, err := os.ReadFile(filepath.Join(dir, guest, "eventlog.bin"))
		if err != nil {
			t.Fatal(err)
		}
		cmdline, err := os.ReadFile(filepath.Join(dir, guest, "cmdline.txt"))
		if err != nil {
			t.Fatal(err)
		}
		l, said, confirmed := parse(t, raw), map[string]bool{}, false
		for i := range l.Events {
			said[l.Explain(i)] = true
			if l.Stage(i) == eventlog.StageCommandLine {
				confirmed = confirmed || eventlog.MatchesCommandLine(&l.Events[i], strings.TrimRight(string(cmdline), "\n"))
			}
		}
		for _, w := range want {
			if !said[w] {
				t.Errorf("%s: nothing is explained as %q", guest, w)
			}
		}
		if !confirmed {
			t.Errorf("%s: its command line is not confirmed", guest)
		}
	}
}
