package crypt

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// response cuts a response with sessions into its parameters.
type response []byte

func (r *response) next2B() []byte {
	n := 2 + int(binary.BigEndian.Uint16(*r))
	b := (*r)[2:n]
	*r = (*r)[n:]
	return b
}

// blobParents are storage keys of each kind, with the symmetric ciphers that
// swtpm implements.
func blobParents(t *testing.T) map[string]tpm2.Public {
	return map[string]tpm2.Public{
		"rsa2048":   storage(tpm2.AlgRSA, 2048, 0, tpm2.AlgSHA256, 128),
		"rsa3072":   storage(tpm2.AlgRSA, 3072, 0, tpm2.AlgSHA384, 256),
		"p256":      storage(tpm2.AlgECC, 0, tpm2.CurveP256, tpm2.AlgSHA256, 128),
		"p384":      storage(tpm2.AlgECC, 0, tpm2.CurveP384, tpm2.AlgSHA512, 256),
		"symcipher": primaryCases(t)[16].public,
	}
}

// TestBlobsAsLibtpms passes children, duplicates and credentials both ways
// between swtpm and this package, below the same parent.
func TestBlobsAsLibtpms(t *testing.T) {
	o := startOracle(t)
	for name, public := range blobParents(t) {
		t.Run(name, func(t *testing.T) {
			o := &oracle{t: t, conn: o.conn, hierarchies: o.hierarchies}
			template := tpm2.Marshal(&public)
			handle, _ := o.createPrimary(rhOwner, template, nil)
			defer o.flush(handle)
			parent := derive(t, o.SPS, nil, template, nil)
			t.Run("its child opens", func(t *testing.T) { theirChild(t, o, handle, parent) })
			t.Run("our child loads", func(t *testing.T) { ourChild(t, o, handle, parent) })
			if public.Type == tpm2.AlgSymCipher {
				return
			}
			t.Run("its credential opens", func(t *testing.T) { theirCredential(t, o, handle, parent) })
			t.Run("our credential is activated", func(t *testing.T) { ourCredential(t, o, handle, parent) })
			t.Run("our duplicate imports", func(t *testing.T) { ourDuplicate(t, o, handle, parent) })
			t.Run("its duplicate opens", func(t *testing.T) { theirDuplicate(t, o, handle, parent) })
		})
	}
}

func sealedTemplate() tpm2.Public {
	return withoutOrigin(keyedHash(attrsPrimary, tpm2.Scheme{Alg: tpm2.AlgNull}))
}

func theirChild(t *testing.T, o *oracle, handle uint32, parent *Key) {
	template := sealedTemplate()
	secret := []byte("a child's secret")
	params := append2B(nil, append([]byte{0, 0}, append2B(nil, secret)...))
	params = append2B(params, tpm2.Marshal(&template))
	r := response(o.run(ccCreate, []uint32{handle}, 1, append(params, 0, 0, 0, 0, 0, 0))[4:])
	private, rawPublic := r.next2B(), r.next2B()
	var public tpm2.Public
	if err := tpm2.Unmarshal(rawPublic, &public); err != nil {
		t.Fatal(err)
	}
	sens, rc := PrivateToSensitive(parent, public.Name(), private)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	if !bytes.Equal(sens.Sensitive, secret) {
		t.Errorf("the child has the secret %q, want %q", sens.Sensitive, secret)
	}
	if _, rc := NewKey(&public, sens, 0, 0); rc != tpm2.RCSuccess {
		t.Errorf("NewKey of the child: %v", rc)
	}
}

