package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// loadKey loads the same key in both TPMs, in no hierarchy.
func (p *pair) loadKey(template tpm2.Public, data []byte) tpm2.Handle {
	p.t.Helper()
	if data != nil {
		template.Attributes &^= tpm2.ObjSensitiveDataOrigin
	}
	key, rc := crypt.CreateObject(&template, nil, data, &crypt.Source{Random: entropy.Replay(7)})
	if rc != tpm2.RCSuccess {
		p.t.Fatal(rc)
	}
	return p.loadCryptKey(key, true)
}

// loadCryptKey loads a key in both TPMs, with or without its private part.
func (p *pair) loadCryptKey(key *crypt.Key, private bool) tpm2.Handle {
	p.t.Helper()
	sens := &tpm2.SizedSensitive{}
	if private {
		sens = &tpm2.SizedSensitive{Present: true, Sensitive: *key.Sensitive}
	}
	resp := p.expect(tpm2.RCSuccess, "LoadExternal", frame(tpm2.CCLoadExternal, nil, nil,
		tpm2.Marshal(sens), tpm2.Marshal(&tpm2.SizedPublic{Public: key.Public}), u32(uint32(tpm2.RHNull))))
	if code(resp) != tpm2.RCSuccess {
		p.t.Fatalf("cannot load %+v", key.Public)
	}
	return tpm2.Handle(binary.BigEndian.Uint32(resp[headerSize:]))
}

func (p *pair) flush(h tpm2.Handle) {
	p.t.Helper()
	p.expect(tpm2.RCSuccess, "flush", frame(tpm2.CCFlushContext, nil, nil, u32(uint32(h))))
}

func startedPair(t *testing.T) *pair {
	p := newPair(t)
	p.expect(tpm2.RCSuccess, "Startup", startupCmd(tpm2.SUClear))
	return p
}

var someData = bytes.Repeat([]byte("0123456789abcdef"), 5)

// TestCiphersAsSwtpm compares EncryptDecrypt and EncryptDecrypt2 with every
// cipher in every mode, and what they refuse.
func TestCiphersAsSwtpm(t *testing.T) {
	p := startedPair(t)
	for _, c := range nullProfile.impl.Ciphers {
		for _, bits := range c.KeyBits {
			for name, template := range map[string]tpm2.Public{
				"any mode": aesKey(usable|tpm2.ObjSign|tpm2.ObjDecrypt, tpm2.AlgNull),
				"only CFB": aesKey(usable|tpm2.ObjDecrypt, tpm2.AlgCFB),
				"CMAC":     aesKey(usable|tpm2.ObjSign, tpm2.AlgCMAC),
			} {
				template.Symmetric.Alg, template.Symmetric.KeyBits = c.Alg, bits
				h := p.loadKey(template, nil)
				p.encryptDecrypt(fmt.Sprintf("%v %d, %s", c.Alg, bits, name), h, crypt.CipherBlockSize(c.Alg))
				p.flush(h)
			}
		}
	}
	h := p.loadKey(hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), nil)
	p.encryptDecrypt("HMAC key", h, 16)
	p.same("decrypt 2", frame(tpm2.CCEncryptDecrypt, []tpm2.Handle{h}, password(""), []byte{2}))
	p.same("an iv too long", frame(tpm2.CCEncryptDecrypt, []tpm2.Handle{h}, password(""), []byte{0}, u16(0x43), buf16(someData[:17])))
}

// encryptDecrypt uses a key in every mode, with whole blocks and others.
func (p *pair) encryptDecrypt(what string, h tpm2.Handle, block int) {
	p.t.Helper()
	for _, mode := range []tpm2.AlgID{tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB, tpm2.AlgCMAC, tpm2.AlgNull, tpm2.AlgSHA256} {
		for _, iv := range []int{0, block - 1, block, 16} {
			for _, size := range []int{0, 1, block, 33, 5 * block} {
				for _, decrypt := range []byte{0, 1} {
					what := fmt.Sprintf("%s, mode %v, iv of %d, data of %d, decrypt %d", what, mode, iv, size, decrypt)
					m, v, data := u16(uint16(mode)), buf16(someData[:iv]), buf16(someData[:size])
					p.same(what, frame(tpm2.CCEncryptDecrypt, []tpm2.Handle{h}, password(""), []byte{decrypt}, m, v, data))
					p.same(what, frame(tpm2.CCEncryptDecrypt2, []tpm2.Handle{h}, password(""), data, []byte{decrypt}, m, v))
				}
			}
		}
	}
}

