package tpm

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// attested decodes an attestation and checks its signature outside the TPM.
func (r *rig) attested(signer tpm2.Handle, body []byte) (a tpm2.Attest) {
	r.t.Helper()
	var raw tpm2.SizedAttest
	var sig tpm2.Signature
	if signer == tpm2.RHNull {
		decode(r.t, params(r.t, body), &raw, &sig.Alg)
		if sig.Alg != tpm2.AlgNull {
			r.t.Errorf("a signature without a signer: %v", sig.Alg)
		}
	} else {
		decode(r.t, params(r.t, body), &raw, &sig)
	}
	if err := tpm2.Unmarshal(raw, &a); err != nil {
		r.t.Fatalf("attestation %x: %v", raw, err)
	}
	if signer == tpm2.RHNull {
		return a
	}
	hash, _ := sig.Hash.Hash()
	if o := r.e.state.objects.Get(signer); !verify(&o.Public, &sig, digestOf(hash, raw)) {
		r.t.Errorf("the signature does not verify: %+v", sig)
	}
	return a
}

// bankPCRs selects PCRs of one bank.
func bankPCRs(alg tpm2.AlgID, pcrs ...int) tpm2.PCRSelection {
	s := tpm2.PCRSelection{Hash: alg, PCRSelect: tpm2.PCRSelect{Size: tpm2.PCRSelectSize}}
	for _, n := range pcrs {
		s.Set(n)
	}
	return s
}

func TestQuote(t *testing.T) {
	r := newRig(t, true)
	allocated := &r.e.state.pcrs.Allocated[3] // SHA-512
	allocated.Bits = [4]byte{0xFE, 0xFF, 0xFF}
	for _, alg := range tpm2.HashAlgs() {
		for n := range 24 {
			r.e.state.pcrs.Extend(n, alg, bytes.Repeat([]byte{byte(n)}, alg.DigestSize()))
		}
	}
	value := func(alg tpm2.AlgID, n int) []byte { return r.e.state.pcrs.Value(alg, n) }
	signer := r.addKey(eccKey(attestingKey, tpm2.Scheme{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA384}, tpm2.CurveP256), tpm2.RHEndorsement)
	for _, c := range []struct {
		name           string
		asked, quoted  tpm2.PCRSelectionList
		digested, data []byte
	}{
		{name: "nothing"},
		{"one bank", tpm2.PCRSelectionList{bankPCRs(tpm2.AlgSHA256, 0, 7, 23)}, tpm2.PCRSelectionList{bankPCRs(tpm2.AlgSHA256, 0, 7, 23)},
			bytes.Join([][]byte{value(tpm2.AlgSHA256, 0), value(tpm2.AlgSHA256, 7), value(tpm2.AlgSHA256, 23)}, nil), []byte("nonce")},
		{"several banks in the caller's order",
			tpm2.PCRSelectionList{bankPCRs(tpm2.AlgSHA384, 3), bankPCRs(tpm2.AlgSHA1, 4, 2), bankPCRs(tpm2.AlgSHA384, 1)},
			tpm2.PCRSelectionList{bankPCRs(tpm2.AlgSHA384, 3), bankPCRs(tpm2.AlgSHA1, 2, 4), bankPCRs(tpm2.AlgSHA384, 1)},
			bytes.Join([][]byte{value(tpm2.AlgSHA384, 3), value(tpm2.AlgSHA1, 2), value(tpm2.AlgSHA1, 4), value(tpm2.AlgSHA384, 1)}, nil),
			bytes.Repeat([]byte{9}, 66)},
		{"a PCR that is not allocated", tpm2.PCRSelectionList{bankPCRs(tpm2.AlgSHA512, 0, 1)},
			tpm2.PCRSelectionList{bankPCRs(tpm2.AlgSHA512, 1)}, value(tpm2.AlgSHA512, 1), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := r.must(tpm2.RCSuccess, tpm2.CCQuote, []tpm2.Handle{signer}, password(""), buf16(c.data),
				wireScheme(schemeOf(tpm2.AlgNull)), tpm2.Marshal(&c.asked))
			a := r.attested(signer, body)
			if a.Type != tpm2.STAttestQuote || !bytes.Equal(a.ExtraData, c.data) {
				t.Errorf("type %x, data %x", a.Type, a.ExtraData)
			}
			if !bytes.Equal(tpm2.Marshal(&a.Quote.Select), tpm2.Marshal(&c.quoted)) {
				t.Errorf("quoted %+v", a.Quote.Select)
			}
			if want := tpm2.AlgSHA384.Digest(c.digested); !bytes.Equal(a.Quote.Digest, want) {
				t.Errorf("digest %x, want %x", a.Quote.Digest, want)
			}
		})
	}
}

