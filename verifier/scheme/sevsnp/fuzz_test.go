package sevsnp

import (
	"crypto/x509"
	"testing"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// FuzzAppraise looks for evidence that does harm, or that holds without being the
// machine's.
func FuzzAppraise(f *testing.F) {
	s := newSoft(f, "Turin", false, 5)
	b := s.report()
	rep, err := ParseReport(b)
	if err != nil {
		f.Fatal(err)
	}
	vcek := guid(must(f, "63da758de6644564adc5f4b93be8accd"))
	in := s.input()
	for _, seed := range [][]byte{b, append(append([]byte(nil), b...), table(tableRow{vcek, s.leaf.Raw})...), table(tableRow{vcek, s.leaf.Raw}),
		trusteeJSON(f, rep, b, s.leaf.Raw), protobufOf(b, s.leaf.Raw), []byte(toPEM(s.leaf.Raw)), s.leaf.Raw, []byte(`{"vcekCert":"x"}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		again := *in
		again.Files = []scheme.File{file(data), in.Files[2]}
		r := appraise(t, &again)
		if r.Verdict == scheme.Valid && r.Facts["chip_id"] == nil {
			t.Error("valid, and says nothing")
		}
		if r.Verdict != scheme.Valid && len(r.Why()) == 0 {
			t.Error("refused without a reason")
		}
	})
}

// FuzzEndorsement looks for certificates that do harm.
func FuzzEndorsement(f *testing.F) {
	for _, cpu := range []string{"Milan", "Turin"} {
		for _, vlek := range []bool{false, true} {
			f.Add(newSoft(f, cpu, vlek, 3).leaf.Raw)
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		e, err := parseEndorsement(c)
		if err == nil && (e.key == nil || e.productName == "" || !e.vlek && len(e.hwid) != 64 && len(e.hwid) != 8) {
			t.Errorf("%+v", e)
		}
	})
}
