package sevsnp

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/verifier/collateral"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

func must(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type tableRow struct {
	id      guid
	content []byte
}

// table is a certificate table as the host writes it.
func table(rows ...tableRow) []byte {
	offset := tableEntry * (len(rows) + 1)
	var head, body []byte
	for _, r := range rows {
		head = append(head, r.id[:]...)
		head = binary.LittleEndian.AppendUint32(head, uint32(offset+len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(r.content)))
		body = append(body, r.content...)
	}
	return append(append(head, make([]byte, tableEntry)...), body...)
}

func toPEM(ders ...[]byte) string {
	var b strings.Builder
	for _, d := range ders {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: d})
	}
	return b.String()
}

// trusteeJSON writes a report as Trustee does.
func trusteeJSON(t testing.TB, r *Report, b []byte, vcek []byte) []byte {
	t.Helper()
	numbers := func(b []byte) []int {
		list := make([]int, len(b))
		for i, x := range b {
			list[i] = int(x)
		}
		return list
	}
	tcb := func(c TCB) map[string]any {
		if r.Family == 0x1a {
			return map[string]any{"fmc": c[0], "bootloader": c[1], "tee": c[2], "snp": c[3], "microcode": c[7]}
		}
		return map[string]any{"fmc": nil, "bootloader": c[0], "tee": c[1], "snp": c[6], "microcode": c[7]}
	}
	fw := func(v [3]uint8) map[string]any { return map[string]any{"major": v[2], "minor": v[1], "build": v[0]} }
	out, err := json.Marshal(map[string]any{
		"attestation_report": map[string]any{"version": r.Version, "guest_svn": r.GuestSVN, "policy": r.Policy, "family_id": numbers(r.FamilyID[:]),
			"image_id": numbers(r.ImageID[:]), "vmpl": r.VMPL, "sig_algo": r.SignatureAlg, "current_tcb": tcb(r.CurrentTCB), "plat_info": r.PlatformInfo,
			"key_info": r.KeyInfo, "report_data": numbers(r.ReportData[:]), "measurement": numbers(r.Measurement[:]), "host_data": numbers(r.HostData[:]),
			"id_key_digest": numbers(r.IDKeyDigest[:]), "author_key_digest": numbers(r.AuthorKeyDigest[:]), "report_id": numbers(r.ReportID[:]),
			"report_id_ma": numbers(r.ReportIDMA[:]), "reported_tcb": tcb(r.ReportedTCB), "cpuid_fam_id": r.Family, "cpuid_mod_id": r.Model,
			"cpuid_step": r.Stepping, "chip_id": numbers(r.ChipID[:]), "committed_tcb": tcb(r.CommittedTCB), "current": fw(r.Current),
			"committed": fw(r.Committed), "launch_tcb": tcb(r.LaunchTCB), "launch_mit_vector": nil, "current_mit_vector": nil,
			"signature": map[string]any{"r": numbers(b[signedSize:][:componentSize]), "s": numbers(b[signedSize+componentSize:][:componentSize])}},
		"cert_chain": []map[string]any{{"cert_type": "VCEK", "data": numbers(vcek)}, {"cert_type": map[string]string{"OTHER": "x"}, "data": []int{1}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// protobufOf writes a report as go-sev-guest does.
func protobufOf(b []byte, vcek []byte) []byte {
	sized := func(out []byte, number uint64, content []byte) []byte {
		out = binary.AppendUvarint(out, number<<3|2)
		return append(binary.AppendUvarint(out, uint64(len(content))), content...)
	}
	var report []byte
	for number := uint64(1); number <= 31; number++ {
		p, ok := protoPlaces[number]
		switch {
		case number == protoFMS:
			fam, model, step := uint64(b[0x188]), uint64(b[0x189]), uint64(b[0x18a])
			report = binary.AppendUvarint(binary.AppendUvarint(report, number<<3), (fam-15)<<20|model>>4<<16|15<<8|model&15<<4|step)
		case !ok:
		case p.size <= 8:
			var le [8]byte
			copy(le[:], b[p.at:p.at+p.size])
			report = binary.AppendUvarint(binary.AppendUvarint(report, number<<3), binary.LittleEndian.Uint64(le[:]))
		default:
			report = sized(report, number, b[p.at:p.at+p.size])
		}
	}
	return sized(sized(nil, 1, report), 2, sized(nil, 1, vcek))
}

// TestForms reads the report in every form, and refuses each that is cut.
func TestForms(t *testing.T) {
	for _, cpu := range []string{"Siena", "Turin"} {
		s := newSoft(t, cpu, false, 3)
		b := s.report()
		rep, err := ParseReport(b)
		if err != nil {
			t.Fatal(err)
		}
		header := append(append(make([]byte, 4), 0xa0, 4, 0, 0), make([]byte, 24)...)
		vcek, ark := guid(must(t, "63da758de6644564adc5f4b93be8accd")), guid(must(t, "c0b406a4a803495297433fb6014cd0ae"))
		certs := table(tableRow{vcek, s.leaf.Raw}, tableRow{ark, s.ask.Raw})
		host := fmt.Sprintf(`{"vcekCert":%q,"tcbm":"DB18000000000004","certificateChain":%q,"cacheControl":"86400"}`, toPEM(s.leaf.Raw), toPEM(s.ask.Raw))
		for name, files := range map[string][][]byte{
			"with a table":      {append(bytes.Clone(b), certs...)},
			"beside a table":    {b, certs},
			"the kernel's":      {append(header, b...), s.leaf.Raw, s.ask.Raw},
			"hexadecimal":       {[]byte(hex.EncodeToString(b) + "\n"), s.leaf.Raw, s.ask.Raw},
			"base64":            {[]byte(base64.StdEncoding.EncodeToString(b)), []byte(toPEM(s.leaf.Raw, s.ask.Raw))},
			"Azure's":           {b, []byte(host)},
			"Azure's in base64": {b, []byte(base64.StdEncoding.EncodeToString([]byte(host)))},
			"Trustee's":         {trusteeJSON(t, rep, b, s.leaf.Raw), s.ask.Raw},
			"go-sev-guest's":    {protobufOf(b, s.leaf.Raw), s.ask.Raw},
		} {
			in := s.input()
			in.Files = nil
			for _, f := range files {
				in.Files = append(in.Files, file(f))
			}
			r := appraise(t, in)
			wantAffirmed(t, r)
			if t.Failed() {
				t.Fatalf("%s, %s", cpu, name)
			}
			first := files[0]
			for n := 0; n < len(first)-1; n += 13 {
				in.Files[0].Data = first[:n]
				if r := appraise(t, in); r.Verdict == scheme.Valid && n != ReportSize {
					t.Fatalf("%s cut at %d: %s", name, n, r.Verdict)
				}
			}
		}
	}
}

// TestBadTables refuses tables that point wrongly, and what they do not cover.
func TestBadTables(t *testing.T) {
	s := newSoft(t, "Milan", false, 3)
	vcek, crl := guid(must(t, "63da758de6644564adc5f4b93be8accd")), guid(must(t, "92f81bc358114d3d97ffd19f88dc67ea"))
	good := table(tableRow{vcek, s.leaf.Raw})
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"beyond":       {alter(good, 16, 0xff, 0xff), "points beyond"},
		"overflow":     {alter(good, 16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "points beyond"},
		"into itself":  {alter(good, 16, 0), "points beyond"},
		"trailing":     {append(bytes.Clone(good), 1), "no entry points at"},
		"no end":       {bytes.Repeat(append(vcek[:], make([]byte, 8)...), 2), "points beyond"},
		"wrong GUID":   {table(tableRow{crl, s.leaf.Raw}), "not what its GUID says"},
		"list as VCEK": {table(tableRow{vcek, s.crl(now)}), "not what its GUID says"},
		"rubbish":      {table(tableRow{vcek, []byte("rubbish")}), "no certificate"},
	} {
		in := s.input()
		in.Files[0] = file(append(s.report(), c.b...))
		wantRefused(t, appraise(t, in), scheme.ReasonMalformed, c.want)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	in := s.input()
	in.Endorsements = []scheme.File{file(append(s.report(), table(tableRow{crl, s.crl(now)})...))}
	if err := CheckOwn(in); err == nil || !strings.Contains(err.Error(), "no endorsement") {
		t.Errorf("a report as endorsement: %v", err)
	}
	in.Endorsements = []scheme.File{file([]byte("x"))}
	if err := CheckOwn(in); err == nil {
		t.Error("rubbish endorses")
	}
	if err := CheckOwn(s.input()); err != nil {
		t.Error(err)
	}
}

func alter(b []byte, at int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], with)
	return b
}

// TestCollateral appraises a bare report: VCEK, ASK and revocation list come from
// AMD's service, once.
func TestCollateral(t *testing.T) {
	for _, cpu := range []string{"Milan", "Siena", "Turin"} {
		for version := uint32(2); version <= 5; version++ {
			s := newSoft(t, cpu, false, version)
			asked := map[string]int{}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked[r.URL.Path]++
				switch prefix := "/vcek/v1/" + s.line; r.URL.Path {
				case prefix + "/cert_chain":
					fmt.Fprint(w, toPEM(s.ask.Raw, s.root.Raw))
				case prefix + "/crl":
					w.Write(s.crl(now))
				case prefix + "/" + hex.EncodeToString(s.leafHWID):
					if q := r.URL.Query(); s.line == "Turin" && q.Get("fmcSPL") != "01" || q.Get("ucodeSPL") == "" {
						http.NotFound(w, r)
						return
					}
					w.Write(s.leaf.Raw)
				default:
					http.NotFound(w, r)
				}
			}))
			defer server.Close()
			cache, err := collateral.Open(t.TempDir(), collateral.Options{Mirrors: map[string]string{"kdsintf.amd.com": server.URL},
				Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				in := s.input()
				in.Files, in.Endorsements, in.Collateral = in.Files[:1], in.Endorsements[:1], cache
				wantAffirmed(t, appraise(t, in))
			}
			for path, n := range asked {
				if n != 1 {
					t.Errorf("%s was asked for %d times", path, n)
				}
			}
			// Offline and empty: it says what is missing.
			cache, err = collateral.Open(t.TempDir(), collateral.Options{Offline: true})
			if err != nil {
				t.Fatal(err)
			}
			in := s.input()
			in.Files, in.Collateral = in.Files[:1], cache
			if r := appraise(t, in); r.Verdict != scheme.Partial || r.Reason != scheme.ReasonNoKey || !strings.Contains(r.Why()[0], "VCEK certificate of chip") {
				t.Errorf("%s (%s): %v", r.Verdict, r.Reason, r.Why())
			}
		}
	}
}