func TestAttestationRefuses(t *testing.T) {
	r := newRig(t, true)
	decrypter := r.addKey(rsaKey(usable|tpm2.ObjDecrypt, schemeOf(tpm2.AlgNull)), tpm2.RHOwner)
	signer := r.addKey(eccKey(attestingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), tpm2.RHOwner)
	null, rsassa := wireScheme(schemeOf(tpm2.AlgNull)), wireScheme(schemeOf(tpm2.AlgRSASSA))
	none := u32(0)
	ticket := func(h tpm2.Handle) []byte {
		return append(append(u16(uint16(tpm2.STCreation)), u32(uint32(h))...), buf16(make([]byte, 64))...)
	}
	for _, c := range []struct {
		name    string
		cc      tpm2.CC
		handles []tpm2.Handle
		auths   int
		params  [][]byte
		want    tpm2.RC
	}{
		{"Quote by a decryption key", tpm2.CCQuote, []tpm2.Handle{decrypter}, 1, [][]byte{buf16(nil), null, none}, tpm2.RCKey.H(1)},
		{"Quote by nobody", tpm2.CCQuote, []tpm2.Handle{tpm2.RHNull}, 1, [][]byte{buf16(nil), null, none}, tpm2.RCScheme.P(2)},
		{"Quote with another scheme", tpm2.CCQuote, []tpm2.Handle{signer}, 1, [][]byte{buf16(nil), rsassa, none}, tpm2.RCScheme.P(2)},
		{"Quote with data too long", tpm2.CCQuote, []tpm2.Handle{signer}, 1, [][]byte{buf16(make([]byte, 67)), null, none}, tpm2.RCSize.P(1)},
		{"Quote of too many banks", tpm2.CCQuote, []tpm2.Handle{signer}, 1, [][]byte{buf16(nil), null, u32(5)}, tpm2.RCSize.P(3)},
		{"Quote by a hierarchy", tpm2.CCQuote, []tpm2.Handle{tpm2.RHOwner}, 1, [][]byte{buf16(nil), null, none}, tpm2.RCValue.H(1)},
		{"Certify by a decryption key", tpm2.CCCertify, []tpm2.Handle{signer, decrypter}, 2, [][]byte{buf16(nil), null}, tpm2.RCKey.H(2)},
		{"Certify with another scheme", tpm2.CCCertify, []tpm2.Handle{signer, signer}, 2, [][]byte{buf16(nil), rsassa}, tpm2.RCScheme.P(2)},
		{"Certify without the signer's authorization", tpm2.CCCertify, []tpm2.Handle{signer, signer}, 1, [][]byte{buf16(nil), null}, tpm2.RCAuthMissing},
		{"CertifyCreation by a decryption key", tpm2.CCCertifyCreation, []tpm2.Handle{decrypter, signer}, 1,
			[][]byte{buf16(nil), buf16(nil), null, ticket(tpm2.RHOwner)}, tpm2.RCKey.H(1)},
		{"CertifyCreation with another scheme", tpm2.CCCertifyCreation, []tpm2.Handle{signer, signer}, 1,
			[][]byte{buf16(nil), buf16(nil), rsassa, ticket(tpm2.RHOwner)}, tpm2.RCScheme.P(3)},
		{"CertifyCreation with a forged ticket", tpm2.CCCertifyCreation, []tpm2.Handle{signer, signer}, 1,
			[][]byte{buf16(nil), buf16(nil), null, ticket(tpm2.RHOwner)}, tpm2.RCTicket.P(4)},
		{"GetTime for the owner", tpm2.CCGetTime, []tpm2.Handle{tpm2.RHOwner, signer}, 2, [][]byte{buf16(nil), null}, tpm2.RCValue.H(1)},
		{"GetTime by a decryption key", tpm2.CCGetTime, []tpm2.Handle{tpm2.RHEndorsement, decrypter}, 2, [][]byte{buf16(nil), null}, tpm2.RCKey.H(2)},
		{"GetTime with another scheme", tpm2.CCGetTime, []tpm2.Handle{tpm2.RHEndorsement, signer}, 2, [][]byte{buf16(nil), rsassa}, tpm2.RCScheme.P(2)},
	} {
		if rc, _ := r.run(c.cc, c.handles, noAuths(c.auths), c.params...); rc != c.want {
			t.Errorf("%s: %v, want %v", c.name, rc, c.want)
		}
	}
}

