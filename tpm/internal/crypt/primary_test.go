package crypt

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ashlar-cloud/ashlar/tpm2"
)

const (
	attrsPrimary = tpm2.ObjFixedTPM | tpm2.ObjFixedParent | tpm2.ObjSensitiveDataOrigin | tpm2.ObjUserWithAuth
	attrsParent  = attrsPrimary | tpm2.ObjRestricted | tpm2.ObjDecrypt
)

// primaryCase is a template of a primary object.
type primaryCase struct {
	name      string
	hierarchy uint32
	public    tpm2.Public
	data      []byte
}

func storage(alg tpm2.AlgID, bits uint16, curve tpm2.ECCCurve, hash tpm2.AlgID, aes uint16) tpm2.Public {
	null := tpm2.Scheme{Alg: tpm2.AlgNull}
	return tpm2.Public{
		PublicParms: tpm2.PublicParms{
			Type:      alg,
			Symmetric: tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: aes, Mode: tpm2.AlgCFB},
			Scheme:    null, KDF: null, KeyBits: bits, Curve: curve,
		},
		NameAlg: hash, Attributes: attrsParent,
	}
}

func signing(p tpm2.Public, scheme, hash tpm2.AlgID) tpm2.Public {
	p.Attributes = attrsPrimary | tpm2.ObjSign
	p.Symmetric = tpm2.SymDef{Alg: tpm2.AlgNull}
	p.Scheme = tpm2.Scheme{Alg: scheme, Hash: hash}
	return p
}

func keyedHash(attrs tpm2.ObjectAttributes, scheme tpm2.Scheme) tpm2.Public {
	return tpm2.Public{
		PublicParms: tpm2.PublicParms{Type: tpm2.AlgKeyedHash, Scheme: scheme},
		NameAlg:     tpm2.AlgSHA256, Attributes: attrs,
	}
}

