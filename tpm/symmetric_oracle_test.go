package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// profileCiphers is every cipher and key size of the profile, in CFB.
func profileCiphers() (list []tpm2.SymDef) {
	for _, c := range nullProfile.impl.Ciphers {
		for _, bits := range c.KeyBits {
			list = append(list, tpm2.SymDef{Alg: c.Alg, KeyBits: bits, Mode: tpm2.AlgCFB})
		}
	}
	return list
}

// TestCipherParametersAsSwtpm compares which ciphers, key sizes and modes are
// accepted where.
func TestCipherParametersAsSwtpm(t *testing.T) {
	p := startedPair(t)
	for _, alg := range []tpm2.AlgID{tpm2.AlgTDES, tpm2.AlgAES, tpm2.AlgCamellia, tpm2.AlgSM4, tpm2.AlgXOR, tpm2.AlgNull} {
		for _, bits := range []uint16{0, 64, 112, 128, 168, 192, 256, 512, uint16(tpm2.AlgSHA256)} {
			for _, mode := range []tpm2.AlgID{tpm2.AlgCFB, tpm2.AlgCTR, tpm2.AlgECB, tpm2.AlgCMAC, tpm2.AlgNull, tpm2.AlgSHA1} {
				what := fmt.Sprintf("%v %d %v", alg, bits, mode)
				def := bytes.Join([][]byte{u16(uint16(alg)), u16(bits), u16(uint16(mode))}, nil)
				p.same(what, frame(tpm2.CCTestParms, nil, nil, u16(uint16(tpm2.AlgSymCipher)), def))
				got := p.execute(startHMACSession(def))
				want := p.o.execute(startHMACSession(def))
				if code(got) != code(want) {
					t.Errorf("a session with %s: ours %v, swtpm %v", what, code(got), code(want))
				}
				if code(got) == tpm2.RCSuccess {
					p.flush(tpm2.HMACSessionFirst)
				}
				if alg == tpm2.AlgXOR || alg == tpm2.AlgNull {
					continue // TestParms has shown that no key is of it
				}
				for _, attrs := range []tpm2.ObjectAttributes{signingKey, signingKey | tpm2.ObjRestricted, signingKey | tpm2.ObjDecrypt,
					usable | tpm2.ObjDecrypt, usable | tpm2.ObjRestricted | tpm2.ObjDecrypt} {
					key := cipherKey(attrs, tpm2.SymDef{Alg: alg, KeyBits: bits, Mode: mode})
					got, want := p.execute(createPrimaryCmd(tpm2.RHNull, &key, "")), p.o.execute(createPrimaryCmd(tpm2.RHNull, &key, ""))
					if code(got) != code(want) {
						t.Errorf("a key with attributes %x for %s: ours %v, swtpm %v", attrs, what, code(got), code(want))
					}
					if code(got) == tpm2.RCSuccess {
						p.useCipherKey(what)
						p.flush(tpm2.TransientFirst)
					}
				}
			}
		}
	}
}

// useCipherKey asks for what a key may not do, or only with another mode; the
// keys are each TPM's own.
func (p *pair) useCipherKey(what string) {
	p.t.Helper()
	key, null := []tpm2.Handle{tpm2.TransientFirst}, u16(uint16(tpm2.AlgNull))
	digest := buf16(make([]byte, 32))
	for _, cmd := range [][]byte{
		frame(tpm2.CCHMAC, key, password(""), digest, null),
		frame(tpm2.CCHMAC, key, password(""), digest, u16(uint16(tpm2.AlgCMAC))),
		frame(tpm2.CCHMACStart, key, password(""), buf16(nil), u16(uint16(tpm2.AlgSHA256))),
		frame(tpm2.CCEncryptDecrypt2, key, password(""), digest, []byte{0}, null, buf16(make([]byte, 8))),
		frame(tpm2.CCSign, key, password(""), digest, null, nullHashCheck),
		frame(tpm2.CCQuote, key, password(""), buf16(nil), null, u32(0)),
		frame(tpm2.CCCreate, key, password(""), buf16(make([]byte, 4)), buf16(keyedHash()), buf16(nil), u32(0)),
	} {
		if got, want := p.execute(cmd), p.o.execute(cmd); code(got) != code(want) || len(got) != len(want) {
			p.t.Errorf("%v with a key for %s: ours %v and %d bytes, swtpm %v and %d",
				commandCode(cmd), what, code(got), len(got), code(want), len(want))
		}
	}
}

