package sevsnp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

var (
	now   = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	nonce = rats.Nonce("a nonce of the test")
)

// soft is a machine whose AMD Secure Processor is a few lines of test.
type soft struct {
	t                 testing.TB
	line              string
	vlek              bool
	root, ask, leaf   *x509.Certificate
	rootKey, askKey   crypto.Signer
	key               *ecdsa.PrivateKey
	revoked           []x509.RevocationListEntry
	leafTCB           TCB
	leafName, leafCN  string
	askName           string // another than the line's
	leafHWID          []byte
	leafFrom, leafEnd time.Time
	raw               []byte // of the report, unsigned
}

// cpus are family, model and stepping of the lines.
var cpus = map[string][3]uint8{"Milan": {0x19, 1, 1}, "Genoa": {0x19, 0x11, 1}, "Siena": {0x19, 0xa0, 2}, "Turin": {0x1a, 2, 1}}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newSoft makes a machine with a chain of its own and a report of a version.
func newSoft(t testing.TB, cpu string, vlek bool, version uint32) *soft {
	t.Helper()
	line := cpu
	if cpu == "Siena" {
		line = "Genoa"
	}
	s := &soft{t: t, line: line, vlek: vlek, rootKey: newKey(t), askKey: newKey(t), key: newKey(t), leafName: line, leafCN: "SEV-VCEK",
		leafFrom: now.AddDate(0, -1, 0), leafEnd: now.AddDate(7, 0, 0)}
	s.leafTCB = TCB{4, 0, 0, 0, 0, 0, 0x18, 0xdb}
	chip := make([]byte, 64)
	n := 64
	if line == "Turin" {
		n, s.leafTCB = 8, TCB{1, 1, 1, 4, 0, 0, 0, 0x51}
	}
	rand.Read(chip[:n])
	if vlek {
		s.leafCN = "SEV-VLEK"
	} else {
		s.leafHWID = chip[:n]
	}
	s.raw = make([]byte, ReportSize)
	le := binary.LittleEndian
	le.PutUint32(s.raw, version)
	le.PutUint32(s.raw[4:], 7)
	le.PutUint64(s.raw[8:], 0x3001f)
	le.PutUint32(s.raw[0x34:], algP384)
	le.PutUint64(s.raw[0x40:], 0x25)
	if vlek {
		s.raw[0x48] = signerVLEK << keySignerAt
	}
	copy(s.raw[0x50:], nonce)
	copy(s.raw[0x90:], strings.Repeat("m", 48))
	copy(s.raw[0x140:], strings.Repeat("r", 32))
	copy(s.raw[0x160:], strings.Repeat("\xff", 32))
	copy(s.raw[0x1a0:], chip)
	if c := cpus[cpu]; version >= 3 {
		copy(s.raw[0x188:], c[:])
	}
	s.setTCB(s.leafTCB)
	s.certify()
	return s
}

// setTCB writes one TCB in all places of the report.
func (s *soft) setTCB(t TCB) {
	for _, at := range []int{0x38, 0x180, 0x1e0, 0x1f0} {
		copy(s.raw[at:], t[:])
	}
}

// certify makes the chain anew.
func (s *soft) certify() {
	ask := "SEV-" + s.line
	if s.vlek {
		ask = "SEV-VLEK-" + s.line
	}
	if s.askName != "" {
		ask = s.askName
	}
	s.root = s.issue(ca("ARK-"+s.line, 1), nil, s.rootKey.Public(), s.rootKey)
	s.ask = s.issue(ca(ask, 2), s.root, s.askKey.Public(), s.rootKey)
	s.leaf = s.issue(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: s.leafCN}, NotBefore: s.leafFrom,
		NotAfter: s.leafEnd, ExtraExtensions: s.extensions()}, s.ask, &s.key.PublicKey, s.askKey)
}

func ca(name string, serial int64) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0),
		NotAfter: now.AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId: []byte{byte(serial)}}
}

