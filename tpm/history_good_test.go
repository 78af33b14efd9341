package tpm

import (
	"bytes"
	"crypto/elliptic"
	"slices"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// The Indices of the kinds that prepare does not define.
const (
	bitsIndex    tpm2.Handle = 0x01500007
	pinPassIndex tpm2.Handle = 0x01500008
	pinFailIndex tpm2.Handle = 0x01500009
	policyIndex  tpm2.Handle = 0x0150000A // only NV_ChangeAuth is allowed
)

// queued is the next of a sequence that makes what single commands hardly do,
// or nil.
func (h *history) queued() []byte {
	if len(h.queue) == 0 && h.IntN(100) == 0 {
		h.queue = h.sequence()
	}
	if len(h.queue) == 0 {
		return nil
	}
	cmd := h.queue[0]
	h.queue = h.queue[1:]
	return cmd
}

// sequence is one of those sequences.
func (h *history) sequence() [][]byte {
	s := tpm2.Handle(0x03000000)
	restart := frame(tpm2.CCPolicyRestart, []tpm2.Handle{s}, nil)
	switch h.IntN(4) {
	case 0:
		return h.symmetricSequence()
	case 2:
		return h.splitSequence()
	case 1:
		return [][]byte{restart, assert(tpm2.CCPolicyCommandCode, u32(uint32(tpm2.CCNVChangeAuth)))(s),
			frame(tpm2.CCNVChangeAuth, []tpm2.Handle{policyIndex}, sessionAuth(s, 1), buf16(make([]byte, h.IntN(40))))}
	default:
		x := pick(h, []tpm2.Handle{pinPassIndex, pinFailIndex})
		read := frame(tpm2.CCNVRead, []tpm2.Handle{x, x}, password(pick(h, []string{"", "wrong"})), u16(8), u16(0))
		write := frame(tpm2.CCNVWrite, []tpm2.Handle{tpm2.RHOwner, x}, password(""),
			buf16([]byte{0, 0, 0, byte(h.IntN(3)), 0, 0, 0, byte(h.IntN(5))}), u16(0))
		policy := frame(tpm2.CCPolicySecret, []tpm2.Handle{x, s}, password(""), buf16(nil), buf16(nil), buf16(nil), u32(0))
		look := frame(tpm2.CCNVRead, []tpm2.Handle{tpm2.RHOwner, x}, password(""), u16(8), u16(0))
		return [][]byte{write, policy, look, read, look, policy, look}
	}
}

// splitSequence makes a commitment and uses it, perhaps more than once.
func (h *history) splitSequence() [][]byte {
	key := tpm2.TransientFirst + 2
	create := func(template []byte) []byte {
		return frame(tpm2.CCCreatePrimary, []tpm2.Handle{tpm2.RHNull}, password(""), buf16(make([]byte, 4)), buf16(template), buf16(nil), u32(0))
	}
	curve := pick(h, []tpm2.ECCCurve{tpm2.CurveP192, tpm2.CurveP256, tpm2.CurveBNP256, tpm2.CurveSM2})
	n := uint16(h.IntN(3))
	if h.IntN(2) == 0 {
		commit := frame(tpm2.CCCommit, []tpm2.Handle{key}, password(""), pick(h, good(tpm2.CCCommit)))
		sign := signCmd(key, make([]byte, 32), tpm2.Scheme{Alg: tpm2.AlgECDAA, Hash: tpm2.AlgSHA256, Count: n})
		return [][]byte{flushCmd(key), create(eccTemplate(signingKey, tpm2.AlgECDAA, curve)), commit, sign, sign, flushCmd(key)}
	}
	c, _ := crypt.CurveOf(curve)
	base := tpm2.ECCPoint{X: c.Gx, Y: c.Gy}
	exchange := zGen2Cmd(key, base, base, pick(h, []tpm2.AlgID{tpm2.AlgECDH, tpm2.AlgSM2}), n)
	return [][]byte{flushCmd(key), create(eccTemplate(usable|tpm2.ObjDecrypt, tpm2.AlgNull, curve)),
		frame(tpm2.CCECEphemeral, nil, nil, u16(uint16(curve))), exchange, exchange, flushCmd(key)}
}

// symmetricSequence makes a symmetric key, computes MACs with it or encrypts, and
// puts the keys of prepare back.
func (h *history) symmetricSequence() [][]byte {
	primary := func(params []byte) []byte {
		return frame(tpm2.CCCreatePrimary, []tpm2.Handle{tpm2.RHOwner}, password(""), params)
	}
	templates := good(tpm2.CCCreatePrimary)
	key, seq := []tpm2.Handle{tpm2.TransientFirst}, []tpm2.Handle{tpm2.TransientFirst + 1}
	data := func() []byte { return buf16(make([]byte, h.IntN(40))) }
	null := u16(uint16(tpm2.AlgNull))
	size := pick(h, []int{8, 16})
	return [][]byte{flushCmd(key[0]), flushCmd(seq[0]), flushCmd(tpm2.TransientFirst + 2),
		primary(pick(h, templates[2:])),
		frame(tpm2.CCHMAC, key, password(""), data(), null),
		frame(tpm2.CCEncryptDecrypt, key, password(""), []byte{byte(h.IntN(2))}, u16(uint16(tpm2.AlgCFB)), buf16(make([]byte, size)), data()),
		frame(tpm2.CCEncryptDecrypt2, key, password(""), buf16(make([]byte, 32)), []byte{0}, u16(uint16(tpm2.AlgCBC)), buf16(make([]byte, size))),
		frame(tpm2.CCHMACStart, key, password(""), buf16(nil), null),
		frame(tpm2.CCSequenceUpdate, seq, password(""), data()), frame(tpm2.CCSequenceUpdate, seq, password(""), data()),
		frame(tpm2.CCSequenceComplete, seq, password(""), data(), u32(uint32(tpm2.RHOwner))),
		flushCmd(key[0]), primary(templates[1]), primary(templates[0])}
}

// goodLater are more parameters, as good gives them.
func goodLater(cc tpm2.CC) [][]byte {
	switch cc {
	case tpm2.CCECCParameters:
		return [][]byte{u16(uint16(tpm2.CurveP256)), u16(uint16(tpm2.CurveP384))}
	case tpm2.CCECDHZGen:
		p := elliptic.P256().Params()
		return [][]byte{buf16(append(buf16(p.Gx.Bytes()), buf16(p.Gy.Bytes())...))}
	case tpm2.CCCommit:
		none := append(buf16(nil), buf16(nil)...)
		return [][]byte{slices.Concat(buf16(none), buf16(nil), buf16(nil)),
			slices.Concat(buf16(append(buf16([]byte{1}), buf16([]byte{2})...)), buf16(nil), buf16(nil))}
	case tpm2.CCECEphemeral:
		return [][]byte{u16(uint16(tpm2.CurveP256)), u16(uint16(tpm2.CurveBNP256)), u16(uint16(tpm2.CurveP192))}
	case tpm2.CCZGen2Phase:
		p := elliptic.P256().Params()
		base := buf16(append(buf16(p.Gx.Bytes()), buf16(p.Gy.Bytes())...))
		return [][]byte{slices.Concat(base, base, u16(uint16(tpm2.AlgECDH)), u16(0)),
			slices.Concat(base, base, u16(uint16(tpm2.AlgSM2)), u16(1))}
	case tpm2.CCCreateLoaded:
		parent := derivationParent(tpm2.AlgSHA256)
		data := hmacKey(0, tpm2.Scheme{Alg: tpm2.AlgNull})
		return [][]byte{append(buf16(make([]byte, 4)), buf16(eccSigning())...), append(buf16(make([]byte, 4)), buf16(keyedHash())...),
			append(buf16(make([]byte, 4)), buf16(tpm2.Marshal(&parent))...),
			append(buf16(make([]byte, 4)), buf16(derived(data, 0, "label", "context"))...)}
	case tpm2.CCGetSessionAuditDigest, tpm2.CCGetCommandAuditDigest:
		return [][]byte{append(buf16(nil), u16(uint16(tpm2.AlgNull))...)}
	case tpm2.CCSetCommandCodeAuditStatus:
		list := func(ccs ...tpm2.CC) []byte { return tpm2.Marshal((*tpm2.CCList)(&ccs)) }
		null := u16(uint16(tpm2.AlgNull))
		return [][]byte{slices.Concat(null, list(tpm2.CCGetRandom, tpm2.CCPCRExtend), list()),
			slices.Concat(null, list(), list(tpm2.CCGetRandom, tpm2.CCNVRead)),
			slices.Concat(u16(uint16(tpm2.AlgSHA256)), list(), list())}
	case tpm2.CCPCRSetAuthPolicy:
		return [][]byte{slices.Concat(buf16(nil), u16(uint16(tpm2.AlgNull)), u32(20)),
			slices.Concat(buf16(make([]byte, 32)), u16(uint16(tpm2.AlgSHA256)), u32(21))}
	case tpm2.CCPCRSetAuthValue:
		return [][]byte{buf16(nil)}
	case tpm2.CCCertifyX509:
		ecdsa := append(u16(uint16(tpm2.AlgECDSA)), u16(uint16(tpm2.AlgSHA256))...)
		return [][]byte{slices.Concat(buf16(nil), ecdsa, buf16(partial(nil, keyUsage(usageDigitalSignature)))),
			slices.Concat(buf16(nil), ecdsa, buf16(partial(der(derSequence), keyUsage(usageKeyAgreement))))}
	case tpm2.CCNVSetBits:
		return [][]byte{{0, 0, 0, 0, 0, 0, 0, 1}, {0x80, 0, 0, 0, 0, 0, 1, 0}}
	case tpm2.CCNVChangeAuth:
		return [][]byte{buf16(nil), buf16(make([]byte, 32))}
	case tpm2.CCNVCertify:
		ecdsa := append(u16(uint16(tpm2.AlgECDSA)), u16(uint16(tpm2.AlgSHA256))...)
		return [][]byte{bytes.Join([][]byte{buf16(nil), ecdsa, u16(4), u16(2)}, nil),
			bytes.Join([][]byte{buf16(nil), ecdsa, u16(0), u16(0)}, nil)}
	}
	return goodPolicy(cc)
}

// goodPolicy are those of the policy commands.
func goodPolicy(cc tpm2.CC) [][]byte {
	digest := buf16(make([]byte, 32))
	name := buf16(append([]byte{0, 11}, make([]byte, 32)...))
	timed := func(operand []byte, offset uint16, op tpm2.EO) []byte {
		return bytes.Join([][]byte{buf16(operand), u16(offset), u16(uint16(op))}, nil)
	}
	switch cc {
	case tpm2.CCPolicyCpHash, tpm2.CCPolicyNameHash, tpm2.CCPolicyTemplate:
		return [][]byte{digest}
	case tpm2.CCPolicyDuplicationSelect:
		return [][]byte{bytes.Join([][]byte{name, name, {1}}, nil), bytes.Join([][]byte{name, name, {0}}, nil)}
	case tpm2.CCPolicyNvWritten:
		return [][]byte{{0}, {1}}
	case tpm2.CCPolicyCounterTimer:
		return [][]byte{timed(u32(0), 16, tpm2.EOEq), timed([]byte{1}, 24, tpm2.EOUnsignedLE), timed(nil, 3, tpm2.EOBitSet)}
	case tpm2.CCPolicyTicket:
		return [][]byte{bytes.Join([][]byte{buf16(make([]byte, 8)), digest, digest, name,
			u16(uint16(tpm2.STAuthSecret)), u32(uint32(tpm2.RHOwner)), digest}, nil)}
	}
	return nil
}
