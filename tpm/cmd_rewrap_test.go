package tpm

import (
	"bytes"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// duplicateOf is the duplicate and the seed in the answer to Duplicate or
// Rewrap that had one authorization.
func duplicateOf(t *testing.T, resp []byte, before int) (duplicate, seed []byte) {
	t.Helper()
	if code(resp) != tpm2.RCSuccess {
		t.Fatal(code(resp))
	}
	rest := resp[headerSize+4:]
	var fields [3][]byte
	for i := range before + 2 {
		var ok bool
		if fields[i], rest, ok = cutSized(rest); !ok {
			t.Fatalf("a short answer: %x", resp)
		}
	}
	return fields[before], fields[before+1]
}

// TestRewrapBetweenTwins takes a duplicate of each of two TPMs with the same
// seeds through the other, to another parent and out.
func TestRewrapBetweenTwins(t *testing.T) {
	p := newTwins(t)
	movable := hmacKey(tpm2.ObjUserWithAuth|tpm2.ObjNoDA, schemeOf(tpm2.AlgNull))
	movable.AuthPolicy = dupPolicy()
	p.expect(tpm2.RCSuccess, "a parent", createPrimaryCmd(tpm2.RHOwner, &eccSRK, ""))
	other := eccSRK
	other.Curve = tpm2.CurveP384
	p.expect(tpm2.RCSuccess, "another", createPrimaryCmd(tpm2.RHOwner, &other, ""))
	p.expect(tpm2.RCSuccess, "an object", createPrimaryCmd(tpm2.RHOwner, &movable, "a secret"))
	const first, second, object = tpm2.TransientFirst, tpm2.TransientFirst + 1, tpm2.TransientFirst + 2
	const s = tpm2.PolicySessionFirst
	name := buf16(p.e.entityName(object))
	dup := func(execute func([]byte) []byte) (duplicate, seed []byte) {
		execute(startSessionCmd(tpm2.SEPolicy))
		execute(frame(tpm2.CCPolicyCommandCode, []tpm2.Handle{s}, nil, u32(uint32(tpm2.CCDuplicate))))
		resp := execute(frame(tpm2.CCDuplicate, []tpm2.Handle{object, first}, policy(s), buf16(nil), u16(uint16(tpm2.AlgNull))))
		execute(flushCmd(s))
		return duplicateOf(t, resp, 1)
	}
	rewrap := func(from, to tpm2.Handle, duplicate, name, seed []byte) []byte {
		return frame(tpm2.CCRewrap, []tpm2.Handle{from, to}, password(""), buf16(duplicate), name, buf16(seed))
	}
	var plain [2][]byte
	for i, run := range [][2]func([]byte) []byte{{p.execute, p.o.execute}, {p.o.execute, p.execute}} {
		d, seed := dup(run[0])
		d, seed = duplicateOf(t, run[1](rewrap(first, second, d, name, seed)), 0)
		plain[i], seed = duplicateOf(t, run[0](rewrap(second, tpm2.RHNull, d, name, seed)), 0)
		if len(seed) != 0 {
			t.Errorf("a seed for nobody: %x", seed)
		}
	}
	if !bytes.Equal(plain[0], plain[1]) || len(plain[0]) == 0 {
		t.Errorf("the two are not the same inside: %x and %x", plain[0], plain[1])
	}
	p.same("nothing to take off or put on", rewrap(tpm2.RHNull, tpm2.RHNull, plain[0], name, nil))

	d, seed := dup(p.execute)
	cut := append([]byte(nil), d...)
	cut[len(cut)-1] ^= 1
	for i, cmd := range [][]byte{
		rewrap(first, tpm2.RHNull, d, name, nil), rewrap(tpm2.RHNull, second, d, name, seed),
		rewrap(object, second, d, name, seed), rewrap(first, object, d, name, seed),
		rewrap(second, first, d, name, seed), rewrap(first, second, cut, name, seed),
		rewrap(first, second, d, buf16(nil), seed), rewrap(first, second, d[:20], name, seed),
		rewrap(first, second, d, name, seed[:9]), rewrap(first, second, nil, name, seed),
		rewrap(tpm2.RHNull, second, make([]byte, nullProfile.impl.MaxPrivate()-33), name, nil),
	} {
		got, want := p.execute(cmd), p.o.execute(cmd)
		if code(got) != code(want) || code(got) == tpm2.RCSuccess {
			t.Errorf("refusal %d: ours %v, swtpm %v", i, code(got), code(want))
		}
	}
}

// TestECDHAgainstSwtpm multiplies points by the same key on both, and checks
// what KeyGen shares by ZGen.
func TestECDHAgainstSwtpm(t *testing.T) {
	p := startedPair(t)
	for _, curve := range nullProfile.impl.Curves {
		p.expect(tpm2.RCSuccess, "ECC_Parameters", frame(tpm2.CCECCParameters, nil, nil, u16(uint16(curve))))
		key := p.loadKey(eccKey(usable|tpm2.ObjDecrypt, schemeOf(tpm2.AlgECDH), curve), nil)
		zgen := func(point []byte) []byte {
			return frame(tpm2.CCECDHZGen, []tpm2.Handle{key}, password(""), buf16(point))
		}
		for range 5 {
			keyGen := frame(tpm2.CCECDHKeyGen, []tpm2.Handle{key}, nil)
			resp := p.execute(keyGen)
			if theirs := p.o.execute(keyGen); len(theirs) != len(resp) {
				t.Fatalf("KeyGen: %x, swtpm %x", resp, theirs)
			}
			z, rest, _ := cutSized(resp[headerSize:])
			public, _, _ := cutSized(rest)
			got := p.expect(tpm2.RCSuccess, "ZGen", zgen(public))
			if shared, _, _ := cutSized(got[headerSize+4:]); !bytes.Equal(shared, z) {
				t.Errorf("ZGen gives %x, KeyGen %x", shared, z)
			}
			off := bytes.Clone(public)
			off[len(off)-1] ^= 1
			p.expect(tpm2.RCECCPoint.P(1), "a point off the curve", zgen(off))
		}
		size := curve.CoordinateSize()
		p.same("infinity", zgen(append(buf16(make([]byte, size)), buf16(make([]byte, size))...)))
		p.same("no coordinates", zgen(append(buf16(nil), buf16(nil)...)))
		p.flush(key)
	}
	for _, template := range []tpm2.Public{hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)),
		eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256)} {
		key := p.loadKey(template, nil)
		p.same("ZGen", frame(tpm2.CCECDHZGen, []tpm2.Handle{key}, password(""), buf16(append(buf16(nil), buf16(nil)...))))
		if template.Type != tpm2.AlgECC {
			p.same("KeyGen", frame(tpm2.CCECDHKeyGen, []tpm2.Handle{key}, nil))
		}
		p.flush(key)
	}
}