func startHMACSession(sym []byte) []byte {
	return frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(someData[:32]), buf16(nil),
		[]byte{0}, sym, u16(uint16(tpm2.AlgSHA256)))
}

// TestTDESKeysAsSwtpm compares which TDES keys are taken: all that are weak are
// made of the four bytes here, as is much that is not.
func TestTDESKeysAsSwtpm(t *testing.T) {
	p := startedPair(t)
	good := [3][]byte{someData[:8], []byte("another!"), []byte("a third.")}
	upper, lower := []byte{0x01, 0x1F, 0xE0, 0xFE}, []byte{0x01, 0x0E, 0xF1, 0xFE}
	cut := tpm2.SymDef{Alg: tpm2.AlgTDES, KeyBits: 128, Mode: tpm2.AlgCFB}
	full := tpm2.SymDef{Alg: tpm2.AlgTDES, KeyBits: 192, Mode: tpm2.AlgCFB}
	for n := range 256 {
		k := make([]byte, 8)
		for i := range 4 {
			k[i], k[4+i] = upper[n>>(2*i)&3], lower[n>>(2*i)&3]
		}
		k[n%8] ^= byte(n >> 7) // the parity is not looked at
		p.loadTDES("first of two", cut, k, good[0])
		p.loadTDES("second of two", cut, good[0], k)
		p.loadTDES("third of three", full, good[0], good[1], k)
		k[n%8] ^= 0x10
		p.loadTDES("an almost weak key", cut, k, good[0])
	}
	flipped := bytes.Clone(good[0])
	flipped[3] ^= 1
	p.loadTDES("the same twice", cut, good[0], good[0])
	p.loadTDES("the same but for parity", cut, good[0], flipped)
	p.loadTDES("the first two are one", full, good[0], flipped, good[1])
	p.loadTDES("the last two are one", full, good[1], good[0], flipped)
	p.loadTDES("the first and the last are one", full, good[0], good[1], good[0])
	p.loadTDES("three keys", full, good[0], good[1], good[2])
	p.loadTDES("too few", full, good[0], good[1])
	p.loadTDES("too many", cut, good[0], good[1], good[2])
	for _, key := range []string{"0123456701234567", "0123456789abcdef", "\x01\x01\x01\x01\x01\x01\x01\x0101234567", "short"} {
		template := cipherKey(signingKey&^tpm2.ObjSensitiveDataOrigin, cut)
		cmd := createPrimaryCmd(tpm2.RHOwner, &template, key)
		got, want := p.execute(cmd), p.o.execute(cmd)
		if code(got) != code(want) {
			t.Errorf("a primary object of %q: ours %v, swtpm %v", key, code(got), code(want))
		}
		if code(got) == tpm2.RCSuccess {
			p.flush(tpm2.TransientFirst)
		}
	}
}

// loadTDES loads a TDES key with a sensitive area that fits it.
func (p *pair) loadTDES(what string, def tpm2.SymDef, keys ...[]byte) {
	p.t.Helper()
	pub := cipherKey(signingKey&^tpm2.ObjSensitiveDataOrigin, def)
	sens := tpm2.Sensitive{Type: tpm2.AlgSymCipher, SeedValue: someData[:32], Sensitive: bytes.Join(keys, nil)}
	pub.Unique = crypt.SymmetricUnique(&pub, &sens)
	resp := p.same(fmt.Sprintf("%s: %x", what, keys), loadExternalCmd(&pub, &sens, tpm2.RHNull))
	if code(resp) == tpm2.RCSuccess {
		p.flush(tpm2.TransientFirst)
	}
}

