package tpm

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm/internal/crypt"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

// ruled makes a started TPM whose custom profile has the attributes.
func ruled(t *testing.T, attributes string) *rig {
	return chosenRig(t, `{"Name":"custom","Attributes":"`+attributes+`"}`)
}

// TestSHA1Rules signs and verifies with SHA-1 where the profile forbids the one,
// the other, or neither.
func TestSHA1Rules(t *testing.T) {
	sha1 := func(alg tpm2.AlgID) tpm2.Scheme { return tpm2.Scheme{Alg: alg, Hash: tpm2.AlgSHA1} }
	digest := tpm2.AlgSHA1.Digest()
	for _, c := range []struct {
		rules        string
		key          tpm2.Public
		sign, verify tpm2.RC
	}{
		{"", rsaKey(signingKey, sha1(tpm2.AlgRSASSA)), 0, 0},
		{"no-sha1-signing", rsaKey(signingKey, sha1(tpm2.AlgRSASSA)), tpm2.RCHash, 0},
		{"no-sha1-signing", rsaKey(signingKey, sha1(tpm2.AlgRSAPSS)), tpm2.RCHash, 0},
		{"no-sha1-verification", eccKey(signingKey, sha1(tpm2.AlgECDSA), tpm2.CurveP256), 0, tpm2.RCHash.P(2)},
		{"fips-host", eccKey(signingKey, sha1(tpm2.AlgECDSA), tpm2.CurveP256), tpm2.RCHash, tpm2.RCHash.P(2)},
		{"fips-host", eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256), 0, 0},
		{"fips-host", hmacKey(signingKey, sha1(tpm2.AlgHMAC)), 0, 0},
		{"no-sha1-hmac", rsaKey(signingKey, sha1(tpm2.AlgRSASSA)), 0, 0},
		{"no-sha1-hmac-creation", hmacKey(signingKey, sha1(tpm2.AlgHMAC)), tpm2.RCHash, 0},
		{"no-sha1-hmac-verification", hmacKey(signingKey, sha1(tpm2.AlgHMAC)), 0, tpm2.RCHash.P(2)},
		{"no-sha1-hmac", hmacKey(signingKey, sha1(tpm2.AlgHMAC)), tpm2.RCHash, tpm2.RCHash.P(2)},
	} {
		r := ruled(t, c.rules)
		h := r.addKey(c.key, tpm2.RHOwner)
		digest := digest
		if c.key.Scheme.Hash != tpm2.AlgSHA1 {
			digest = c.key.Scheme.Hash.Digest()
		}
		r.must(c.sign, tpm2.CCSign, []tpm2.Handle{h}, password(""), buf16(digest), u16(uint16(tpm2.AlgNull)), nullHashCheck)
		r.must(c.sign, tpm2.CCGetTime, []tpm2.Handle{tpm2.RHEndorsement, h}, noAuths(2), buf16(nil), u16(uint16(tpm2.AlgNull)))
		// The signature to verify is made where all may sign.
		free := newRig(t, true)
		free.e.state.objects = r.e.state.objects
		body := free.must(0, tpm2.CCSign, []tpm2.Handle{h}, password(""), buf16(digest), u16(uint16(tpm2.AlgNull)), nullHashCheck)
		r.must(c.verify, tpm2.CCVerifySignature, []tpm2.Handle{h}, nil, buf16(digest), params(t, body))
	}
}

// TestMACRules makes HMACs where the profile forbids SHA-1 or short keys.
func TestMACRules(t *testing.T) {
	r := ruled(t, "no-sha1-hmac-creation")
	h := r.addKey(hmacKey(signingKey, tpm2.Scheme{Alg: tpm2.AlgNull}), tpm2.RHOwner)
	for alg, want := range map[tpm2.AlgID]tpm2.RC{tpm2.AlgSHA1: tpm2.RCHash, tpm2.AlgSHA256: tpm2.RCSuccess} {
		r.must(want, tpm2.CCHMAC, []tpm2.Handle{h}, password(""), buf16(nil), u16(uint16(alg)))
		r.must(want, tpm2.CCHMACStart, []tpm2.Handle{h}, password(""), buf16(nil), u16(uint16(alg)))
	}

	r = chosenRig(t, customAlgorithms(algorithmsWithout("", "hmac-min-key-size=264")))
	h = r.addKey(hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), tpm2.RHOwner) // of 256 bits
	digest := tpm2.AlgSHA256.Digest()
	r.must(tpm2.RCKeySize, tpm2.CCSign, []tpm2.Handle{h}, password(""), buf16(digest), u16(uint16(tpm2.AlgNull)), nullHashCheck)
	sig := tpm2.Signature{Alg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA256, HMAC: digest}
	r.must(tpm2.RCKeySize.P(2), tpm2.CCVerifySignature, []tpm2.Handle{h}, nil, buf16(digest), tpm2.Marshal(&sig))
}

