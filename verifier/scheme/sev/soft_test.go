package sev

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/verifier/scheme"
)

// soft is a platform whose firmware is a few lines of test.
type soft struct {
	t                            testing.TB
	rootKey, askKey              *rsa.PrivateKey
	oca, pek, cek, pdh           *ecdsa.PrivateKey
	ARK, ASK, OCA, CEK, PEK, PDH []byte
	fw                           Firmware
	policy                       Policy
	digest                       []byte
	session                      *Session
}

// rsaKeys are made once: platforms of one product line share them.
func rsaKeys() (root, ask *rsa.PrivateKey, err error) {
	pair, err := onceKeys()
	return pair[0], pair[1], err
}

var onceKeys = sync.OnceValues(func() (pair [2]*rsa.PrivateKey, err error) {
	for i := range pair {
		if pair[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return pair, err
		}
	}
	return pair, nil
})

func fill(n *big.Int, size int) []byte {
	b := n.FillBytes(make([]byte, size))
	slices.Reverse(b)
	return b
}

func newSoft(t testing.TB) *soft {
	t.Helper()
	s := &soft{t: t, fw: Firmware{1, 49, 3}, policy: PolicyNoDebug | PolicyNoKeySharing | PolicyES | PolicyNoSend, digest: slices.Repeat([]byte{0xd1}, digestSize)}
	var err error
	if s.rootKey, s.askKey, err = rsaKeys(); err != nil {
		t.Fatal(err)
	}
	for _, k := range []**ecdsa.PrivateKey{&s.oca, &s.pek, &s.cek, &s.pdh} {
		if *k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	s.certify()
	return s
}

// certify makes the chain anew.
func (s *soft) certify() {
	s.ARK = s.ca(ARK, 1, &s.rootKey.PublicKey)
	s.ASK = s.ca(ASK, 2, &s.askKey.PublicKey)
	s.OCA = s.platform(OCA, s.oca, signer{OCA, s.oca})
	s.CEK = s.platform(CEK, s.cek, signer{ASK, s.askKey})
	s.PEK = s.platform(PEK, s.pek, signer{OCA, s.oca}, signer{CEK, s.cek})
	s.PDH = s.platform(PDH, s.pdh, signer{PEK, s.pek})
}

type signer struct {
	usage Usage
	key   crypto.Signer
}

// sign gives a signature in SEV's form, and its algorithm.
func (s *soft) sign(key crypto.Signer, msg []byte) (uint32, []byte) {
	s.t.Helper()
	h := crypto.SHA256.New()
	h.Write(msg)
	digest := h.Sum(nil)
	switch k := key.(type) {
	case *rsa.PrivateKey:
		sig, err := rsa.SignPSS(rand.Reader, k, crypto.SHA256, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		if err != nil {
			s.t.Fatal(err)
		}
		slices.Reverse(sig)
		return algRSA, sig
	case *ecdsa.PrivateKey:
		r, v, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			s.t.Fatal(err)
		}
		return algECDSA, append(fill(r, component), fill(v, component)...)
	}
	s.t.Fatal("a key of another kind")
	return 0, nil
}

func (s *soft) ca(u Usage, id byte, k *rsa.PublicKey) []byte {
	b := make([]byte, caKeyAt, maxCA)
	le := binary.LittleEndian
	le.PutUint32(b, 1)
	b[4], b[20] = id, 1
	le.PutUint32(b[36:], uint32(u))
	le.PutUint32(b[56:], 2048)
	le.PutUint32(b[60:], 2048)
	b = append(b, fill(big.NewInt(int64(k.E)), 256)...)
	b = append(b, fill(k.N, 256)...)
	_, sig := s.sign(s.rootKey, b)
	return append(b, sig...)
}

func (s *soft) platform(u Usage, k *ecdsa.PrivateKey, signers ...signer) []byte {
	own, err := k.PublicKey.ECDH()
	if err != nil {
		s.t.Fatal(err)
	}
	b := ownerCertificate(own) // the same layout, as a PDH
	le := binary.LittleEndian
	b[4], b[5] = s.fw.Major, s.fw.Minor
	le.PutUint32(b[8:], uint32(u))
	if u != PDH {
		le.PutUint32(b[12:], algECDSA)
	}
	for i, g := range signers {
		at := bodySize + i*(8+sigSize)
		algo, sig := s.sign(g.key, b[:bodySize])
		le.PutUint32(b[at:], uint32(g.usage))
		le.PutUint32(b[at+4:], algo)
		copy(b[at+8:], sig)
	}
	return b
}

func (s *soft) chain() []byte { return slices.Concat(s.PDH, s.PEK, s.OCA, s.CEK, s.ASK, s.ARK) }

// open is what the firmware does with a launch: it takes the keys out.
func (s *soft) open(l *Launch) *Session {
	s.t.Helper()
	godh, _, err := ParseCertificate(l.Certificate)
	if err != nil {
		s.t.Fatal(err)
	}
	peer, err := godh.ecdhKey()
	if err != nil {
		s.t.Fatal(err)
	}
	own, err := s.pdh.ECDH()
	if err != nil {
		s.t.Fatal(err)
	}
	z, err := own.ECDH(peer)
	if err != nil {
		s.t.Fatal(err)
	}
	nonce, wrapped, iv := l.Blob[:16], l.Blob[16:48], l.Blob[48:64]
	master := derive(z, "sev-master-secret", nonce)
	keys, err := ctr(derive(master, "sev-kek", nil), iv, wrapped)
	if err != nil {
		s.t.Fatal(err)
	}
	got := &Session{TEK: keys[:16], TIK: keys[16:], Policy: s.policy}
	if !slices.Equal(l.Blob[64:96], mac(derive(master, "sev-kik", nil), wrapped)) || !slices.Equal(l.Blob[96:], mac(got.TIK, le32(uint32(s.policy)))) {
		s.t.Error("the firmware would refuse the session")
	}
	return got
}

// launch has a guest launched by its owner.
func (s *soft) launch() {
	s.t.Helper()
	certs, err := ParseCertificates(s.chain())
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := Build(certs, certs)
	if err != nil {
		s.t.Fatal(err)
	}
	owner, l, err := NewSession(c, s.policy)
	if err != nil {
		s.t.Fatal(err)
	}
	s.session = s.open(l)
	if !slices.Equal(owner.TIK, s.session.TIK) || !slices.Equal(owner.TEK, s.session.TEK) {
		s.t.Fatal("owner and firmware have other keys")
	}
}

// measure is what LAUNCH_MEASURE answers, with a nonce of the firmware's.
func (s *soft) measure() []byte {
	nonce := slices.Repeat([]byte{0x3c}, nonceSize)
	return append(measurement(s.session.TIK, s.fw, s.policy, s.digest, nonce), nonce...)
}

// query is QEMU's answer to query-sev.
func (s *soft) query() []byte {
	b, err := json.Marshal(map[string]any{"return": map[string]any{"enabled": true, "api-major": s.fw.Major, "api-minor": s.fw.Minor,
		"build-id": s.fw.Build, "policy": s.policy, "state": "launch-secret", "handle": 1}})
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// attest is what ATTESTATION answers.
func (s *soft) attest(nonce []byte) []byte {
	b := make([]byte, reportSize)
	copy(b, nonce)
	copy(b[16:], s.digest)
	le := binary.LittleEndian
	le.PutUint32(b[48:], uint32(s.policy))
	algo, sig := s.sign(s.pek, b[:reportSigned])
	le.PutUint32(b[0x34:], uint32(PEK))
	le.PutUint32(b[0x38:], algo)
	copy(b[0x40:], sig)
	return b
}

func file(b []byte) scheme.File { return scheme.File{Name: "file", Data: b} }

func values(t testing.TB, oneOf map[string][]string) *scheme.File {
	t.Helper()
	b, err := json.Marshal(&scheme.Values{Format: scheme.ValuesFormat, Version: scheme.ValuesVersion, Kind: KindName, Created: time.Now(), OneOf: oneOf})
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