func primaryCases(t testing.TB) []primaryCase {
	rsa2048 := storage(tpm2.AlgRSA, 2048, 0, tpm2.AlgSHA256, 128)
	rsa3072 := storage(tpm2.AlgRSA, 3072, 0, tpm2.AlgSHA384, 256)
	p256 := storage(tpm2.AlgECC, 0, tpm2.CurveP256, tpm2.AlgSHA256, 128)
	p384 := storage(tpm2.AlgECC, 0, tpm2.CurveP384, tpm2.AlgSHA384, 256)
	p256sha512 := storage(tpm2.AlgECC, 0, tpm2.CurveP256, tpm2.AlgSHA512, 128)
	sym := tpm2.Public{
		PublicParms: tpm2.PublicParms{Type: tpm2.AlgSymCipher,
			Symmetric: tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}},
		NameAlg: tpm2.AlgSHA256, Attributes: attrsParent,
	}
	symKey := sym
	symKey.Symmetric = tpm2.SymDef{Alg: tpm2.AlgAES, KeyBits: 256, Mode: tpm2.AlgCTR}
	symKey.Attributes = attrsPrimary | tpm2.ObjDecrypt | tpm2.ObjSign
	symKey.NameAlg = tpm2.AlgSHA1
	unique := rsa2048.Clone()
	unique.Unique = bytes.Repeat([]byte{7}, 256)
	hmac := tpm2.Scheme{Alg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA384}
	exponent := signing(rsa2048, tpm2.AlgRSAPSS, tpm2.AlgSHA256)
	exponent.Exponent = 65539
	return []primaryCase{
		{"rsa2048 endorsement", rhEndorsement, ekRSA(t), nil},
		{"ecc endorsement", rhEndorsement, ekECC(t), nil},
		{"rsa3072 endorsement", rhEndorsement, rsa3072, nil},
		{"p384 endorsement", rhEndorsement, p384, nil},
		{"rsa2048 owner", rhOwner, rsa2048, nil},
		{"rsa3072 owner", rhOwner, rsa3072, nil},
		{"p256 owner", rhOwner, p256, nil},
		{"p384 owner", rhOwner, p384, nil},
		{"p256 sha512 owner", rhOwner, p256sha512, nil},
		{"rsa2048 platform", rhPlatform, rsa2048, nil},
		{"p256 platform", rhPlatform, p256, nil},
		{"rsa2048 unique", rhOwner, unique, nil},
		{"p256 data", rhOwner, p256, []byte("caller's data")},
		{"rsa2048 signing", rhOwner, signing(rsa2048, tpm2.AlgRSASSA, tpm2.AlgSHA256), nil},
		{"rsa2048 exponent 65539", rhOwner, exponent, nil},
		{"p256 signing", rhOwner, signing(p256, tpm2.AlgECDSA, tpm2.AlgSHA256), nil},
		{"symmetric parent", rhOwner, sym, nil},
		{"symmetric key", rhEndorsement, symKey, nil},
		{"symmetric key given", rhPlatform, withoutOrigin(symKey), bytes.Repeat([]byte{9}, 32)},
		{"hmac key", rhOwner, keyedHash(attrsPrimary|tpm2.ObjSign, hmac), nil},
		{"hmac key given", rhOwner, withoutOrigin(keyedHash(attrsPrimary|tpm2.ObjSign, hmac)), []byte("key")},
		{"sealed", rhEndorsement,
			withoutOrigin(keyedHash(attrsPrimary, tpm2.Scheme{Alg: tpm2.AlgNull})), []byte("sealed data")},
		{"rsa2048 owner, whole", rhOwner, duplicable(t, rsa2048), nil},
		{"rsa3072 endorsement, whole", rhEndorsement, duplicable(t, rsa3072), nil},
		{"p256 endorsement, whole", rhEndorsement, duplicable(t, p256), nil},
		{"p384 owner, whole", rhOwner, duplicable(t, p384), nil},
		{"p256 signing, whole", rhPlatform, duplicable(t, signing(p256, tpm2.AlgECDSA, tpm2.AlgSHA256)), nil},
		{"rsa2048 signing, whole", rhEndorsement, duplicable(t, signing(rsa2048, tpm2.AlgRSASSA, tpm2.AlgSHA256)), nil},
		{"symmetric parent, whole", rhEndorsement, duplicable(t, sym), nil},
		{"hmac key, whole", rhEndorsement, duplicable(t, keyedHash(attrsPrimary|tpm2.ObjSign, hmac)), nil},
	}
}

func withoutOrigin(p tpm2.Public) tpm2.Public {
	p.Attributes &^= tpm2.ObjSensitiveDataOrigin
	return p
}

// ekRSA and ekECC are the default templates of the TCG EK Credential Profile
// (L-1 and L-2).
func ekRSA(t testing.TB) tpm2.Public {
	p := storage(tpm2.AlgRSA, 2048, 0, tpm2.AlgSHA256, 128)
	p.Unique = make([]byte, 256)
	return asEK(t, p)
}

func ekECC(t testing.TB) tpm2.Public {
	p := storage(tpm2.AlgECC, 0, tpm2.CurveP256, tpm2.AlgSHA256, 128)
	p.Point = tpm2.ECCPoint{X: make([]byte, 32), Y: make([]byte, 32)}
	return asEK(t, p)
}

