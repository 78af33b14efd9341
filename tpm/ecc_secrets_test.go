package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// TestSecretsOnEveryCurve exchanges secrets between two TPMs with the same seeds,
// by parents on every curve: credentials, duplicates, and salts of sessions.
func TestSecretsOnEveryCurve(t *testing.T) {
	p := newTwins(t)
	const parent, object = tpm2.TransientFirst, tpm2.TransientFirst + 1
	movable := hmacKey(tpm2.ObjUserWithAuth|tpm2.ObjNoDA, schemeOf(tpm2.AlgNull))
	movable.AuthPolicy = dupPolicy()
	for _, curve := range nullProfile.impl.Curves {
		template := storageKey(eccKey(0, tpm2.Scheme{Alg: tpm2.AlgNull}, curve))
		template.NameAlg = tpm2.HashAlgs()[int(curve)%3+1]
		p.expect(tpm2.RCSuccess, "a parent", createPrimaryCmd(tpm2.RHOwner, &template, ""))
		p.expect(tpm2.RCSuccess, "an object", createPrimaryCmd(tpm2.RHOwner, &movable, "a secret"))
		name := buf16(p.e.entityName(object))
		var plain [2][]byte
		both := p.tpms()
		for i, from := range both {
			to := both[1-i]
			what := fmt.Sprintf("%v, from %s to %s", curve, from.name, to.name)
			made := answer(t, what, from.run(frame(tpm2.CCMakeCredential, []tpm2.Handle{parent}, nil, buf16([]byte("credential")), name)))
			opened := answer(t, what, to.run(frame(tpm2.CCActivateCredential, []tpm2.Handle{object, parent}, noAuths(2), made)))
			if !bytes.Equal(opened, buf16([]byte("credential"))) {
				t.Errorf("%s: the credential is %x", what, opened)
			}

			const s = tpm2.PolicySessionFirst
			from.run(startSessionCmd(tpm2.SEPolicy))
			from.run(frame(tpm2.CCPolicyCommandCode, []tpm2.Handle{s}, nil, u32(uint32(tpm2.CCDuplicate))))
			duplicate, seed := duplicateOf(t, from.run(frame(tpm2.CCDuplicate, []tpm2.Handle{object, parent}, policy(s),
				buf16(nil), u16(uint16(tpm2.AlgNull)))), 1)
			from.run(flushCmd(s))
			plain[i], _ = duplicateOf(t, to.run(frame(tpm2.CCRewrap, []tpm2.Handle{parent, tpm2.RHNull}, password(""),
				buf16(duplicate), name, buf16(seed))), 0)

			saltedSession(t, what, from.run, &p.e.state.objects.Get(parent).Public, parent)
		}
		if !bytes.Equal(plain[0], plain[1]) || len(plain[0]) == 0 {
			t.Errorf("%v: the duplicates are not the same inside: %x and %x", curve, plain[0], plain[1])
		}
		p.flush(object)
		p.flush(parent)
	}
}

// saltedSession starts a session with a salt for a key and runs a command that
// the session must vouch for.
func saltedSession(t *testing.T, what string, run func([]byte) []byte, public *tpm2.Public, key tpm2.Handle) {
	t.Helper()
	parent, rc := crypt.NewKey(public, nil, 0, 0)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	salt, secret, rc := crypt.SecretEncrypt(parent, crypt.LabelSecret, entropy.Replay(3))
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	const hash = tpm2.AlgSHA256
	nonce := bytes.Repeat([]byte{5}, 16)
	body := answer(t, what, run(frame(tpm2.CCStartAuthSession, []tpm2.Handle{key, tpm2.RHNull}, nil, buf16(nonce), buf16(secret),
		[]byte{0}, u16(uint16(tpm2.AlgNull)), u16(uint16(hash)))))
	s := tpm2.Handle(binary.BigEndian.Uint32(body))
	nonceTPM, _, _ := cutSized(body[4:])
	session := crypt.KDFa(hash, salt, crypt.LabelSession, nonceTPM, nonce, 256)
	command := hash.Digest(u32(uint32(tpm2.CCGetRandom)), u16(8))
	const attrs = byte(0x80) // audit, and the session ends
	mac := crypt.HMAC(hash, session, command, nonce, nonceTPM, []byte{attrs})
	area := append(append(append(u32(uint32(s)), buf16(nonce)...), attrs), buf16(mac)...)
	if rc := code(run(frame(tpm2.CCGetRandom, nil, area, u16(8)))); rc != tpm2.RCSuccess {
		t.Errorf("%s: the session with a salt: %v", what, rc)
	}
}
