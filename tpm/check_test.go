package tpm

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// attributeSets is every combination of the attributes that the checks of a
// public area look at.
func attributeSets() (list []tpm2.ObjectAttributes) {
	bits := []tpm2.ObjectAttributes{tpm2.ObjFixedTPM, tpm2.ObjFixedParent, tpm2.ObjSensitiveDataOrigin,
		tpm2.ObjEncryptedDuplication, tpm2.ObjRestricted, tpm2.ObjDecrypt, tpm2.ObjSign}
	for i := range 1 << len(bits) {
		a := tpm2.ObjUserWithAuth
		for j, bit := range bits {
			if i&(1<<j) != 0 {
				a |= bit
			}
		}
		list = append(list, a)
	}
	return list
}

// areas are public areas of each type with the schemes that matter, whose
// attributes are yet to be set.
func areas() map[string]tpm2.Public {
	null := schemeOf(tpm2.AlgNull)
	list := make(map[string]tpm2.Public)
	add := func(name string, pub tpm2.Public) {
		list[name] = pub
		if pub.Type == tpm2.AlgECC || pub.Type == tpm2.AlgRSA {
			pub.Symmetric = tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
			list[name+" with a cipher"] = pub
		}
	}
	for _, alg := range []tpm2.AlgID{tpm2.AlgNull, tpm2.AlgECDSA, tpm2.AlgECDH} {
		add("ECC "+alg.String(), eccKey(0, schemeOf(alg), tpm2.CurveP256))
	}
	for _, alg := range []tpm2.AlgID{tpm2.AlgNull, tpm2.AlgRSASSA, tpm2.AlgOAEP} {
		add("RSA "+alg.String(), rsaKey(0, schemeOf(alg)))
	}
	add("keyed hash", hmacKey(0, null))
	add("HMAC", hmacKey(0, schemeOf(tpm2.AlgHMAC)))
	xor := tpm2.Scheme{Alg: tpm2.AlgXOR, Hash: tpm2.AlgSHA256, KDF: tpm2.AlgKDF1SP800108}
	add("XOR", hmacKey(0, xor))
	xor.KDF = tpm2.AlgMGF1
	add("XOR by MGF1", hmacKey(0, xor))
	add("AES", aesKey(0, tpm2.AlgCFB))
	kdf := eccKey(0, null, tpm2.CurveP256)
	kdf.KDF = tpm2.Scheme{Alg: tpm2.AlgKDF1SP80056A, Hash: tpm2.AlgSHA256}
	add("ECC with a KDF", kdf)
	policy := hmacKey(0, null)
	policy.AuthPolicy = make([]byte, 20)
	add("a policy of another size", policy)
	return list
}

// TestTemplateChecksAreTheReferences tries every combination of attributes with
// every type and scheme as a template, and compares the answers with swtpm's.
func TestTemplateChecksAreTheReferences(t *testing.T) {
	p := newTwins(t)
	for name, pub := range areas() {
		for _, a := range attributeSets() {
			pub.Attributes = a
			for _, data := range []string{"", "0123456789abcdef"} {
				what := fmt.Sprintf("%s, attributes 0x%x, %d bytes of data", name, uint32(a), len(data))
				cmd := createPrimaryCmd(tpm2.RHOwner, &pub, data)
				if pub.Type == tpm2.AlgRSA {
					// Only the check: a bad size of the authorization comes after it.
					cmd = withLongAuth(&pub, data)
				}
				if resp := p.same(what, cmd); code(resp) == tpm2.RCSuccess {
					p.expect(tpm2.RCSuccess, what, flushCmd(tpm2.TransientFirst))
				}
			}
		}
	}
}

// withLongAuth is CreatePrimary with an authorization value that is too long,
// which is found after the template was checked and before primes are searched.
func withLongAuth(pub *tpm2.Public, data string) []byte {
	auth := make([]byte, 33)
	auth[32] = 1
	sensitive := append(buf16(auth), buf16([]byte(data))...)
	return frame(tpm2.CCCreatePrimary, []tpm2.Handle{tpm2.RHOwner}, password(""), buf16(sensitive),
		buf16(tpm2.Marshal(pub)), buf16(nil), u32(0))
}

