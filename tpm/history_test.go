package tpm

import (
	"bytes"
	"crypto/elliptic"
	"encoding/binary"
	"math/rand/v2"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// history generates commands: valid, nearly valid and wrong ones.
type history struct {
	*rand.Rand
	commands []*command
	handles  []tpm2.Handle
	queue    [][]byte // the rest of a sequence that was begun
}

// omitted are commands that a history does not have by itself, with the
// reason.
var omitted = map[tpm2.CC]string{
	tpm2.CCStartup:     "the test starts both itself",
	tpm2.CCPCRAllocate: "changes the banks at the next power cycle",
	tpm2.CCContextLoad: "a context is each TPM's own",
	tpm2.CCLoad:        "a private area is each TPM's own",
	tpm2.CCSelfTest:    "slow, and the same by construction",
	tpm2.CCImport:      "covered by the oracle of package crypt",
}

// rare commands end much of what others work on.
var rare = map[tpm2.CC]bool{tpm2.CCClear: true, tpm2.CCHierarchyControl: true, tpm2.CCClearControl: true,
	tpm2.CCDictionaryAttackParameters: true, tpm2.CCHierarchyChangeAuth: true, tpm2.CCSetPrimaryPolicy: true,
	tpm2.CCFlushContext: true, tpm2.CCContextSave: true, tpm2.CCNVUndefineSpace: true, tpm2.CCNVWriteLock: true,
	tpm2.CCNVReadLock: true, tpm2.CCChangeEPS: true, tpm2.CCChangePPS: true, tpm2.CCReadOnlyControl: true}

func newHistory(seed uint64) *history {
	h := &history{Rand: rand.New(rand.NewPCG(seed, 0))}
	for _, d := range nullProfile.shown() {
		if omitted[d.cc] == "" {
			h.commands = append(h.commands, d)
		}
	}
	h.handles = []tpm2.Handle{pinPassIndex, pinFailIndex, bitsIndex, policyIndex,
		tpm2.RHOwner, tpm2.RHNull, tpm2.RHLockout, tpm2.RHEndorsement, tpm2.RHPlatform,
		tpm2.RHPlatformNV, tpm2.RSPW, 0, 7, 10, 16, 17, 23, 24, 0x01500001, 0x01500002, 0x01500003, 0x01500004,
		0x01C00002, 0x80000000, 0x80000001, 0x80000002, 0x80000003, 0x81000001, 0x81000002, 0x81FFFFFF,
		0x02000000, 0x03000000, 0x03000001, 0x02000002, 0x03FFFFFF, 0x90000000}
	return h
}

func pick[T any](h *history, list []T) T { return list[h.IntN(len(list))] }

// handleFor is a handle of the kind most of the time.
func (h *history) handleFor(k handleKind) tpm2.Handle {
	for range 40 {
		if x := pick(h, h.handles); k.allows(x) || h.IntN(40) == 0 {
			return x
		}
	}
	return anyHandle(k)
}

// auth is an authorization area for a command: right most of the time.
func (h *history) auth(d *command) []byte {
	n := 0
	for _, x := range d.handles {
		if x.role != authNone {
			n++
		}
	}
	if h.IntN(30) == 0 {
		n += h.IntN(3) - 1
	}
	if n <= 0 {
		return nil
	}
	var area []byte
	for range n {
		switch h.IntN(25) {
		case 0:
			area = append(area, password("wrong")...)
		case 1:
			area = append(area, sessionAuth(0x03000001, byte(h.IntN(256)))...)
		case 2:
			area = append(area, sessionAuth(0x03000000, 1)...)
		case 3:
			area = append(area, sessionAuth(pick(h, h.handles), 1)...)
		default:
			area = append(area, password("")...)
		}
	}
	if h.IntN(60) == 0 {
		area = area[:h.IntN(len(area)+1)]
	}
	return area
}

// sessionAuth is an entry for a session without a key: its HMAC is empty.
func sessionAuth(s tpm2.Handle, attrs byte) []byte {
	return append(u32(uint32(s)), 0, 0, attrs, 0, 0)
}

// good are parameters that make a command succeed, where the ones that the
// decoder accepts hardly do.
func good(cc tpm2.CC) [][]byte {
	nvPublic := func(h tpm2.Handle, attrs tpm2.NVAttributes, size uint16) []byte {
		p := tpm2.NVPublic{Index: h, NameAlg: tpm2.AlgSHA256, Attributes: attrs, DataSize: size}
		return append(buf16(nil), buf16(tpm2.Marshal(&p))...)
	}
	scheme := func(algs ...tpm2.AlgID) (b []byte) {
		for _, a := range algs {
			b = append(b, u16(uint16(a))...)
		}
		return b
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	none := buf16(nil)
	digest := buf16(make([]byte, 32))
	ticket := func(tag tpm2.ST) []byte { return join(u16(uint16(tag)), u32(uint32(tpm2.RHNull)), none) }
	pcrs := []byte{0, 0, 0, 1, 0, 11, 3, 0x0F, 0, 1}
	ecdsa := scheme(tpm2.AlgECDSA, tpm2.AlgSHA256)
	create := func(public []byte) []byte { return join(buf16(make([]byte, 4)), buf16(public), none, u32(0)) }
	switch cc {
	case tpm2.CCNVDefineSpace:
		rw := tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVOwnerRead | tpm2.NVOwnerWrite
		return [][]byte{nvPublic(0x01500002, rw|tpm2.NVAttributes(tpm2.NTCounter)<<4, 8), nvPublic(0x01500001, rw, 16),
			nvPublic(0x01500005, rw|tpm2.NVNoDA|tpm2.NVWriteSTClear, 4), nvPublic(0x01500006, rw|tpm2.NVWriteDefine|tpm2.NVGlobalLock, 7),
			nvPublic(0x01500007, rw|nvKind(tpm2.NTBits), 8),
			nvPublic(0x01500008, rw&^tpm2.NVAuthWrite|nvKind(tpm2.NTPinPass), 8),
			nvPublic(0x01500009, rw&^tpm2.NVAuthWrite|nvKind(tpm2.NTPinFail)|tpm2.NVNoDA, 8)}
	case tpm2.CCNVWrite:
		return [][]byte{join(buf16(make([]byte, 16)), u16(0)), join(buf16(make([]byte, 3)), u16(5))}
	case tpm2.CCNVRead:
		return [][]byte{{0, 8, 0, 0}, {0, 4, 0, 4}}
	case tpm2.CCNVExtend:
		return [][]byte{buf16([]byte("data"))}
	case tpm2.CCPolicyNV:
		return [][]byte{join(buf16(make([]byte, 8)), u16(4), u16(0)), join(buf16(make([]byte, 2)), u16(3), u16(7))}
	case tpm2.CCCreatePrimary, tpm2.CCCreate:
		return [][]byte{create(eccSigning()), create(eccStorage()), create(keyedHash()),
			create(cipherTemplate(tpm2.AlgAES, tpm2.AlgCMAC)), create(cipherTemplate(tpm2.AlgTDES, tpm2.AlgNull)),
			create(cipherTemplate(tpm2.AlgCamellia, tpm2.AlgCBC)),
			create(eccTemplate(signingKey, tpm2.AlgECDAA, tpm2.CurveBNP256)), create(eccTemplate(signingKey, tpm2.AlgSM2, tpm2.CurveSM2)),
			create(eccTemplate(usable|tpm2.ObjDecrypt, tpm2.AlgNull, tpm2.CurveP256))}
	case tpm2.CCSign:
		ecdaa := join(scheme(tpm2.AlgECDAA, tpm2.AlgSHA256), u16(0))
		return [][]byte{join(digest, ecdsa, ticket(tpm2.STHashCheck)), join(digest, ecdaa, ticket(tpm2.STHashCheck)),
			join(digest, scheme(tpm2.AlgNull), ticket(tpm2.STHashCheck))}
	case tpm2.CCQuote:
		return [][]byte{join(none, ecdsa, pcrs)}
	case tpm2.CCCertify, tpm2.CCGetTime:
		return [][]byte{join(none, ecdsa)}
	case tpm2.CCStartAuthSession:
		return [][]byte{join(buf16(make([]byte, 16)), none, []byte{1}, scheme(tpm2.AlgNull, tpm2.AlgSHA256)),
			join(buf16(make([]byte, 32)), none, []byte{0}, scheme(tpm2.AlgAES, 128, tpm2.AlgCFB, tpm2.AlgSHA256)),
			join(buf16(make([]byte, 20)), none, []byte{3}, scheme(tpm2.AlgXOR, tpm2.AlgSHA1, tpm2.AlgSHA1))}
	case tpm2.CCPolicyOR:
		return [][]byte{join(u32(2), digest, digest)}
	case tpm2.CCPolicyPCR:
		return [][]byte{join(none, pcrs)}
	case tpm2.CCPolicyCommandCode:
		return [][]byte{u32(uint32(tpm2.CCUnseal)), u32(uint32(tpm2.CCNVRead))}
	case tpm2.CCSetPrimaryPolicy:
		return [][]byte{join(digest, scheme(tpm2.AlgSHA256)), join(none, scheme(tpm2.AlgNull))}
	case tpm2.CCLoadExternal:
		return [][]byte{join(none, buf16(externalECC()), u32(uint32(tpm2.RHNull))),
			join(none, buf16(externalECC()), u32(uint32(tpm2.RHOwner)))}
	case tpm2.CCMakeCredential:
		return [][]byte{join(digest, buf16(append([]byte{0, 11}, make([]byte, 32)...)))}
	case tpm2.CCHMAC, tpm2.CCHMACStart:
		return [][]byte{join(none, scheme(tpm2.AlgSHA256)), join(none, scheme(tpm2.AlgNull)), join(digest, scheme(tpm2.AlgCMAC))}
	case tpm2.CCEncryptDecrypt2:
		return [][]byte{join(digest, []byte{0}, scheme(tpm2.AlgNull), buf16(make([]byte, 16))), join(digest, []byte{1}, scheme(tpm2.AlgCTR), buf16(make([]byte, 8)))}
	case tpm2.CCTestParms:
		return [][]byte{scheme(tpm2.AlgSymCipher, tpm2.AlgTDES, 192, tpm2.AlgCMAC), scheme(tpm2.AlgSymCipher, tpm2.AlgCamellia, 256, tpm2.AlgNull)}
	case tpm2.CCSequenceUpdate, tpm2.CCEventSequenceComplete:
		return [][]byte{buf16([]byte("data"))}
	case tpm2.CCSequenceComplete:
		return [][]byte{join(buf16([]byte("data")), u32(uint32(tpm2.RHNull)))}
	case tpm2.CCPCRExtend:
		return [][]byte{join(u32(1), scheme(tpm2.AlgSHA256), make([]byte, 32))}
	case tpm2.CCObjectChangeAuth, tpm2.CCHierarchyChangeAuth:
		return [][]byte{none}
	}
	return goodLater(cc)
}

// keyedHash is the template of an HMAC key.
func keyedHash() []byte {
	return tpm2.Marshal(&tpm2.Public{PublicParms: tpm2.PublicParms{Type: tpm2.AlgKeyedHash,
		Scheme: tpm2.Scheme{Alg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA256}},
		NameAlg: tpm2.AlgSHA256, Attributes: 0x40072})
}

// eccTemplate is the template of a key of some curve.
func eccTemplate(attrs tpm2.ObjectAttributes, alg tpm2.AlgID, curve tpm2.ECCCurve) []byte {
	key := eccKey(attrs, schemeOf(alg), curve)
	return tpm2.Marshal(&key)
}

// cipherTemplate is the template of a symmetric key.
func cipherTemplate(alg, mode tpm2.AlgID) []byte {
	key := cipherKey(signingKey, tpm2.SymDef{Alg: alg, KeyBits: 128, Mode: mode})
	if mode != tpm2.AlgCMAC {
		key.Attributes |= tpm2.ObjDecrypt
	}
	return tpm2.Marshal(&key)
}

// externalECC is the public area of a key that is not a TPM's: the base point.
func externalECC() []byte {
	p := elliptic.P256().Params()
	return tpm2.Marshal(&tpm2.Public{PublicParms: tpm2.PublicParms{Type: tpm2.AlgECC,
		Symmetric: tpm2.SymDef{Alg: tpm2.AlgNull}, Scheme: tpm2.Scheme{Alg: tpm2.AlgNull},
		Curve: tpm2.CurveP256, KDF: tpm2.Scheme{Alg: tpm2.AlgNull}},
		NameAlg: tpm2.AlgSHA256, Attributes: 0x40040, Point: tpm2.ECCPoint{X: p.Gx.Bytes(), Y: p.Gy.Bytes()}})
}

// params are a command's parameters, often changed in a few places.
func (h *history) params(d *command) []byte {
	b, _ := sample(d)
	if list := good(d.cc); list != nil && h.IntN(8) != 0 {
		b = pick(h, list)
	}
	b = bytes.Clone(b)
	if h.IntN(3) == 0 {
		return b
	}
	for n := h.IntN(4); n > 0 && len(b) > 0; n-- {
		v := pick(h, candidates)
		switch h.IntN(8) {
		case 0:
			b[h.IntN(len(b))] ^= 1 << h.IntN(8)
		case 1:
			if h.IntN(6) == 0 {
				b = b[:h.IntN(len(b))]
			}
		case 2:
			if h.IntN(6) == 0 {
				b = append(b, byte(h.IntN(256)))
			}
		default:
			if at := h.IntN(len(b)); at+len(v) <= len(b) {
				copy(b[at:], v)
			}
		}
	}
	return b
}

// next is a command, with its declaration.
func (h *history) next() (*command, []byte) {
	for {
		if cmd := h.queued(); cmd != nil {
			return registry.lookup(tpm2.CC(binary.BigEndian.Uint32(cmd[6:]))), cmd
		}
		d := pick(h, h.commands)
		if rare[d.cc] && h.IntN(8) != 0 {
			continue
		}
		params := h.params(d)
		var handles []tpm2.Handle
		for _, x := range d.handles {
			handles = append(handles, h.handleFor(x.kind))
		}
		if d.cc == tpm2.CCPolicySecret && isObject(handles[0]) {
			continue // the policy would hold a Name that is each TPM's own
		}
		if d.cc == tpm2.CCCertifyX509 && handles[1] == tpm2.RHNull {
			continue // it would crash swtpm
		}
		return d, frame(d.cc, handles, h.auth(d), params)
	}
}

func eccStorage() []byte {
	return tpm2.Marshal(&tpm2.Public{PublicParms: tpm2.PublicParms{Type: tpm2.AlgECC,
		Symmetric: tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB},
		Scheme:    tpm2.Scheme{Alg: tpm2.AlgNull}, Curve: tpm2.CurveP256, KDF: tpm2.Scheme{Alg: tpm2.AlgNull}},
		NameAlg: tpm2.AlgSHA256, Attributes: 0x30072})
}

func eccSigning() []byte {
	return tpm2.Marshal(&tpm2.Public{PublicParms: tpm2.PublicParms{Type: tpm2.AlgECC,
		Symmetric: tpm2.SymDef{Alg: tpm2.AlgNull},
		Scheme:    tpm2.Scheme{Alg: tpm2.AlgNull}, Curve: tpm2.CurveP256, KDF: tpm2.Scheme{Alg: tpm2.AlgNull}},
		NameAlg: tpm2.AlgSHA256, Attributes: 0x40072})
}