// TestPaddingRule encrypts without a padding where the profile forbids it.
func TestPaddingRule(t *testing.T) {
	r := ruled(t, "no-unpadded-encryption")
	h := r.addKey(rsaKey(usable|tpm2.ObjDecrypt, tpm2.Scheme{Alg: tpm2.AlgNull}), tpm2.RHOwner)
	null, rsaes := u16(uint16(tpm2.AlgNull)), u16(uint16(tpm2.AlgRSAES))
	r.must(tpm2.RCScheme, tpm2.CCRSAEncrypt, []tpm2.Handle{h}, nil, buf16([]byte{1}), null, buf16(nil))
	r.must(tpm2.RCScheme, tpm2.CCRSADecrypt, []tpm2.Handle{h}, password(""), buf16(make([]byte, 256)), null, buf16(nil))
	secret := r.must(tpm2.RCSuccess, tpm2.CCRSAEncrypt, []tpm2.Handle{h}, nil, buf16([]byte{1}), rsaes, buf16(nil))
	r.must(tpm2.RCSuccess, tpm2.CCRSADecrypt, []tpm2.Handle{h}, password(""), secret, rsaes, buf16(nil))
}

// TestDerivationRule derives keys where the profile lets only keys that are not
// ECC be derived.
func TestDerivationRule(t *testing.T) {
	r := ruled(t, "no-ecc-key-derivation")
	h := r.addKey(derivationParent(tpm2.AlgSHA256), tpm2.RHOwner)
	template := func(pub tpm2.Public) []byte {
		return createLoadedCmd(h, "", "", derived(pub, tpm2.ObjUserWithAuth|tpm2.ObjNoDA|tpm2.ObjSign, "label", "context"))
	}
	if rc := code(r.execute(template(eccKey(0, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256)))); rc != tpm2.RCType.P(2) {
		t.Errorf("an ECC key: %v", rc)
	}
	for _, cc := range tpm2.CommandCodes() {
		want := tpm2.RCSuccess
		if cc == tpm2.CCCommit || cc == tpm2.CCECEphemeral || cc == tpm2.CCZGen2Phase {
			want = tpm2.RCType
		}
		if rc := r.e.mayRun(cc); rc != want {
			t.Errorf("%v: %v, want %v", cc, rc, want)
		}
	}
	if rc := code(r.execute(template(hmacKey(0, schemeOf(tpm2.AlgHMAC))))); rc != tpm2.RCSuccess {
		t.Errorf("an HMAC key: %v", rc)
	}
}

// TestNewKeysProveThemselves makes keys under the pairwise test, and shows it
// keys that do not fit together.
func TestNewKeysProveThemselves(t *testing.T) {
	r := ruled(t, "pct")
	for _, template := range []tpm2.Public{
		rsaKey(signingKey, schemeOf(tpm2.AlgRSAPSS)),
		eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP384),
		eccKey(usable|tpm2.ObjDecrypt, tpm2.Scheme{Alg: tpm2.AlgNull}, tpm2.CurveP256),
	} {
		r.must(tpm2.RCSuccess, tpm2.CCCreatePrimary, []tpm2.Handle{tpm2.RHOwner}, password(""),
			buf16(make([]byte, 4)), buf16(tpm2.Marshal(&template)), buf16(nil), u32(0))
		r.must(tpm2.RCSuccess, tpm2.CCFlushContext, nil, nil, u32(uint32(tpm2.TransientFirst)))
	}
	// The private part of one key with the public part of another: without a
	// name algorithm nothing else compares them.
	template := eccKey(signingKey, schemeOf(tpm2.AlgECDSA), tpm2.CurveP256)
	key, other := newKey(t, template), newKey(t, template)
	pub := other.Public.Clone()
	pub.NameAlg = tpm2.AlgNull
	bad, rc := crypt.NewKey(&pub, key.Sensitive, 1, 2)
	if rc != tpm2.RCSuccess {
		t.Fatal(rc)
	}
	defer func() {
		if recover() == nil {
			t.Error("a key that does not fit is taken")
		}
	}()
	r.e.checkNewKey(bad)
}

// stuck gives the same block for ever.
type stuck struct{}

func (stuck) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte{7}, len(p))), nil }

// TestContinuousRandom fails when a block comes twice, also where reads are
// shorter than a block, and passes others on.
func TestContinuousRandom(t *testing.T) {
	c := &continuous{source: stuck{}}
	if _, err := io.ReadFull(c, make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); !errors.Is(err, errStuck) {
		t.Fatalf("a block came twice: %v", err)
	}
	r := ruled(t, "drbg-continous-test")
	r.must(tpm2.RCSuccess, tpm2.CCGetRandom, nil, nil, u16(33))
	r.e.cfg.Entropy.(*continuous).source = stuck{}
	r.must(tpm2.RCFailure, tpm2.CCGetRandom, nil, nil, u16(32))
	r.must(tpm2.RCFailure, tpm2.CCGetRandom, nil, nil, u16(1))
}
