package tpm

import (
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

var hostileCount = flag.Int("hostile.n", 800, "keys of TestStrangeKeys")

// strangeKey is a random public and sensitive area, near enough to a key that
// LoadExternal takes many.
func strangeKey(h *history) (pub tpm2.Public, sens *tpm2.Sensitive) {
	hash := func() tpm2.AlgID { return pick(h, nullProfile.impl.Hashes) }
	pub.NameAlg = pick(h, append([]tpm2.AlgID{tpm2.AlgNull, tpm2.AlgNull}, nullProfile.impl.Hashes...))
	pub.Attributes = tpm2.ObjectAttributes(h.Uint32()) & (tpm2.ObjSign | tpm2.ObjDecrypt | tpm2.ObjRestricted |
		tpm2.ObjNoDA | tpm2.ObjEncryptedDuplication | tpm2.ObjAdminWithPolicy)
	pub.Attributes |= tpm2.ObjUserWithAuth
	pub.Type = pick(h, []tpm2.AlgID{tpm2.AlgRSA, tpm2.AlgECC, tpm2.AlgKeyedHash, tpm2.AlgSymCipher})
	pub.Symmetric = tpm2.SymDef{Alg: tpm2.AlgNull}
	if h.IntN(2) == 0 || pub.Type == tpm2.AlgSymCipher {
		mode := pick(h, append([]tpm2.AlgID{tpm2.AlgNull, tpm2.AlgCFB}, nullProfile.impl.SymModes...))
		cipher := pick(h, nullProfile.impl.Ciphers)
		pub.Symmetric = tpm2.SymDef{Alg: cipher.Alg, KeyBits: pick(h, cipher.KeyBits), Mode: mode}
	}
	schemes := map[tpm2.AlgID][]tpm2.AlgID{tpm2.AlgRSA: nullProfile.impl.RSASchemes, tpm2.AlgECC: nullProfile.impl.ECCSchemes,
		tpm2.AlgKeyedHash: {tpm2.AlgHMAC, tpm2.AlgXOR}}
	pub.Scheme = tpm2.Scheme{Alg: pick(h, append([]tpm2.AlgID{tpm2.AlgNull}, schemes[pub.Type]...)), Hash: hash(),
		KDF: tpm2.AlgKDF1SP800108}
	pub.KDF = tpm2.Scheme{Alg: tpm2.AlgNull}
	sens = &tpm2.Sensitive{Type: pub.Type, AuthValue: make([]byte, h.IntN(3)), SeedValue: make([]byte, pick(h, []int{0, 16, 32}))}
	switch pub.Type {
	case tpm2.AlgRSA:
		pub.KeyBits, pub.Exponent = pick(h, nullProfile.impl.RSABits), pick(h, []uint32{0, 0, 0, 0, 7, 65537, 8, 0xFFFFFFFF, 1 << 31})
		half := int(pub.KeyBits) / 2
		p, q := oddNumber(h.Rand, half, false), oddNumber(h.Rand, half, false)
		p.SetBit(p, half-2, 1)
		q.SetBit(q, half-2, 1)
		if h.IntN(3) == 0 { // as short as there is, for a second one that is longer
			p.SetBit(oddNumber(h.Rand, 64, false), half-1, 1)
			q.SetBit(oddNumber(h.Rand, half-8, false), half, 1)
		}
		if h.IntN(4) == 0 {
			q.SetBit(q, 0, 0)
		}
		n := new(big.Int).Mul(p, q)
		pub.Unique, sens.Sensitive = n.Bytes(), p.Bytes()
	case tpm2.AlgECC:
		pub.Curve = pick(h, nullProfile.impl.Curves)
		curve, _ := crypt.CurveOf(pub.Curve)
		size := pub.Curve.CoordinateSize()
		one := append(make([]byte, size-1), byte(1+h.IntN(2)))
		key, err := crypt.NewECCPrivate(pub.Curve, one)
		if err != nil {
			panic(err)
		}
		pub.Point.X, pub.Point.Y = key.Point()
		sens.Sensitive = one
		switch h.IntN(6) {
		case 0:
			pub.Point.X = curve.N
		case 1:
			pub.Point = tpm2.ECCPoint{}
		case 2:
			sens.Sensitive = curve.N
		case 3:
			sens.Sensitive = one[size-1:]
		}
	default:
		pub.Unique = make([]byte, pub.NameAlg.DigestSize())
		sens.Sensitive = make([]byte, pick(h, []int{0, 1, 16, 32, 64, 128}))
		if pub.Type == tpm2.AlgSymCipher {
			sens.Sensitive = make([]byte, pub.Symmetric.KeyBits/8)
			for i := range sens.Sensitive { // as zeros TDES would refuse it
				sens.Sensitive[i] = byte(h.Uint32())
			}
		}
		if pub.NameAlg != tpm2.AlgNull {
			sens.SeedValue = make([]byte, pub.NameAlg.DigestSize())
			pub.Unique = crypt.SymmetricUnique(&pub, sens)
		}
	}
	return pub, sens
}

// TestStrangeKeys loads keys that no TPM makes, and runs every command on those
// that are taken.
func TestStrangeKeys(t *testing.T) {
	h := newSoloHistory(*diffSeed)
	keys := newSoloHistory(*diffSeed) // apart, so that a new command changes no key
	keys.Rand = rand.New(rand.NewPCG(*diffSeed, 7))
	taken := map[tpm2.AlgID]int{}
	r := newRig(t, false)
	for i := range *hostileCount {
		if i%50 == 0 {
			r = newRig(t, false)
			for _, cmd := range equipment() {
				r.execute(cmd)
			}
		}
		r.execute(flushCmd(tpm2.TransientFirst + 2))
		pub, sens := strangeKey(keys)
		hierarchy := tpm2.RHNull
		if h.IntN(3) == 0 {
			sens, hierarchy = nil, tpm2.RHOwner
		}
		cmd := loadExternalCmd(&pub, sens, hierarchy)
		rc := code(r.execute(cmd))
		r.alive(fmt.Sprintf("%x", cmd))
		if rc != tpm2.RCSuccess {
			continue
		}
		taken[pub.Type]++
		for _, d := range h.commands {
			if len(d.handles) == 0 || d.cc == tpm2.CCFlushContext || rare[d.cc] {
				continue
			}
			list := good(d.cc)
			if b, ok := sample(d); ok {
				list = append(list, b)
			}
			for at := range d.handles {
				if !d.handles[at].kind.allows(tpm2.TransientFirst) {
					continue
				}
				r.useStrange(h, d, at, list, cmd)
			}
		}
	}
	t.Logf("taken: %v", taken)
	for _, alg := range []tpm2.AlgID{tpm2.AlgRSA, tpm2.AlgECC, tpm2.AlgKeyedHash, tpm2.AlgSymCipher} {
		if taken[alg] < *hostileCount/100 {
			t.Errorf("only %d keys of type %v were taken", taken[alg], alg)
		}
	}
}

// useStrange runs a command on the key that was loaded last, at one of its
// handles, with every list of parameters.
func (r *rig) useStrange(h *history, d *command, at int, list [][]byte, load []byte) {
	r.t.Helper()
	var handles []tpm2.Handle
	var auth []byte
	for i, x := range d.handles {
		handles = append(handles, h.handleFor(x.kind))
		if i == at {
			handles[i] = tpm2.TransientFirst + 2
		}
		if x.role != authNone {
			auth = append(auth, password("")...)
		}
	}
	for _, params := range list {
		cmd := frame(d.cc, handles, auth, params)
		resp := r.execute(cmd)
		r.alive(fmt.Sprintf("%x, then %v %x", load, d.cc, cmd))
		if d.retHandle && code(resp) == tpm2.RCSuccess {
			r.execute(append(flushCmd(0)[:headerSize], resp[headerSize:headerSize+4]...))
		}
	}
}