func (s *soft) issue(c, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	s.t.Helper()
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		s.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return cert
}

// extensions are AMD's of a VCEK or VLEK.
func (s *soft) extensions() []pkix.Extension {
	var list []pkix.Extension
	add := func(value []byte, id ...int) {
		list = append(list, pkix.Extension{Id: append(append(asn1.ObjectIdentifier{}, amdArc...), id...), Value: value})
	}
	number := func(n uint8) []byte { b, _ := asn1.Marshal(int(n)); return b }
	text := func(s string) []byte { b, _ := asn1.MarshalWithParams(s, "ia5"); return b }
	order := []int{1, 2, 4, 5, 6, 7, 3, 8}
	version := uint8(0)
	if s.line == "Turin" {
		order, version = []int{9, 1, 2, 3, 5, 6, 7, 8}, 1
	}
	add(number(version), extStructVersion)
	add(text(s.leafName), extProductName)
	for i, n := range order {
		add(number(s.leafTCB[i]), extSPL, n)
	}
	if s.vlek {
		add(text("cloud.example"), extCSP)
	} else {
		add(s.leafHWID, extHWID)
	}
	return list
}

// report signs.
func (s *soft) report() []byte {
	s.t.Helper()
	b := append([]byte(nil), s.raw...)
	digest := sha512.Sum384(b[:signedSize])
	r, v, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		s.t.Fatal(err)
	}
	for i, n := range []*big.Int{r, v} {
		be := n.FillBytes(make([]byte, componentSize))
		for j, x := range be {
			b[signedSize+i*componentSize+componentSize-1-j] = x
		}
	}
	return b
}

// crl is the root's list.
func (s *soft) crl(from time.Time) []byte {
	s.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: from.AddDate(1, 0, 0), RevokedCertificateEntries: s.revoked}
	der, err := x509.CreateRevocationList(rand.Reader, l, s.root, s.rootKey)
	if err != nil {
		s.t.Fatal(err)
	}
	return der
}

func file(b []byte) scheme.File { return scheme.File{Name: "file", Data: b} }

// input is everything that lets the machine be affirmed.
func (s *soft) input() *scheme.Input {
	return &scheme.Input{Files: []scheme.File{file(s.report()), file(s.leaf.Raw), file(s.ask.Raw)},
		Endorsements: []scheme.File{file(s.root.Raw), file(s.crl(now.AddDate(0, 0, -3)))},
		References:   values(s.t, map[string][]string{"measurement": {strings.Repeat("6d", 48)}}),
		Nonce:        nonce, HasNonce: true, Time: now}
}

func values(t testing.TB, oneOf map[string][]string) *scheme.File {
	t.Helper()
	b, err := json.Marshal(&scheme.Values{Format: scheme.ValuesFormat, Version: scheme.ValuesVersion, Kind: KindName, Created: now, OneOf: oneOf})
	if err != nil {
		t.Fatal(err)
	}
	return &scheme.File{Name: "values", Data: b}
}

func appraise(t testing.TB, in *scheme.Input) *scheme.Result {
	t.Helper()
	res, err := Kinds()[0].Appraise(in)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func wantAffirmed(t *testing.T, r *scheme.Result) {
	t.Helper()
	if r.Verdict != scheme.Valid || r.Status != rats.TierAffirming {
		t.Errorf("%s (%s), %s: %v %v", r.Verdict, r.Reason, r.Status, r.Why(), r.NotAffirmed())
	}
}

func wantRefused(t *testing.T, r *scheme.Result, reason scheme.Reason, text string) {
	t.Helper()
	why := strings.Join(r.Why(), "\n")
	if r.Verdict != scheme.Invalid || r.Reason != reason || !strings.Contains(why, text) || r.Status != rats.TierContraindicated {
		t.Errorf("%s for %q (%s): %s\nwant invalid for %q, and %q in it", r.Verdict, r.Reason, r.Status, why, reason, text)
	}
}