// sameCode runs a command on both; the codes must be the same, and what they
// load is flushed.
func (p *pair) sameCode(what string, cmd []byte, loads bool) (ours, theirs []byte) {
	p.t.Helper()
	ours, theirs = p.execute(cmd), p.o.execute(cmd)
	if code(ours) != code(theirs) {
		p.t.Errorf("%s: ours %v, swtpm %v", what, code(ours), code(theirs))
	}
	if loads {
		p.flushLoaded(ours, p.execute)
		p.flushLoaded(theirs, p.o.execute)
	}
	return ours, theirs
}

func (p *pair) flushLoaded(resp []byte, execute func([]byte) []byte) {
	p.t.Helper()
	if code(resp) == tpm2.RCSuccess {
		h := tpm2.Handle(binary.BigEndian.Uint32(resp[headerSize:]))
		if resp := execute(flushCmd(h)); code(resp) != tpm2.RCSuccess {
			p.t.Fatalf("FlushContext: %v", code(resp))
		}
	}
}

// TestChildChecksAreTheReferences does the same with Create below parents that
// may and may not leave the TPM.
func TestChildChecksAreTheReferences(t *testing.T) {
	p := newTwins(t)
	movable := storageKey(eccKey(0, schemeOf(tpm2.AlgNull), tpm2.CurveP256))
	movable.Attributes &^= tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	guarded := movable
	guarded.Attributes |= tpm2.ObjEncryptedDuplication
	fixed := storageKey(eccKey(0, schemeOf(tpm2.AlgNull), tpm2.CurveP256))
	for parentName, parent := range map[string]tpm2.Public{"movable": movable, "guarded": guarded, "fixed": fixed} {
		p.expect(tpm2.RCSuccess, parentName, createPrimaryCmd(tpm2.RHOwner, &parent, ""))
		for name, pub := range areas() {
			for _, a := range attributeSets() {
				pub.Attributes = a
				auth, data := []byte(nil), []byte(nil)
				if pub.Type == tpm2.AlgRSA {
					auth = make([]byte, 33)
					auth[32] = 1
				} else if !a.Has(tpm2.ObjSensitiveDataOrigin) {
					data = []byte("0123456789abcdef")
				}
				p.sameCode(fmt.Sprintf("%s below %s, attributes 0x%x", name, parentName, uint32(a)),
					frame(tpm2.CCCreate, []tpm2.Handle{tpm2.TransientFirst}, password(""),
						buf16(append(buf16(auth), buf16(data)...)), buf16(tpm2.Marshal(&pub)), buf16(nil), u32(0)), false)
			}
		}
		p.expect(tpm2.RCSuccess, parentName, flushCmd(tpm2.TransientFirst))
	}
}

// TestExternalChecksAreTheReferences does the same with LoadExternal, of public
// areas with and without a nameAlg, and with a sensitive area.
func TestExternalChecksAreTheReferences(t *testing.T) {
	p := newTwins(t)
	keys := make(map[tpm2.AlgID]*crypt.Key)
	for name, pub := range areas() {
		if keys[pub.Type] == nil {
			keys[pub.Type] = newKey(t, pub)
		}
		key := keys[pub.Type]
		pub.Unique, pub.Point = key.Public.Unique, key.Public.Point
		for _, a := range attributeSets() {
			pub.Attributes = a
			for _, alg := range []tpm2.AlgID{tpm2.AlgSHA256, tpm2.AlgNull} {
				pub.NameAlg = alg
				what := fmt.Sprintf("%s, attributes 0x%x, nameAlg %v", name, uint32(a), alg)
				p.sameCode(what, loadExternalCmd(&pub, nil, tpm2.RHOwner), true)
				p.sameCode(what+", sensitive", loadExternalCmd(&pub, key.Sensitive, tpm2.RHNull), true)
			}
		}
	}
}

// newKey makes an ordinary key of an area's type and parameters.
func newKey(t *testing.T, pub tpm2.Public) *crypt.Key {
	t.Helper()
	pub.Attributes = tpm2.ObjSensitiveDataOrigin | tpm2.ObjSign
	key, rc := crypt.CreateObject(&pub, nil, nil, &crypt.Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	return key
}

func loadExternalCmd(pub *tpm2.Public, sens *tpm2.Sensitive, hierarchy tpm2.Handle) []byte {
	sensitive := tpm2.SizedSensitive{}
	if sens != nil {
		sensitive = tpm2.SizedSensitive{Present: true, Sensitive: *sens}
	}
	return frame(tpm2.CCLoadExternal, nil, nil, tpm2.Marshal(&sensitive),
		tpm2.Marshal(&tpm2.SizedPublicOrNull{Public: *pub}), u32(uint32(hierarchy)))
}
