package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// loaders are commands that put an object of each kind in a slot.
func loaders(t *testing.T) map[string][]byte {
	null := schemeOf(tpm2.AlgNull)
	public := eccKey(signingKey, null, tpm2.CurveP256)
	key := newKey(t, public)
	public.Point = key.Public.Point
	noName := public
	noName.NameAlg = tpm2.AlgNull
	primaryOf := func(pub tpm2.Public, data string) []byte { return createPrimaryCmd(tpm2.RHOwner, &pub, data) }
	return map[string][]byte{
		"storage key":   primaryOf(storageKey(eccKey(0, null, tpm2.CurveP384)), ""),
		"AES storage":   primaryOf(storageKey(aesKey(0, tpm2.AlgCFB)), ""),
		"signing key":   primaryOf(public, ""),
		"decryption":    primaryOf(eccKey(usable|tpm2.ObjDecrypt, null, tpm2.CurveP256), ""),
		"attestation":   primaryOf(eccKey(attestingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), ""),
		"HMAC key":      primaryOf(hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), ""),
		"sealed":        primaryOf(hmacKey(tpm2.ObjUserWithAuth|tpm2.ObjNoDA, null), "data"),
		"admin policy":  primaryOf(eccKey(signingKey|tpm2.ObjAdminWithPolicy, null, tpm2.CurveP256), ""),
		"no password":   primaryOf(eccKey(signingKey&^tpm2.ObjUserWithAuth, null, tpm2.CurveP256), ""),
		"external":      loadExternalCmd(&public, key.Sensitive, tpm2.RHNull),
		"public area":   loadExternalCmd(&public, nil, tpm2.RHOwner),
		"no nameAlg":    loadExternalCmd(&noName, key.Sensitive, tpm2.RHNull),
		"hash sequence": frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA256))),
	}
}

// TestObjectCodesAreTheReferences runs every object command with every kind of
// object in each of its handles, and compares the codes with swtpm's.
func TestObjectCodesAreTheReferences(t *testing.T) {
	p := newTwins(t)
	p.expect(tpm2.RCSuccess, "SRK", createPrimaryCmd(tpm2.RHOwner, &eccSRK, ""))
	const srk, x = tpm2.TransientFirst, tpm2.TransientFirst + 1
	for name, load := range loaders(t) {
		p.sameCode(name, load, false)
		for i, cmd := range objectCmds(srk, x) {
			resp := p.execute(cmd)
			if theirs := p.o.execute(cmd); code(theirs) != code(resp) {
				t.Errorf("%v of %s (%d): ours %v, swtpm %v", tpm2.CC(binary.BigEndian.Uint32(cmd[6:])), name, i, code(resp), code(theirs))
			}
		}
		p.sameCode(name, flushCmd(x), false)
		p.sameCode(name, flushCmd(x), false)
	}
}

