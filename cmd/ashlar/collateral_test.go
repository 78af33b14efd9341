package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/verifier/collateral"
)

// amdService publishes a chain and a revocation list that end in some days, for
// every product line; it has no VCEK.
func amdService(t *testing.T, days int) (host *httptest.Server, asked *int) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-time.Hour)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ARK-Test"}, NotBefore: at, NotAfter: at.AddDate(0, 0, days),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	cert, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at, NextUpdate: at.AddDate(0, 0, days)}, c, k)
	if err != nil {
		t.Fatal(err)
	}
	asked = new(int)
	host = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		switch filepath.Base(r.URL.Path) {
		case "cert_chain":
			w.Write(cert)
		case "crl":
			w.Write(list)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(host.Close)
	return host, asked
}

// TestCollateralVerbs fetches, lists, checks, refreshes and warms a cache.
func TestCollateralVerbs(t *testing.T) {
	dir := t.TempDir()
	server, asked := amdService(t, 10)
	mirror := "kdsintf.amd.com=" + server.URL
	out, why, code := runVerb(newCollateralCmd(), "fetch", dir, "amd:Milan", "--mirror", mirror)
	if code != 0 || strings.Count(out, "good until") != 4 || !strings.Contains(out, "AMD's revocation list for a VLEK of Milan") {
		t.Fatalf("fetch ends with %d: %s\n%s", code, why, out)
	}
	out, _, code = runVerb(newCollateralCmd(), "list", dir, "--json")
	var items []collateral.Item
	if err := json.Unmarshal([]byte(out), &items); err != nil || code != 0 || len(items) != 4 || items[0].SHA256 == "" {
		t.Errorf("list ends with %d: %v %s", code, err, out)
	}
	if _, why, code = runVerb(newCollateralCmd(), "check", dir, "--within", "30"); code != 1 || !strings.Contains(why, "expires on") {
		t.Errorf("check ends with %d: %s", code, why)
	}
	if _, why, code = runVerb(newCollateralCmd(), "check", dir, "--within", "3"); code != 0 {
		t.Errorf("check, of less, ends with %d: %s", code, why)
	}
	before := *asked
	if out, why, code = runVerb(newCollateralCmd(), "refresh", dir, "--mirror", mirror); code != 0 || out != "" || *asked != before {
		t.Errorf("refresh of what is not due ends with %d: %s %s", code, why, out)
	}
	// A bare report of a Milan: what its service has is fetched.
	report := make([]byte, 0x4a0)
	report[0], report[0xa], report[0x34], report[0x188], report[0x1a0] = 3, 2, 1, 0x19, 9
	warm := t.TempDir()
	if out, why, code = runVerb(newCollateralCmd(), "warm", warm, "sev-snp", save(t, "report.bin", report), "--mirror", mirror); code != 0 || out != "" || *asked != before+1 {
		t.Errorf("warm ends with %d: %s %s (%d requests)", code, why, out, *asked-before)
	}
	_, why, code = runVerb(newAppraiseCmd(), "sev-snp", save(t, "report.bin", report), "--collateral", warm)
	if code != 1 || !strings.Contains(why, "may not fetch it") {
		t.Errorf("appraise, offline, ends with %d: %s", code, why)
	}
	for _, args := range [][]string{{"fetch", dir, "ibm"}, {"fetch", dir, "amd:Naples"}, {"warm", dir, "none", "x"}, {"refresh", dir, "--mirror", "x"}} {
		if _, why, code := runVerb(newCollateralCmd(), args...); code != 2 {
			t.Errorf("%v ends with %d: %s", args, code, why)
		}
	}
	for _, args := range [][]string{{"--fetch"}, {"--mirror", mirror}} {
		if _, _, code := runVerb(newAppraiseCmd(), append([]string{"sev-snp", "x"}, args...)...); code != 2 {
			t.Errorf("appraise %v ends with %d", args, code)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.item"))
	if err != nil || len(files) != 4 {
		t.Fatal(files, err)
	}
	if err := os.Truncate(files[0], 100); err != nil {
		t.Fatal(err)
	}
	if _, why, code = runVerb(newCollateralCmd(), "list", dir); code != 1 || !strings.Contains(why, "damaged") {
		t.Errorf("list of a damaged cache ends with %d: %s", code, why)
	}
}