// TestSessionCiphersAsSwtpm encrypts a command's and a response's parameter with
// each cipher, in sessions of both TPMs.
func TestSessionCiphersAsSwtpm(t *testing.T) {
	p := startedPair(t)
	for _, sym := range profileCiphers() {
		for name, execute := range map[string]func([]byte) []byte{"ours": p.execute, "swtpm": p.o.execute} {
			started := execute(startHMACSession(bytes.Join([][]byte{u16(uint16(sym.Alg)), u16(sym.KeyBits), u16(uint16(sym.Mode))}, nil)))
			handle := tpm2.Handle(binary.BigEndian.Uint32(started[headerSize:]))
			nonceTPM, nonceCaller := started[headerSize+6:], someData[:16]
			data := bytes.Clone(someData)
			if rc := crypt.EncryptParameter(tpm2.AlgSHA256, nil, nonceCaller, nonceTPM, sym, data); rc != tpm2.RCSuccess {
				t.Fatal(rc)
			}
			auth := bytes.Join([][]byte{u32(uint32(handle)), buf16(nonceCaller),
				{byte(tpm2.SessionDecrypt | tpm2.SessionEncrypt)}, buf16(nil)}, nil)
			resp := execute(frame(tpm2.CCHash, nil, auth, buf16(data), u16(uint16(tpm2.AlgSHA256)), u32(uint32(tpm2.RHNull))))
			if code(resp) != tpm2.RCSuccess {
				t.Errorf("%s, %v: %v", name, sym, code(resp))
				continue
			}
			out := params(t, resp[headerSize:])
			nonceTPM = resp[headerSize+4+len(out)+2:][:32]
			digest := bytes.Clone(out[2 : 2+32])
			if rc := crypt.DecryptParameter(tpm2.AlgSHA256, nil, nonceTPM, nonceCaller, sym, digest); rc != tpm2.RCSuccess {
				t.Fatal(rc)
			}
			if !bytes.Equal(digest, tpm2.AlgSHA256.Digest(someData)) {
				t.Errorf("%s, %v: the digest is %x", name, sym, digest)
			}
		}
	}
}

// storageKeys are parents that protect their children with each cipher.
func storageKeys() map[string]tpm2.Public {
	list := make(map[string]tpm2.Public)
	for _, sym := range profileCiphers() {
		ecc := storageKey(eccKey(0, tpm2.Scheme{Alg: tpm2.AlgNull}, tpm2.CurveP256))
		symmetric := storageKey(cipherKey(0, sym))
		ecc.Symmetric, symmetric.Symmetric = sym, sym
		list[fmt.Sprintf("ECC with %v %d", sym.Alg, sym.KeyBits)] = ecc
		list[fmt.Sprintf("%v %d", sym.Alg, sym.KeyBits)] = symmetric
	}
	return list
}

// TestSameSeedsSameCiphers derives keys and parents of each cipher in both TPMs,
// and moves children and duplicates from each to the other.
func TestSameSeedsSameCiphers(t *testing.T) {
	p := newTwins(t)
	for _, sym := range profileCiphers() {
		for i := range 4 {
			key := cipherKey(signingKey|tpm2.ObjDecrypt, sym)
			key.Unique = []byte{byte(i)}
			p.expect(tpm2.RCSuccess, fmt.Sprintf("%v %d", sym.Alg, sym.KeyBits), createPrimaryCmd(tpm2.RHEndorsement, &key, ""))
			p.encryptDecrypt(fmt.Sprintf("%v %d", sym.Alg, sym.KeyBits), tpm2.TransientFirst, crypt.CipherBlockSize(sym.Alg))
			p.flush(tpm2.TransientFirst)
		}
	}
	for name, parent := range storageKeys() {
		p.expect(tpm2.RCSuccess, name, createPrimaryCmd(tpm2.RHOwner, &parent, ""))
		for _, way := range []struct {
			name     string
			from, to func([]byte) []byte
		}{{name + ", ours to swtpm", p.execute, p.o.execute}, {name + ", swtpm to ours", p.o.execute, p.execute}} {
			childMoves(t, way.name, way.from, way.to)
			if parent.Type != tpm2.AlgSymCipher {
				duplicateMoves(t, way.name, parent.Symmetric, way.from, way.to)
			}
		}
		p.flush(tpm2.TransientFirst)
	}
}

