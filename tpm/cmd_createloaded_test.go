package tpm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

func createLoadedCmd(parent tpm2.Handle, auth, data string, template []byte) []byte {
	sensitive := append(buf16([]byte(auth)), buf16([]byte(data))...)
	return frame(tpm2.CCCreateLoaded, []tpm2.Handle{parent}, password(""), buf16(sensitive), buf16(template))
}

// derivationParent is a template of one, whose hash algorithm is alg.
func derivationParent(alg tpm2.AlgID) tpm2.Public {
	const attrs = tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjSensitiveDataOrigin |
		tpm2.ObjUserWithAuth | tpm2.ObjRestricted | tpm2.ObjDecrypt | tpm2.ObjNoDA
	return hmacKey(attrs, tpm2.Scheme{Alg: tpm2.AlgXOR, Hash: alg, KDF: tpm2.AlgKDF1SP800108})
}

const derivedAttrs = tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjUserWithAuth | tpm2.ObjNoDA

func derived(pub tpm2.Public, attrs tpm2.ObjectAttributes, label, context string) []byte {
	pub.Attributes = derivedAttrs | attrs
	return tpm2.Marshal(&tpm2.DerivedTemplate{Public: pub, Derive: tpm2.Derive{Label: []byte(label), Context: []byte(context)}})
}

func derive(label, context string) string {
	return string(tpm2.Marshal(&tpm2.Derive{Label: []byte(label), Context: []byte(context)}))
}

// TestSameSeedsSameDerivedObjects compares whole answers: keys derived from a
// primary, from a derived parent, and by every way to give label and context.
func TestSameSeedsSameDerivedObjects(t *testing.T) {
	p := newTwins(t)
	null := schemeOf(tpm2.AlgNull)
	objects := map[string][]byte{
		"P-256":   derived(eccKey(0, null, tpm2.CurveP256), tpm2.ObjSign, "label", "context"),
		"P-384":   derived(eccKey(0, null, tpm2.CurveP384), tpm2.ObjDecrypt, "label", "context"),
		"TDES":    derived(cipherKey(0, tpm2.SymDef{Alg: tpm2.AlgTDES, KeyBits: 192, Mode: tpm2.AlgCFB}), tpm2.ObjSign|tpm2.ObjDecrypt, "label", "context"),
		"CMAC":    derived(cipherKey(0, tpm2.SymDef{Alg: tpm2.AlgCamellia, KeyBits: 256, Mode: tpm2.AlgCMAC}), tpm2.ObjSign, "label", "context"),
		"AES":     derived(aesKey(0, tpm2.AlgCFB), tpm2.ObjSign|tpm2.ObjDecrypt, "label", "context"),
		"HMAC":    derived(hmacKey(0, schemeOf(tpm2.AlgHMAC)), tpm2.ObjSign, "label", "context"),
		"data":    derived(hmacKey(0, null), 0, "label", "context"),
		"no name": derived(hmacKey(0, null), 0, "", ""),
		"NUL":     derived(hmacKey(0, null), 0, "label\x00", ""),
		"full":    derived(hmacKey(0, null), 0, strings.Repeat("l", 32), strings.Repeat("c", 32)),
		"label":   derived(hmacKey(0, null), 0, "label", ""),
		"context": derived(hmacKey(0, null), 0, "", "context"),
		"parent":  derived(derivationParent(tpm2.AlgSHA512), tpm2.ObjRestricted|tpm2.ObjDecrypt, "label", "context"),
	}
	for _, alg := range tpm2.HashAlgs() {
		parent := derivationParent(alg)
		p.expect(tpm2.RCSuccess, alg.String(), createPrimaryCmd(tpm2.RHEndorsement, &parent, ""))
		for name, template := range objects {
			for _, data := range []string{"", derive("", "another"), derive("another", ""), derive("and", "so") + "on"} {
				what := fmt.Sprintf("%s below %v, data %q", name, alg, data)
				if resp := p.expect(tpm2.RCSuccess, what, createLoadedCmd(tpm2.TransientFirst, "auth", data, template)); code(resp) == tpm2.RCSuccess {
					p.expect(tpm2.RCSuccess, what, frame(tpm2.CCReadPublic, []tpm2.Handle{tpm2.TransientFirst + 1}, nil))
					p.expect(tpm2.RCSuccess, what, flushCmd(tpm2.TransientFirst+1))
				}
			}
		}
		p.expect(tpm2.RCSuccess, "a parent below", frame(tpm2.CCCreateLoaded, []tpm2.Handle{tpm2.TransientFirst}, password(""),
			buf16(make([]byte, 4)), buf16(objects["parent"])))
		p.expect(tpm2.RCSuccess, "below that", createLoadedCmd(tpm2.TransientFirst+1, "", "", objects["P-256"]))
		for i := range tpm2.Handle(3) {
			p.expect(tpm2.RCSuccess, "flush", flushCmd(tpm2.TransientFirst+i))
		}
	}
}