// TestMACsAsSwtpm compares Hash, HMAC and HMAC_Start over kinds of keys and
// algorithms.
func TestMACsAsSwtpm(t *testing.T) {
	p := startedPair(t)
	algs := append([]tpm2.AlgID{tpm2.AlgNull, tpm2.AlgAES, tpm2.AlgSM3256, tpm2.AlgCMAC}, func() []tpm2.AlgID { a := tpm2.HashAlgs(); return a[:] }()...)
	for name, template := range map[string]tpm2.Public{
		"hmac":       hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)),
		"any hash":   hmacKey(signingKey|tpm2.ObjDecrypt, schemeOf(tpm2.AlgNull)),
		"aes cfb":    aesKey(signingKey|tpm2.ObjDecrypt, tpm2.AlgCFB),
		"aes":        aesKey(signingKey|tpm2.ObjDecrypt, tpm2.AlgNull),
		"aes cmac":   aesKey(signingKey, tpm2.AlgCMAC),
		"camellia":   cipherKey(signingKey, tpm2.SymDef{Alg: tpm2.AlgCamellia, KeyBits: 256, Mode: tpm2.AlgCMAC}),
		"tdes":       cipherKey(signingKey, tpm2.SymDef{Alg: tpm2.AlgTDES, KeyBits: 128, Mode: tpm2.AlgCMAC}),
		"tdes 192":   cipherKey(signingKey|tpm2.ObjDecrypt, tpm2.SymDef{Alg: tpm2.AlgTDES, KeyBits: 192, Mode: tpm2.AlgNull}),
		"ecc":        eccKey(signingKey, schemeOf(tpm2.AlgNull), tpm2.CurveP256),
		"not to mac": hmacKey(usable&^tpm2.ObjSensitiveDataOrigin, schemeOf(tpm2.AlgNull)),
	} {
		var data []byte
		if name == "not to mac" {
			data = []byte("sealed")
		}
		h := p.loadKey(template, data)
		for _, alg := range algs {
			what := fmt.Sprintf("%s with %v", name, alg)
			for _, size := range []int{0, 1, 8, 16, 17, 48, 80} {
				p.same(what, frame(tpm2.CCHMAC, []tpm2.Handle{h}, password(""), buf16(someData[:size]), u16(uint16(alg))))
			}
			if got := p.same(what, frame(tpm2.CCHMACStart, []tpm2.Handle{h}, password(""), buf16(nil), u16(uint16(alg)))); code(got) == tpm2.RCSuccess {
				seq := tpm2.Handle(binary.BigEndian.Uint32(got[headerSize:]))
				p.expect(tpm2.RCSuccess, what, frame(tpm2.CCSequenceUpdate, []tpm2.Handle{seq}, password(""), buf16(someData[:63])))
				p.expect(tpm2.RCSuccess, what, frame(tpm2.CCSequenceComplete, []tpm2.Handle{seq}, password(""), buf16(someData), u32(uint32(tpm2.RHOwner))))
			}
		}
		p.flush(h)
	}
	for _, alg := range algs {
		p.same("Hash", frame(tpm2.CCHash, nil, nil, buf16(someData), u16(uint16(alg)), u32(uint32(tpm2.RHNull))))
		p.same("Hash for no hierarchy", frame(tpm2.CCHash, nil, nil, buf16(someData), u16(uint16(alg)), u32(uint32(tpm2.RHLockout))))
	}
}