func sealedData() tpm2.Public {
	return hmacKey(tpm2.ObjUserWithAuth|tpm2.ObjNoDA, tpm2.Scheme{Alg: tpm2.AlgNull})
}

// childMoves seals below the parent of one TPM and unseals below the other's.
func childMoves(t *testing.T, what string, from, to func([]byte) []byte) {
	t.Helper()
	template := sealedData()
	out := new(createOut)
	decode(t, params(t, must(t, what, from(frame(tpm2.CCCreate, []tpm2.Handle{tpm2.TransientFirst}, password(""),
		buf16(append(buf16(nil), buf16([]byte("a child's secret"))...)), buf16(tpm2.Marshal(&template)), buf16(nil), u32(0))))), out)
	unsealBelow(t, what, out.private, &out.public.Public, "a child's secret", to)
}

// duplicateMoves does so with a duplicate, under an inner and an outer wrap.
func duplicateMoves(t *testing.T, what string, inner tpm2.SymDef, from, to func([]byte) []byte) {
	t.Helper()
	template := sealedData()
	// PolicyCommandCode(Duplicate) authorizes the DUP role.
	template.AuthPolicy = tpm2.AlgSHA256.Digest(make([]byte, 32), u32(uint32(tpm2.CCPolicyCommandCode)), u32(uint32(tpm2.CCDuplicate)))
	made := must(t, what, from(createPrimaryCmd(tpm2.RHOwner, &template, "a duplicate's secret")))
	created := new(createPrimaryOut)
	decode(t, params(t, made[4:]), created)
	object := tpm2.Handle(binary.BigEndian.Uint32(made))
	session := must(t, what, from(frame(tpm2.CCStartAuthSession, []tpm2.Handle{tpm2.RHNull, tpm2.RHNull}, nil, buf16(someData[:16]),
		buf16(nil), []byte{1}, u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgSHA256)))))
	policy := tpm2.Handle(binary.BigEndian.Uint32(session))
	must(t, what, from(frame(tpm2.CCPolicyCommandCode, []tpm2.Handle{policy}, nil, u32(uint32(tpm2.CCDuplicate)))))
	def := tpm2.Marshal((*tpm2.SymDefObject)(&inner))
	dup := new(duplicateOut)
	decode(t, params(t, must(t, what, from(frame(tpm2.CCDuplicate, []tpm2.Handle{object, tpm2.TransientFirst},
		append(u32(uint32(policy)), 0, 0, 0, 0, 0), buf16(nil), def)))), dup)
	must(t, what, from(flushCmd(object)))
	in := new(importOut)
	decode(t, params(t, must(t, what, to(frame(tpm2.CCImport, []tpm2.Handle{tpm2.TransientFirst}, password(""), buf16(dup.encryptionKey),
		buf16(tpm2.Marshal(&created.public.Public)), buf16(dup.duplicate), buf16(dup.seed), def)))), in)
	unsealBelow(t, what, in.private, &created.public.Public, "a duplicate's secret", to)
}

func unsealBelow(t *testing.T, what string, private tpm2.Private, public *tpm2.Public, want string, execute func([]byte) []byte) {
	t.Helper()
	resp := must(t, what, execute(frame(tpm2.CCLoad, []tpm2.Handle{tpm2.TransientFirst}, password(""), buf16(private), buf16(tpm2.Marshal(public)))))
	h := tpm2.Handle(binary.BigEndian.Uint32(resp))
	got := params(t, must(t, what, execute(frame(tpm2.CCUnseal, []tpm2.Handle{h}, password("")))))
	if string(got[2:]) != want {
		t.Errorf("%s: unsealed %q, want %q", what, got[2:], want)
	}
	must(t, what, execute(flushCmd(h)))
}

// must is a response behind its header; it must be success.
func must(t *testing.T, what string, resp []byte) []byte {
	t.Helper()
	if code(resp) != tpm2.RCSuccess {
		t.Fatalf("%s: %v", what, code(resp))
	}
	return resp[headerSize:]
}
