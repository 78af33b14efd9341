package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/identity"
	"github.com/ashlar-cloud/ashlar/measurement/eventlog"
	"github.com/ashlar-cloud/ashlar/rats"
	"github.com/ashlar-cloud/ashlar/tpm2"
	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// soft is a machine whose TPM is a few lines of test: it signs what a TPM would.
type soft struct {
	t      *testing.T
	signer crypto.Signer
	ak     tpm2.Public
	hash   tpm2.AlgID
	pss    bool
	banks  []tpm2.AlgID
	pcrs   eventlog.PCRs
	events []byte
	ima    []byte
	order  tpm2.PCRSelectionList
}

var nonce = rats.Nonce("a nonce of the test")

const akBits = tpm2.ObjRestricted | tpm2.ObjSign | tpm2.ObjFixedTPM | tpm2.ObjFixedParent |
	tpm2.ObjSensitiveDataOrigin | tpm2.ObjUserWithAuth

func newSoft(t *testing.T, signer string, banks ...tpm2.AlgID) *soft {
	t.Helper()
	s := &soft{t: t, hash: tpm2.AlgSHA256, banks: banks, pcrs: eventlog.PCRs{}}
	s.ak = tpm2.Public{NameAlg: tpm2.AlgSHA256, Attributes: akBits}
	s.ak.Symmetric.Alg, s.ak.KDF.Alg = tpm2.AlgNull, tpm2.AlgNull
	switch signer {
	case "p256", "p384":
		c, curve := elliptic.P256(), tpm2.CurveP256
		if signer == "p384" {
			c, curve, s.hash = elliptic.P384(), tpm2.CurveP384, tpm2.AlgSHA384
		}
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		n := (len(point) - 1) / 2
		s.signer, s.ak.Type, s.ak.Curve = k, tpm2.AlgECC, curve
		s.ak.Point = tpm2.ECCPoint{X: point[1 : 1+n], Y: point[1+n:]}
		s.ak.Scheme = tpm2.Scheme{Alg: tpm2.AlgECDSA, Hash: s.hash}
	default:
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		s.signer, s.ak.Type, s.ak.KeyBits, s.ak.Unique = k, tpm2.AlgRSA, 2048, k.N.Bytes()
		s.ak.Scheme, s.pss = tpm2.Scheme{Alg: tpm2.AlgRSASSA, Hash: s.hash}, signer == "pss"
		if s.pss {
			s.ak.Scheme.Alg = tpm2.AlgRSAPSS
		}
	}
	for _, alg := range banks {
		sel := tpm2.PCRSelection{Hash: alg}
		for i := range numPCRs {
			v := make([]byte, alg.DigestSize())
			if i >= 17 && i <= 22 {
				for j := range v {
					v[j] = 0xff
				}
			}
			if err := s.pcrs.Set(alg, i, v); err != nil {
				t.Fatal(err)
			}
			sel.Set(i)
		}
		s.order = append(s.order, sel)
	}
	s.header()
	return s
}

// header is the Spec ID event of a crypto-agile log.
func (s *soft) header() {
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	spec = binary.LittleEndian.AppendUint32(spec, uint32(len(s.banks)))
	for _, alg := range s.banks {
		spec = binary.LittleEndian.AppendUint16(spec, uint16(alg))
		spec = binary.LittleEndian.AppendUint16(spec, uint16(alg.DigestSize()))
	}
	spec = append(spec, 0)
	s.events = append([]byte{0, 0, 0, 0, 3, 0, 0, 0}, make([]byte, 20)...)
	s.events = append(binary.LittleEndian.AppendUint32(s.events, uint32(len(spec))), spec...)
}

func (s *soft) extend(alg tpm2.AlgID, pcr int, digest []byte) {
	s.pcrs[alg][pcr] = alg.Digest(s.pcrs[alg][pcr], digest)
}

// event measures a text as EV_IPL (13).
func (s *soft) event(pcr int, text string) {
	for _, v := range []uint32{uint32(pcr), 13, uint32(len(s.banks))} {
		s.events = binary.LittleEndian.AppendUint32(s.events, v)
	}
	for _, alg := range s.banks {
		d := alg.Digest([]byte(text))
		s.events = append(binary.LittleEndian.AppendUint16(s.events, uint16(alg)), d...)
		s.extend(alg, pcr, d)
	}
	s.events = append(binary.LittleEndian.AppendUint32(s.events, uint32(len(text))), text...)
}