// TestSequencesAsSwtpm compares sequences: order, authorization, what is not
// one, full slots, events in PCRs.
func TestSequencesAsSwtpm(t *testing.T) {
	p := startedPair(t)
	start := func(alg tpm2.AlgID, auth string) []byte {
		return frame(tpm2.CCHashSequenceStart, nil, nil, buf16([]byte(auth)), u16(uint16(alg)))
	}
	update := func(h tpm2.Handle, auth string, data []byte) []byte {
		return frame(tpm2.CCSequenceUpdate, []tpm2.Handle{h}, password(auth), buf16(data))
	}
	complete := func(h tpm2.Handle, auth string, hierarchy tpm2.Handle) []byte {
		return frame(tpm2.CCSequenceComplete, []tpm2.Handle{h}, password(auth), buf16(someData[:3]), u32(uint32(hierarchy)))
	}
	event := func(pcr, h tpm2.Handle, auth string) []byte {
		return frame(tpm2.CCEventSequenceComplete, []tpm2.Handle{pcr, h}, append(password(""), password(auth)...), buf16(someData[:9]))
	}
	const first, second, third = tpm2.TransientFirst, tpm2.TransientFirst + 1, tpm2.TransientFirst + 2
	for _, c := range []struct {
		what string
		cmd  []byte
	}{
		{"an unknown algorithm", start(tpm2.AlgAES, "")},
		{"hash", start(tpm2.AlgSHA384, "one\x00")},
		{"event", start(tpm2.AlgNull, "two")},
		{"hash that is an event", complete(second, "two", tpm2.RHNull)},
		{"event that is a hash", event(7, first, "one")},
		{"wrong password", update(first, "two", nil)},
		{"hash update", update(first, "one", someData)},
		{"event update", update(second, "two", someData)},
		{"SHA-512", start(tpm2.AlgSHA512, "")},
		{"no slot", start(tpm2.AlgSHA256, "")},
		{"as a key that signs", frame(tpm2.CCSign, []tpm2.Handle{third}, password(""), buf16(someData[:32]), u16(0x10), nullHashCheck)},
		{"as a key that encrypts", frame(tpm2.CCRSAEncrypt, []tpm2.Handle{third}, nil, buf16(someData), u16(0x10), buf16(nil))},
		{"as a key that decrypts", frame(tpm2.CCRSADecrypt, []tpm2.Handle{third}, password(""), buf16(someData), u16(0x10), buf16(nil))},
		{"as a cipher's key", frame(tpm2.CCEncryptDecrypt, []tpm2.Handle{third}, password(""), []byte{0}, u16(0x43), buf16(someData[:16]), buf16(nil))},
		{"as an HMAC key", frame(tpm2.CCHMAC, []tpm2.Handle{third}, password(""), buf16(nil), u16(0x0B))},
		{"as a key that verifies", frame(tpm2.CCVerifySignature, []tpm2.Handle{third}, nil, buf16(someData[:32]),
			tpm2.Marshal(&tpm2.Signature{Alg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256, R: someData[:32], S: someData[:32]}))},
		{"as a key that quotes", frame(tpm2.CCQuote, []tpm2.Handle{third}, password(""), buf16(nil), u16(0x10), u32(0))},
		{"event at a wrong locality", event(17, second, "two")},
		{"event in PCR 24", event(24, second, "two")},
		{"hash complete", complete(first, "one", tpm2.RHNull)},
		{"hash again", update(first, "one", nil)},
		{"event complete", event(16, second, "two")},
		{"event in no PCR", start(tpm2.AlgNull, "")},
		{"event in no PCR", event(tpm2.RHNull, first, "")},
		{"no data", complete(third, "", tpm2.RHNull)},
		{"none left", complete(third, "", tpm2.RHNull)},
	} {
		p.same(c.what, c.cmd)
	}
	p.everyPCR("after the events")
}

// sameButFailure is same where the oracle may answer TPM_RC_FAILURE to what
// this engine and the reference code call TPM_RC_VALUE.
func (p *pair) sameButFailure(what string, cmd []byte) {
	p.t.Helper()
	got, want := p.execute(cmd), p.o.execute(cmd)
	if !bytes.Equal(got, want) && (code(got) != tpm2.RCValue || code(want) != tpm2.RCFailure) {
		p.t.Errorf("%s: the answers differ:\n ours  %v %x\n swtpm %v %x", what, code(got), got, code(want), want)
	}
}