func ourChild(t *testing.T, o *oracle, handle uint32, parent *Key) {
	template := sealedTemplate()
	secret := []byte("our child's secret")
	child, rc := CreateObject(&template, nil, secret, &Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	private, rc := SensitiveToPrivate(parent, child.Public.Name(), template.NameAlg, child.Sensitive, rand.Reader)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	o.unsealed(handle, private, &child.Public, secret)
}

// unsealed loads a sealed object and compares what it holds.
func (o *oracle) unsealed(parent uint32, private []byte, public *tpm2.Public, want []byte) {
	o.t.Helper()
	params := append2B(append2B(nil, private), tpm2.Marshal(public))
	loaded := binary.BigEndian.Uint32(o.run(ccLoad, []uint32{parent}, 1, params))
	defer o.flush(loaded)
	r := response(o.run(ccUnseal, []uint32{loaded}, 1, nil)[4:])
	if got := r.next2B(); !bytes.Equal(got, want) {
		o.t.Errorf("swtpm unseals %q, want %q", got, want)
	}
}

func theirCredential(t *testing.T, o *oracle, handle uint32, parent *Key) {
	name := sealedName()
	secret := []byte("their credential")
	params := append2B(append2B(nil, secret), name)
	r := response(o.run(ccMakeCredential, []uint32{handle}, 0, params))
	blob, encrypted := r.next2B(), r.next2B()
	seed, rc := SecretDecrypt(parent, LabelIdentity, nil, encrypted)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	got, rc := CredentialToSecret(parent, seed, name, blob)
	if rc != tpm2.RCSuccess || !bytes.Equal(got, secret) {
		t.Errorf("CredentialToSecret = %q, %v; want %q", got, rc, secret)
	}
	if _, rc := CredentialToSecret(parent, seed, name[1:], blob); rc != tpm2.RCIntegrity {
		t.Errorf("CredentialToSecret for another Name: %v, want TPM_RC_INTEGRITY", rc)
	}
}

func sealedName() tpm2.Name {
	p := sealedTemplate()
	return p.Name()
}

func ourCredential(t *testing.T, o *oracle, handle uint32, parent *Key) {
	secret := []byte("our credential")
	seed, encrypted, rc := SecretEncrypt(parent, LabelIdentity, rand.Reader)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	blob, rc := SecretToCredential(parent, seed, parent.Public.Name(), secret)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	params := append2B(append2B(nil, blob), encrypted)
	r := response(o.run(ccActivateCredential, []uint32{handle, handle}, 2, params)[4:])
	if got := r.next2B(); !bytes.Equal(got, secret) {
		t.Errorf("swtpm activates %q, want %q", got, secret)
	}
}

func ourDuplicate(t *testing.T, o *oracle, handle uint32, parent *Key) {
	template := sealedTemplate()
	template.Attributes &^= tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	secret := []byte("a duplicate's secret")
	object, rc := CreateObject(&template, nil, secret, &Source{Random: rand.Reader})
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	seed, encrypted, rc := SecretEncrypt(parent, LabelDuplicate, rand.Reader)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	inner := tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
	innerKey := bytes.Repeat([]byte{3}, 16)
	name := object.Public.Name()
	blob, rc := SensitiveToDuplicate(parent, seed, name, template.NameAlg, inner, innerKey, object.Sensitive)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	params := append2B(append2B(nil, innerKey), tpm2.Marshal(&object.Public))
	params = append2B(append2B(params, blob), encrypted)
	params = append(params, 0, 6, 0, 128, 0, 0x43)
	r := response(o.run(ccImport, []uint32{handle}, 1, params)[4:])
	o.unsealed(handle, r.next2B(), &object.Public, secret)

	back, rc := DuplicateToSensitive(parent, seed, name, template.NameAlg, inner, innerKey, blob)
	if rc != tpm2.RCSuccess || !bytes.Equal(back.Sensitive, secret) {
		t.Errorf("our own duplicate opens as %v, %v", back, rc)
	}
}

func theirDuplicate(t *testing.T, o *oracle, handle uint32, parent *Key) {
	template := duplicable(t, sealedTemplate())
	object, public := o.createPrimary(rhOwner, tpm2.Marshal(&template), []byte("from theirs"))
	defer o.flush(object)
	var pub tpm2.Public
	if err := tpm2.Unmarshal(public, &pub); err != nil {
		t.Fatal(err)
	}
	r := response(o.duplicateTo(object, handle, template.NameAlg, []byte{0, 0, 0, 6, 0, 128, 0, 0x43}))
	innerKey, blob, encrypted := r.next2B(), r.next2B(), r.next2B()
	seed, rc := SecretDecrypt(parent, LabelDuplicate, nil, encrypted)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	inner := tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
	sens, rc := DuplicateToSensitive(parent, seed, pub.Name(), pub.NameAlg, inner, innerKey, blob)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	if string(sens.Sensitive) != "from theirs" {
		t.Errorf("the duplicate holds %q", sens.Sensitive)
	}
	innerKey[0] ^= 1
	if _, rc := DuplicateToSensitive(parent, seed, pub.Name(), pub.NameAlg, inner, innerKey, blob); rc == tpm2.RCSuccess {
		t.Error("a wrong inner key opens the duplicate")
	}
}
