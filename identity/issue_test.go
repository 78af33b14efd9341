package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"
)

var issueTime = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)

func testAuthority(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := NewAuthority(rand.Reader, "a CA", key, nil, nil, issueTime)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testKeys(t *testing.T) (ca *ecdsa.PrivateKey, rsaKey *rsa.PublicKey, ecKey *ecdsa.PublicKey) {
	t.Helper()
	ca, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ec, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	// What is certified need not be a key that anybody has.
	n := new(big.Int).SetBit(new(big.Int), 2047, 1)
	return ca, &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}, &ec.PublicKey
}

// TestIssue: the extensions are those that swtpm_cert 0.7.1 wrote for the same
// attributes, to the byte.
func TestIssue(t *testing.T) {
	ca, rsaKey, ecKey := testKeys(t)
	issuer := testAuthority(t, ca)
	tpmInfo := TPMInfo{"id:00001014", "swtpm", "id:20191023"}
	request := func(kind CertificateKind, key crypto.PublicKey) *CertificateRequest {
		return &CertificateRequest{Kind: kind, Key: key, Serial: big.NewInt(7), NotBefore: issueTime, NotAfter: NoExpiry(),
			TPM: tpmInfo, Spec: SpecInfo{"2.0", 0, 164}, Platform: PlatformInfo{"Fedora", "QEMU", "2.1"}, TPMSerial: "42"}
	}
	const (
		ekSAN    = "3046a444304231163014060567810502010c0b69643a30303030313031343110300e060567810502020c05737774706d31163014060567810502030c0b69643a3230313931303233"
		sda      = "3019301706056781050210310e300c0c03322e30020100020200a4"
		ekUse    = "300706056781050801"
		platSAN  = "303ba43930373112301006066781050501010c064665646f72613110300e06066781050501040c0451454d55310f300d06066781050501050c03322e31"
		platUse  = "300706056781050802"
		notCA    = "3000"
		iakSAN   = "301fa41d301b3119301706082b06010505070804300b0605678105010204023432"
		encipher = "03020520"
		both     = "030205a0"
		sign     = "03020780"
		agree    = "03020308"
	)
	signing, signingOnly := request(EKCertificate, rsaKey), request(EKCertificate, rsaKey)
	signing.Sign, signing.Decrypt, signingOnly.Sign = true, true, true
	for _, c := range []struct {
		what string
		r    *CertificateRequest
		want map[string]string // "!" marks what is critical
	}{
		{"RSA EK", request(EKCertificate, rsaKey), map[string]string{"2.5.29.17": "!" + ekSAN, "2.5.29.9": sda, "2.5.29.37": ekUse, "2.5.29.19": "!" + notCA, "2.5.29.15": "!" + encipher}},
		{"ECC EK", request(EKCertificate, ecKey), map[string]string{"2.5.29.17": "!" + ekSAN, "2.5.29.9": sda, "2.5.29.37": ekUse, "2.5.29.19": "!" + notCA, "2.5.29.15": "!" + agree}},
		{"EK that signs too", signing, map[string]string{"2.5.29.17": "!" + ekSAN, "2.5.29.9": sda, "2.5.29.37": ekUse, "2.5.29.19": "!" + notCA, "2.5.29.15": "!" + both}},
		{"EK that signs", signingOnly, map[string]string{"2.5.29.17": "!" + ekSAN, "2.5.29.9": sda, "2.5.29.37": ekUse, "2.5.29.19": "!" + notCA, "2.5.29.15": "!" + sign}},
		{"platform", request(PlatformCertificate, rsaKey), map[string]string{"2.5.29.17": "!" + platSAN, "2.5.29.37": platUse, "2.5.29.19": "!" + notCA, "2.5.29.15": "!" + encipher}},
		{"IAK", request(IAKCertificate, ecKey), map[string]string{"2.5.29.17": iakSAN, "2.5.29.19": "!" + notCA, "2.5.29.15": "!" + sign}},
		{"IDevID", request(IDevIDCertificate, ecKey), map[string]string{"2.5.29.17": iakSAN, "2.5.29.19": "!" + notCA, "2.5.29.15": "!" + sign}},
	} {
		der, err := IssueCertificate(rand.Reader, c.r, issuer, ca)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		c.want["2.5.29.35"] = "30168014" + hex.EncodeToString(issuer.SubjectKeyId)
		for _, e := range cert.Extensions {
			got := hex.EncodeToString(e.Value)
			if e.Critical {
				got = "!" + got
			}
			want, ok := c.want[e.Id.String()]
			if delete(c.want, e.Id.String()); !ok || got != want {
				t.Errorf("%s: extension %v is %s, want %s", c.what, e.Id, got, want)
			}
		}
		if len(c.want) > 0 {
			t.Errorf("%s lacks %v", c.what, c.want)
		}
		if err := Chain(cert, []*x509.Certificate{issuer}, nil, issueTime.AddDate(1000, 0, 0)); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if c.r.Kind != EKCertificate || c.what == "EK that signs" {
			continue
		}
		if err := CheckEKCertificate(cert, &Key{Crypto: c.r.Key}); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if info, err := EKInfo(cert); err != nil || info != tpmInfo {
			t.Errorf("%s: attributes %+v, %v", c.what, info, err)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	ca, rsaKey, ecKey := testKeys(t)
	issuer := testAuthority(t, ca)
	other, _, _ := testKeys(t)
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bare := *issuer
	bare.SubjectKeyId = nil
	long := strings.Repeat("x", MaxAttribute+1)
	good := CertificateRequest{Key: rsaKey, Serial: big.NewInt(0), NotBefore: issueTime, NotAfter: NoExpiry(), Spec: SpecInfo{"2.0", 0, 1<<32 - 1}}
	if _, err := IssueCertificate(rand.Reader, &good, issuer, ca); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		change func(*CertificateRequest)
		issuer *x509.Certificate
		signer crypto.Signer
	}{
		{"neither an RSA", func(r *CertificateRequest) { r.Key = edPublic }, issuer, ca},
		{"serial number", func(r *CertificateRequest) { r.Serial = big.NewInt(-1) }, issuer, ca},
		{"serial number", func(r *CertificateRequest) { r.Serial = new(big.Int).Lsh(big.NewInt(1), 159) }, issuer, ca},
		{"serial number", func(r *CertificateRequest) { r.Serial = nil }, issuer, ca},
		{"another key", func(*CertificateRequest) {}, issuer, other},
		{"another key", func(*CertificateRequest) {}, issuer, edKey},
		{"subject key identifier", func(*CertificateRequest) {}, &bare, ca},
		{"not UTF-8", func(r *CertificateRequest) { r.TPM.Model = "\xff" }, issuer, ca},
		{"longer", func(r *CertificateRequest) { r.TPM.Model = long }, issuer, ca},
		{"longer", func(r *CertificateRequest) { r.Spec.Family = long }, issuer, ca},
		{"longer", func(r *CertificateRequest) { r.Kind, r.Platform.Model = PlatformCertificate, long }, issuer, ca},
		{"TPM's serial", func(r *CertificateRequest) { r.Kind, r.Key = IAKCertificate, ecKey }, issuer, ca},
		{"no kind 9", func(r *CertificateRequest) { r.Kind = 9 }, issuer, ca},
	} {
		r := good
		c.change(&r)
		if _, err := IssueCertificate(rand.Reader, &r, c.issuer, c.signer); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q: %v", c.want, err)
		}
	}
}