// TestCreateLoadedPrimaries: the same objects as CreatePrimary makes, in every
// hierarchy.
func TestCreateLoadedPrimaries(t *testing.T) {
	p := newTwins(t)
	null := schemeOf(tpm2.AlgNull)
	for name, pub := range map[string]tpm2.Public{
		"P-256":   storageKey(eccKey(0, null, tpm2.CurveP256)),
		"derives": derivationParent(tpm2.AlgSHA256),
		"RSA":     storageKey(rsaKey(0, null)),
	} {
		for _, h := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform} {
			loaded := p.expect(tpm2.RCSuccess, name, createLoadedCmd(h, "", "more", tpm2.Marshal(&pub)))
			primary := p.expect(tpm2.RCSuccess, name, createPrimaryCmd(h, &pub, "more"))
			area := 2 + len(tpm2.Marshal(&pub))
			if !bytes.Equal(loaded[20:20+area], primary[18:18+area]) {
				t.Errorf("%s: CreateLoaded and CreatePrimary make different keys", name)
			}
			p.expect(tpm2.RCSuccess, "flush", flushCmd(tpm2.TransientFirst))
			p.expect(tpm2.RCSuccess, "flush", flushCmd(tpm2.TransientFirst+1))
		}
	}
}

// TestCreateLoadedChildren makes ordinary objects below each kind of parent
// and loads them again.
func TestCreateLoadedChildren(t *testing.T) {
	p := newTwins(t)
	null := schemeOf(tpm2.AlgNull)
	parent := storageKey(eccKey(0, null, tpm2.CurveP256))
	p.expect(tpm2.RCSuccess, "parent", createPrimaryCmd(tpm2.RHOwner, &parent, ""))
	below := derivationParent(tpm2.AlgSHA256)
	sealed := hmacKey(tpm2.ObjUserWithAuth, null)
	for name, c := range map[string]struct {
		pub  tpm2.Public
		data string
	}{
		"ECC":     {eccKey(signingKey, null, tpm2.CurveP256), ""},
		"sealed":  {sealed, "a secret"},
		"derives": {below, ""},
		"storage": {parent, ""},
	} {
		ours, theirs := p.sameCode(name, createLoadedCmd(tpm2.TransientFirst, "auth", c.data, tpm2.Marshal(&c.pub)), true)
		if code(ours) != tpm2.RCSuccess || len(ours) != len(theirs) {
			t.Errorf("%s: %v, %d bytes; swtpm's has %d", name, code(ours), len(ours), len(theirs))
			continue
		}
		var private tpm2.Private
		var public tpm2.SizedPublic
		var nm tpm2.Name
		decode(t, ours[18:len(ours)-5], &private, &public, &nm)
		if !bytes.Equal(nm, public.Name()) {
			t.Errorf("%s: the Name is not the public area's", name)
		}
		p.must(tpm2.RCSuccess, tpm2.CCLoad, []tpm2.Handle{tpm2.TransientFirst}, password(""),
			buf16(private), buf16(tpm2.Marshal(&public.Public)))
		p.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(tpm2.TransientFirst+1)))
	}
}