// objectCmds are commands with x in their handles, and parameters that some
// object accepts.
func objectCmds(srk, x tpm2.Handle) [][]byte {
	null := u16(uint16(tpm2.AlgNull))
	sealed := hmacKey(tpm2.ObjUserWithAuth, schemeOf(tpm2.AlgNull))
	sensitive := buf16(append(buf16(nil), buf16([]byte("data"))...))
	public := buf16(tpm2.Marshal(&sealed))
	junk := buf16(bytes.Repeat([]byte{7}, 80))
	both := append(password(""), password("")...)
	one := func(cc tpm2.CC, h tpm2.Handle, auth []byte, params ...[]byte) []byte {
		return frame(cc, []tpm2.Handle{h}, auth, params...)
	}
	two := func(cc tpm2.CC, a, b tpm2.Handle, auth []byte, params ...[]byte) []byte {
		return frame(cc, []tpm2.Handle{a, b}, auth, params...)
	}
	return [][]byte{
		one(tpm2.CCReadPublic, x, nil),
		one(tpm2.CCUnseal, x, password("")),
		one(tpm2.CCUnseal, x, password("wrong")),
		one(tpm2.CCUnseal, x, nil),
		one(tpm2.CCCreate, x, password(""), sensitive, public, buf16(nil), u32(0)),
		one(tpm2.CCLoad, x, password(""), junk, public),
		one(tpm2.CCLoad, x, password(""), buf16(nil), public),
		two(tpm2.CCObjectChangeAuth, x, srk, password(""), buf16([]byte("new"))),
		two(tpm2.CCObjectChangeAuth, srk, x, password(""), buf16([]byte("new"))),
		two(tpm2.CCObjectChangeAuth, x, x, password(""), buf16(bytes.Repeat([]byte{1}, 49))),
		two(tpm2.CCActivateCredential, x, srk, both, junk, junk),
		two(tpm2.CCActivateCredential, srk, x, both, junk, junk),
		two(tpm2.CCActivateCredential, srk, x, both, junk, buf16(nil)),
		two(tpm2.CCActivateCredential, srk, srk, password(""), junk, junk),
		one(tpm2.CCMakeCredential, x, nil, buf16([]byte("data")), buf16([]byte("name"))),
		one(tpm2.CCMakeCredential, x, nil, buf16(make([]byte, 33)), buf16([]byte("name"))),
		one(tpm2.CCImport, x, password(""), buf16(nil), public, junk, buf16(nil), null),
		one(tpm2.CCImport, x, password(""), buf16(nil), public, junk, junk, null),
		one(tpm2.CCImport, x, password(""), buf16([]byte("key")), public, junk, buf16(nil), null),
		one(tpm2.CCContextSave, x, nil),
		one(tpm2.CCContextSave, x, password("")),
		one(tpm2.CCContextSave, x+1, nil),
		one(tpm2.CCReadPublic, x+1, nil),
		one(tpm2.CCReadPublic, x+2, nil),
		one(tpm2.CCReadPublic, 0x81000001, nil),
	}
}

// TestAlteredSealedObjects loads sealed objects with each part altered.
func TestAlteredSealedObjects(t *testing.T) {
	p := newTwins(t)
	p.expect(tpm2.RCSuccess, "SRK", createPrimaryCmd(tpm2.RHOwner, &eccSRK, ""))
	sealed := hmacKey(tpm2.ObjUserWithAuth|tpm2.ObjFixedTPM|tpm2.ObjFixedParent, schemeOf(tpm2.AlgNull))
	private, public := p.createChild(tpm2.TransientFirst, sealed, "data")
	for what, area := range map[string][]byte{"private": private, "public": public} {
		for at := range area {
			area[at] ^= 1
			p.sameCode(fmt.Sprintf("byte %d of the %s area", at, what),
				frame(tpm2.CCLoad, []tpm2.Handle{tpm2.TransientFirst}, password(""), private, public), true)
			area[at] ^= 1
		}
	}
	ours, _ := p.sameCode("whole", frame(tpm2.CCLoad, []tpm2.Handle{tpm2.TransientFirst}, password(""), private, public), true)
	if code(ours) != tpm2.RCSuccess {
		t.Errorf("whole: %v", code(ours))
	}
}

// TestSlotsFull runs the commands that need a slot while there is none.
func TestSlotsFull(t *testing.T) {
	p := newTwins(t)
	for range 3 {
		p.expect(tpm2.RCSuccess, "CreatePrimary", createPrimaryCmd(tpm2.RHOwner, &eccSRK, ""))
	}
	public := eccKey(signingKey, schemeOf(tpm2.AlgNull), tpm2.CurveP256)
	cmds := objectCmds(tpm2.TransientFirst, tpm2.TransientFirst+1)
	// The last one names a persistent object: swtpm needs a slot for it, and we
	// don't.
	for _, cmd := range append(cmds[:len(cmds)-1],
		createPrimaryCmd(tpm2.RHOwner, &eccSRK, ""), loadExternalCmd(&public, nil, tpm2.RHOwner)) {
		p.sameCode(tpm2.CC(binary.BigEndian.Uint32(cmd[6:])).String(), cmd, false)
	}
}