func TestAuthority(t *testing.T) {
	ca, _, _ := testKeys(t)
	root := testAuthority(t, ca)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := NewAuthority(rand.Reader, "below", key, root, ca, issueTime)
	if err != nil {
		t.Fatal(err)
	}
	below, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := below.CheckSignatureFrom(root); err != nil || !below.IsCA || !below.NotAfter.Equal(NoExpiry()) ||
		below.KeyUsage != x509.KeyUsageCertSign || !bytes.Equal(below.AuthorityKeyId, root.SubjectKeyId) || len(below.SubjectKeyId) == 0 {
		t.Errorf("%+v: %v", below, err)
	}
	if _, err := NewAuthority(rand.Reader, "", key, nil, nil, issueTime); err == nil {
		t.Error("a CA without a name")
	}
	leaf := *root
	leaf.IsCA = false
	if _, err := NewAuthority(rand.Reader, "x", key, &leaf, ca, issueTime); err == nil {
		t.Error("a CA by what is none")
	}
}

// TestParseName: the encodings are those of swtpm_cert 0.7.1.
func TestParseName(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "3000",
		"CN=a":                  "300c310a30080603550403130161",
		"cn=a_b":                "300e310c300a06035504030c03615f62",
		"C=US,ST=NY,L=New York": "302d3111300f060355040713084e657720596f726b310b300906035504081302" + "4e59310b3009060355040613025553",
		" CN = a , OU= b ,":     "3018310a3008060355040b130162310a30080603550403130161",
		`CN=a\,b`:               "300e310c300a06035504031303612c62",
		`CN=\41\2b`:             "300d310b300906035504031302412b",
		"DC=com":                "301531133011060a0992268993f22c64011916" + "03636f6d",
		"EMAIL=a@b":             "301431123010" + "06092a864886f70d0109011603614062",
		"serialNumber=a_b":      "300e310c300a06035504050c03615f62", // 0.7.1 has it as a PrintableString, which may not hold it
		"serialNumber=1":        "300c310a30080603550405130131",
		"CN=é=":                 "300e310c300a06035504030c03c3a93d",
		"a":                     "", "CN=": "", "XX=1": "", "CN=a+OU=b": "", `CN=a\`: "", "CN=\xff": "", "DC=é": "",
		strings.Repeat("CN=a,", 1000): "",
	} {
		der, err := ParseName(in)
		if got := hex.EncodeToString(der); got != want || (err == nil) != (want != "") {
			t.Errorf("%.40q: %s, %v; want %s", in, got, err, want)
		}
	}
}

// TestPrivateKeys reads the forms that OpenSSL writes, and OpenSSL ours.
func TestPrivateKeys(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is missing")
	}
	openssl := func(input []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Stdin = bytes.NewReader(input)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("openssl %q: %v", args, err)
		}
		return out
	}
	for _, algorithm := range [][]string{{"RSA", "-pkeyopt", "rsa_keygen_bits:1024"}, {"EC", "-pkeyopt", "ec_paramgen_curve:P-384"}, {"ED25519"}} {
		plain := openssl(nil, append([]string{"genpkey", "-algorithm"}, algorithm...)...)
		want, err := ParsePrivateKey(append([]byte("text before it\n"), plain...), "needless")
		if err != nil {
			t.Fatal(algorithm, err)
		}
		forms := map[string][]byte{}
		for cipher, prf := range map[string]string{"aes-128-cbc": "hmacWithSHA1", "aes-192-cbc": "hmacWithSHA384",
			"aes-256-cbc": "hmacWithSHA256", "des3": "hmacWithSHA512"} {
			forms[cipher] = openssl(plain, "pkcs8", "-topk8", "-v2", cipher, "-v2prf", prf, "-passout", "pass:x1")
		}
		if algorithm[0] != "ED25519" {
			forms["traditional"] = openssl(plain, "pkey", "-traditional")
			forms["traditional, encrypted"] = openssl(plain, "pkey", "-traditional", "-aes128", "-passout", "pass:x1")
		}
		if algorithm[0] == "EC" { // its password is stretched for long
			ours, err := MarshalPrivateKey(rand.Reader, want, "x1")
			if err != nil || !bytes.Equal(openssl(ours, "pkey", "-passin", "pass:x1"), plain) {
				t.Errorf("ours: %v", err)
			}
			forms["ours"] = ours
		}
		clear, err := MarshalPrivateKey(rand.Reader, want, "")
		if err != nil || !bytes.Equal(openssl(clear, "pkey"), plain) {
			t.Errorf("%v in clear: %v", algorithm, err)
		}
		for form, b := range forms {
			got, err := ParsePrivateKey(b, "x1")
			if err != nil || !got.(interface{ Equal(crypto.PrivateKey) bool }).Equal(want) {
				t.Errorf("%v, %s: %v", algorithm, form, err)
			}
			if form == "traditional" {
				continue
			}
			for _, password := range []string{"", "x2"} {
				if _, err := ParsePrivateKey(b, password); err == nil {
					t.Errorf("%v, %s opens by %q", algorithm, form, password)
				}
			}
		}
	}
	weak := openssl(openssl(nil, "genrsa", "1024"), "pkcs8", "-topk8", "-scrypt", "-passout", "pass:x")
	for want, b := range map[string][]byte{"only PBKDF2": weak, "no private key": []byte("nothing"),
		"damaged": []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "at most": make([]byte, MaxPrivateKey+1)} {
		if _, err := ParsePrivateKey(b, "x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestStoredCertificate(t *testing.T) {
	if b, err := StoredCertificate([]byte{1, 2, 3}); err != nil || hex.EncodeToString(b) != "1001000005"+"1002010203" {
		t.Errorf("%x %v", b, err)
	}
	if _, err := StoredCertificate(make([]byte, 1<<16)); err == nil {
		t.Error("64 KiB are taken")
	}
}

// FuzzParseName: what is read is a name that crypto/x509 reads.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{"CN=a,O=b", `CN=\2c\,`, "C=US", "DC=x,UID=y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		der, err := ParseName(s)
		if err != nil {
			return
		}
		var name pkix.RDNSequence
		if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 {
			t.Errorf("%q gives %x: %v", s, der, err)
		}
	})
}

// FuzzParsePrivateKey: no input panics, and what is read can be written.
func FuzzParsePrivateKey(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := MarshalPrivateKey(rand.Reader, key, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain, "")
	f.Add([]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n-----END ENCRYPTED PRIVATE KEY-----\n"), "x")
	f.Fuzz(func(t *testing.T, b []byte, password string) {
		if k, err := ParsePrivateKey(b, password); err == nil {
			if _, err := MarshalPrivateKey(rand.Reader, k, ""); err != nil {
				t.Error(err)
			}
		}
	})
}