// TestRSAAsSwtpm compares RSA_Encrypt without padding, RSA_Decrypt, and what
// they refuse.
func TestRSAAsSwtpm(t *testing.T) {
	p := startedPair(t)
	oaep, rsaes, null := wireScheme(schemeOf(tpm2.AlgOAEP)), u16(uint16(tpm2.AlgRSAES)), u16(uint16(tpm2.AlgNull))
	label := []byte("label\x00")
	free := p.loadKey(rsaKey(usable|tpm2.ObjDecrypt, schemeOf(tpm2.AlgNull)), nil)
	bound := p.loadKey(rsaKey(usable|tpm2.ObjDecrypt, schemeOf(tpm2.AlgOAEP)), nil)
	signer := p.loadKey(rsaKey(signingKey, schemeOf(tpm2.AlgNull)), nil)
	for _, h := range []tpm2.Handle{free, bound, signer} {
		for name, scheme := range map[string][]byte{"oaep": oaep, "rsaes": rsaes, "null": null,
			"oaep sha1": wireScheme(tpm2.Scheme{Alg: tpm2.AlgOAEP, Hash: tpm2.AlgSHA1}), "rsassa": wireScheme(schemeOf(tpm2.AlgRSASSA))} {
			for _, l := range [][]byte{nil, label, label[:5]} {
				what := fmt.Sprintf("key %x, %s, label %q", h, name, l)
				encrypt := frame(tpm2.CCRSAEncrypt, []tpm2.Handle{h}, nil, buf16(someData), scheme, buf16(l))
				got := p.execute(encrypt)
				if want := p.o.execute(encrypt); code(got) != code(want) || len(got) != len(want) {
					t.Errorf("encrypt with %s: %v here, %v there", what, code(got), code(want))
				}
				data := buf16(append([]byte{1}, bytes.Repeat([]byte{9}, 255)...))
				if code(got) == tpm2.RCSuccess {
					data = got[headerSize:]
				}
				p.same("decrypt with "+what, frame(tpm2.CCRSADecrypt, []tpm2.Handle{h}, password(""), data, scheme, buf16(l)))
				data = bytes.Clone(data)
				data[len(data)-1] ^= 1
				p.sameButFailure("decrypt of something else with "+what, frame(tpm2.CCRSADecrypt, []tpm2.Handle{h}, password(""), data, scheme, buf16(l)))
			}
			p.sameButFailure("encrypt too much with "+name, frame(tpm2.CCRSAEncrypt, []tpm2.Handle{h}, nil, buf16(bytes.Repeat([]byte{0xFF}, 256)), scheme, buf16(nil)))
			p.same("decrypt too little with "+name, frame(tpm2.CCRSADecrypt, []tpm2.Handle{h}, password(""), buf16(someData), scheme, buf16(nil)))
		}
		if h != bound {
			p.same("raw", frame(tpm2.CCRSAEncrypt, []tpm2.Handle{h}, nil, buf16(someData), null, buf16(nil)))
		}
	}
}

// TestSignaturesAsSwtpm compares the signatures that are the same every time,
// verifies those that are not on the other TPM, and compares what is refused.
func TestSignaturesAsSwtpm(t *testing.T) {
	p := startedPair(t)
	for name, template := range map[string]tpm2.Public{
		"rsa":        rsaKey(signingKey, schemeOf(tpm2.AlgNull)),
		"rsa pss":    rsaKey(signingKey, schemeOf(tpm2.AlgRSAPSS)),
		"ecc":        eccKey(signingKey, schemeOf(tpm2.AlgNull), tpm2.CurveP384),
		"ecdsa":      eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256),
		"hmac":       hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)),
		"any hmac":   hmacKey(signingKey|tpm2.ObjDecrypt, schemeOf(tpm2.AlgNull)),
		"aes":        aesKey(signingKey|tpm2.ObjDecrypt, tpm2.AlgCFB),
		"decrypting": rsaKey(usable|tpm2.ObjDecrypt, schemeOf(tpm2.AlgNull)),
	} {
		h := p.loadKey(template, nil)
		for _, alg := range []tpm2.AlgID{tpm2.AlgNull, tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgECDSA, tpm2.AlgHMAC, tpm2.AlgOAEP} {
			for _, hash := range []tpm2.AlgID{tpm2.AlgSHA256, tpm2.AlgSHA1, tpm2.AlgAES} {
				p.signBoth(fmt.Sprintf("%s with %v and %v", name, alg, hash), h, tpm2.Scheme{Alg: alg, Hash: hash})
			}
		}
		p.attestBoth(name, h)
		p.flush(h)
	}
}

