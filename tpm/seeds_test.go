package tpm

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ashlar-cloud/ashlar/internal/clock"
	"github.com/ashlar-cloud/ashlar/internal/entropy"
	"github.com/ashlar-cloud/ashlar/tpm2"
)

func (o *oracle) gotpm() transport.TPM { return sender(o.execute) }

// all are the secrets in the order of libtpms' PERSISTENT_DATA.
func (s *Seeds) all() [6][]byte {
	return [6][]byte{s.Endorsement[:], s.Owner[:], s.Platform[:], s.PlatformProof[:], s.OwnerProof[:], s.EndorsementProof[:]}
}

// seeds reads the secrets of the hierarchies out of swtpm's state file.
func (o *oracle) seeds() *Seeds {
	o.t.Helper()
	state, err := os.ReadFile(filepath.Join(o.dir, "tpm2-00.permall"))
	if err != nil {
		o.t.Fatal(err)
	}
	s := new(Seeds)
	for i, from := range o.seedsIn(state) {
		copy(s.all()[i], from)
	}
	return s
}

// seedsIn finds the secrets in a state: PERSISTENT_DATA of version 4 has, after
// its header, disableClear, three algorithms, three policies, three
// authorization values, then the seeds and proofs.
func (o *oracle) seedsIn(state []byte) (list [6][]byte) {
	o.t.Helper()
	at := bytes.Index(state, []byte{0, 4, 0x12, 0x21, 0x34, 0x43, 0, 4})
	if at < 0 {
		o.t.Skip("the state that this swtpm writes has no PERSISTENT_DATA of version 4")
	}
	rest := state[at+8+1+3*2:]
	next := func() []byte {
		n := int(binary.BigEndian.Uint16(rest))
		b := rest[2 : 2+n]
		rest = rest[2+n:]
		return b
	}
	for range 6 {
		next()
	}
	for i := range list {
		if list[i] = next(); len(list[i]) != 64 {
			o.t.Fatal("a seed or proof has not 64 bytes")
		}
	}
	return list
}

// newTwins powers on and starts two TPMs with the same seeds.
func newTwins(t *testing.T) *pair {
	t.Helper()
	o := newOracle(t)
	o.execute(startupCmd(tpm2.SUClear)) // only then is there a state file
	r := &rig{t: t, clock: new(clock.Manual)}
	r.cfg = Config{Clock: r.clock, Entropy: entropy.Replay(1)}
	state, err := Manufacture(r.cfg, Options{Seeds: o.seeds()})
	if err != nil {
		t.Fatal(err)
	}
	r.power(state)
	r.execute(startupCmd(tpm2.SUClear))
	return &pair{rig: r, o: o}
}

// createPrimaryCmd has an empty authorization value.
func createPrimaryCmd(hierarchy tpm2.Handle, template *tpm2.Public, data string) []byte {
	sensitive := append(buf16(nil), buf16([]byte(data))...)
	return frame(tpm2.CCCreatePrimary, []tpm2.Handle{hierarchy}, password(""), buf16(sensitive),
		buf16(tpm2.Marshal(template)), buf16([]byte("outside")), u32(1), []byte{0, 11, 3, 1, 0, 0x80})
}

func flushCmd(h tpm2.Handle) []byte { return frame(tpm2.CCFlushContext, nil, nil, u32(uint32(h))) }

// storageKey is the template of a parent.
func storageKey(pub tpm2.Public) tpm2.Public {
	pub.Attributes = tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjSensitiveDataOrigin |
		tpm2.ObjUserWithAuth | tpm2.ObjRestricted | tpm2.ObjDecrypt | tpm2.ObjNoDA
	pub.Symmetric = tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
	return pub
}

// TestSameSeedsSamePrimaries compares whole answers: handle, public area,
// creation data, ticket and Name.
func TestSameSeedsSamePrimaries(t *testing.T) {
	p := newTwins(t)
	null := tpm2.Scheme{Alg: tpm2.AlgNull}
	rsa3072 := storageKey(rsaKey(0, null))
	rsa3072.KeyBits, rsa3072.NameAlg, rsa3072.Symmetric.KeyBits = 3072, tpm2.AlgSHA384, 256
	rsa1024 := rsaKey(signingKey, null)
	rsa1024.KeyBits = 1024
	stClear := eccKey(signingKey|tpm2.ObjSTClear, schemeOf(tpm2.AlgECDSA), tpm2.CurveP384)
	unique := storageKey(eccKey(0, null, tpm2.CurveP256))
	unique.Point.X = []byte("a unique value")
	type primaryCase struct {
		template tpm2.Public
		data     string
	}
	cases := map[string]primaryCase{
		"RSA 2048":  {storageKey(rsaKey(0, null)), ""},
		"RSA 3072":  {rsa3072, ""},
		"RSA 1024":  {rsa1024, ""},
		"P-256":     {storageKey(eccKey(0, null, tpm2.CurveP256)), ""},
		"P-384":     {stClear, ""},
		"unique":    {unique, ""},
		"sensitive": {unique, "what the caller adds"},
		"symmetric": {storageKey(aesKey(0, tpm2.AlgCFB)), ""},
		"HMAC":      {hmacKey(signingKey, schemeOf(tpm2.AlgHMAC)), ""},
		"sealed":    {hmacKey(tpm2.ObjUserWithAuth, null), "a secret"},
		"AES":       {aesKey(usable&^tpm2.ObjSensitiveDataOrigin|tpm2.ObjDecrypt|tpm2.ObjSign, tpm2.AlgNull), "0123456789abcdef"},
	}
	for _, curve := range nullProfile.impl.Curves {
		cases["signing on "+curve.String()] = primaryCase{eccKey(signingKey, schemeOf(tpm2.AlgECDSA), curve), ""}
	}
	for name, c := range cases {
		for _, h := range []tpm2.Handle{tpm2.RHOwner, tpm2.RHEndorsement, tpm2.RHPlatform} {
			if name == "RSA 3072" && h != tpm2.RHEndorsement {
				continue // a second or more each on swtpm
			}
			resp := p.expect(tpm2.RCSuccess, name, createPrimaryCmd(h, &c.template, c.data))
			if code(resp) == tpm2.RCSuccess {
				p.expect(tpm2.RCSuccess, name, frame(tpm2.CCReadPublic, []tpm2.Handle{tpm2.TransientFirst}, nil))
				p.expect(tpm2.RCSuccess, name, flushCmd(tpm2.TransientFirst))
			}
		}
	}
}