func TestCertify(t *testing.T) {
	r := newRig(t, true)
	object := r.addKey(hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), tpm2.RHOwner)
	signer := r.addKey(rsaKey(attestingKey, schemeOf(tpm2.AlgRSAPSS)), tpm2.RHEndorsement)
	o := r.e.state.objects.Get(object)
	for _, h := range []tpm2.Handle{signer, tpm2.RHNull} {
		body := r.must(tpm2.RCSuccess, tpm2.CCCertify, []tpm2.Handle{object, h}, noAuths(2), buf16([]byte("n")), wireScheme(schemeOf(tpm2.AlgNull)))
		a := r.attested(h, body)
		if a.Type != tpm2.STAttestCertify || !bytes.Equal(a.Certify.Name, o.Name) || !bytes.Equal(a.Certify.QualifiedName, o.QualifiedName) {
			t.Errorf("signer %v certifies %+v", h, a)
		}
	}
	hash := tpm2.Digest(tpm2.AlgSHA256.Digest([]byte("creation data")))
	ticket := r.e.creationTicket(tpm2.RHOwner, o.Name, hash)
	body := r.must(tpm2.RCSuccess, tpm2.CCCertifyCreation, []tpm2.Handle{signer, object}, noAuths(1), buf16(nil), buf16(hash),
		wireScheme(schemeOf(tpm2.AlgNull)), tpm2.Marshal(&ticket))
	if a := r.attested(signer, body); a.Type != tpm2.STAttestCreation || !bytes.Equal(a.Creation.ObjectName, o.Name) ||
		!bytes.Equal(a.Creation.CreationHash, hash) {
		t.Errorf("certified %+v", a)
	}
	hash[0] ^= 1
	r.must(tpm2.RCTicket.P(4), tpm2.CCCertifyCreation, []tpm2.Handle{signer, object}, noAuths(1), buf16(nil), buf16(hash),
		wireScheme(schemeOf(tpm2.AlgNull)), tpm2.Marshal(&ticket))
}

// TestAttestationObfuscates: a signer outside the endorsement and platform
// hierarchies says the counts and the firmware shifted, by the KDF of Part 1;
// the times of GetTime are in the clear all the same.
func TestAttestationObfuscates(t *testing.T) {
	for _, hierarchy := range []tpm2.Handle{tpm2.RHEndorsement, tpm2.RHPlatform, tpm2.RHOwner, tpm2.RHNull} {
		r := newRig(t, true)
		r.clock.Advance(4321 * time.Millisecond)
		signer := tpm2.RHNull
		qualified := u32(uint32(tpm2.RHNull))
		if hierarchy != tpm2.RHNull {
			signer = r.addKey(eccKey(attestingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP384), hierarchy)
			qualified = r.e.state.objects.Get(signer).QualifiedName
		}
		a := r.attested(signer, r.must(tpm2.RCSuccess, tpm2.CCGetTime, []tpm2.Handle{tpm2.RHEndorsement, signer}, noAuths(2),
			buf16(nil), wireScheme(schemeOf(tpm2.AlgNull))))
		clock := r.e.state.timing.ClockInfo()
		if !bytes.Equal(a.QualifiedSigner, qualified) || a.Type != tpm2.STAttestTime {
			t.Errorf("signer %x, type %x", a.QualifiedSigner, a.Type)
		}
		if a.Time.Time != 4321 || a.Time.ClockInfo != clock || a.TimeFirmware != FirmwareVersion {
			t.Errorf("%v: time %+v", hierarchy, a.Time)
		}
		want, firmware := clock, uint64(FirmwareVersion)
		if hierarchy == tpm2.RHOwner || hierarchy == tpm2.RHNull {
			shift := crypt.KDFa(tpm2.AlgSHA512, r.e.state.hierarchies.Owner.Proof, "OBFUSCATE", qualified, nil, 128)
			firmware += binary.LittleEndian.Uint64(shift)
			want.RestartCount += binary.LittleEndian.Uint32(shift[8:])
			want.ResetCount += binary.LittleEndian.Uint32(shift[12:])
		}
		if a.ClockInfo != want || a.FirmwareVersion != firmware {
			t.Errorf("%v: %+v and firmware %x, want %+v and %x", hierarchy, a.ClockInfo, a.FirmwareVersion, want, firmware)
		}
	}
}

func BenchmarkQuote(b *testing.B) {
	t := &testing.T{}
	r := newRig(t, true)
	signer := r.addKey(eccKey(attestingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), tpm2.RHEndorsement)
	list := tpm2.PCRSelectionList{bankPCRs(tpm2.AlgSHA256, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)}
	cmd := frame(tpm2.CCQuote, []tpm2.Handle{signer}, password(""), buf16(make([]byte, 32)), wireScheme(schemeOf(tpm2.AlgNull)), tpm2.Marshal(&list))
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = r.e.Execute(Request{}, cmd, buf)
	}
}