func asEK(t testing.TB, p tpm2.Public) tpm2.Public {
	p.Attributes = p.Attributes&^tpm2.ObjUserWithAuth | tpm2.ObjAdminWithPolicy
	p.AuthPolicy = unhex(t, "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
	return p
}

// duplicable lets the oracle hand the sensitive area out.
func duplicable(t testing.TB, p tpm2.Public) tpm2.Public {
	p.Attributes &^= tpm2.ObjFixedTPM | tpm2.ObjFixedParent
	p.AuthPolicy = duplicatePolicy(p.NameAlg)
	return p
}

// vector is a primary object as libtpms 0.9.2 made it.
type vector struct {
	Name      string   `json:"name"`
	Hierarchy uint32   `json:"hierarchy"`
	Seed      string   `json:"seed"`
	Proofs    []string `json:"proofs,omitempty"` // shProof, ehProof
	Template  string   `json:"template"`
	Data      string   `json:"data,omitempty"`
	Public    string   `json:"public"`
	Sensitive string   `json:"sensitive,omitempty"` // of objects that can be duplicated
}

const vectorFile = "testdata/primaries.json"

var update = flag.Bool("update", false, "write "+vectorFile+" from what swtpm answers")

func TestPrimariesAsLibtpms(t *testing.T) {
	o := startOracle(t)
	var vectors []vector
	for _, c := range primaryCases(t) {
		t.Run(c.name, func(t *testing.T) {
			template := tpm2.Marshal(&c.public)
			handle, public := o.createPrimary(c.hierarchy, template, c.data)
			defer o.flush(handle)
			seed, proofs := o.secrets(c.hierarchy)
			v := vector{
				Name: c.name, Hierarchy: c.hierarchy, Seed: hex.EncodeToString(seed),
				Template: hex.EncodeToString(template), Data: hex.EncodeToString(c.data),
				Public: hex.EncodeToString(public),
			}
			for _, p := range proofs {
				v.Proofs = append(v.Proofs, hex.EncodeToString(p))
			}
			if !c.public.Attributes.Has(tpm2.ObjFixedParent) {
				v.Sensitive = hex.EncodeToString(o.duplicate(handle, c.public.NameAlg))
			}
			v.check(t)
			vectors = append(vectors, v)
		})
	}
	if *update && !t.Failed() {
		out, err := json.MarshalIndent(vectors, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorFile, append(out, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPrimaryVectors(t *testing.T) {
	raw, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 20 {
		t.Fatalf("%s has %d vectors only", vectorFile, len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, v.check)
	}
}

func (v vector) check(t *testing.T) {
	var proofs [][]byte
	for _, p := range v.Proofs {
		proofs = append(proofs, unhex(t, p))
	}
	k := derive(t, unhex(t, v.Seed), proofs, unhex(t, v.Template), unhex(t, v.Data))
	if got := hex.EncodeToString(tpm2.Marshal(&k.Public)); got != v.Public {
		t.Errorf("public area\n got %s\nwant %s", got, v.Public)
	}
	if v.Sensitive == "" {
		return
	}
	if got := hex.EncodeToString(tpm2.Marshal(k.Sensitive)); got != v.Sensitive {
		t.Errorf("sensitive area\n got %s\nwant %s", got, v.Sensitive)
	}
}

// derive makes a primary object as CreatePrimary does.
func derive(t testing.TB, seed []byte, proofs [][]byte, template, data []byte) *Key {
	t.Helper()
	var pub tpm2.Public
	if err := tpm2.Unmarshal(template, &pub); err != nil {
		t.Fatal(err)
	}
	src := &Source{Primary: NewPrimaryDRBG(seed, SeedLatest, pub.Name(), data), Proofs: proofs}
	k, rc := CreateObject(&pub, make([]byte, pub.NameAlg.DigestSize()), data, src)
	if rc != tpm2.RCSuccess {
		t.Fatalf("CreateObject: %v", rc)
	}
	if _, rc := NewKey(&k.Public, k.Sensitive, 1, 2); rc != tpm2.RCSuccess {
		t.Errorf("NewKey of the object that was created: %v", rc)
	}
	return k
}

// TestPanicOfAWorker: a panic in a goroutine of a search reaches who asked for
// it, when all others are done.
func TestPanicOfAWorker(t *testing.T) {
	for bad := range 4 {
		var done atomic.Int32
		func() {
			defer func() {
				if r, ok := recover().(string); !ok || !strings.HasPrefix(r, "a defect") || done.Load() != 3 {
					t.Errorf("worker %d: %v when %d were done", bad, r, done.Load())
				}
			}()
			runAll(4, func(i int) {
				if i == bad {
					panic("a defect")
				}
				done.Add(1)
			})
		}()
	}
}