// ekAuth authorizes an EK by its policy, PolicySecret of the endorsement
// hierarchy.
func ekAuth(tpm transport.TPM) gotpm.Session {
	return gotpm.Policy(gotpm.TPMAlgSHA256, 16, func(_ transport.TPM, s gotpm.TPMISHPolicy, nonce gotpm.TPM2BNonce) error {
		_, err := gotpm.PolicySecret{AuthHandle: gotpm.AuthHandle{Handle: gotpm.TPMRHEndorsement,
			Auth: gotpm.PasswordAuth(nil)}, PolicySession: s, NonceTPM: nonce}.Execute(tpm)
		return err
	})
}

// parents are the storage keys that Linux and Windows use.
var parents = []struct {
	name      string
	hierarchy gotpm.TPMHandle
	template  gotpm.TPMTPublic
	policy    bool
}{
	{"RSA SRK", gotpm.TPMRHOwner, gotpm.RSASRKTemplate, false},
	{"ECC SRK", gotpm.TPMRHOwner, gotpm.ECCSRKTemplate, false},
	{"RSA EK", gotpm.TPMRHEndorsement, gotpm.RSAEKTemplate, true},
	{"ECC EK", gotpm.TPMRHEndorsement, gotpm.ECCEKTemplate, true},
}

// TestSameSeedsSameProtection seals below the SRK and the EK of one TPM, and
// unseals on the other, both ways.
func TestSameSeedsSameProtection(t *testing.T) {
	p := newTwins(t)
	tpms := []struct {
		name string
		transport.TPM
	}{{"ours", p.gotpm()}, {"swtpm", p.o.gotpm()}}
	for _, parent := range parents {
		t.Run(parent.name, func(t *testing.T) {
			var keys [2]gotpm.AuthHandle
			var publics [2][]byte
			for i, tpm := range tpms {
				var r *gotpm.CreatePrimaryResponse
				keys[i], r = primary(t, tpm, parent.hierarchy, parent.template)
				defer flush(t, tpm, keys[i].Handle)
				publics[i] = gotpm.Marshal(r.OutPublic)
			}
			if !bytes.Equal(publics[0], publics[1]) {
				t.Fatalf("other keys:\n%x\n%x", publics[0], publics[1])
			}
			use := func(i int) gotpm.AuthHandle {
				k := keys[i]
				if parent.policy {
					k.Auth = ekAuth(tpms[i])
				}
				return k
			}
			for from, to := range []int{1, 0} {
				secret := "a secret of " + tpms[from].name
				s := seal(t, tpms[from], use(from), "auth", secret)
				if got := unseal(t, tpms[to], use(to), s.OutPublic, s.OutPrivate, "auth"); string(got) != secret {
					t.Errorf("%s unseals %q, want %q", tpms[to].name, got, secret)
				}
			}
		})
	}
}

// TestSameSeedsSameCredentials makes a credential on each TPM and activates it
// on the other.
func TestSameSeedsSameCredentials(t *testing.T) {
	p := newTwins(t)
	tpms := []transport.TPM{p.gotpm(), p.o.gotpm()}
	for name, template := range map[string]gotpm.TPMTPublic{"RSA": gotpm.RSAEKTemplate, "ECC": gotpm.ECCEKTemplate} {
		t.Run(name, func(t *testing.T) { exchangeCredentials(t, tpms, template) })
	}
}

func exchangeCredentials(t *testing.T, tpms []transport.TPM, template gotpm.TPMTPublic) {
	var eks, aks [2]gotpm.AuthHandle
	for i, tpm := range tpms {
		eks[i], _ = primary(t, tpm, gotpm.TPMRHEndorsement, template)
		defer flush(t, tpm, eks[i].Handle)
		aks[i], _ = primary(t, tpm, gotpm.TPMRHOwner, gotpm.ECCSRKTemplate)
		defer flush(t, tpm, aks[i].Handle)
	}
	for from, to := range []int{1, 0} {
		m, err := gotpm.MakeCredential{Handle: eks[from].Handle, ObjectName: aks[to].Name,
			Credential: gotpm.TPM2BDigest{Buffer: []byte("credential")}}.Execute(tpms[from])
		wantRC(t, "MakeCredential", err, tpm2.RCSuccess)
		ek := eks[to]
		ek.Auth = ekAuth(tpms[to])
		a, err := gotpm.ActivateCredential{ActivateHandle: aks[to], KeyHandle: ek,
			CredentialBlob: m.CredentialBlob, Secret: m.Secret}.Execute(tpms[to])
		wantRC(t, "ActivateCredential", err, tpm2.RCSuccess)
		if string(a.CertInfo.Buffer) != "credential" {
			t.Errorf("activated %q", a.CertInfo.Buffer)
		}
	}
}
