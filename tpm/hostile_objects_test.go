package tpm

import (
	"fmt"
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

func ptr[T any](v T) *T { return &v }

// TestEveryObjectForEveryHandle uses objects of every kind where a command has a
// handle of an object: whatever they are, the TPM answers.
func TestEveryObjectForEveryHandle(t *testing.T) {
	r := fullRig(t, true)
	kinds := strangeObjects(t, r)
	r.e.state.objects = object.State{}
	h := newHistory(1)
	before := r.e.state
	ran := map[tpm2.RC]int{}
	for i := range registry.list {
		d := &registry.list[i]
		if len(d.handles) == 0 || !d.handles[0].kind.allows(tpm2.TransientFirst) && (len(d.handles) == 1 || !d.handles[1].kind.allows(tpm2.TransientFirst)) {
			continue
		}
		list := good(d.cc)
		if b, ok := sample(d); ok {
			list = append(list, b)
		}
		for nameA, a := range kinds {
			for nameB, b := range kinds {
				if len(d.handles) == 1 && nameA != nameB {
					continue
				}
				var handles []tpm2.Handle
				var auth []byte
				for k, x := range d.handles {
					handles = append(handles, tpm2.TransientFirst+tpm2.Handle(k%2))
					if !x.kind.allows(tpm2.TransientFirst) {
						handles[k] = h.handleFor(x.kind)
					}
					if x.role != authNone {
						auth = append(auth, password("")...)
					}
				}
				for _, params := range list {
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
