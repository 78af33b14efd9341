package tpm

import (
	"bytes"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

// named is a loaded object as go-tpm wants it.
func named(h gotpm.TPMHandle, name gotpm.TPM2BName) gotpm.NamedHandle {
	return gotpm.NamedHandle{Handle: h, Name: name}
}

// primary makes a primary object and gives what authorizes it by an empty
// password.
func primary(t *testing.T, tpm transport.TPM, hierarchy gotpm.TPMHandle, template gotpm.TPMTPublic) (gotpm.AuthHandle, *gotpm.CreatePrimaryResponse) {
	t.Helper()
	r, err := gotpm.CreatePrimary{PrimaryHandle: hierarchy, InPublic: gotpm.New2B(template)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return gotpm.AuthHandle{Handle: r.ObjectHandle, Name: r.Name, Auth: gotpm.PasswordAuth(nil)}, r
}

// sealTemplate is a data object with a password.
var sealTemplate = gotpm.TPMTPublic{
	Type: gotpm.TPMAlgKeyedHash, NameAlg: gotpm.TPMAlgSHA256,
	ObjectAttributes: gotpm.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, NoDA: true},
}

func seal(t *testing.T, tpm transport.TPM, parent gotpm.AuthHandle, auth, data string) *gotpm.CreateResponse {
	t.Helper()
	return sealAs(t, tpm, parent, sealTemplate, auth, data)
}

func sealAs(t *testing.T, tpm transport.TPM, parent gotpm.AuthHandle, template gotpm.TPMTPublic, auth, data string) *gotpm.CreateResponse {
	t.Helper()
	r, err := gotpm.Create{ParentHandle: parent, InPublic: gotpm.New2B(template),
		InSensitive: gotpm.TPM2BSensitiveCreate{Sensitive: &gotpm.TPMSSensitiveCreate{
			UserAuth: gotpm.TPM2BAuth{Buffer: []byte(auth)},
			Data:     gotpm.NewTPMUSensitiveCreate(&gotpm.TPM2BSensitiveData{Buffer: []byte(data)}),
		}}}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// unseal loads a sealed object and gives its data.
func unseal(t *testing.T, tpm transport.TPM, parent gotpm.AuthHandle, public gotpm.TPM2BPublic, private gotpm.TPM2BPrivate, auth string) []byte {
	t.Helper()
	l, err := gotpm.Load{ParentHandle: parent, InPublic: public, InPrivate: private}.Execute(tpm)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	defer flush(t, tpm, l.ObjectHandle)
	u, err := gotpm.Unseal{ItemHandle: gotpm.AuthHandle{Handle: l.ObjectHandle, Name: l.Name,
		Auth: gotpm.HMAC(gotpm.TPMAlgSHA256, 16, gotpm.Auth([]byte(auth)), gotpm.AESEncryption(128, gotpm.EncryptOut))}}.Execute(tpm)
	if err != nil {
		t.Fatalf("Unseal: %v", err)
	}
	return u.OutData.Buffer
}

func flush(t *testing.T, tpm transport.TPM, h gotpm.TPMHandle) {
	t.Helper()
	if _, err := (gotpm.FlushContext{FlushHandle: h}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
}

func TestSealAndUnseal(t *testing.T) {
	tpm := newRig(t, true).gotpm()
	srk, _ := primary(t, tpm, gotpm.TPMRHOwner, gotpm.ECCSRKTemplate)
	s := seal(t, tpm, srk, "auth", "a secret")
	if got := unseal(t, tpm, srk, s.OutPublic, s.OutPrivate, "auth"); string(got) != "a secret" {
		t.Fatalf("%q", got)
	}
}

func TestObjectChangeAuth(t *testing.T) {
	tpm := newRig(t, true).gotpm()
	srk, _ := primary(t, tpm, gotpm.TPMRHOwner, gotpm.ECCSRKTemplate)
	s := seal(t, tpm, srk, "old", "a secret")
	l, err := gotpm.Load{ParentHandle: srk, InPublic: s.OutPublic, InPrivate: s.OutPrivate}.Execute(tpm)
	wantRC(t, "Load", err, tpm2.RCSuccess)
	o := gotpm.AuthHandle{Handle: l.ObjectHandle, Name: l.Name, Auth: gotpm.PasswordAuth([]byte("old"))}
	r, err := gotpm.ObjectChangeAuth{ObjectHandle: o, ParentHandle: srk,
		NewAuth: gotpm.TPM2BAuth{Buffer: []byte("new\x00\x00")}}.Execute(tpm)
	wantRC(t, "ObjectChangeAuth", err, tpm2.RCSuccess)
	if got := unseal(t, tpm, srk, s.OutPublic, r.OutPrivate, "new"); string(got) != "a secret" {
		t.Fatalf("%q", got)
	}
	_, err = gotpm.ObjectChangeAuth{ObjectHandle: o, ParentHandle: named(l.ObjectHandle, l.Name)}.Execute(tpm)
	wantRC(t, "ObjectChangeAuth below another parent", err, tpm2.RCType.H(2))
	_, err = gotpm.ObjectChangeAuth{ObjectHandle: o, ParentHandle: srk,
		NewAuth: gotpm.TPM2BAuth{Buffer: bytes.Repeat([]byte{1}, 33)}}.Execute(tpm)
	wantRC(t, "ObjectChangeAuth to 33 bytes", err, tpm2.RCSize.P(1))
}

// TestCanceledSearch stops a search for primes; nothing is left of it.
func TestCanceledSearch(t *testing.T) {
	r := newRig(t, true)
	parent := r.create(tpm2.RHOwner, eccSRK)
	stop := make(chan struct{})
	close(stop)
	key := rsaKey(signingKey, schemeOf(tpm2.AlgNull))
	for _, cmd := range [][]byte{createPrimaryCmd(tpm2.RHOwner, &key, ""),
		frame(tpm2.CCCreate, []tpm2.Handle{parent}, password(""), buf16([]byte{0, 0, 0, 0}), buf16(tpm2.Marshal(&key)), buf16(nil), u32(0))} {
		resp, commit := r.e.Execute(Request{Cancel: stop}, cmd, nil)
		if code(resp) != tpm2.RCCanceled || commit.Pending() {
			t.Errorf("%v, pending %v", code(resp), commit.Pending())
		}
	}
	if n := r.e.state.objects.Slots; n[1] != nil || n[2] != nil {
		t.Error("something was loaded")
	}
}

func TestTestParms(t *testing.T) {
	p := newTwins(t)
	test := func(what string, parms ...[]byte) {
		p.same(what, frame(tpm2.CCTestParms, nil, nil, parms...))
	}
	for _, pub := range areas() {
		test(pub.Type.String(), tpm2.Marshal(&pub.PublicParms))
	}
	null, aes := u16(uint16(tpm2.AlgNull)), append(u16(uint16(tpm2.AlgAES)), 0, 128, 0, 0x43)
	for _, bits := range []uint16{512, 2048, 3072, 4096} {
		test("RSA", u16(uint16(tpm2.AlgRSA)), null, null, u16(bits), u32(0))
	}
	test("RSA, exponent 3", u16(uint16(tpm2.AlgRSA)), null, null, u16(2048), u32(3))
	test("RSA with ECDSA", u16(uint16(tpm2.AlgRSA)), null, u16(uint16(tpm2.AlgECDSA)), u16(2048), u32(0))
	test("ECC, curve 0x55", u16(uint16(tpm2.AlgECC)), null, null, u16(0x55), null)
	test("AES 111", u16(uint16(tpm2.AlgSymCipher)), u16(uint16(tpm2.AlgAES)), u16(111), u16(0x43))
	test("null cipher", u16(uint16(tpm2.AlgSymCipher)), null)
	test("AES", u16(uint16(tpm2.AlgSymCipher)), aes)
	test("no type", u16(uint16(tpm2.AlgSHA256)))
}
