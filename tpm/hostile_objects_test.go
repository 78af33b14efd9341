package tpm

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/object"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// strangeObjects are objects of every kind, most of them not what a command is
// made for.
func strangeObjects(t *testing.T, r *rig) map[string]*object.Object {
	t.Helper()
	null := schemeOf(tpm2.AlgNull)
	list := map[string]*object.Object{}
	take := func(name string, cmd []byte) {
		t.Helper()
		resp := r.execute(cmd)
		if code(resp) != tpm2.RCSuccess {
			t.Fatalf("%s: %v", name, code(resp))
		}
		list[name] = r.e.state.objects.Slots[0]
		r.execute(flushCmd(tpm2.TransientFirst))
	}
	create := func(name string, pub tpm2.Public, data string) {
		t.Helper()
		take(name, createPrimaryCmd(tpm2.RHOwner, &pub, data))
	}
	create("storage", storageKey(eccKey(0, null, tpm2.CurveP256)), "")
	create("signer", eccKey(signingKey, null, tpm2.CurveP256), "")
	create("cipher", aesKey(usable|tpm2.ObjDecrypt|tpm2.ObjSign, tpm2.AlgNull), "")
	create("symmetric parent", storageKey(aesKey(0, tpm2.AlgCFB)), "")
	create("HMAC key", hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), "")
	create("data", hmacKey(tpm2.ObjUserWithAuth, null), "a secret")
	create("derivation parent", derivationParent(tpm2.AlgSHA256), "")
	signer := list["signer"]
	take("public only", loadExternalCmd(&signer.Public, nil, tpm2.RHOwner))
	nameless := signer.Public
	nameless.NameAlg = tpm2.AlgNull
	take("nameless", loadExternalCmd(&nameless, signer.Sensitive, tpm2.RHNull))
	take("hash sequence", frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA256))))
	take("event sequence", frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgNull))))
	r.execute(createPrimaryCmd(tpm2.RHOwner, ptr(hmacKey(signingKey, schemeOf(tpm2.AlgHMAC))), ""))
	r.execute(frame(tpm2.CCHMACStart, []tpm2.Handle{tpm2.TransientFirst}, password(""), buf16(nil), u16(uint16(tpm2.AlgNull))))
	list["HMAC sequence"] = r.e.state.objects.Slots[1]
	return list
}

// takesObjects reports whether one of the first two handles of a command can be
// an object's.
func takesObjects(d *command) bool {
	for i := range min(len(d.handles), 2) {
		if d.handles[i].kind.allows(tpm2.TransientFirst) {
			return true
		}
	}
	return false
}

// objectHandles are the first two transient objects where a command takes
// objects, and an authorization area for them.
func objectHandles(d *command) (handles []tpm2.Handle, auth []byte) {
	for i, x := range d.handles {
		h := tpm2.TransientFirst + tpm2.Handle(i%2)
		if !x.kind.allows(h) {
			h = anyHandle(x.kind)
		}
		handles = append(handles, h)
		if x.role != authNone {
			auth = append(auth, password("")...)
		}
	}
	return handles, auth
}

// everyParams are parameters for a command: good ones, and what its decoder takes.
func everyParams(d *command) [][]byte {
	b, _ := sample(d)
	return append(slices.Clone(good(d.cc)), b)
}

func ptr[T any](v T) *T { return &v }

// TestEveryObjectForEveryHandle uses objects of every kind where a command has a
// handle of an object: whatever they are, the TPM answers.
func TestEveryObjectForEveryHandle(t *testing.T) {
	r := fullRig(t, true)
	kinds := strangeObjects(t, r)
	r.e.state.objects = object.State{}
	before := r.e.state
	ran := map[tpm2.RC]int{}
	for i := range registry.list {
		d := &registry.list[i]
		if !takesObjects(d) {
			continue
		}
		for nameA, a := range kinds {
			for nameB, b := range kinds {
				if len(d.handles) == 1 && nameA != nameB {
					continue
				}
				handles, auth := objectHandles(d)
				for _, params := range everyParams(d) {
					r.e.state = before
					r.e.state.objects.Slots = [object.MaxTransient]*object.Object{a, b}
					cmd := frame(d.cc, handles, auth, params)
					ran[code(r.execute(cmd))]++
					r.alive(fmt.Sprintf("%v of %s and %s: %x", d.cc, nameA, nameB, cmd))
				}
			}
		}
	}
	if ran[tpm2.RCSuccess] < 100 {
		t.Errorf("only %d commands succeeded", ran[tpm2.RCSuccess])
	}
}