// file measures a file as IMA does, template ima-ng. extended says whether the
// TPM gets it too.
func (s *soft) file(path, content string, extended bool) {
	field := func(b []byte, text string) []byte {
		return append(binary.LittleEndian.AppendUint32(b, uint32(len(text))), text...)
	}
	d := tpm2.AlgSHA256.Digest([]byte(content))
	data := field(field(nil, "sha256:\x00"+string(d)), path+"\x00")
	hash := sha1.Sum(data)
	s.ima = append(binary.LittleEndian.AppendUint32(s.ima, imaPCR), hash[:]...)
	s.ima = field(field(s.ima, "ima-ng"), string(data))
	if extended {
		for _, alg := range s.banks {
			s.extend(alg, imaPCR, alg.Digest(data))
		}
	}
}

// quote signs the PCRs under data.
func (s *soft) quote(data []byte) Quote {
	at := tpm2.Attest{Type: tpm2.STAttestQuote, QualifiedSigner: tpm2.Name("signer"), ExtraData: data,
		ClockInfo: tpm2.ClockInfo{Clock: 1, ResetCount: 2, Safe: true}}
	at.Quote.Select = s.order
	at.Quote.Digest, _ = quoteDigest(s.pcrs, s.hash.New(), selected(s.order))
	return s.sign(tpm2.Marshal(&at))
}

func (s *soft) sign(msg []byte) Quote {
	s.t.Helper()
	hash, _ := s.hash.Hash()
	sig := tpm2.Signature{Alg: s.ak.Scheme.Alg, Hash: s.hash}
	digest := s.hash.Digest(msg)
	var err error
	switch k := s.signer.(type) {
	case *ecdsa.PrivateKey:
		r, x, e := ecdsa.Sign(rand.Reader, k, digest)
		sig.R, sig.S, err = r.Bytes(), x.Bytes(), e
	case *rsa.PrivateKey:
		if s.pss {
			sig.RSA, err = rsa.SignPSS(rand.Reader, k, hash, digest, nil)
		} else {
			sig.RSA, err = rsa.SignPKCS1v15(rand.Reader, k, hash, digest)
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return Quote{Message: msg, Signature: tpm2.Marshal(&sig), PCRs: s.copyPCRs()}
}

func (s *soft) copyPCRs() eventlog.PCRs {
	p := eventlog.PCRs{}
	for alg, bank := range s.pcrs {
		p[alg] = map[int][]byte{}
		for i, v := range bank {
			p[alg][i] = append([]byte(nil), v...)
		}
	}
	return p
}

// evidence is what the machine sends.
func (s *soft) evidence() *Evidence {
	s.t.Helper()
	k, err := identity.FromPublic(&s.ak)
	if err != nil {
		s.t.Fatal(err)
	}
	return &Evidence{Quotes: []Quote{s.quote(nonce)}, AK: k,
		EventLog: append([]byte(nil), s.events...), IMALog: append([]byte(nil), s.ima...)}
}

// appraise has evidence appraised under the nonce, with the AK endorsed.
func (s *soft) appraise(e *Evidence, refs *References) *scheme.Result {
	k, err := identity.FromPublic(&s.ak)
	if err != nil {
		s.t.Fatal(err)
	}
	return Appraise(Request{Evidence: e, Keys: []*identity.Key{k}, References: refs, Nonce: nonce, HasNonce: true, Time: time.Now()})
}

// booted is a machine after a usual boot.
func booted(t *testing.T, signer string, banks ...tpm2.AlgID) *soft {
	s := newSoft(t, signer, banks...)
	s.event(0, "firmware")
	s.event(4, "boot loader")
	s.event(8, "kernel_cmdline: quiet")
	s.file("/sbin/init", "init", true)
	s.file("/bin/sh", "sh", true)
	return s
}

// references takes reference values from a machine, through their file form.
func references(t *testing.T, machines ...*soft) *References {
	t.Helper()
	var list []*Evidence
	for _, m := range machines {
		list = append(list, m.evidence())
	}
	r, err := MakeReferences(list, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = ParseReferences(b); err != nil {
		t.Fatal(err)
	}
	return r
}

func wantRefused(t *testing.T, r *scheme.Result, reason scheme.Reason, text string) {
	t.Helper()
	why := strings.Join(r.Why(), "\n")
	if r.Verdict != scheme.Invalid || r.Reason != reason || !strings.Contains(why, text) || r.Status != rats.TierContraindicated {
		t.Errorf("%s for %q (%s): %s\nwant invalid for %q, and %q in it", r.Verdict, r.Reason, r.Status, why, reason, text)
	}
	if r.AttesterKey != nil {
		t.Error("a refused result vouches for a key")
	}
}