// signBoth signs in both TPMs and lets each verify what the other signed.
func (p *pair) signBoth(what string, h tpm2.Handle, scheme tpm2.Scheme) {
	p.t.Helper()
	for _, size := range []int{20, 32, 0} {
		digest := someData[:size]
		cmd := frame(tpm2.CCSign, []tpm2.Handle{h}, password(""), buf16(digest), wireScheme(scheme), nullHashCheck)
		got, want := p.execute(cmd), p.o.execute(cmd)
		if code(got) != code(want) || len(got) != len(want) {
			p.t.Errorf("sign %d bytes by %s: %v here, %v there", size, what, code(got), code(want))
		}
		for _, resp := range [][]byte{got, want} {
			if code(resp) != tpm2.RCSuccess {
				continue
			}
			sig := params(p.t, resp[headerSize:])
			p.expect(tpm2.RCSuccess, "verify "+what, frame(tpm2.CCVerifySignature, []tpm2.Handle{h}, nil, buf16(digest), sig))
			for _, bad := range [][]byte{someData[1 : 1+size], append(bytes.Clone(digest), 0), digest[:size/2]} {
				p.same("verify another digest by "+what, frame(tpm2.CCVerifySignature, []tpm2.Handle{h}, nil, buf16(bad), sig))
			}
			sig = bytes.Clone(sig)
			sig[len(sig)-1] ^= 1
			p.same("verify another signature by "+what, frame(tpm2.CCVerifySignature, []tpm2.Handle{h}, nil, buf16(digest), sig))
		}
	}
	// What was never a signature of this key.
	var body []byte
	switch scheme.Alg {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		body = buf16(make([]byte, 256))
	case tpm2.AlgECDSA:
		body = append(buf16(someData[:32]), buf16(make([]byte, 32))...)
	case tpm2.AlgHMAC:
		body = make([]byte, scheme.Hash.DigestSize())
	}
	p.same("verify nonsense by "+what, frame(tpm2.CCVerifySignature, []tpm2.Handle{h}, nil, buf16(someData[:32]), wireScheme(scheme), body))
}

// attestBoth attests with a key in both TPMs; the answers must have the same
// code and the same length.
func (p *pair) attestBoth(what string, h tpm2.Handle) {
	p.t.Helper()
	null := u16(uint16(tpm2.AlgNull))
	for _, scheme := range [][]byte{null, wireScheme(schemeOf(tpm2.AlgRSASSA)), wireScheme(schemeOf(tpm2.AlgECDSA)), wireScheme(schemeOf(tpm2.AlgHMAC))} {
		for name, cmd := range map[string][]byte{
			"Quote":                frame(tpm2.CCQuote, []tpm2.Handle{h}, password(""), buf16(someData[:7]), scheme, u32(1), u16(0x0B), []byte{3, 1, 2, 3}),
			"Quote of a bad bank":  frame(tpm2.CCQuote, []tpm2.Handle{h}, password(""), buf16(someData[:7]), scheme, u32(1), u16(0x12), []byte{3, 1, 2, 3}),
			"Quote of 4 octets":    frame(tpm2.CCQuote, []tpm2.Handle{h}, password(""), buf16(someData[:7]), scheme, u32(1), u16(0x0B), []byte{4, 1, 2, 3, 0}),
			"Quote by nobody":      frame(tpm2.CCQuote, []tpm2.Handle{tpm2.RHNull}, password(""), buf16(nil), scheme, u32(0)),
			"Certify":              frame(tpm2.CCCertify, []tpm2.Handle{h, h}, noAuths(2), buf16(nil), scheme),
			"Certify by nobody":    frame(tpm2.CCCertify, []tpm2.Handle{h, tpm2.RHNull}, noAuths(2), buf16(someData[:66]), scheme),
			"Certify of nothing":   frame(tpm2.CCCertify, []tpm2.Handle{tpm2.RHNull, h}, noAuths(2), buf16(nil), scheme),
			"GetTime":              frame(tpm2.CCGetTime, []tpm2.Handle{tpm2.RHEndorsement, h}, noAuths(2), buf16(nil), scheme),
			"GetTime by nobody":    frame(tpm2.CCGetTime, []tpm2.Handle{tpm2.RHEndorsement, tpm2.RHNull}, noAuths(2), buf16(nil), scheme),
			"GetTime by the owner": frame(tpm2.CCGetTime, []tpm2.Handle{tpm2.RHOwner, h}, noAuths(2), buf16(nil), scheme),
			"CertifyCreation": frame(tpm2.CCCertifyCreation, []tpm2.Handle{h, h}, noAuths(1), buf16(nil), buf16(nil), scheme,
				u16(uint16(tpm2.STCreation)), u32(uint32(tpm2.RHOwner)), buf16(nil)),
			"CertifyCreation with a wrong tag": frame(tpm2.CCCertifyCreation, []tpm2.Handle{h, h}, noAuths(1), buf16(nil), buf16(nil), scheme,
				u16(uint16(tpm2.STVerified)), u32(uint32(tpm2.RHOwner)), buf16(nil)),
		} {
			got, want := p.execute(cmd), p.o.execute(cmd)
			if code(got) != code(want) || len(got) != len(want) {
				p.t.Errorf("%s by %s, scheme %x: %v and %d bytes here, %v and %d there", name, what, scheme, code(got), len(got), code(want), len(want))
			}
		}
	}
}