// TestCreateLoadedErrors compares what is refused.
func TestCreateLoadedErrors(t *testing.T) {
	p := newTwins(t)
	null := schemeOf(tpm2.AlgNull)
	parent, storage := derivationParent(tpm2.AlgSHA256), storageKey(eccKey(0, null, tpm2.CurveP256))
	p.expect(tpm2.RCSuccess, "a derivation parent", createPrimaryCmd(tpm2.RHOwner, &parent, ""))
	p.expect(tpm2.RCSuccess, "a storage key", createPrimaryCmd(tpm2.RHOwner, &storage, ""))
	const derives, stores = tpm2.TransientFirst, tpm2.TransientFirst + 1
	data := derived(hmacKey(0, null), 0, "label", "context")
	ordinary := tpm2.Marshal(&storage)
	long := strings.Repeat("x", 33)
	for name, cmd := range map[string][]byte{
		"RSA":                    createLoadedCmd(derives, "", "", derived(rsaKey(0, null), tpm2.ObjSign, "", "")),
		"origin":                 createLoadedCmd(derives, "", "", derived(hmacKey(0, null), tpm2.ObjSensitiveDataOrigin, "", "")),
		"a storage key derived":  createLoadedCmd(derives, "", "", derived(storage, tpm2.ObjRestricted|tpm2.ObjDecrypt, "", "")),
		"a long auth":            createLoadedCmd(derives, long, "", data),
		"data that is cut":       createLoadedCmd(derives, "", "\x00\x05lab", data),
		"one label only":         createLoadedCmd(derives, "", "\x00\x01l", data),
		"a long label in data":   createLoadedCmd(derives, "", derive(long[:32], "")[:2]+"\x21"+long, data),
		"a long label":           createLoadedCmd(derives, "", "", append(data[:len(data)-16:len(data)-16], buf16([]byte(long))...)),
		"cut":                    createLoadedCmd(derives, "", "", data[:len(data)-1]),
		"trailing":               createLoadedCmd(derives, "", "", append(data[:len(data):len(data)], 0)),
		"unique for label":       createLoadedCmd(derives, "", "", tpm2.Marshal(&storage)),
		"label for unique":       createLoadedCmd(stores, "", "x", data),
		"empty":                  createLoadedCmd(stores, "", "", nil),
		"484 bytes":              createLoadedCmd(stores, "", "", make([]byte, 484)),
		"485 bytes":              createLoadedCmd(stores, "", "", make([]byte, 485)),
		"485 bytes, no parent":   createLoadedCmd(tpm2.TransientFirst+2, "", "", make([]byte, 485)),
		"trailing, ordinary":     createLoadedCmd(stores, "", "", append(ordinary[:len(ordinary):len(ordinary)], 0)),
		"data for an ECC key":    createLoadedCmd(stores, "", "data", ordinary),
		"a long auth, ordinary":  createLoadedCmd(stores, long, "", ordinary),
		"no hash":                createLoadedCmd(stores, "", "", append([]byte{0, 0x23, 0, 0x10}, ordinary[4:]...)),
		"an unknown type":        createLoadedCmd(stores, "", "", append([]byte{0, 1, 0, 11}, ordinary[4:]...)),
		"reserved attributes":    createLoadedCmd(stores, "", "", append([]byte{0, 0x23, 0, 11, 0xFF}, ordinary[5:]...)),
		"the lockout hierarchy":  createLoadedCmd(tpm2.RHLockout, "", "", ordinary),
		"no sensitive structure": frame(tpm2.CCCreateLoaded, []tpm2.Handle{stores}, password(""), buf16(nil), buf16(ordinary)),
	} {
		if resp := p.same(name, cmd); code(resp) == tpm2.RCSuccess {
			t.Errorf("%s succeeds", name)
			p.expect(tpm2.RCSuccess, name, flushCmd(tpm2.TransientFirst+2))
		}
	}
	p.expect(tpm2.RCSuccess, "data", createLoadedCmd(derives, "", "", data))
	// swtpm gives the derived object's secret away here, in clear: a derivation
	// parent has no cipher to wrap it with.
	p.must(tpm2.RCType.H(2), tpm2.CCObjectChangeAuth, []tpm2.Handle{tpm2.TransientFirst + 2, derives},
		password(""), buf16([]byte("auth")))
	p.expect(tpm2.RCSuccess, "data", flushCmd(tpm2.TransientFirst+2))
	sealed := hmacKey(tpm2.ObjUserWithAuth, null)
	p.expect(tpm2.RCSuccess, "a third object", createPrimaryCmd(tpm2.RHOwner, &sealed, "secret"))
	p.expect(tpm2.RCType.H(1), "below what is no parent", createLoadedCmd(tpm2.TransientFirst+2, "", "", data))
	p.expect(tpm2.RCObjectMemory, "no slot", createLoadedCmd(derives, "", "", nil))
}

// TestDerivedChecksAreTheReferences tries every combination of attributes with
// every type and scheme as the template of a derived object.
func TestDerivedChecksAreTheReferences(t *testing.T) {
	p := newTwins(t)
	fixed := derivationParent(tpm2.AlgSHA256)
	movable := fixed
	movable.Attributes &^= tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	for name, parent := range map[string]tpm2.Public{"fixed": fixed, "movable": movable} {
		p.expect(tpm2.RCSuccess, name, createPrimaryCmd(tpm2.RHPlatform, &parent, ""))
		for kind, pub := range areas() {
			for _, a := range attributeSets() {
				pub.Attributes = a
				template := tpm2.Marshal(&tpm2.DerivedTemplate{Public: pub, Derive: tpm2.Derive{Label: []byte("label")}})
				what := fmt.Sprintf("%s below %s, attributes 0x%x", kind, name, uint32(a))
				if resp := p.same(what, createLoadedCmd(tpm2.TransientFirst, "", "", template)); code(resp) == tpm2.RCSuccess {
					p.expect(tpm2.RCSuccess, what, flushCmd(tpm2.TransientFirst+1))
				}
			}
		}
		p.expect(tpm2.RCSuccess, name, flushCmd(tpm2.TransientFirst))
	}
}