// TestEveryObjectAgainstSwtpm compares the codes that they get in Debian's swtpm,
// where the objects are loaded from contexts for each pair of them.
func TestEveryObjectAgainstSwtpm(t *testing.T) {
	p := newTwins(t)
	contexts := map[string][2][]byte{}
	save := func(name string, h tpm2.Handle) {
		t.Helper()
		var saved [2][]byte
		for i, run := range []func([]byte) []byte{p.execute, p.o.execute} {
			resp := run(frame(tpm2.CCContextSave, []tpm2.Handle{h}, nil))
			if code(resp) != tpm2.RCSuccess {
				t.Fatalf("%s, TPM %d: %v", name, i, code(resp))
			}
			saved[i] = frame(tpm2.CCContextLoad, nil, nil, resp[headerSize:])
		}
		contexts[name] = saved
	}
	null := schemeOf(tpm2.AlgNull)
	for name, pub := range map[string]tpm2.Public{
		"storage": storageKey(eccKey(0, null, tpm2.CurveP256)), "signer": eccKey(signingKey, null, tpm2.CurveP256),
		"cipher":           aesKey(usable|tpm2.ObjDecrypt|tpm2.ObjSign, tpm2.AlgNull),
		"symmetric parent": storageKey(aesKey(0, tpm2.AlgCFB)),
		"HMAC key":         hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), "derivation parent": derivationParent(tpm2.AlgSHA256),
	} {
		p.expect(tpm2.RCSuccess, name, createPrimaryCmd(tpm2.RHOwner, &pub, ""))
		save(name, tpm2.TransientFirst)
		if name == "HMAC key" {
			p.sameCode(name, frame(tpm2.CCHMACStart, []tpm2.Handle{tpm2.TransientFirst}, password(""), buf16(nil), u16(uint16(tpm2.AlgNull))), false)
			save("HMAC sequence", tpm2.TransientFirst+1)
			p.expect(tpm2.RCSuccess, name, flushCmd(tpm2.TransientFirst+1))
		}
		p.expect(tpm2.RCSuccess, name, flushCmd(tpm2.TransientFirst))
	}
	for name, cmd := range map[string][]byte{
		"hash sequence":  frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgSHA256))),
		"event sequence": frame(tpm2.CCHashSequenceStart, nil, nil, buf16(nil), u16(uint16(tpm2.AlgNull))),
		"public only":    frame(tpm2.CCLoadExternal, nil, nil, buf16(nil), buf16(externalECC()), u32(uint32(tpm2.RHOwner))),
	} {
		p.expect(tpm2.RCSuccess, name, cmd)
		save(name, tpm2.TransientFirst)
		p.expect(tpm2.RCSuccess, name, flushCmd(tpm2.TransientFirst))
	}
	// load puts two of them in the first two slots.
	load := func(a, b string) {
		t.Helper()
		for i := range tpm2.Handle(object.MaxTransient) {
			p.execute(flushCmd(tpm2.TransientFirst + i))
			p.o.execute(flushCmd(tpm2.TransientFirst + i))
		}
		for _, name := range []string{a, b} {
			if ours, theirs := code(p.execute(contexts[name][0])), code(p.o.execute(contexts[name][1])); ours != tpm2.RCSuccess || theirs != tpm2.RCSuccess {
				t.Fatalf("%s does not load again: ours %v, swtpm %v", name, ours, theirs)
			}
		}
	}
	for a := range contexts {
		for b := range contexts {
			load(a, b)
			for _, d := range nullProfile.shown() {
				if omitted[d.cc] != "" || !takesObjects(d) || len(d.handles) == 1 && a != b {
					continue
				}
				handles, auth := objectHandles(d)
				for _, params := range everyParams(d) {
					ours, theirs := p.execute(frame(d.cc, handles, auth, params)), p.o.execute(frame(d.cc, handles, auth, params))
					if code(ours) != code(theirs) && !excused(d, frame(d.cc, handles, auth, params), code(ours), code(theirs)) {
						t.Errorf("%v of %s and %s: ours %v, swtpm %v: %x", d.cc, a, b, code(ours), code(theirs), params)
					}
					if code(theirs) == tpm2.RCSuccess && (d.retHandle || changesSequence[d.cc]) {
						load(a, b)
					}
				}
			}
		}
	}
}

// changesSequence are commands after which a sequence is another or gone.
var changesSequence = map[tpm2.CC]bool{tpm2.CCSequenceUpdate: true, tpm2.CCSequenceComplete: true, tpm2.CCEventSequenceComplete: true}
